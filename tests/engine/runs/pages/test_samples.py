"""Film strips of the network's input: the loader's pixels, and the notes about them."""

import base64
import io
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from engine.runs.pages import samples
from tests.support import loading
from tests.support.loading import build_loader, with_section

config = loading.config


def strip_of(sample):
    """Return the picture of a sample, [H, W, 3]."""
    content = base64.b64decode(sample.picture.removeprefix("data:image/jpeg;base64,"))
    return np.asarray(Image.open(io.BytesIO(content)), np.float32)


def shown(config, split="train", most=3, epoch=0):
    with closing(build_loader(config, split)) as loader:
        return list(samples.of_loader(loader, epoch, most))


def test_a_strip_has_the_pixels_that_the_loader_gives(config):
    batch = loading.read(config)[0]
    frames_THWC = (batch[0][0, 0].transpose(0, 2, 3, 1) * np.array(config.clip.std) + np.array(config.clip.mean)) * 255
    strip_HWC = strip_of(shown(config, most=1)[0])
    assert strip_HWC.shape == (90, 4 * 90 + 3 * 2, 3)
    for number, frame_HWC in enumerate(frames_THWC):
        middle_HWC = strip_HWC[20:70, number * 92 + 20 : number * 92 + 70]
        assert abs(middle_HWC.mean() - frame_HWC[7:25, 7:25].mean()) < 6


def test_a_strip_names_its_frames_times_and_crop(config):
    with closing(build_loader(config, "train")) as loader:
        drawn = loader.plan.draw(0, 0)
        (first, *_) = samples.of_loader(loader, 0, 3)
        row = int(drawn.row_B[0])
        frames_T = drawn.frames_BVT[0, 0]
        assert first.path == loader.path(row) and first.label == str(row % 3)
    seconds = f"({frames_T.min() / 30:.2f} to {frames_T.max() / 30:.2f} s)"
    assert first.note.startswith(f"frames {' '.join(map(str, frames_T))} {seconds}; crop ")


def test_flips_and_augmentation_are_named(config):
    every = with_section(config, "clip", flip=1.0, randaugment=1, erase=1.0)
    assert all("mirrored" in sample.note and sample.note.endswith("a box erased") for sample in shown(every))
    none = with_section(config, "clip", flip=0.0)
    assert not any("mirrored" in sample.note for sample in shown(none))


@pytest.mark.parametrize("crops", ["center", "three"])
def test_evaluation_shows_all_views_of_a_video(config, crops):
    views = {"center": 1, "three": 3}[crops]
    found = shown(with_section(config, "eval", crops=crops), "val", most=2 * views)
    assert len({sample.path for sample in found}) == 2 and len({sample.picture for sample in found}) == 2 * views


def test_a_run_keeps_the_first_clips_that_can_be_read(config):
    with closing(build_loader(config, "train")) as loader:
        batch = next(iter(loader.epoch(0)))
        batch.index_B[0] = batch.label_B[0] = -1
        found = samples.of_batch(batch, loader, config.clip)
        assert [sample.path for sample in found] == [loader.path(row) for row in batch.index_B[1:].tolist()]
