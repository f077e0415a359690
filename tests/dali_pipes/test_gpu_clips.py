"""Clips made on a GPU equal those of a CPU: frames, boxes, mirroring and rows; pixels up to rounding.

One case of each decoder runs on a CPU, so that the test itself runs without a GPU.
"""

import numpy as np
import pytest
import torch

from dali_pipes.feed.decoders import NVDEC
from tests.support.loading import LUMA, STD, build_loader, make_config, read, with_section, write_set
from tests.support.videos import with_matrix

TURNS = [(0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1), (1, 0, 0, 1)]  # the last is upright
CODECS = {"dali_cpu": "libvpx-vp9"}  # DALI's own decoder takes no H.264


@pytest.fixture(scope="module")
def config_for(tmp_path_factory):
    """Return a function that gives the recipe of a list for a decoder."""
    made = {}

    def config(decoder, turned=False):
        codec = CODECS.get(decoder, "libx264")
        if (codec, turned) not in made:
            folder = tmp_path_factory.mktemp("videos")
            listing = write_set(folder, codec)
            for number, file in enumerate(sorted(folder.glob("*.mp4")) if turned else ()):
                with_matrix(file, *TURNS[number % len(TURNS)])
            made[codec, turned] = make_config(listing)
        return made[codec, turned]

    return config


ON_DEVICES = [
    ("dali_cpu", "cpu"),
    pytest.param("dali_cpu", "cuda", marks=pytest.mark.gpu),
    pytest.param("pyav", "cuda", marks=pytest.mark.gpu),
    pytest.param("nvdec", "cuda", marks=pytest.mark.gpu),
    pytest.param("auto", "cuda", marks=pytest.mark.gpu),
    pytest.param("hybrid", "cuda", marks=pytest.mark.gpu),
]


@pytest.mark.parametrize(("decoder", "device"), ON_DEVICES)
def test_rotated_and_mirrored_videos_are_those_of_a_cpu(config_for, decoder, device):
    assert_like_a_cpu(config_for(decoder, turned=True), decoder, device, "fp32", "val")


@pytest.mark.parametrize(("decoder", "device"), ON_DEVICES)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(("split", "crops"), [("train", "center"), ("val", "ten")])
def test_clips_are_those_of_a_cpu(config_for, decoder, device, precision, split, crops):
    on_cpu = with_section(config_for(decoder), "eval", crops=crops, short_side=48)
    assert_like_a_cpu(on_cpu, decoder, device, precision, split)


def assert_like_a_cpu(on_cpu, decoder, device, precision, split):
    """Compare the clips of this decoder on this device with those of CPU threads."""
    config = with_section(with_section(on_cpu, "data", decoder=decoder), "runtime", precision=precision, device=device)
    expected = read(on_cpu, split)
    loader = build_loader(config, split)
    assert decoder not in ("auto", "nvdec", "hybrid") or loader.choice.in_graph is NVDEC
    assert not loader.choice.reasons
    for batch, (clips, label_B, row_B) in zip(loader.epoch(0), expected, strict=True):
        x_NCHW = batch.clips_BVTCHW.flatten(0, 2)
        assert (x_NCHW.device.type, batch.label_B.device.type) == (device, device)
        assert x_NCHW.dtype == (torch.float16 if precision == "fp16" else torch.float32)
        assert x_NCHW.is_contiguous(memory_format=torch.channels_last)
        np.testing.assert_array_equal(batch.label_B.cpu(), label_B)
        np.testing.assert_array_equal(batch.index_B.cpu(), row_B)
        real = row_B >= 0
        apart = np.moveaxis(batch.clips_BVTCHW.float().cpu().numpy() - clips, 3, -1)[real] * STD * 255
        assert np.abs(apart @ LUMA).max() < 5  # as between the decoders of a CPU: tests/dali_pipes/test_loader.py
        assert np.abs(apart).mean() < 4
    loader.close()
