"""Changes between two starts of a run: videos may be lost and settings may change, but not the list."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch

import configs
from configs import ConfigError
from configs.schema import Model, Optim, Train
from dali_pipes.lists.rows import Rows
from dali_pipes.scan.build import load_catalog
from engine.evaluation.accuracy import Result
from engine.files import read_lines
from engine.runs import checkpoint, checkpoint_files
from engine.runs.pages import report
from engine.train import fit, resume, training
from engine.train.run import run
from models import CheckpointError
from tests.support import old_runs, tiny
from tests.support.loading import VIDEOS, build_loader, make_config, write_set


def test_shifts_in_the_same_blocks_are_the_same_setting_however_it_is_written():
    before, after = ({"model.backbone": "resnet50", "model.shift_every": every} for every in (0, 1))
    assert resume.changed_settings(before, after) == []
    with pytest.raises(ConfigError, match="these must not change during a run"):
        resume.changed_settings(before | {"model.backbone": "resnet101"}, after | {"model.backbone": "resnet101"})


def test_results_of_evaluations_that_cannot_be_compared_are_pointed_out():
    before = {"data.val": "a.list", "eval.crops": "center", "eval.batch": 0, "optim.lr": 0.1}
    lines = resume.changed_settings(before, before | {"data.val": "b.list", "eval.crops": "ten", "eval.batch": 4})
    seen = "data.val, eval.crops: best.pt was chosen before this change, and gives way only to a higher result after it"
    assert lines[-1] == seen and len(lines) == 4
    assert resume.changed_settings(before, before | {"optim.lr": 0.2}) == ["optim.lr: 0.1 -> 0.2"]
    assert len(resume.changed_settings(before, before | {"eval.batch": 4})) == 1


def test_a_resumed_run_may_shift_in_another_form_and_does_not_ask_where_it_started_from():
    before = {"model.shift": "auto", "model.pretrained": "imagenet"}
    assert resume.changed_settings(before, {"model.shift": "where", "model.pretrained": "none"}) == [
        "model.shift: auto -> where",
        "model.pretrained: imagenet -> none",
    ]


LIST = Rows(("a.mp4", "b.mp4", "c.mp4", "d.mp4"), (0, 1, 0, 1))


class Listed(SimpleNamespace):
    """The part of a loader that resuming reads."""

    def __len__(self):
        return self.steps


def loader_of(rows=LIST, readable=4, steps=2):
    return Listed(rows=rows, num_rows=len(rows.names), num_videos=readable, steps=steps)


def state_of(rows=LIST, readable=4, steps=2):
    """Return the part of a checkpoint that describes its list."""
    return {"rows": rows.to_state(), "videos": readable, "steps_per_epoch": steps}


def test_lost_and_recovered_videos_are_counted():
    assert resume.changed_list(state_of(), loader_of()) == []
    assert resume.changed_list(state_of(), loader_of(readable=1)) == [
        "4 -> 1 readable videos: all others keep their places"
    ]
    assert resume.changed_list(state_of(readable=3), loader_of())[0].startswith("3 -> 4 readable videos")


def test_videos_that_were_replaced_since_are_named():
    before, now = (replace(LIST, sizes=sizes) for sizes in ((5, 6, 7, 8), (5, 6, 9, 8)))
    (line,) = resume.changed_list(state_of(before), loader_of(now))
    assert line.startswith("1 file has another size, such as c.mp4 (7 -> 9 bytes): the run continues with other videos")


def test_a_list_that_changed_is_refused_with_the_difference():
    relabelled = replace(LIST, labels=(0, 1, 1, 1))
    with pytest.raises(
        ConfigError, match=r"other rows: 1 with another label, such as c\.mp4 \(0 -> 1\); name the list"
    ):
        resume.changed_list(state_of(), loader_of(relabelled))
    shorter = Rows(LIST.names[:3], LIST.labels[:3])
    with pytest.raises(ConfigError, match=r"other rows: 1 gone, such as d\.mp4; .* or choose another train\.name"):
        resume.changed_list(state_of(), loader_of(shorter))


def of_older_version(**how):
    return {name: value for name, value in state_of(**how).items() if name != "rows"}


def test_checkpoints_of_older_versions_resume_if_no_video_was_unreadable():
    assert resume.changed_list(of_older_version(), loader_of()) == []
    assert resume.changed_list(of_older_version(), loader_of(readable=3)) == [
        "4 -> 3 readable videos: all others keep their places"
    ]


def test_checkpoints_of_older_versions_with_unreadable_videos_report_the_difference():
    assert resume.changed_list(of_older_version(readable=3), loader_of(readable=3)) == [
        "3 -> 3 readable videos: the rest of the epoch takes them in another order"
    ]
    with pytest.raises(ConfigError, match="1 -> 2 steps per epoch, maybe because an older version left unreadable"):
        resume.changed_list(of_older_version(readable=3, steps=1), loader_of(readable=3))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the list of a set of 13 videos, and the rows of each step of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "set"
    folder.mkdir()
    videos = Path(write_set(folder))
    finished, rows = train(videos)
    assert finished and len(rows) == 6
    return videos, rows


@pytest.fixture
def videos(whole, tmp_path):
    """Return the list of a copy of that set."""
    return Path(shutil.copytree(whole[0].parent, tmp_path / "set"), "all.list")


def train(videos, *, at=None, act=None, runs=None):
    """Train on a set, or resume; act on the batch of step `at` first. Return (finished, rows of each step)."""
    config = make_config(str(videos))
    settings = replace(
        config,
        model=Model(backbone="resnet18", width=8, num_classes=3, frames=4, pretrained="none"),
        optim=Optim(lr=0.01),
        train=Train(name="run", runs=str(runs or videos.parent.parent), epochs=2, batch=4, log_every=1),
    )
    rows = []

    def open_loader(config, split, where, class_names=(), before=None):
        load_catalog(str(videos), config.data, before=before)
        loader = build_loader(config, split, device=where, class_names=class_names)
        if split == "train":
            tiny.before_step(loader, at, act)
            read_epoch = loader.epoch

            def epoch(number, start=0):
                for batch in read_epoch(number, start):
                    rows.append(batch.index_B.tolist())
                    yield batch

            loader.epoch = epoch
        return loader

    with mock.patch.object(report, "write_if_possible"):
        finished, _ = run(settings, resume=True, open_loader=open_loader)
    return finished, rows


def lose(file):
    file.unlink()


def damage(file):
    file.write_bytes(file.read_bytes()[:200])


@pytest.mark.parametrize("harm", [lose, damage])
def test_a_run_resumes_without_a_video_that_was_lost_while_it_was_stopped(whole, videos, harm, tmp_path):
    _, uninterrupted = whole
    finished, first = train(videos, at=1, act=lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert not finished
    lost = uninterrupted[3][2]
    harm(videos.parent / f"{lost}.mp4")
    finished, second = train(videos)
    assert finished
    assert first + second == [
        [-1 if row == lost and step >= len(first) else row for row in rows] for step, rows in enumerate(uninterrupted)
    ]
    entries = list(read_lines(tmp_path / "run" / "quarantine.jsonl"))
    assert {(entry["split"], entry["row"]) for entry in entries} == {("train", lost), ("val", lost)}
    assert "13 -> 12 readable videos: all others keep their places" in (tmp_path / "run" / "log.txt").read_text()


def test_a_run_on_class_folders_resumes_without_a_lost_file(whole, tmp_path):
    for number in range(VIDEOS):
        (tmp_path / "set" / f"class {number % 3}").mkdir(parents=True, exist_ok=True)
        shutil.copy(whole[0].parent / f"{number}.mp4", tmp_path / "set" / f"class {number % 3}")
    videos = tmp_path / "set"
    _, first = train(videos, at=1, act=lambda _: os.kill(os.getpid(), signal.SIGTERM), runs=tmp_path)
    (videos / "class 0" / "0.mp4").unlink()  # the first row
    finished, second = train(videos, runs=tmp_path)
    assert finished
    after = [row for rows in second for row in rows]
    assert len(first + second) == 6 and -1 in after and max(after) == VIDEOS - 1 and 0 not in after
    entries = list(read_lines(tmp_path / "run" / "quarantine.jsonl"))
    assert ("train", 0, "no such file") in {(entry["split"], entry["row"], entry["reason"]) for entry in entries}


def test_a_run_is_not_resumed_with_a_list_that_changed(videos):
    train(videos, at=1, act=lambda _: os.kill(os.getpid(), signal.SIGTERM))
    lines = videos.read_text().splitlines()
    videos.write_text("\n".join(["0.mp4 2", *lines[1:]]))
    with pytest.raises(ConfigError, match=r"1 with another label, such as 0\.mp4 \(0 -> 2\)"):
        train(videos)
    videos.write_text("\n".join(lines[:-1]))  # as many steps an epoch
    with pytest.raises(ConfigError, match=r"1 gone, such as 12\.mp4"):
        train(videos)


def test_a_file_that_is_no_state_of_a_run_is_refused_with_what_it_lacks(tmp_path):
    checkpoint.save(checkpoint_files.step_file(tmp_path, 1), {"model": {}, "step": "one"}, step=1)
    with pytest.raises(CheckpointError, match=r"is not a checkpoint of a run: it has no optimizer, .*step, "):
        resume.saved_state(tmp_path)
    checkpoint.save(checkpoint_files.step_file(tmp_path, 2), [1, 2], step=2)
    with pytest.raises(CheckpointError, match="is not a checkpoint of a run"):
        resume.saved_state(tmp_path)


@pytest.mark.parametrize("part", ["model", "optimizer"])
def test_tensors_that_do_not_fit_are_refused_in_a_line(part):
    opened = {"open_loader": lambda _, split, __, names=(), before=None: tiny.RowLoader(14, 4, train=split == "train")}
    under_way = training.build(tiny.config(), **opened)
    state = under_way.state()
    huge = torch.zeros(1).expand(2**20, 2**20)
    state[part] = {
        "model": {name: huge for name in state["model"]},
        "optimizer": {"state": {0: {"momentum_buffer": huge}}},
    }[part]
    with pytest.raises(CheckpointError, match="the checkpoint of step 0 does not fit the network: ") as error:
        under_way.restore(state)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("file", sorted(old_runs.FILES.glob("*.pt.xz")), ids=lambda file: file.name)
def test_a_checkpoint_of_every_version_resumes_to_the_same_numbers(file, tmp_path):
    old_runs.unpack(file, tmp_path)
    numbers = old_runs.resume(tmp_path)
    expected = json.loads(file.with_name(file.name.replace(".pt.xz", ".json")).read_text())
    assert len(numbers) == len(expected) == old_runs.STEPS - old_runs.STEP + 1
    for line, wanted in zip(numbers, expected, strict=True):
        assert line == pytest.approx(wanted, rel=1e-4)  # processors round in other ways


def test_there_is_a_checkpoint_of_an_earlier_version():
    assert list(old_runs.FILES.glob("*.pt.xz"))


LAST_EPOCH = {"epochs": 1}
EARLY = {"epochs": 8, "patience": 1}


@pytest.fixture
def no_better(monkeypatch):
    """Give every evaluation the same result."""
    confusion_KK = torch.diag(torch.tensor([2, 2, 1]))
    monkeypatch.setattr(fit, "evaluate", lambda *_: Result(confusion_KK, None, 0.5, 5, []))


@pytest.mark.parametrize("end", [LAST_EPOCH, EARLY], ids=["last epoch", "patience"])
@pytest.mark.parametrize("other", [{"eval": {"clips": 3}}, {"clip": {"flip": 0.25}}, {"train": {"batch": 2}}])
def test_settings_that_a_resumed_run_refuses_do_not_replace_those_of_its_results(tmp_path, other, end, no_better):
    """Neither settings without a further epoch that could use them, nor another batch."""
    settings = {"runs": str(tmp_path), **end}
    loaders = {"train": tiny.RowLoader(14, 4), "val": tiny.RowLoader(5, 4, train=False)}
    tiny.resume(tiny.config(train=settings), loaders)
    files = {name: (tmp_path / "tiny" / name).read_text() for name in ("config.yaml", "env.json", "status.json")}
    changed = {**other, "train": settings | other.get("train", {})}
    with pytest.raises(ConfigError, match=r"^\w+\.\w+: \S+ -> \S+: "):
        tiny.resume(tiny.config(**changed), loaders)
    assert {name: (tmp_path / "tiny" / name).read_text() for name in files} == files


def test_a_run_that_patience_ended_continues_with_other_settings_and_more_patience(tmp_path, no_better):
    settings = {"train": {"runs": str(tmp_path), **EARLY}}
    loaders = {"train": tiny.RowLoader(14, 4), "val": tiny.RowLoader(5, 4, train=False)}
    assert tiny.resume(tiny.config(**settings), loaders)[1].step == 2 * len(loaders["train"])
    with pytest.raises(ConfigError, match=r"ended after 1 evaluation without a new best; .* with a larger train.pat"):
        tiny.resume(tiny.config(**settings, eval={"clips": 3}), loaders)
    settings["train"]["patience"] = 2
    assert tiny.resume(tiny.config(**settings, eval={"clips": 3}), loaders)[1].step == 3 * len(loaders["train"])
    assert configs.load(tmp_path / "tiny/config.yaml").eval.clips == 3


def test_settings_of_further_epochs_replace_those_of_the_finished_ones(tmp_path):
    tiny.finished_run(tmp_path, epochs=1)
    settings = tiny.config(train={"runs": str(tmp_path), "epochs": 2}, clip={"flip": 0.25})
    loaders = {"train": tiny.RowLoader(14, 4), "val": tiny.RowLoader(5, 4, train=False)}
    assert tiny.resume(settings, loaders)[0]
    assert configs.load(tmp_path / "tiny/config.yaml").clip.flip == 0.25


def test_a_run_with_nothing_to_resume_logs_a_message_once(tmp_path, caplog):
    said = f"{tmp_path / 'tiny'} contains no checkpoint to resume; the run starts from the beginning"
    tiny.finished_run(tmp_path, epochs=1)
    assert caplog.messages.count(said) == 1
    tiny.finished_run(tmp_path, epochs=2)
    assert caplog.messages.count(said) == 1
