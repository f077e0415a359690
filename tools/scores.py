"""Compute accuracy from score files: `python tools/scores.py a.npz [b.npz ...] [--weights 1,1.5] [--average probs]`.

One file gives the accuracy that eval.py printed when it wrote the file. Several files are fused: the score of a video
is the weighted mean of the networks' scores, over the videos that all of them could read.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a program's own folder is tools/

from engine import exits

if __name__ == "__main__":
    exits.exit_quietly_until_started()

from argparse import ArgumentTypeError, Namespace

from configs import ConfigError, cli

AVERAGES = ("logits", "probs")


def weights(text: str) -> list[float]:
    """Parse positive numbers separated by commas."""
    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        raise ArgumentTypeError(f"{text}: expected a number for each file, with commas between, as in 1,1.5") from None
    if not all(0 < number < float("inf") for number in numbers):
        raise ArgumentTypeError(f"{text}: a weight must be above 0")
    return numbers


def arguments() -> Namespace:
    parser = cli.Parser(prog="scores.py", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="written by eval.py --scores")
    parser.add_argument("--weights", type=weights, metavar="W,W", help="weight of each file (default: equal)")
    parser.add_argument("--average", choices=AVERAGES, help="scores to average (default: as in evaluation)")
    cli.add_result_arguments(parser)
    return parser.parse_args()


def score(args: Namespace) -> None:
    """Fuse the files, then print and write the result."""
    from engine.evaluation import scores
    from engine.evaluation.fusion import fuse
    from engine.evaluation.results import publish
    from engine.outputs import Outputs

    outputs = Outputs(args.files, args.force)
    outputs.check(args.json, args.confusion)
    files = [scores.load(path) for path in args.files]
    weights = args.weights or [1.0] * len(files)
    if len(weights) != len(files):
        raise ConfigError(f"--weights: {len(weights)} for {len(files)} files; give each file one")
    judged = {file.about["settings"]["eval.average"] for file in files}
    if len(judged) > 1 and not args.average:
        raise ConfigError("--average: the files were evaluated with different eval.average; choose logits or probs")
    average = args.average or judged.pop()
    result = fuse(files, weights, average)
    about = {"files": [str(path) for path in args.files], "file_weights": weights, "average": average}
    publish(result, files[0].class_names.tolist(), args, about, outputs)


def main() -> int:
    exits.exit_quietly_until_started()
    args = arguments()
    from engine import program

    def check() -> None:
        for path in args.files:
            path.open("rb").close()

    return program.run("scores.py", lambda: score(args), check=check)


if __name__ == "__main__":
    sys.exit(main())
