"""Measure the ceiling of the training step on a GPU, with PyTorch alone: python benchmarks/ceiling.py [CASE ...]

    copy               memory bandwidth: bytes read and written per second
    eager, compiled    a training step of torchvision's ResNet-50: NHWC, fused SGD, clipped gradients, images in memory
    4 channels         the same with a stem of 4 input channels
    graph              the whole step as one CUDA graph, for 8 and for 64 clips of 8 frames

Needs torch and torchvision only. Writes one JSON line per case to stdout and to FOLDER/ceiling.jsonl; a case that fails
is recorded, and the others continue. CASE selects cases whose name contains it. `--all-algorithms` lets cuDNN search
over all of its algorithms, as training does; a process searches once for each shape, so this cannot be a case among the
others. `--rehearse` runs in small on a CPU.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

BEGAN = time.monotonic()
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.arguments import add_out, make_parser


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--seconds", type=float, default=100, help="start no other case after this time (%(default)s)")
    parser.add_argument("--all-algorithms", action="store_true", help="torch.backends.cudnn.benchmark_limit = 0")
    parser.add_argument("--rehearse", action="store_true", help="run in small on a CPU, without compiling")
    add_out(parser, "ceiling.jsonl")
    return parser.parse_args()


if __name__ == "__main__":  # before the imports below, which take seconds: --help and mistakes are answered at once
    ARGUMENTS = parse()

import torch
import torchvision
from torch.nn import functional as F

from benchmarks.harness.record import Recorder

FRAMES = 8


@dataclass(frozen=True)
class Case:
    """One training step to time."""

    precision: torch.dtype = torch.float16
    compiled: bool = False
    channels: int = 3
    clips: int = 64
    graph: bool = False


CASES = {  # in the order of their importance, the compiled ones last: compiling takes most of a minute
    "eager fp16": Case(),
    "eager fp16, 4 channels": Case(channels=4),
    "graph bf16, 8 clips": Case(torch.bfloat16, clips=8, graph=True),
    "eager bf16, 8 clips": Case(torch.bfloat16, clips=8),
    "graph bf16, 64 clips": Case(torch.bfloat16, graph=True),
    "eager bf16": Case(torch.bfloat16),
    "compiled fp16": Case(compiled=True),
    "compiled bf16": Case(torch.bfloat16, compiled=True),
}


@dataclass(frozen=True)
class Bench:
    """The device and the sizes of all cases."""

    device: torch.device
    side: int
    copied_bytes: int
    clips: int | None = None  # in place of a case's own number
    repeats: int = 10
    warmup: int = 5

    def copy(self) -> dict:
        """Measure memory bandwidth on a copy far larger than the cache."""
        source = torch.zeros(self.copied_bytes, dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        return {"tb_per_s": 2 * self.copied_bytes / self.milliseconds(lambda: target.copy_(source)) / 1e9}

    def step(self, case: Case) -> dict:
        """Measure the milliseconds of a training step, and its images and clips per second."""
        images = FRAMES * (self.clips or case.clips)
        step = self._step(case, images)
        ms = self.milliseconds(self._captured(step) if case.graph else step)
        peak = torch.cuda.max_memory_allocated() if self.device.type == "cuda" else None
        return {"ms": ms, "images_per_s": 1e3 * images / ms, "clips_per_s": 1e3 * images / FRAMES / ms, "peak": peak}

    def milliseconds(self, work: Callable[[], object]) -> float:
        """Return the median over repeats, by the GPU's own clock if there is one."""
        for _ in range(self.warmup):
            work()
        return statistics.median(self._time(work) for _ in range(self.repeats))

    def _time(self, work: Callable[[], object]) -> float:
        if self.device.type != "cuda":
            began = time.perf_counter()
            work()
            return 1e3 * (time.perf_counter() - began)
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        work()
        last.record()
        last.synchronize()
        return first.elapsed_time(last)

    def _step(self, case: Case, images: int) -> Callable[[], None]:
        """Build a whole training step on images that stay in memory."""
        torch.manual_seed(0)
        network = torchvision.models.resnet50(num_classes=400)
        network.conv1 = torch.nn.Conv2d(case.channels, 64, 7, 2, 3, bias=False)
        network = network.to(self.device).to(memory_format=torch.channels_last).train()
        if case.compiled:
            network.compile(dynamic=False)
        optimizer = torch.optim.SGD(network.parameters(), 1e-3, momentum=0.9, weight_decay=1e-4, fused=True)
        scaler = torch.amp.GradScaler(self.device.type, enabled=case.precision == torch.float16)
        dtype = case.precision if self.device.type == "cuda" else torch.float32
        images_NHWC = torch.randn(images, self.side, self.side, case.channels, device=self.device, dtype=dtype)
        label_N = torch.randint(400, (images,), device=self.device)

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self.device.type, case.precision, enabled=self.device.type == "cuda"):
                loss = F.cross_entropy(network(images_NHWC.permute(0, 3, 1, 2)).float(), label_N)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(network.parameters(), 20.0)
            scaler.step(optimizer)
            scaler.update()

        return step

    def _captured(self, step: Callable[[], None]) -> Callable[[], None]:
        """Capture the step as a CUDA graph, after the passes on a side stream that PyTorch asks for."""
        if self.device.type != "cuda":
            return step
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        return graph.replay


GPU = Bench(torch.device("cuda"), side=224, copied_bytes=1 << 31)
SMALL = Bench(torch.device("cpu"), side=32, copied_bytes=1 << 20, clips=1, repeats=1, warmup=1)


def main(arguments: argparse.Namespace) -> int:
    arguments.out.mkdir(parents=True, exist_ok=True)
    bench = SMALL if arguments.rehearse else GPU
    if arguments.rehearse:
        torch.set_num_threads(1)  # threads that wait would spin
    end = BEGAN + arguments.seconds
    torch.backends.cudnn.benchmark = True
    if arguments.all_algorithms:
        torch.backends.cudnn.benchmark_limit = 0
    torch.set_float32_matmul_precision("high")
    recorder = Recorder("ceiling", arguments.out / "ceiling.jsonl")
    suffix = ", all algorithms" if arguments.all_algorithms else ""
    work: dict[str, Callable[[], dict]] = {"copy": bench.copy}
    work |= {name: lambda case=case: bench.step(case) for name, case in CASES.items()}
    if arguments.rehearse:
        work = {name: call for name, call in work.items() if not name.startswith("compiled")}
    for name, call in work.items():
        if time.monotonic() < end and (not arguments.cases or any(word in name for word in arguments.cases)):
            record(recorder, name + suffix, call)
    recorder.close()
    return 0


def record(recorder: Recorder, name: str, call: Callable[[], dict]) -> None:
    """Run a case and record its result, or the error of a GPU or library that cannot run it."""
    try:
        recorder.add(name, **call())
    except RuntimeError as error:  # of CUDA or cuDNN, out of memory included: the next case may still work
        recorder.add(name, error=f"{type(error).__name__}: {error}"[:300])
    gc.collect()  # a network refers to itself
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


if __name__ == "__main__":
    sys.exit(main(ARGUMENTS))
