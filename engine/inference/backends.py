"""What runs a deployed file, by format: each opener gives the file's card, and the file as a function.

A library is imported when a file needs it. Numbers go in and come out as fp32, or go in as pixels, on the device.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn
from torch.export.passes import move_to_device_pass

from configs import ConfigError
from engine.inference.metadata import ExportMetadata
from models import CheckpointError

Run = Callable[..., tuple[Tensor, ...]]
Notify = Callable[[str], None]
CARD = "card.json"  # where an archive of torch.export keeps its card


def library(name: str, install: str = "-e .[export]") -> ModuleType:
    """An optional library. Raises ConfigError, with what pip has to `install`, where it is not there."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"{name}: needed for this, and cannot be imported ({error}); pip install {install}"
        ) from error


def open_onnx(path: Path, device: str, notify: Notify) -> tuple[ExportMetadata, Run]:
    """An ONNX graph, under onnxruntime."""
    onnxruntime = library("onnxruntime")
    failures = onnxruntime.capi.onnxruntime_pybind11_state  # its exceptions, which share no class
    any_failure = tuple(kind for kind in vars(failures).values() if isinstance(kind, type(Exception)))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    providers: list = ["CPUExecutionProvider"]
    if device == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, ("CUDAExecutionProvider", {"use_tf32": 0}))  # fp32 shall mean fp32
    elif device == "cuda":
        notify(f"{path}: this onnxruntime computes on the CPU; pip install onnxruntime-gpu for one that takes the GPU")
    try:
        try:
            session = onnxruntime.InferenceSession(path, options, providers)
        except failures.NotImplemented:
            session = onnxruntime.InferenceSession(in_fp32(path), options, providers)
            notify(f"{path}: onnxruntime does not compute in bf16 on {device}; computing with its weights in fp32")
    except (failures.InvalidArgument, failures.InvalidGraph, failures.InvalidProtobuf) as error:
        raise CheckpointError(
            f"{path}: is no ONNX graph, or is damaged; write it again with tools/export.py"
        ) from error
    except (RuntimeError, *any_failure) as error:
        raise CheckpointError(f"{path}: onnxruntime cannot open it on {device}: {_first_line(error)}") from error
    names = [node.name for node in session.get_inputs()]

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        arrays = session.run(None, {name: tensor.cpu().numpy() for name, tensor in zip(names, inputs, strict=True)})
        return tuple(torch.from_numpy(array).to(device) for array in arrays)

    return _card(path, session.get_modelmeta().custom_metadata_map), run


def in_fp32(path: Path) -> bytes:
    """An ONNX graph in bf16 with the same weights, computed in fp32."""
    onnx = library("onnx")
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.BFLOAT16:
            values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == onnx.TensorProto.BFLOAT16:
                attribute.i = onnx.TensorProto.FLOAT
    del model.graph.value_info[:]  # types of what is in between; they follow from the rest
    return model.SerializeToString()


def open_pt2(path: Path, device: str, notify: Notify) -> tuple[ExportMetadata, Run]:
    """An archive of PyTorch's: a compiled package, or else an exported program."""
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path}: is no archive of PyTorch's, or is damaged; write it again with tools/export.py")
    with zipfile.ZipFile(path) as archive:
        compiled = any("/data/aotinductor/" in name for name in archive.namelist())
    try:
        return _open_package(path, device) if compiled else _open_program(path, device)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: PyTorch cannot open it on {device}: {_first_line(error)}") from error


def _open_package(path: Path, device: str) -> tuple[ExportMetadata, Run]:
    package = torch._inductor.aoti_load_package(str(path))
    texts = package.get_metadata()
    compiled_for = texts["AOTI_DEVICE_KEY"]
    if compiled_for != device:
        raise ConfigError(f"{path}: is compiled for {compiled_for}; export it with --device {device} to open it there")
    return _card(path, texts), _run(package, device)


def _open_program(path: Path, device: str) -> tuple[ExportMetadata, Run]:
    texts = {CARD: "{}"}
    program = torch.export.load(path, extra_files=texts)
    program = move_to_device_pass(program, device)
    return _card(path, json.loads(texts[CARD])), _run(program.module(), device)


def _run(network: nn.Module, device: str) -> Run:
    """A network of PyTorch's as a function of tensors that may lie elsewhere, to a tuple even of one."""

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        # Compiled code reads memory in the order of its examples, and other strides give wrong answers in silence.
        with torch.inference_mode():
            outputs = network(*(tensor.to(device).contiguous() for tensor in inputs))
        return outputs if isinstance(outputs, tuple) else (outputs,)

    return run


def _card(path: Path, texts: Mapping[str, str] | None) -> ExportMetadata:
    try:
        return ExportMetadata.from_texts(texts or {})
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: does not say what it is; write it with tools/export.py") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


OPENERS = {".onnx": open_onnx, ".pt2": open_pt2}
