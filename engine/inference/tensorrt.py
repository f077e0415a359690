"""Run TensorRT engines. Written for TensorRT 10 and 11 from their documentation; not yet run on a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from configs import ConfigError
from engine.files import read_json
from engine.inference.library import Run, library
from engine.inference.metadata import ExportMetadata
from models import CheckpointError


def open_engine(path: Path, device: str) -> tuple[ExportMetadata, Run]:
    """Open an engine and the metadata next to it, `NAME.engine.json`."""
    beside = Path(f"{path}.json")
    try:
        content = read_json(beside)
        metadata = ExportMetadata.from_texts({name: json.dumps(value) for name, value in content.items()})
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: its metadata {beside.name} is missing; copy both files") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{beside}: contains no metadata of this project; write it with tools/export.py"
        ) from error
    if device != "cuda":
        raise ConfigError(f"{path}: a TensorRT engine runs on the GPU that it was built on, and the device is {device}")
    return metadata, load_engine(path, device)


def load_engine(path: Path, device: str) -> Run:
    """Load an engine as a function of tensors with any number of clips; larger batches are split."""
    tensorrt = library("tensorrt", "tensorrt")
    engine = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.WARNING)).deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        raise CheckpointError(f"{path}: TensorRT cannot load it: it is damaged, or of another GPU or TensorRT version")
    context = engine.create_execution_context()
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == tensorrt.TensorIOMode.INPUT]
    outputs = [name for name in names if name not in inputs]
    _, _, (largest, *_) = engine.get_tensor_profile_shape(inputs[0], 0)

    def run(*given: Tensor) -> tuple[Tensor, ...]:
        parts = zip(*(tensor.split(largest) for tensor in given), strict=True)
        return tuple(map(torch.cat, zip(*(run_part(*part) for part in parts), strict=True)))

    def run_part(*given: Tensor) -> tuple[Tensor, ...]:
        tensors = {name: tensor.to(device).contiguous() for name, tensor in zip(inputs, given, strict=True)}
        for name, tensor in tensors.items():
            if not context.set_input_shape(name, tuple(tensor.shape)):
                raise ValueError(f"{path}: does not accept {name} of shape {list(tensor.shape)}")
        tensors |= {name: torch.empty(tuple(context.get_tensor_shape(name)), device=device) for name in outputs}
        for name, tensor in tensors.items():
            context.set_tensor_address(name, tensor.data_ptr())
        stream = torch.cuda.current_stream()
        if not context.execute_async_v3(stream.cuda_stream):
            raise RuntimeError(f"{path}: TensorRT could not run it; its messages above give the reason")
        stream.synchronize()
        return tuple(tensors[name] for name in outputs)

    return run
