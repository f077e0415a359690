"""What tools/export.py does: from weights to a file that answers as the network does, or to none."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import torch

from configs import ConfigError
from engine.files import lack_of_room, replace_file
from engine.inference.metadata import ENDINGS, ExportMetadata
from engine.inference.saved_model import SavedModel, load_saved_model
from engine.runs.environment import environment
from models import Streaming
from tools.exporting.check import check, reopen
from tools.exporting.formats import write_onnx, write_package, write_program, write_safetensors
from tools.exporting.tensorrt import write_engine

WRITERS = {
    "onnx": write_onnx,
    "export": write_program,
    "aoti": write_package,
    "safetensors": write_safetensors,
    "tensorrt": write_engine,
}


def export(args: argparse.Namespace) -> None:
    """From the weights to a checked file, or to none."""
    suffix = ENDINGS[args.format]
    path = args.out or Path(args.weights).with_suffix(suffix)
    refuse(args, path, suffix)
    saved = load_saved_model(
        args.weights, args.config, [*args.overrides, "model.shift=auto"]
    )  # the form that can be traced
    size = sum(tensor.nbytes for tensor in saved.model.state_dict().values())
    if problem := lack_of_room(path.parent, size, "the file"):
        raise ConfigError(problem)
    card = describe(saved, args)
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        temporary.touch()  # where that cannot be, Python says it better than the libraries that write
        WRITERS[args.format](saved, card, temporary, args.device)
        check(reopen(temporary, card, args.device), saved)
        if args.format == "tensorrt":  # an engine has no place for its card
            replace_file(Path(f"{path}.json"), card.to_json())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
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


def describe(saved: SavedModel, args: argparse.Namespace) -> ExportMetadata:
    """The card of the file to be. Raises ConfigError for --online and a network that is not causal."""
    with saved.path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    caches = Streaming(saved.model).initial_caches(1, saved.config.eval_size) if args.online else ()
    here = environment()
    return ExportMetadata(
        settings=saved.config,
        class_names=saved.class_names,
        precision=args.precision,
        uint8=args.uint8,
        caches=tuple(tuple(cache.shape[1:]) for cache in caches),
        weights=saved.path.name,
        sha256=sha256,
        made_with=here["packages"] | {"commit": here["commit"]},
    )


def introduce(path: Path, card: ExportMetadata) -> str:
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
