"""Run inference on videos: `python tools/predict.py SOURCE... --weights W [section.key=value ...]`.

Uses the code of evaluation. Exit codes: 0 if every video could be read, 3 if some could not (they are listed at the
end), 2 if none could (with --strict: if one could not), and 2 for errors that the user can fix.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a program's own folder is tools/

from engine import exits

if __name__ == "__main__":
    exits.exit_quietly_until_started()

from argparse import Namespace
from collections.abc import Iterator

from configs import cli
from configs.sections.data import SCHEMES
from dali_pipes.errors import masked
from engine.outputs import add_force_argument

EVERY, SMOOTH = 1, 12  # frames


def arguments() -> Namespace:
    """Parse the command line. Words with `=` that are not paths are settings, all others are sources."""
    parser = cli.Parser(prog="predict.py", description="Run inference on videos.")
    parser.add_argument(
        "words",
        nargs="*",
        metavar="SOURCE",
        help="a video, a folder, a glob, a list or a table (docs/predict.md), - for a list on stdin; videos and lists "
        "may be in a store (s3://, gs://, az://, http://); with --online or --sliding also a camera (0) or an address "
        "(rtsp://, http://); or section.key=value",
    )
    parser.add_argument(
        "--weights",
        "-w",
        metavar="NETWORK",
        help="required: a run's folder, a checkpoint, or a file of tools/export.py",
    )
    parser.add_argument("--config", "-c", metavar="RECIPE", help="for weights without settings")
    parser.add_argument("--top-k", type=int, default=5, metavar="K", help="number of classes per video (%(default)s)")
    parser.add_argument(
        "--min-score", type=float, default=0.0, metavar="P", help='classes less likely than P (0 to 1) are "no action"'
    )
    parser.add_argument(
        "--json", type=cli.text_output, metavar="FILE", help="write a line of JSON per video (-: stdout)"
    )
    parser.add_argument(
        "--csv", type=cli.text_output, metavar="FILE", help="write a line per predicted class (-: stdout)"
    )
    parser.add_argument(
        "--features", type=cli.array_file, metavar="FILE.npz", help="write features of clips and frames"
    )
    parser.add_argument("--save-video", type=Path, metavar="FOLDER", help="write copies with the predictions drawn on")
    add_force_argument(parser)
    parser.add_argument(
        "--explain", type=Path, metavar="FOLDER", help="show the frames and regions that decided (Grad-CAM)"
    )
    parser.add_argument("--sliding", type=float, metavar="SECONDS", help="score windows of this length: a timeline")
    parser.add_argument("--stride", type=float, metavar="SECONDS", help="distance of windows (default: half a window)")
    parser.add_argument("--online", action="store_true", help="process frames one by one (model.causal): a timeline")
    parser.add_argument("--every", type=int, metavar="N", help=f"online: use every N-th frame ({EVERY})")
    parser.add_argument(
        "--smooth", type=int, metavar="N", help=f"online: average the newest N frames' logits ({SMOOTH})"
    )
    parser.add_argument("--strict", action="store_true", help="exit with 2 if any video cannot be read")
    args = parser.parse_args()
    args.overrides = list(filter(cli.is_setting, args.words))
    args.sources = [word for word in args.words if not cli.is_setting(word)]
    streams = args.online or args.sliding is not None
    args.live = next((word for word in args.sources if is_live(word, streams)), None)
    if problem := next(_problems(args), None):
        parser.error(problem)
    args.every, args.smooth = args.every or EVERY, args.smooth or SMOOTH
    return args


def is_live(word: str, streams: bool) -> bool:
    """Return True if a source is the number of a camera or the address of a stream, not a file or an object.

    http(s) addresses are streams only with `streams` (--online or --sliding).
    """
    scheme, mark, _ = word.partition("://")
    if mark:
        return scheme not in SCHEMES or (scheme.startswith("http") and streams)
    return word.isdigit() and not os.path.lexists(word)


def _problems(args: Namespace) -> Iterator[str]:
    """Yield a message for each mistake in the command line."""
    if not args.weights:
        yield "--weights: required; a run's folder such as runs/NAME, or the file of a network"
    if not args.sources:
        yield "no video given; name files, folders, globs or lists of paths, or give paths on stdin with -"
    if args.live and len(args.sources) > 1:
        yield f"{masked(args.live)}: a camera or stream cannot be combined with other sources"
    if args.live and not args.online and args.sliding is None:
        yield f"{masked(args.live)}: a camera or a stream needs --online (a causal network) or --sliding SECONDS"
    for flag in ("save_video", "explain", "features"):
        if args.live and getattr(args, flag):
            yield f"--{flag.replace('_', '-')}: needs a file; record the stream first"
    if args.stride is not None and args.sliding is None:
        yield "--stride: is the distance between windows; give their length with --sliding"
    for flag in ("every", "smooth"):
        if getattr(args, flag) is not None and not args.online:
            yield f"--{flag}: is for networks that take a stream frame by frame, with --online"
    if args.online and args.sliding is not None:
        yield "--online: predicts frame by frame, --sliding by windows; choose one"
    if args.online and args.features:
        yield "--features: needs whole clips; leave out --online"
    if not 0 <= args.min_score <= 1:
        yield f"--min-score: {args.min_score:g} is not between 0 and 1"
    for flag in ("top_k", "sliding", "stride", "every", "smooth"):
        value = getattr(args, flag)
        if value is not None and not value > 0:
            yield f"--{flag.replace('_', '-')}: {value:g} is not above 0"


def main() -> int:
    exits.exit_quietly_until_started()
    args = arguments()  # before torch is imported: errors are shown at once
    from engine import program

    def work() -> int:
        from tools.prediction.run import run  # takes seconds; logging has been set up by now

        return run(args)

    return program.run("predict.py", work, check=lambda: cli.refuse_missing_network(args.weights))


if __name__ == "__main__":
    sys.exit(main())
