"""PP-TSM and PP-TSN: PaddleVideo's files give its logits here, and three optimizer steps move the weights as there.

tests/data/paddle/pp_*.npz were made with Paddle 3.3.1 on a CPU from PaddleVideo's ResNetTweaksTSM(depth=50) and
ResNetTweaksTSN(layers=50), its heads without dropout for 11 classes, its label_smooth_loss and
CustomWarmupCosineDecay(0.005 * 4 / 128, 10, 0.01 * 4 / 128, 80, num_iters=2), and
paddle.optimizer.Momentum(momentum=0.9, use_nesterov=True, weight_decay=L2Decay(1e-4)); weights by `fill_by_name`, clips
by `clips`. `logits` are of clips(8, 2) in evaluation. Step n trained on clips(100 + n, 4) with labels 1, 5, 7, 10,
mixed 0.3 to 0.7 with the clip before; `train_logits` are those before the step. Afterwards, `moved` has each tensor's
distance from its start and `along` the component of its movement along `direction`.
"""

import zlib

import numpy as np
import pytest
import torch

import configs
from configs.schema import Model
from engine.train import optim
from engine.train.step import share_loss
from models import CheckpointError, build_model, load_pretrained, load_weights
from models.weights.paddle import swap_folds
from tests.support.oracles import paddle_files
from tests.support.oracles.weights import fill_by_name
from tests.support.paths import DATA

PP_TSM = {"name": "tsm", "backbone": "resnet50_vd", "leaky_slope": 0.01, "frames": 8, "consensus": "logits"}
PP_TSN = {"name": "tsn", "backbone": "resnet50_vd", "frames": 3, "consensus": "features"}
ROUNDING = 1e-4  # for logits that spread by 1 to 15


def network(settings, **changes):
    return build_model(Model(**settings | {"num_classes": 11, "dropout": 0} | changes)).eval()


def filled(settings, **changes):
    net = network(settings, **changes)
    fill_by_name(net)
    return net


def clips(seed, count, frames):
    """Return coarse noise that differs from frame to frame, and a little fine noise; 96 px."""
    draw = np.random.RandomState(seed)
    coarse = draw.standard_normal((count, frames, 3, 6, 6)).repeat(16, axis=3).repeat(16, axis=4)
    return torch.from_numpy((coarse + 0.25 * draw.standard_normal((count, frames, 3, 96, 96))).astype(np.float32))


def direction(name, shape):
    return np.random.RandomState(zlib.crc32(f"direction of {name}".encode())).standard_normal(shape)


@pytest.fixture(scope="module")
def pp_tsm_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("pp") / "ppTSM.pdparams"
    return paddle_files.write(path, paddle_files.vd_state(filled(PP_TSM)))


@torch.no_grad()
@pytest.mark.parametrize("settings, data", [(PP_TSM, "pp_tsm"), (PP_TSN, "pp_tsn")])
def test_a_file_of_paddlevideo_gives_its_logits_here(pp_tsm_file, settings, data):
    model = network(settings)
    load_weights(model, pp_tsm_file)
    expected = torch.from_numpy(np.load(DATA / "paddle" / f"{data}.npz")["logits"])
    torch.testing.assert_close(model(clips(8, 2, settings["frames"])), expected, atol=ROUNDING, rtol=1e-5)


@torch.no_grad()
def test_the_direction_of_the_shift_and_the_slope_matter(pp_tsm_file):
    expected = torch.from_numpy(np.load(DATA / "paddle" / "pp_tsm.npz")["logits"])
    for other in (filled(PP_TSM), load_any(network(PP_TSM, leaky_slope=0), pp_tsm_file)):
        assert (other(clips(8, 2, 8)) - expected).abs().max() > 100 * ROUNDING


def load_any(model, path):
    load_pretrained(model, str(path))
    return model


@pytest.mark.parametrize(
    "settings, seen",
    [
        (PP_TSM | {"leaky_slope": 0.0}, r"trained with model\.leaky_slope=0\.01; set that"),
        (PP_TSN | {"leaky_slope": 0.01}, r"trained with model\.leaky_slope=0\.0; set that"),
        (PP_TSM | {"backbone": "resnet50"}, r"it is another network: set model\.backbone=resnet50_vd"),
    ],
)
def test_settings_that_do_not_fit_the_file_are_refused(pp_tsm_file, settings, seen):
    with pytest.raises(CheckpointError, match=seen):
        load_weights(network(settings), pp_tsm_file)


@pytest.mark.slow
def test_three_steps_of_the_recipe_move_every_tensor_as_paddles_do(pp_tsm_file):
    recipe = configs.load("pptsm_k400", ["model.num_classes=11", "model.pretrained=none", "model.dropout=0"])
    reference = np.load(DATA / "paddle" / "pp_tsm.npz")
    rates = optim.make_schedule(optim.for_batch(recipe.optim, 4), steps_per_epoch=2, epochs=recipe.train.epochs)
    model = build_model(recipe.model).train()
    load_weights(model, pp_tsm_file)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = optim.make_optimizer(model, recipe.optim)
    labels = torch.tensor([1, 5, 7, 10])
    share_BK = 0.3 * torch.eye(11)[labels] + 0.7 * torch.eye(11)[labels.roll(1)]
    for step in range(3):
        clips_BTCHW = clips(100 + step, 4, 8)
        logits_BK = model(0.3 * clips_BTCHW + 0.7 * clips_BTCHW.roll(1, 0))
        expected = torch.from_numpy(reference["train_logits"][step])
        torch.testing.assert_close(logits_BK, expected, atol=ROUNDING, rtol=0)
        assert rates(step) == pytest.approx(reference["rates"][step], rel=1e-12)
        optim.set_lr(optimizer, rates(step))
        (share_loss(logits_BK, share_BK, recipe.optim.label_smoothing) / 4).backward()
        optimizer.step()
        optimizer.zero_grad()
    moved, _ = swap_folds({name: value - start[name] for name, value in model.state_dict().items()}, 8)
    for name, distance, along in zip(*(reference[key].tolist() for key in ("names", "moved", "along")), strict=True):
        change = moved[name].double().numpy()
        stored = 6e-8 * float(start[name].norm())  # the rounding of the fp32 weights
        assert np.linalg.norm(change) == pytest.approx(distance, abs=2e-3 * distance + 2 * stored), name
        assert (change * direction(name, change.shape)).sum() == pytest.approx(along, abs=0.03 * distance + 3 * stored)
