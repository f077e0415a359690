"""Write a network as a file for deployment, and keep the file only if it answers as the network does.

    python tools/export.py --weights runs/x/best.pt --format onnx [--precision fp16] [--uint8] [--out FILE]

The file takes any number of clips at once, and carries the class names, the settings and where it comes from;
`engine.inference.exported.open_deployed` opens it. Exit code 2 for what the user can mend, and where no file was kept.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine import exits

if __name__ == "__main__":
    exits.exit_quietly_until_started()

import argparse

from configs import cli
from engine.inference.metadata import ENDINGS, PRECISIONS


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = cli.Parser(prog="export.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", "-w", metavar="FILE", required=True, help="weights of any known format")
    parser.add_argument("--format", choices=ENDINGS, required=True)
    parser.add_argument("--out", type=cli.output_file, metavar="FILE", help="else beside the weights, under their name")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of the network inside the file")
    parser.add_argument("--uint8", action="store_true", help="take pixels, [N, T, H, W, 3], and normalise them inside")
    parser.add_argument("--online", action="store_true", help="take frames of streams, one at a time (model.causal)")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="to check on and, for aoti, compile for"
    )
    parser.add_argument("--config", "-c", metavar="RECIPE", help="for weights that do not bring their settings")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings that replace those")
    return parser.parse_args(words)


def main() -> int:
    args = arguments()  # before torch is imported: a mistake shows at once
    from engine import program
    from tools.exporting.export import export

    return program.run("export.py", lambda: export(args))


if __name__ == "__main__":
    sys.exit(main())
