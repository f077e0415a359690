"""Draw views: frames, crop box and mirroring of every clip. All randomness of the data is decided here.

    seed      `train.seed`: one number for the whole run
    epoch     one pass over the training list, counted from 0
    position  a position in the order of an epoch, counted from 0 over all ranks and steps
    number    a training clip within its epoch: position * clip.repeats + index among the video's clips
    row       a row of the list and catalogue; -1 is padding, which fills a batch and is never counted
    view      one way to take a clip from a video: its frames, its box, its mirroring
    draw      a number in [0, 1) that decides something

A training view depends only on (seed, epoch, position, number) and the video's size, not on the rank, the batch, or
earlier draws. `randomness.permute` gives the row at a position. Evaluation views are fixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from configs.schema import Clip, Config
from dali_pipes.views import crops, frames, randomness

CROPS = {"center": 1, "three": 3, "ten": 10}


@dataclass(frozen=True, slots=True)
class Views:
    """The views of B videos."""

    row_B: np.ndarray  # int64
    frames_BVT: np.ndarray  # int64, frame numbers in display order, from 0
    box_BV4: np.ndarray  # float32: left, top, right, bottom, in pixels of the upright frame
    mirror_BV: np.ndarray  # bool

    def part(self, places: slice | list[int]) -> Views:
        """Return the views of a subset of the videos."""
        return Views(self.row_B[places], self.frames_BVT[places], self.box_BV4[places], self.mirror_BV[places])


def num_views(config: Config) -> int:
    """Return V, the number of views in evaluation."""
    return config.eval.clips * CROPS[config.eval.crops]


def train_views(
    config: Config,
    epoch: int,
    position_B: np.ndarray,
    row_B: np.ndarray,
    frames_B: np.ndarray,
    width_B: np.ndarray,
    height_B: np.ndarray,
) -> Views:
    """Draw the training views at each position of an epoch; padding gets arbitrary valid ones.

    The V = clip.repeats views of a video have the same frames, which are decoded once, and different crops.
    """
    clip, T, V = config.clip, config.model.frames, config.clip.repeats
    frames_B, size_B2 = _fill_padding(row_B, frames_B, width_B, height_B)
    draw_video = partial(randomness.uniform, config.train.seed, epoch, position_B)
    draw_clip = partial(randomness.uniform, config.train.seed, epoch, clip_numbers(position_B, V))

    if clip.sampling == "uniform":
        frames_BT = frames.uniform_draw(frames_B, draw_video(randomness.FRAMES, T))
    else:
        frames_BT = frames.dense_draw(frames_B, T, draw_video(randomness.FRAMES))
    box_N4 = _train_box(clip, size_B2.repeat(V, axis=0), draw_clip(randomness.CROP, 2 + 2 * crops.TRIES))
    mirror_N = draw_clip(randomness.FLIP) < clip.flip
    return Views(row_B, frames_BT[:, None].repeat(V, axis=1), box_N4.reshape(-1, V, 4), mirror_N.reshape(-1, V))


def clip_numbers(position_B: np.ndarray, repeats: int) -> np.ndarray:
    """Return [B * repeats], the clip numbers of the videos at these positions, video by video."""
    return (position_B[:, None] * repeats + np.arange(repeats)).ravel()


def shown_label(clip: Clip, label_B: np.ndarray, mirror_B: np.ndarray) -> np.ndarray:
    """Return [B] labels; mirrored videos with a label in clip.flip_pairs get the other label of the pair."""
    mirrored_B = label_B.copy()
    for one, other in zip(clip.flip_pairs[::2], clip.flip_pairs[1::2], strict=True):
        mirrored_B[label_B == one], mirrored_B[label_B == other] = other, one
    return np.where(mirror_B, mirrored_B, label_B)


def eval_views(
    config: Config, row_B: np.ndarray, frames_B: np.ndarray, width_B: np.ndarray, height_B: np.ndarray
) -> Views:
    """Compute the fixed views of evaluation, in the order v = clip * crops + crop."""
    clips, cropping, T = config.eval.clips, config.eval.crops, config.eval_frames
    frames_B, size_B2 = _fill_padding(row_B, frames_B, width_B, height_B)

    take = {"uniform": frames.uniform_clips, "dense": frames.dense_clips}[config.eval.sampling]
    frames_BVT = np.repeat(take(frames_B, T, clips), CROPS[cropping], axis=1)
    box_BV4 = np.tile(_eval_boxes(config, size_B2), (1, clips, 1))
    mirror_V = (np.arange(num_views(config)) % 2 == 1) & (cropping == "ten")
    return Views(row_B, frames_BVT, box_BV4, np.tile(mirror_V, (len(row_B), 1)))


def _fill_padding(
    row_B: np.ndarray, frames_B: np.ndarray, width_B: np.ndarray, height_B: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return frame counts [B] and sizes [B, 2]; padding is treated as a video of one frame of 256 x 256 pixels."""
    padding_B = row_B < 0
    size_B2 = np.stack([width_B, height_B], axis=1).astype(np.int64)
    return np.where(padding_B, 1, frames_B).astype(np.int64), np.where(padding_B[:, None], 256, size_B2)


def _train_box(clip: Clip, stored_B2: np.ndarray, draw_BN: np.ndarray) -> np.ndarray:
    """Return [B, 1, 4], training crops by the random numbers `draw_BN`; most crop types use the first two or four."""
    draw_B2 = draw_BN[:, :2]
    scaled_B2 = _scaled(clip, stored_B2, clip.short_side) if clip.short_side else stored_B2
    if clip.train_crop == "multiscale":
        target = clip.multiscale_size or clip.size
        choice_B2 = (draw_B2 * (len(crops.PAIRS), clip.crop_positions)).astype(np.int64)
        box_B4 = crops.multiscale(scaled_B2, target, choice_B2[:, 0], choice_B2[:, 1])
        if target != clip.size:
            box_B4 = crops.within(box_B4, target, clip.size, draw_BN[:, 2:4])
    elif clip.train_crop == "resized":
        box_B4, _ = crops.of_area(*scaled_B2.T, draw_BN, area=clip.crop_area, ratio=(3 / 4, 4 / 3))
    elif clip.train_crop == "random":
        box_B4 = crops.anywhere(scaled_B2, clip.size, draw_B2)
    else:
        box_B4 = crops.center(scaled_B2, clip.size, opencv=not clip.antialias)
    return crops.to_stored(box_B4[:, None], scaled_B2, stored_B2)


def _scaled(clip: Clip, stored_B2: np.ndarray, short_side: int) -> np.ndarray:
    """Compute [B, 2], the frame size after scaling the short side as the recipe says."""
    return crops.scale_short_side(stored_B2, short_side, opencv=not clip.antialias, squashed=clip.squash)


def _eval_boxes(config: Config, stored_B2: np.ndarray) -> np.ndarray:
    """Return [B, N, 4], the N evaluation crops of each video."""
    side, opencv = config.eval_size, not config.clip.antialias
    scaled_B2 = _scaled(config.clip, stored_B2, config.eval.short_side)
    if config.eval.crops == "center":
        box_BN4 = crops.center(scaled_B2, side, opencv=opencv)[:, None]
    elif config.eval.crops == "three":
        box_BN4 = crops.three(scaled_B2, side)
    else:
        box_BN4 = crops.ten(scaled_B2, side)
    return crops.to_stored(box_BN4, scaled_B2, stored_B2)
