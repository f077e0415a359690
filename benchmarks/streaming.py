"""Measure the time per frame of a stream: python benchmarks/streaming.py [BACKBONE ...] [--size 224] [--streams 1]

A causal TSM processes frame after frame and is waited for after each, as with a camera. It alternates with the same
network on whole clips, which gives the cost per frame offline. Both must first give the same logits. Frames are in
memory: decoding is not measured. Writes one JSON line per case to stdout and to FOLDER/streaming.jsonl.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.arguments import add_out, make_parser


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("backbones", nargs="*", metavar="BACKBONE")
    parser.add_argument("--size", type=int, default=224, help="side of a frame, in pixels (%(default)s)")
    parser.add_argument("--streams", type=int, default=1, help="parallel streams (%(default)s)")
    parser.add_argument("--rounds", type=int, default=20, help="rounds of each, of 8 frames (%(default)s)")
    parser.add_argument("--threads", type=int, help="threads on a CPU (default: the cores)")
    add_out(parser, "streaming.jsonl")
    return parser.parse_args()


if __name__ == "__main__":  # before the imports below, which take seconds: --help and mistakes are answered at once
    ARGUMENTS = parse()

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.harness.measure import spread
from benchmarks.harness.record import Recorder
from configs.schema import Model
from dali_pipes.device import cores_of_rank
from models import Recognizer, Streaming, build_model

BACKBONES = ("resnet50", "mobilenet_v2")
T = 8  # frames of a whole clip
PROVED_AT = 32  # px
ROUNDING = 1e-4  # of the largest logit, in single precision


def main(arguments: argparse.Namespace) -> None:
    arguments.threads = arguments.threads or cores_of_rank()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    recorder = Recorder("streaming", arguments.out / "streaming.jsonl")
    for backbone in arguments.backbones or BACKBONES:
        how = {"size": arguments.size, "streams": arguments.streams, "threads": arguments.threads}
        bench = Bench(backbone, arguments.size, arguments.streams)
        recorder.add(backbone, **bench.measure(arguments.rounds), **how)


class Bench:
    """One causal network, on a stream and on clips of the same frames."""

    def __init__(self, backbone: str, size: int, streams: int):
        self.device, self.dtype = ("cuda", torch.float16) if torch.cuda.is_available() else ("cpu", torch.float32)
        self.offline = network(backbone)
        check_results(self.offline)
        self.offline.to(self.device, self.dtype, memory_format=torch.channels_last)
        self.streaming = Streaming(self.offline)
        self.caches = self.streaming.initial_caches(streams, size)
        self.cache_bytes = self.streaming.cache_bytes(size)
        self.clips_BTCHW = noise(streams, size).to(self.device, self.dtype)

    @torch.inference_mode()
    def measure(self, rounds: int) -> dict:
        """Measure the milliseconds per frame, in a stream and offline."""
        online: list[float] = []
        offline: list[float] = []
        for turn in range(rounds + 1):
            if turn == 1:  # the first warms up
                online, offline = [], []
            online += [self._milliseconds(self._step, frame_BCHW) for frame_BCHW in self.clips_BTCHW.unbind(1)]
            offline.append(self._milliseconds(self.offline, self.clips_BTCHW) / T)
        median, quartiles = spread(online)
        return {
            "frame_ms": median,
            "frame_ms_iqr": quartiles,
            "frame_ms_p99": float(np.percentile(online, 99)),
            "frames_per_s": 1000 * len(self.clips_BTCHW) / median,
            "cache_bytes": self.cache_bytes,
            "offline_frame_ms": spread(offline)[0],
            "offline_frame_ms_iqr": spread(offline)[1],
            "frames": len(online),
            "precision": str(self.dtype).removeprefix("torch."),
        }

    def _step(self, frame_BCHW: Tensor) -> Tensor:
        logits_BK, *self.caches = self.streaming(frame_BCHW, *self.caches)
        return logits_BK

    def _milliseconds(self, run: Callable[[Tensor], Tensor], x: Tensor) -> float:
        began = time.perf_counter()
        run(x)
        if self.device == "cuda":
            torch.cuda.synchronize()
        return 1000 * (time.perf_counter() - began)


def network(backbone: str) -> Recognizer:
    """Build a causal TSM with calibrated batch norms: in a new one activations vanish, and differences with them."""
    torch.manual_seed(0)
    model = build_model(Model(backbone=backbone, num_classes=400, causal=True))
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None  # the caches hold the past frames for the next line
    with torch.no_grad():
        model.train()(noise(2, PROVED_AT))
    return model.eval()


@torch.inference_mode()
def check_results(model: Recognizer) -> None:
    """Raise RuntimeError unless streams of the clips' frames give the clips' logits."""
    clips_BTCHW = noise(2, PROVED_AT)
    streaming, caches, answers = Streaming(model), (), []
    for frame_BCHW in clips_BTCHW.unbind(1):
        logits_BK, *caches = streaming(frame_BCHW, *caches)
        answers.append(logits_BK)
    expected_BTK = model.frame_logits(clips_BTCHW)
    difference = ((torch.stack(answers, 1) - expected_BTK).abs().max() / expected_BTK.abs().max()).item()
    if not difference < ROUNDING:
        raise RuntimeError(f"a stream's logits differ from its clip's by {difference:.1e} of the largest")


def noise(streams: int, size: int) -> Tensor:
    """Return random clips_BTCHW in NHWC memory."""
    return torch.randn(streams, T, size, size, 3).movedim(-1, 2)


if __name__ == "__main__":
    main(ARGUMENTS)
