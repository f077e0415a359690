"""Export a network to a file, and keep the file only if its logits equal those of the network.

    python tools/export.py runs/NAME --format onnx [--precision fp16] [--uint8] [--out FILE]

NETWORK is a run's folder or a file of weights. The exported file accepts any batch size and contains the class names,
settings and origin of the network; `engine.inference.exported.open_exported` opens it. Exit code 2 for user errors, and
if no file was kept.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a program's own folder is tools/

from engine import exits

if __name__ == "__main__":
    exits.exit_quietly_until_started()

import argparse

from configs import cli
from engine.inference.metadata import ENDINGS, PRECISIONS
from engine.outputs import add_force_argument


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = cli.Parser(prog="export.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", "-w", metavar="FILE", help="the same as NETWORK")
    parser.add_argument("--format", choices=ENDINGS, required=True)
    parser.add_argument(
        "--out", type=cli.output_file, metavar="FILE", help="default: next to the weights, under their name"
    )
    add_force_argument(parser)
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="internal precision of the network")
    parser.add_argument("--uint8", action="store_true", help="input: pixels [N, T, H, W, 3], normalised by the network")
    parser.add_argument("--online", action="store_true", help="input: frames of streams, one at a time (model.causal)")
    parser.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help="to check on; for aoti and tensorrt also to compile for",
    )
    parser.add_argument("--config", "-c", metavar="RECIPE", help="for weights without stored settings")
    parser.add_argument(
        "overrides", nargs="*", metavar="NETWORK", help="or section.key=value: settings that replace the stored ones"
    )
    args = parser.parse_args(words)
    args.weights = cli.take_network(parser, args)
    if not args.weights:
        parser.error("no network given; name a run's folder such as runs/NAME, or a file of weights")
    return args


def main() -> int:
    exits.exit_quietly_until_started()
    args = arguments()  # before torch is imported: errors are shown at once
    from engine import program

    def work() -> None:
        from tools.exporting.export import export  # takes seconds; logging has been set up by now

        export(args)

    return program.run("export.py", work, check=lambda: cli.refuse_missing_network(args.weights))


if __name__ == "__main__":
    sys.exit(main())
