"""Weight decay and rate of every recipe: the movement of each kind of parameter in one step.

`SOURCES` and `RATES` are written from the source code and configurations of the projects, never from the recipes. With
zero gradients and zero momenta, a step moves a parameter by (its multiple of the rate) x (its decay) x (its value).
"""

from dataclasses import replace

import pytest
import torch

import configs
from engine.train.optim import for_batch, make_optimizer, set_lr
from models import build_model

# Movement of: weights of convolutions; biases of convolutions; norms; the classifier's weight; its bias.
from tests.support.recipes import COMPLETE

SOURCES = {
    # main.py --wd 1e-4, ops/models.py: get_optim_policies, lr_mult x decay_mult
    "MIT on Kinetics": (1e-4, 0, 0, 5 * 1e-4, 0),
    # opts.py: --wd is 5e-4 unless given
    "MIT on Something-Something": (5e-4, 0, 0, 5 * 5e-4, 0),
    # TSMOptimWrapperConstructor with fc_lr5 and weight_decay=0.0005
    "mmaction2's TSM on Something-Something": (5e-4, 0, 0, 5 * 5e-4, 0),
    # weight_decay 1e-4 in the YAML; BN with L2Decay(0.0); tsm_head.py: learning_rate=5.0 with L2Decay(1e-4)
    "PaddleVideo's TSM on Kinetics": (1e-4, 0, 0, 5 * 1e-4, 0),
    # no weight_decay in the YAML, so only the head's
    "PaddleVideo's TSM on UCF101": (0, 0, 0, 5 * 1e-4, 0),
    # weight_decay 1e-4 in the YAML, without exceptions
    "PaddleVideo's TSN": (1e-4, 1e-4, 1e-4, 1e-4, 1e-4),
    # weight_decay 1e-4 in the YAML; norms with L2Decay(0.0); heads as tsm_head.py
    "PP-TSM and PP-TSN": (1e-4, 0, 0, 5 * 1e-4, 0),
    # weight_decay=0.00002; TSMOptimWrapperConstructor with fc_lr5
    "mmaction2's MobileNetV2": (2e-5, 0, 0, 5 * 2e-5, 0),
    # TSMOptimizerConstructor with fc_lr5, weight_decay=0.0001 of sgd_tsm_50e.py
    "mmaction2's TSM on HMDB51": (1e-4, 0, 0, 5 * 1e-4, 0),
    # the default constructor, weight_decay=0.0001: all parameters decay
    "mmaction2's TSN": (1e-4, 1e-4, 1e-4, 1e-4, 1e-4),
    # the same, weight_decay=0.0005
    "mmaction2's TSN of 0.x": (5e-4, 5e-4, 5e-4, 5e-4, 5e-4),
    "ours on Kinetics": (1e-4, 0, 0, 5 * 1e-4, 0),
    "ours on pans": (5e-4, 0, 0, 5e-4, 0),
}
RATES = {  # where not 1, 1, 1, 5, 10
    "MIT on Kinetics": (1, 2, 1, 5, 10),  # normal_bias: lr_mult 2
    "MIT on Something-Something": (1, 2, 1, 5, 10),
    "mmaction2's TSM on Something-Something": (1, 2, 1, 5, 10),
    "mmaction2's MobileNetV2": (1, 2, 1, 5, 10),
    "mmaction2's TSM on HMDB51": (1, 2, 1, 5, 10),
    "PaddleVideo's TSN": (1, 1, 1, 1, 1),
    "mmaction2's TSN": (1, 1, 1, 1, 1),
    "mmaction2's TSN of 0.x": (1, 1, 1, 1, 1),
    "ours on pans": (1, 1, 1, 1, 1),
}
NESTEROV = ("ours on Kinetics", "PP-TSM and PP-TSN")  # whose first step is 1 + momentum times as long
RECIPES = {
    "demo": "ours on pans",
    "pan4": "ours on pans",
    "pptsm_k400": "PP-TSM and PP-TSN",
    "pptsm_k400_dense": "PP-TSM and PP-TSN",
    "pptsn_k400": "PP-TSM and PP-TSN",
    "tsm_hmdb51": "mmaction2's TSM on HMDB51",
    "tsm_hmdb51_16f": "mmaction2's TSM on HMDB51",
    "tsm_k400_mobilenet": "mmaction2's MobileNetV2",
    "tsm_k400_nl_dense": "MIT on Kinetics",
    "tsm_sthv1": "MIT on Something-Something",
    "tsm_sthv1_16f": "MIT on Something-Something",
    "tsm_sthv1_r101": "MIT on Something-Something",
    "tsm_sthv1_randaugment": "mmaction2's TSM on Something-Something",
    "tsm_sthv2_16f": "mmaction2's TSM on Something-Something",
    "tsm_sthv2_r101": "mmaction2's TSM on Something-Something",
    "tsm_ucf101_frames_nhwc": "PaddleVideo's TSM on UCF101",
    "tsn_k400_r101": "mmaction2's TSN",
    "tsn_sthv1": "mmaction2's TSN of 0.x",
    "tsn_sthv2": "mmaction2's TSN",
    "tsn_sthv2_16f": "mmaction2's TSN",
    "tsn_ucf101": "mmaction2's TSN of 0.x",
    "tsm_jester": "MIT on Something-Something",
    "tsm_k400_16f": "MIT on Kinetics",
    "tsm_k400_dense": "MIT on Kinetics",
    "tsm_k400_frames": "PaddleVideo's TSM on Kinetics",
    "tsm_k400_frames_nhwc": "PaddleVideo's TSM on Kinetics",
    "tsm_k400_modern": "ours on Kinetics",
    "tsm_k400_nhwc": "PaddleVideo's TSM on Kinetics",
    "tsm_k400_videos": "PaddleVideo's TSM on Kinetics",
    "tsm_sthv2": "mmaction2's TSM on Something-Something",
    "tsm_ucf101_frames": "PaddleVideo's TSM on UCF101",
    "tsm_ucf101_nhwc": "PaddleVideo's TSM on UCF101",
    "tsm_ucf101_videos": "PaddleVideo's TSM on UCF101",
    "tsn_k400_frames": "PaddleVideo's TSN",
    "tsn_k400_frames_8f": "PaddleVideo's TSN",
    "tsn_k400_videos": "PaddleVideo's TSN",
    "tsn_k400_videos_8f": "PaddleVideo's TSN",
}


def kind_of(module, name):
    if isinstance(module, torch.nn.Linear):
        return f"classifier {name}"
    return f"conv {name}" if isinstance(module, torch.nn.Conv2d) else "norm"


def movements(recipe, value, gradient):
    """Return how far each kind of parameter moves from `value` at a learning rate of 1."""
    settings = configs.load(recipe, ["model.pretrained=none"])
    slim = {} if settings.model.backbone == "mobilenet_v2" else {"width": 8}
    model = build_model(replace(settings.model, **slim)).double()
    optimizer = make_optimizer(model, for_batch(settings.optim, settings.train.batch))
    set_lr(optimizer, 1.0)
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, value)
        parameter.grad = torch.full_like(parameter, gradient)
    optimizer.step()
    return {
        kind_of(module, name): (value - parameter.detach()).unique()
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
    }


KINDS = ("conv weight", "conv bias", "norm", "classifier weight", "classifier bias")


def assert_moved(recipe, moved, published):
    length = 1.9 if RECIPES[recipe] in NESTEROV else 1
    expected = dict(zip(KINDS, published, strict=True))
    for kind, values in moved.items():
        assert values.tolist() == [pytest.approx(length * expected[kind], abs=1e-12)], kind


@pytest.mark.parametrize("recipe", COMPLETE)
def test_a_step_moves_each_kind_as_in_the_source(recipe):
    source = RECIPES[recipe]
    assert_moved(recipe, movements(recipe, value=1, gradient=0), SOURCES[source])
    assert_moved(recipe, movements(recipe, value=0, gradient=1), RATES.get(source, (1, 1, 1, 5, 10)))
