"""Optimizer steps of every recipe against its rules, written down here from their sources and worked out by hand.

The reference knows nothing of engine/ or torch.optim: gradients of a plain cross-entropy by autograd, then arithmetic.
A step is taken on both sides of wherever the rate begins to follow another rule.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass, replace

import pytest
import torch
from torch.func import functional_call

import configs
from engine import runtime
from engine.train import training
from engine.train.step import Tally
from models import build_model
from tests.support.recipes import RECIPES

BATCH = 4  # batch of the tests; rates are scaled to it
CLOSE = 1e-6  # relative to the norm of a tensor's movement
SMALL = [
    "data.source=synthetic", "model.pretrained=none", "model.backbone=resnet18", "model.width=8", "model.dropout=0",
    "clip.size=16", "clip.short_side=0", "eval.short_side=16", f"train.batch={BATCH}", "runtime.device=cpu",
    "runtime.precision=fp32", "train.mixup=0",
    "train.partial_bn=false", "model.non_local=false",
]  # fmt: skip


@dataclass(frozen=True)
class Rules:
    """The use of a gradient by a recipe. The rate falls tenfold at `milestones`; without them, along a cosine."""

    rate: float
    for_batch: int
    epochs: int
    milestones: tuple[int, ...] = ()
    constant: bool = False
    warmup: int = 0  # epochs
    warmup_start: float = 0.1  # shape of the rate
    decay: float = 1e-4
    decaying: tuple[str, ...] = ("conv", "fc weight")
    fc: tuple[float, float] = (5, 10)  # multiples of the rate: weight and bias
    largest_norm: float = 20
    nesterov: bool = False
    smoothing: float = 0
    ema: float = 0

    def rate_at(self, epoch):
        if epoch < self.warmup:
            start, end = self.scaled * self.warmup_start, replace(self, warmup=0).rate_at(self.warmup)
            return start + (end - start) * epoch / self.warmup
        if self.milestones or self.constant:
            return self.scaled / 10 ** bisect_right(self.milestones, epoch)
        return self.scaled * (1 + math.cos(math.pi * epoch / self.epochs)) / 2

    @property
    def scaled(self):
        return self.rate * BATCH / self.for_batch


TSM = Rules(rate=0.02, for_batch=128, epochs=50, milestones=(20, 40))  # MIT; PaddleVideo
UCF101 = Rules(  # PaddleVideo
    rate=0.001, for_batch=64, epochs=25, milestones=(10, 20), decay=1e-4, decaying=("fc weight",)
)
TSN = Rules(  # PaddleVideo
    rate=0.01, for_batch=128, epochs=100, milestones=(40, 80), decaying=("conv", "norm", "fc weight", "fc bias"),
    fc=(1, 1), largest_norm=40,
)  # fmt: skip
PP_TSM = Rules(  # PaddleVideo
    rate=0.01, for_batch=128, epochs=80, warmup=10, warmup_start=0.5, largest_norm=math.inf, nesterov=True,
    smoothing=0.1,
)  # fmt: skip
PAN = Rules(rate=0.05, for_batch=16, epochs=15, warmup=1, decay=5e-4, fc=(1, 1))  # this project
RULES = {
    "demo": PAN,
    "pan4": replace(PAN, epochs=24),
    "tsm_k400": TSM,
    "tsm_k400_dense": replace(TSM, epochs=100, milestones=(40, 80)),  # mmaction2 0.x
    "tsm_k400_modern": replace(
        TSM, epochs=80, milestones=(), warmup=5, nesterov=True, smoothing=0.1, ema=0.999
    ),  # this project
    "pptsm_k400": PP_TSM,
    "pptsm_k400_dense": replace(PP_TSM, rate=0.02),
    "pptsn_k400": replace(PP_TSM, for_batch=256, epochs=100),
    "tsm_ucf101": UCF101,
    "tsm_sthv2": replace(TSM, milestones=(25, 45), warmup=5, decay=5e-4),  # mmaction2 1.x
    "tsm_jester": replace(TSM, rate=0.01, for_batch=64, decay=5e-4),  # MIT, for Something-Something
    "tsm_sthv1": replace(TSM, rate=0.01, for_batch=64, decay=5e-4),  # MIT
    "tsm_k400_nl_dense": replace(TSM, epochs=100, milestones=(40, 80)),  # mmaction2 0.x
    "tsm_k400_mobilenet": replace(TSM, epochs=100, milestones=(40, 80), decay=2e-5),  # mmaction2 1.x
    "tsm_hmdb51": replace(TSM, rate=0.0015, for_batch=96, epochs=25, milestones=(10, 20)),  # mmaction2 0.x
    "tsn_k400": TSN,
    "tsn_k400_r101": replace(TSN, for_batch=256),  # mmaction2 1.x
    "tsn_sthv1": replace(  # mmaction2 0.x
        TSN, rate=0.02, for_batch=128, epochs=50, milestones=(20, 40), decay=5e-4, largest_norm=20
    ),
    "tsn_sthv2": replace(TSN, for_batch=256, epochs=50, milestones=(20, 40)),  # mmaction2 1.x
    "tsn_ucf101": replace(  # mmaction2 0.x
        TSN, rate=0.00128, for_batch=256, epochs=75, milestones=(), constant=True, decay=5e-4
    ),
}


def rules_of(name):
    """Return the rules whose name is the longest prefix of the recipe's name."""
    return RULES[max((beginning for beginning in RULES if name.startswith(beginning)), key=len)]


def kind_of(name, value):
    if name.startswith("fc."):
        return f"fc {name[3:]}"
    return "conv" if value.ndim == 4 else "norm"


class Reference:
    """The weights of a model under `rules`, step by step."""

    def __init__(self, model, rules):
        self.model, self.rules = model, rules
        self.weights = {name: value.detach().clone().requires_grad_() for name, value in model.named_parameters()}
        self.buffers = {name: value.clone() for name, value in model.named_buffers()}
        self.momenta = {name: torch.zeros_like(value) for name, value in self.weights.items()}
        self.average = {name: value.detach().clone() for name, value in self.weights.items()}

    def step(self, batch, number, epoch):
        rules = self.rules
        rate = rules.rate_at(epoch)
        gradients = self.gradients(batch)
        norm = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients.values()))
        assert norm > rules.largest_norm or rules.largest_norm == math.inf, "the test is to clip"
        kept = min(rules.ema, (1 + number) / (10 + number))
        for name, weight in self.weights.items():
            kind = kind_of(name, weight)
            change = gradients[name] * min(1, rules.largest_norm / norm)
            if kind in rules.decaying:
                change = change + rules.decay * weight.detach()
            self.momenta[name] = 0.9 * self.momenta[name] + change
            move = change + 0.9 * self.momenta[name] if rules.nesterov else self.momenta[name]
            times = {"fc weight": rules.fc[0], "fc bias": rules.fc[1]}.get(kind, 1)
            weight.data -= rate * times * move
            self.average[name] = kept * self.average[name] + (1 - kept) * weight.detach()

    def gradients(self, batch):
        """Return the gradients of the mean cross-entropy with label smoothing."""
        logits_BK = functional_call(self.model, (self.weights, self.buffers), (batch.clips_BTCHW,)).float()
        log_p_BK = logits_BK.log_softmax(1)
        hit_B = log_p_BK[torch.arange(BATCH), batch.label_B]
        smoothing = self.rules.smoothing
        loss = -((1 - smoothing) * hit_B + smoothing * log_p_BK.mean(1)).mean()
        return dict(zip(self.weights, torch.autograd.grad(loss, list(self.weights.values())), strict=True))


def in_double(config, *_):
    """Return the network that a run starts from in double precision, with weights that give large gradients."""
    torch.manual_seed(0)
    model = build_model(config.model).double()
    torch.nn.init.normal_(model.fc.weight, std=20)
    torch.nn.init.normal_(model.fc.bias)
    return model


@pytest.fixture
def run_of(monkeypatch):
    """Return a function that builds a small run of a recipe in double precision."""
    monkeypatch.setattr(training, "build_network", lambda *given: (in_double(*given), None))

    def build(name):
        config = runtime.resolve(configs.load(name, SMALL))
        return training.build(config)

    return build


@pytest.mark.parametrize("name", RECIPES)
def test_steps_are_the_recipes_rules_worked_out_by_hand(name, run_of):
    run, rules = run_of(name), rules_of(name)
    start = dict(in_double(run.config).named_parameters())
    reference = Reference(in_double(run.config), rules)
    assert run.config.train.epochs == rules.epochs
    batch = next(run.train_loader.epoch(0))
    batch = replace(batch, clips_BVTCHW=batch.clips_BVTCHW.double())
    turns = [epoch * run.steps_per_epoch for epoch in (rules.warmup, *rules.milestones)]
    for step in sorted({0, *turns, *(turn - 1 for turn in turns if turn)}):
        run.step = step
        reference.step(batch, step, step / run.steps_per_epoch)
        run.take_step(batch, Tally(run.device))
    assert_moved(run.model, start, reference.weights)
    assert bool(run.average) == bool(rules.ema)
    assert_moved(run.eval_model, start, reference.average if rules.ema else reference.weights)


def assert_moved(model, start, expected):
    for name, value in model.named_parameters():
        assert value.dtype == torch.float64
        error, moved = (value - expected[name]).norm(), (expected[name] - start[name]).norm()
        assert error <= CLOSE * moved, (name, float(error / moved))
