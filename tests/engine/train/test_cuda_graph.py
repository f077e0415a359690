"""A step in a CUDA graph (on a CPU: a stand-in): fixed input memory, eager steps first, equal weights, refusals."""

from dataclasses import replace
from functools import partial
from threading import Event, Thread
from unittest.mock import MagicMock

import pytest
import torch

from configs import ConfigError
from configs.schema import Model, Optim
from dali_pipes import Batch
from engine.train import optim, training
from engine.train.cuda_graph import WARMUP, CudaGraph, Recorded, problems
from engine.train.step import Mixture, StepSettings, Tally, label_loss, share_loss, train_step
from models import build_model
from tests.support import tiny

CPU = torch.device("cpu")
STEPS = 8


class CpuGraph:
    """A stand-in that repeats work on a CPU. Recorded work is done at once, so the first `replay` does nothing."""

    def __init__(self):
        self.calls = []

    def warm_up(self, work):
        self.calls.append("warm_up")
        return work()

    def record(self, work):
        self.calls.append("record")
        self._work, self._result, self._done = work, work(), True
        return self._result

    def replay(self):
        self.calls.append("replay")
        if not self._done:
            again = self._work()
            for kept, new in zip(tensors_of(self._result), tensors_of(again), strict=True):
                kept.copy_(new)
        self._done = False


def tensors_of(tree):
    return [leaf for leaf in torch.utils._pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def batches(clips=4):
    """Yield batches of small clips; each overwrites the memory of the one before, as a loader does."""
    generator = torch.Generator().manual_seed(1)
    clips_BVTHWC = torch.empty(clips, 1, 2, 16, 16, 3)
    for _ in range(STEPS):
        clips_BVTHWC.normal_(generator=generator)
        label_B = torch.randint(3, (clips,), generator=generator)
        yield Batch(clips_BVTHWC.movedim(-1, 3), label_B, torch.arange(clips))


def trained(recorded, mixed=False):
    """Return weights, statistics, momenta and sums after STEPS steps with falling rates."""
    torch.manual_seed(0)
    model = build_model(Model(backbone="resnet18", width=8, num_classes=3, frames=2))
    optimizer = optim.make_optimizer(model, Optim(lr=1.0))
    if recorded:
        optim.keep_rates_on_device(optimizer, CPU)
    settings = StepSettings(lambda step: 0.5 ** (3 + step), Mixture(0.8, 0.0, 3), partial(share_loss, smoothing=0.1))
    if not mixed:
        settings = replace(settings, mix=lambda batch: (batch, batch.label_B), loss=partial(label_loss, smoothing=0.1))
    tally, scaler = Tally(CPU), torch.amp.GradScaler("cpu", enabled=False)
    norms = []
    for step, batch in enumerate(batches()):
        torch.manual_seed(step)
        norms.append(train_step(model, optimizer, scaler, batch, step, settings, tally, recorded).clone())
    momenta = [state["momentum_buffer"] for state in optimizer.state.values()]
    return [*model.state_dict().values(), *momenta, tally.read(), torch.stack(norms)]


@pytest.mark.parametrize("mixed", [False, True])
def test_a_recorded_step_trains_the_same_network_to_the_bit(mixed):
    graph = CpuGraph()
    assert all(map(torch.equal, trained(Recorded(graph), mixed), trained(None, mixed)))
    assert graph.calls == ["warm_up"] * WARMUP + ["record"] + ["replay"] * (STEPS - WARMUP)


def test_inputs_are_copied_into_memory_that_stays():
    seen, recorded = [], Recorded(CpuGraph())

    def work(x):
        seen.append(x.data_ptr())
        return x * 2

    for number in range(STEPS):
        assert torch.equal(recorded(work, torch.full((3,), float(number))), torch.full((3,), 2.0 * number))
    assert len(set(seen[WARMUP:])) == 1


def test_other_threads_may_use_the_gpu_during_a_recording(monkeypatch):
    for name in ("CUDAGraph", "Stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, MagicMock())
    CudaGraph().record(lambda: None)
    assert torch.cuda.graph.call_args.kwargs["capture_error_mode"] == "thread_local"


def test_a_batch_of_another_shape_or_type_is_refused():
    recorded = Recorded(CpuGraph())
    for _ in range(WARMUP + 1):
        recorded(torch.neg, torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"recorded for \(4, 2\) torch.float32 .* cannot take \(3, 2\) torch.float32"):
        recorded(torch.neg, torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"cannot take .* torch\.float64"):
        recorded(torch.neg, torch.zeros(4, 2, dtype=torch.float64))


def on_gpu(ranks=1, train=None, **runtime):
    """Return the problems of a config that was resolved on a GPU."""
    config = tiny.config(train=train or {})
    runtime = {"device": "cuda", "cuda_graph": True, **runtime}
    return problems(replace(config, runtime=replace(config.runtime, **runtime)), ranks)


@pytest.mark.parametrize(
    "how, reason",
    [
        ({"device": "cpu"}, "there is no GPU"),
        ({"ranks": 2}, "2 ranks exchange gradients"),
        ({"train": {"accumulate": 2}}, "train.accumulate divides the step"),
        ({"batchnorm": "apex"}, "runtime.batchnorm=apex"),
        ({"recompute": True}, "runtime.recompute saves"),
    ],
)
def test_settings_that_cannot_be_recorded_in_a_cuda_graph_are_refused_with_the_reason(how, reason):
    assert on_gpu() == []
    (problem,) = on_gpu(**how)
    assert problem.startswith(f"runtime.cuda_graph: {reason}") and problem.endswith("set it to false")


def test_a_training_that_cannot_be_recorded_does_not_start():
    with pytest.raises(ConfigError, match=r"runtime\.cuda_graph: there is no GPU"):
        training.build(tiny.config(runtime={"cuda_graph": True}))


@pytest.mark.gpu
def test_a_step_recorded_by_cuda_trains_like_an_eager_one():
    def on_gpu(recorded):
        torch.manual_seed(0)
        model = build_model(Model(backbone="resnet18", width=8, num_classes=3, frames=2, dropout=0.0)).cuda()
        optimizer = optim.make_optimizer(model, Optim(lr=1.0))
        optim.keep_rates_on_device(optimizer, torch.device("cuda"))
        settings = StepSettings(
            lambda step: 0.01, lambda batch: (batch, batch.label_B), partial(label_loss, smoothing=0)
        )
        tally, scaler = Tally(torch.device("cuda")), torch.amp.GradScaler("cuda")
        for step, batch in enumerate(batches()):
            batch = Batch(batch.clips_BVTCHW.cuda(), batch.label_B.cuda(), batch.index_B.cuda())
            train_step(model, optimizer, scaler, batch, step, settings, tally, recorded)
        return tally.read()

    torch.testing.assert_close(on_gpu(Recorded(CudaGraph())), on_gpu(None), rtol=0.02, atol=0.02)


@pytest.mark.gpu
def test_a_step_is_recorded_while_another_thread_allocates_and_copies_as_dali_does():
    done, sizes = Event(), []

    def load():
        stream = torch.cuda.Stream()
        while not done.is_set():
            with torch.cuda.stream(stream):
                sizes.append(torch.empty(1 << 20, pin_memory=True).cuda(non_blocking=True).cpu().numel())

    loading, graph, x = Thread(target=load), CudaGraph(), torch.ones(1000, device="cuda")
    loading.start()
    try:
        graph.warm_up(lambda: x * 2)
        result = graph.record(lambda: [x * number for number in range(1000)][-1])
    finally:
        done.set()
        loading.join()
    graph.replay()
    assert set(sizes) == {1 << 20} and result.eq(999).all()
