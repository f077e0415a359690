"""The example for Triton Inference Server gives the results of predict_video; the server's module is a stand-in."""

import importlib.util
import json
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from engine.inference.network import open_network
from engine.inference.predict import predict_video
from tests.support import exporting
from tests.support.paths import ROOT
from tests.support.videos import write_video

MODEL = ROOT / "tools" / "triton" / "tsm_video"
CONFIG = (MODEL / "config.pbtxt").read_text()


class Tensor:
    def __init__(self, name, array):
        self.name, self.array = name, array

    def as_numpy(self):
        return self.array


@pytest.fixture
def model(tmp_path, monkeypatch):
    """Return the model, opened as the server does, and its weights."""
    utils = SimpleNamespace(
        Tensor=Tensor,
        TritonError=str,
        InferenceResponse=lambda tensors, error=None: SimpleNamespace(tensors=tensors, error=error),
        get_input_tensor_by_name=lambda request, name: request[name],
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utils)
    spec = importlib.util.spec_from_file_location("model", MODEL / "1" / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    weights = exporting.weights_file(tmp_path)
    parameters = dict(re.findall(r'key: "(\w+)", value: \{ string_value: "([^"]*)"', CONFIG)) | {
        "network": str(weights)
    }
    config = {"parameters": {key: {"string_value": value} for key, value in parameters.items()}}
    opened = module.TritonPythonModel()
    opened.initialize({"model_config": json.dumps(config), "model_instance_kind": "CPU"})
    return opened, weights


def request(content):
    return {"video": Tensor("video", np.array([content], np.object_))}


def test_the_triton_model_gives_the_result_of_predict_video(model, tmp_path):
    opened, weights = model
    write_video(tmp_path / "a.mp4", "libx264", 24, gop=12, size=(64, 96))
    good, bad = opened.execute([request((tmp_path / "a.mp4").read_bytes()), request(b"not a video")])
    wanted = predict_video(open_network(str(weights), overrides=["runtime.device=cpu"]), tmp_path / "a.mp4")
    name, probability = good.tensors
    assert good.error is None
    assert [text.decode() for text in name.array] == [name for name, _ in wanted]
    assert probability.array.dtype == np.float32
    assert np.allclose(probability.array, [probability for _, probability in wanted], atol=1e-6)
    assert bad.tensors == [] and bad.error


def test_the_configuration_declares_the_tensors_of_the_model():
    names = re.findall(r'name: "(\w+)", data_type: (\w+), dims: \[ (-?\d+) \]', CONFIG)
    assert names == [("video", "TYPE_STRING", "1"), ("name", "TYPE_STRING", "-1"), ("probability", "TYPE_FP32", "-1")]
    assert 'name: "tsm_video"' in CONFIG and 'backend: "python"' in CONFIG


def test_the_image_requests_the_video_capability_for_nvdec():
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r"NVIDIA_DRIVER_CAPABILITIES=\S*\bvideo\b", text) and re.search(r"\bcompute\b", text)
