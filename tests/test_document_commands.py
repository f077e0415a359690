"""The commands of the documents run, on tiny videos and a tiny network; names and sizes are replaced, flags are not."""

import shutil

import pytest

from tests.support import programs
from tests.support.videos import write_video
from tests.test_documents import commands, text_of

DOCUMENTS = ("README.md", "custom_dataset.md", "predict.md", "evaluate.md", "deploy.md")
TRAIN = ("train.py", "--config", "finetune.yaml", "data.train=my_videos/")
PLACES = {
    "SOURCE...": "clip.mp4",
    "runs/NAME": "runs/my_videos",
    "runs/tsm_k400_nhwc": "runs/my_videos",
    "runs/tsm_k400_nhwc/best.pt": "runs/my_videos/best.pt",
}
"""Files that stand for those of the documents."""
NOT_RUN = {
    "names a flag, and is no whole command": [
        ("eval.py",),
        ("eval.py", "--scores"),
        ("tools/predict.py", "--online"),
        ("tools/prepare.py", "lists|scan|verify|stats|transcode|pack|frames|split|subset"),
        ("tools/export.py", "runs/tsm_k400_nhwc", "--format", "onnx|export|aoti|tensorrt"),
    ],
    "needs Kinetics": [
        ("train.py", "--config", "tsm_k400_nhwc.yaml"),
        ("eval.py", "--config", "tsn_k400_videos.yaml", "--weights", "best.pt", "--tencrop", "--per-class"),
        ("eval.py", "--config", "tsm_k400_nhwc.yaml", "--weights", "tsm_mit.pth"),
    ],
    "needs the network": [(*TRAIN, "--weights", "zoo:tsm_r50_k400_8f_mit")],
    "needs a file of another project": [
        ("tools/import_weights.py", "TSM_k400.pdparams", "--config", "tsm_k400_videos.yaml", "--out", "best.pt")
    ],
    "needs a camera": [
        ("tools/predict.py", "0", "--weights", "causal.pt", "--online"),
        ("tools/predict.py", "rtsp://camera/stream", "--weights", "best.pt", "--sliding", "2"),
    ],
    "needs a GPU and TensorRT": [
        ("tools/predict.py", "video.mp4", "--weights", "best.engine"),
        ("tools/predict.py", "video.mp4", "--weights", "best.onnx", "runtime.onnx_provider=tensorrt"),
    ],
}
"""Commands by the reason why they are not run here. Those of torchrun, Docker and trtexec are not looked for."""
SKIPPED = {command for of_reason in NOT_RUN.values() for command in of_reason}
ALL = {(program, *words) for name in DOCUMENTS for program, words in commands(text_of(name))}
ONCE = {TRAIN}  # it makes the run for the others


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with the files that the documents name, and the run of the documented training."""
    folder = tmp_path_factory.mktemp("documents")
    for number, label in enumerate(("jump", "walk", "wave")):
        for take in range(10):
            path = folder / "my_videos" / label / f"seq{10 * number + take}_a.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, "libx264", 12)
    names = ("new.mp4", "clip.mp4", "video.mp4", "long.mp4", "day-1.mkv", "day-2.mkv", "videos/a.mp4", "folder/a.mp4")
    for name in (*names, "a.webm"):
        (folder / name).parent.mkdir(exist_ok=True)
        write_video(folder / name, "libvpx-vp9" if name.endswith("webm") else "libx264", 12)
    (folder / "other.list").write_text("my_videos/jump/seq0_a.mp4 0\nmy_videos/walk/seq10_a.mp4 1\n")
    trained = run(folder, TRAIN)
    assert trained.returncode == 0, trained.stderr
    for name in ("x", "a", "b"):
        shutil.copytree(folder / "runs/my_videos", folder / "runs" / name)
    shutil.copy(folder / "runs/my_videos/best.pt", folder)
    for command in (
        ("tools/export.py", "best.pt", "--format", "onnx"),
        ("eval.py", "runs/my_videos", "--scores", "rgb.npz"),
        ("eval.py", "runs/my_videos", "--scores", "other.npz"),
    ):
        made = run(folder, command)
        assert made.returncode == 0, made.stderr
    return folder


def run(folder, command):
    program, *words = command
    words = [PLACES.get(word, word) for word in words]
    if program == "train.py" or "show" in words:
        words += programs.SMALL
    return programs.run(program, *words, folder=folder, stdin="./a.webm\n", OMP_NUM_THREADS="1")


def test_every_command_is_run_or_has_a_reason():
    assert SKIPPED <= ALL and ALL - SKIPPED >= ONCE


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted(ALL - SKIPPED - ONCE), ids=" ".join)
def test_a_documented_command_runs(place, command):
    ended = run(place, command)
    assert ended.returncode == 0, ended.stdout + ended.stderr
