"""One step: which clips contribute to it, and the numbers that it reports."""

import copy
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from configs.schema import Optim
from dali_pipes.batch import Batch
from engine.train import optim
from engine.train.step import LeftOut, StepSettings, Tally, label_loss, no_mixing, train_step


def linear_model():
    """Return a network for clips of 1 frame of 3x2x2; batch norms would make rows depend on each other."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).double()


def batch_of(labels):
    """Return a clip for each label; −1 marks an unreadable one."""
    label_B = torch.tensor(labels)
    generator = torch.Generator().manual_seed(1)
    clips_BVTCHW = torch.randn(len(labels), 1, 1, 3, 2, 2, generator=generator, dtype=torch.float64)
    return Batch(clips_BVTCHW, label_B, torch.where(label_B < 0, -1, torch.arange(len(labels))))


PLAIN = StepSettings(lambda step: 0.1, no_mixing, partial(label_loss, smoothing=0.0))


def step_on(model, batch, *, lr=1.0, smoothing=0.0, max_norm=math.inf, tally=None, **how):
    """Take one step without momentum or decay, so weights move by minus lr times the gradient; return its norm."""
    optimizer = optim.make_optimizer(model, Optim(lr=lr, momentum=0, weight_decay=0))
    how = {"loss": partial(label_loss, smoothing=smoothing), "lr_at": lambda step: lr, "max_norm": max_norm, **how}
    scaler, tally = torch.amp.GradScaler("cpu", enabled=False), tally or Tally(torch.device("cpu"))
    return train_step(model, optimizer, scaler, batch, 0, replace(PLAIN, **how), tally)


def movement(batch, **how):
    """Return the movement of the weights in one step."""
    model = linear_model()
    before = model[1].weight.detach().clone()
    step_on(model, batch, **how)
    return model[1].weight.detach() - before


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_row_that_could_not_be_read_contributes_nothing(smoothing):
    batch = batch_of([0, -1, 2, 1])
    blank = Batch(batch.clips_BVTCHW.clone(), batch.label_B, batch.index_B)
    blank.clips_BVTCHW[1] = 1e6
    moved = movement(batch, smoothing=smoothing)
    assert moved.abs().max() > 0
    torch.testing.assert_close(movement(blank, smoothing=smoothing), moved)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_batch_of_unreadable_rows_changes_no_weight(smoothing):
    assert movement(batch_of([-1, -1, -1]), smoothing=smoothing).abs().max() == 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_two_halves_of_a_batch_average_to_the_whole_though_one_has_an_unreadable_row(smoothing):
    whole = batch_of([0, -1, 2, 1])
    halves = [Batch(*(getattr(whole, name)[part] for name in whole.__slots__)) for part in (slice(2), slice(2, 4))]
    average = sum(movement(half, smoothing=smoothing) for half in halves) / 2
    torch.testing.assert_close(movement(whole, smoothing=smoothing), average)


@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_moves_the_weights_as_the_whole_does(parts):
    batch, tally, whole_tally = batch_of([0, -1, 2, 1]), Tally(torch.device("cpu")), Tally(torch.device("cpu"))
    model, whole_model = linear_model(), linear_model()
    norm, whole_norm = (
        step_on(model, batch, smoothing=0.1, max_norm=0.5, tally=tally, parts=parts),
        step_on(whole_model, batch, smoothing=0.1, max_norm=0.5, tally=whole_tally),
    )
    torch.testing.assert_close(norm, whole_norm)
    torch.testing.assert_close(model.state_dict(), whole_model.state_dict())
    torch.testing.assert_close(tally.read(), whole_tally.read())


def test_loss_is_the_smoothed_cross_entropy_of_its_definition():
    model, batch = linear_model(), batch_of([0, 2])
    log_p_BK = model(batch.clips_BTCHW).log_softmax(1)
    expected = -(0.7 * log_p_BK[[0, 1], [0, 2]] + 0.1 * log_p_BK.sum(1)).sum()  # 0.3 spread over 3 classes
    tally = Tally(torch.device("cpu"))
    step_on(model, batch, smoothing=0.3, tally=tally)
    assert tally.read()[0].item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_loss_is_computed_in_single_precision_whatever_the_network_computes_in():
    seen = []

    def loss(logits_BK, label_B):
        seen.append(logits_BK.dtype)
        return label_loss(logits_BK, label_B, smoothing=0.0)

    batch = batch_of([0, 2])
    batch = replace(batch, clips_BVTCHW=batch.clips_BVTCHW.float())
    step_on(linear_model().float(), batch, loss=loss, autocast=lambda: torch.autocast("cpu", torch.bfloat16))
    assert seen == [torch.float32]


def test_gradient_is_clipped_to_its_largest_norm_and_reported_unclipped():
    batch = batch_of([0, 1])
    model = linear_model()
    free_norm = step_on(model, batch)
    model = linear_model()
    before = [p.detach().clone() for p in model.parameters()]
    reported = step_on(model, batch, max_norm=free_norm.item() / 2)
    moved = torch.cat([(p.detach() - b).flatten() for p, b in zip(model.parameters(), before, strict=True)]).norm()
    assert moved.item() == pytest.approx(free_norm.item() / 2, rel=1e-5)
    assert reported.item() == pytest.approx(free_norm.item())


def test_tally_counts_readable_clips_and_hits_and_resets_after_a_read():
    tally = Tally(torch.device("cpu"))
    logits_BK = torch.tensor([[9.0, 0, 0], [0, 9, 0], [9, 0, 0]])
    tally.add(torch.tensor(1.5), logits_BK, torch.tensor([0, 2, -1]))
    tally.end_step(0, torch.tensor(True), torch.tensor([5, 6, -1]))
    tally.add(torch.tensor(2.0), logits_BK, torch.tensor([0, 1, 0]))
    tally.end_step(1, torch.tensor(True), torch.tensor([7, 8, 9]))
    assert tally.read().tolist() == [3.5, 4, 5, 0]
    assert tally.left_out() == []
    assert tally.read().tolist() == [0, 0, 0, 0]


def test_steps_that_are_not_finite_are_left_out_of_the_sums_and_remembered_with_their_clips():
    tally = Tally(torch.device("cpu"))
    logits_BK, label_B = torch.eye(3), torch.tensor([0, 1, -1])
    for step, (loss, finite) in enumerate([(math.nan, True), (1.0, True), (2.0, False), (math.inf, False)]):
        tally.add(torch.tensor(0.5), logits_BK, label_B)
        tally.add(torch.tensor(loss), logits_BK, label_B)
        tally.end_step(step, torch.tensor(finite), torch.tensor([3, 4, -1]))
    assert tally.read().tolist() == [1.5, 4, 4, 3]
    assert tally.left_out() == [LeftOut(0, [3, 4]), LeftOut(2, []), LeftOut(3, [3, 4])]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_gradient_that_is_not_finite_moves_no_weight_and_no_momentum(momentum):
    model, scaler, tally = linear_model(), torch.amp.GradScaler("cpu", enabled=False), Tally(torch.device("cpu"))
    optimizer = optim.make_optimizer(model, Optim(lr=1.0, momentum=momentum, weight_decay=0.1))
    good, bad = batch_of([0, 2, 1]), batch_of([1, 1, 0])
    bad.clips_BVTCHW[1] = math.nan
    train_step(model, optimizer, scaler, good, 0, PLAIN, tally)
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()["state"]))
    norm = train_step(model, optimizer, scaler, bad, 1, PLAIN, tally)
    assert not norm.isfinite() and tally.newest_left_out
    torch.testing.assert_close((model.state_dict(), optimizer.state_dict()["state"]), before, rtol=0, atol=0)
    train_step(model, optimizer, scaler, good, 2, PLAIN, tally)
    assert not torch.equal(model[1].weight, before[0]["1.weight"])


@pytest.mark.parametrize("loss_scale", [None, 1024.0])
@pytest.mark.parametrize("nesterov", [False, True])
def test_three_steps_are_clipping_then_decay_then_momentum_written_out(nesterov, loss_scale):
    """g <- clip(g) + wd w; v <- 0.9 v + g; w <- w - lr mult (v, or with Nesterov g + 0.9 v), as in MIT's code."""
    settings = Optim(lr=0.1, weight_decay=0.01, fc_lr_mult=(5, 10), nesterov=nesterov)
    model = linear_model()
    weight, bias = (p.detach().numpy().copy() for p in model[1].parameters())
    v_weight, v_bias = np.zeros_like(weight), np.zeros_like(bias)
    optimizer = optim.make_optimizer(model, settings)
    scaler = torch.amp.GradScaler("cpu", init_scale=loss_scale or 1.0, enabled=loss_scale is not None)
    lrs, max_norm = [0.1, 0.05, 0.2], 0.5
    for step, lr in enumerate(lrs):
        batch = batch_of([step % 3, 1, 2])
        how = replace(PLAIN, lr_at=lrs.__getitem__, max_norm=max_norm)
        train_step(model, optimizer, scaler, batch, step, how, Tally(torch.device("cpu")))
        x_BC = batch.clips_BTCHW.flatten(1).numpy()
        p_BK = np.exp(x_BC @ weight.T + bias)
        p_BK /= p_BK.sum(1, keepdims=True)
        error_BK = (p_BK - np.eye(3)[batch.label_B]) / 3
        g_weight, g_bias = error_BK.T @ x_BC, error_BK.sum(0)
        scale = min(1, max_norm / np.sqrt((g_weight**2).sum() + (g_bias**2).sum()))
        assert scale < 1, "the test is to clip"
        g_weight, g_bias = g_weight * scale + 0.01 * weight, g_bias * scale
        v_weight, v_bias = 0.9 * v_weight + g_weight, 0.9 * v_bias + g_bias
        weight -= lr * 5 * (g_weight + 0.9 * v_weight if nesterov else v_weight)
        bias -= lr * 10 * (g_bias + 0.9 * v_bias if nesterov else v_bias)
    np.testing.assert_allclose(model[1].weight.detach(), weight, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(model[1].bias.detach(), bias, rtol=1e-5, atol=1e-7)


@pytest.mark.gpu
def test_a_step_never_waits_for_the_gpu():
    device = torch.device("cuda")
    model = linear_model().float().to(device)
    optimizer = optim.make_optimizer(model, Optim(lr=0.1))
    tally, scaler = Tally(device), torch.amp.GradScaler("cuda")
    batch = batch_of([0, -1])
    batch = Batch(batch.clips_BVTCHW.half().to(device), batch.label_B.to(device), batch.index_B.to(device))
    how = replace(PLAIN, max_norm=20.0, autocast=lambda: torch.autocast("cuda", torch.float16))
    train_step(model, optimizer, scaler, batch, 0, how, tally)
    torch.cuda.set_sync_debug_mode("error")
    try:
        train_step(model, optimizer, scaler, batch, 1, how, tally)
    finally:
        torch.cuda.set_sync_debug_mode("default")
