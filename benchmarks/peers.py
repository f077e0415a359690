"""Compare with other decoders, loaders and steps: python benchmarks/peers.py [decode|dali|feed|step|all] [VIDEO ...]

    decode   frames of clips, on one thread and on --threads: ours, torchcodec, decord, PyAV
    dali     the same with DALI's decoder, from cut and from whole files, and with its reader, which returns evenly
             spaced frames (VP9 on a CPU, H.264 on a GPU, and there torchcodec on NVDEC, too)
    feed     whole batches: the project's loader, and a torch DataLoader over torchcodec with torchvision's transforms
    step     a training step: ours, MIT's TSM and mmaction2's, as published and tuned, on clips in memory

The pixels of every alternative are first compared with ours; differences are recorded. Then all are timed alternately.
Recorded are clips per second and the speed-up of ours over each. Alternatives that are not installed are skipped with a
message. Without VIDEO, videos are generated: 300 frames of 352x256 with a keyframe every 1, 16 and 250.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.arguments import add_out, make_parser


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("words", nargs="*", metavar="PART or VIDEO")
    parser.add_argument("--clips", type=int, default=64, help="clips per round and implementation (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each implementation (%(default)s)")
    parser.add_argument("--threads", type=int, help="threads or workers (default: the cores)")
    parser.add_argument("--batch", type=int, help="batch of `step` (default: 64, 2 on a CPU)")
    parser.add_argument("--size", type=int, help="side of its clips in pixels (default: 224, 112 on a CPU)")
    add_out(parser, "peers.jsonl")
    return parser.parse_args()


if __name__ == "__main__":  # before the imports below, which take seconds: --help and mistakes are answered at once
    ARGUMENTS = parse()

import numpy as np
import torch

import configs
from benchmarks.alternatives import dali, dataloader, rounds, step
from benchmarks.alternatives.competition import Competition, Contenders
from benchmarks.alternatives.decoders import DECODERS, Clip, Decoder
from benchmarks.harness.numbered_videos import VideoSpec, with_set, write_videos
from benchmarks.harness.record import Recorder
from dali_pipes.device import cores_of_rank
from dali_pipes.scan.probe import probe
from engine import loaders, runtime
from tools.data.stats import drawn_clips

PARTS = ("decode", "dali", "feed", "step")
INTERVALS = (1, 16, 250)
T = 8  # frames per clip
PROVED = 8  # clips compared by their pixels before timing


def main(arguments: argparse.Namespace) -> None:
    on_gpu = torch.cuda.is_available()
    arguments.threads = arguments.threads or cores_of_rank()
    arguments.batch = arguments.batch or (64 if on_gpu else 2)
    arguments.size = arguments.size or (224 if on_gpu else 112)
    asked = {word for word in arguments.words if word in (*PARTS, "all")} or {"all"}
    videos = [word for word in arguments.words if word not in asked]
    arguments.out.mkdir(parents=True, exist_ok=True)
    bench = Peers(arguments, Competition(Recorder("peers", arguments.out / "peers.jsonl"), arguments.rounds))
    comparisons: dict[str, Callable[[], None]] = {
        "decode": partial(bench.decode, videos),
        "dali": partial(bench.dali, videos),
        "feed": bench.feed,
        "step": partial(bench.step, arguments.batch, arguments.size),
    }
    for part in PARTS:
        if asked & {part, "all"}:
            comparisons[part]()


class Peers:
    """The four comparisons. Each first checks that the alternatives give the same result as ours."""

    def __init__(self, arguments: argparse.Namespace, competition: Competition):
        self.clips, self.threads = arguments.clips, arguments.threads
        self.on_gpu = torch.cuda.is_available()
        self.folder = arguments.out / "peers"
        self.competition = competition

    def decode(self, videos: list[str]) -> None:
        """Compare threads that decode clip after clip."""
        for path in videos or self._generated([VideoSpec("h264", interval) for interval in INTERVALS]):
            clips = draw_clips(path, self.clips)
            truth = [DECODERS["ours (cut, pyav)"]()(clip) for clip in clips[:PROVED]]
            group = f"decode/{Path(path).stem}"
            decoders = {name: decoder for name in DECODERS if (decoder := self._decoder(name, group))}
            notes = {
                name: distance([decoder(clip) for clip in clips[:PROVED]], truth) for name, decoder in decoders.items()
            }
            for threads in sorted({1, self.threads}):
                contenders: Contenders = {
                    name: partial(rounds.of_decoder, decoder, clips, threads) for name, decoder in decoders.items()
                }
                label = "1 thread" if threads == 1 else f"{threads} threads"
                self.competition.compare(f"{group}, {label}", contenders, notes, threads)

    def dali(self, videos: list[str]) -> None:
        """Compare DALI's decoders, from cut files, whole files and its own reader; on a GPU torchcodec's, too."""
        codec = "h264" if self.on_gpu else "vp9"
        for path in videos or self._generated([VideoSpec(codec, interval) for interval in INTERVALS]):
            clips = draw_clips(path, self.clips)
            self._dali_against(f"dali/{Path(path).stem}", clips, whole=True)
            self._dali_against(f"dali even/{Path(path).stem}", [dali.evenly(clips[0])] * len(clips))

    def _dali_against(self, group: str, clips: list[Clip], whole: bool = False) -> None:
        """Compare DALI on cut files with DALI on whole files, or with its reader on evenly spaced frames."""
        batch = min(16, len(clips))
        how = {"batch": batch, "threads": self.threads, "on_gpu": self.on_gpu}
        runs: dict[str, Callable[[], dali.Batches]] = {
            "ours (cut, DALI)": partial(dali.decoded, clips, dali.cut_file, **how)
        }
        if whole:
            runs["whole file, DALI"] = partial(dali.decoded, clips, dali.whole_file, **how)
        else:
            runs["DALI's reader"] = partial(dali.read, clips, **how)
        contenders, notes, truth = {}, {}, []
        for name, run in runs.items():
            try:
                frames = dali.on_host(next(run()))
            except RuntimeError as error:
                self.competition.skip(f"{group}/{name}", error)
                continue
            truth = truth or frames
            notes[name] = distance(frames, truth)
            contenders[name] = partial(rounds.of_batches, run, len(clips) // batch, batch)
        if self.on_gpu and whole and (decoder := self._decoder("torchcodec CUDA", group)):
            contenders["torchcodec CUDA"] = partial(rounds.of_decoder, decoder, clips, self.threads)
            notes["torchcodec CUDA"] = distance([decoder(clip) for clip in clips[:batch]], truth)
        if contenders:
            self.competition.compare(group, contenders, notes, self.threads)

    def feed(self) -> None:
        """Compare whole batches of the recipe's size, with its full preprocessing."""
        for interval in INTERVALS:
            settings = ["train.batch=16", "runtime.precision=fp32", f"runtime.threads={self.threads}"]
            config = configs.load("tsm_k400_nhwc", [*settings, "data.train=made below"])
            config = runtime.resolve(with_set(config, self.folder, {"interval": str(interval), "count": "512"}))
            loader = loaders.open_loader(config, "train", torch.device(config.runtime.device))
            steps = self.clips // loader.plan.batch
            contenders: Contenders = {"ours (loader)": partial(rounds.of_loader, loader, itertools.count(), steps)}
            notes: dict[str, dict] = {"ours (loader)": {}}
            name = "DataLoader, torchcodec, torchvision"
            try:
                theirs = next(dataloader.batches(loader, 0, 1, workers=0))
            except (ImportError, RuntimeError) as error:
                self.competition.skip(f"feed/gop{interval}/{name}", error)
                loader.close()
                continue
            ours = next(loader.epoch(0)).clips_BTCHW.cpu().float()
            notes[name] = {"mean_difference": (ours - theirs).abs().mean().item() * 255 * min(config.clip.std)}
            contenders[name] = partial(rounds.of_dataloader, loader, steps, self.threads)
            loader.pause()
            self.competition.compare(f"feed/gop{interval}", contenders, notes, self.threads)
            loader.close()

    def step(self, batch: int, size: int) -> None:
        """Compare optimizer steps on clips in memory."""
        config = runtime.resolve(step.recipe(batch, size))
        ours = step.Ours(config)
        device, group = ours.training.device, f"step/{batch} clips of {size} px"
        how = {"steps": 2, "clips": batch, "device": device}
        contenders: Contenders = {"ours": partial(step.timed, ours.step, **how)}
        notes: dict[str, dict] = {"ours": {"precision": config.runtime.precision}}
        for name, build in step.NETWORKS.items():
            for tuned in (True, False):
                label = f"{name}, {'tuned' if tuned else 'as published'}"
                try:
                    peer = step.Peer(build, ours, tuned)
                except ImportError as error:
                    self.competition.skip(f"{group}/{label}", error)
                    continue
                far = peer.distance(ours)
                assert far < step.CLOSE, f"{label} computes something else: logits {far} apart"
                notes[label] = {"logits_apart": far}
                contenders[label] = partial(step.timed, peer.step, **how)
        for contender in contenders.values():
            contender()  # chooses kernels, allocates memory
        self.competition.compare(group, contenders, notes, self.threads)

    def _decoder(self, name: str, group: str) -> Decoder | None:
        """Return a decoder; None, with a record, if it is not installed."""
        try:
            return DECODERS[name]()
        except (ImportError, RuntimeError, OSError) as error:
            self.competition.skip(f"{group}/{name}", error)
            return None

    def _generated(self, specs: list[VideoSpec]) -> list[str]:
        write_videos(self.folder, specs)
        return [str(spec.path(self.folder)) for spec in specs]


def draw_clips(path: str, count: int) -> list[Clip]:
    """Draw clips of a video as training does."""
    video = probe(path)
    return [Clip(path, video, frames_T) for frames_T in drawn_clips(video.frames, T, count)]


def distance(found: list[np.ndarray], truth: list[np.ndarray]) -> dict:
    """Return the pixel difference from ours, in grey levels."""
    arrays = [frames.cpu().numpy() if isinstance(frames, torch.Tensor) else frames for frames in found]
    differences = [np.abs(a.astype(int) - b) for a, b in zip(arrays, truth, strict=True)]
    return {
        "mean_difference": float(np.mean([d.mean() for d in differences])),
        "largest_difference": int(max(d.max() for d in differences)),
    }


if __name__ == "__main__":
    main(ARGUMENTS)
