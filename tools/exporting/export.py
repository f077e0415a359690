"""Export weights to a file, and keep the file only if its logits equal those of the network."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

import torch

import configs
from configs import ConfigError
from engine import activity
from engine.files import lack_of_room, temporary_path
from engine.inference.metadata import ENDINGS, ExportMetadata
from engine.inference.saved_model import SavedModel, load_saved_model
from engine.outputs import Outputs
from engine.runs.environment import environment
from engine.runs.find import network_file
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
    """Export the weights of the command line. Raises ConfigError or CheckpointError if no file was kept."""
    suffix = ENDINGS[args.format]
    args.weights = network_file(args.weights)
    path = args.out or args.weights.with_suffix(suffix)
    refuse(args, path, suffix)
    metadata_file = Path(f"{path}.json")  # for an engine, which cannot contain metadata
    files = [path, metadata_file] if args.format == "tensorrt" else [path]
    outputs = Outputs([args.weights, args.config], args.force)
    outputs.check(*files)
    traceable = "model.shift=auto"
    saved = load_saved_model(args.weights, args.config, [*args.overrides, traceable])
    size = sum(tensor.nbytes for tensor in saved.model.state_dict().values())
    if problem := lack_of_room(path.parent, size, "the file"):
        raise ConfigError(problem)
    metadata = make_metadata(saved, args)
    with temporary_path(path.parent, path.suffix) as temporary:
        with activity.doing(f"exporting to {args.format}"):
            WRITERS[args.format](saved, metadata, temporary, args.device)
        with activity.doing("comparing the file with the network"):
            check(reopen(temporary, metadata, args.device), saved)
        if args.format == "tensorrt":
            outputs.write({metadata_file: metadata.to_json()})
        outputs.place(temporary, path)
    print(describe_file(path, metadata))


def refuse(args: argparse.Namespace, path: Path, suffix: str) -> None:
    """Raise ConfigError for contradicting arguments, before any work is done."""
    ending = suffix[suffix.rindex(".") :]
    if path.suffix != ending:
        raise ConfigError(f"--out: {path.name} does not end in {ending}, as files of --format {args.format} do")
    given = configs.overridden(args.overrides)
    for flag in ("precision", "device"):
        if f"runtime.{flag}" in given and args.format != "safetensors":
            raise ConfigError(f"runtime.{flag}: does not change the exported file; write --{flag}")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device: cuda, but torch sees no GPU; use cpu, or check the driver")
    if args.format == "safetensors" and (args.uint8 or args.online):
        raise ConfigError("--format safetensors: contains only weights; omit --uint8 and --online")


def make_metadata(saved: SavedModel, args: argparse.Namespace) -> ExportMetadata:
    """Return the metadata to store. Raises ConfigError for --online with a network that is not causal."""
    caches = Streaming(saved.model).initial_caches(1, saved.info.config.eval_size) if args.online else ()
    here = environment()
    return ExportMetadata(
        config=saved.info.config,
        class_names=saved.info.class_names,
        precision=args.precision,
        uint8=args.uint8,
        caches=tuple(tuple(cache.shape[1:]) for cache in caches),
        weights=Path(saved.info.weights).name,
        sha256=saved.info.sha256,
        made_with=here["packages"] | {"commit": here["commit"]},
    )


def describe_file(path: Path, metadata: ExportMetadata) -> str:
    """Describe the file, its inputs and outputs, and how to run it, in a few lines."""
    config = metadata.config
    outer = "N" if metadata.online else f"N, {config.eval_frames}"
    pictures = f"{config.eval_size}, {config.eval_size}"
    if metadata.uint8:
        shape, values = f"uint8 [{outer}, {pictures}, 3]", "RGB"
    else:
        mean, std = [*config.clip.mean], [*config.clip.std]
        shape, values = f"float32 [{outer}, 3, {pictures}]", f"(RGB / 255 - {mean}) / {std}"
    kept = f", cache_0 to cache_{len(metadata.caches) - 1}, at first zeros" if metadata.online else ""
    given = ", next_cache_0 ..., the caches for the next frame" if metadata.online else ""
    command = (
        f"python tools/predict.py VIDEO --weights {shlex.quote(str(path))}{' --online' if metadata.online else ''}"
    )
    return (
        f"{path}: {path.stat().st_size / 1e6:.1f} MB, {metadata.precision} inside\n"
        f"  in   {'frame' if metadata.online else 'clip'} {shape}, {values}{kept}\n"
        f"  out  logits float32 [N, {config.model.num_classes}]{given}\n"
        f"  run  {command}"
    )
