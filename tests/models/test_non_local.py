"""Non-local blocks: MIT's arithmetic in three dimensions, places and names, and their training."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from configs.schema import Model, Optim
from engine.train import optim
from models import build_model, load_pretrained
from models.backbones import NonLocal
from models.cost import count_macs, count_parameters
from models.shift.conv import ShiftedConv2d
from tests.support import recipes, slim

PLACES = ["layer2.0", "layer2.2", "layer3.0", "layer3.2", "layer3.4"]
LAYERS = ["theta", "phi.0", "g.0", "W.0", "W.1"]


def network(**changes):
    """Return a slim network whose non-local blocks change the logits."""
    model = slim.network(non_local=True, **changes)
    for name, part in model.named_modules():
        if name.endswith(".nl.W.1"):
            nn.init.constant_(part.weight, 0.5)
    return model


def skeleton(**changes):
    with torch.device("meta"):
        return build_model(Model(**({"num_classes": 400, "non_local": True} | changes)))


def in_three_dimensions(block, x_BCTHW):
    """Compute a block by its definition: the whole attention matrix, convolutions over time, height and width."""

    def conv(name, x_BCTHW):
        layer = block.get_submodule(name)
        return F.conv3d(x_BCTHW, layer.weight.unsqueeze(-1), layer.bias)

    theta_BCL = conv("theta", x_BCTHW).flatten(2)
    phi_BCM, g_BCM = (F.max_pool3d(conv(name, x_BCTHW), (1, 2, 2)).flatten(2) for name in ("phi.0", "g.0"))
    weights_BLM = torch.einsum("bcl,bcm->blm", theta_BCL, phi_BCM).softmax(2)
    taken_BCTHW = torch.einsum("blm,bcm->bcl", weights_BLM, g_BCM).unflatten(2, x_BCTHW.shape[2:])
    norm = block.W[1]
    out_BCTHW = conv("W.0", taken_BCTHW)
    return x_BCTHW + F.batch_norm(out_BCTHW, norm.running_mean, norm.running_var, norm.weight, norm.bias)


@pytest.fixture
def block():
    torch.manual_seed(0)
    block = NonLocal(channels=12, frames=3).double().eval()
    for values in (*block.parameters(), block.W[1].running_mean):
        nn.init.normal_(values)
    return block


@pytest.mark.parametrize("height, width", [(4, 6), (5, 7)])
def test_a_block_is_mits_in_three_dimensions_with_its_gradients(block, height, width):
    x_NCHW = torch.randn(2 * 3, 12, height, width, dtype=torch.float64, requires_grad=True)
    expected_BCTHW = in_three_dimensions(block, x_NCHW.unflatten(0, (2, 3)).transpose(1, 2))
    expected_NCHW, actual_NCHW = expected_BCTHW.transpose(1, 2).flatten(0, 1), block(x_NCHW)
    torch.testing.assert_close(actual_NCHW, expected_NCHW)
    grad_NCHW, wanted = torch.randn_like(x_NCHW), (x_NCHW, *block.parameters())
    gradients = [torch.autograd.grad(out_NCHW, wanted, grad_NCHW) for out_NCHW in (actual_NCHW, expected_NCHW)]
    torch.testing.assert_close(*gradients)


def test_a_new_block_changes_nothing():
    x_NCHW = torch.randn(6, 12, 4, 4)
    assert torch.equal(NonLocal(channels=12, frames=3)(x_NCHW), x_NCHW)


def test_a_block_keeps_channels_last_both_ways(block):
    x_NCHW = torch.randn(6, 12, 4, 6, dtype=torch.float64).to(memory_format=torch.channels_last).requires_grad_()
    block.to(memory_format=torch.channels_last)
    seen = []
    block.W[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    out_NCHW = block(x_NCHW)
    (grad_NCHW,) = torch.autograd.grad(out_NCHW, x_NCHW, torch.ones_like(out_NCHW))
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in (*seen, out_NCHW, grad_NCHW))


@pytest.mark.parametrize("name", ["tsm", "tsn"])
@pytest.mark.parametrize("backbone", ["resnet50", "resnet101"])
def test_five_blocks_have_mits_places_and_names_and_other_names_are_torchvisions(backbone, name):
    wanted = {"backbone": backbone, "name": name}
    with_blocks, without = skeleton(**wanted).state_dict(), skeleton(**wanted, non_local=False).state_dict()
    added = {key.rpartition(".")[0] for key in with_blocks.keys() - without.keys()}
    assert without.keys() <= with_blocks.keys()
    assert added == {f"{place}.nl.{layer}" for place in PLACES for layer in LAYERS}


def test_blocks_follow_the_blocks_that_they_are_named_after():
    model, order = network(), []
    for name, part in model.named_modules():
        if name.endswith((".nl", ".conv2")):
            part.register_forward_hook(lambda *_, name=name: order.append(name))
    model(slim.clips(1, 4))
    for place in PLACES:
        at = order.index(f"{place}.nl")
        stage, number = place.split(".")
        assert order[at - 1 : at + 2] == [f"{place}.conv2", f"{place}.nl", f"{stage}.{int(number) + 1}.conv2"]


@torch.no_grad()
def test_every_frame_sees_every_frame_of_its_clip_and_none_of_another():
    model, clips_BTCHW = network(name="tsn"), slim.clips(2, 4)
    changed_BTCHW = clips_BTCHW.clone()
    changed_BTCHW[0, 1] += 1
    moved_BT = (model.frame_logits(changed_BTCHW) - model.frame_logits(clips_BTCHW)).abs().amax(2)
    assert (moved_BT[0] > 1e-4).all()
    assert (moved_BT[1] < 1e-10).all()


@torch.no_grad()
def test_a_tsn_of_non_local_blocks_takes_any_number_of_frames():
    model, clips_BTCHW = network(name="tsn"), slim.clips(2, 7)
    together_BTK = model.frame_logits(clips_BTCHW)
    alone_BTK = torch.cat([model.frame_logits(clip_TCHW[None]) for clip_TCHW in clips_BTCHW])
    torch.testing.assert_close(together_BTK, alone_BTK)


@pytest.mark.gpu
@pytest.mark.parametrize("channels, side", [(512, 28), (1024, 14)])
def test_a_block_of_the_published_network_computes_in_fp16_on_a_gpu(channels, side):
    block = NonLocal(channels, frames=8).to("cuda", memory_format=torch.channels_last).eval()
    nn.init.normal_(block.W[1].weight)
    x_NCHW = torch.randn(8, channels, side, side, device="cuda").to(memory_format=torch.channels_last)
    with torch.autocast("cuda", torch.float16):
        actual_NCHW = block(x_NCHW.requires_grad_())
    (grad_NCHW,) = torch.autograd.grad(actual_NCHW.float().square().mean(), x_NCHW)
    expected_NCHW = block.double()(x_NCHW.double())
    assert actual_NCHW.isfinite().all() and grad_NCHW.isfinite().all()
    assert (actual_NCHW - expected_NCHW).abs().mean() < 0.02 * expected_NCHW.abs().mean()


def test_a_compiled_block_is_one_graph_and_equals_the_eager_one(block):
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    x_NCHW = torch.randn(6, 12, 4, 6, dtype=torch.float64)
    torch.testing.assert_close(compiled(x_NCHW), block(x_NCHW))


@pytest.mark.slow
def test_a_compiled_network_is_one_graph_and_equals_the_eager_one():
    model, clips_BTCHW = network(), slim.clips(2, 4)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(clips_BTCHW), model(clips_BTCHW))


def test_parameter_groups_are_mits():
    """Convolutions are as all others, their biases at twice the rate and without decay, norms without decay."""
    model = skeleton()
    names = {parameter: name for name, parameter in model.named_parameters()}
    kinds = {
        names[parameter]: group["kind"]
        for group in optim.parameter_groups(model, Optim(lr=0.02, bias_lr_mult=2, fc_lr_mult=(5, 10)))
        for parameter in group["params"]
    }
    for place in PLACES:
        for layer in LAYERS:
            norm = layer == "W.1"
            assert kinds[f"{place}.nl.{layer}.weight"] == ("norm" if norm else "weight")
            assert kinds[f"{place}.nl.{layer}.bias"] == ("norm" if norm else "bias")


def test_macs_and_parameters_of_non_local_blocks_equal_a_formula():
    def block(channels, frames, side):
        positions = frames * side**2
        convolutions, products = 4 * positions * channels * channels // 2, positions * positions // 4 * channels
        return convolutions + products

    more = count_macs(skeleton(), 224) - count_macs(skeleton(non_local=False), 224)
    assert more == 2 * block(512, 8, 28) + 3 * block(1024, 8, 14)
    parameters = [4 * c * c // 2 + 3 * c // 2 + c + 2 * c for c in (512, 512, 1024, 1024, 1024)]
    assert count_parameters(skeleton()) - count_parameters(skeleton(non_local=False)) == sum(parameters)


def test_blocks_start_new_where_pretrained_weights_have_none(tmp_path):
    before = build_model(Model(backbone="resnet50", width=8, num_classes=5))
    torch.save(before.state_dict(), tmp_path / "before.pt")
    model = build_model(Model(backbone="resnet50", width=8, num_classes=5, non_local=True))
    report = load_pretrained(model, str(tmp_path / "before.pt"))
    assert len(report.missing) == len(PLACES) * (2 * len(LAYERS) + 2)  # and running statistics
    assert torch.equal(model.layer3[4].conv1.weight, before.layer3[4].conv1.weight)


@pytest.mark.parametrize(
    "settings, problem",
    [
        (["model.backbone=resnet18"], "not supported for resnet18; use resnet50 or resnet101"),
        (["model.backbone=mobilenet_v2"], "not supported for mobilenet_v2"),
        (["model.causal=true"], "uses future frames, which model.causal=true excludes"),
        (["clip.size=24"], "24 px leave the non-local blocks nothing to pool; they need at least 32"),
    ],
)
def test_networks_that_cannot_have_non_local_blocks_are_refused(settings, problem, tmp_path, monkeypatch):
    recipe = recipes.writer(tmp_path, monkeypatch)(recipes.RECIPE)
    assert problem in "\n".join(recipes.errors(recipe, "model.non_local=true", *settings))


def test_deep_networks_with_non_local_blocks_shift_in_every_second_block():
    model = skeleton(backbone="resnet101")
    assert [isinstance(block.conv1, ShiftedConv2d) for block in model.layer3] == [n % 2 == 0 for n in range(23)]
