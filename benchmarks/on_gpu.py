"""Answer the open questions about a GPU in minutes: python benchmarks/on_gpu.py [PART ...] --minutes 9 --out FOLDER

Each part is a separate process with its own time limit; the others continue if one fails. In this order:

    library    is NVDEC there, what does it decode, and what does creating a decoder cost?
    frames     are the frames of cut files right, and their colours?
    decoders   clips/s of NVDEC by keyframe interval and width, and of the CPU's cores
    layers     the folded shift, layer by layer: correct, tuned, timed; the rows go to models/shift/fold_table.jsonl
    ceiling    memory bandwidth, and the training step of torchvision's ResNet-50 with PyTorch alone
    eager      the training step with each form of the shift
    compiled   the same under torch.compile; the faster mode goes to engine/compile_table.jsonl
    graph8     the step with 8 clips, launched kernel by kernel and as one CUDA graph
    graph64    the same with 64 clips
    nvdec      loading, computing and training end to end, decoded by NVDEC
    pyav       the same, decoded by the CPU
    peers      DALI on cut files against DALI on whole files, and against torchcodec on the GPU where it is installed
    tests      the tests that need a GPU; a skipped one is a failure
    kernels    the kernels of a training step (only if named)

FOLDER receives, after each part, PART.txt with its output, its measurements (*.jsonl), and a line in parts.jsonl. Parts
that need NVDEC are skipped without libnvcuvid. `--rehearse` runs everything in small on a CPU and keeps no rows.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.record import Recorder

ROOT = Path(__file__).resolve().parents[1]
RESERVE = 60  # seconds of the whole time that belong to no part: imports, ends of processes
PATIENT = 8  # a rehearsal on few cores may take so many times longer
RECIPE = ["--config", "tsm_k400_nhwc.yaml", "train.batch=64", "data.train=made", "model.pretrained=none"]
SMALL = ["clip.size=32", "model.width=8", "train.batch=4", "runtime.device=cpu", "video.count=8", "video.frames=24"]
FRAMES = [f"frames/{codec}-i{interval}-" for codec in ("h264", "hevc") for interval in (16, 8, 1)]
DECODERS = ["speed/interval", "speed/width", "speed/other/pyav"]
TESTS = ["-m", "pytest", "-p", "no:cacheprovider", "-o", "faulthandler_timeout=30", "-rfE"]


@dataclass(frozen=True)
class Part:
    """A command and its time limit in seconds."""

    command: list[str]
    seconds: float
    needs_nvdec: bool = False
    by_name_only: bool = False


def parts(out: Path, rehearse: bool) -> dict[str, Part]:
    """Return all parts in their order, with limits for nine minutes in all; results go to `out`."""
    video = ["--device", "cpu" if rehearse else "gpu", "--out", str(out), "--videos", str(out / "videos")]
    network = ["--device", "small" if rehearse else "gpu", "--out", str(out)]
    half = "fp32" if rehearse else "fp16"
    few = ["--rounds", "1", "--steps", "1"] if rehearse else ["--rounds", "2", "--steps", "15"]
    made = SMALL if rehearse else ["video.count=512"]
    computing = [*RECIPE, *few, *(word for word in made if not word.startswith("video.")), "--out", str(out)]
    loading = ["feed", "compute", "train", *RECIPE, "--vary", "video.interval=1,16", *few, *made, "--out", str(out)]
    nvdec = "dali_cpu" if rehearse else "nvdec"
    gpu_tests = ["tests/test_imports.py"] if rehearse else ["-m", "gpu and not slow"]
    spread = ["-n", "6"] if find_spec("xdist") and not rehearse else []
    clips = ["--clips", "16", "--rounds", "1"] if rehearse else ["--rounds", "3"]

    def probe(only: list[str], seconds: int) -> list[str]:
        return ["benchmarks/probe_nvdec.py", *video, "--only", *only, "--seconds", str(seconds)]

    def shift(section: str, only: list[str], seconds: int) -> list[str]:
        return ["benchmarks/shift.py", section, *network, "--only", *only, "--seconds", str(seconds)]

    def throughput(decoder: str, seconds: int) -> list[str]:
        return ["benchmarks/throughput.py", *loading, f"data.decoder={decoder}", "--seconds", str(seconds)]

    def graph(clips: int) -> list[str]:
        modes = "false" if rehearse else "false,true"  # there is no graph without a GPU
        resident = ["data.source=synthetic", f"train.batch={4 if rehearse else clips}", "--seconds", "6"]
        return ["benchmarks/throughput.py", "compute", *computing, *resident, "--vary", f"runtime.cuda_graph={modes}"]

    frames = ["frames/vp9-i8", "colours"] if rehearse else [*FRAMES, "colours"]
    decoders = ["speed/interval"] if rehearse else DECODERS
    keep = [] if rehearse else ["--keep"]
    ceiling = ["benchmarks/ceiling.py", "--seconds", "34", "--out", str(out), *(["--rehearse"] if rehearse else [])]
    compiled = [f"steps/{half}/compiled/{name}" for name in ("tsn", "folded")]
    return {  # of --seconds, the sections of the probe may take 8 % (library), up to 31 % (frames), 60 % (speed)
        "library": Part(probe(["library"], 200), 20, needs_nvdec=True),
        "frames": Part(probe(frames, 145), 50, needs_nvdec=True),
        "decoders": Part(probe(decoders, 45), 32, needs_nvdec=True),
        "layers": Part([*shift("layers", ["tiles", f"layers/{half}"], 64), *keep], 74),
        "ceiling": Part(ceiling, 41),
        "eager": Part(shift("steps", [f"steps/{half}/eager"], 45), 50),
        "compiled": Part(shift("steps", compiled, 55), 60),
        "graph8": Part(graph(8), 11),
        "graph64": Part(graph(64), 11),
        "nvdec": Part(throughput(nvdec, 20), 35, needs_nvdec=True),
        "pyav": Part(throughput("pyav", 20), 30),
        "peers": Part(["benchmarks/peers.py", "dali", "--out", str(out), *clips], 30),
        "tests": Part([*TESTS, *spread, *gpu_tests], 36),
        "kernels": Part(shift("kernels", ["eager/folded"], 35), 45, by_name_only=True),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="only these parts")
    parser.add_argument("--minutes", type=float, default=9, help="time for everything (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/on_gpu"), metavar="FOLDER", help="(%(default)s)")
    parser.add_argument("--rehearse", action="store_true", help="run in small on a CPU")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    known = parts(out, arguments.rehearse)
    if unknown := set(arguments.parts) - known.keys():
        parser.error(f"{sorted(unknown)[0]}: no such part; there are {', '.join(known)}")
    asked = {name: known[name] for name in arguments.parts or known if arguments.parts or not known[name].by_name_only}
    out.mkdir(parents=True, exist_ok=True)
    recorder = Recorder("on_gpu", out / "parts.jsonl")
    patience = PATIENT if arguments.rehearse else (60 * arguments.minutes - RESERVE) / (540 - RESERVE)
    end = time.monotonic() + (60 * arguments.minutes if not arguments.rehearse else 3600)
    ends = []
    for name, part in asked.items():
        began = time.monotonic()
        seconds = min(patience * part.seconds, end - began)
        ended = _why_not(part, arguments.rehearse)
        ended = ended or run(part.command, seconds, out / f"{name}.txt", environment(arguments.rehearse))
        ends.append(ended)
        recorder.add(name, ended=ended, seconds=round(time.monotonic() - began, 1))
        if name == "compiled" and not arguments.rehearse:
            from benchmarks.network import compile_choice
            from engine import compile_table

            compile_choice.write(out / "shift.jsonl", compile_table.gpu_name(), compile_table.capability())
    recorder.close()
    return int(any(ended != "well" for ended in ends))


def _why_not(part: Part, rehearse: bool) -> str | None:
    """Return the reason why a part cannot run on this machine, or None."""
    if rehearse or not part.needs_nvdec:
        return None
    try:
        ctypes.CDLL("libnvcuvid.so.1")
    except OSError as error:
        return f"skipped: no NVDEC: {error}"
    return None


def environment(rehearse: bool) -> dict[str, str]:
    """Return the environment of every part: the project precedes the folders that PYTHONPATH already names."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": paths, "REQUIRE_GPU": "0" if rehearse else "1"}


def run(command: list[str], seconds: float, log: Path, environment: dict[str, str]) -> str:
    """Run a Python command for at most `seconds`; return `well`, its exit code, or that it was stopped."""
    if seconds < 5:
        return "skipped: no time was left"
    with log.open("w") as output:
        print("$ python", *command, file=output, flush=True)
        process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"stopped after {seconds:.0f} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its children would continue to use the GPU
    return "well" if code == 0 else f"exit code {code}"


if __name__ == "__main__":
    sys.exit(main())
