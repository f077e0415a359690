"""The folder of a list's scan: `train.list.scan/` next to the list, or a folder of that name elsewhere.

It contains the catalogue, `quarantine.jsonl`, a lock and, during a scan, a journal.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import filelock

from configs import progress
from configs.locks import UNSUPPORTED
from configs.schema import Data
from dali_pipes.errors import DataError
from dali_pipes.scan.catalog import Catalog
from dali_pipes.scan.probe import reader
from dali_pipes.storage.objects import absolute, is_url
from dali_pipes.storage.opening import read_all

CATALOG = "catalog"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScanPlace:
    """The folders that may contain the scan of a list. A new scan is written to the first."""

    source: str
    folders: list[Path]

    @classmethod
    def of(cls, source: str, data: Data) -> ScanPlace:
        """Return the place for a list or folder."""
        path = absolute(source)
        unique = f"{os.path.basename(path)}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}.scan"
        if data.cache:
            return cls(source, [Path(data.cache, unique)])
        of_user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "dali_pipes", unique)
        if is_url(path):
            return cls(source, [of_user])
        next_to_list = Path(f"{path}.scan")
        if os.access(next_to_list if next_to_list.exists() else next_to_list.parent, os.W_OK):
            return cls(source, [next_to_list])
        return cls(source, [of_user, next_to_list])

    def catalog(self) -> Catalog:
        """Open the catalogue, which may be out of date. Raises DataError if there is none."""
        for folder in self.folders:
            if (folder / CATALOG).exists():
                return Catalog(folder / CATALOG)
        raise DataError(
            self.source, f"has not been scanned yet; run `python tools/prepare.py scan {self.source}` first"
        )

    def intact_catalog(self) -> Catalog | None:
        """Return the catalogue, which may be out of date, or None if it is missing or damaged."""
        with suppress(DataError):
            catalog = self.catalog()
            if catalog.is_intact():
                return catalog
        return None

    def known(self, base: str) -> Iterator[Catalog]:
        """Yield catalogues of videos below `base` that the current reader version wrote: of the list itself (may be out
        of date), of the folder `base`, and of other lists in it.
        """
        catalog, written = self.intact_catalog(), self.folders[0] / CATALOG
        if catalog is None and written.exists():
            logger.warning(f"{written}: damaged, or of another version; scanning again")
        elif catalog is not None and catalog.reader != reader():
            logger.info(f"{catalog.file}: made with another version of the reader or of FFmpeg; scanning again")
        elif catalog is not None:
            yield catalog
        if is_url(base):
            return
        for file in sorted([Path(f"{base}.scan", CATALOG), *Path(base).glob(f"*.scan/{CATALOG}")]):
            with suppress(DataError):
                catalog = Catalog(file)
                of_others = file.parent not in self.folders and (catalog.base, catalog.reader) == (base, reader())
                if of_others and catalog.is_intact():
                    yield catalog

    @contextmanager
    def locked(self) -> Iterator[Path]:
        """Hold the lock of the scan's folder. The lock of a process that died is free.

        Without a catalogue, the one next to a list in a store is fetched: packed datasets have one.
        """
        folder = self._made()
        lock = filelock.FileLock(folder / "lock")
        try:
            _take(lock, folder)
            if is_url(self.source) and self.intact_catalog() is None:
                self._fetch_catalog(folder)
            yield folder
        finally:
            lock.release()

    def _made(self) -> Path:
        """Return the folder to which a scan is written; create it if necessary."""
        folder, *unwritable = self.folders
        if unwritable:
            logger.info(f"{self.source}: its folder cannot be written to, so its catalogue goes to {folder}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(folder, f"{error.strerror}; set data.cache to a folder that can be written to") from error
        return folder

    def _fetch_catalog(self, folder: Path) -> None:
        with suppress(DataError):
            content = read_all(f"{self.source}.scan/{CATALOG}")
            unfinished = folder / f"{CATALOG}.fetched"
            unfinished.write_bytes(content)
            unfinished.replace(folder / CATALOG)


def _take(lock: filelock.BaseFileLock, folder: Path) -> None:
    """Take the lock of a scan's folder, and wait while another process has it. Without locks there, warn."""
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        logger.info(f"{folder}: another process is scanning; waiting for it")
        while not lock.is_locked:
            progress.report()
            with suppress(filelock.Timeout):
                lock.acquire(timeout=5.0)
    except (OSError, NotImplementedError) as error:  # NotImplementedError: before filelock 3.21, for ENOSYS
        if isinstance(error, OSError) and error.errno not in UNSUPPORTED:
            raise
        logger.warning(f"{folder}: this file system has no locks; do not scan the same list from two processes at once")
