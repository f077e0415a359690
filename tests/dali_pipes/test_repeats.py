"""Repeated augmentation (clip.repeats): several clips of a video from one cut and one decoding."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from configs.checks import ConfigError
from dali_pipes import DataError, Shard
from dali_pipes.feed import decoders, samples
from dali_pipes.feed.augment import Augmenter
from dali_pipes.loader import VideoLoader
from dali_pipes.scan.build import open_catalog
from dali_pipes.views import draw, plans
from dali_pipes.views.draw import Views
from dali_pipes.views.plans import TrainPlan
from tests.support import tiny
from tests.support.loading import VIDEOS, arrays, assert_same, build_loader, make_config, read, with_section, write_set

REPEATS = 2
BATCH = 6  # clips of 3 videos


def repeated(config, repeats=REPEATS, **clip):
    return with_section(with_section(config, "clip", repeats=repeats, **clip), "train", batch=BATCH)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return make_config(write_set(tmp_path_factory.mktemp("videos")))


@pytest.fixture(scope="module")
def config(plain):
    return repeated(plain)


def plan_of(config, shard=None):
    return TrainPlan(config, open_catalog(config.data.train, config.data), shard or Shard())


@pytest.mark.parametrize("clip", [{}, {"sampling": "dense"}, {"snap": 4}, {"train_crop": "resized"}], ids=str)
def test_clips_of_a_video_show_its_frames_in_the_crops_of_as_many_clips_in_a_row(config, clip):
    """Clip n has the crop and flip that position n has without repeats."""
    config = with_section(config, "clip", **clip)
    once = plan_of(with_section(config, "clip", repeats=1))
    for step in range(len(plan_of(config))):
        drawn = plan_of(config).draw(1, step)
        assert drawn.frames_BVT.shape[:2] == (BATCH // REPEATS, REPEATS)
        assert (drawn.frames_BVT == drawn.frames_BVT[:, :1]).all()
        position_B = np.arange(BATCH // REPEATS) + step * BATCH // REPEATS
        for view in range(REPEATS):
            expected = _views_at(once, position_B * REPEATS + view, drawn.row_B)
            np.testing.assert_array_equal(drawn.box_BV4[:, view], expected.box_BV4[:, 0])
            np.testing.assert_array_equal(drawn.mirror_BV[:, view], expected.mirror_BV[:, 0])
        np.testing.assert_array_equal(_snapped(once, position_B, drawn.row_B), drawn.frames_BVT[:, 0])


def _views_at(plan, position_B, row_B) -> Views:
    return draw.train_views(plan.config, 1, position_B, row_B, *plans.shapes(plan.catalog, row_B))


def _snapped(plan, position_B, row_B):
    drawn = _views_at(plan, position_B, row_B)
    return (plan._snapped(drawn) if plan.config.clip.snap else drawn).frames_BVT[:, 0]


class OneView(TrainPlan):
    """A plan with one of the clips of each video."""

    view = 0
    views = 1

    @property
    def batch(self):
        return BATCH // REPEATS

    def draw(self, epoch, step):
        drawn = super().draw(epoch, step)
        part = slice(self.view, self.view + 1)
        boxes, mirrors = drawn.box_BV4[:, part], drawn.mirror_BV[:, part]
        return replace(drawn, frames_BVT=drawn.frames_BVT[:, part], box_BV4=boxes, mirror_BV=mirrors)


@pytest.mark.parametrize("decoder", ["pyav", "dali_cpu"])
def test_each_clip_equals_the_clip_of_its_single_view(tmp_path, decoder, monkeypatch):
    """This holds with and without DALI's graph."""
    kind = ("libvpx-vp9", ".mp4") if decoder == "dali_cpu" else ("libx264", ".mp4")
    config = repeated(with_section(make_config(write_set(tmp_path, *kind)), "data", decoder=decoder))
    whole = read(config)
    for view in range(REPEATS):
        monkeypatch.setattr(OneView, "view", view)
        plan = OneView(config, open_catalog(config.data.train, config.data), Shard())
        loader = VideoLoader(plan, torch.device("cpu"))
        alone = list(map(arrays, loader.epoch(0)))
        loader.close()
        assert_same([tuple(part[view::REPEATS] for part in batch) for batch in whole], alone)
    assert any(not np.array_equal(clips[0::2], clips[1::2]) for clips, *_ in whole)


@pytest.mark.parametrize("clip", [{}, {"randaugment": 2, "erase": 0.5}], ids=str)
@pytest.mark.parametrize("ranks", [1, 3])
def test_ranks_threads_and_the_first_step_change_no_clip(config, clip, ranks):
    config = with_section(config, "clip", **clip)
    whole = read(config, epoch=1)
    parts = [read(config, epoch=1, shard=Shard(rank, ranks)) for rank in range(ranks)]
    joined = [tuple(map(np.concatenate, zip(*step, strict=True))) for step in zip(*parts, strict=True)]
    assert_same(whole, joined)
    assert_same(whole, read(with_section(config, "runtime", threads=4, prefetch=1), epoch=1))
    assert_same(whole[2:], read(config, epoch=1, start=2))


def test_an_epoch_takes_each_video_once_in_as_many_clips_as_are_asked_for(config):
    batches = read(config)
    assert len(batches) == VIDEOS * REPEATS // BATCH
    for *_, row_B in batches:
        np.testing.assert_array_equal(row_B[0::2], row_B[1::2])
    rows = np.concatenate([row_B for *_, row_B in batches])
    assert len(set(rows)) == len(rows) // REPEATS == len(batches) * BATCH // REPEATS


def test_each_video_is_cut_and_decoded_once(config, monkeypatch):
    cuts, decoded = [], []
    cut_all, decode = samples.cut_all, decoders.decode_pictures
    monkeypatch.setattr(samples, "cut_all", lambda videos, *rest: cuts.extend(videos) or cut_all(videos, *rest))
    monkeypatch.setattr(decoders, "decode_pictures", lambda cut, path: decoded.append(path) or decode(cut, path))
    loader = build_loader(config, "train")
    loader._runner.begin(iter([(0, 0), (0, 1)]))
    while loader._runner.next():
        pass
    loader.close()
    assert len(cuts) == len(decoded) == len(set(decoded)) == 2 * BATCH // REPEATS


def test_evaluation_is_as_without_repeats(plain, config):
    assert_same(read(config, "val"), read(plain, "val"))


def test_each_clip_has_its_own_augmentation(config):
    still = with_section(config, "clip", flip=0.0, train_crop="center")
    clip = replace(still.clip, randaugment=2, color_jitter=(0.4, 0.4, 0.4, 0.1))
    augmenter = Augmenter(replace(still, clip=clip), torch.device("cpu"))
    for step, (before, after) in enumerate(zip(read(still), read(replace(still, clip=clip)), strict=True)):
        np.testing.assert_array_equal(before[0][0::2], before[0][1::2])
        clips_BTHWC = torch.from_numpy(before[0][:, 0]).permute(0, 1, 3, 4, 2)
        expected = augmenter(clips_BTHWC, 0, step * BATCH + np.arange(BATCH)).permute(0, 1, 4, 2, 3)
        np.testing.assert_array_equal(after[0][:, 0], expected)
        assert not np.array_equal(after[0][0::2], after[0][1::2])


def test_only_mirrored_repeats_have_the_other_label_of_their_pair(config):
    still = with_section(config, "clip", flip=0.0, train_crop="center")
    flipping = with_section(still, "clip", flip=0.5, flip_pairs=(2, 0))
    seen = set()
    for (clips, label_B, _), (shown, shown_B, _) in zip(read(still), read(flipping), strict=True):
        mirrored_B = (clips != shown).any(axis=(1, 2, 3, 4, 5))
        np.testing.assert_array_equal(shown_B, np.where(mirrored_B & (label_B != 1), 2 - label_B, label_B))
        seen |= set(zip(mirrored_B[0::2].tolist(), mirrored_B[1::2].tolist(), strict=True))
    assert (True, False) in seen and (False, True) in seen


def test_no_clip_of_an_unreadable_video_is_trained_on(tmp_path):
    config = repeated(make_config(write_set(tmp_path)))
    (tmp_path / "5.mp4").write_bytes((tmp_path / "5.mp4").read_bytes()[:-100])
    good, bad = 0, 0
    for epoch in range(3):
        for _, label_B, row_B in read(config, epoch=epoch):
            assert 5 not in row_B
            np.testing.assert_array_equal(row_B[0::2], row_B[1::2])
            np.testing.assert_array_equal(label_B, np.where(row_B < 0, -1, row_B % 3))
            good, bad = good + (row_B >= 0).sum(), bad + (row_B < 0).sum()
    assert bad and good == 3 * len(plan_of(config)) * BATCH - bad


def test_a_run_stopped_within_an_epoch_resumes_to_the_same_weights(config, tmp_path):
    """Clips are mixed and gradients accumulated."""

    def weights(name, *stops):
        model = replace(tiny.CONFIG.model, frames=config.model.frames)
        train = replace(tiny.CONFIG.train, batch=BATCH, mixup=0.5, accumulate=3, name=name, runs=str(tmp_path))
        settings = replace(config, model=model, optim=tiny.CONFIG.optim, train=train)
        for stop in (*stops, None):
            finished, training = run_until(settings, stop)
        assert finished and training.steps_per_epoch == VIDEOS * REPEATS // BATCH
        return tiny.weights_of(training)

    whole, parts = weights("whole"), weights("parts", 5)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def run_until(settings, stop):
    """Train on, to the end or until a signal before the batch of a step of the run."""
    loaders = {split: build_loader(settings, split) for split in ("train", "val")}
    if stop is not None:
        loaders["train"] = tiny.before_step(loaders["train"], stop, tiny.terminate)
    return tiny.resume(settings, loaders)


def test_too_few_videos_are_refused_with_the_largest_batch_of_clips(config):
    few = with_section(config, "train", batch=40)
    with pytest.raises(DataError, match=r"train\.batch=40; the largest that works is 26"):
        build_loader(few, "train")


def test_a_batch_of_parts_of_videos_is_refused(config):
    with pytest.raises(ConfigError, match=r"3 clips on each of 2 ranks .* try 4 or 8"):
        plan_of(config, Shard(0, 2))
