"""Whole small runs: stopped and resumed anywhere, interrupted, diverging, with bad data, on a full disk."""

import errno
import json
import math
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import configs
from configs import ConfigError
from dali_pipes import DataError
from engine import distributed, runtime
from engine.evaluation.accuracy import Result
from engine.files import read_lines
from engine.runs import checkpoint, checkpoint_files
from engine.runs.run_folder import RunFolder
from engine.train import fit, training
from models import CheckpointError, build_model, load_weights
from tests.support import tiny

STEPS, EPOCHS = 3, 2  # 14 rows in batches of 4


@dataclass
class Trainer:
    """The tiny run in a folder, started or resumed by each call."""

    folder: Path
    rows: int = 14
    train_bad: tuple = ()
    settings: dict = field(default_factory=dict)

    def __call__(self, *, before=None, act=None):
        """Train until the end or until stopped, acting on the batch of step `before` first; (end reached?, weights)."""
        settings = tiny.config(**{"train": {"runs": str(self.folder)}, **self.settings})
        loaders = {"train": tiny.RowLoader(self.rows, 4, bad=self.train_bad), "val": tiny.RowLoader(5, 4, train=False)}
        self.starts = loaders["train"].epochs
        tiny.before_step(loaders["train"], before, act)
        finished, under_way = tiny.resume(settings, loaders)
        return finished, tiny.weights_of(under_way)

    def status(self):
        return json.loads((self.folder / "tiny" / "status.json").read_text())

    def metrics(self, kind):
        """Return the recorded numbers that do not depend on the speed of the machine."""
        names = ("step", "loss", "top1", "lr", "grad_norm")
        lines = read_lines(self.folder / "tiny" / "metrics.jsonl")
        return [{name: line.get(name) for name in names} for line in lines if line["_type"] == kind]


def build(**how):
    """Build the tiny training."""
    opened = {"open_loader": lambda _, split, __, names=(), before=None: tiny.RowLoader(14, 4, train=split == "train")}
    return training.build(tiny.config(), **opened, **how)


def poison(batch):
    """Fill a batch with NaN, as a broken file or too high a rate would."""
    batch.clips_BVTCHW[:] = float("nan")


def assert_identical(weights, others):
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.fixture
def trainer(tmp_path):
    return Trainer(tmp_path)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Return a run without interruption, with its `weights`."""
    whole = Trainer(tmp_path_factory.mktemp("uninterrupted"))
    finished, whole.weights = whole()
    assert finished
    return whole


@pytest.mark.parametrize("step", range(STEPS * EPOCHS))
def test_stopping_at_any_step_and_resuming_gives_the_same_weights_and_numbers(trainer, uninterrupted, step):
    finished, _ = trainer(before=step, act=tiny.terminate)
    assert not finished
    assert (trainer.status()["state"], trainer.status()["step"]) == ("preempted", step + 1)
    finished, weights = trainer()
    assert finished and trainer.status()["state"] == "finished"
    assert_identical(weights, uninterrupted.weights)
    assert trainer.metrics("val") == uninterrupted.metrics("val")
    assert trainer.metrics("train")[-1]["step"] == STEPS * EPOCHS


PP_TSM = {"backbone": "resnet50_vd", "width": 8, "leaky_slope": 0.01}
PADDLES = {"nesterov": True, "schedule": "cosine", "milestones": (), "warmup_epochs": 1.0, "label_smoothing": 0.1}
SETTINGS = {
    "averaged, mixed, in parts": {"train": {"ema": 0.9, "mixup": 0.2, "cutmix": 1.0, "accumulate": 2}},
    "PP-TSM": {"model": PP_TSM, "optim": PADDLES, "train": {"mixup": 0.2, "precise_bn": 2, "precise_bn_every": 1}},
    "recomputed": {"runtime": {"recompute": True}, "train": {"partial_bn": True}},
    "precise average": {"train": {"ema": 0.5, "precise_bn": 1, "precise_bn_every": 1, "accumulate": 4}},
}


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("averaged, mixed, in parts", 0),
        ("averaged, mixed, in parts", STEPS - 1),
        ("averaged, mixed, in parts", STEPS),
        ("PP-TSM", STEPS),
        ("recomputed", 0),
        ("precise average", STEPS - 1),
    ],
)
def test_resuming_is_exact_whatever_is_set(tmp_path, name, step):
    settings = SETTINGS[name]

    def trained(name, *stops):
        folder = tmp_path / name
        one = Trainer(folder, settings=settings | {"train": {"runs": str(folder), **settings["train"]}})
        for stop in stops:
            assert not one(before=stop, act=tiny.terminate)[0]
        return one()[1], one.metrics("val")

    (weights, accuracies), (others, expected) = trained("whole"), trained("parts", step)
    assert_identical(weights, others)
    assert accuracies == expected and len(accuracies) == EPOCHS


def test_averaged_weights_are_what_is_evaluated_and_kept_as_the_best(trainer, monkeypatch):
    trainer.settings = {"train": {"runs": str(trainer.folder), "epochs": 1, "ema": 0.9}}
    seen = []
    monkeypatch.setattr(fit, "evaluate", lambda model, *how: seen.append(model.fc.weight.clone()) or scored(3))
    _, weights = trainer()
    assert torch.equal(seen[0], weights["average.fc.weight"])
    assert not torch.equal(seen[0], weights["fc.weight"])
    model = build_model(tiny.config().model)
    load_weights(model, trainer.folder / "tiny" / "best.pt")
    assert torch.equal(model.fc.weight, seen[0])


def test_an_average_with_no_memory_equals_the_last_weights(trainer):
    trainer.settings = {"train": {"runs": str(trainer.folder), "epochs": 1, "ema": 1e-12}}
    _, weights = trainer()
    torch.testing.assert_close(weights["average.fc.weight"], weights["fc.weight"])


def test_an_average_begins_where_a_run_is_resumed_with_one(trainer, caplog):
    trainer(before=1, act=tiny.terminate)
    trainer.settings = {"train": {"runs": str(trainer.folder), "ema": 0.9}}
    _, weights = trainer()
    assert any("train.ema: 0.0 -> 0.9" in line for line in caplog.messages)
    assert all(tensor.isfinite().all() for tensor in weights.values())
    assert not torch.equal(weights["average.fc.weight"], weights["fc.weight"])


def test_resuming_reads_no_batch_that_was_trained_on(trainer):
    trainer(before=1, act=tiny.terminate)
    trainer()
    assert trainer.starts == [(0, 2), (1, 0)]


def test_falling_back_to_an_older_checkpoint_gives_the_same_end(trainer, uninterrupted, caplog):
    trainer(before=4, act=tiny.terminate)
    newest = checkpoint_files.steps(trainer.folder / "tiny" / "checkpoints")[0]
    os.truncate(newest, 100)
    _, weights = trainer()
    assert any("falling back to" in line for line in caplog.messages)
    assert not newest.exists()  # set aside, so that it does not count as one of the newest that are kept
    assert_identical(weights, uninterrupted.weights)
    assert trainer.metrics("train") == uninterrupted.metrics("train")


def test_tensorboard_shows_what_metrics_hold_also_of_a_run_that_went_back_to_its_last_checkpoint(trainer):
    with pytest.raises(ZeroDivisionError):
        trainer(before=5, act=lambda batch: 1 / 0)  # stopped at step 5, resumed at step 3
    trainer()
    board = EventAccumulator(str(trainer.folder / "tiny" / "tb")).Reload()
    lines = list(read_lines(trainer.folder / "tiny" / "metrics.jsonl"))
    assert {tag.partition("/")[0] for tag in board.Tags()["scalars"]} == {"train", "val"}
    for kind, name in (("train", "loss"), ("train", "lr"), ("val", "top1")):
        shown = [(event.step, event.value) for event in board.Scalars(f"{kind}/{name}")]
        assert shown == [(line["step"], pytest.approx(line[name])) for line in lines if line["_type"] == kind]


def test_a_run_whose_folder_is_deleted_trains_to_its_end_and_fails_with_what_it_cannot_write(trainer, caplog):
    last = r"step-00000006.pt: cannot be written \(No such file or directory; .* MiB free\); .* MiB are needed"
    with pytest.raises(CheckpointError, match=last):
        trainer(before=2, act=lambda batch: shutil.rmtree(trainer.folder / "tiny"))
    assert len([line for line in caplog.messages if "metrics.jsonl: cannot be written" in line]) == 1


def test_a_run_continues_on_a_read_only_disk_and_writes_again_afterwards(trainer, uninterrupted, monkeypatch, caplog):
    open_file, refusals = Path.open, iter(range(4))

    def refuse(self, mode="r", *how, **more):
        if "x" in mode and next(refusals, None) is not None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))
        return open_file(self, mode, *how, **more)

    _, weights = trainer(before=2, act=lambda batch: monkeypatch.setattr(Path, "open", refuse))
    assert_identical(weights, uninterrupted.weights)
    assert next(refusals, None) is None and "Read-only file system" in caplog.text
    assert checkpoint_files.latest(trainer.folder / "tiny" / "checkpoints").name == "step-00000006.pt"


def test_resuming_a_finished_run_changes_nothing(trainer):
    _, weights = trainer()
    before = (trainer.folder / "tiny" / "metrics.jsonl").read_text()
    finished, again = trainer()
    assert finished and trainer.starts == []
    assert_identical(weights, again)
    assert (trainer.folder / "tiny" / "metrics.jsonl").read_text() == before


def test_a_resumed_run_repeats_the_evaluation_that_a_kill_prevented(trainer, uninterrupted):
    trainer()
    metrics = trainer.folder / "tiny" / "metrics.jsonl"
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:-1]))
    assert len(trainer.metrics("val")) == EPOCHS - 1
    trainer()
    assert trainer.metrics("val") == uninterrupted.metrics("val")


def test_best_weights_are_those_of_the_first_best_evaluation(trainer, monkeypatch):
    trainer.settings = {"train": {"runs": str(trainer.folder), "epochs": 5}}
    hits = iter([1, 3, 2, 3, 1])
    monkeypatch.setattr(fit, "evaluate", lambda model, loader, config: scored(next(hits)))
    trainer()
    best = trainer.folder / "tiny" / "best.pt"
    assert [line["top1"] for line in trainer.metrics("val")] == [0.2, 0.6, 0.4, 0.6, 0.2]
    assert checkpoint_files.note(best)["top1"] == 0.6
    assert checkpoint.load(best)["step"] == 2 * STEPS
    kept = {which: json.loads((best.parent / f"val_{which}.json").read_text()) for which in ("last", "best")}
    assert (kept["last"]["step"], kept["best"]["step"]) == (5 * STEPS, 2 * STEPS)
    assert Result.from_json(kept["best"]).to_json() == scored(3).to_json()


def test_the_newest_weights_have_a_fixed_name_and_no_optimizer_state(trainer):
    _, weights = trainer()
    last = checkpoint.load(trainer.folder / "tiny" / "last.pt")
    assert last["step"] == EPOCHS * STEPS and "optimizer" not in last
    assert all(torch.equal(last["model"][name], weights[name]) for name in last["model"])


def test_a_resumed_run_numbers_classes_as_its_checkpoint_does():
    asked = []

    def open_loader(config, split, device, class_names, before=None):
        asked.append((split, class_names))
        loader = tiny.RowLoader(14, 4, train=split == "train")
        loader.class_names = ("c", "a", "b")
        return loader

    state = build().state()
    training.build(tiny.config(), open_loader=open_loader, state=state | {"class_names": ("c", "a", "b")})
    training.build(tiny.config(), open_loader=open_loader)
    assert asked == [
        ("train", ("c", "a", "b")),
        ("val", ("c", "a", "b")),
        ("train", ()),
        ("val", ("c", "a", "b")),
    ]


def test_best_weights_that_are_damaged_are_replaced_by_the_next(trainer, monkeypatch):
    best = trainer.folder / "tiny" / "best.pt"
    hits = iter([3, 1])

    def damaging(model, loader, config):
        if best.exists():
            os.truncate(best, 100)
        return scored(next(hits))

    monkeypatch.setattr(fit, "evaluate", damaging)
    trainer()
    assert checkpoint.load(best)["step"] == 2 * STEPS
    assert checkpoint_files.note(best)["top1"] == 0.2


def scored(hits):
    """Return the result of an evaluation of five videos of one class, `hits` of them right."""
    return Result(torch.tensor([[hits, 5 - hits], [0, 0]]), None, 1.0, 5, [])


def test_each_step_is_seeded_by_seed_step_and_rank(trainer, monkeypatch):
    seeded = []
    monkeypatch.setattr(runtime, "seed_step", lambda *of: seeded.append(of))
    trainer.settings = {"train": {"runs": str(trainer.folder), "seed": 7}}
    trainer()
    assert seeded == [(7, step, 0) for step in range(STEPS * EPOCHS)]


def test_the_average_is_updated_at_each_step(trainer, monkeypatch):
    told = []
    monkeypatch.setattr("engine.train.optim.EmaWeights.update", lambda average, step: told.append(step))
    trainer.settings = {"train": {"runs": str(trainer.folder), "ema": 0.5}}
    trainer()
    assert told == list(range(STEPS * EPOCHS))


@pytest.mark.parametrize(("clip_norm", "max_norm", "parts"), [(0.5, 0.5, 2), (0, math.inf, 1)])
def test_steps_clip_gradients_and_take_parts_as_is_set(trainer, monkeypatch, clip_norm, max_norm, parts):
    seen, take = set(), training.train_step

    def watched(*given):
        settings = given[5]
        seen.add((settings.max_norm, settings.parts))
        return take(*given)

    monkeypatch.setattr(training, "train_step", watched)
    train = {"runs": str(trainer.folder), "epochs": 1, "accumulate": parts}
    trainer.settings = {"train": train, "optim": {"clip_norm": clip_norm}}
    trainer()
    assert seen == {(max_norm, parts)}


def test_the_wait_for_data_is_that_of_the_rank_that_waited_most_and_its_cause_is_named(trainer, monkeypatch, caplog):
    caplog.set_level("INFO")
    ranks = [(0.25, "nothing", 5), (0.75, "the disk", 3), (0.5, "nothing", 9)]  # and the memory of each
    monkeypatch.setattr(distributed, "gather", lambda value: ranks if isinstance(value, tuple) else [value])
    trainer()
    lines = list(read_lines(trainer.folder / "tiny" / "metrics.jsonl"))
    assert {line["data_fraction"] for line in lines if line["_type"] == "train"} - {None} == {0.75}
    assert {line["memory"] for line in lines if line["_type"] == "train"} == {9}
    assert "(data 75 %)" in caplog.text and "| waiting for the disk" in caplog.text


def test_dropout_differs_from_step_to_step():
    torch.manual_seed(0)
    masks = []
    for step in range(2):
        runtime.seed_step(0, step, 0)
        masks.append(torch.nn.functional.dropout(torch.ones(64), 0.5))
    assert not torch.equal(*masks)


def test_checkpoints_by_the_clock_resume_to_the_same_end(trainer):
    trainer.settings = {"train": {"runs": str(trainer.folder / "whole"), "checkpoint_minutes": 0.0}}
    _, whole = trainer()
    trainer.settings = {"train": {"runs": str(trainer.folder), "checkpoint_minutes": 1e-9}}
    with pytest.raises(ZeroDivisionError):
        trainer(before=5, act=lambda batch: 1 / 0)
    saved = trainer.folder / "tiny" / "checkpoints"
    finished = [path.name for path in checkpoint_files.steps(saved)]
    assert finished[0] == "step-00000005.pt"
    trainer.settings["train"]["checkpoint_minutes"] = 0.0
    _, weights = trainer()
    assert trainer.starts[0] == (1, 2)
    assert all(torch.equal(whole[name], weights[name]) for name in whole)


def test_a_resumed_run_counts_its_steps_and_checkpoints_from_the_step_of_the_resumption(trainer):
    trainer(before=3, act=tiny.terminate)
    with pytest.raises(
        FloatingPointError, match=r"the loss is not finite, first in step 5, .* last good .*step-00000004\.pt"
    ):
        trainer(before=4, act=poison)


def test_too_many_unreadable_videos_stop_the_run_with_their_names(trainer):
    trainer.train_bad = (2, 9)
    with pytest.raises(
        DataError, match=r"2 of 14 training videos cannot be read, more than .*0\.01 allows; the first: 2\.mp4"
    ):
        trainer()


def test_an_allowed_number_of_unreadable_videos_is_quarantined_once_and_skipped(trainer):
    trainer.train_bad = (2, 9)
    trainer.settings = {"data": {"max_bad_fraction": 2 / 14}, "train": {"runs": str(trainer.folder), "epochs": 4}}
    finished, weights = trainer()
    entries = read_lines(trainer.folder / "tiny" / "quarantine.jsonl")
    assert finished and sorted(entry["row"] for entry in entries) == [2, 9]
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_a_divided_list_allows_its_training_side_what_it_allows_the_whole(trainer):
    trainer.train_bad = (2, 9)
    data = {"max_bad_fraction": 0.1, "divided": 20}  # 14 of the 20 videos are trained on
    trainer.settings = {"data": data, "train": {"runs": str(trainer.folder), "epochs": 1}}
    finished, _ = trainer()
    assert finished


def fail_to_save(monkeypatch, failing_step, name="step"):
    save = checkpoint.save

    def saving(path, payload, **note):
        if payload["step"] == failing_step and path.name.startswith(name):
            raise CheckpointError(f"{path}: cannot be written")
        save(path, payload, **note)

    monkeypatch.setattr(checkpoint, "save", saving)


def test_training_continues_if_a_checkpoint_cannot_be_written(trainer, monkeypatch):
    fail_to_save(monkeypatch, STEPS)
    finished, _ = trainer()
    assert finished
    log = (trainer.folder / "tiny" / "log.txt").read_text()
    assert " WARNING " in log and "step-00000003.pt: cannot be written" in log


def test_the_result_of_best_weights_is_that_of_those_which_could_be_written(trainer, monkeypatch):
    trainer.settings = {"train": {"runs": str(trainer.folder), "epochs": 3}}
    hits = iter([1, 3, 1])
    monkeypatch.setattr(fit, "evaluate", lambda model, loader, config: scored(next(hits)))
    fail_to_save(monkeypatch, 2 * STEPS, "best")
    trainer()
    best = trainer.folder / "tiny" / "best.pt"
    assert checkpoint.load(best)["step"] == STEPS
    assert json.loads((best.parent / "val_best.json").read_text())["step"] == STEPS


def test_a_resumed_run_writes_the_best_result_that_a_kill_prevented(trainer, monkeypatch):
    place, result = trainer.folder / "tiny" / "val_best.json", RunFolder.result

    def killed(run, which, content):
        if which == "best" and content["step"] == STEPS:
            raise KeyboardInterrupt
        result(run, which, content)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunFolder, "result", killed)
        trainer()
    assert not place.exists() and checkpoint.load(place.with_name("best.pt"))["step"] == STEPS
    trainer()
    assert json.loads(place.read_text())["step"] == checkpoint.load(place.with_name("best.pt"))["step"]


def test_a_last_checkpoint_that_cannot_be_written_is_an_error(trainer, monkeypatch):
    fail_to_save(monkeypatch, STEPS * EPOCHS)
    with pytest.raises(CheckpointError, match=r"step-00000006\.pt: cannot be written"):
        trainer()
    assert trainer.status()["state"] == "failed"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": {"frames": 1}}, "model.frames: 2 -> 1: these must not change during a run"),
        ({"train": {"seed": 5}}, "train.seed: 0 -> 5: these must not change during a run"),
        ({"train": {"batch": 2}}, "train.batch: 4 -> 2: these must not change during a run"),
        ({"clip": {"repeats": 2}}, "clip.repeats: 1 -> 2: these must not change during a run"),
    ],
)
def test_a_run_is_not_resumed_with_other_training_settings(trainer, changed, message):
    trainer(before=1, act=tiny.terminate)
    trainer.settings = changed | {"train": {"runs": str(trainer.folder), **changed.get("train", {})}}
    with pytest.raises(ConfigError, match=message):
        trainer()


def test_other_settings_may_change_and_are_listed(trainer, caplog):
    trainer(before=1, act=tiny.terminate)
    trainer.settings = {"optim": {"lr": 0.01}}
    trainer()
    assert any("optim.lr: 0.05 -> 0.01" in line for line in caplog.messages)
    assert trainer.metrics("train")[-1]["lr"] == pytest.approx(0.001)


def test_a_resumed_run_uses_its_new_decay_and_factors(trainer):
    trainer(before=1, act=tiny.terminate)
    trainer.settings = {"optim": {"weight_decay": 0.03, "fc_lr_mult": (2.0, 3.0)}}
    trainer(before=3, act=tiny.terminate)
    state = checkpoint.load(checkpoint_files.latest(trainer.folder / "tiny" / "checkpoints"))
    groups = {group["kind"]: group for group in state["optimizer"]["param_groups"]}
    assert groups["weight"]["weight_decay"] == 0.03
    assert (groups["fc weight"]["lr_mult"], groups["fc bias"]["lr_mult"]) == (2.0, 3.0)


def test_a_run_may_resume_in_fp16(trainer, monkeypatch):
    """A run may begin on a CPU and continue on a GPU."""
    trainer(before=1, act=tiny.terminate)
    monkeypatch.setattr(runtime, "grad_scaler", lambda _: torch.amp.GradScaler("cpu"))
    finished, _ = trainer()
    assert finished


def test_the_scale_of_the_loss_is_what_it_was_when_a_run_was_stopped(monkeypatch):
    monkeypatch.setattr(runtime, "grad_scaler", lambda _: torch.amp.GradScaler("cpu", init_scale=8.0))
    state = build().state()
    monkeypatch.setattr(runtime, "grad_scaler", lambda _: torch.amp.GradScaler("cpu"))
    resumed = build(state=state)
    assert resumed.scaler.get_scale() == 8


def test_a_run_logs_the_rate_scaled_to_its_batch(trainer, caplog):
    trainer.settings = {"optim": {"lr": 0.1, "lr_for_batch": 8}}
    trainer()
    assert "learning rate 0.05 = 0.1 x 4 / 8" in caplog.messages
    assert trainer.metrics("train")[0]["lr"] == pytest.approx(0.05)


def test_losses_are_means_over_the_steps_between_two_lines(trainer):
    trainer.settings = {"train": {"runs": str(trainer.folder), "log_every": 1}}
    trainer()
    each = [line["loss"] for line in trainer.metrics("train")]
    trainer.settings = {"train": {"runs": str(trainer.folder / "other"), "log_every": 2}}
    trainer.folder = trainer.folder / "other"
    trainer()
    pairs = [sum(each[0:2]) / 2, each[2], sum(each[3:5]) / 2, each[5]]
    assert [line["step"] for line in trainer.metrics("train")] == [2, 3, 5, 6]
    assert [line["loss"] for line in trainer.metrics("train")] == pytest.approx(pairs)


@pytest.mark.parametrize("whole", [False, True])
def test_clip_settings_that_differ_from_those_of_the_weights_are_logged(tmp_path, caplog, whole):
    trained = tiny.config(clip={"mean": (0.5, 0.5, 0.5), "flip": 0.1}, model={"frames": 4})
    path = str(tmp_path / "best.pt")
    torch.save({"model": build_model(trained.model).state_dict(), "config": configs.flat(trained)}, path)
    config = tiny.config(model={} if whole else {"pretrained": path})
    training.build_network(config, path if whole else None)
    seen = "trained with model.frames=4 (here 2), clip.mean=[0.5, 0.5, 0.5] (here [0.485, 0.456, 0.406])"
    assert caplog.messages[-1].endswith(seen)
    training.build_network(trained, path)
    assert "trained with" not in caplog.messages[-1]


@pytest.mark.parametrize(
    "changes", [{"train": {"patience": 2, "eval_every": 0}}, {"train": {"patience": 2}, "data": {"source": "video"}}]
)
def test_patience_without_evaluations_to_count_is_refused(changes):
    with pytest.raises(ConfigError, match=r"train\.patience: counts evaluations, and there are none before the end"):
        training.build(tiny.config(**changes))


def test_missing_weights_stop_a_run_before_its_lists_are_scanned():
    with pytest.raises(CheckpointError, match="there is no such file of weights"):
        training.build(
            tiny.config(model={"pretrained": "/nope.pth"}), open_loader=lambda *_, **__: pytest.fail("scanned")
        )


def test_a_resumed_run_logs_that_it_ignores_other_weights(caplog):
    state = build().state()
    build(weights="/nope.pth", state=state)
    assert any(line.startswith("--weights: /nope.pth is not used") for line in caplog.messages)


def result_of(correct, wrong):
    """Return a result of two classes: right and wrong videos of each, as (class 0, class 1)."""
    confusion_KK = torch.tensor([[correct[0], wrong[0]], [wrong[1], correct[1]]])
    return Result(confusion_KK, confusion_KK.sum(1), 0.5, int(confusion_KK.sum()), [])


@pytest.mark.parametrize(("kind", "kept"), [("top1", 1), ("mean_class", 2)])
def test_the_best_weights_are_chosen_by_the_accuracy_that_is_set(trainer, monkeypatch, kind, kept):
    """The first epoch is better over all videos, the second in the mean of its classes, with 90 and 10 videos."""
    results = iter([result_of((90, 0), (0, 10)), result_of((70, 9), (20, 1))])
    monkeypatch.setattr(fit, "evaluate", lambda *_: next(results))
    trainer.settings = {"train": {"runs": str(trainer.folder), "best": kind}}
    trainer()
    assert checkpoint_files.note(trainer.folder / "tiny" / "best.pt")["step"] == kept * STEPS


def plateau(trainer, monkeypatch, hits, patience=2):
    """Run 8 epochs whose evaluations hit so many of 10 videos; return the epochs that were evaluated."""
    results = (result_of((hit, 0), (10 - hit, 0)) for hit in hits)
    monkeypatch.setattr(fit, "evaluate", lambda *_: next(results))
    trainer.settings = {"train": {"runs": str(trainer.folder), "epochs": 8, "patience": patience}}
    finished, _ = trainer()
    assert finished
    return [line["step"] // STEPS for line in trainer.metrics("val")]


def test_a_run_ends_when_it_has_not_become_better_for_long_enough(trainer, monkeypatch, caplog):
    assert plateau(trainer, monkeypatch, (5, 6, 6, 4, 9)) == [1, 2, 3, 4]
    assert trainer.status()["state"] == "finished" and "train.patience" in trainer.status()["reason"]
    assert checkpoint_files.latest(trainer.folder / "tiny" / "checkpoints").name == f"step-{4 * STEPS:08}.pt"
    assert plateau(trainer, monkeypatch, ()) == [1, 2, 3, 4], "resumed, it has nothing to do"
    assert plateau(trainer, monkeypatch, (9, 1, 1, 1), patience=3) == [1, 2, 3, 4, 5, 6, 7, 8], "goes on, with more"


def test_without_patience_a_run_continues_to_its_last_epoch(trainer, monkeypatch):
    assert plateau(trainer, monkeypatch, (5,) * 8, patience=0) == list(range(1, 9))


def test_a_run_that_keeps_improving_is_not_stopped_by_patience(trainer, monkeypatch):
    assert plateau(trainer, monkeypatch, (1, 0, 2, 1, 3, 2, 4, 3), patience=2) == list(range(1, 9))
