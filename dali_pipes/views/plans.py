"""Plans of training and evaluation: the rows of each batch, computed from epoch, step and rank.

Nothing is read or decoded here.
"""

from __future__ import annotations

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
EVAL_BYTES = 1 << 30  # decoded frames of an evaluation batch; several batches are in preparation at once


@dataclass(frozen=True)
class TrainPlan:
    """Visits every row of the list once per epoch, in a new order each epoch; drops an incomplete last batch.

    A step uses the next `train.batch / clip.repeats` positions of the order and splits them over the ranks, so the
    global sequence does not depend on the number of ranks. Each video gives clip.repeats clips. An unreadable row keeps
    its position as row −1, so a video that is lost or restored between two starts of a run does not move the others.
    With data.balance=classes, an epoch has the same length, and the rows of every class are equally frequent.
    """

    config: Config
    catalog: Catalog
    shard: Shard

    def __post_init__(self):
        if not len(self.catalog.usable):
            raise DataError(self.catalog.source, "none of the videos can be read")
        if self.batch and not len(self):  # `batch` raises ConfigError if it does not split over the ranks
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
        """Return the number of clips per video."""
        return self.config.clip.repeats

    @property
    def batch(self) -> int:
        """Return the number of videos per step on this rank. Raises ConfigError if the global batch does not split."""
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
        """Yield this place and all following ones, across epochs, to the end of the training.

        Nothing after it is prepared, which would be read in vain. From later epochs on, it is the end of that epoch.
        """
        epochs = max(self.config.train.epochs, epoch + 1)
        return (divmod(number, len(self)) for number in range(epoch * len(self) + step, epochs * len(self)))

    def position_B(self, step: int) -> np.ndarray:
        """Return the positions in an epoch's order of this rank's batch at `step`."""
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
        """Move the frames towards keyframes, except for folders and for videos that are read whole or shorter than a
        clip.
        """
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
    """Visits every readable video exactly once, in the order of the list; pads the last batches with row −1."""

    config: Config
    catalog: Catalog
    shard: Shard

    def __post_init__(self):
        if not len(self.catalog.usable):
            raise DataError(self.catalog.source, "none of the videos can be read")

    @property
    def views(self) -> int:
        """Return the number of views per video."""
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
        """Return the number of videos per step on this rank; by default, the frames of a training batch are the limit.

        There are fewer if videos are large, to bound the memory of decoded frames. The mean size counts, so that one
        large video among small ones does not slow all of them down.
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
        """Yield this place and all following ones of the epoch."""
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
    """Return number of frames, width and height of each row's part of its video, upright. For padding, the values are
    those of another row, and unused.
    """
    width_B, height_B = catalog.width_N[row_B], catalog.height_N[row_B]
    on_side_B = catalog.orientation_N[row_B] & TRANSPOSED != 0
    return catalog.frames_N[row_B], np.where(on_side_B, height_B, width_B), np.where(on_side_B, width_B, height_B)


def _in_parts(catalog: Catalog, drawn: Views) -> Views:
    """Convert frame numbers from the start of a row's part to the start of its video."""
    first_B = np.where(drawn.row_B < 0, 0, catalog.first_frame_N[drawn.row_B])
    return replace(drawn, frames_BVT=drawn.frames_BVT + first_B[:, None, None]) if first_B.any() else drawn
