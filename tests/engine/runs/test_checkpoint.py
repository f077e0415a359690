"""Checkpoints after kills, bit errors, full disks and hostile edits."""

import errno
import hashlib
import io
import json
import multiprocessing
import os
import random
import shutil
import signal
import stat
import zipfile
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch

from engine.output_record import RECORD
from engine.runs import checkpoint, checkpoint_files
from models import CheckpointError
from tests.programs.reliability import kill_loops
from tests.support.files.kills import call_killed_at


def payload(step, size=2000):
    return {"model": {"weight": torch.arange(size, dtype=torch.float32) + step, "count": torch.tensor(3)}, "step": step}


def saved(folder, *steps):
    paths = [checkpoint_files.step_file(folder, step) for step in steps]
    for path, step in zip(paths, steps, strict=True):
        checkpoint.save(path, payload(step), step=step)
    return paths


@pytest.mark.parametrize("refused", [errno.EINVAL, errno.EOPNOTSUPP, errno.EIO])
def test_a_file_system_that_cannot_flush_folders_has_checkpoints_too(tmp_path, monkeypatch, refused):
    def flush(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(refused, os.strerror(refused))

    monkeypatch.setattr(os, "fsync", flush)
    if refused == errno.EIO:
        with pytest.raises(CheckpointError):
            saved(tmp_path, 7)
        return
    (path,) = saved(tmp_path, 7)
    assert checkpoint.load(path)["step"] == 7


def test_a_checkpoint_is_loaded_equal_to_what_was_saved(tmp_path):
    content = payload(7) | {"nested": [{"lr": 0.1, "name": "sgd", "none": None}, (1, 2)]}
    path = checkpoint_files.step_file(tmp_path, 7)
    checkpoint.save(path, content, step=7, top1=0.5)
    loaded = checkpoint.load(path)
    torch.testing.assert_close(loaded.pop("model"), content.pop("model"), rtol=0, atol=0)
    assert loaded == content
    assert checkpoint_files.note(path)["top1"] == 0.5


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def zero_a_page(path):
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(2048))


def truncate(path):
    os.truncate(path, path.stat().st_size - 1)


def empty(path):
    path.write_bytes(b"")


def lose_the_sidecar(path):
    path.with_name(f"{path.name}.json").unlink()


def take_the_sidecar_of_another(path):
    other = path.with_name("step-00000001.pt.json")
    path.with_name(f"{path.name}.json").write_bytes(other.read_bytes())


@pytest.mark.parametrize(
    "harm", [flip_a_bit, zero_a_page, truncate, empty, lose_the_sidecar, take_the_sidecar_of_another]
)
def test_a_damaged_newest_checkpoint_is_passed_over_with_one_warning_that_names_both(tmp_path, harm, caplog):
    older, newest = saved(tmp_path, 1, 2)
    harm(newest)
    assert checkpoint_files.latest(tmp_path) == older
    assert len(caplog.messages) == 1 and older.name in caplog.messages[0] and newest.name in caplog.messages[0]


def test_a_damaged_checkpoint_is_never_loaded(tmp_path):
    (path,) = saved(tmp_path, 1)
    flip_a_bit(path)
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoint.load(path)


def test_no_checkpoints_give_none_and_only_damaged_ones_an_error(tmp_path):
    assert checkpoint_files.latest(tmp_path) is None
    for path in saved(tmp_path, 1, 2):
        truncate(path)
    with pytest.raises(CheckpointError, match="no checkpoint is intact: step-00000002"):
        checkpoint_files.latest(tmp_path)


def test_damaged_newer_checkpoints_are_set_aside(tmp_path):
    older, newest = saved(tmp_path, 1, 2)
    checkpoint_files.set_aside_newer(older)
    assert checkpoint_files.steps(tmp_path) == [older]
    assert newest.with_name("step-00000002.pt.damaged").exists()


def forked(function, *arguments):
    """Start a child process in which torch works without threads, which do not survive a fork."""

    def work():
        torch.set_num_threads(1)
        function(*arguments)

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    return child


def test_a_kill_while_saving_loses_no_finished_checkpoint_and_leaves_no_file():
    found = kill_loops.kill_saves(20, random.Random(0))
    assert (found["lost"], found["files_left"]) == (0, 0) and found["with_an_unfinished_file"] > 0


def test_checkpoints_with_any_kind_of_damage_are_skipped():
    assert kill_loops.damage(8, random.Random(0)) == {"damaged": 8, "stepped_over": 8}


def test_a_kill_between_the_two_renames_leaves_the_older_checkpoint_and_no_damaged_one(tmp_path, monkeypatch, caplog):
    (older,) = saved(tmp_path, 1)
    replace, renamed = Path.replace, []

    def killed_before_the_second(self, target):
        if renamed:
            raise KeyboardInterrupt
        renamed.append(target)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killed_before_the_second)
    with pytest.raises(KeyboardInterrupt):
        saved(tmp_path, 2)
    assert checkpoint_files.latest(tmp_path) == older and not caplog.messages


def save_one(folder: Path) -> None:
    checkpoint.save(checkpoint_files.step_file(folder, 3), payload(3))


def test_only_the_newest_are_kept_and_nothing_else_is_touched(tmp_path):
    saved(tmp_path, 1, 2, 10)
    for mine in ("notes.txt", ".tmp-0123456789abcdef", "step-00000001.pt", "step-00000000.pt"):
        (tmp_path / mine).write_text("mine")
    assert call_killed_at(4, tmp_path, save_one, tmp_path) == -signal.SIGKILL
    assert len(list(tmp_path.glob(".tmp-*"))) > 1
    checkpoint_files.tidy(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".tmp-0123456789abcdef",
        RECORD,
        "notes.txt",
        "step-00000000.pt",
        "step-00000001.pt",
        *(f"step-{step:08d}.pt{end}" for step in (2, 10) for end in ("", ".json")),
    ]


def test_an_old_checkpoint_that_cannot_be_removed_is_a_warning(tmp_path, monkeypatch, caplog):
    saved(tmp_path, 1, 2, 3)
    monkeypatch.setattr(Path, "unlink", mock.Mock(side_effect=PermissionError(errno.EPERM, "Operation not permitted")))
    checkpoint_files.tidy(tmp_path, keep=2)
    removal = "step-00000001.pt{} cannot be removed: Operation not permitted"
    assert [message.partition("/step")[2] for message in caplog.messages] == [
        removal.format(end).removeprefix("step") for end in ("", ".json")
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_written(tmp_path, value):
    content = payload(1)
    content["model"]["weight"][5] = value
    with pytest.raises(CheckpointError, match="weight contains values that are not finite"):
        checkpoint.save(checkpoint_files.step_file(tmp_path, 1), content)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_with_too_little_room_is_an_error_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=5 * 2**20))
    with pytest.raises(CheckpointError, match=r"5\.0 MiB free, but a checkpoint needs"):
        checkpoint.save(checkpoint_files.step_file(tmp_path, 1), payload(1, size=2_000_000))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_while_writing_leaves_the_older_checkpoint_and_no_half_one(tmp_path):
    """RLIMIT_FSIZE stands for a disk that fills up after the check of free space: the write itself fails."""

    def save_under_limit():
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
        checkpoint.lack_of_room = lambda *_: None
        try:
            checkpoint.save(checkpoint_files.step_file(tmp_path, 2), payload(2, size=500_000))
        except CheckpointError as error:
            (tmp_path / "error").write_text(str(error))

    (older,) = saved(tmp_path, 1)
    forked(save_under_limit).join()
    assert "cannot be written" in (tmp_path / "error").read_text()
    assert checkpoint_files.latest(tmp_path) == older and not list(tmp_path.glob(".tmp-*"))


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Canary:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "canary"),)

    path = checkpoint_files.step_file(tmp_path, 1)
    checkpoint.save(path, payload(1) | {"extra": Canary()})
    with pytest.raises(CheckpointError, match=r"asks for .*mkdir.*; nothing was run"):
        checkpoint.load(path)
    assert not (tmp_path / "canary").exists()


def vouched_for(path, content):
    """Write a checkpoint of these bytes with a valid sidecar."""
    path.write_bytes(content)
    facts = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    checkpoint_files.sidecar(path).write_text(json.dumps(facts))
    return path


def test_a_checkpoint_that_would_grow_or_is_text_is_refused_though_its_sidecar_fits(tmp_path):
    (plain,) = saved(tmp_path, 1)
    packed = io.BytesIO()
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, bytes(2**24) if "/data/" in entry.filename else source.read(entry))
    path = vouched_for(checkpoint_files.step_file(tmp_path, 2), packed.getvalue())
    with pytest.raises(CheckpointError, match=r"bytes that unpack to \d+, .*; resume from another checkpoint"):
        checkpoint.load(path)
    path = vouched_for(checkpoint_files.step_file(tmp_path, 3), b"404 not found\n" * 100)
    with pytest.raises(CheckpointError, match="is not a file of weights: it begins with '404 not found"):
        checkpoint.load(path)


@pytest.mark.parametrize("content", ["[" * 100_000, "7", "[7]", " " * 2**21])
def test_an_invalid_sidecar_is_damage(tmp_path, content):
    (path,) = saved(tmp_path, 1)
    checkpoint_files.sidecar(path).write_text(content)
    assert "its sidecar step-00000001.pt.json is missing or unreadable" in checkpoint_files.damage(path)
    assert checkpoint_files.note(path) == {}


def test_the_sidecar_records_step_and_size(tmp_path):
    (path,) = saved(tmp_path, 4)
    facts = json.loads(path.with_name("step-00000004.pt.json").read_text())
    assert facts["step"] == 4 and facts["bytes"] == path.stat().st_size
