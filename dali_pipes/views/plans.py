"""Plans of training and evaluation: the videos of each batch, by the arithmetic of epochs, steps and ranks.

Nothing is read or decoded here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from configs.batches import videos_per_rank
from configs.schema import Config
from dali_pipes.batch import Shard
from dali_pipes.errors import DataError
from dali_pipes.scan.catalog import Catalog
from dali_pipes.video.orientation import TRANSPOSED
from dali_pipes.views import draw, frames, randomness
from dali_pipes.views.balance import BalancedOrder
from dali_pipes.views.draw import Views

Place = tuple[int, int]  # epoch, and step within it
EVAL_BYTES = 1 << 30  # of decoded frames in a batch of evaluation; several batches are under way at once


@dataclass(frozen=True)
class TrainPlan:
    """Take every row of the list once an epoch, in an order that differs by epoch; drop the tail that fills no batch.

    A step takes the next `train.batch / clip.repeats` positions of the order, which are dealt out to the ranks part by
    part, so that the global sequence does not depend on how many there are. Each video gives clip.repeats clips. A row
    that cannot be read keeps its position as row −1, so a video that is lost or found between two starts of a run moves
    no other. With data.balance=classes an epoch is as long, and takes rows of every class equally often.
    """

    config: Config
    catalog: Catalog
    shard: Shard

    def __post_init__(self):
        if not len(self.catalog.usable):
            raise DataError(self.catalog.source, "none of the videos can be read")
        if self.batch and not len(self):  # `batch` raises ConfigError where it does not split
            rows, ranks = len(self.catalog), self.shard.count
            largest = rows // ranks * ranks * self.views
            raise DataError(
                "data.train",
                f"{rows} videos do not fill one batch of train.batch={self.config.train.batch}; "
                + (
                    f"the largest that works is {largest}" if largest else f"{ranks} ranks need one video each at least"
                ),
            )

    @property
    def views(self) -> int:
        """Clips of each video."""
        return self.config.clip.repeats

    @property
    def batch(self) -> int:
        """Videos per step on this rank. ConfigError where the global batch does not split."""
        return videos_per_rank(self.config.train.batch, self.views, self.shard.count)

    @property
    def frames(self) -> int:
        """Frames per clip."""
        return self.config.model.frames

    @property
    def size(self) -> int:
        """Side of a clip, in pixels."""
        return self.config.clip.size

    def __len__(self) -> int:
        return len(self.catalog) // (self.batch * self.shard.count)

    def places(self, epoch: int, step: int) -> Iterator[Place]:
        """Yield this step and all that follow, from one epoch into the next, without an end."""
        return (divmod(number, len(self)) for number in itertools.count(epoch * len(self) + step))

    def position_B(self, step: int) -> np.ndarray:
        """Return the positions, in the order of an epoch, of this rank's batch at `step`."""
        return (step * self.shard.count + self.shard.index) * self.batch + np.arange(self.batch)

    def draw(self, epoch: int, step: int) -> Views:
        """Draw the views of this rank's batch at `step`."""
        position_B = self.position_B(step)
        row_B = self._row_B(epoch, position_B)
        row_B = np.where(self.catalog.frames_N[row_B] > 0, row_B, -1)
        drawn = draw.train_views(self.config, epoch, position_B, row_B, *shapes(self.catalog, row_B))
        drawn = _in_parts(self.catalog, drawn)
        return self._snapped(drawn) if self.config.clip.snap else drawn

    def _row_B(self, epoch: int, position_B: np.ndarray) -> np.ndarray:
        """Return the rows at these positions of an epoch, readable or not."""
        if self.config.data.balance == "classes":
            return self._balanced.rows(epoch, position_B)
        return randomness.permute(self.config.train.seed, epoch, position_B, len(self.catalog))

    @cached_property
    def _balanced(self) -> BalancedOrder:
        return BalancedOrder(self.catalog.label_N, self.config.train.seed)

    def _snapped(self, drawn: Views) -> Views:
        """Move the frames towards keyframes. Folders and videos read whole or shorter than a clip keep theirs."""
        rows = drawn.row_B
        videos = {place: self.catalog.video(row) for place, row in enumerate(rows.tolist()) if row >= 0}
        places = [
            place
            for place, video in videos.items()
            if video.access not in ("whole", "frames") and self.catalog.frames_N[rows[place]] >= self.frames
        ]
        if not places:
            return drawn
        frames_BVT = drawn.frames_BVT.copy()
        frames_BVT[places] = frames.towards_keyframes(
            [videos[place] for place in places],
            drawn.frames_BVT[places, 0],
            frames.segment_starts(self.catalog.frames_N[rows[places]], self.frames)
            + self.catalog.first_frame_N[rows[places], None],
            self.config.clip.snap,
        )[:, None]
        return replace(drawn, frames_BVT=frames_BVT)


@dataclass(frozen=True)
class EvalPlan:
    """Take every readable video exactly once, in the order of the list; pad the last batches with row −1."""

    config: Config
    catalog: Catalog
    shard: Shard

    def __post_init__(self):
        if not len(self.catalog.usable):
            raise DataError(self.catalog.source, "none of the videos can be read")

    @property
    def views(self) -> int:
        """Count the views of a video."""
        return draw.num_views(self.config)

    @property
    def frames(self) -> int:
        """Frames per clip."""
        return self.config.eval_frames

    @property
    def size(self) -> int:
        """Side of a clip, in pixels."""
        return self.config.eval_size

    @cached_property
    def batch(self) -> int:
        """Count the videos of a step on this rank: by default as many as keep the frames of a training batch.

        Fewer where videos are large, so that their decoded frames do not fill the memory. By the mean, since one large
        video in a set of small ones should not slow all of them down.
        """
        if self.config.eval.batch:
            return max(1, self.config.eval.batch // self.shard.count)
        frames = self.config.train.batch * self.config.model.frames
        _, width_N, height_N = shapes(self.catalog, self.catalog.usable)
        mean_bytes = 3 * np.mean(width_N.astype(np.int64) * height_N) * self.frames * self.config.eval.clips
        return max(1, min(frames // (self.views * self.frames * self.shard.count), int(EVAL_BYTES / mean_bytes)))

    def __len__(self) -> int:
        return -(-len(self.catalog.usable) // (self.batch * self.shard.count))

    def places(self, epoch: int, step: int) -> Iterator[Place]:
        """Yield this step and all that follow in the epoch."""
        return ((epoch, step) for step in range(step, len(self)))

    def draw(self, epoch: int, step: int) -> Views:
        """Return the views of this rank's batch at `step`; the same in every epoch."""
        first = (step * self.shard.count + self.shard.index) * self.batch
        usable = self.catalog.usable[first : first + self.batch]
        row_B = np.full(self.batch, -1)
        row_B[: len(usable)] = usable
        return _in_parts(self.catalog, draw.eval_views(self.config, row_B, *shapes(self.catalog, row_B)))


Plan = TrainPlan | EvalPlan


def shapes(catalog: Catalog, row_B: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Look up frames, width and height of each row's part of its video, upright; of a padding row, those of another,
    never used.
    """
    width_B, height_B = catalog.width_N[row_B], catalog.height_N[row_B]
    on_side_B = catalog.orientation_N[row_B] & TRANSPOSED != 0
    return catalog.frames_N[row_B], np.where(on_side_B, height_B, width_B), np.where(on_side_B, width_B, height_B)


def _in_parts(catalog: Catalog, drawn: Views) -> Views:
    """Number the frames of views from the start of each video, instead of that of the row's part of it."""
    first_B = np.where(drawn.row_B < 0, 0, catalog.first_frame_N[drawn.row_B])
    return replace(drawn, frames_BVT=drawn.frames_BVT + first_B[:, None, None]) if first_B.any() else drawn
