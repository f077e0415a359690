"""Scan every video of a list once, in parallel, and store the results as a `Catalog` next to the list.

This module decides if a scan is needed. `place.py` gives the place of its files, `probe.py` scans one file, and
`summary.py` writes the messages.

A file is scanned if it is new, its size or time has changed, or the system refused it to the last scan. Unreadable
files are scanned again if the code of the scan has changed, and all files if a more thorough check is requested, or the
version of the reader or of FFmpeg has changed. Results of scans of the videos' folder, and of other lists in it, are
reused. A scan that was killed continues where it stopped. If two processes scan the same list, the second waits and
uses the result of the first.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path

from configs.progress import with_progress
from configs.schema import Data
from configs.sections.data import Check
from dali_pipes.device import usable_cores
from dali_pipes.errors import DataError
from dali_pipes.lists.formats.annotation import Span
from dali_pipes.lists.listing import Listing, read_list, unlabelled
from dali_pipes.lists.rows import Rows, with_lost_rows
from dali_pipes.scan import summary
from dali_pipes.scan.catalog import Catalog, Entry, write_catalog
from dali_pipes.scan.journal import Journal
from dali_pipes.scan.parts import Parts, find_parts
from dali_pipes.scan.place import CATALOG, ScanPlace
from dali_pipes.scan.probe import code, reader
from dali_pipes.scan.processes import Call, Failure, call_all, seconds_for
from dali_pipes.scan.request import CHECKS, ScanRequest, probe_path

logger = logging.getLogger(__name__)
NO_TIME = -1  # unlike the time of any file
FILES_PER_WORKER = 16  # for fewer files per process, starting it takes longer than it saves


def load_catalog(
    source: str,
    data: Data,
    *,
    workers: int | None = None,
    class_names: Sequence[str] = (),
    before: Rows | None = None,
) -> Catalog:
    """Return the up-to-date catalogue of a list or folder, after scanning new and changed files.

    `workers` defaults to the usable cores. `class_names` are those of a network, by which the list's classes are
    numbered. `before` has the rows of a resumed run (`rows.with_lost_rows`). Raises DataError if the list is invalid or
    contradicts its videos, or if more than data.max_bad_fraction of its files are unreadable.
    """
    start = time.monotonic()
    listing = read_list(source, data, class_names)
    listing = with_lost_rows(listing, before) if before else listing
    request = ScanRequest(listing, data.check)
    catalog, scanned = _up_to_date(ScanPlace.of(source, data), request, workers)
    summary.report(catalog, listing, data, scanned, time.monotonic() - start)
    return catalog


def open_catalog(source: str, data: Data) -> Catalog:
    """Open the catalogue that `load_catalog` wrote, without reading the list or its files. Raises DataError if there is
    none.
    """
    return ScanPlace.of(source, data).catalog()


def scan_divided(source: str, data: Data, sides: Sequence[str], data_of_sides: Data) -> None:
    """Scan a list, and write catalogues for the two lists that it was split into.

    The catalogue of the list is stored where the next run looks for it; those of the sides belong to the run. Raises
    DataError as `load_catalog` does.
    """
    found = load_catalog(source, data)
    for side in sides:
        request = ScanRequest(read_list(side, data_of_sides), data_of_sides.check)
        _up_to_date(ScanPlace.of(side, data_of_sides), request, None, [found])


def scan_videos(
    paths: Sequence[str], folder: Path, check: Check, frame_pattern: str = "", spans: Sequence[Span] = ()
) -> Catalog:
    """Scan videos given by absolute paths, or a part of each (`spans`), without a list, and write their catalogue to
    `folder`.

    It contains unreadable files and parts with the reason; their number is not limited. With a `frame_pattern`, folders
    of frames are videos, too.
    """
    listing = unlabelled(paths, frame_pattern, spans)
    request = ScanRequest(listing, check)
    return _scan(folder, request, [], None)[0]


def _up_to_date(
    place: ScanPlace, request: ScanRequest, workers: int | None, others: Sequence[Catalog] = ()
) -> tuple[Catalog, int]:
    """Return a catalogue that meets the request, and the number of files that were scanned for it.

    The results of `others` are used if their paths start from the same folder.
    """
    if (catalog := _usable(place, request)) is not None:
        return catalog, 0
    with place.locked() as folder:
        if (catalog := _usable(place, request)) is not None:  # another process has written it meanwhile
            return catalog, 0
        base = request.listing.base
        found = [catalog for catalog in others if catalog.base == base]
        return _scan(folder, request, [*found, *place.known(base)], workers)


def _usable(place: ScanPlace, request: ScanRequest) -> Catalog | None:
    """Return the catalogue if it meets the request without a scan, otherwise None."""
    catalog = place.intact_catalog()
    return catalog if request.is_met_by(catalog) else None


def _scan(folder: Path, request: ScanRequest, known: Sequence[Catalog], workers: int | None) -> tuple[Catalog, int]:
    """Write the catalogue to `folder`; return it and the number of scanned files.

    Results of the catalogues `known` and of a killed scan are reused.
    """
    try:
        journal = Journal(folder / "journal.sqlite", reader())
        with closing(journal):
            entry = _known_results(request, known, journal)
            numbers = range(len(request.listing.distinct))
            todo = [number for number in numbers if entry(number) is None]
            refused = _probe_all(request, todo, journal, workers or usable_cores())

            def result(number: int) -> Entry:
                return refused.get(number) or entry(number)

            parts = find_parts(request.listing, lambda number: result(number).outcome, workers or usable_cores())
            publish(folder, request.listing, map(result, numbers), parts)
        journal.remove()
    except (OSError, sqlite3.Error) as error:
        raise DataError(
            folder, f"the scan stopped: {error}; start it again to continue, or set data.cache to another folder"
        ) from error
    return Catalog(folder / CATALOG), len(todo)


def _known_results(request: ScanRequest, known: Sequence[Catalog], journal: Journal) -> Callable[[int], Entry | None]:
    """Return a function that returns the known result of a distinct file, from its status, known catalogues or the
    journal.
    """
    rows = [(catalog, {catalog.listed_path(row): row for row in range(len(catalog))}) for catalog in known]

    def entry(number: int) -> Entry | None:
        if number in request.files.problems:
            return Entry(-1, -1, len(CHECKS), request.files.problems[number])
        size, mtime_ns = int(request.files.size_D[number]), int(request.files.mtime_ns_D[number])
        path = request.listing.paths[request.listing.distinct[number]]
        for catalog, row_of in rows:
            row = row_of.get(path)
            if row is not None and request.is_answered_by(catalog, row, number):
                outcome = catalog.video(row) if catalog.file_frames_N[row] else catalog.reason(row)
                return Entry(size, mtime_ns, int(catalog.check_N[row]), outcome)
        return journal.find(request.journal_key(number), size, mtime_ns, request.check)

    return entry


def _probe_all(request: ScanRequest, todo: list[int], journal: Journal, most_workers: int) -> dict[int, Entry]:
    """Probe the distinct files of these numbers in parallel, and add the results to the journal.

    Return those of files that the system refused: they are no properties of the files, so the next scan tries again.
    """
    size_D, mtime_ns_D = request.files.size_D, request.files.mtime_ns_D
    calls = (Call(number, request.arguments(number), seconds_for(size_D[number])) for number in todo)
    results = call_all(probe_path, calls, min(most_workers, -(-len(todo) // FILES_PER_WORKER)))
    title = f"scanning {os.path.basename(request.listing.source)}"
    unsettled: Counter[str] = Counter()
    refused: dict[int, Entry] = {}
    for number, found in with_progress(results, len(todo), title):
        if isinstance(found, Failure):
            check, outcome = request.check, found.reason_for(request.path(number))
            if found.may_pass:
                refused[number] = Entry(int(size_D[number]), NO_TIME, check, outcome)
                continue
        else:
            check, outcome = CHECKS.index(found.check), found.video
            unsettled.update([found.reason] if found.reason else [])
        entry = Entry(int(size_D[number]), int(mtime_ns_D[number]), check, outcome)
        journal.add(request.journal_key(number), entry)
    for reason, count in unsettled.most_common():
        logger.info(f"{request.listing.source}: {count} read completely, not only the index: {reason}")
    return refused


def publish(folder: Path, listing: Listing, entries: Iterable[Entry], parts: Parts | None) -> None:
    """Write quarantine and catalogue. The catalogue is written last: if it exists, the scan is complete."""
    unfinished = folder / f"{CATALOG}.unfinished"
    write_catalog(unfinished, listing, entries, reader(), parts, code())
    summary.write_quarantine(folder, Catalog(unfinished))
    os.replace(unfinished, folder / CATALOG)
