"""TensorRT up to the calls of the library: engines, and ONNX files with onnxruntime's TensorRT provider."""

import ctypes
import math
import sys
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch

from configs import ConfigError
from engine.inference import backends, network
from engine.inference.exported import open_exported
from engine.inference.metadata import ExportMetadata
from engine.inference.tensorrt import load_engine, open_engine
from models import CheckpointError
from models.weights.download import digest
from tests.support import exporting, tiny
from tests.support.videos import write_video
from tools import predict

METADATA = ExportMetadata(tiny.config(), ("a", "b"), "best.pt", "0" * 64, "fp16", False, (), {"torch": "2"})


@pytest.fixture
def engine(tmp_path):
    (tmp_path / "best.engine").write_bytes(b"an engine")
    (tmp_path / "best.engine.json").write_text(METADATA.to_json())
    return tmp_path / "best.engine"


class Context:
    """An execution context whose engine scores each clip by its mean, in memory of the host; at most 3 at once."""

    def __init__(self):
        self.shapes, self.addresses, self.batches = {}, {}, []

    def set_input_shape(self, name, shape):
        self.shapes[name] = shape
        return shape[1:] == (2, 3, 16, 16)

    def get_tensor_shape(self, name):
        return (*self.shapes["clip"][:1], 1)

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def execute_async_v3(self, stream):
        shape = self.shapes["clip"]
        assert shape[0] <= 3
        self.batches.append(shape[0])
        clips = self._array("clip", math.prod(shape)).reshape(shape[0], -1)
        self._array("logits", shape[0])[:] = clips.mean(1)
        return True

    def _array(self, name, count):
        return np.ctypeslib.as_array((ctypes.c_float * count).from_address(self.addresses[name]))


def fake_tensorrt():
    """Return a module that loads any bytes as an engine of one input and one output."""
    names, context = ["clip", "logits"], Context()
    engine = mock.Mock(num_io_tensors=2, get_tensor_name=names.__getitem__)
    engine.get_tensor_mode = lambda name: "in" if name == "clip" else "out"
    engine.get_tensor_profile_shape = lambda name, profile: [(batch, 2, 3, 16, 16) for batch in (1, 2, 3)]
    engine.create_execution_context = lambda: context
    runtime = mock.Mock(deserialize_cuda_engine=mock.Mock(return_value=engine))
    module = SimpleNamespace(Logger=mock.Mock(WARNING=1), Runtime=mock.Mock(return_value=runtime))
    module.TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")
    return module, runtime, context


@pytest.fixture
def called(monkeypatch):
    """Return the context of a fake TensorRT that is called as on a GPU."""
    module, _, context = fake_tensorrt()
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setattr(torch.cuda, "current_stream", mock.Mock())
    return context


@pytest.mark.parametrize(("clips", "batches"), [(1, [1]), (3, [3]), (8, [3, 3, 2])])
def test_an_engine_is_given_any_number_of_clips_in_parts_that_it_takes(engine, called, clips, batches):
    clips_BTCHW = torch.randn(clips, 2, 3, 16, 16)
    (scores_BK,) = load_engine(engine, "cpu")(clips_BTCHW.half().float().movedim(1, 2).contiguous().movedim(2, 1))
    torch.testing.assert_close(scores_BK[:, 0], clips_BTCHW.half().float().flatten(1).mean(1), atol=1e-5, rtol=0)
    assert called.batches == batches


def test_an_engine_refuses_clips_of_another_shape_and_says_when_it_fails(engine, called):
    run = load_engine(engine, "cpu")
    with pytest.raises(ValueError, match=r"does not accept clip of shape \[1, 8, 3, 16, 16\]"):
        run(torch.zeros(1, 8, 3, 16, 16))
    called.execute_async_v3 = lambda stream: False
    with pytest.raises(RuntimeError, match="TensorRT could not run it"):
        run(torch.zeros(1, 2, 3, 16, 16))


def test_predict_takes_an_engine_whose_batch_counts_clips(tmp_path, called, monkeypatch):
    """The batch of PaddleVideo's engine counts frames: clips times segments."""
    settings = tiny.config(data={"source": "video", "train": "unknown"}, eval={"clips": 4})
    metadata = replace(METADATA, config=settings, precision="fp32")
    (tmp_path / "best.engine").write_bytes(b"an engine")
    (tmp_path / "best.engine.json").write_text(metadata.to_json())
    write_video(tmp_path / "a.mp4", "libx264", 20)
    command = ["predict.py", str(tmp_path / "a.mp4"), "-w", str(tmp_path / "best.engine")]
    monkeypatch.setattr(sys, "argv", command)
    assert predict.main() == 2  # there is no GPU
    on_host = partial(open_engine_on_host, metadata)
    monkeypatch.setitem(backends.OPENERS, ".engine", on_host)
    assert predict.main() == 0
    assert called.batches == [3, 1]


def open_engine_on_host(metadata, path, device):
    return metadata, load_engine(path, "cpu")


def test_an_engine_is_opened_with_its_metadata(engine, monkeypatch):
    module, runtime, _ = fake_tensorrt()
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    assert open_engine(engine, "cuda")[0] == METADATA
    assert open_exported(engine, "cuda").metadata == METADATA
    runtime.deserialize_cuda_engine.assert_called_with(b"an engine")


def test_an_engine_that_tensorrt_refuses_is_an_error_of_one_line(engine, monkeypatch):
    module, runtime, _ = fake_tensorrt()
    runtime.deserialize_cuda_engine.return_value = None
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    with pytest.raises(CheckpointError, match="damaged, or of another GPU or TensorRT version"):
        load_engine(engine, "cpu")


def test_an_engine_needs_its_metadata_a_gpu_and_tensorrt(engine, monkeypatch):
    with pytest.raises(ConfigError, match="runs on the GPU that it was built on, and the device is cpu"):
        open_engine(engine, "cpu")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(ConfigError, match="tensorrt: needed for this, and cannot be imported"):
        open_engine(engine, "cuda")
    beside = engine.with_name("best.engine.json")
    beside.write_text("[]")
    with pytest.raises(CheckpointError, match=r"best\.engine\.json: contains no metadata"):
        open_engine(engine, "cuda")
    beside.unlink()
    with pytest.raises(CheckpointError, match=r"its metadata best\.engine\.json is missing; copy both files"):
        open_engine(engine, "cuda")


CPU = "CPUExecutionProvider"
CUDA = ("CUDAExecutionProvider", {"use_tf32": 0})
ALL = ["TensorrtExecutionProvider", "CUDAExecutionProvider", CPU]


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    return exporting.exported(tmp_path_factory.mktemp("onnx"), "--format", "onnx", "--precision", "fp16")


def test_onnxruntime_tries_tensorrt_then_cuda_then_the_cpu(onnx_file, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", mock.Mock())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (name, options), *others = backends.onnx_providers(onnx_file, "cuda", ALL, tensorrt=True)
    assert (name, others) == ("TensorrtExecutionProvider", [CUDA, CPU])
    folder = tmp_path / "tsm_dali" / "tensorrt" / digest(onnx_file)
    assert options == {
        "trt_fp16_enable": True,
        "trt_bf16_enable": False,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(folder),
    }
    assert backends.onnx_providers(onnx_file, "cuda", ALL) == [CUDA, CPU]
    assert backends.onnx_providers(onnx_file, "cpu", ALL) == [CPU]


@pytest.mark.parametrize(
    ("device", "available", "module", "problem"),
    [
        ("cpu", ALL, mock.Mock(), "runs on a GPU and in onnxruntime-gpu, and there is no GPU"),
        ("cuda", ALL[1:], mock.Mock(), "this onnxruntime has none; pip install onnxruntime-gpu"),
        ("cuda", ALL, None, "tensorrt: needed for this, and cannot be imported .* pip install tensorrt"),
    ],
)
def test_a_missing_requirement_of_tensorrt_is_named_in_one_line(
    onnx_file, monkeypatch, device, available, module, problem
):
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    with pytest.raises(ConfigError, match=problem):
        backends.onnx_providers(onnx_file, device, available, tensorrt=True)


def test_the_tensorrt_setting_is_an_error_if_the_session_lacks_tensorrt(onnx_file, tmp_path, monkeypatch):
    """onnxruntime continues without a provider that it cannot load."""
    tried = []
    monkeypatch.setattr(backends, "onnx_providers", lambda *a, **options: tried.append(options) or [CPU])
    for asked in ([], ["runtime.onnx_provider=cuda"]):
        network.open_network(str(onnx_file), overrides=asked)
        assert tried.pop() == {"tensorrt": False}
    with pytest.raises(ConfigError, match="onnxruntime could not start TensorRT"):
        network.open_network(str(onnx_file), overrides=["runtime.onnx_provider=tensorrt"])
    assert tried == [{"tensorrt": True}]
    (tmp_path / "best.pt2").touch()
    with pytest.raises(ConfigError, match=r"tensorrt is for ONNX files, and .*best\.pt2 is not one"):
        network.open_network(str(tmp_path / "best.pt2"), overrides=["runtime.onnx_provider=tensorrt"])
