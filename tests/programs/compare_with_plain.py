"""Compare files with a plain sequential decode by the same FFmpeg, frame by frame and at every check of a scan.

    python tests/programs/compare_with_plain.py FILE...|FOLDER... [--draws N]

Prints one line a file and check, and one for the clips that a prediction gives a network. Exits with 1 if a frame
differs, or a video that the scan accepted cannot be read.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch
from torch import Tensor

from configs.schema import Clip, Config, Data, Eval, Model, Runtime, Train
from dali_pipes import Shard
from dali_pipes.feed.clip_maker import ClipMaker
from dali_pipes.scan.build import scan_videos
from dali_pipes.scan.request import CHECKS
from dali_pipes.video.orientation import MIRRORED, TRANSPOSED, UPSIDE_DOWN, stored_boxes
from dali_pipes.video.packet_table import Video
from dali_pipes.views.draw import Views
from dali_pipes.views.windows import WindowPlan, whole_windows
from engine.inference.predict import predict
from tests.support.plain import Comparison, compare, plain_frames

PREDICTION = Config(
    model=Model(num_classes=2, frames=8),
    data=Data(decoder="pyav"),
    clip=Clip(size=56),
    eval=Eval(short_side=64, clips=2, batch=1),
    train=Train(batch=1),
    runtime=Runtime(device="cpu", precision="fp32", threads=1),
)


def main(words: list[str]) -> int:
    """Compare all files named on the command line; folders are searched."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("paths", nargs="+", type=Path, help="files, and folders of files")
    parser.add_argument("--draws", type=int, default=20, help="random clips of a video of more than 64 frames")
    parser.add_argument("--check", choices=CHECKS, action="append", help="default: all that read packets")
    args = parser.parse_args(words)
    counts = Counter()
    files = [file for path in args.paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    for path in filter(Path.is_file, files):
        for check in [*(args.check or CHECKS[1:]), "predict"]:
            predicted = check == "predict"
            outcome, detail = compare_prediction(path) if predicted else compare(str(path), check, args.draws)
            counts[check, outcome] += 1
            print(f"{outcome:9}  {check:7}  {path}: {detail}", flush=True)
    for (check, outcome), count in sorted(counts.items()):
        print(f"{check}: {count} {outcome}")
    return int(any(outcome in ("wrong", "miscounted", "lost") for _, outcome in counts))


def compare_prediction(path: Path) -> Comparison:
    """Compare the clips that a prediction gives its network with clips of the same frames of a plain decode."""
    given: list[Tensor] = []

    def score(clips_NTCHW: Tensor) -> Tensor:
        given.append(clips_NTCHW.clone())
        return torch.zeros(len(clips_NTCHW), 2)

    network = SimpleNamespace(score=score, info=SimpleNamespace(config=PREDICTION), device=torch.device("cpu"))
    unreadable: dict[int, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        catalog = scan_videos([str(path.absolute())], Path(folder), "demux")
        if not len(catalog.usable):
            return Comparison("refused", catalog.reason(0))
        plan = WindowPlan(PREDICTION, catalog, Shard(), whole_windows(catalog))
        list(predict(network, catalog, plan.windows, unreadable))
        if unreadable:
            return Comparison("lost", unreadable[0])
        expected_VTHWC = plain_clips(str(path), catalog.video(0), plan.draw(0, 0), plan.size)
    if expected_VTHWC is None:
        return Comparison("miscounted", "a plain decode does not have the frames")
    same = torch.equal(torch.cat(given)[: len(expected_VTHWC)], expected_VTHWC.permute(0, 1, 4, 2, 3))
    return Comparison("identical" if same else "wrong", "2 clips")


def plain_clips(path: str, video: Video, views: Views, size: int) -> Tensor | None:
    """Make the clips of the first row's views from a plain decode; None if it has too few frames."""
    frames_U, order = np.unique(views.frames_BVT[0], return_inverse=True)
    wanted, pictures = set(frames_U.tolist()), []
    for number, frame in enumerate(filter(None, plain_frames(path))):
        if number in wanted:
            pictures.append(frame.to_ndarray(format="rgb24"))
    if len(pictures) < len(wanted):
        return None
    turn = video.orientation
    maker = ClipMaker(size, PREDICTION.clip.mean, PREDICTION.clip.std, half=False)
    clips_VTHWC = maker.empty(*views.frames_BVT.shape[1:])
    boxes_V4 = stored_boxes(views.box_BV4[0], turn, video.width, video.height)
    mirror_V = views.mirror_BV[0].astype(np.int32) ^ (turn & MIRRORED != 0)
    turned = turn & TRANSPOSED != 0, turn & UPSIDE_DOWN != 0
    maker.make(pictures, order.reshape(views.frames_BVT.shape[1:]), boxes_V4, mirror_V, turned, clips_VTHWC)
    return clips_VTHWC


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
