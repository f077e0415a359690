"""Build TensorRT engines from ONNX on the GPU that will run them.

Written for TensorRT 10 and 11 from their documentation; not yet run.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from configs import ConfigError
from engine.inference.library import library
from engine.inference.metadata import ExportMetadata
from engine.inference.saved_model import SavedModel
from models import CheckpointError
from tools.exporting.formats import write_onnx

BATCHES = (1, 8, 32)  # minimum, optimal and maximum batch of an engine


def write_engine(saved: SavedModel, metadata: ExportMetadata, path: Path, device: str) -> None:
    """Write an engine, which runs only on this type of GPU and with this version of TensorRT."""
    tensorrt = library("tensorrt", "tensorrt")
    if device != "cuda":
        raise ConfigError("--format tensorrt: an engine is built on the GPU that will run it; add --device cuda")
    onnx = path.with_suffix(".onnx")
    try:
        write_onnx(saved, metadata, onnx)
        path.write_bytes(_build(tensorrt, onnx))
    finally:
        onnx.unlink(missing_ok=True)


def _build(tensorrt: ModuleType, onnx: Path) -> bytes:
    logger = tensorrt.Logger(tensorrt.Logger.WARNING)
    builder = tensorrt.Builder(logger)
    # Use the precision of the graph. TensorRT 11 always does, and ignores the flag.
    network = builder.create_network(1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx)):
        raise CheckpointError(f"TensorRT cannot read the ONNX form: {parser.get_error(0)}")
    profile = builder.create_optimization_profile()
    for tensor in map(network.get_input, range(network.num_inputs)):
        _, *rest = tensor.shape
        profile.set_shape(tensor.name, *((batch, *rest) for batch in BATCHES))
    config = builder.create_builder_config()
    config.clear_flag(tensorrt.BuilderFlag.TF32)  # fp32 must mean fp32
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise CheckpointError("TensorRT did not build an engine; its messages above give the reason")
    return bytes(engine)
