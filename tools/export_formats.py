"""The formats that networks are exported to: each writes a traced network and its card to a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch.export import ExportedProgram

from engine.card import Card
from engine.deployed import library
from tools.export_network import ClipNetwork

OPSET = 20  # TensorRT 10 and 11 and onnxruntime since 1.17 read it


def write_onnx(network: ClipNetwork, program: ExportedProgram, card: Card, path: Path) -> None:
    """ONNX, for onnxruntime, TensorRT and Triton."""
    library("onnxscript")
    onnx = torch.onnx.export(
        program,
        input_names=network.inputs,
        output_names=network.outputs,
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    onnx.model.metadata_props.update(card.to_texts())
    onnx.save(path)


WRITERS: dict[str, tuple[str, Callable]] = {"onnx": (".onnx", write_onnx)}
