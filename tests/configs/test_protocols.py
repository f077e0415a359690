"""Published evaluation protocols by name: their views, and the precedence of other settings on the command line."""

import importlib
import sys

import numpy as np
import pytest

import configs
from configs.protocols import PROTOCOLS
from dali_pipes.views import draw

program = importlib.import_module("eval")  # eval.py at the top, not Python's function


def asked_for(monkeypatch, *words, recipe="tsm_k400_videos.yaml"):
    """Return the configuration that a command line gives."""
    monkeypatch.setattr(sys, "argv", ["eval.py", "--config", recipe, *words])
    args = program.arguments()
    return configs.load(args.config, args.overrides)


@pytest.mark.parametrize(
    ("name", "clips", "crops", "side", "mirrored"),
    [
        ("center", 1, 1, 224, 0),
        ("tencrop", 1, 10, 224, 5),
        ("fullres", 1, 3, 256, 0),
        ("twice", 2, 3, 256, 0),
        ("dense", 10, 3, 256, 0),
    ],
)
def test_a_protocol_scores_the_views_that_were_published(monkeypatch, name, clips, crops, side, mirrored):
    view = draw.eval_views(asked_for(monkeypatch, "--protocol", name), *np.array([[0], [300], [455], [256]]))
    box_V4 = view.box_BV4[0]
    assert len(np.unique(view.frames_BVT[0], axis=0)) == clips
    assert len(box_V4) == clips * crops
    assert np.all(box_V4[:, 2:] - box_V4[:, :2] == side)
    assert view.mirror_BV.sum() == mirrored


@pytest.mark.parametrize(("name", "spans"), [("dense", {56}), ("twice", {262, 263})])
def test_a_dense_clip_spans_64_frames_and_a_uniform_one_the_video(monkeypatch, name, spans):
    view = draw.eval_views(asked_for(monkeypatch, "--protocol", name), *np.array([[0], [300], [340], [256]]))
    assert set(view.frames_BVT[0, :, -1] - view.frames_BVT[0, :, 0]) == spans


def test_full_resolution_is_the_recipes_short_side(monkeypatch):
    assert asked_for(monkeypatch, "--protocol", "dense", recipe="demo.yaml").eval_size == 72


def test_a_protocol_sets_all_that_another_one_sets():
    assert len({frozenset(settings) for settings in PROTOCOLS.values()}) == 1


@pytest.mark.parametrize("words", [["--clips", "2"], ["eval.clips=2"], ["eval.clips=2", "--crops", "three"]])
def test_settings_override_those_of_a_protocol(monkeypatch, words):
    assert asked_for(monkeypatch, *words, "--protocol", "dense").eval.clips == 2
    assert asked_for(monkeypatch, "--protocol", "dense", *words).eval.clips == 2
