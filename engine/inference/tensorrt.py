"""Run TensorRT engines. Written for TensorRT 10 and 11 from their documentation; not yet run on a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from configs import ConfigError
from engine.inference.library import Run, library
from engine.inference.metadata import ExportMetadata
from models import CheckpointError


def open_engine(path: Path, device: str) -> tuple[ExportMetadata, Run]:
    """Open an engine and the metadata next to it, `NAME.engine.json`."""
    beside = Path(f"{path}.json")
    try:
        content = json.loads(beside.read_text(encoding="utf-8"))
        metadata = ExportMetadata.from_texts({name: json.dumps(value) for name, value in content.items()})
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: its metadata {beside.name} is missing; copy both files") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{beside}: holds no metadata of this project; write it with tools/export.py") from error
    if device != "cuda":
        raise ConfigError(f"{path}: a TensorRT engine runs on the GPU that it was built on, and the device is {device}")
    return metadata, load_engine(path)


def load_engine(path: Path) -> Run:
    """Load an engine as a function of tensors."""
    tensorrt = library("tensorrt", "tensorrt")
    engine = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.WARNING)).deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        raise CheckpointError(f"{path}: TensorRT cannot load it: it is damaged, or of another GPU or TensorRT version")
    context = engine.create_execution_context()
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == tensorrt.TensorIOMode.INPUT]
    outputs = [name for name in names if name not in inputs]

    def run(*given: Tensor) -> tuple[Tensor, ...]:
        tensors = {name: tensor.cuda().contiguous() for name, tensor in zip(inputs, given, strict=True)}
        for name, tensor in tensors.items():
            context.set_input_shape(name, tuple(tensor.shape))
        tensors |= {name: torch.empty(tuple(context.get_tensor_shape(name)), device="cuda") for name in outputs}
        for name, tensor in tensors.items():
            context.set_tensor_address(name, tensor.data_ptr())
        stream = torch.cuda.current_stream()
        context.execute_async_v3(stream.cuda_stream)
        stream.synchronize()
        return tuple(tensors[name] for name in outputs)

    return run
