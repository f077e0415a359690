"""TensorRT engines, up to the call of the library: metadata, device, and what is asked of TensorRT."""

import sys
from types import SimpleNamespace
from unittest import mock

import pytest

from configs import ConfigError
from engine.inference.exported import open_exported
from engine.inference.metadata import ExportMetadata
from engine.inference.tensorrt import load_engine, open_engine
from models import CheckpointError
from tests.support import tiny

METADATA = ExportMetadata(tiny.config(), ("a", "b"), "best.pt", "0" * 64, "fp16", False, (), {"torch": "2"})


@pytest.fixture
def engine(tmp_path):
    (tmp_path / "best.engine").write_bytes(b"an engine")
    (tmp_path / "best.engine.json").write_text(METADATA.to_json())
    return tmp_path / "best.engine"


def fake_tensorrt(**loaded):
    """A module that loads any bytes as an engine of one input and one output."""
    names = ["clip", "logits"]
    engine = mock.Mock(num_io_tensors=2, get_tensor_name=names.__getitem__, **loaded)
    engine.get_tensor_mode = lambda name: "in" if name == "clip" else "out"
    runtime = mock.Mock(deserialize_cuda_engine=mock.Mock(return_value=engine))
    module = SimpleNamespace(Logger=mock.Mock(WARNING=1), Runtime=mock.Mock(return_value=runtime))
    module.TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")
    return module, runtime, engine


def test_an_engine_is_opened_with_its_metadata(engine, monkeypatch):
    module, runtime, loaded = fake_tensorrt()
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    assert open_engine(engine, "cuda")[0] == METADATA
    assert open_exported(engine, "cuda").metadata == METADATA
    runtime.deserialize_cuda_engine.assert_called_with(b"an engine")
    loaded.create_execution_context.assert_called_with()


def test_an_engine_that_tensorrt_refuses_is_an_error_of_one_line(engine, monkeypatch):
    module, runtime, _ = fake_tensorrt()
    runtime.deserialize_cuda_engine.return_value = None
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    with pytest.raises(CheckpointError, match="damaged, or of another GPU or TensorRT version"):
        load_engine(engine)


def test_an_engine_needs_its_metadata_a_gpu_and_tensorrt(engine, monkeypatch):
    with pytest.raises(ConfigError, match="runs on the GPU that it was built on, and the device is cpu"):
        open_engine(engine, "cpu")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(ConfigError, match="tensorrt: needed for this, and cannot be imported"):
        open_engine(engine, "cuda")
    beside = engine.with_name("best.engine.json")
    beside.write_text("[]")
    with pytest.raises(CheckpointError, match=r"best\.engine\.json: holds no metadata"):
        open_engine(engine, "cuda")
    beside.unlink()
    with pytest.raises(CheckpointError, match=r"its metadata best\.engine\.json is missing; copy both files"):
        open_engine(engine, "cuda")
