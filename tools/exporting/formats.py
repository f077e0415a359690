"""The formats that networks are exported to: each writer puts a network and its card into a file."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch
from torch.export import Dim, ExportedProgram

from configs import ConfigError
from engine.inference.backends import CARD, library
from engine.inference.metadata import ExportMetadata
from engine.inference.saved_model import SavedModel
from tools.exporting.network import DTYPES, ClipNetwork, StreamNetwork

# What TensorRT 10 and 11 and onnxruntime since 1.20 read. bf16 convolutions came with 22.
OPSET = {"fp32": 20, "fp16": 20, "bf16": 22}


def network_of(saved: SavedModel, card: ExportMetadata) -> ClipNetwork:
    """What is to be exported, on the host."""
    form = StreamNetwork if card.online else ClipNetwork
    return form(saved.model, saved.config, card.precision, card.uint8)


def trace(network: ClipNetwork, device: str = "cpu") -> ExportedProgram:
    """The network as a graph for any batch; all other sizes are those of its examples."""
    examples = tuple(example.to(device) for example in network.examples)
    program = torch.export.export(network.to(device), examples, dynamic_shapes=_any_batch(examples, Dim("N")))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it tells of this machine, and is as large as a small network
    return program


def _any_batch(inputs: tuple, name: object) -> tuple:
    """`name` for the first axis of each input of a function (first, *others)."""
    first, *others = [{0: name} for _ in inputs]
    return (first, tuple(others)) if others else (first,)


def write_onnx(saved: SavedModel, card: ExportMetadata, path: Path, device: str = "cpu") -> None:
    """ONNX, for onnxruntime, TensorRT and Triton; for any device."""
    library("onnxscript")
    network = network_of(saved, card)
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # that the inputs share their batch
        onnx = torch.onnx.export(
            trace(network),
            input_names=network.inputs,
            output_names=network.outputs,
            dynamic_shapes=_any_batch(network.inputs, "N"),
            opset_version=OPSET[card.precision],
            dynamo=True,
            verbose=False,
        )
    for node in onnx.model.graph:
        node.metadata_props.clear()  # from which operations of PyTorch it came
    onnx.model.metadata_props.update(card.to_texts())
    onnx.save(path)


def write_program(saved: SavedModel, card: ExportMetadata, path: Path, device: str) -> None:
    """An exported program, for PyTorch of this or a later version; for any device."""
    program = trace(network_of(saved, card))
    program.example_inputs = None  # they would be kept, which for clips is megabytes of zeros
    torch.export.save(program, path, extra_files={CARD: json.dumps(card.to_texts())})


def write_package(saved: SavedModel, card: ExportMetadata, path: Path, device: str) -> None:
    """A program compiled for this kind of machine and device by AOTInductor, which runs without Python too."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise ConfigError(
            "--format aoti: compiles C++, and there is no compiler; install g++, or name one in CXX"
        ) from error
    torch._inductor.aoti_compile_and_package(
        trace(network_of(saved, card), device),
        package_path=str(path),
        inductor_configs={"aot_inductor.metadata": card.to_texts()},
    )


def write_safetensors(saved: SavedModel, card: ExportMetadata, path: Path, device: str) -> None:
    """The weights alone, under this project's names, for this project and for whoever builds the network itself."""
    weights = {name: tensor.contiguous() for name, tensor in saved.model.state_dict().items()}
    for name, tensor in weights.items():
        if tensor.ndim > 1:  # what norms hold is small, and rounding it costs most
            weights[name] = tensor.to(DTYPES[card.precision])
    library("safetensors.torch").save_file(weights, path, metadata=card.to_texts())
