"""Parts of videos that are scored as if each were a whole one, and plans that feed them in their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from configs.schema import Config
from dali_pipes import views
from dali_pipes.batch import Shard
from dali_pipes.plan import EvalPlan, shapes
from dali_pipes.scan.catalog import Catalog
from dali_pipes.views import Views

BATCH_BYTES = 256 << 20  # of decoded frames in a batch; some six batches are under way at once
CHUNK = 64  # frames of a stream that are decoded together
_ROUNDING = 1e-6  # seconds


class Window(NamedTuple):
    """Some frames of a video in a row."""

    row: int
    first: int  # frame
    frames: int  # how many


def whole(catalog: Catalog) -> list[Window]:
    """Every readable video as a window of its own."""
    return [Window(row, 0, int(catalog.frames_N[row])) for row in catalog.usable.tolist()]


def sliding(row: int, time_F: np.ndarray, end: float, seconds: float, stride: float) -> list[Window]:
    """A video's windows of `seconds`, one every `stride`; the last is moved back to finish at its `end`.

    `time_F`: when each frame is shown. A video that is not longer than a window is one window.
    """
    last_start = max(end - seconds, 0.0)
    start_W = np.arange(0, last_start + _ROUNDING, stride)
    if start_W[-1] < last_start - _ROUNDING:
        start_W = np.append(start_W, last_start)
    first_W = time_F.searchsorted(start_W - _ROUNDING)
    after_W = time_F.searchsorted(start_W + seconds - _ROUNDING)
    pairs = zip(first_W.tolist(), after_W.tolist(), strict=True)
    return [Window(row, first, after - first) for first, after in pairs if after > first]


@dataclass(frozen=True)
class WindowPlan(EvalPlan):
    """Each window once, of one at least, in the views that evaluation takes of a whole video; the last batch is padded
    with row −1.
    """

    windows: Sequence[Window]

    @cached_property
    def batch(self) -> int:
        """Windows per step: as many as evaluation takes, unless there are fewer, or their frames fill the memory.

        With eval.batch set it is that number, whatever there is, so that the network computes as evaluation does.
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
        """The windows of a step."""
        return self.windows[step * self.batch : (step + 1) * self.batch]

    def draw(self, epoch: int, step: int) -> Views:
        """The views of the batch at `step`."""
        padded = [*self.at(step), *[Window(-1, 0, 1)] * self.batch][: self.batch]
        row_B, first_B, frames_B = np.array(padded).T
        _, width_B, height_B = shapes(self.catalog, row_B)
        drawn = views.eval_views(self.config, row_B, frames_B, width_B, height_B)
        return replace(drawn, frames_BVT=drawn.frames_BVT + first_B[:, None, None])


@dataclass(frozen=True)
class FramePlan(EvalPlan):
    """Every n-th frame of one video in order, some at a time, as a clip of one view: the centre crop of evaluation."""

    row: int
    every: int

    @classmethod
    def of(cls, config: Config, catalog: Catalog, row: int, every: int) -> FramePlan:
        """The plan for a row, whatever clips `config` asks for."""
        frame_bytes = 3 * int(catalog.width_N[row]) * int(catalog.height_N[row])
        chunk = max(1, min(CHUNK, BATCH_BYTES // frame_bytes))
        one_clip = replace(config.eval, crops="center", clips=1, frames=chunk, batch=1)
        return cls(replace(config, eval=one_clip), catalog, Shard(), row, every)

    def __len__(self) -> int:
        return -(-len(self.numbers) // self.frames)

    @property
    def numbers(self) -> range:
        """The frames that are fed."""
        return range(0, int(self.catalog.frames_N[self.row]), self.every)

    def at(self, step: int) -> range:
        """The frames of a step: the first ones of its clip. A clip at the end repeats its last frame."""
        return self.numbers[step * self.frames : (step + 1) * self.frames]

    def draw(self, epoch: int, step: int) -> Views:
        """The view at `step`."""
        row_B = np.array([self.row])
        drawn = views.eval_views(self.config, row_B, *shapes(self.catalog, row_B))
        frames_T = np.pad(self.at(step), (0, self.frames - len(self.at(step))), mode="edge")
        return replace(drawn, frames_BVT=frames_T[None, None])
