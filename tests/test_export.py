"""Exported files answer as the network does that they were made from, and say what they are."""

import onnx
import pytest
import tiny
import torch

import configs
from engine.deployed import open_deployed
from engine.saved import open_saved
from models import build_model
from tools import export

NAMES = ("left", 'a "quoted" one', "économiser")


def saved_file(folder, **model):
    """A checkpoint of a tiny network whose logits are not all near zero."""
    config = tiny.config(model={"fc_std": 0.1, **model}, clip={"size": 32}, eval={"short_side": 32, "clips": 3})
    path = folder / "best.pt"
    torch.save(
        {"model": build_model(config.model).state_dict(), "config": configs.flat(config), "class_names": NAMES}, path
    )
    return path


def exported(weights, *words):
    export.export(export.arguments(["--weights", str(weights), *words]))
    return weights


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    torch.manual_seed(0)
    return exported(saved_file(tmp_path_factory.mktemp("onnx")), "--format", "onnx").with_suffix(".onnx")


@pytest.mark.parametrize("clips", [1, 2, 5])
def test_onnx_answers_as_the_network_does_for_any_batch(onnx_file, clips):
    saved, deployed = open_saved(onnx_file.with_suffix(".pt")), open_deployed(onnx_file)
    clips_BTCHW = torch.randn(clips, 2, 3, 32, 32)
    torch.testing.assert_close(deployed.scores(clips_BTCHW), saved.model(clips_BTCHW).detach(), rtol=0, atol=1e-4)


def test_views_of_videos_are_scored_as_the_network_scores_them(onnx_file):
    views_BVTCHW = torch.randn(2, 3, 2, 3, 32, 32)
    expected_BVK = open_saved(onnx_file.with_suffix(".pt")).model(views_BVTCHW).detach()
    torch.testing.assert_close(open_deployed(onnx_file).scores(views_BVTCHW), expected_BVK, rtol=0, atol=1e-4)


def test_an_onnx_file_shifts_by_slices_pads_and_concatenations(onnx_file):
    operators = {node.op_type for node in onnx.load(onnx_file).graph.node}
    assert {"Slice", "Pad", "Concat"} <= operators
    assert not {name for name in operators if "Scatter" in name or name in ("Where", "If", "Loop")}


def test_a_file_brings_its_settings_and_class_names(onnx_file):
    saved, deployed = open_saved(onnx_file.with_suffix(".pt")), open_deployed(onnx_file)
    assert (deployed.settings, deployed.class_names) == (saved.config, NAMES)
    assert (deployed.uint8, deployed.online) == (False, False)
