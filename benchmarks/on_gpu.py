"""Answer the open questions about a GPU in minutes: python benchmarks/on_gpu.py [PART ...] --minutes 9 --out FOLDER

Each part is a separate process with its own time limit; the others continue if one fails. In this order:

    machine    versions; it also pays for the first load of the libraries, which takes long
    library    is NVDEC there, what does it decode, and what does creating a decoder cost?
    frames     are the frames of cut files right, and their colours?
    decoders   clips/s of NVDEC by keyframe interval and width, from cut and whole files, and of the CPU's cores
    layers     the folded shift, layer by layer: correct, tuned, timed; the rows go to models/shift/fold_table.jsonl
    eager      the training step with each form of the shift
    nvdec      loading, computing and training end to end, decoded by NVDEC
    pyav       the same, decoded by the CPU
    tests      the tests that need a GPU; a skipped one is a failure
    compiled   the training step under torch.compile; the faster mode goes to engine/compile_table.jsonl
    ceiling    memory bandwidth, and the training step of torchvision's ResNet-50 with PyTorch alone
    graph8     the step with 8 clips, launched kernel by kernel and as one CUDA graph

and only if named:

    graph64    the same with 64 clips
    peers      DALI on cut files against DALI on whole files, and against torchcodec on the GPU where it is installed
    kernels    the kernels of a training step

A part gets what the parts before it have not used. --minutes stretches or shortens all of them, to twice their time at
most; so a second command with few parts can take what the first had no time for.

FOLDER receives, after each part, PART.txt with its output, its measurements (*.jsonl), and a line in parts.jsonl. Parts
that need NVDEC are skipped without libnvcuvid. `--rehearse` runs everything in small on a CPU and keeps no rows.
"""

# First to look at, for nobody has seen it on a GPU: in eager.txt, the time of the first step. Training lets cuDNN try
# all of its algorithms, once for each shape; if that takes longer than it saves, `ceiling.py eager --all-algorithms`
# shows what it saves.

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.record import Recorder
from dali_pipes.feed import nvdec

ROOT = Path(__file__).resolve().parents[1]
RESERVE = 30  # seconds of the whole time that belong to no part: imports, ends of processes
PATIENT = 8  # a rehearsal on few cores may take so many times longer
LONGEST = 2.0  # multiple of its time that a part may get, so that one that hangs leaves some to others
MACHINE = """
import nvidia.dali, torch, torchvision
from benchmarks.harness.record import environment
device = "cuda" if torch.cuda.is_available() else "cpu"
torch.nn.Conv2d(8, 8, 3, device=device)(torch.ones(1, 8, 8, 8, device=device)).sum().item()
print(environment())
"""
RECIPE = ["--config", "tsm_k400_nhwc.yaml", "train.batch=64", "data.train=made", "model.pretrained=none"]
EAGER = "runtime.compile=off"  # by default a step is compiled, which takes longer than a part may
SMALL = ["clip.size=32", "model.width=8", "train.batch=4", "runtime.device=cpu", "video.count=8", "video.frames=24"]
FRAMES = [f"frames/{codec}-i{interval}-" for codec in ("h264", "hevc") for interval in (16, 8, 1)]
DECODERS = ["speed/interval", "speed/width", "speed/other/pyav"]
TESTS = ["-m", "pytest", "-p", "no:cacheprovider", "-o", "faulthandler_timeout=30", "-rfE", "-vv"]  # the name of each
HANGING = ["--timeout", "40", "--timeout-method", "thread"]  # a test that hangs takes no time of the others


@dataclass(frozen=True)
class Part:
    """A command and its time limit in seconds."""

    command: list[str]
    seconds: float
    needs_nvdec: bool = False
    by_name_only: bool = False


def parts(out: Path, rehearse: bool, stretch: float = 1.0) -> dict[str, Part]:
    """Return all parts in their order, with limits for nine minutes in all times `stretch`; results go to `out`."""
    video = ["--device", "cpu" if rehearse else "gpu", "--out", str(out), "--videos", str(out / "videos")]
    network = ["--device", "small" if rehearse else "gpu", "--out", str(out)]
    half = "fp32" if rehearse else "fp16"
    few = ["--rounds", "1", "--steps", "1"] if rehearse else ["--rounds", "2", "--steps", "8"]
    made = SMALL if rehearse else ["video.count=512", "video.interval=16"]
    computing = [*RECIPE, EAGER, *few, *(word for word in made if not word.startswith("video.")), "--out", str(out)]
    loading = ["feed", "compute", "train", *RECIPE, EAGER, *few, *made, "--out", str(out)]
    on_gpu = "dali_cpu" if rehearse else "nvdec"
    gpu_tests = ["tests/test_imports.py"] if rehearse else ["-m", "gpu and not slow"]
    spread = ["-n", "6"] if find_spec("xdist") and not rehearse else []
    spread += HANGING if find_spec("pytest_timeout") and not rehearse else []
    clips = ["--clips", "16", "--rounds", "1"] if rehearse else ["--rounds", "3"]

    def within(seconds: int) -> list[str]:
        return ["--seconds", str(round(seconds * stretch))]

    def probe(only: list[str], seconds: int) -> list[str]:
        return ["benchmarks/probe_nvdec.py", *video, "--only", *only, *within(seconds)]

    def shift(section: str, only: list[str], seconds: int) -> list[str]:
        return ["benchmarks/shift.py", section, *network, "--only", *only, *within(seconds)]

    def throughput(decoder: str, seconds: int) -> list[str]:
        return ["benchmarks/throughput.py", *loading, f"data.decoder={decoder}", *within(seconds)]

    def graph(clips: int) -> list[str]:
        modes = "false" if rehearse else "false,true"  # there is no graph without a GPU
        resident = ["data.source=synthetic", f"train.batch={4 if rehearse else clips}", *within(15)]
        return ["benchmarks/throughput.py", "compute", *computing, *resident, "--vary", f"runtime.cuda_graph={modes}"]

    frames = ["frames/vp9-i8", "colours"] if rehearse else [*FRAMES, "colours"]
    decoders = ["speed/interval"] if rehearse else DECODERS
    keep = [] if rehearse else ["--keep"]
    ceiling = ["benchmarks/ceiling.py", *within(25), "--out", str(out), *(["--rehearse"] if rehearse else [])]
    compiled = [f"steps/{half}/compiled/{name}" for name in ("folded", "tsn")]
    found = {  # of --seconds, the sections of the probe may take 8 % (library), up to 31 % (frames), 60 % (speed)
        "machine": Part(["-c", MACHINE], 20),
        "library": Part(probe(["library"], 150), 16, needs_nvdec=True),
        "frames": Part(probe(frames, 142), 48, needs_nvdec=True),
        "decoders": Part(probe(decoders, 43), 30, needs_nvdec=True),
        "layers": Part([*shift("layers", ["tiles", f"layers/{half}"], 62), *keep], 68),
        "eager": Part(shift("steps", [f"steps/{half}/eager"], 48), 54),
        "nvdec": Part(throughput(on_gpu, 25), 43, needs_nvdec=True),
        "pyav": Part(throughput("pyav", 25), 41),
        "tests": Part([*TESTS, *spread, *gpu_tests], 50),
        "compiled": Part(shift("steps", compiled, 80), 86),
        "ceiling": Part(ceiling, 30),
        "graph8": Part(graph(8), 24),
        "graph64": Part(graph(64), 30, by_name_only=True),
        "peers": Part(["benchmarks/peers.py", "dali", "--out", str(out), *clips], 30, by_name_only=True),
        "kernels": Part(shift("kernels", ["eager/folded"], 40), 46, by_name_only=True),
    }
    return {name: replace(part, seconds=part.seconds * stretch) for name, part in found.items()}


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
    if not arguments.rehearse:
        known = parts(out, False, stretch_to_fill(asked, 60 * arguments.minutes))
        asked = {name: known[name] for name in asked}
    out.mkdir(parents=True, exist_ok=True)
    recorder = Recorder("on_gpu", out / "parts.jsonl")
    return do(asked, out, arguments.rehearse, 3600 if arguments.rehearse else 60 * arguments.minutes, recorder)


def do(asked: dict[str, Part], out: Path, rehearse: bool, whole: float, recorder: Recorder) -> int:
    """Run the parts one after the other in `whole` seconds; return 0 if all ended well."""
    started, planned, ends = time.monotonic(), 0.0, []
    for name, part in asked.items():
        began = time.monotonic()
        planned += part.seconds
        seconds = limit(part, rehearse, planned - (began - started), whole - (began - started))
        ended = _why_not(part, rehearse)
        ended = ended or run(part.command, seconds, out / f"{name}.txt", environment(rehearse))
        ends.append(ended)
        recorder.add(name, ended=ended, seconds=round(time.monotonic() - began, 1))
        if name == "compiled" and not rehearse:
            from benchmarks.network import compile_choice
            from engine import compile_table

            compile_choice.write(out / "shift.jsonl", compile_table.gpu_name(), compile_table.capability())
    recorder.close()
    return int(any(ended != "well" for ended in ends))


def stretch_to_fill(asked: dict[str, Part], seconds: float) -> float:
    """Return the factor by which these parts fill the time, LONGEST at most."""
    return min(LONGEST, (seconds - RESERVE) / sum(part.seconds for part in asked.values()))


def limit(part: Part, rehearse: bool, planned: float, left: float) -> float:
    """Return the seconds that a part may take: its own, or those until it was `planned` to end, and not more than are
    `left`.
    """
    own = PATIENT * part.seconds if rehearse else part.seconds
    return min(max(own, planned), left)


def _why_not(part: Part, rehearse: bool) -> str | None:
    """Return the reason why a part cannot run on this machine, or None."""
    if rehearse or not part.needs_nvdec:
        return None
    try:
        nvdec.library()  # as DALI's decoder will, from the folders of drivers, too
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
            _kill(process.pid)
    return "well" if code == 0 else f"exit code {code}"


def _kill(part: int) -> None:
    """Kill a process, its group, and what it has started in other sessions: they would continue to use the GPU."""
    descendants = _descendants(part)
    with suppress(ProcessLookupError):
        os.killpg(part, signal.SIGKILL)
    for pid in descendants:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _descendants(ancestor: int) -> list[int]:
    """Return the processes that a living process has started, and those that these have started."""
    parents = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            parents[int(file.parent.name)] = int(file.read_text().rpartition(")")[2].split()[1])
    found = [ancestor]
    for pid in found:  # grows
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]


if __name__ == "__main__":
    sys.exit(main())
