"""Record a training step as one CUDA graph: its kernels are recorded once and then launched together.

With few clips, the host needs longer to launch the kernels of a step than the GPU needs to run them. A graph always
uses the same memory: each batch is copied into fixed tensors, and learning rates are tensors on the device. Operations
that differ between steps stay outside: mixing, the sums for the log, the EMA.

Not yet run on a GPU; `runtime.cuda_graph` is off by default.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from configs import Config

WARMUP = 3  # eager steps before recording, in which libraries select kernels and allocate memory
Result = TypeVar("Result")


class Graph(Protocol):
    """The interface of a graph, which records work and replays it. Training uses `CudaGraph`; tests have one for
    CPUs.
    """

    def warm_up(self, work: Callable[[], Result]) -> Result:
        """Do the work once, under the conditions of the recording."""

    def record(self, work: Callable[[], Result]) -> Result:
        """Record the work without doing it; its result is valid after the first `replay`."""

    def replay(self) -> None:
        """Do the recorded work with the current values of its tensors."""


class CudaGraph:
    """torch's CUDA graph."""

    def __init__(self):
        self._graph = torch.cuda.CUDAGraph()
        self._stream = torch.cuda.Stream()

    def warm_up(self, work: Callable[[], Result]) -> Result:
        """Do the work in a side stream, since the default stream cannot be recorded."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            result = work()
        torch.cuda.current_stream().wait_stream(self._stream)
        return result

    def record(self, work: Callable[[], Result]) -> Result:
        """Record the work, while other threads may use the GPU: the default mode makes their calls fail, among them
        those of DALI, which prepares the next batches.
        """
        with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"):
            return work()

    def replay(self) -> None:
        self._graph.replay()


class Recorded:
    """A function of tensors that runs eagerly for WARMUP calls, is then recorded, and replayed for all later calls.

    Raises ValueError if a tensor differs in shape, dtype or device from the recording.
    """

    def __init__(self, graph: Graph):
        self._graph = graph
        self._calls = 0
        self._inputs: tuple[Tensor, ...] = ()
        self._result = None

    def __call__(self, work: Callable[..., Result], *inputs: Tensor) -> Result:
        """Return work(*inputs). The next replay overwrites the result."""
        self._calls += 1
        if self._calls <= WARMUP:
            return self._graph.warm_up(lambda: work(*inputs))
        if not self._inputs:
            self._inputs = tuple(map(torch.clone, inputs))
            self._result = self._graph.record(lambda: work(*self._inputs))
        for kept, given in zip(self._inputs, inputs, strict=True):
            if (kept.shape, kept.dtype, kept.device) != (given.shape, given.dtype, given.device):
                raise ValueError(
                    f"the step was recorded for {tuple(kept.shape)} {kept.dtype} on {kept.device} and cannot take "
                    f"{tuple(given.shape)} {given.dtype} on {given.device}"
                )
            kept.copy_(given)
        self._graph.replay()
        return self._result


def problems(config: Config, ranks: int) -> list[str]:
    """Return the reasons why the step of a resolved configuration cannot be recorded."""
    if not config.runtime.cuda_graph:
        return []
    reasons = {
        "there is no GPU": config.runtime.device != "cuda",
        f"{ranks} ranks exchange gradients within the step": ranks > 1,
        "train.accumulate divides the step, and few clips need no dividing": config.train.accumulate > 1,
        "runtime.batchnorm=apex and optim.impl=apex were not made for it": "apex"
        in (config.runtime.batchnorm, config.optim.impl),
        "runtime.recompute saves and restores random states on the host": config.runtime.recompute,
    }
    return [f"runtime.cuda_graph: {reason}; set it to false" for reason, holds in reasons.items() if holds]
