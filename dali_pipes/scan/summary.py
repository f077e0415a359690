"""Report on a scanned set: a summary line, quarantine.jsonl, and an error if too many files cannot be read."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np

from dali_pipes.errors import DataError, Unreadable
from dali_pipes.lists.file_status import NO_SUCH_FILE
from dali_pipes.scan.catalog import Catalog
from dali_pipes.video.packet_table import KEYFRAME, Video

QUARANTINE = "quarantine.jsonl"
SHOWN_FILES = 5
_SAMPLE = 1000  # videos whose packets are looked at for the summary


def bad_files(catalog: Catalog) -> list[Unreadable]:
    """List each file that cannot be read once, at the first row that names it."""
    return [bad for bad in catalog.unreadable if catalog.first_N[bad.row] == bad.row]


def write_quarantine(folder: Path, catalog: Catalog) -> None:
    """Write a JSON line for each file that cannot be read; remove the file if there is none."""
    lines = [
        json.dumps({"path": bad.path, "label": int(catalog.label_N[bad.row]), "reason": bad.reason}, ensure_ascii=False)
        for bad in bad_files(catalog)
    ]
    unfinished = folder / f"{QUARANTINE}.unfinished"
    # File names need not be text; bytes that are not become the \udcNN that JSON allows.
    unfinished.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", errors="backslashreplace")
    os.replace(unfinished, folder / QUARANTINE)
    if not lines:
        (folder / QUARANTINE).unlink()


def summary(catalog: Catalog, scanned: int, seconds: float) -> str:
    """Describe the set in one line. `scanned` files were read for it, in `seconds`."""
    total, bad = _distinct(catalog), len(bad_files(catalog))
    videos = f"{total} video{'s' * (total != 1)}"
    done = f"scanned {scanned} of {videos}" if scanned < total else f"scanned {videos}"
    line = f"{done} in {seconds:.1f} s" if scanned else f"{videos}, none new or changed"
    line += f": {total - bad} readable"
    if bad:
        line += f", {bad} quarantined (see {catalog.file.with_name(QUARANTINE)})"
    if len(catalog) > total:
        line += f", {len(catalog) - total} rows repeat others"
    return f"{line}; {_shape(catalog)}" if len(catalog.usable) else line


def _shape(catalog: Catalog) -> str:
    """Describe the most frequent codec and size, and the median length and keyframe interval."""
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


def check_bad_fraction(catalog: Catalog, max_bad_fraction: float, root: str) -> None:
    """Raise DataError if more than a fraction of the files cannot be read, or none can."""
    total, bad = _distinct(catalog), bad_files(catalog)
    if len(bad) == total and all(file.reason == NO_SUCH_FILE for file in bad):
        cause = (
            f"data.root={root} is probably wrong" if root else "set data.root to the folder that their paths start in"
        )
        raise DataError(catalog.source, f"none of its {total} files exists; {cause}; tried {bad[0].path}")
    if len(bad) < total and len(bad) <= max_bad_fraction * total:
        return
    shown = [f"  {file.path}: {file.reason}" for file in bad[:SHOWN_FILES]]
    limit = f"more than data.max_bad_fraction={max_bad_fraction:g} allows" if len(bad) < total else "so nothing is left"
    raise DataError(
        catalog.source,
        f"{len(bad)} of {total} videos cannot be read, {limit}; "
        f"all are in {catalog.file.with_name(QUARANTINE)}, the first are\n" + "\n".join(shown),
    )


def check_frame_counts(catalog: Catalog, num_frames_N: np.ndarray) -> None:
    """Raise DataError if most numbers of frames in a `path frames label` list are far from those of the videos.

    Numbers within a factor of two are accepted: other programs count and extract frames in other ways.
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
