"""Contradictory or invalid flags: one line of error before any work."""

import errno
import importlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

import configs
import train
from configs import cli
from dali_pipes.lists.formats.source import refuse_missing
from engine import program
from tests.support.paths import PROGRAMS, ROOT
from tools import prepare


def said(monkeypatch, capsys, command):
    """Return what a command line prints to stderr; it must exit with code 2."""
    program, *words = shlex.split(command)
    monkeypatch.setattr(sys, "argv", [program, *words])
    with pytest.raises(SystemExit) as leaving:
        importlib.import_module(program.removesuffix(".py").replace("/", ".")).arguments()
    assert leaving.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("train.py -c demo --resume --fresh", "train.py: argument --fresh: not allowed with argument --resume"),
        ("eval.py -c demo --crops three --tencrop", "eval.py: argument --tencrop: not allowed with argument --crops"),
        (
            "tools/scores.py a.npz b.npz --weights 1,x",
            "scores.py: argument --weights: 1,x: expected a number for each file, with commas between, as in 1,1.5",
        ),
        ("eval.py runs/a --scores a.npy", "eval.py: argument --scores: a.npy: expected a name that ends in .npz"),
        (
            "tools/predict.py a.avi -w a.pt --features a",
            "predict.py: argument --features: a: expected a name that ends in .npz",
        ),
        (
            "tools/predict.py a.avi -w a.pt --every 2",
            "predict.py: --every: is for networks that take a stream frame by frame, with --online",
        ),
        ("tools/predict.py a.avi -w a.pt --online --smooth 0", "predict.py: --smooth: 0 is not above 0"),
        (
            "tools/import_weights.py a.pt --out b.pt",
            "import_weights.py: --config: required; the recipe of the network, such as tsm_k400_videos.yaml "
            "(docs/weights.md)",
        ),
        ("tools/scores.py a.npz --weights=-1", "scores.py: argument --weights: -1: a weight must be above 0"),
    ],
)
def test_an_invalid_command_line_is_answered_in_one_line(monkeypatch, capsys, command, answer):
    assert said(monkeypatch, capsys, command) == answer + "\n"


OF_PADDLEVIDEO = {  # the documented word of PaddleVideo, and the part of the command that the error quotes
    "train.py --test -c tsm.yaml -w TSM_best.pdparams": "--test: no such flag; to test, run eval.py",
    "train.py -c tsm_ucf101_frames.yaml -o train.epochs=3": "-o: no such flag; settings are written without a flag",
    "tools/export.py -c tsm_k400_frames.yaml -p TSM.pdparams -o inference/TSM": "-p: no such flag; name the network by",
    "tools/export.py -c tsm_k400_frames.yaml -o inference/TSM": "export.py writes to --out FILE",
    "tools/predict.py --video_file a.avi --model_file TSM.pdmodel": "--video_file: no such flag; name videos",
    "tools/predict.py --input_file a.avi --config tsn.yaml": "--input_file: no such flag; name videos",
    "tools/predict.py a.avi --model_file TSN.pdmodel": "--model_file: no such flag; name the network by --weights",
    "tools/predict.py a.avi -w best.pt --params_file TSN.pdiparams": "--params_file: no such flag; name the network",
    "tools/predict.py a.avi -w best.pt --use_gpu=True": "--use_gpu: no such flag; write runtime.device=cuda",
    "tools/predict.py a.avi -w best.pt --use_tensorrt=True": "or write runtime.onnx_provider=tensorrt",
    "tools/predict.py a.avi -w best.pt --batch_size 3": "or eval.batch=VIDEOS in evaluation and prediction",
}


@pytest.mark.parametrize("command", OF_PADDLEVIDEO)
def test_a_flag_of_paddlevideo_is_refused_with_its_replacement(monkeypatch, capsys, command):
    assert OF_PADDLEVIDEO[command] in said(monkeypatch, capsys, command)


def test_flags_that_paddlevideo_has_too_mean_the_same(monkeypatch):
    monkeypatch.setattr(sys, "argv", shlex.split("train.py --amp --validate -c tsm_ucf101_frames.yaml -w TSM.pdparams"))
    args = train.arguments()
    assert (args.config, args.weights) == ("tsm_ucf101_frames.yaml", "TSM.pdparams")


SCREEN = 40  # lines of 100 columns
COMMANDS = [f"{name}.py" for name in PROGRAMS] + [f"tools/prepare.py {name}" for name in prepare.COMMANDS]
COMMANDS += ["benchmarks/throughput.py"]
MEASUREMENTS = sorted(
    str(file.relative_to(ROOT))
    for file in (ROOT / "benchmarks").rglob("*.py")
    if ".parse_args(" in (text := file.read_text()) and '__name__ == "__main__"' in text
)


ANSWER_ALL = """
import contextlib, io, json, runpy, sys
sys.modules["torch"] = None  # its import fails
for words in map(str.split, json.loads(sys.argv[1])):
    sys.argv, out, err = words, io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = runpy.run_path(words[0], run_name="__main__")
        except SystemExit as leaving:
            code = leaving.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""


def test_help_and_usage_errors_are_printed_before_torch_is_loaded():
    """All run in one process: an import by one command cannot hide that of another, because torch's import fails."""
    lines = [f"{command} {flag}" for command in COMMANDS for flag in ("--help", "--no-such-flag")]
    lines += [f"{command} --help" for command in MEASUREMENTS if command not in COMMANDS]
    assert len(MEASUREMENTS) == 18
    ran = subprocess.run(
        [sys.executable, "-c", ANSWER_ALL, json.dumps(lines)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "100"},
    )
    assert ran.returncode == 0, ran.stderr
    for line, answer in zip(lines, ran.stdout.splitlines(), strict=True):
        code, out, err = json.loads(answer)
        if line.endswith("--help"):
            assert code == 0 and "usage: " in out, (line, err)
            assert out.count("\n") <= SCREEN, line
        else:
            assert code == 2 and err.count("\n") == 1, (line, err)


WITHOUT_TORCH = """
import runpy, sys
sys.modules["torch"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
NO_NETWORK = "gone: there is neither a run nor a file of weights with this name; check the path"
NO_LIST = "/gone/a.list: no such list or folder; /gone does not exist either"


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("eval.py gone", NO_NETWORK),
        ("eval.py -c demo train.name=gone train.runs=", NO_NETWORK),
        (f"eval.py {ROOT}/eval.py data.test=/gone/a.list", NO_LIST),
        ("tools/predict.py a.mp4 -w gone", NO_NETWORK),
        ("tools/export.py gone --format onnx", NO_NETWORK),
        ("tools/import_weights.py gone -c demo --out x.pt", NO_NETWORK),
        (f"train.py -c finetune data.train={ROOT} -w gone", NO_NETWORK),
        ("tools/report.py /gone", "/gone: contains no run; name a folder such as runs/NAME, which train.py writes"),
        ("tools/scores.py /gone.npz", "/gone.npz: No such file or directory"),
        ("train.py -c finetune data.train=/gone/a.list", NO_LIST),
        (f"train.py -c finetune data.train={ROOT} data.val=/gone/a.list", NO_LIST),
    ],
)
def test_a_missing_network_list_or_run_is_named_before_torch_is_loaded(command, answer):
    words = command.split()
    ran = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *words], cwd=ROOT, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (2, f"{Path(words[0]).name}: {answer}\n")


def test_the_state_of_runs_is_printed_without_torch():
    words = [sys.executable, "-c", WITHOUT_TORCH, "tools/status.py", "docs"]
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert ran.stdout == "docs: contains no run, or one that has not got as far as its first status\n", ran.stderr


@pytest.mark.parametrize(("rank", "answer"), [("0", f"x.py: {NO_LIST}\n"), ("1", "")])
def test_one_rank_of_a_host_names_what_is_missing(monkeypatch, capfd, rank, answer):
    monkeypatch.setenv("LOCAL_RANK", rank)
    code = program.run("x.py", lambda: 0, check=lambda: refuse_missing("/gone/a.list"))
    assert (code, capfd.readouterr().err) == (2, answer)


def test_a_file_that_cannot_be_made_is_named_in_a_line(tmp_path, capfd):
    (tmp_path / "file").touch()
    assert program.run("export.py", lambda: (tmp_path / "file" / "best.onnx").write_bytes(b"")) == 2
    assert capfd.readouterr().err == f"export.py: {tmp_path}/file/best.onnx: Not a directory\n"


def test_an_output_that_a_disk_would_refuse_is_refused_before_the_work(tmp_path, monkeypatch, capsys):
    (tmp_path / "folder").mkdir()
    command = f"eval.py -c demo --json {tmp_path}/folder"
    refusal = f"{tmp_path}/folder cannot be written (Is a directory); name another file"
    assert said(monkeypatch, capsys, command) == f"eval.py: argument --json: {refusal}\n"
    read_only = mock.Mock(side_effect=OSError(errno.EROFS, "Read-only file system"))
    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    refusal = f"{tmp_path}/new cannot be written (Read-only file system); name another file"
    assert (
        said(monkeypatch, capsys, f"eval.py -c demo --json {tmp_path}/new") == f"eval.py: argument --json: {refusal}\n"
    )


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/null", "/dev/fd/1"])
def test_the_standard_output_is_taken_though_its_folder_cannot_be_written(monkeypatch, name):
    """Only root may create files in /dev."""
    monkeypatch.setattr("tempfile.TemporaryFile", mock.Mock(side_effect=PermissionError(errno.EACCES, "denied")))
    assert cli.text_output(name) == Path("/dev/stdout" if name == "-" else name)


def test_weights_may_name_the_folder_of_a_run(monkeypatch, tmp_path):
    runs = []
    monkeypatch.setattr("engine.train.run.run", lambda settings, **more: runs.append(more["weights"]))
    (tmp_path / "best.pt").touch()
    monkeypatch.setattr(sys, "argv", ["train.py", "-c", "demo", "--weights", str(tmp_path)])
    args = train.arguments()
    train.train(configs.load(args.config, args.overrides), args)
    assert runs == [str(tmp_path / "best.pt")]


@pytest.mark.parametrize("recipe, as_start", [("finetune", True), ("demo", False)])
def test_weights_become_model_pretrained_if_the_recipe_takes_its_classes_from_the_data(monkeypatch, recipe, as_start):
    runs = []
    monkeypatch.setattr("engine.train.run.run", lambda settings, **more: runs.append((settings, more["weights"])))
    monkeypatch.setattr(sys, "argv", ["train.py", "-c", recipe, "data.train=videos", "--weights", "k400.pdparams"])
    args = train.arguments()
    train.train(configs.load(args.config, args.overrides), args)
    ((settings, weights),) = runs
    assert (settings.model.pretrained == "k400.pdparams", weights is None) == (as_start, as_start)


def test_a_name_that_begins_with_a_dash_follows_two_dashes(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["scores.py", "--per-class", "--", "-a.npz", "b.npz"])
    args = importlib.import_module("tools.scores").arguments()
    assert ([*map(str, args.files)], args.per_class) == (["-a.npz", "b.npz"], True)


def test_a_removed_current_folder_is_reported_in_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    answer = said(monkeypatch, capsys, "train.py -c demo")
    assert answer == "train.py: the current folder does not exist any more; change to one that does\n"
