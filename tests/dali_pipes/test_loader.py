"""The loader's contract: the same batches for any threads, ranks and first step; bad videos named, never fatal."""

import sys
from itertools import islice, pairwise

import numpy as np
import pytest
import torch

from configs.checks import ConfigError
from dali_pipes import DataError, Shard
from tests.support.loading import (
    FRAMES,
    LUMA,
    STD,
    VIDEOS,
    arrays,
    assert_same,
    build_loader,
    make_config,
    read,
    with_section,
    write_set,
)
from tests.support.videos import damage_packets, number_in, write_video


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def config(source):
    return make_config(source)


@pytest.mark.parametrize("runtime", [{"threads": 1, "prefetch": 1}, {"threads": 4, "prefetch": 3}])
def test_threads_and_prefetch_do_not_change_batches(config, runtime):
    assert_same(read(config), read(with_section(config, "runtime", **runtime)))


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_split_the_same_global_sequence(config, ranks):
    parts = [read(config, shard=Shard(rank, ranks)) for rank in range(ranks)]
    joined = [tuple(map(np.concatenate, zip(*step, strict=True))) for step in zip(*parts, strict=True)]
    assert_same(read(config), joined)


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_epoch_can_start_at_any_step(config, split):
    whole = read(config, split, epoch=3)
    for start in range(len(whole)):
        assert_same(whole[start:], read(config, split, epoch=3, start=start))


def test_an_epoch_left_early_does_not_change_the_next_epoch(config):
    loader = build_loader(config, "train")
    for _ in islice(loader.epoch(0), 1):
        pass
    after = list(map(arrays, loader.epoch(1)))
    loader.close()
    assert_same(read(config, epoch=1), after)


def test_only_mirrored_clips_have_the_other_label_of_their_pair(config):
    """The pixels show which clips are mirrored."""
    straight, label_N = clips_and_labels(with_section(config, "clip", flip=0.0))
    flipping, shown_N = clips_and_labels(with_section(config, "clip", flip=0.5, flip_pairs=(2, 0)))
    seen = set()
    for clip, label, other, shown in zip(straight, label_N, flipping, shown_N, strict=True):
        mirrored = not np.array_equal(clip, other)
        assert np.array_equal(clip[..., ::-1] if mirrored else clip, other)
        assert shown == ({0: 2, 2: 0}.get(label, label) if mirrored else label)
        seen.add((int(label), mirrored))
    assert seen == {(label, mirrored) for label in range(3) for mirrored in (False, True)}


def clips_and_labels(config):
    """Return the clips and labels of two epochs, one after the other."""
    clips, labels, _ = zip(*read(config, epoch=0), *read(config, epoch=1), strict=True)
    return np.concatenate(clips), np.concatenate(labels)


def test_labels_of_evaluation_are_those_of_the_list(config):
    pairs = with_section(config, "clip", flip=1.0, flip_pairs=(2, 0))
    for crops in ("center", "three"):
        assert_same(
            read(with_section(config, "eval", crops=crops), "val"),
            read(with_section(pairs, "eval", crops=crops), "val"),
        )


def test_epochs_differ_in_order_and_views(config):
    first, second = read(config, epoch=0)[0], read(config, epoch=1)[0]
    assert not np.array_equal(first[2], second[2])
    assert not np.array_equal(first[0], second[0])


def test_labels_are_those_of_the_list(config):
    for _, label_B, row_B in read(config):
        np.testing.assert_array_equal(label_B, row_B % 3)


def test_clips_are_channels_last_without_a_copy(config):
    loader = build_loader(config, "train")
    batch = next(iter(loader.epoch(0)))
    x_NCHW = batch.clips_BTCHW.flatten(0, 1)
    assert x_NCHW.is_contiguous(memory_format=torch.channels_last)
    assert x_NCHW.data_ptr() == batch.clips_BVTCHW.data_ptr()
    loader.close()


def test_half_precision_clips_are_the_rounded_ones(config):
    for (half, *_), (single, *_) in zip(
        read(with_section(config, "runtime", precision="fp16")), read(config), strict=True
    ):
        assert half.dtype == np.float16
        np.testing.assert_allclose(half, single, atol=2e-3)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_evaluation_gives_every_video_once_and_pads_with_minus_one(config, ranks):
    steps = [read(config, "val", shard=Shard(rank, ranks)) for rank in range(ranks)]
    assert len({len(part) for part in steps}) == 1
    rows = np.concatenate([row_B for part in steps for _, _, row_B in part])
    labels = np.concatenate([label_B for part in steps for _, label_B, _ in part])
    assert sorted(rows[rows >= 0]) == list(range(VIDEOS))
    assert set(labels[rows < 0]) <= {-1}


def test_evaluation_shows_the_frames_that_the_views_name(config):
    plain = with_section(config, "eval", short_side=48, size=48)
    plain = with_section(plain, "clip", mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))
    wide = with_section(plain, "eval", crops="three")
    for clips_BVTCHW, _, row_B in read(wide, "val"):
        for clip_VTCHW, row in zip(clips_BVTCHW, row_B, strict=True):
            if row >= 0:
                left, right = clip_VTCHW[0], clip_VTCHW[1]
                pictures_THWC = np.concatenate([left, right], axis=3).transpose(0, 2, 3, 1)
                n = FRAMES + row
                expected = [int(n / 8 + n / 4 * segment) for segment in range(4)]
                assert [number_in(picture) for picture in pictures_THWC] == expected


@pytest.mark.parametrize("sampling", ["uniform", "dense"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_videos_shorter_than_a_clip_repeat_their_frames_evenly(tmp_path, split, sampling):
    for frames in (1, 2, 3):
        write_video(tmp_path / f"é {frames}.mp4", "libx264", frames)
    (tmp_path / "short.list").write_text("".join(f"é {frames}.mp4 {frames - 1}\n" for frames in (1, 2, 3)))
    config = with_section(make_config(str(tmp_path / "short.list")), "train", batch=3)
    config = with_section(with_section(config, "eval", sampling=sampling), "clip", sampling=sampling)
    ((clips_BVTCHW, label_B, row_B),) = read(config, split)
    changes = {0: [False, False, False], 1: [False, True, False], 2: [True, False, True]}
    for (clip_TCHW,), label, row in zip(clips_BVTCHW, label_B, row_B, strict=True):
        if row >= 0:
            assert label == row
            assert [not np.array_equal(*pair) for pair in pairwise(clip_TCHW)] == changes[row]
    assert sorted(row_B[row_B >= 0]) == [0, 1, 2]


@pytest.mark.parametrize(("codec", "suffix"), [("libvpx-vp9", ".mp4"), ("mjpeg", ".avi")])
def test_dali_decodes_the_same_clips_as_pyav(tmp_path, codec, suffix):
    config = make_config(write_set(tmp_path, codec, suffix))
    dali = with_section(config, "data", decoder="dali_cpu")
    for (ours, *rows), (theirs, *same_rows) in zip(read(config), read(dali), strict=True):
        np.testing.assert_array_equal(rows, same_rows)
        difference = np.moveaxis(ours - theirs, 3, -1) * STD * 255
        # DALI interpolates chroma and rounds exactly; PyAV's conversion, much faster, repeats it and rounds down
        assert np.abs(difference @ LUMA).max() < 5
        assert np.abs(difference).mean() < 4


def test_a_video_that_changed_since_the_scan_is_left_out_and_named_once(tmp_path):
    config = make_config(write_set(tmp_path))
    before = read(config, "val")
    (tmp_path / "5.mp4").write_bytes((tmp_path / "5.mp4").read_bytes()[:-100])
    loader = build_loader(config, "val")
    rows = [row for _ in range(2) for batch in loader.epoch(0) for row in batch.index_B.tolist()]
    loader.close()
    assert set(rows) == set(range(VIDEOS)) - {5} | {-1}
    assert [(bad.row, bad.path) for bad in loader.unreadable] == [(5, str(tmp_path / "5.mp4"))]
    assert "changed since the scan" in loader.unreadable[0].reason
    after = read(config, "val")
    for (clips, _, row_B), (same, _, same_row_B) in zip(before, after, strict=True):
        good = same_row_B >= 0
        np.testing.assert_array_equal(clips[good], same[good])
        np.testing.assert_array_equal(row_B[good], same_row_B[good])


def test_a_video_that_dali_cannot_decode_changes_no_other_clip(tmp_path):
    config = with_section(make_config(write_set(tmp_path, "libvpx-vp9")), "data", decoder="dali_cpu")
    whole = read(config, "val")
    path = tmp_path / "6.mp4"
    damage_packets(path)
    loader = build_loader(config, "val")
    batches = list(map(arrays, loader.epoch(0)))
    loader.close()
    assert [bad.row for bad in loader.unreadable] == [6]
    assert len(batches) == len(whole)
    for (clips, _, row_B), (same, label_B, same_row_B) in zip(whole, batches, strict=True):
        good = same_row_B >= 0
        assert (row_B[~good] == 6).sum() + (row_B[~good] == -1).sum() == (~good).sum()
        assert (label_B[~good] == -1).all()
        np.testing.assert_array_equal(clips[good], same[good])


def test_training_shows_each_video_that_the_scan_found_readable_once_an_epoch(tmp_path):
    source = write_set(tmp_path)
    (tmp_path / "2.mp4").write_text("no video")
    config = with_section(make_config(source), "train", batch=VIDEOS)
    for epoch in range(2):
        ((*_, row_B),) = read(config, epoch=epoch)
        assert sorted(row_B.tolist()) == [-1, *(row for row in range(VIDEOS) if row != 2)]


@pytest.mark.parametrize("ranks", [1, 2])
def test_eval_batch_is_the_size_of_a_batch_over_all_ranks(config, ranks):
    config = with_section(config, "eval", batch=6)
    assert len(read(config, "val", shard=Shard(0, ranks))[0][2]) == 6 // ranks


def test_labels_beyond_the_networks_classes_are_refused(config):
    with pytest.raises(DataError, match=r"label 2 of 2\.mp4 is not below model\.num_classes=2"):
        build_loader(with_section(config, "model", num_classes=2), "train")


def test_an_epoch_with_failed_decoding_continues_at_the_requested_step(config, monkeypatch):
    loader = build_loader(config, "train")
    plain = loader._runner.next

    def failing():
        plain()
        raise DataError("decoding", "scripted to fail")

    batches = loader.epoch(0)
    first = arrays(next(batches))
    with monkeypatch.context() as patched, pytest.raises(DataError, match="scripted"):
        patched.setattr(loader._runner, "next", failing)
        next(batches)
    assert_same([first, *map(arrays, loader.epoch(0, start=1))], read(config))
    loader.close()


def test_a_batch_that_does_not_split_over_the_ranks_is_refused(config):
    with pytest.raises(ConfigError, match="4 clips do not split over 3 ranks"):
        build_loader(config, "train", Shard(0, 3))


def test_ten_crops_mirror_every_second_view(config):
    for clips_BVTCHW, _, row_B in read(with_section(config, "eval", crops="ten", short_side=48), "val"):
        assert clips_BVTCHW.shape[1] == 10
        for clip_VTCHW in clips_BVTCHW[row_B >= 0]:
            np.testing.assert_allclose(clip_VTCHW[0::2], clip_VTCHW[1::2, ..., ::-1], atol=1e-6)


def test_the_synthetic_loader_keeps_the_same_contract(config):
    synthetic = with_section(config, "data", source="synthetic")
    (clips, label_B, row_B), *rest = read(synthetic)
    (real, *_), *_ = read(config)
    assert clips.shape == real.shape
    assert clips.dtype == real.dtype
    np.testing.assert_array_equal(label_B, row_B % 3)
    assert_same(rest, read(synthetic, start=1))


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_synthetic_loader_evaluates_each_row_once_and_pads_with_minus_one(config, ranks):
    synthetic = with_section(with_section(config, "data", source="synthetic"), "train", batch=6)
    steps = [read(synthetic, "val", shard=Shard(rank, ranks)) for rank in range(ranks)]
    rows = np.concatenate([row_B for part in steps for *_, row_B in part])
    labels = np.concatenate([label_B for part in steps for _, label_B, _ in part])
    assert sorted(rows[rows >= 0]) == list(range(1024)) and (rows < 0).sum() == 2
    assert set(labels[rows < 0]) == {-1}


def test_the_setting_that_needs_a_missing_dali_is_named(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "dali_pipes.feed.dali_runner", None)
    with pytest.raises(
        DataError, match=r"clip\.antialias=false: makes clips with NVIDIA DALI, which cannot be imported"
    ):
        build_loader(with_section(config, "clip", antialias=False), "train")


@pytest.mark.parametrize(("waited", "slow"), [(9.0, "the threads that read and decode"), (0.0, "DALI's graph")])
def test_the_slowest_part_of_the_loader_is_named(config, monkeypatch, waited, slow):
    loader = build_loader(with_section(config, "clip", antialias=False), "train")
    runner = loader._runner
    monkeypatch.setattr(runner, "_run", lambda: setattr(runner, "_waited_for_threads", waited) or 0)
    runner._in_flight.append(None)
    runner.next()
    assert loader.slow_part == slow
    loader.close()
