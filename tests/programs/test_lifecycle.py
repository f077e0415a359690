"""All commands in sequence: train, interrupt, resume, fine-tune on other classes, evaluate, export, predict."""

import json
from pathlib import Path

import pytest

from tests.support import programs
from tools.data.demo import CLASSES, write_demo_set

SMALL = ["model.width=8", "clip.size=32", "eval.short_side=36", "train.batch=8", "runtime.device=cpu"]


class Life:
    """Commands run in one folder, with the demo set in it."""

    def __init__(self, folder: Path):
        self.folder = folder
        write_demo_set(folder / "demo", {"train": 6, "val": 4})
        axes = ["vertically" if "down" in name or "up" in name else "horizontally" for name in CLASSES]
        self.axes = sorted(set(axes))
        for split in ("train", "val"):
            rows = [row.split() for row in (folder / "demo" / f"{split}.list").read_text().splitlines()]
            lines = [f"{path} {self.axes.index(axes[int(label)])}" for path, label in rows]
            (folder / "demo" / f"{split}_axes.list").write_text("\n".join(lines) + "\n")
        (folder / "demo" / "axes.txt").write_text("\n".join(self.axes) + "\n")

    def do(self, program: str, *arguments: object, code: int = 0) -> str:
        """Run a program; return its output."""
        ran = programs.run(program, *arguments, OMP_NUM_THREADS="1")
        assert ran.returncode == code, ran.stderr
        return ran.stdout

    def settings(self, name: str, lists: str = "", names: str = "classes.txt") -> list[str]:
        """Return the settings of a run called `name`, on the directions or on the axes alone."""
        demo = self.folder / "demo"
        data = [f"data.root={demo}", f"data.train={demo}/train{lists}.list", f"data.val={demo}/val{lists}.list"]
        run = [f"train.name={name}", f"train.runs={self.folder}/runs", f"data.class_names={demo}/{names}"]
        return ["--config", "demo.yaml", *SMALL, *data, *run]


@pytest.fixture(scope="module")
def life(tmp_path_factory):
    return Life(tmp_path_factory.mktemp("life"))


def test_a_network_is_trained_resumed_tuned_evaluated_exported_and_used(life):
    runs, demo = life.folder / "runs", life.folder / "demo"
    first = life.settings("first")
    life.do("train.py", *first, "train.epochs=1")
    assert "resumed after step 3" in life.do("train.py", *first, "train.epochs=2", "--resume")

    tuned = [*life.settings("tuned", "_axes", "axes.txt"), "model.num_classes=2", "train.epochs=1"]
    said = life.do("train.py", *tuned, f"model.pretrained={runs}/first/best.pt")
    assert "fc.weight skipped" in said and "fc.bias skipped" in said

    life.do("eval.py", *tuned, "--json", life.folder / "eval.json", "--scores", life.folder / "scores.npz")
    score = json.loads((life.folder / "eval.json").read_text())
    assert score["evaluated"] == 16
    fused = life.do("tools/scores.py", life.folder / "scores.npz")
    assert f"{100 * score['top1']:.2f}" in fused

    weights, onnx = runs / "tuned" / "best.pt", life.folder / "tuned.onnx"
    life.do("tools/export.py", "--weights", weights, "--format", "onnx", "--out", onnx)
    answers = {}
    for file in (weights, onnx):
        life.do("tools/predict.py", demo / "pan_up", "--weights", file, "--json", life.folder / "answers.jsonl")
        answers[file] = [json.loads(line) for line in (life.folder / "answers.jsonl").read_text().splitlines()]
    assert len(answers[weights]) == len(list((demo / "pan_up").iterdir())) == 10
    for by_torch, by_onnx in zip(answers[weights], answers[onnx], strict=True):
        assert by_torch["path"] == by_onnx["path"]
        assert {guess["name"] for guess in by_torch["top"]} == set(life.axes)
        for ours, theirs in zip(by_torch["top"], by_onnx["top"], strict=True):
            assert ours["label"] == theirs["label"]
            assert ours["probability"] == pytest.approx(theirs["probability"], abs=2e-2)  # fp32 against bf16
