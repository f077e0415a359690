"""Grad-CAM: the heat of a class is where the clip supports it, and equals the textbook's sum."""

import torch

from engine.inference.explain import Explanation, grad_cam
from models import build_model
from tests.support import tiny


def network(**settings):
    torch.manual_seed(0)
    model = build_model(tiny.config(model=settings).model).eval().requires_grad_(False)
    torch.nn.init.normal_(model.fc.weight)
    return model


def test_heat_is_the_positive_part_of_features_weighted_by_the_classifier():
    """After an average over places and frames, the gradient of a channel is its classifier weight, up to a factor."""
    model, clip_TCHW = network(name="tsn"), torch.randn(2, 3, 64, 64)
    kept = []
    handle = getattr(model, model.trunk[-1]).register_forward_hook(lambda *call: kept.append(call[2]))
    model(clip_TCHW[None])
    handle.remove()
    expected_Thw = torch.einsum("tchw,c->thw", kept[0], model.fc.weight[1]).relu()
    heat_THW = grad_cam(model, clip_TCHW.clone(), 1)
    assert heat_THW.shape == (2, 64, 64) and heat_THW.min() >= 0 and heat_THW.max() <= 1
    coarse_Thw = torch.nn.functional.interpolate(expected_Thw[:, None], (64, 64), mode="bilinear")[:, 0]
    torch.testing.assert_close(heat_THW, coarse_Thw / coarse_Thw.max(), rtol=1e-3, atol=1e-4)


def test_a_frame_that_decides_has_the_largest_share():
    model, clip_TCHW = network(name="tsn", frames=4), torch.zeros(4, 3, 64, 64)
    clip_TCHW[2] = torch.randn(3, 64, 64) * 3
    label = int(model(clip_TCHW[None]).sub(model(torch.zeros(1, 4, 3, 64, 64))).argmax())
    heat_THW = grad_cam(model, clip_TCHW.clone(), label).numpy()
    found = Explanation(label, None, None, heat_THW)
    assert found.weight_T.argmax() == 2 and abs(found.weight_T.sum() - 1) < 1e-6


def test_a_heat_map_of_zeros_gives_all_frames_the_same_share():
    found = Explanation(0, None, None, torch.zeros(4, 2, 2).numpy())
    assert found.weight_T.tolist() == [0.25] * 4
