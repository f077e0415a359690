"""Looks at every video of a list once, in parallel, and keeps what it finds as a `Catalog` beside the list.

Owns when a scan is needed and where its files are: in `train.list.scan/` the catalogue, `quarantine.jsonl`, a lock and,
while it runs, a journal. What is in a video is for `probe.py` to say, what a person reads of it all for `findings.py`.

A scan is done again for the files that are new or have another size or time, and for all when a more thorough check is
asked for or another version of the reader or of FFmpeg is there. It may be killed at any moment and goes on from there.
Of two at once, the second waits and takes the result.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import filelock
import numpy as np

from configs.schema import Data
from dali_pipes.errors import DataError
from dali_pipes.lists import file_status
from dali_pipes.lists import listing as lists
from dali_pipes.progress import watched
from dali_pipes.scan import summary
from dali_pipes.scan.catalog import Catalog, Entry, write_catalog
from dali_pipes.scan.journal import Journal
from dali_pipes.scan.probe import probe, reader
from dali_pipes.scan.processes import Call, Failure, call_all
from dali_pipes.video.frame_folders import probe_folder
from dali_pipes.video.packet_table import Check, Video

CATALOG = "catalog"
CHECKS = get_args(Check)  # the least thorough first
PATIENCE = 60.0  # seconds after which a file hangs, and one more for each MB of it
FILES_PER_WORKER = 16  # a process that reads fewer than this is not worth its start
logger = logging.getLogger(__name__)


def load_catalog(
    source: str,
    data: Data,
    *,
    workers: int | None = None,
    probe: Callable[[str, Check], Video] = probe,
) -> Catalog:
    """The catalogue of a list or folder as it is now; scans first what is new or changed.

    Raises DataError when the list is faulty, or more than data.max_bad_fraction of its files cannot be read. `workers`
    defaults to the cores this process may use; `probe` must be importable by its name.
    """
    start = time.monotonic()
    listing = lists.read_list(source, data)
    probe = probe_folder if listing.frame_pattern else probe
    for note in listing.notes:
        logger.info(f"{listing.source}: {note}")
    wanted = _Wanted(listing, file_status.look(listing), CHECKS.index(data.check))
    catalog, scanned = _existing(source, data), 0
    if not wanted.is_met_by(catalog):
        folder = _writable_folder(source, data)
        with _alone(folder):
            catalog = _existing(source, data)  # another process may have made it meanwhile
            if not wanted.is_met_by(catalog):
                scanned = _scan(folder, wanted, catalog, probe, workers)
                catalog = Catalog(folder / CATALOG)
    logger.info(f"{listing.source}: {summary.summary(catalog, scanned, time.monotonic() - start)}")
    summary.check_bad_fraction(catalog, data.max_bad_fraction, data.root)
    return catalog


def open_catalog(source: str, data: Data) -> Catalog:
    """The catalogue that `load_catalog` left, without a look at the list or its files: at once, whatever its size.

    Raises DataError when there is none.
    """
    for folder in _folders(source, data):
        if (folder / CATALOG).exists():
            return Catalog(folder / CATALOG)
    raise DataError(source, f"has not been scanned yet; run `python tools/prepare.py scan {source}` first")


def scan_videos(paths: Sequence[str], folder: Path, check: Check) -> Catalog:
    """The catalogue of videos that stand in no list, given by absolute paths, none twice; it is kept in `folder`.

    What cannot be read is in it with its reason, however much that is.
    """
    listing = lists.unlabelled(paths)
    wanted = _Wanted(listing, file_status.look(listing), CHECKS.index(check))
    _scan(folder, wanted, None, probe, None)
    return Catalog(folder / CATALOG)


@dataclass(frozen=True)
class _Wanted:
    """What a catalogue must hold: these rows, these files as they are now, looked at no less than so."""

    listing: lists.Listing
    files: file_status.Files
    check: int

    def is_met_by(self, catalog: Catalog | None) -> bool:
        if catalog is None or (catalog.digest, catalog.base) != (self.listing.digest, self.listing.base):
            return False
        rows = self.listing.distinct
        return (
            np.array_equal(catalog.size_N[rows], self.files.size_D)
            and np.array_equal(catalog.mtime_ns_N[rows], self.files.mtime_ns_D)
            and bool((catalog.check_N[rows] >= self.check).all())
            and catalog.reader == reader()
        )

    def path(self, number: int) -> str:
        """The absolute path of the number-th distinct file."""
        return self.listing.path(self.listing.distinct[number])

    def arguments(self, number: int) -> tuple:
        """What the probe is asked of it."""
        asked = self.path(number), CHECKS[self.check]
        return (*asked, self.listing.frame_pattern, self._num_frames(number)) if self.listing.frame_pattern else asked

    def question(self, number: int) -> str:
        """What an unfinished scan files the answer under: the answer for a folder depends on more than its path."""
        if not self.listing.frame_pattern:
            return self.path(number)
        return f"{self.path(number)}/{self.listing.frame_pattern} {self._num_frames(number)}"

    def is_answered_by(self, catalog: Catalog, row: int, number: int) -> bool:
        """Whether a catalogue's row of this path answers the same question."""
        if not self.listing.frame_pattern or not catalog.frames_N[row]:
            return not self.listing.frame_pattern
        pattern = catalog.video(row).description.decode()
        return pattern == self.listing.frame_pattern and self._num_frames(number) in (0, catalog.frames_N[row])

    def _num_frames(self, number: int) -> int:
        """How many frames the list says there are; 0 where it does not."""
        counts_N = self.listing.num_frames_N
        return 0 if counts_N is None else int(counts_N[self.listing.distinct[number]])


def _folders(source: str, data: Data) -> list[Path]:
    """Where the scan of a list may be. A new one goes to the first."""
    source = os.path.abspath(source)
    name = os.path.basename(source)
    unique = f"{name}-{hashlib.sha256(os.fsencode(source)).hexdigest()[:8]}.scan"
    if data.cache:
        return [Path(data.cache, unique)]
    beside = Path(f"{source}.scan")
    if os.access(beside if beside.exists() else beside.parent, os.W_OK):
        return [beside]
    own = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "dali_pipes", unique)
    return [own, beside]


def _writable_folder(source: str, data: Data) -> Path:
    """The folder that a scan is written to, made if need be."""
    folder, *unwritable = _folders(source, data)
    if unwritable:
        logger.info(f"{source}: its folder cannot be written to, so its catalogue goes to {folder}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(folder, f"{error.strerror}; set data.cache to a folder that can be written to") from error
    return folder


def _existing(source: str, data: Data) -> Catalog | None:
    """A whole catalogue of the list, current or not, to be used or to be built on."""
    with suppress(DataError):
        catalog = open_catalog(source, data)
        if catalog.is_intact():
            return catalog
    return None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a scan's folder. A dead process holds none."""
    lock = filelock.FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        logger.info(f"{folder}: another process is scanning; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _scan(folder: Path, wanted: _Wanted, known: Catalog | None, probe: Callable, workers: int | None) -> int:
    """Make the catalogue in `folder`, reusing what an older one or a killed scan knows; how many were scanned."""
    if known is None and (folder / CATALOG).exists():
        logger.warning(f"{folder / CATALOG}: damaged, or of another version; scanning again")
    if known is not None and known.reader != reader():
        logger.info(f"{known.file}: made with another version of the reader or of FFmpeg; scanning again")
        known = None
    try:
        journal = Journal(folder / "journal.sqlite", reader())
        with closing(journal):
            entry = _recall(wanted, known, journal)
            numbers = range(len(wanted.listing.distinct))
            todo = [number for number in numbers if entry(number) is None]
            _probe_all(wanted, todo, journal, probe, workers or len(os.sched_getaffinity(0)))
            _publish(folder, wanted.listing, map(entry, numbers))
        journal.remove()
    except (OSError, sqlite3.Error) as error:
        raise DataError(
            folder, f"the scan stopped: {error}; start it again to go on, or set data.cache to another folder"
        ) from error
    return len(todo)


def _recall(wanted: _Wanted, known: Catalog | None, journal: Journal) -> Callable[[int], Entry | None]:
    """What is known already of the number-th file, by the file system, the older catalogue or the journal."""
    row_of = {known.listed_path(row): row for row in range(len(known))} if known else {}

    def entry(number: int) -> Entry | None:
        if number in wanted.files.problems:
            return Entry(-1, -1, len(CHECKS), wanted.files.problems[number])
        size, mtime_ns = int(wanted.files.size_D[number]), int(wanted.files.mtime_ns_D[number])
        row = row_of.get(wanted.listing.paths[wanted.listing.distinct[number]])
        if row is not None and (known.size_N[row], known.mtime_ns_N[row]) == (size, mtime_ns):
            check = int(known.check_N[row])
            if check >= wanted.check and wanted.is_answered_by(known, row, number):
                return Entry(size, mtime_ns, check, known.video(row) if known.frames_N[row] else known.reason(row))
        return journal.find(wanted.question(number), size, mtime_ns, wanted.check)

    return entry


def _probe_all(wanted: _Wanted, todo: list[int], journal: Journal, probe: Callable, most_workers: int) -> None:
    """Probe the files of these numbers in parallel, and note in the journal what comes of it."""
    size_D, mtime_ns_D = wanted.files.size_D, wanted.files.mtime_ns_D
    calls = (Call(number, wanted.arguments(number), PATIENCE + size_D[number] / 1e6) for number in todo)
    results = call_all(probe, calls, min(most_workers, -(-len(todo) // FILES_PER_WORKER)))
    title = f"scanning {os.path.basename(wanted.listing.source)}"
    for number, found in watched(results, len(todo), title):
        outcome = found.reason_for(wanted.path(number)) if isinstance(found, Failure) else found
        journal.add(wanted.question(number), Entry(int(size_D[number]), int(mtime_ns_D[number]), wanted.check, outcome))


def _publish(folder: Path, listing: lists.Listing, entries: Iterable[Entry]) -> None:
    """Put catalogue and quarantine in place, the catalogue last: where it is, all is."""
    unfinished = folder / f"{CATALOG}.unfinished"
    write_catalog(unfinished, listing, entries, reader())
    summary.write_quarantine(folder, Catalog(unfinished))
    os.replace(unfinished, folder / CATALOG)
