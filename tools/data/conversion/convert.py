"""Convert the videos of lists into a parallel tree, with lists rewritten to match.

The conversion function makes one result; `files.py` names the results and records the finished ones. Each
result is written under a temporary name, renamed, and then recorded, so the work may be killed at any moment and
continues when started again. Sources are only read.

    OUT/                 the tree: results have the same relative paths as their sources
    OUT/NAME.list        each list, without the videos that were left out
    OUT/NAME.classes.txt its class names, if it has any
    OUT/done.jsonl       a line for each result: its source, settings, and changes
    OUT/left_out.jsonl   a line for each row that is not in the new lists, with the reason
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from configs.progress import with_progress
from dali_pipes.errors import DataError
from dali_pipes.lists.formats.annotation import WHOLE, Span
from dali_pipes.lists.writing import ListedRow, as_json_lines, classes_text, list_text
from dali_pipes.scan.catalog import Catalog
from dali_pipes.scan.processes import Call, Failure, call_all, seconds_for
from dali_pipes.video.packet_table import Video
from engine import exits
from engine.files import temporary_folder
from engine.locks import InUse, take_lock
from engine.output_record import RECORD
from engine.outputs import Outputs, refuse_inside
from tools.data.conversion.files import LOCK, FinishedResults, key_of, list_name, refuse_conflicts, result_names

DONE, LEFT_OUT = "done.jsonl", "left_out.jsonl"
HALF = Fraction(1, 2)


@dataclass(frozen=True)
class Conversion:
    """A way to convert a video."""

    function: Callable[[Video, str, dict], dict]
    """(source, path to write, settings) → record of the changes. Importable by name; raises DataError."""
    settings: dict  # plain values; a change of one converts everything again
    suffix: str  # of the results; empty for folders
    frames: Callable[[dict], int] = lambda record: 0  # record → number of frames for the new list; 0: not written
    reading: tuple[str, ...] = ()  # settings for a recipe that reads the results
    rate: Callable[[Video], Fraction] | None = None  # source → frames per second of the result; None: it has no times
    by_part: bool = False  # make a result of each part of a video; settings of a call get its `first` and `count`


@dataclass(frozen=True)
class Outcome:
    """The results of a conversion."""

    records: list[dict]  # one for each result in the new lists
    left_out: list[dict]  # path, label and reason of every other row
    made: int  # number of new results
    lists: list[Path]  # the new ones


def convert_all(
    catalogs: list[Catalog],
    out: Path,
    conversion: Conversion,
    workers: int,
    force: bool = False,
    more_sources: Sequence[str] = (),
) -> Outcome:
    """Convert every readable video of these lists into the tree at `out`.

    Raises ConfigError if a file is in the way, DataError if no video can be converted, the disk is full, or the lists
    are about parts of videos and results have no times.
    """
    for catalog in catalogs:
        if catalog.span_N2 is None and conversion.by_part:
            raise DataError(
                catalog.source, "names no parts: rows with start and end; prepare.py transcode converts whole videos"
            )
        if catalog.span_N2 is not None and conversion.rate is None and not conversion.by_part:
            raise DataError(catalog.source, "is about parts of videos; make files of them first, by prepare.py cut")
    lists = {catalog.source: out / list_name(catalog.source) for catalog in catalogs}
    results = result_names(catalogs, conversion.suffix, conversion.by_part)
    row_of = {
        key_of(catalog, row, conversion.by_part): (catalog, row)
        for catalog in catalogs
        for row in catalog.usable.tolist()
    }
    reasons: dict[str, str] = {}
    sources = {catalog.path(row) for catalog in catalogs for row in range(len(catalog))}
    outputs = Outputs([*sources, *lists, *more_sources], force)
    refuse_inside(out, lists)
    with workplace(out) as unfinished:
        files = [file for new in lists.values() for file in (new, classes_file(new))]
        refuse_conflicts(results.values(), [*files, out / DONE, out / LEFT_OUT, out / LOCK, out / RECORD], out)
        outputs.check(*files, out / LEFT_OUT)
        finished = FinishedResults(out / DONE, out, conversion.settings, outputs)
        todo = [key for key, (catalog, row) in row_of.items() if not finished.has(catalog.video(row), results[key])]
        for key in todo:
            catalog, row = row_of[key]
            finished.check(catalog.path(row), results[key])
        calls = _calls({key: row_of[key] for key in todo}, unfinished, conversion)
        for key, made in _run(calls, len(todo), conversion, workers):
            catalog, row = row_of[key]
            if isinstance(made, Failure):
                reasons[key] = made.reason_for(catalog.path(row))
            else:
                finished.place(catalog.video(row), results[key], Path(made.pop("at")), made)
        records = {key: finished.record(results[key]) for key in row_of if key not in reasons}
    left_out = [entry for catalog in catalogs for entry in _left_out(catalog, reasons, conversion)]
    outputs.write({out / LEFT_OUT: as_json_lines(left_out)})
    if not records:
        raise DataError(out, f"none of the {len(results)} videos can be converted; see {out / LEFT_OUT}")
    new_rows = {key: (results[key], conversion.frames(record)) for key, record in records.items()}
    outputs.write(
        {file: text for c in catalogs for file, text in _list_texts(c, lists[c.source], new_rows, conversion)}
    )
    return Outcome(list(records.values()), left_out, sum(key in records for key in todo), list(lists.values()))


@contextmanager
def workplace(out: Path) -> Iterator[Path]:
    """Make a temporary folder for unfinished results, and lock `out` against other processes.

    Raises DataError if another process is at work in `out`.
    """
    out.mkdir(parents=True, exist_ok=True)
    try:
        lock = take_lock(out / LOCK)
    except InUse as holder:
        raise DataError(out, f"{holder} is at work there; wait for it, or write to another folder") from None
    with lock, temporary_folder(out) as unfinished:
        yield unfinished


def _calls(rows: dict[str, tuple[Catalog, int]], unfinished: Path, conversion: Conversion) -> Iterator[Call]:
    """Yield the calls of the conversion function, keyed by (key of the result, temporary path)."""
    for number, (key, (catalog, row)) in enumerate(rows.items()):
        video, settings = catalog.video(row), conversion.settings
        if conversion.by_part:
            settings = settings | {"first": int(catalog.first_frame_N[row]), "count": int(catalog.frames_N[row])}
        # A process outlives the killed run that started it by one video, so every run has names of its own.
        at = str(unfinished / f"{os.getpid()}-{number}{conversion.suffix}")
        yield Call((key, at), (video, at, settings), seconds_for(video.size))


def _run(
    calls: Iterator[Call], count: int, conversion: Conversion, workers: int
) -> Iterator[tuple[str, dict | Failure]]:
    """Yield (key, record with the temporary path `at`, or Failure) in the order in which they finish."""
    results = call_all(conversion.function, calls, min(workers, count))
    for (key, at), made in with_progress(results, count, "converting"):
        reason = made.reason if isinstance(made, Failure) else ""
        if full := next((text for text in map(os.strerror, exits.DISK_FULL) if text in reason), None):
            out = Path(at).parents[1]  # `at` is in a folder that is gone when this is read
            raise DataError(out, f"the disk is full ({full}); make room and start again to go on")
        yield key, made if isinstance(made, Failure) else {**made, "at": at}


def _list_texts(
    catalog: Catalog, new: Path, new_rows: dict[str, tuple[str, int]], conversion: Conversion
) -> Iterator[tuple[Path, str]]:
    """Yield the file and text of a list with (path, frames) of results, in the same order, and of its class names."""
    rows = [(row, new_rows.get(key_of(catalog, row, conversion.by_part))) for row in catalog.usable.tolist()]
    listed = [
        ListedRow(*found, int(catalog.label_N[row]), _new_span(catalog, row, conversion))
        for row, found in rows
        if found
    ]
    yield new, list_text(new, listed)
    if catalog.class_names:
        yield classes_file(new), classes_text(catalog.class_names)


def _new_span(catalog: Catalog, row: int, conversion: Conversion) -> Span:
    """Return the part of a result that has the frames of the row's part; its edges lie between frames."""
    if conversion.by_part or catalog.span_N2 is None or catalog.span(row) == WHOLE:
        return WHOLE
    rate = conversion.rate(catalog.video(row))
    first, frames = int(catalog.first_frame_N[row]), int(catalog.frames_N[row])
    return Span(float(max(first - HALF, Fraction(0)) / rate), float((first + frames - HALF) / rate))


def classes_file(new: Path) -> Path:
    """Return the file of the class names of a list."""
    return new.with_suffix(".classes.txt")


def _left_out(catalog: Catalog, reasons: dict[str, str], conversion: Conversion) -> Iterator[dict]:
    lost = {bad.row: bad.reason for bad in catalog.unreadable}  # also parts that a readable file lacks
    for row in range(len(catalog)):
        if reason := lost.get(row) or reasons.get(key_of(catalog, row, conversion.by_part)):
            yield {"path": catalog.path(row), "label": int(catalog.label_N[row]), "reason": reason}
