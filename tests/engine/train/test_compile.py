"""Compilation: one graph for training, one for evaluation, and no further one for any batch."""

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from engine import runtime
from engine.evaluation.evaluate import evaluate
from models import build_model
from tests.support import tiny


@pytest.fixture
def graphs(monkeypatch):
    """Count compiled graphs; they run uncompiled, because only their number is tested."""
    torch._dynamo.reset()
    counter, compile_module = CompileCounter(), nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, **how: compile_module(self, backend=counter, **how))
    yield counter
    torch._dynamo.reset()


def test_unreadable_rows_and_padded_batches_compile_nothing_anew(graphs):
    config = tiny.config(runtime={"compile": "on"})
    model = runtime.place(build_model(config.model), config.runtime, torch.device("cpu"))
    training, held_out = tiny.RowLoader(12, 4, bad=[3, 7]), tiny.RowLoader(7, 4, train=False, bad=[2])
    for epoch in range(2):
        model.train()
        for batch in training.epoch(epoch):
            model(batch.clips_BTCHW).sum().backward()
        evaluate(model, held_out, config)
    assert graphs.frame_count == 2
