"""Common user mistakes and the answers of the programs: python -m tests.support.mistakes > docs/mistakes.md

Each mistake is a real command on a small data set in a temporary folder.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

import configs
from models import build_model
from tests.support.paths import ROOT
from tests.support.videos import write_video

MISTAKES = {
    "a misspelt key": "train.py --config demo.yaml clip.szie=64",
    "a misspelt section": "train.py --config demo.yaml trian.epochs=3",
    "several at once": "train.py --config demo.yaml train.batch=many clip.flip=2 model.backbone=resnet49",
    "a misspelt recipe": "train.py --config dmeo.yaml",
    "a misspelt flag": "train.py --config demo.yaml --resmue",
    "a flag before a setting": "train.py --config demo.yaml -o train.epochs=3",
    "a value that is not a number": "train.py --config demo.yaml optim.lr=fast",
    "a choice that does not exist": "train.py --config demo.yaml data.decoder=gpu",
    "a broken recipe": "train.py --config broken.yaml",
    "a crop that does not fit": "train.py --config demo.yaml eval.short_side=40",
    "a missing list": "train.py --config demo.yaml data.train=tran.list",
    "an empty list": "train.py --config demo.yaml data.train=empty.list",
    "a line without a label": "train.py --config demo.yaml data.train=unlabelled.list",
    "a label beyond the classes": "train.py --config demo.yaml data.train=beyond.list",
    "one missing video": "train.py --config demo.yaml data.train=one_missing.list data.max_bad_fraction=0.05",
    "all videos missing": "train.py --config demo.yaml data.train=all_missing.list",
    "the wrong root": "train.py --config demo.yaml data.root=elsewhere",
    "a batch larger than the dataset": "train.py --config demo.yaml train.batch=512",
    "a file that is not a video": "train.py --config demo.yaml data.train=no_video.list data.max_bad_fraction=0.05",
    "missing weights": "train.py --config demo.yaml --weights best.pt",
    "a file that does not contain weights": "train.py --config demo.yaml --weights text.pt",
    "weights of another network": "train.py --config demo.yaml --weights other.pt",
    "weights for other classes": "train.py --config demo.yaml --weights classes.pt",
    "evaluating before training": "eval.py --config demo.yaml",
    "a result in a missing folder": "eval.py --config demo.yaml --json nowhere/result.json",
    "GPU decoding without a GPU": "train.py --config demo.yaml data.decoder=nvdec runtime.device=cpu",
    "a run that exists": "train.py --config demo.yaml train.name=taken",
    "a form of the shift that the network does not support": "train.py --config demo.yaml model.shift=folded",
    "predicting with weights without settings": "tools/predict.py 0.mp4 --weights bare.pt",
}


def write_data(folder: Path) -> None:
    """Write small videos, and lists, recipes and weights with one error in each."""
    good = [write_video(folder / f"{number}.mp4", "libx264", 12).name for number in range(8)]

    def write(name: str, paths: list[str], label: str = " 0") -> None:
        (folder / name).write_text("".join(f"{path}{label}\n" for path in paths))

    write("train.list", good)
    write("val.list", good[:2])
    write("empty.list", [])
    write("unlabelled.list", good, label="")
    write("beyond.list", good, label=" 7")
    write("one_missing.list", [*good, "gone.mp4"])
    write("all_missing.list", ["gone.mp4", "lost.mp4"])
    write("no_video.list", [*good, "text.pt"])
    (folder / "text.pt").write_text("These are not the weights you are looking for.\n")
    (folder / "broken.yaml").write_text("model: {name: tsm\n")
    torch.save({"fc.weight": torch.zeros(3, 8)}, folder / "bare.pt")
    torch.save({"layer1.0.conv1.weight": torch.zeros(3, 3)}, folder / "other.pt")
    other_classes = replace(configs.load("demo.yaml").model, num_classes=7)
    torch.save(build_model(other_classes).state_dict(), folder / "classes.pt")
    (folder / "runs" / "taken" / "checkpoints").mkdir(parents=True)
    (folder / "runs" / "taken" / "checkpoints" / "step-00000001.pt").touch()
    (folder / "elsewhere").mkdir()


def answer(command: str, folder: Path) -> tuple[int, str]:
    """Return the exit code, and stderr without the folder's name."""
    program, *arguments = shlex.split(command)
    named = {argument.split("=")[0] for argument in arguments if "=" in argument}
    small = {"data.root": folder, "data.train": "train.list", "data.val": "val.list", "data.class_names": ""}
    small |= {"train.batch": 4, "train.epochs": 1, "runtime.device": "cpu"}
    defaults = [f"{key}={value}" for key, value in small.items() if key not in named]
    done = subprocess.run(
        [sys.executable, ROOT / program, *arguments, *defaults],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=600,
    )
    lines = done.stderr.replace(f"{folder}/", "").replace(str(folder), ".").splitlines()
    passing = re.compile(r": scanned |none new| INFO .*, for \d+ s$")  # lines of a scan, and of a slow machine
    return done.returncode, "\n".join(line for line in lines if not passing.search(line))


def main() -> None:
    print("# Error messages and fixes\n")
    print("Written by `python -m tests.support.mistakes > docs/mistakes.md`; a test keeps it true.")
    with tempfile.TemporaryDirectory() as name:
        write_data(Path(name))
        for mistake, command in MISTAKES.items():
            _, text = answer(command, Path(name))
            print(f"\n**{mistake[0].upper() + mistake[1:]}**: `{command}`\n\n```\n{text}\n```")


if __name__ == "__main__":
    main()
