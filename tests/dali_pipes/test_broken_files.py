"""Broken files in a set change nothing but the report: the same clips in the same order, and training finishes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from dali_pipes import Shard
from dali_pipes.scan.build import load_catalog
from tests.support.loading import build_loader, make_config, read, with_section
from tests.support.paths import ROOT
from tests.support.videos import write_video

pytestmark = pytest.mark.processes

WHOLE, CLASSES = 63, 3
WAS_WHOLE = "whole-"  # prefix of a whole file that a broken one replaces


def write_audio(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_trackless(path: Path, whole: Path) -> None:
    """Write a video track without pictures."""
    with av.open(str(whole)) as source, av.open(str(path), "w") as container:
        container.add_stream_from_template(source.streams.video[0])
        container.start_encoding()


def flip_bits(path: Path, whole: Path) -> None:
    """Damage the pictures and keep the index, so that only decoding detects it."""
    content = bytearray(whole.read_bytes())
    start, end = content.index(b"mdat") + 100, len(content) - 10
    for place in np.random.default_rng(0).integers(start, end, 60):
        content[place] ^= 0xFF
    path.write_bytes(content)


def damage_end(path: Path) -> None:
    """Damage the last keyframe after its header."""
    with av.open(str(path)) as source:
        *_, last = (packet for packet in source.demux(video=0) if packet.is_keyframe)
        start, stop = last.pos + 40, last.pos + last.size
    content = path.read_bytes()
    path.write_bytes(content[:start] + bytes(byte ^ 0xFF for byte in content[start:stop]) + content[stop:])


BROKEN = {  # name: how it is made from a whole file, and part of the reason
    "empty.mp4": (lambda path, whole: path.write_bytes(b""), "is empty"),
    "text.mp4": (lambda path, whole: path.write_text("404 not found"), "not a video"),
    "head.mp4": (lambda path, whole: path.write_bytes(whole.read_bytes()[3000:]), "not a video"),
    "tail.mp4": (lambda path, whole: path.write_bytes(whole.read_bytes()[:3000]), "is cut short"),
    "audio.mp4": (lambda path, whole: write_audio(path), "only audio"),
    "pictureless.mp4": (write_trackless, "contains no video"),
    "flipped.mp4": (flip_bits, "damaged"),
}


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Return two lists of the same rows: one of whole files, and one in which a tenth of them are broken."""
    folder = tmp_path_factory.mktemp("broken")
    for number in range(WHOLE):
        write_video(folder / f"{number}.mp4", "libx264", 10 + number % 7, gop=4, options={"movflags": "faststart"})
    shutil.copy(write_video(folder / "spare.mp4", "libx264", 40, gop=4), folder / "model.mp4")
    mixed = [f"{number}.mp4 {number % CLASSES}" for number in range(WHOLE)]
    for place, (name, (damage, _)) in enumerate(BROKEN.items()):
        damage(folder / name, folder / "model.mp4")
        mixed.insert(place * 10, f"{name} {place % CLASSES}")
        shutil.copy(folder / "model.mp4", folder / f"{WAS_WHOLE}{name}")
    good = [f"{WAS_WHOLE}{line}" if line.split()[0] in BROKEN else line for line in mixed]
    for name, lines in (("good", good), ("mixed", mixed)):
        (folder / f"{name}.list").write_text("".join(f"{line}\n" for line in lines))
    return folder / "good.list", folder / "mixed.list"


def config_of(source: Path, check: str = "full"):
    config = with_section(make_config(str(source)), "data", check=check)
    load_catalog(str(source), config.data)
    return config


def samples(source: Path, split: str, shard: Shard) -> list[tuple]:
    """List (name, label, clip) of all places of an epoch; the name of an empty place is None."""
    names = [line.split()[0] for line in source.read_text().splitlines()] + [None]
    batches = read(config_of(source), split, shard=shard)
    return [(names[row], label, clip) for batch in batches for clip, label, row in zip(*batch, strict=True)]


def assert_same_samples(some, others):
    assert [sample[:2] for sample in some] == [sample[:2] for sample in others]
    for (*_, clip), (*_, other) in zip(some, others, strict=True):
        np.testing.assert_array_equal(clip, other)


def test_each_broken_file_is_named_once_with_its_reason(sets):
    _, mixed = sets
    catalog = load_catalog(str(mixed), config_of(mixed).data)
    found = {Path(path).name: reason for _, path, reason in catalog.unreadable}
    assert set(found) == set(BROKEN)
    for name, (_, reason) in BROKEN.items():
        assert reason in found[name], f"{name}: {found[name]}"
    quarantine = mixed.with_name("mixed.list.scan") / "quarantine.jsonl"
    lines = [json.loads(line) for line in quarantine.read_text().splitlines()]
    assert sorted(Path(line["path"]).name for line in lines) == sorted(BROKEN)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_broken_files_leave_empty_places_in_training_and_move_no_other_video(sets, ranks):
    for rank in range(ranks):
        good, mixed = (samples(source, "train", Shard(rank, ranks)) for source in sets)
        assert len(good) == len(mixed) > 0
        kept = [sample for sample in good if not sample[0].startswith(WAS_WHOLE)]
        places = [not name.startswith(WAS_WHOLE) for name, *_ in good]
        assert [name is not None for name, *_ in mixed] == [label >= 0 for _, label, _ in mixed] == places
        assert_same_samples(kept, [sample for sample in mixed if sample[0]])


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_broken_files_do_not_change_the_evaluation_of_readable_files(sets, ranks):
    def evaluated(source):
        everything = [sample for rank in range(ranks) for sample in samples(source, "val", Shard(rank, ranks))]
        whole = [sample for sample in everything if sample[0] and not sample[0].startswith(WAS_WHOLE)]
        return sorted(whole, key=lambda sample: sample[0])

    good, mixed = map(evaluated, sets)
    assert len(good) == WHOLE
    assert_same_samples(good, mixed)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_evaluation_yields_each_readable_video_of_a_class_once(sets, ranks):
    config = config_of(sets[1])
    labels = [label_B for rank in range(ranks) for _, label_B, _ in read(config, "val", shard=Shard(rank, ranks))]
    counted = np.concatenate(labels)
    assert np.bincount(counted[counted >= 0]).tolist() == [WHOLE // CLASSES] * CLASSES


def test_the_place_of_a_broken_file_repeats_a_readable_clip(sets):
    """Batch norms use all clips of a batch, so none may be blank."""
    filled = 0
    for clip_B, _, row_B in read(config_of(sets[1]), "train"):
        readable = [clip.tobytes() for clip in clip_B[row_B >= 0]]
        filled += (row_B < 0).sum()
        assert all(clip.tobytes() in readable for clip in clip_B[row_B < 0])
    assert filled >= len(BROKEN) - 1


def test_a_batch_does_not_depend_on_what_was_found_broken_before_it(tmp_path):
    """A resumed run does not know earlier failures, and some clips of a broken video can be read."""
    lines = [f"{number}.mp4 {number % CLASSES}" for number in range(6)]
    for number in range(6):
        write_video(tmp_path / f"{number}.mp4", "libx264", 48, gop=4, options={"movflags": "faststart"})
    damage_end(tmp_path / "2.mp4")
    (tmp_path / "some.list").write_text("".join(f"{line}\n" for line in lines))
    config = config_of(tmp_path / "some.list", check="demux")

    def shown(loader, epoch):
        return [batch.index_B.tolist() for batch in loader.epoch(epoch)]

    uninterrupted = build_loader(config, "train")
    found = [shown(uninterrupted, epoch) for epoch in range(6)]
    uninterrupted.close()
    assert 1 <= sum(any(2 in rows for rows in epoch) for epoch in found[1:]) <= 4, "in some epochs, but not in all"
    for epoch in range(1, 6):
        resumed = build_loader(config, "train")
        assert shown(resumed, epoch) == found[epoch]
        resumed.close()


def test_damage_that_only_decoding_finds_is_named_when_it_is_met(sets):
    config = config_of(sets[1], check="demux")
    loader = build_loader(config, "val")
    seen = sum(int((batch.index_B >= 0).sum()) for _ in range(2) for batch in loader.epoch(0))
    reasons = [bad.reason for bad in loader.unreadable if bad.path.endswith("flipped.mp4")]
    loader.close()
    assert seen == 2 * WHOLE
    assert len(reasons) == 1


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_training_with_broken_files_finishes(sets, tmp_path, ranks):
    settings = {
        "model": {"backbone": "resnet18", "width": 8, "num_classes": CLASSES, "frames": 4, "pretrained": "none"},
        "data": {"train": str(sets[1]), "val": str(sets[1]), "decoder": "pyav", "max_bad_fraction": 0.2},
        "clip": {"size": 32},
        "eval": {"short_side": 40},
        "optim": {"lr": 0.01},
        "train": {"name": f"broken{ranks}", "epochs": 1, "batch": 8, "runs": str(tmp_path)},
        "runtime": {"device": "cpu", "precision": "fp32", "threads": 1},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(settings))
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    command = [sys.executable, *launch, "train.py", "--config", str(tmp_path / "recipe.yaml")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr[-2000:]
    run = tmp_path / f"broken{ranks}"
    lines = [json.loads(line) for line in (run / "quarantine.jsonl").read_text().splitlines()]
    of_training = [Path(line["path"]).name for line in lines if line["split"] == "train"]
    assert len(of_training) == len(set(of_training))
    assert set(BROKEN) - {"flipped.mp4"} <= set(of_training) <= set(BROKEN)
