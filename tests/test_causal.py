"""Causal TSMs: what a frame may see, clips of any length, and that they learn like any other."""

import pytest
import recipes
import torch

from configs.schema import Model
from models import build_model


def small(**changes):
    """A slim causal network whose logits are of the order of 1."""
    settings = {"backbone": "resnet50", "width": 8, "num_classes": 5, "frames": 4, "fc_std": 0.01} | changes
    torch.manual_seed(0)
    return build_model(Model(causal=True, **settings)).eval()


def clips_of(frames, clips=2):
    return torch.randn(clips, frames, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_a_frame_changes_what_is_said_of_itself_and_of_those_after_it():
    model, clips_BTCHW = small(), clips_of(6)
    changed_BTCHW = clips_BTCHW.clone()
    changed_BTCHW[:, 3] += 1
    before_BTK, after_BTK = model.frame_logits(clips_BTCHW), model.frame_logits(changed_BTCHW)
    assert torch.equal(before_BTK[:, :3], after_BTK[:, :3])
    assert (before_BTK[:, 3:] != after_BTK[:, 3:]).any(2).all()


@torch.no_grad()
def test_a_longer_clip_begins_as_the_shorter_one():
    model, clips_BTCHW = small(), clips_of(11)
    long_BTK, short_BTK = model.frame_logits(clips_BTCHW), model.frame_logits(clips_BTCHW[:, :7])
    torch.testing.assert_close(long_BTK[:, :7], short_BTK, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("consensus", ["logits", "features"])
def test_a_clips_logits_are_the_mean_of_its_frames(consensus):
    model, clips_BTCHW = small(consensus=consensus), clips_of(3)
    torch.testing.assert_close(model(clips_BTCHW), model.frame_logits(clips_BTCHW).mean(1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shift", ["auto", "reference", "where"])
def test_gradients_reach_every_parameter(shift):
    model = small(shift=shift, dropout=0).train()
    model(clips_of(4)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_clips_of_other_lengths_are_evaluated_where_a_tsm_is_causal(tmp_path, monkeypatch):
    recipe = recipes.writer(tmp_path, monkeypatch)(recipes.RECIPE)
    assert recipes.errors(recipe, "eval.frames=25") != []
    assert recipes.errors(recipe, "eval.frames=25", "model.causal=true") == []


def test_a_tsn_cannot_be_causal(tmp_path, monkeypatch):
    recipe = recipes.writer(tmp_path, monkeypatch)(recipes.RECIPE)
    (problem,) = recipes.errors(recipe, "model.causal=true", "model.name=tsn")
    assert "a tsn looks at single frames, so it has no direction; set model.name=tsm" in problem
