"""Find the frames of rows that describe a part of a video (columns `start` and `end`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dali_pipes.lists.formats.annotation import WHOLE, Span
from dali_pipes.lists.listing import Listing
from dali_pipes.scan.processes import Call, Failure, call_all, seconds_for
from dali_pipes.video import times
from dali_pipes.video.packet_table import Video


@dataclass(frozen=True)
class Parts:
    """The frames of each of N rows; `reasons` has the rows without frames although their file is readable."""

    first_N: np.ndarray  # int32
    frames_N: np.ndarray  # int32: number of frames; may be 0
    reasons: dict[int, str]


def find_parts(listing: Listing, outcome: Callable[[int], Video | str], workers: int) -> Parts | None:
    """Find the frames of every row's part, in worker processes; None if all rows are whole videos.

    `outcome` returns the video of a distinct file, or the reason why it is unreadable.
    """
    if listing.span_N2 is None:
        return None
    first_N, frames_N = np.zeros((2, len(listing.paths)), np.int32)
    reasons: dict[int, str] = {}
    number_N = np.searchsorted(listing.distinct, listing.first_N)
    by_file = np.split(np.argsort(number_N, kind="stable"), np.cumsum(np.bincount(number_N))[:-1])
    calls = []
    for number, rows in enumerate(by_file):
        video = outcome(number)
        if isinstance(video, Video):
            spans = [listing.span(row) for row in rows.tolist()]
            frames_N[rows] = video.frames
            if any(span != WHOLE for span in spans):
                calls.append(Call(number, (video, spans), seconds_for(video.size)))
    for number, found in call_all(frames_of_spans, calls, min(workers, len(calls))):
        rows = by_file[number].tolist()
        of_rows = [found.reason] * len(rows) if isinstance(found, Failure) else found
        for row, part in zip(rows, of_rows, strict=True):
            first_N[row], frames_N[row] = (0, 0) if isinstance(part, str) else part
            reasons |= {row: part} if isinstance(part, str) else {}
    return Parts(first_N, frames_N, reasons)


def frames_of_spans(video: Video, spans: list[Span]) -> list[tuple[int, int] | str]:
    """Return (first frame, number of frames) of each span of a video, or the reason why it has none."""
    if video.access == "frames":
        return ["is a folder of pictures, which have no times: leave start and end empty"] * len(spans)
    time_F = times.frame_times(video)
    end = times.duration(time_F, video.fps)
    first_S, after_S = times.frames_between(time_F, *np.array(spans).T)
    found: list[tuple[int, int] | str] = []
    for span, first, after in zip(spans, first_S.tolist(), after_S.tolist(), strict=True):
        if first == len(time_F):
            found.append(f"ends at {end:.6g} s, before its part from {span} begins")
        elif first == after:
            found.append(f"shows no frame from {span}")
        else:
            found.append((first, after - first))
    return found
