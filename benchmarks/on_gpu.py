"""Everything that is to be found out on a machine with an NVIDIA GPU and NVDEC, in one command of under ten minutes.

    python benchmarks/on_gpu.py [SECTION ...] --out FOLDER [--device cpu]

Sections, each a command of its own that may fail or be stopped without costing the others:

    tests     the tests that need a GPU, but for exports, which take minutes; none is skipped for want of a GPU
    decoder   what NVDEC takes and gives, and how fast: benchmarks/probe_nvdec.py
    stages    clips/s cut, decoded, fed, computed and trained, by keyframe interval
    peers     the same against torchcodec and DALI on whole files
    training  the demo recipe from mp4, in the precision and with the decoder that `auto` takes; its accuracy

In FOLDER: each section's output in SECTION.txt, measurements in *.jsonl, how the sections ended in sections.jsonl.
`--device cpu` rehearses all of it in small.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.record import Recorder

ROOT = Path(__file__).resolve().parents[1]
TSM = ["--config", "tsm_k400_nhwc.yaml", "train.batch=64", "data.train=made", "model.pretrained=none"]
GPU_TESTS = ["-m", "gpu and not slow", "-v", "-rs", "-o", "faulthandler_timeout=60"]  # one that hangs shows where
SMALL = ["--rounds", "1", "--steps", "1", "clip.size=32", "model.width=8", "train.batch=4", "runtime.device=cpu"]


@dataclass(frozen=True)
class Section:
    """Commands, run one after the other until one fails or their time is over."""

    commands: list[list[str]]
    seconds: float


def sections(out: Path, cpu: bool) -> dict[str, Section]:
    """What is run, with results in `out`."""
    rehearsal = SMALL if cpu else ["--rounds", "5", "--steps", "20", "--seconds", "80"]
    made = ["video.count=8", "video.frames=24"] if cpu else ["video.count=512"]
    vary = ["--vary", "video.interval=1,16,250"]
    throughput = ["benchmarks/throughput.py", "all", *TSM, *vary, *made, *rehearsal, "--out", str(out)]
    few = ["--clips", "16", "--rounds", "1"] if cpu else []
    demo = ["--config", "demo.yaml", "train.name=demo_on_gpu", f"train.runs={out / 'runs'}"]
    brief = ["train.epochs=1", "runtime.device=cpu"] if cpu else []
    on_cpu = ["--device", "cpu"] if cpu else []
    result = ["--json", str(out / "demo.json")]
    return {
        "tests": Section([["-m", "pytest", *GPU_TESTS]], 110),
        "decoder": Section([["benchmarks/probe_nvdec.py", "--seconds", "190", "--out", str(out), *on_cpu]], 215),
        "stages": Section([throughput], 105),
        "peers": Section([["benchmarks/peers.py", "dali", "feed", "--out", str(out), *few]], 160 if cpu else 80),
        "training": Section(
            [["tools/prepare.py", "demo"], ["train.py", *demo, *brief, "--fresh"], ["eval.py", *demo, *brief, *result]],
            80,
        ),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION")
    parser.add_argument("--out", type=Path, default=Path("runs/on_gpu"), metavar="FOLDER")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    known = sections(arguments.out.resolve(), arguments.device == "cpu")
    if unknown := set(arguments.sections) - known.keys():
        parser.error(f"{sorted(unknown)[0]}: no such section; there are {', '.join(known)}")
    recorder = Recorder("on_gpu", arguments.out / "sections.jsonl")
    ends = []
    for name in arguments.sections or known:
        began = time.monotonic()
        ends.append(run(known[name], arguments.out / f"{name}.txt", environment(arguments.device)))
        recorder.add(name, ended=ends[-1], seconds=round(time.monotonic() - began, 1))
    return int(any(end != "well" for end in ends))


def environment(device: str) -> dict[str, str]:
    """That of every command: libraries in PYTHONPATH stay there, behind the project."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": paths, "REQUIRE_GPU": "1" if device == "cuda" else "0"}


def run(section: Section, log: Path, environment: dict[str, str]) -> str:
    """How a section ended: `well`, with an exit code, or stopped for taking too long."""
    deadline = time.monotonic() + section.seconds
    with log.open("w") as output:
        for command in section.commands:
            print("$ python", *command, file=output, flush=True)
            process = subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
            try:
                code = process.wait(max(1.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                return f"stopped after {section.seconds:.0f} s"
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # what it started would go on using the GPU
            if code:
                return f"exit code {code}"
    return "well"


if __name__ == "__main__":
    sys.exit(main())
