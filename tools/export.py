"""Write a network as a file for deployment, and keep the file only if it answers as the network does.

    python tools/export.py --weights runs/x/best.pt --format onnx [--out FILE] [--precision fp16] [--uint8]

The file takes any number of clips, and carries the class names, the settings and where it comes from;
`engine.deployed.open_deployed` opens it. Exit code 2 for what the user can mend, and where the file was not kept.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from configs import cli
from engine import program
from engine.card import Card
from engine.deployed import open_deployed
from engine.record import environment
from engine.saved import Saved, open_saved
from models import CheckpointError
from tools.export_check import TOLERANCE, differences
from tools.export_formats import WRITERS
from tools.export_network import DTYPES, ClipNetwork, trace


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = cli.Parser(prog="export.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", "-w", metavar="FILE", required=True, help="weights of any known format")
    parser.add_argument("--format", choices=WRITERS, required=True)
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: beside the weights, under their name")
    parser.add_argument("--precision", choices=DTYPES, default="fp32", help="of the network inside the file")
    parser.add_argument("--uint8", action="store_true", help="take pixels [N, T, H, W, 3] and normalise them inside")
    parser.add_argument("--config", "-c", metavar="RECIPE", help="for weights that do not bring their settings")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings that replace those")
    return parser.parse_args(words)


def export(args: argparse.Namespace) -> None:
    """From the weights to a file that was checked."""
    saved = open_saved(args.weights, args.config, args.overrides)
    card = describe(saved, args.precision, args.uint8)
    suffix, write = WRITERS[args.format]
    path = args.out or saved.path.with_suffix(suffix)
    temporary = path.with_name(f".tmp-{path.name}")
    network = ClipNetwork(saved.model, saved.config.clip, args.precision, args.uint8)
    try:
        write(network, trace(network, network.example(saved.config)), card, temporary)
        check(temporary, saved, card)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def describe(saved: Saved, precision: str, uint8: bool) -> Card:
    """The card of the file to be."""
    with saved.path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    known = environment()
    return Card(
        settings=saved.config,
        class_names=saved.class_names,
        precision=precision,
        uint8=uint8,
        online=False,
        weights=saved.path.name,
        sha256=sha256,
        made_with=known["packages"] | {"commit": known["commit"]},
    )


@torch.inference_mode()
def check(path: Path, saved: Saved, card: Card) -> None:
    """Print how the file's answers differ from the network's. Raises CheckpointError where by too much."""
    deployed = open_deployed(path)

    def normalised(pixels_NTHWC: Tensor) -> Tensor:
        mean, std = (torch.tensor(values) for values in (saved.config.clip.mean, saved.config.clip.std))
        return ((pixels_NTHWC / 255 - mean) / std).permute(0, 1, 4, 2, 3)

    def file(pixels_NTHWC: Tensor) -> Tensor:
        return deployed.run(pixels_NTHWC if card.uint8 else normalised(pixels_NTHWC))[0]

    def eager(pixels_NTHWC: Tensor) -> Tensor:
        return saved.model(normalised(pixels_NTHWC))

    tolerance = TOLERANCE[card.precision]
    for difference in differences(file, eager, saved.config):
        print(difference)
        if difference.largest > tolerance * difference.scale:
            raise CheckpointError(
                f"{path.name}: not kept: it differs from {saved.path} by more than {tolerance:g} of its largest logit, "
                f"which is what {card.precision} may; try a higher --precision"
            )


if __name__ == "__main__":
    sys.exit(program.run("export.py", lambda: export(arguments())))
