"""Report on a scanned dataset: a log line, quarantine.jsonl, and an error if too many files are unreadable."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np

from configs.schema import Data
from dali_pipes.errors import DataError, Unreadable
from dali_pipes.lists.file_status import NO_SUCH_FILE
from dali_pipes.lists.listing import Listing
from dali_pipes.scan.catalog import Catalog
from dali_pipes.video.packet_table import KEYFRAME, Video

logger = logging.getLogger(__name__)
QUARANTINE = "quarantine.jsonl"
SHOWN_FILES = 5
_END_TOLERANCE = 0.5  # seconds by which a part may exceed its video without a message
_SAMPLE = 1000  # most videos whose packets are read for the summary


def report(catalog: Catalog, listing: Listing, data: Data, scanned: int, seconds: float) -> None:
    """Log a summary line of a list; `scanned` files were scanned in `seconds`.

    Raises DataError if the list contradicts its videos, or if more than data.max_bad_fraction of them are unreadable.
    """
    logger.info(f"{listing.source}: {'; '.join([_line(catalog, scanned, seconds), *listing.notes])}")
    _check_bad_fraction(catalog, data)
    if listing.format == "path_frames_label" and data.format == "auto":
        _check_frame_counts(catalog, listing.num_frames_N)


def bad_files(catalog: Catalog) -> list[Unreadable]:
    """Return each unreadable file once, with its first row, and unusable parts of readable files."""
    is_first_N = catalog.first_N == np.arange(len(catalog))
    return [bad for bad in catalog.unreadable if is_first_N[bad.row] or catalog.file_frames_N[bad.row]]


def write_quarantine(folder: Path, catalog: Catalog) -> None:
    """Write a JSON line for each unreadable file; remove the file if there is none."""
    lines = [
        json.dumps({"path": bad.path, "label": int(catalog.label_N[bad.row]), "reason": bad.reason}, ensure_ascii=False)
        for bad in bad_files(catalog)
    ]
    unfinished = folder / f"{QUARANTINE}.unfinished"
    # File names need not be text; undecodable bytes become \udcNN, which JSON allows.
    unfinished.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", errors="backslashreplace")
    os.replace(unfinished, folder / QUARANTINE)
    if not lines:
        (folder / QUARANTINE).unlink()


def _line(catalog: Catalog, scanned: int, seconds: float) -> str:
    """Describe the dataset in one line."""
    total, bad = _distinct(catalog), bad_files(catalog)
    bad_parts = sum(bool(catalog.file_frames_N[file.row]) for file in bad)
    videos = f"{total} video{'s' * (total != 1)}"
    done = f"scanned {scanned} of {videos}" if scanned < total else f"scanned {videos}"
    line = f"{done} in {seconds:.1f} s" if scanned else f"{videos}, none new or changed"
    line += f": {total - len(bad) + bad_parts} readable"
    if bad:
        line += f", {len(bad)} quarantined (see {catalog.file.with_name(QUARANTINE)})"
    if catalog.span_N2 is not None:
        line += f"; {_parts(catalog)}"
    elif len(catalog) > total:
        line += f", {len(catalog) - total} rows repeat others"
    if catalog.span_N2 is None and (doubles := _double_labels(catalog)):
        line += f", {len(doubles)} have a second name with another label, such as {doubles[0]}"
    if several := np.count_nonzero(catalog.tracks_N[catalog.first_N == np.arange(len(catalog))] > 1):
        line += f", {several} with several video tracks (FFmpeg's best one is read)"
    return f"{line}; {_shape(catalog)}" if len(catalog.usable) else line


def _parts(catalog: Catalog) -> str:
    """Describe the parts of videos in a list."""
    rows = catalog.usable
    line = f"{len(rows)} of {len(catalog)} parts of videos usable"
    if len(rows):
        frames_U, file_frames_U, fps_U = catalog.frames_N[rows], catalog.file_frames_N[rows], catalog.fps_N[rows]
        line += f", the shortest of {frames_U.min()} frames"
        end_U = catalog.span_N2[rows, 1]
        late = np.isfinite(end_U) & (end_U > file_frames_U / np.maximum(fps_U, 1e-6) + _END_TOLERANCE)
        line += f", {late.sum()} end with their video, before the listed end" if late.any() else ""
        clashes = _overlaps(catalog)
        line += f", {clashes} overlap a part of another class" if clashes else ""
    return line


def _overlaps(catalog: Catalog) -> int:
    """Count parts that begin inside an earlier part of the same video with another label."""
    rows = catalog.usable
    order = np.lexsort([catalog.first_frame_N[rows], catalog.first_N[rows]])
    columns = catalog.first_N, catalog.label_N, catalog.first_frame_N, catalog.frames_N
    clashes, file, running = 0, -1, []  # (label, end) of parts of the file that have not ended yet
    for first_row, label, start, frames in zip(*(column[rows[order]].tolist() for column in columns), strict=True):
        running = [part for part in running if part[1] > start] if first_row == file else []
        clashes += any(other != label for other, _ in running)
        file, running = first_row, [*running, (label, start + frames)]
    return clashes


def _double_labels(catalog: Catalog) -> list[str]:
    """Return the paths of files that an earlier row names by another path (a link) with another label."""
    alike: dict[tuple[int, int], list[int]] = {}  # only files of equal size and time can be the same file
    for row in catalog.usable.tolist():
        alike.setdefault((int(catalog.size_N[row]), int(catalog.mtime_ns_N[row])), []).append(row)
    label_of: dict[tuple[int, int], int] = {}
    doubles = []
    for row in (row for rows in alike.values() if len(rows) > 1 for row in rows):
        with suppress(OSError):  # in a shard or a store, or deleted since the scan
            status, label = os.stat(catalog.path(row)), int(catalog.label_N[row])
            if label_of.setdefault((status.st_dev, status.st_ino), label) != label:
                doubles.append(catalog.path(row))
    return doubles


def _shape(catalog: Catalog) -> str:
    """Describe the most frequent codec and size, the median length, and the median keyframe interval."""
    rows = catalog.usable
    sample = rows[:: -(-len(rows) // _SAMPLE)].tolist()
    videos = [catalog.video(row) for row in sample]
    (codec, count), *_ = Counter(video.codec for video in videos).most_common(1)
    (size, _), *_ = Counter(f"{video.width}x{video.height}" for video in videos).most_common(1)
    intervals = [keyframe_interval(video) for video in videos]
    return (
        f"{codec} {100 * count / len(videos):.0f} %, {size}; "
        f"median {np.median(catalog.frames_N[rows]):.0f} frames, keyframe every {np.median(intervals):.0f}"
    )


def keyframe_interval(video: Video) -> float:
    """Return the mean number of pictures from one keyframe to the next."""
    return max(1, len(video.packets)) / max(1, np.count_nonzero(video.packets["flags"] & KEYFRAME))


def _check_bad_fraction(catalog: Catalog, data: Data) -> None:
    """Raise DataError if more than a fraction of the files, or all of them, are unreadable."""
    bad = bad_files(catalog)
    total = _distinct(catalog) if catalog.span_N2 is None else len(catalog)
    if len(bad) == total and all(file.reason == NO_SUCH_FILE for file in bad):
        cause = _why_none_exists(bad[0].path, data)
        raise DataError(catalog.source, f"none of its {total} files exists; {cause}; tried {bad[0].path}")
    if len(bad) < total and data.allows_bad(len(bad), total):
        return
    shown = [f"  {file.path}: {file.reason}" for file in bad[:SHOWN_FILES]]
    enough = -(-100 * len(bad) // max(total, data.divided)) / 100
    allowed = (
        f"more than data.max_bad_fraction={data.max_bad_fraction:g} allows; repair or remove them, or set {enough:g}"
    )
    limit = allowed if len(bad) < total else "so nothing is left"
    raise DataError(
        catalog.source,
        f"{len(bad)} of {total} videos cannot be read, {limit}; "
        f"all are in {catalog.file.with_name(QUARANTINE)}, the first are\n" + "\n".join(shown),
    )


def _why_none_exists(path: str, data: Data) -> str:
    """Return the probable reason if none of the paths of a list, such as `path`, exists."""
    if data.suffix and os.path.exists(path.removesuffix(data.suffix)):
        return f"their paths need no data.suffix={data.suffix}, so set data.suffix="
    if data.root:
        return f"data.root={data.root} is probably wrong"
    return "set data.root (--root of prepare.py) to the folder that their paths start in"


def _check_frame_counts(catalog: Catalog, num_frames_N: np.ndarray) -> None:
    """Raise DataError if most frame counts in a `path frames label` list differ much from those of the videos.

    A factor of two is accepted, since other programs count and extract frames differently.
    """
    rows = catalog.usable
    ratio_N = num_frames_N[rows] / np.maximum(catalog.frames_N[rows], 1)
    wrong_N = (ratio_N < 0.5) | (ratio_N > 2)
    if 2 * wrong_N.sum() > len(rows):
        row = int(rows[wrong_N.argmax()])
        raise DataError(
            catalog.source,
            f"has two numbers a line, but the first is not the number of frames: {num_frames_N[row]} for "
            f"{catalog.path(row)}, which has {catalog.frames_N[row]}; if both are labels, keep one, as a video has one "
            "label here; if it counts frames in another way, set data.format=path_frames_label",
        )


def _distinct(catalog: Catalog) -> int:
    """Count the distinct files."""
    return int(np.count_nonzero(catalog.first_N == np.arange(len(catalog))))
