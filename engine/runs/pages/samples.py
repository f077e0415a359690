"""Show the inputs of the network: the clips of a batch as film strips, each with its class."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from configs.schema import Clip
from dali_pipes import Batch, Loader
from dali_pipes.loader import VideoLoader
from dali_pipes.views import augment
from dali_pipes.views.draw import clip_numbers
from dali_pipes.views.plans import TrainPlan
from engine.runs.pages.strips import data_uri, join

OF_A_RUN = 4  # number of clips of its first batch that a run stores


@dataclass(frozen=True)
class Sample:
    """One view of a video as the network receives it."""

    picture: str  # film strip as a data URI
    label: str
    path: str
    note: str = ""  # its frames, crop and augmentation


def of_batch(batch: Batch, loader: Loader, clip: Clip, most: int = OF_A_RUN) -> list[Sample]:
    """Return the first readable clips of a batch, one view of each video. Waits for the device."""
    rows = batch.index_B.tolist()
    places = [place for place, row in enumerate(rows) if row >= 0][:most]
    labels = batch.label_B.tolist()
    return [
        Sample(_strip(batch, place, 0, clip), _name(loader, labels[place]), loader.path(rows[place]))
        for place in places
    ]


def of_loader(loader: VideoLoader, epoch: int, most: int) -> Iterator[Sample]:
    """Yield the first `most` views of an epoch, with frames, crop and augmentation of each."""
    clip = loader.config.clip
    found = (
        Sample(_strip(batch, place, view, clip), _name(loader, label), loader.path(row), note)
        for step, batch in enumerate(loader.epoch(epoch))
        for place, view, row, label, note in _views(loader, batch, epoch, step)
    )
    return itertools.islice(found, most)


def _views(loader: VideoLoader, batch: Batch, epoch: int, step: int) -> Iterator[tuple[int, int, int, int, str]]:
    """Yield (index in the batch, view, row, label, note) of each readable view of a batch."""
    drawn = loader.plan.draw(epoch, step)
    frames_NT = drawn.frames_BVT.reshape(-1, drawn.frames_BVT.shape[2])
    box_N4, mirror_N = drawn.box_BV4.reshape(-1, 4), drawn.mirror_BV.ravel()
    augmented = _augmentations(loader, epoch, step, len(frames_NT))
    places = itertools.product(range(batch.clips_BVTCHW.shape[0]), range(batch.clips_BVTCHW.shape[1]))
    rows, labels = batch.index_B.tolist(), batch.label_B.tolist()
    for number, (place, view) in enumerate(places):
        if rows[place] >= 0:
            fps = float(loader.catalog.fps_N[rows[place]])
            note = _note(frames_NT[number], fps, box_N4[number], bool(mirror_N[number]), augmented[number])
            yield place, view, rows[place], labels[place], note


def _augmentations(loader: VideoLoader, epoch: int, step: int, count: int) -> list[str]:
    """Describe the pixel augmentations of each view."""
    config = loader.config
    if not isinstance(loader.plan, TrainPlan) or not augment.augments(config.clip):
        return [""] * count
    numbers = clip_numbers(loader.plan.position_B(step), loader.plan.views)
    drawn = augment.draw(config.clip, config.train.seed, epoch, numbers)
    return [
        ", ".join(
            [f"{name} {value:.3g}" if value else name for name, value in (*one.jitters, *one.operations)]
            + (["a box erased"] if one.erased else [])
        )
        for one in drawn
    ]


def _note(frames_T: np.ndarray, fps: float, box_4: np.ndarray, mirrored: bool, augmented: str) -> str:
    """Describe a view in words."""
    left, top, right, bottom = box_4.tolist()
    seconds = f" ({frames_T.min() / fps:.2f} to {frames_T.max() / fps:.2f} s)" if fps else ""
    parts = [
        f"frames {' '.join(map(str, frames_T.tolist()))}{seconds}",
        f"crop {right - left:.0f}x{bottom - top:.0f} at {left:.0f}, {top:.0f}",
        "mirrored" if mirrored else "",
        augmented,
    ]
    return "; ".join(filter(None, parts))


def _strip(batch: Batch, place: int, view: int, clip: Clip) -> str:
    """Return the film strip of a view, with the normalisation inverted."""
    clip_TCHW = batch.clips_BVTCHW[place, view].detach().float().cpu()
    std_311, mean_311 = (torch.tensor(values).view(3, 1, 1) for values in (clip.std, clip.mean))
    pixels_TCHW = ((clip_TCHW * std_311 + mean_311) * 255).round().clamp(0, 255).byte()
    return data_uri(join([Image.fromarray(frame_HWC) for frame_HWC in pixels_TCHW.permute(0, 2, 3, 1).numpy()]))


def _name(loader: Loader, label: int) -> str:
    return loader.class_names[label] if label < len(loader.class_names) else str(label)
