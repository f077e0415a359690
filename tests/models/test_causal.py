"""Causal TSMs: which frames each logit depends on, clips of any length, and training."""

import pytest
import torch

from models import CheckpointError, load_pretrained, load_weights
from models.shift.conv import FORMS
from tests.support import recipes, slim

ROUNDING = 1e-10  # for logits of the order of 1, in double precision


@torch.no_grad()
def test_a_frame_changes_only_its_own_and_later_logits():
    model, clips_BTCHW = slim.network(causal=True), slim.clips(2, 6)
    changed_BTCHW = clips_BTCHW.clone()
    changed_BTCHW[:, 3] += 1
    before_BTK, after_BTK = model.frame_logits(clips_BTCHW), model.frame_logits(changed_BTCHW)
    torch.testing.assert_close(before_BTK[:, :3], after_BTK[:, :3], atol=ROUNDING, rtol=0)
    assert ((before_BTK - after_BTK)[:, 3:].abs().amax(2) > 1e-2).all()


@torch.no_grad()
def test_a_longer_clip_begins_as_the_shorter_one():
    model, clips_BTCHW = slim.network(causal=True), slim.clips(2, 11)
    long_BTK, short_BTK = model.frame_logits(clips_BTCHW), model.frame_logits(clips_BTCHW[:, :7])
    torch.testing.assert_close(long_BTK[:, :7], short_BTK, atol=ROUNDING, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("consensus", ["logits", "features"])
def test_a_clips_logits_are_the_mean_of_its_frames(consensus):
    model, clips_BTCHW = slim.network(causal=True, consensus=consensus), slim.clips(2, 3)
    expected_BK = model.frame_logits(clips_BTCHW).mean(1)
    torch.testing.assert_close(model(clips_BTCHW), expected_BK, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("shift", FORMS)
@pytest.mark.parametrize("backbone, width", [("resnet50", 8), ("mobilenet_v2", 64)])
def test_gradients_reach_every_parameter(backbone, width, shift):
    model = slim.network(causal=True, backbone=backbone, width=width, shift=shift, dropout=0).train()
    model(slim.clips(4, 4)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_clips_of_other_lengths_are_evaluated_where_a_tsm_is_causal(tmp_path, monkeypatch):
    recipe = recipes.writer(tmp_path, monkeypatch)(recipes.RECIPE)
    assert recipes.errors(recipe, "eval.frames=25") != []
    assert recipes.errors(recipe, "eval.frames=25", "model.causal=true") == []


def test_a_tsn_cannot_be_causal(tmp_path, monkeypatch):
    recipe = recipes.writer(tmp_path, monkeypatch)(recipes.RECIPE)
    (problem,) = recipes.errors(recipe, "model.causal=true", "model.name=tsn")
    assert "a tsn processes frames independently, so it has no direction; set model.name=tsm" in problem


def test_weights_of_a_shift_that_looks_both_ways_can_start_a_training_only(tmp_path):
    """The weights are named as in MIT's checkpoints, so that the shifted layers are known."""
    state = slim.network(backbone="resnet18").float().state_dict()
    wrapped = {key: key.replace("conv1.", "conv1.net.") if key.startswith("layer") else key for key in state}
    torch.save(
        {"state_dict": {f"base_model.{wrapped[key]}": value for key, value in state.items()}}, tmp_path / "mit.pth"
    )
    model = slim.network(backbone="resnet18", causal=True)
    with pytest.raises(CheckpointError, match=r"neighbouring frames.*model\.causal=false; or start a training from it"):
        load_weights(model, tmp_path / "mit.pth")
    report = load_pretrained(model, str(tmp_path / "mit.pth"))
    assert (
        "trained with a shift from both neighbouring frames, the model shifts from the previous one only"
        in report.summary()
    )
