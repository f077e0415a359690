"""Export formats: each writer puts a network and its metadata into a file."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch
from torch.export import Dim, ExportedProgram

from configs import ConfigError
from engine.inference.backends import METADATA
from engine.inference.library import library
from engine.inference.metadata import ExportMetadata
from engine.inference.saved_model import SavedModel
from tools.exporting.network import DTYPES, ClipNetwork, StreamNetwork

# Read by TensorRT 10 and 11 and by onnxruntime 1.20 or newer. bf16 convolutions need opset 22.
OPSET = {"fp32": 20, "fp16": 20, "bf16": 22}


def network_of(saved: SavedModel, metadata: ExportMetadata) -> ClipNetwork:
    """Return the module to export, on the host."""
    form = StreamNetwork if metadata.online else ClipNetwork
    return form(saved.model, saved.info.config, metadata.precision, metadata.uint8)


def trace(network: ClipNetwork, device: str = "cpu") -> ExportedProgram:
    """Trace the network for any batch size; all other sizes are fixed to those of its examples."""
    examples = tuple(example.to(device) for example in network.examples)
    program = torch.export.export(network.to(device), examples, dynamic_shapes=_any_batch(examples, Dim("N")))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # contains paths of this machine, and can be as large as a small network
    return program


def _any_batch(inputs: tuple, name: object) -> tuple:
    """Return dynamic shapes: `name` for the first axis of each input of a function (first, *others)."""
    first, *others = [{0: name} for _ in inputs]
    return (first, tuple(others)) if others else (first,)


def write_onnx(saved: SavedModel, metadata: ExportMetadata, path: Path, device: str = "cpu") -> None:
    """Write ONNX, for onnxruntime, TensorRT and Triton, on any device."""
    library("onnxscript")
    network = network_of(saved, metadata)
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # "the inputs share their batch axis"
        onnx = torch.onnx.export(
            trace(network),
            input_names=network.inputs,
            output_names=network.outputs,
            dynamic_shapes=_any_batch(network.inputs, "N"),
            opset_version=OPSET[metadata.precision],
            dynamo=True,
            verbose=False,
        )
    for node in onnx.model.graph:
        node.metadata_props.clear()  # the original PyTorch operations
    onnx.model.metadata_props.update(metadata.to_texts())
    onnx.save(path)


def write_program(saved: SavedModel, metadata: ExportMetadata, path: Path, device: str) -> None:
    """Write an exported program, for this PyTorch version or later ones, on any device."""
    program = trace(network_of(saved, metadata))
    program.example_inputs = None  # would store megabytes of zeros
    torch.export.save(program, path, extra_files={METADATA: json.dumps(metadata.to_texts())})


def write_package(saved: SavedModel, metadata: ExportMetadata, path: Path, device: str) -> None:
    """Write a package compiled by AOTInductor for this type of machine and device; it also runs without Python."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise ConfigError(
            "--format aoti: compiles C++, and there is no compiler; install g++, or name one in CXX"
        ) from error
    torch._inductor.aoti_compile_and_package(
        trace(network_of(saved, metadata), device),
        package_path=str(path),
        inductor_configs={"aot_inductor.metadata": metadata.to_texts()},
    )


def write_safetensors(saved: SavedModel, metadata: ExportMetadata, path: Path, device: str) -> None:
    """Write only the weights, with this project's parameter names."""
    weights = {name: tensor.contiguous() for name, tensor in saved.model.state_dict().items()}
    for name, tensor in weights.items():
        if tensor.ndim > 1:  # tensors of norms are small, and rounding them costs most accuracy
            weights[name] = tensor.to(DTYPES[metadata.precision])
    library("safetensors.torch").save_file(weights, path, metadata=metadata.to_texts())
