"""Measure the decoding of clips joined into one stream: python benchmarks/joined.py > benchmarks/results/joined.jsonl

A decoder is set up for every sample. Clips of videos with the same sample description could share one, with their cuts
concatenated, since each starts at a keyframe. Batches of 32 clips are decoded by DALI as 32, 16, 8 and 4 streams,
alternately, after their frames were compared. Writes the milliseconds per clip, one JSON line per keyframe interval and
number of clips per stream. On a GPU: H.264 and NVDEC; otherwise VP9 and DALI's decoder on the CPU.
"""

from __future__ import annotations

import argparse
import sys
import time
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.arguments import add_out, make_parser


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each measurement, alternating (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="decoder threads (%(default)s)")
    add_out(parser, "joined.jsonl")
    return parser.parse_args()


if __name__ == "__main__":  # before the imports below, which take seconds: --help and mistakes are answered at once
    ARGUMENTS = parse()

import numpy as np
import torch

from benchmarks.harness.measure import spread
from benchmarks.harness.numbered_videos import VideoSpec
from benchmarks.harness.record import Recorder
from benchmarks.nvdec import streams
from benchmarks.nvdec.streams import Stream
from dali_pipes.cut import cutter
from dali_pipes.video import mp4

BATCH, T = 32, 8
JOINED = (1, 2, 4, 8)  # clips in a stream


def main(arguments: argparse.Namespace) -> None:
    (arguments.out / "made").mkdir(parents=True, exist_ok=True)
    recorder = Recorder("joined", arguments.out / "joined.jsonl")
    codec, head, device = ("h264", "nvdec", "gpu") if torch.cuda.is_available() else ("vp9", "dali_cpu", "cpu")
    for interval in (1, 16):
        video = streams.scanned(arguments.out / "made", VideoSpec(codec, interval))
        clips = [streams.clip_frames(video, T, number) for number in range(BATCH)]
        cuts = cutter.cut_all([video] * BATCH, clips)
        inputs = {
            count: [joined(video.width, video.height, cuts[at : at + count]) for at in range(0, BATCH, count)]
            for count in JOINED
        }
        pipelines = {
            count: streams.open_decoder(some, len(some), head, device, arguments.threads)
            for count, some in inputs.items()
        }
        frames = {count: np.concatenate(streams.pictures(pipeline)) for count, pipeline in pipelines.items()}
        times = {count: [] for count in JOINED}
        for _ in range(arguments.rounds):
            for count, pipeline in pipelines.items():
                began = time.perf_counter()
                for _ in streams.epoch(pipeline):
                    pass
                times[count].append(1e3 * (time.perf_counter() - began) / BATCH)
        for count in JOINED:
            median, quartiles = spread(times[count])
            found = {"same_frames": bool((frames[count] == frames[1]).all()), "clips_per_stream": count}
            recorder.add(f"{head}/{interval}/{count}", **found, ms_per_clip=median, ms_quartiles=quartiles)


def joined(width: int, height: int, cuts: list[cutter.Cut]) -> Stream:
    """Join cuts with the same sample description into one file; their frames follow one another."""
    layouts = [cut.layout for cut in cuts]
    firsts = np.cumsum([0, *(cut.packets for cut in cuts)]).tolist()
    moved = list(zip(layouts, firsts[:-1], strict=True))
    head = mp4.write(
        layouts[0].description,
        width,
        height,
        np.concatenate([layout.sizes for layout in layouts]),
        np.concatenate([layout.shown + first for layout, first in moved]),
        np.concatenate([layout.sync + first for layout, first in moved]),
    )
    body = b"".join(cut.data[cut.layout.starts[0] :] for cut in cuts)
    positions = np.concatenate([cut.positions + first for cut, (first, _) in zip(cuts, pairwise(firsts), strict=True)])
    return Stream(head + body, positions.astype(np.int32), positions, firsts[-1])


if __name__ == "__main__":
    main(ARGUMENTS)
