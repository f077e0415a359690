"""Measure the clips per second of each stage of training, and name the bottleneck.

    python benchmarks/throughput.py [STAGE ...] [--config RECIPE] [--vary KEY=A,B] [section.key=value ...]

Stages: cut, decode, feed, compute, train, or all: see benchmarks/stages/. All are measured alternately in one
process, and so are the values of --vary: `--vary train.batch=8,16`, `--vary runtime.threads=1,2,4`. Under torchrun the
rates are those of all ranks together. No weights are downloaded.

`--config finetune.yaml data.train=my_videos/` measures videos of your own. Without a list, as in a fresh clone, a set
of videos is generated. Words that begin with `video.` generate another one:
`video.interval=16 video.frames=300 video.count=64 video.codec=hevc`; they can be varied, too.

Prints a table and a conclusion. `--json` prints a JSON line per case instead, and `--out FOLDER` writes these lines to
FOLDER/throughput.jsonl; counts, which noise does not affect, come first.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness.numbered_videos import KINDS, SET
from benchmarks.stages import STAGES
from configs import Config, cli
from engine import program


def main() -> int:
    parser = cli.Parser(prog="throughput.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_config_arguments(parser)
    parser.set_defaults(config="demo.yaml")
    parser.add_argument("--vary", action="append", default=[], metavar="KEY=A,B", help="measure each of these values")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each stage (%(default)s)")
    parser.add_argument("--seconds", type=float, default=math.inf, help="one round, and more until this time is over")
    parser.add_argument("--steps", type=int, default=20, help="batches in one measurement (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print a JSON line per case, and no table")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="folder for throughput.jsonl")
    arguments = parser.parse_args()
    words, arguments.overrides = arguments.overrides, [word for word in arguments.overrides if "=" in word]
    arguments.stages = [word for word in words if "=" not in word] or ["all"]
    arguments.set_words = [word for word in arguments.overrides if word.startswith(SET)]
    arguments.overrides = [word for word in arguments.overrides if not word.startswith(SET)]
    varied = [value.partition("=")[0] for value in arguments.vary] + [w.partition("=")[0] for w in arguments.set_words]
    if unknown := set(arguments.stages) - {*STAGES, "all"}:
        parser.error(f"{sorted(unknown)[0]}: no such stage; there are {', '.join(STAGES)} and all")
    if unknown := [key for key in varied if key.startswith(SET) and key.removeprefix(SET) not in KINDS]:
        parser.error(f"{unknown[0]}: no such property of a video; there are {', '.join(KINDS)}")
    config = cli.from_arguments(arguments)
    return program.run("throughput.py", lambda: measure(config, arguments))


def measure(config: Config, arguments: argparse.Namespace) -> None:
    """Measure the requested stages; torch is imported here, so that an invalid command fails at once."""
    from benchmarks.stages import turns

    turns.run(config, arguments)


if __name__ == "__main__":
    sys.exit(main())
