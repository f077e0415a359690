"""Download a file once: with progress, resumed after an interruption, and verified.

An unfinished file lies next to its place as `NAME.part`. A server's date of the file is kept as the part's own date, so
that only the same file is continued.
"""

from __future__ import annotations

import email.utils
import hashlib
import logging
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO

from configs.locks import lock_open_file
from configs.progress import with_progress
from models.errors import CheckpointError

SILENCE = 30.0  # seconds without a byte after which a connection counts as lost
ATTEMPTS = 5  # connections in a row that bring nothing
PIECE = 2**20  # bytes: the unit of the progress
logger = logging.getLogger(__name__)
_digests: dict[tuple[int, ...], str] = {}  # of this process


class _Incomplete(OSError):
    """A connection that ended before the file did."""


def download(url: str, path: Path, sha256: str = "", instead: str = "") -> Path:
    """Return `path`; download it from `url` if it is not there yet.

    `sha256` is the start of the file's digest, if its publisher gives one. `instead` ends the advice of an error.
    Raises CheckpointError if it cannot be downloaded, with the place to put it by hand, or has another digest.
    """
    if path.exists():
        return path
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as file, _alone(file):
            _complete(url, file)
    except (OSError, HTTPException) as error:
        with suppress(OSError):
            if not part.stat().st_size:
                part.unlink()
        raise CheckpointError(
            f"{url}: cannot be downloaded ({error}); without a network, put {path.name} into {path.parent}{instead}"
        ) from error
    found = digest(part)
    if not found.startswith(sha256):
        part.unlink()
        raise CheckpointError(
            f"{url}: is not the file that was published: its sha256 begins with {found[:8]}, not {sha256}; "
            f"nothing was kept{instead}"
        )
    os.replace(part, path)
    return path


def digest(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal digits; a file is read once, until it changes."""
    found = path.stat()
    version = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    if version not in _digests:
        with path.open("rb") as file:
            _digests[version] = hashlib.file_digest(file, "sha256").hexdigest()
    return _digests[version]


@contextmanager
def _alone(file: BinaryIO) -> Iterator[None]:
    """Keep a second process from writing to the same part."""
    if lock_open_file(file) is False:
        raise OSError("another process is downloading it; start again when it has finished")
    yield


def _complete(url: str, file: BinaryIO) -> None:
    """Append the rest of the file. A lost connection is opened again, as long as each brings at least a byte."""
    failures = 0
    while True:
        before = os.fstat(file.fileno()).st_size
        try:
            return _receive(url, file)
        except urllib.error.HTTPError as error:
            if error.code != 416 or not before:  # 416: there is nothing behind the part, so it is of another file
                raise
            file.truncate(0)
        except (_Incomplete, TimeoutError, ConnectionError, HTTPException) as error:
            failures = 0 if os.fstat(file.fileno()).st_size > before else failures + 1
            if failures == ATTEMPTS:
                raise
            logger.warning(f"{url}: {error}; connecting again")
            time.sleep(min(failures, 3))


def _receive(url: str, file: BinaryIO) -> None:
    """Append the data of one connection; start again if the server has another file or cannot continue."""
    done = os.fstat(file.fileno()).st_size
    request = urllib.request.Request(url)
    if done:
        request.add_header("Range", f"bytes={done}-")
        request.add_header("If-Range", email.utils.formatdate(os.fstat(file.fileno()).st_mtime, usegmt=True))
    with urllib.request.urlopen(request, timeout=SILENCE) as response:
        if response.status != 206:
            file.truncate(0)
            done = 0
        total = done + int(response.headers.get("Content-Length") or 0)
        _refuse_without_space(file, total - done)
        logger.info(f"downloading {url}{f', {total / PIECE:.1f} MiB' if total else ''}")
        try:
            for piece in with_progress(_pieces(response), total // PIECE, f"{Path(url).name} (MiB)", done // PIECE):
                file.write(piece)
        finally:
            file.flush()
            _keep_date(file, response.headers.get("Last-Modified"))
    received = os.fstat(file.fileno()).st_size
    if received < total:
        raise _Incomplete(f"the connection ended after {received:,} of {total:,} bytes")


def _pieces(response: HTTPResponse) -> Iterator[bytes]:
    while piece := response.read(PIECE):
        yield piece


def _refuse_without_space(file: BinaryIO, needed: int) -> None:
    free = shutil.disk_usage(Path(file.name).parent).free
    if needed > free:
        raise OSError(f"{needed / PIECE:,.0f} MiB are needed and {free / PIECE:,.0f} free")


def _keep_date(file: BinaryIO, last_modified: str | None) -> None:
    """Give the part the date of the server's file; without one it is never continued."""
    moment = email.utils.parsedate_to_datetime(last_modified).timestamp() if last_modified else 0.0
    os.utime(file.name, (moment, moment))
