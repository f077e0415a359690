"""Write a network as a file for deployment, and keep the file only if it answers as the network does.

    python tools/export.py --weights runs/x/best.pt --format onnx [--precision fp16] [--uint8] [--out FILE]

The file takes any number of clips at once, and carries the class names, the settings and where it comes from;
`engine.deployed.open_deployed` opens it. Exit code 2 for what the user can mend, and where no file was kept.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from configs import ConfigError, cli
from engine import program
from engine.card import Card
from engine.record import environment, replace_file
from engine.saved import Saved, open_saved
from models import Streaming
from tools.export_check import check, reopen
from tools.export_formats import write_onnx, write_package, write_program, write_safetensors
from tools.export_network import DTYPES
from tools.export_tensorrt import write_engine

FORMATS = {  # how the files' names end, and what writes them
    "onnx": (".onnx", write_onnx),
    "export": (".pt2", write_program),
    "aoti": (".aoti.pt2", write_package),
    "safetensors": (".safetensors", write_safetensors),
    "tensorrt": (".engine", write_engine),
}


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = cli.Parser(prog="export.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", "-w", metavar="FILE", required=True, help="weights of any known format")
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument("--out", type=cli.output_file, metavar="FILE", help="else beside the weights, under their name")
    parser.add_argument("--precision", choices=DTYPES, default="fp32", help="of the network inside the file")
    parser.add_argument("--uint8", action="store_true", help="take pixels, [N, T, H, W, 3], and normalise them inside")
    parser.add_argument("--online", action="store_true", help="take frames of streams, one at a time (model.causal)")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="to check on and, for aoti, compile for"
    )
    parser.add_argument("--config", "-c", metavar="RECIPE", help="for weights that do not bring their settings")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings that replace those")
    return parser.parse_args(words)


def export(args: argparse.Namespace) -> None:
    """From the weights to a checked file, or to none."""
    suffix, write = FORMATS[args.format]
    path = args.out or Path(args.weights).with_suffix(suffix)
    refuse(args, path, suffix)
    saved = open_saved(args.weights, args.config, [*args.overrides, "model.shift=auto"])  # the form that can be traced
    card = describe(saved, args)
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        temporary.touch()  # where that cannot be, Python says it better than the libraries that write
        write(saved, card, temporary, args.device)
        check(reopen(temporary, card, args.device), saved)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if args.format == "tensorrt":  # an engine has no place for its card
        replace_file(Path(f"{path}.json"), card.to_json())
    print(introduce(path, card))


def refuse(args: argparse.Namespace, path: Path, suffix: str) -> None:
    """Raise ConfigError for what cannot be, before any work is done."""
    ending = suffix[suffix.rindex(".") :]
    if path.suffix != ending:
        raise ConfigError(f"--out: {path.name} does not end in {ending}, as files of --format {args.format} do")
    if path.resolve() == Path(args.weights).resolve():
        raise ConfigError(f"--out: {path} would replace the weights; name another file")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device: cuda, but torch sees no GPU; take cpu, or check the driver")
    if args.format == "safetensors" and (args.uint8 or args.online):
        raise ConfigError("--format safetensors: holds weights alone, whatever goes in; leave out --uint8 and --online")


def describe(saved: Saved, args: argparse.Namespace) -> Card:
    """The card of the file to be. Raises ConfigError for --online and a network that is not causal."""
    with saved.path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    caches = Streaming(saved.model).initial_caches(1, saved.config.eval_size) if args.online else ()
    here = environment()
    return Card(
        settings=saved.config,
        class_names=saved.class_names,
        precision=args.precision,
        uint8=args.uint8,
        caches=tuple(tuple(cache.shape[1:]) for cache in caches),
        weights=saved.path.name,
        sha256=sha256,
        made_with=here["packages"] | {"commit": here["commit"]},
    )


def introduce(path: Path, card: Card) -> str:
    """What the file is, what goes in and comes out, and how it is run, in a few lines."""
    config = card.settings
    outer = "N" if card.online else f"N, {config.eval_frames}"
    pictures = f"{config.eval_size}, {config.eval_size}"
    if card.uint8:
        shape, values = f"uint8 [{outer}, {pictures}, 3]", "RGB"
    else:
        mean, std = [*config.clip.mean], [*config.clip.std]
        shape, values = f"float32 [{outer}, 3, {pictures}]", f"(RGB / 255 - {mean}) / {std}"
    kept = f", cache_0 to cache_{len(card.caches) - 1}, at first zeros" if card.online else ""
    given = ", next_cache_0 ..., the caches for the next frame" if card.online else ""
    command = f"trtexec --loadEngine={path}"
    if path.suffix != ".engine":
        command = f"python tools/predict.py VIDEO --weights {path}{' --online' if card.online else ''}"
    return (
        f"{path}: {path.stat().st_size / 1e6:.1f} MB, {card.precision} inside\n"
        f"  in   {'frame' if card.online else 'clip'} {shape}, {values}{kept}\n"
        f"  out  logits float32 [N, {config.model.num_classes}]{given}\n"
        f"  run  {command}"
    )


if __name__ == "__main__":
    sys.exit(program.run("export.py", lambda: export(arguments())))
