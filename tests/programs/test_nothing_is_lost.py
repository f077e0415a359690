"""Random sequences of commands and user actions never change or remove a file of the user.

Every command runs in this process. The user writes, copies, renames and links files under the names that commands give
to their results, changes results by hand, and names any file as a source or as an output.
"""

import contextlib
import os
import shutil
import sys
import tempfile
from argparse import Namespace
from collections import Counter
from functools import cache
from pathlib import Path
from unittest import mock

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import configs
from configs import ConfigError, load
from dali_pipes import DataError
from engine.evaluation import results
from engine.evaluation.accuracy import Result
from engine.outputs import Outputs
from engine.runs import checkpoint, checkpoint_files, run_folder
from engine.runs.pages import report
from models import CheckpointError, build_model
from tests.support import tiny
from tests.support.videos import write_video
from tools import export, import_weights, predict, prepare
from tools.exporting import export as export_file
from tools.prediction.run import run as run_predict

REFUSALS = ConfigError, DataError, CheckpointError, OSError, SystemExit
STEPS = [f"checkpoints/step-0000000{step}.pt" for step in (1, 2)]
RUN_FILES = [*run_folder.WHOLE, *run_folder.GROWING, "best.pt", "best.pt.json", "last.pt", *STEPS]
GROWS = {*run_folder.GROWING, "done.jsonl"}  # a line that a user adds to these looks like one of the commands

FOLDERS = st.sampled_from([".", "out", "set", "new", "linked"])
LISTS = [*(f"{folder}{name}" for folder in ("", "out/", "set/") for name in ("train.list", "val.list", "set.list"))]
NAMES = [
    *LISTS, "mine.csv", "classes.txt", "left_out.jsonl", "out/done.jsonl", "out/left_out.jsonl", "out/classes.txt",
    "out/set.classes.txt", "out/a/x.mp4", "out/b/y.mp4", "out/a/x", "new/a/x.mp4", "set/a/x.mp4", "set/b/y.mp4",
    "out/a", "answers.jsonl", "out/x.labelled.mp4", "result.json", "confusion.csv", "net.safetensors", "net.pt",
    "new.pt", "recipe.yaml", *(f"runs/{run}/{name}" for run in "rs" for name in RUN_FILES), 
    "runs/r/data/x.mp4", "runs/r/notes",
]  # fmt: skip
PATHS = st.sampled_from(NAMES)
SOURCES = st.sampled_from(["set", "train.list", "mine.csv"] * 3 + [*LISTS, "out"])
OUTPUTS = st.sampled_from(
    ["answers.jsonl", "result.json", "confusion.csv", "mine.csv", *LISTS, "out/a", "runs/r/log.txt"]
)


@pytest.fixture(scope="module")
def user_files(tmp_path_factory):
    """Return two classes of two short videos, a list, a table and a network."""
    folder = tmp_path_factory.mktemp("user")
    for name in ("set/a/x.mp4", "set/a/y.mp4", "set/b/x.mp4", "set/b/y.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(folder / name, "mpeg4", 3, size=(32, 32))
    names = ("set/a/x.mp4", "set/a/y.mp4", "set/b/x.mp4", "set/b/y.mp4")
    (folder / "train.list").write_text("".join(f"{name} {n // 2}\n" for n, name in enumerate(names)))
    (folder / "mine.csv").write_text("path,label\n" + "".join(f"{name},{name[4]}\n" for name in names))
    (folder / "classes.txt").write_text("b\na\n")
    (folder / "out").mkdir()
    (folder / "linked").symlink_to("out")
    config = tiny.config(data={"source": "video", "train": "unknown"}, runtime={"device": "cpu", "precision": "fp32"})
    weights = build_model(config.model).state_dict()
    torch.save({"model": weights, "config": configs.flat(config), "class_names": ("a", "b", "c")}, folder / "net.pt")
    return folder


@cache  # building settings takes longer than most commands here
def run_config(name, lr):
    return load("demo.yaml", ["train.runs=runs", f"train.name={name}", f"optim.lr={lr}", "data.train=train.list"])


@cache
def import_config(lr):
    return tiny.config(optim={"lr": lr})


class Lost(RuleBasedStateMachine):
    """The state of the user's files: `mine` has the content of each file, or the target of each link, by path."""

    source: Path  # the user's files
    succeeded: Counter[str]  # accepted commands

    def __init__(self):
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="lost-"))
        shutil.copytree(self.source, self.root, symlinks=True, dirs_exist_ok=True)
        self.mine = {path: content(path) for path in self.root.rglob("*") if path.is_symlink() or path.is_file()}
        self.steps = 0

    def teardown(self):
        shutil.rmtree(self.root)

    def at(self, name):
        return self.root / name

    # Actions of the user

    def take(self, path):
        """Note that a path now belongs to the user."""
        self.mine[path] = content(path)

    @rule(name=PATHS, text=st.sampled_from(["mine", "", "a.mp4 0\n", "{}\n", "mine too"]))
    def write(self, name, text):
        path = self.at(name)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_symlink() or (path.exists() and path.stat().st_nlink > 1):
                path.unlink()
            path.write_text(text)
            self.take(path)

    @rule(name=PATHS)
    def add_a_line(self, name):
        path = self.at(name)
        if path.is_file() and not path.is_symlink() and path.stat().st_nlink == 1 and path.name not in GROWS:
            path.write_bytes(path.read_bytes() + b"mine\n")
            self.take(path)

    @rule(old=PATHS, new=PATHS, how=st.sampled_from(["copy", "rename", "symlink", "hardlink"]))
    def copy_or_link(self, old, new, how):
        old, new = self.at(old), self.at(new)
        if not old.is_file() or os.path.lexists(new) or (how == "hardlink" and old.name in GROWS):
            return
        with contextlib.suppress(OSError):
            new.parent.mkdir(parents=True, exist_ok=True)
            if how == "copy":
                shutil.copy2(old, new)
            elif how == "rename":
                old.rename(new)
                self.mine.pop(old, None)
            elif how == "symlink":
                new.symlink_to(old)
            else:
                new.hardlink_to(old)
            self.take(new)

    @rule(name=PATHS)
    def remove(self, name):
        path = self.at(name)
        if path.is_symlink() or path.is_file():
            path.unlink()
            self.mine.pop(path, None)

    # Commands

    def do(self, command, work):
        with (
            open(os.devnull, "w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
            contextlib.chdir(self.root),
            contextlib.suppress(*REFUSALS),
        ):
            code = work()
            self.succeeded[command] += not code

    def arguments(self, program, *words):
        with mock.patch.object(sys, "argv", [program.__name__, *map(str, words)]):
            return program.arguments()

    @rule(source=SOURCES, out=FOLDERS, command=st.sampled_from(["lists", "subset", "split"]), seed=st.integers(0, 2))
    def make_lists(self, source, out, command, seed):
        more = {"lists": [], "subset": ["--per-class", "1", "--seed", str(seed)], "split": ["--seed", str(seed)]}
        self.do(command, lambda: prepare.main([command, source, "--out", out, *more[command]]))

    @rule(
        source=SOURCES, out=FOLDERS, command=st.sampled_from(["transcode", "frames"]), quality=st.sampled_from([30, 40])
    )
    def convert(self, source, out, command, quality):
        flag = {"transcode": "--crf", "frames": "--quality"}[command]
        self.do(command, lambda: prepare.main([command, source, "--out", out, "--workers", "1", flag, str(quality)]))

    @rule(source=SOURCES)
    def scan(self, source):
        self.do("scan", lambda: prepare.main(["scan", source]))

    @rule(
        name=st.sampled_from("rs"),
        how=st.sampled_from([{}, {"fresh": True}, {"resume": True}]),
        recipe=st.sampled_from(["recipe.yaml", "runs/r/config.yaml", "runs/s/config.yaml"]),
        weights=st.sampled_from([None, "net.pt", "runs/r/best.pt"]),
        lr=st.sampled_from([0.01, 0.02]),
    )
    def train(self, name, how, recipe, weights, lr):
        self.steps += 1
        config = run_config(name, lr)
        payload = {"model": {"weight": torch.full((3,), float(self.steps))}}

        def work():
            run = run_folder.open_run(config, **how, sources=[recipe, weights])
            run.rewind(0)
            run.metrics("train", step=1, loss=1.0)
            run.quarantine("train", [(self.steps, "a.mp4", "is empty")])
            checkpoint.save(checkpoint_files.step_file(run.checkpoints, self.steps), payload)
            checkpoint_files.tidy(run.checkpoints, keep=1)
            for which in ("last", "best"):
                run.result(which, {"top1": self.steps})
            checkpoint.save(run.best, payload, top1=0.5)
            checkpoint.save(run.last, payload)
            run.status.update(state="finished", step=self.steps)
            run.close()
            report.write_if_possible(run.folder)

        self.do("fresh" if how.get("fresh") else "train", work)

    @rule(json=OUTPUTS, confusion=st.sampled_from([None, "confusion.csv", "mine.csv"]), source=SOURCES)
    def evaluate(self, json, confusion, source):
        confusion = confusion and Path(confusion)
        args = Namespace(json=Path(json), confusion=confusion, scores=None, per_class=False, force=False)
        result = Result(torch.eye(3, dtype=torch.int64), torch.ones(3, dtype=torch.int64), 0.5, 3 + self.steps, [])
        outputs = Outputs([source, "net.pt"], args.force)

        def work():
            outputs.check(args.json, args.confusion)
            results.publish(result, (), args, {}, outputs)

        self.do("eval", work)

    @rule(source=SOURCES, flag=st.sampled_from(["--json", "--csv"]), out=OUTPUTS, folder=st.none() | FOLDERS)
    def predict(self, source, flag, out, folder):
        words = [source, "--weights", "net.pt", flag, out, *(["--save-video", folder] if folder else [])]
        self.do("predict", lambda: run_predict(self.arguments(predict, *words)))

    @rule(weights=st.sampled_from(["net.pt", "new.pt"]), out=st.sampled_from(["net.safetensors", "out/n.safetensors"]))
    def export(self, weights, out):
        words = ["--weights", weights, "--format", "safetensors", "--out", out]
        self.do("export", lambda: export_file.export(export.arguments(words)))

    @rule(out=st.sampled_from(["net.pt", "new.pt", "net.safetensors"]), lr=st.sampled_from([0.01, 0.02]))
    def import_weights(self, out, lr):
        args = Namespace(weights="net.pt", out=Path(out), class_names="", config=None, force=False, overrides=[])
        config = import_config(lr)
        self.do("import", lambda: import_weights.import_weights(args, config))

    @invariant()
    def every_file_of_the_user_is_there_to_the_byte(self):
        for path, expected in self.mine.items():
            name = path.relative_to(self.root)
            assert os.path.lexists(path), f"{name} is lost"
            assert content(path) == expected, f"{name} has changed"


def content(path):
    return ("link", os.readlink(path)) if path.is_symlink() else path.read_bytes()


@pytest.mark.parametrize("sequences", [10, pytest.param(2000, marks=pytest.mark.slow)])
def test_no_sequence_of_commands_loses_a_file_of_the_user(user_files, sequences):
    Lost.source, Lost.succeeded = user_files, Counter()
    run_state_machine_as_test(
        Lost,
        settings=settings(
            max_examples=sequences,
            stateful_step_count=12,
            deadline=None,
            derandomize=sequences < 2000,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    if sequences == 2000:
        commands = ["lists", "subset", "split", "transcode", "frames", "scan", "train", "fresh", "eval", "predict"]
        assert all(Lost.succeeded[command] for command in [*commands, "export", "import"]), Lost.succeeded
