"""Windows of long videos, and plans that visit windows, or every n-th frame, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from configs.schema import Config
from dali_pipes.batch import Shard
from dali_pipes.scan.catalog import Catalog
from dali_pipes.video.times import ROUNDING, frames_between
from dali_pipes.views import draw
from dali_pipes.views.draw import Views
from dali_pipes.views.plans import EvalPlan, shapes

BATCH_BYTES = 256 << 20  # decoded frames of a batch; about six batches are in preparation at once
CHUNK = 64  # frames of a stream that are decoded together


class Window(NamedTuple):
    """Consecutive frames of a video."""

    row: int
    first: int  # frame
    frames: int  # how many


def whole_windows(catalog: Catalog) -> list[Window]:
    """Return one window per readable row: its part of a video, or the whole video."""
    rows = catalog.usable
    return list(map(Window, rows.tolist(), catalog.first_frame_N[rows].tolist(), catalog.frames_N[rows].tolist()))


def sliding(row: int, time_F: np.ndarray, end: float, seconds: float, stride: float) -> list[Window]:
    """Return windows of `seconds`, one every `stride` seconds; the last one is moved back to finish at the video's
    `end`.

    `time_F`: the time of each frame. A video that is not longer than a window gives one window.
    """
    last_start = max(end - seconds, 0.0)
    start_W = np.arange(0, last_start + ROUNDING, stride)
    if start_W[-1] < last_start - ROUNDING:
        start_W = np.append(start_W, last_start)
    first_W, after_W = frames_between(time_F, start_W, start_W + seconds)
    pairs = zip(first_W.tolist(), after_W.tolist(), strict=True)
    return [Window(row, first, after - first) for first, after in pairs if after > first]


@dataclass(frozen=True)
class WindowPlan(EvalPlan):
    """Visits each window once, with the evaluation views of a whole video; pads the last batch with row −1.

    There must be at least one window.
    """

    windows: Sequence[Window]

    @cached_property
    def batch(self) -> int:
        """Return the number of windows per step: the evaluation batch, limited by the number of windows and by memory.

        If eval.batch is set, it is exactly that number, so that the network computes as in evaluation.
        """
        if self.config.eval.batch:
            return super().batch
        rows = np.array([window.row for window in self.windows])
        pixels = int((self.catalog.width_N[rows].astype(np.int64) * self.catalog.height_N[rows]).max())
        room = BATCH_BYTES // (3 * pixels * self.frames * self.config.eval.clips)
        return max(1, min(super().batch, len(self.windows), room))

    def __len__(self) -> int:
        return -(-len(self.windows) // self.batch)

    def at(self, step: int) -> Sequence[Window]:
        """Return the windows of a step."""
        return self.windows[step * self.batch : (step + 1) * self.batch]

    def draw(self, epoch: int, step: int) -> Views:
        """Return the views of the batch at `step`."""
        padded = [*self.at(step), *[Window(-1, 0, 1)] * self.batch][: self.batch]
        row_B, first_B, frames_B = np.array(padded).T
        _, width_B, height_B = shapes(self.catalog, row_B)
        drawn = draw.eval_views(self.config, row_B, frames_B, width_B, height_B)
        return replace(drawn, frames_BVT=drawn.frames_BVT + first_B[:, None, None])


@dataclass(frozen=True)
class FramePlan(EvalPlan):
    """Visits every n-th frame of one video in order, in chunks, as clips of one view: the centre crop of evaluation."""

    row: int
    every: int

    @classmethod
    def of(cls, config: Config, catalog: Catalog, row: int, every: int) -> FramePlan:
        """Make the plan for a row; the clip settings of `config` are ignored."""
        frame_bytes = 3 * int(catalog.width_N[row]) * int(catalog.height_N[row])
        chunk = max(1, min(CHUNK, BATCH_BYTES // frame_bytes))
        one_clip = replace(config.eval, crops="center", clips=1, frames=chunk, batch=1)
        return cls(replace(config, eval=one_clip), catalog, Shard(), row, every)

    def __len__(self) -> int:
        return -(-len(self.numbers) // self.frames)

    @property
    def numbers(self) -> range:
        """Return the numbers of the frames."""
        first = int(self.catalog.first_frame_N[self.row])
        return range(first, first + int(self.catalog.frames_N[self.row]), self.every)

    def at(self, step: int) -> range:
        """Return the frame numbers of a step, without the repeats of the last frame that fill the last clip."""
        return self.numbers[step * self.frames : (step + 1) * self.frames]

    def draw(self, epoch: int, step: int) -> Views:
        """Return the view at `step`."""
        row_B = np.array([self.row])
        drawn = draw.eval_views(self.config, row_B, *shapes(self.catalog, row_B))
        frames_T = np.pad(self.at(step), (0, self.frames - len(self.at(step))), mode="edge")
        return replace(drawn, frames_BVT=frames_T[None, None])
