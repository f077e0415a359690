"""Open exported files with their libraries: each opener returns the file's metadata and a callable network.

A library is imported when a file needs it. Inputs are fp32 or uint8 pixels, outputs fp32, both on the device.
"""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.export.passes import move_to_device_pass

from configs import ConfigError
from engine.files import parse_json
from engine.inference.library import Run, library
from engine.inference.metadata import ExportMetadata
from engine.inference.tensorrt import open_engine
from models import CheckpointError
from models.weights.download import digest
from models.weights.read import check_archive

logger = logging.getLogger(__name__)
METADATA = "card.json"  # name of the metadata in an archive of torch.export
_CUDA, _TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"


def open_onnx(path: Path, device: str, *, tensorrt: bool = False) -> tuple[ExportMetadata, Run]:
    """Open an ONNX graph with onnxruntime; on a GPU with the CUDA or the TensorRT provider."""
    onnxruntime = library("onnxruntime")
    failures = onnxruntime.capi.onnxruntime_pybind11_state  # its exceptions have no common base class
    any_failure = tuple(kind for kind in vars(failures).values() if isinstance(kind, type(Exception)))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    providers = onnx_providers(path, device, onnxruntime.get_available_providers(), tensorrt=tensorrt)
    try:
        try:
            session = onnxruntime.InferenceSession(path, options, providers)
        except failures.NotImplemented:
            session = onnxruntime.InferenceSession(in_fp32(path), options, providers)
            logger.warning(f"{path}: onnxruntime has no bf16 on {device}; computing with its weights in fp32")
    except (failures.InvalidArgument, failures.InvalidGraph, failures.InvalidProtobuf) as error:
        raise CheckpointError(f"{path}: not an ONNX graph, or damaged; write it again with tools/export.py") from error
    except (RuntimeError, *any_failure) as error:
        raise CheckpointError(f"{path}: onnxruntime cannot open it on {device}: {_first_line(error)}") from error
    if tensorrt and _TENSORRT not in session.get_providers():  # onnxruntime ignores providers that fail to load
        raise ConfigError(
            f"runtime.onnx_provider: {path}: onnxruntime could not start TensorRT, its messages above give the reason; "
            "use cuda"
        )
    names = [node.name for node in session.get_inputs()]

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        arrays = session.run(None, {name: tensor.cpu().numpy() for name, tensor in zip(names, inputs, strict=True)})
        return tuple(torch.from_numpy(array).to(device) for array in arrays)

    return _metadata(path, session.get_modelmeta().custom_metadata_map), run


def onnx_providers(path: Path, device: str, available: Sequence[str], *, tensorrt: bool = False) -> list:
    """Return onnxruntime's providers with their options, in the order of preference.

    Raises ConfigError if TensorRT is requested and missing.
    """
    providers: list = ["CPUExecutionProvider"]
    if device == "cuda" and _CUDA in available:
        providers.insert(0, (_CUDA, {"use_tf32": 0}))  # fp32 must mean fp32
    elif device == "cuda" and not tensorrt:
        logger.warning(f"{path}: this onnxruntime computes on the CPU; pip install onnxruntime-gpu to use the GPU")
    if not tensorrt:
        return providers
    if device != "cuda" or _TENSORRT not in available:
        missing = "there is no GPU" if device != "cuda" else "this onnxruntime has none; pip install onnxruntime-gpu"
        raise ConfigError(f"runtime.onnx_provider: tensorrt runs on a GPU and in onnxruntime-gpu, and {missing}")
    library("tensorrt", "tensorrt")  # importing torch loads the libraries that onnxruntime needs
    return [(_TENSORRT, _tensorrt_options(path)), *providers]


def _tensorrt_options(path: Path) -> dict[str, str | bool]:
    """Return options for the precision of the file; engines are cached by its content, since a name may be reused."""
    texts = {entry.key: entry.value for entry in library("onnx").load(path, load_external_data=False).metadata_props}
    precision = _metadata(path, texts).precision
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "tsm_dali", "tensorrt", digest(Path(path)))
    return {
        "trt_fp16_enable": precision == "fp16",
        "trt_bf16_enable": precision == "bf16",
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(cache),
    }


def in_fp32(path: Path) -> bytes:
    """Return a bf16 ONNX graph converted to compute in fp32 with the same weights."""
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
    del model.graph.value_info[:]  # types of intermediate values, which follow from the rest
    return model.SerializeToString()


def open_pt2(path: Path, device: str) -> tuple[ExportMetadata, Run]:
    """Open an archive of PyTorch: a compiled package or an exported program."""
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path}: not an archive of PyTorch, or damaged; write it again with tools/export.py")
    check_archive(path)
    with zipfile.ZipFile(path) as archive:
        compiled = any("/data/aotinductor/" in name for name in archive.namelist())
    try:
        return _open_package(path, device) if compiled else _open_program(path, device)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path}: PyTorch cannot open it on {device}: {_first_line(error)}") from error


def _open_package(path: Path, device: str) -> tuple[ExportMetadata, Run]:
    package = torch._inductor.aoti_load_package(str(path))
    texts = package.get_metadata()
    compiled_for = texts["AOTI_DEVICE_KEY"]
    if compiled_for != device:
        raise ConfigError(f"{path}: is compiled for {compiled_for}; export it with --device {device} to open it there")
    return _metadata(path, texts), _run(package, device)


def _open_program(path: Path, device: str) -> tuple[ExportMetadata, Run]:
    texts = {METADATA: "{}"}
    program = torch.export.load(path, extra_files=texts)
    program = move_to_device_pass(program, device)
    return _metadata(path, parse_json(texts[METADATA])), _run(program.module(), device)


def _run(network: nn.Module, device: str) -> Run:
    """Wrap a PyTorch network so that it moves inputs to its device and always returns a tuple."""

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        # Compiled code assumes the strides of its examples; other strides silently give wrong results.
        with torch.inference_mode():
            outputs = network(*(tensor.to(device).contiguous() for tensor in inputs))
        return outputs if isinstance(outputs, tuple) else (outputs,)

    return run


def _metadata(path: Path, texts: Mapping[str, str] | None) -> ExportMetadata:
    try:
        return ExportMetadata.from_texts(texts or {})
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: contains no metadata of this project; write it with tools/export.py") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


OPENERS = {".onnx": open_onnx, ".pt2": open_pt2, ".engine": open_engine}
