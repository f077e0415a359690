"""Measure clip.snap, which moves drawn frames towards keyframes: python benchmarks/snap.py [VIDEO ...] [--train]

Counts the frames decoded per clip of 8 at several values of clip.snap, over clips drawn as in training, for each VIDEO
(by default generated ones of 300 frames with a keyframe every 16 and every 250). With --train, the recipe is trained
and evaluated at each value and seed, which takes minutes per run. Writes one JSON line per case.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.harness.arguments import add_out, make_parser
from benchmarks.harness.numbered_videos import VideoSpec, write_videos
from benchmarks.harness.record import Recorder
from dali_pipes.cut.plan import needed
from dali_pipes.scan.probe import probe
from dali_pipes.views.frames import segment_starts, towards_keyframes
from tools.data.stats import drawn_clips

ROOT = Path(__file__).resolve().parents[1]
T = 8  # frames per clip


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("videos", nargs="*", metavar="VIDEO")
    parser.add_argument("--snap", type=int, nargs="+", default=[0, 2, 4, 8], help="values of clip.snap (%(default)s)")
    parser.add_argument("--clips", type=int, default=2000, help="clips to count (%(default)s)")
    parser.add_argument("--train", action="store_true", help="also train and evaluate")
    parser.add_argument("--config", default="demo.yaml", metavar="RECIPE", help="recipe to train (%(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of training (%(default)s)")
    add_out(parser, "snap.jsonl")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    recorder = Recorder("snap", arguments.out / "snap.jsonl")
    videos = arguments.videos
    if not videos:
        specs = [VideoSpec("h264", 16), VideoSpec("h264", 250, b_frames=3)]
        write_videos(arguments.out / "made", specs)
        videos = [str(spec.path(arguments.out / "made")) for spec in specs]
    for path in videos:
        for most in arguments.snap:
            recorder.add(f"count/{Path(path).stem}/snap={most}", **count(path, most, arguments.clips))
    for most in arguments.snap if arguments.train else ():
        scores = [train(arguments.config, most, seed, arguments.out) for seed in arguments.seeds]
        top1 = [score["top1"] for score in scores]
        recorder.add(f"train/snap={most}", top1=float(np.mean(top1)), top1_of_seeds=top1, recipe=arguments.config)


def count(path: str, most: int, clips: int) -> dict:
    """Count the frames decoded per clip of a video, and measure the mean move of its frames."""
    video = probe(path)
    drawn_BT = drawn_clips(video.frames, T, clips)
    lowest_BT = segment_starts(np.full(clips, video.frames), T)
    moved_BT = towards_keyframes([video] * clips, drawn_BT, lowest_BT, most)
    return {
        "decoded_per_clip": float(np.mean([len(needed(video, frames_T)) for frames_T in moved_BT])),
        "moved_by": float((drawn_BT - moved_BT).mean()),
        "distinct_frames": len(np.unique(moved_BT)),
    }


def train(recipe: str, most: int, seed: int, out: Path) -> dict:
    """Train and evaluate the recipe; return the result of eval.py for the best weights."""
    name, result = f"snap{most}_seed{seed}", out / f"snap{most}_seed{seed}.json"
    words = ["--config", recipe, f"train.name={name}", f"train.seed={seed}", f"clip.snap={most}"]
    for command in (["train.py", *words, "--fresh"], ["eval.py", *words, "--json", str(result.resolve())]):
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=sys.stderr)
    return json.loads(result.read_text())


if __name__ == "__main__":
    main()
