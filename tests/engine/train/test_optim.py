"""Parameter groups against MIT TSM's, schedules at their corners, averaged weights against their recurrence."""

import json
import math

import pytest
import torch
from torch import nn

from benchmarks.network.launches import Launches
from configs.schema import Optim
from engine.train import optim
from engine.train.optim import EmaWeights
from models import build_model
from tests.support import tiny
from tests.support.paths import DATA

MIT_GROUPS = json.loads((DATA / "mit_optim_groups.json").read_text())


def shares_by_name(model, settings):
    """Return {parameter name: (multiple of lr, multiple of weight decay)}."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        names[parameter]: (group["lr_mult"], group["weight_decay"] / settings.weight_decay)
        for group in optim.parameter_groups(model, settings)
        for parameter in group["params"]
    }


def our_name(mit_name):
    return mit_name.removeprefix("base_model.").replace(".net.", ".").replace("new_fc", "fc")


@pytest.mark.parametrize(
    ("variant", "fc_lr_mult"), [("tsm_npb", (1, 2)), ("tsm_npb_fc_lr5", (5, 10)), ("tsn_npb", (1, 2))]
)
def test_parameter_groups_equal_mits(variant, fc_lr_mult):
    model = build_model(tiny.config(model={"name": variant[:3], "backbone": "resnet50", "width": 64}).model)
    expected = {
        our_name(name): (group["lr_mult"], group["decay_mult"])
        for group in MIT_GROUPS[variant]
        for name in group["params"]
    }
    settings = Optim(lr=0.02, fc_lr_mult=fc_lr_mult, bias_lr_mult=2)
    assert shares_by_name(model, settings) == expected


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "mobilenet_v2"])
def test_every_parameter_is_in_one_group(backbone):
    model = build_model(tiny.config(model={"backbone": backbone, "width": 64}).model)
    grouped = [p for group in optim.parameter_groups(model, Optim(lr=0.1)) for p in group["params"]]
    assert sorted(map(id, grouped)) == sorted(map(id, model.parameters()))


def test_the_first_convolution_is_a_group_of_its_own():
    model = build_model(tiny.config().model)
    groups = {group["kind"]: group["params"] for group in optim.parameter_groups(model, Optim(lr=0.1))}
    assert [id(parameter) for parameter in groups["first conv weight"]] == [id(model.conv1.weight)]


@pytest.mark.parametrize(
    ("decay", "decaying"),
    [
        ("weights", {"first conv weight", "weight", "fc weight"}),
        ("all", {"first conv weight", "weight", "bias", "norm", "fc weight", "fc bias"}),
        ("classifier", {"fc weight"}),
    ],
)
def test_weight_decay_applies_to_the_chosen_kinds_of_parameters(decay, decaying):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 2))
    groups = optim.parameter_groups(model, Optim(lr=0.1, decay=decay))
    assert {group["kind"] for group in groups if group["weight_decay"] == 1e-4} == decaying
    assert {group["kind"] for group in groups if group["weight_decay"] == 0} == {g["kind"] for g in groups} - decaying


def test_the_rate_is_scaled_from_the_batch_that_it_is_meant_for_or_not_at_all():
    assert optim.for_batch(Optim(lr=0.02, lr_for_batch=128), 512).lr == pytest.approx(0.08)
    assert optim.for_batch(Optim(lr=0.02, lr_for_batch=128), 32).lr == pytest.approx(0.005)
    assert optim.for_batch(Optim(lr=0.02), 512).lr == 0.02


def test_a_parameter_of_an_unknown_kind_of_module_is_refused():
    with pytest.raises(TypeError, match=r"0\.weight: no parameter group for a PReLU"):
        optim.parameter_groups(nn.Sequential(nn.PReLU()), Optim(lr=0.1))


def test_description_counts_every_value():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 2))
    lines = optim.describe_groups(optim.make_optimizer(model, Optim(lr=0.1)))
    assert [line.split(":")[0].strip() for line in lines] == [
        "first conv weight", "bias", "norm", "fc weight", "fc bias"
    ]  # fmt: skip
    assert [int(line.split("tensors,")[1].split()[0]) for line in lines] == [12, 4, 8, 8, 2]


@pytest.mark.parametrize(
    ("momentum", "nesterov", "moved"),
    [(0.0, False, 2), (0.5, False, 1 + 1.5), (0.9, False, 1 + 1.9), (0.5, True, 1.5 + (1 + 0.5 * 1.5))],
)
def test_two_steps_along_a_constant_gradient_move_as_momentum_predicts(momentum, nesterov, moved):
    model = nn.Linear(1, 1, bias=False)
    rules = Optim(lr=1.0, momentum=momentum, nesterov=nesterov, weight_decay=0, fc_lr_mult=(1, 1))
    optimizer, before = optim.make_optimizer(model, rules), model.weight.item()
    for _ in range(2):
        model.weight.grad = torch.ones(1, 1)
        optimizer.step()
    assert before - model.weight.item() == pytest.approx(moved, rel=1e-6)


def test_rate_falls_with_the_first_step_of_a_milestone():
    lr_at = optim.make_schedule(Optim(lr=0.02, milestones=(20, 40)), steps_per_epoch=7, epochs=50)
    epochs = (0, 20 * 7 - 1, 20 * 7, 40 * 7 - 1, 40 * 7, 50 * 7 - 1)
    assert [lr_at(step) for step in epochs] == pytest.approx([0.02, 0.02, 0.002, 0.002, 0.0002, 0.0002])


def test_no_milestones_no_change():
    lr_at = optim.make_schedule(Optim(lr=0.3), steps_per_epoch=1, epochs=100)
    assert {lr_at(step) for step in range(100)} == {0.3}


def test_cosine_starts_at_lr_and_is_half_way_down_in_the_middle():
    lr_at = optim.make_schedule(Optim(lr=0.4, schedule="cosine"), steps_per_epoch=10, epochs=8)
    assert [lr_at(0), lr_at(20), lr_at(40), lr_at(80)] == pytest.approx(
        [0.4, 0.2 * (1 + math.cos(math.pi / 4)), 0.2, 0], abs=1e-12
    )


def test_warm_up_is_paddlevideos_and_ends_on_the_cosine():
    """PP-TSM's schedule rises from 0.005 in 10 epochs to the cosine of base 0.01 over 80."""
    settings = Optim(lr=0.01, schedule="cosine", warmup_epochs=10, warmup_start=0.5)
    lr_at = optim.make_schedule(settings, steps_per_epoch=100, epochs=80)
    top = 0.5 * 0.01 * (1 + math.cos(math.pi * 10 / 80))
    assert [lr_at(0), lr_at(250), lr_at(1000)] == pytest.approx([0.005, 0.005 + 2.5 * (top - 0.005) / 10, top])
    assert lr_at(999) < lr_at(1000) > lr_at(1001)


def test_warm_up_of_a_step_schedule_ends_on_lr():
    lr_at = optim.make_schedule(Optim(lr=0.1, warmup_epochs=2, milestones=(5,)), steps_per_epoch=4, epochs=6)
    assert [lr_at(0), lr_at(4), lr_at(8), lr_at(20)] == pytest.approx([0.01, 0.055, 0.1, 0.01])


def test_parts_of_the_schedule_beyond_the_last_epoch_are_named():
    settings = Optim(lr=0.1, warmup_epochs=2, milestones=(1, 3, 4))
    late, warm = optim.describe_unreached(settings, epochs=2)
    assert late == "the run ends before epoch 3, 4 of optim.milestones"
    assert warm == "the run ends within its warm-up, optim.warmup_epochs=2"
    assert optim.describe_unreached(settings, epochs=5) == []


@pytest.mark.parametrize("saved_as", [torch.channels_last, torch.contiguous_format])
def test_fused_steps_over_channels_last_weights_equal_plain_ones_after_resuming_too(saved_as):
    """torch's fused SGD is wrong on a CPU if momenta have another memory format than their weights."""
    settings = Optim(lr=0.1, momentum=0.9, weight_decay=1e-3)
    models = [build_model(tiny.config(model={"backbone": "resnet50", "width": 8}).model) for _ in range(2)]
    fused, plain = (model.to(memory_format=torch.channels_last) for model in models)
    plain.load_state_dict(fused.state_dict())
    ours = optim.make_optimizer(fused, settings)
    theirs = torch.optim.SGD(optim.parameter_groups(plain, settings), lr=0.1, momentum=0.9, fused=False)

    def step():
        torch.manual_seed(0)
        clips_BTCHW = torch.randn(2, fused.settings.frames, 3, 32, 32)
        fused(clips_BTCHW).square().sum().backward()
        for ours_, theirs_ in zip(fused.parameters(), plain.parameters(), strict=True):
            theirs_.grad = ours_.grad.clone()
        for optimizer in (ours, theirs):
            optimizer.step()
            optimizer.zero_grad()

    step()
    saved = ours.state_dict()["state"]
    for state in saved.values():
        if (momentum := state["momentum_buffer"]).ndim == 4:
            state["momentum_buffer"] = momentum.contiguous(memory_format=saved_as)
    optim.restore(ours, saved)
    step()
    for weight, expected in zip(fused.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(weight, expected)


def test_a_parameter_group_uses_its_multiple_of_the_rate():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Linear(4, 2))
    optimizer = optim.make_optimizer(model, Optim(lr=0.1, fc_lr_mult=(5, 10), bias_lr_mult=2))
    optim.set_lr(optimizer, 0.01)
    assert {g["kind"]: g["lr"] for g in optimizer.param_groups} == pytest.approx(
        {"first conv weight": 0.01, "bias": 0.02, "fc weight": 0.05, "fc bias": 0.1}
    )


def convolutions(layout=torch.contiguous_format, device="cpu"):
    """Return two fixed convolutions: weights have a memory format, and biases share a group."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 2)).to(device=device, memory_format=layout)


def steps(model, optimizer, scales):
    """Take a step for each factor of the gradient, under a gradient scaler; return the final weights."""
    device = next(model.parameters()).device.type
    scaler, x_NCHW = torch.amp.GradScaler(device), torch.linspace(-1, 1, 2 * 3 * 5 * 5, device=device).view(2, 3, 5, 5)
    for scale in scales:
        scaler.scale(scale * model(x_NCHW).square().sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.fixture
def dirty_memory(monkeypatch):
    """Fill new tensors with NaN, as reused memory may be."""
    empty_like = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda *args, **kwargs: empty_like(*args, **kwargs).fill_(torch.nan))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("nesterov", [False, True])
def test_a_first_step_that_overflows_changes_no_weight_and_no_momentum(device, nesterov, dirty_memory):
    """In fp16 the first steps overflow until the scaler has found its scale."""
    settings, weights = Optim(lr=0.01, nesterov=nesterov), []
    for fused in (False, True):
        model = convolutions(torch.channels_last, device)
        weights.append(steps(model, optim.make_optimizer(model, settings, fused), [math.inf, 1.0, 1.0]))
    assert weights[0].isfinite().all()
    torch.testing.assert_close(weights[1], weights[0])


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_momenta_of_another_memory_format_and_missing_ones_are_taken_over(device):
    """A resumed run may have changed runtime.channels_last or train.partial_bn."""
    weights = []
    for layout in (torch.contiguous_format, torch.channels_last):
        before, after = convolutions(device=device), convolutions(layout, device)
        optimizers = [optim.make_optimizer(model, Optim(lr=0.01), fused=True) for model in (before, after)]
        steps(before, optimizers[0], [1.0])
        momenta = optimizers[0].state_dict()["state"]
        del momenta[3]["momentum_buffer"]  # of the second bias
        optim.restore(optimizers[1], momenta)
        weights.append(steps(after, optimizers[1], [1.0, 1.0]))
    torch.testing.assert_close(*weights)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_weights_and_statistics_follow_the_recurrence_written_out(decay):
    model = network()
    average = EmaWeights(model, decay)
    expected = {name: value.double() for name, value in model.state_dict().items()}
    for step in range(40):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model(torch.randn(5, 3))
        average.update(step)
        kept = min(decay, (1 + step) / (10 + step))
        expected = {name: kept * expected[name] + (1 - kept) * now for name, now in model.state_dict().items()}
    for name, value in average.model.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)


def test_averaging_does_not_change_the_network():
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    average = EmaWeights(model, 0.9)
    with torch.no_grad():
        average.model[0].weight.add_(1)
    average.update(100)
    assert model.training and not average.model.training
    torch.testing.assert_close(model.state_dict(), before)


def test_an_average_keeps_following_its_network_after_either_is_loaded():
    """A resumed run loads both; later updates must still read the network and write the average."""
    model = network()
    average = EmaWeights(model, 0.0)
    other = network()
    with torch.no_grad():
        other[0].weight.fill_(7)
    model.load_state_dict(other.state_dict())
    average.model.load_state_dict(network().state_dict())
    average.update(100)
    assert torch.equal(average.model[0].weight, other[0].weight)


def test_a_compiled_network_is_averaged_too():
    model = network()
    model.compile(backend="eager")
    average = EmaWeights(model, 0.0)
    model(torch.randn(5, 3))
    average.update(100)
    inputs = torch.randn(5, 3)
    torch.testing.assert_close(average.model(inputs), model.eval()(inputs))


def test_an_update_is_one_operation_however_many_tensors_there_are():
    average = EmaWeights(network(), 0.9)
    with Launches() as seen:
        average.update(0)
    assert seen.launches == {"_foreach_lerp_.Scalar": 1}
