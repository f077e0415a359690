"""Access objects of stores (s3, gs, az, http, https) with obstore, which is an optional dependency.

Errors are classified here. A missing or changed object is a DataError about its video. Denied access and a wrong bucket
are a StorageFault. Temporary errors, such as timeouts and server errors, are OSErrors, which `faults.with_retries`
retries. Messages never contain the library's text, which may include a signed query.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from datetime import timedelta
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from dali_pipes.errors import DataError
from dali_pipes.storage.faults import StorageFault

if TYPE_CHECKING:
    from obstore.store import ObjectStore

CHANGED = "changed since the scan; scan the list again"
GONE = "is gone; it was there when scanned"
_MARK = "://"
_RETRIES = {  # retries of the library, before those of `with_retries`
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=10),
    "backoff": {"init_backoff": timedelta(milliseconds=50), "max_backoff": timedelta(seconds=1), "base": 2},
}
_TIMEOUT = timedelta(seconds=30)  # seconds per request
DENIED = "access is denied (403); check the credentials in the environment, and the name of the bucket"
_BEYOND = "416 Range Not Satisfiable"
_BUCKETS = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")  # in responses with status 404

_used_by = 0  # the process that opened a store; forked processes lack its threads


def is_url(path: str) -> bool:
    """Return True if a path is the URL of an object: absolute paths of files never contain `://`."""
    return _MARK in path


def absolute(path: str) -> str:
    """Return the absolute path of a file; URLs are unchanged."""
    return path if is_url(path) else os.path.abspath(path)


def open_store(url: str, timeout: timedelta = _TIMEOUT) -> tuple[ObjectStore, str]:
    """Return the store of an object's URL, and the object's key. Raises DataError if the store cannot be opened."""
    scheme, _, rest = url.partition(_MARK)
    host, _, key = rest.partition("/")
    return _store(f"{scheme}{_MARK}{host}", timeout), key


def _store(root: str, timeout: timedelta) -> ObjectStore:
    global _used_by
    if _used_by not in (0, os.getpid()):
        raise StorageFault(errno.EPERM, "a store that was opened before a fork cannot be used after it", root)
    _used_by = os.getpid()
    return _opened(root, timeout)


def library(root: str) -> ModuleType:
    """Return obstore. Raises DataError if it is not installed."""
    try:
        import obstore.store
    except ImportError as error:
        raise DataError(root, "needs a package that is not installed: pip install 'tsm-dali[store]'") from error
    return obstore


@lru_cache(maxsize=64)
def _opened(root: str, timeout: timedelta) -> ObjectStore:
    from_url = library(root).store.from_url
    plain = not root.startswith("https:")  # plain http for other stores only if the environment's endpoint uses it
    client = {"connect_timeout": timedelta(seconds=5), "timeout": timeout, "allow_http": plain}
    try:
        return from_url(root, client_options=client, retry_config=_RETRIES)
    except Exception as error:
        raise DataError(root, f"is no store that can be opened ({type(error).__name__})") from error


def stamp_of_object(meta: dict[str, Any]) -> int:
    """Return the stamp of an object, derived from its ETag, or from the time of its last change."""
    seen = f"{meta['size']} {meta['e_tag'] or meta['last_modified']}"
    return int.from_bytes(hashlib.sha256(seen.encode()).digest()[:8]) >> 1


def answer_to(url: str, error: BaseException) -> Exception:
    """Return our exception for an error of the library."""
    if isinstance(error, (StorageFault, DataError)):
        return error
    kind, text = type(error).__name__, str(error)
    if any(mark in text for mark in _BUCKETS):
        return StorageFault(errno.ENOENT, "there is no such bucket", url)
    if kind in ("NotFoundError", "FileNotFoundError"):
        return DataError(url, GONE)
    if kind == "PreconditionError" or _BEYOND in text:
        return DataError(url, CHANGED)
    if kind in ("PermissionDeniedError", "UnauthenticatedError"):
        return StorageFault(errno.EACCES, DENIED, url)
    if kind in ("InvalidPathError", "ValueError"):
        return DataError(url, "no object can have such a name")
    if kind == "NotSupportedError":
        return DataError(url, "the server sends no ranges of bytes; use one that does, or copy the videos")
    return OSError(errno.ETIMEDOUT if "timed out" in text else errno.EIO, f"the store does not answer ({kind})", url)


def list_objects(folder: str) -> Iterator[tuple[str, int, int]]:
    """Yield (URL, size, stamp) of all objects below a folder, 1,000 per request. Raises NotImplementedError if the
    store cannot list objects (plain HTTP).
    """
    if folder.startswith("http"):
        raise NotImplementedError
    obstore = library(folder)
    store, prefix = open_store(folder)
    root = folder[: len(folder) - len(prefix)]
    try:
        for chunk in obstore.list(store, prefix=f"{prefix.rstrip('/')}/" if prefix else None):
            for meta in chunk:
                yield f"{root}{meta['path']}", meta["size"], stamp_of_object(meta)
    except Exception as error:
        raise answer_to(folder, error) from None


def look_at_object(url: str) -> tuple[int, int]:
    """Return size and stamp of an object, by a HEAD request. Raises DataError if there is none."""
    obstore = library(url)
    store, key = open_store(url)
    try:
        meta = obstore.head(store, key)
    except Exception as error:
        raise answer_to(url, error) from None
    return meta["size"], stamp_of_object(meta)


def read_range(url: str, offset: int, size: int) -> tuple[bytes, dict[str, Any]]:
    """Return up to `size` bytes of an object, and the object's metadata from the response."""
    obstore = library(url)
    store, key = open_store(url)
    try:
        answer = obstore.get(store, key, options={"range": (offset, offset + size)})
        return answer.bytes().to_bytes(), answer.meta
    except Exception as error:
        raise answer_to(url, error) from None
