"""One round of each kind of implementation: its clips per second, without its start-up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from benchmarks.alternatives import dataloader
from benchmarks.alternatives.decoders import Clip, Decoder
from dali_pipes.loader import VideoLoader


def of_decoder(decoder: Decoder, clips: list[Clip], threads: int) -> float:
    """Time threads that decode clip after clip; a GPU is waited for once, at the end."""
    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        frames = list(pool.map(decoder, clips))
    if any(isinstance(frames_THWC, torch.Tensor) for frames_THWC in frames):
        torch.cuda.synchronize()
    return len(clips) / (time.perf_counter() - began)


def of_batches(run: Callable[[], Iterator], count: int, batch: int) -> float:
    """Time `count` batches of `run`, after a first one, for which the graph is built."""
    batches = run()
    next(batches)
    return _timed(batches, count, batch)


def of_loader(loader: VideoLoader, epochs: Iterator[int], steps: int) -> float:
    """Time batches of the project's loader, which is idle while others are measured."""
    batches = loader.epoch(next(epochs))
    for _ in range(loader.config.runtime.prefetch + 1):  # until the queue is full again
        next(batches)
    rate = _timed(batches, steps, loader.plan.batch)
    loader.pause()
    return rate


def of_dataloader(loader: VideoLoader, steps: int, workers: int) -> float:
    """Time batches of a torch DataLoader with the views of `loader`. As many more keep its workers busy after them."""
    ahead = 2 * workers
    batches = dataloader.batches(loader, 0, ahead + 2 * steps, workers)
    for _ in range(ahead):
        next(batches)
    return _timed(batches, steps, loader.plan.batch)


def _timed(batches: Iterator, steps: int, batch: int) -> float:
    began = time.perf_counter()
    for _ in range(steps):
        next(batches)
    return steps * batch / (time.perf_counter() - began)
