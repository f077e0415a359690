"""Only the modules of the graph import DALI; everything else works without it."""

import shutil
import subprocess
import sys

import pytest

from tests.support.paths import PROGRAMS, ROOT
from tests.support.videos import write_video

BLOCKED = """
import sys
sys.modules["nvidia.dali"] = None  # its import fails
sys.argv = sys.argv[1:]
import runpy
runpy.run_path(sys.argv[0], run_name="__main__")
"""
SMALL = [
    "model.backbone=resnet18",
    "model.width=8",
    "model.num_classes=2",
    "model.frames=2",
    "model.pretrained=none",
    "clip.size=32",
    "eval.short_side=32",
    "train.batch=2",
    "train.epochs=1",
    "runtime.device=cpu",
    "runtime.threads=1",
    "data.root=.",
    "data.train=a.list",
    "data.val=a.list",
    "data.class_names=",
]


def without_dali(folder, program, *words):
    ran = subprocess.run(
        [sys.executable, "-c", BLOCKED, str(ROOT / program), *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return ran.returncode, ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("without")
    for number in range(2):
        write_video(folder / f"{number}.mp4", "libx264", 12, gop=6, size=(48, 64))
    (folder / "a.list").write_text("0.mp4 0\n1.mp4 1\n")
    return folder


def test_no_module_but_those_of_the_graph_needs_dali():
    modules = ["dali_pipes.loader", "engine.train.run", "engine.inference.network", "tools.prediction.run"]
    modules += ["tools.exporting.export", *(name.replace("/", ".") for name in PROGRAMS), "tools.prepare"]
    code = f"import sys, importlib; sys.modules['nvidia.dali'] = None; [importlib.import_module(m) for m in {modules}]"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.slow  # five programs that load torch
def test_training_evaluation_prediction_export_and_tools_work_on_a_cpu(folder):
    for program, *words in (
        ("tools/prepare.py", "scan", "a.list"),
        ("train.py", "--config", "demo.yaml", "train.name=x", *SMALL),
        ("eval.py", "runs/x"),
        ("tools/predict.py", "0.mp4", "--weights", "runs/x"),
        ("tools/export.py", "runs/x", "--format", "export"),
    ):
        code, said = without_dali(folder, program, *words)
        assert code == 0, said


@pytest.mark.slow
def test_a_decoder_that_needs_a_missing_dali_is_refused_in_one_line(folder, tmp_path):
    for number in range(2):  # DALI decodes no H.264 on a CPU
        write_video(tmp_path / f"{number}.mp4", "libvpx-vp9", 12, gop=6, size=(48, 64))
    shutil.copy(folder / "a.list", tmp_path)
    code, said = without_dali(
        tmp_path, "train.py", "--config", "demo.yaml", *SMALL, "train.name=y", "data.decoder=dali_cpu"
    )
    assert code == 2 and said.splitlines()[-1].startswith(
        "train.py: data.decoder=dali_cpu: makes clips with NVIDIA DALI, which cannot be"
    )
