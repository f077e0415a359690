"""Every kind of network in every format; the full ResNet-50; and exports that need a GPU."""

import pytest
import torch

import configs
from engine.inference.exported import open_exported
from engine.inference.saved_model import load_saved_model
from tests.support import slim, tiny
from tests.support.exporting import exported, run

NETWORKS = {
    "TSN": {"name": "tsn"},
    "TSN over features": {"name": "tsn", "consensus": "features"},
    "ResNet-34": {"backbone": "resnet34"},
    "ResNet-50": {"backbone": "resnet50"},
    "ResNet-101": {"backbone": "resnet101"},
    "PP-TSM": {"backbone": "resnet50_vd", "leaky_slope": 0.01},
    "PP-TSN": {"name": "tsn", "backbone": "resnet50_vd", "consensus": "features"},
    "ResNet-101-vd": {"backbone": "resnet101_vd", "leaky_slope": 0.01},
    "MobileNetV2": {"backbone": "mobilenet_v2", "width": 64},
    "non-local": {"backbone": "resnet50", "non_local": True},
    "causal": {"causal": True},
    "reference shift": {"shift": "reference"},
}


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("form", ["onnx", "export"])
def test_every_network_is_exported(network, form, tmp_path):
    out = exported(tmp_path, "--format", form, **NETWORKS[network])
    if form == "onnx":
        onnx = pytest.importorskip("onnx")
        assert not [node.op_type for node in onnx.load(out).graph.node if "Scatter" in node.op_type]


@pytest.mark.slow
def test_a_graph_in_bf16_is_checked_in_fp32_where_it_cannot_be_run(tmp_path, capfd):
    onnx = pytest.importorskip("onnx")
    out = exported(tmp_path, "--format", "onnx", "--precision", "bf16")
    onnx.checker.check_model(onnx.load(out), full_check=True)
    assert "has no bf16 on cpu; computing with its weights in fp32" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["--uint8", "--precision", "bf16"], ["--online"]])
def test_a_compiled_package_gives_the_networks_logits(words, tmp_path):
    out = exported(tmp_path, "--format", "aoti", *words, causal="--online" in words)
    opened, saved = open_exported(out), load_saved_model(tmp_path / "best.pt")
    assert (opened.metadata.config, opened.metadata.class_names) == (saved.info.config, saved.info.class_names)
    clips_BTCHW = torch.randn(3, 2, 32, 32, 3).movedim(-1, 2)  # in NHWC memory, for which it was not compiled
    expected_BK, tolerance = saved.model(clips_BTCHW).detach(), 1e-4
    if opened.metadata.uint8:
        pixels = opened.pixels(clips_BTCHW) / 255
        mean, std = (torch.tensor(values) for values in (saved.info.config.clip.mean, saved.info.config.clip.std))
        expected_BK, tolerance = saved.model(((pixels - mean) / std).movedim(-1, 2)).detach(), 0.1
    torch.testing.assert_close(opened.scores(clips_BTCHW), expected_BK, rtol=0, atol=tolerance)


def full_weights(folder):
    """Write a TSM ResNet-50 for 400 classes and 8 frames of 224 px, with weights of the spread of a trained one."""
    model = slim.stable_network(num_classes=400, frames=8)
    settings = {"backbone": "resnet50", "width": 64, "num_classes": 400, "frames": 8}
    config = tiny.config(model=settings, clip={"size": 224}, eval={"short_side": 256})
    torch.save({"model": model.state_dict(), "config": configs.flat(config)}, folder / "best.pt")
    return folder / "best.pt"


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_full_resnet50_is_exported_at_224_px(precision, tmp_path, capfd):
    assert run(full_weights(tmp_path), "--format", "onnx", "--precision", precision) == 0
    assert capfd.readouterr().out.count("same top-1 in 100 %") == 3


NEEDS = {"onnx": "onnxruntime", "export": "torch", "aoti": "torch", "tensorrt": "tensorrt"}


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("form", NEEDS)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_the_full_resnet50_is_exported_for_a_gpu(form, precision, tmp_path):
    pytest.importorskip(NEEDS[form])
    assert run(full_weights(tmp_path), "--format", form, "--precision", precision, "--device", "cuda") == 0
