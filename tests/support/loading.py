"""A list of small videos, its recipe, and the batches of a loader as arrays.

`config` and `loader` are fixtures; a module names them to use them: `config, loader = loading.config, loading.loader`.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from configs.schema import Clip, Config, Data, Eval, Model, Optim, Runtime, Train
from dali_pipes import Shard
from dali_pipes import build_loader as build
from dali_pipes.device import pick_device
from dali_pipes.scan.build import load_catalog, open_catalog
from dali_pipes.synthetic import SyntheticLoader
from engine.loaders import list_of
from tests.support.videos import write_video

VIDEOS = 13
FRAMES = 10  # frames of the shortest video; each further one has one more
STD, LUMA = np.array((0.229, 0.224, 0.225)), np.array((0.299, 0.587, 0.114))


def write_set(folder, codec="libx264", suffix=".mp4"):
    """Write VIDEOS videos with a list; return the list."""
    for number in range(VIDEOS):
        write_video(folder / f"{number}{suffix}", codec, FRAMES + number, gop=4)
    lines = [f"{number}{suffix} {number % 3}" for number in range(VIDEOS)]
    (folder / "all.list").write_text("\n".join(lines))
    return str(folder / "all.list")


def make_config(source):
    """Scan a list; return its settings: batches of 4 clips of 4 frames, decoded by `pyav` in two threads."""
    config = Config(
        model=Model(num_classes=3, frames=4),
        data=Data(train=source, val=source, decoder="pyav", max_bad_fraction=0.5),
        clip=Clip(size=32),
        eval=Eval(short_side=40, batch=4),
        optim=Optim(lr=0.1),
        train=Train(name="test", epochs=9, batch=4),
        runtime=Runtime(device="cpu", precision="fp32", threads=2),
    )
    load_catalog(source, config.data)
    return config


def with_section(config, section, **settings):
    """Return `config` with some settings of a section replaced."""
    return replace(config, **{section: replace(getattr(config, section), **settings)})


def build_loader(config, split="train", shard=None, device=None, class_names=()):
    """Return a loader of a scanned list, or of synthetic clips."""
    shard, device = shard or Shard(), torch.device(device or pick_device(config.runtime.device))
    if config.data.source == "synthetic":
        return SyntheticLoader(config, split, shard, device)
    catalog = open_catalog(list_of(config.data, split), config.data)
    return build(config, split, catalog, shard, device, class_names)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Return settings for a set of this module."""
    return make_config(write_set(tmp_path_factory.mktemp("videos")))


@pytest.fixture
def loader(config):
    """Yield a loader that trains on it."""
    loader = build_loader(config, "train")
    yield loader
    loader.close()


def arrays(batch):
    """Return a batch as (clips, labels, rows) in new arrays, which stay valid when the loader continues."""
    return batch.clips_BVTCHW.cpu().numpy().copy(), batch.label_B.cpu().numpy(), batch.index_B.cpu().numpy()


def read(config, split="train", epoch=0, start=0, shard=None):
    """Return the `arrays` of all batches of an epoch, from a new loader."""
    loader = build_loader(config, split, shard)
    try:
        return list(map(arrays, loader.epoch(epoch, start)))
    finally:
        loader.close()


def assert_same(some, others):
    """Compare batches, as `arrays` gives them, bit for bit; there must be at least one."""
    assert len(some) == len(others) > 0
    for one, other in zip(some, others, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
