"""One run of a recipe whose stages are measured separately (`benchmarks/stages/__init__.py` lists them)."""

from __future__ import annotations

import itertools
import resource
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from nvidia.dali import fn, pipeline_def, types

from configs import Config
from dali_pipes import Batch
from dali_pipes.cut import cutter
from dali_pipes.feed.dali_runner import graph_threads
from dali_pipes.feed.decoders import BLANK, Content, GraphForm
from dali_pipes.feed.feeder import Feeder
from dali_pipes.feed.graph import join_frames
from dali_pipes.feed.samples import PreparedBatch, columns
from dali_pipes.video.frame_folders import read_pictures
from dali_pipes.video.packet_table import Video
from dali_pipes.views.draw import Views
from engine import distributed
from engine.train import training
from engine.train.clock import Clock
from engine.train.step import Tally
from engine.train.training import Training

COUNTED = 20  # batches whose views are cut to count frames and bytes


class Bench:
    """A run of a recipe, built once, and its stages. `config` is resolved and has no data.val."""

    def __init__(self, config: Config, steps: int):
        self.training: Training = training.build(config)
        self.loader = self.training.train_loader
        self.steps = steps
        self.tally = Tally(self.training.device)
        self.epochs = itertools.count()
        self._threads = int(config.runtime.threads)
        if config.data.source == "video":
            self._feeder = Feeder(self.loader.plan, self.loader.choice.of_batch, self._threads)
            self._cutter = Feeder(self.loader.plan, lambda number, row_B: [Undecoded()] * len(row_B), self._threads)
        self._decoder = None
        resident = next(iter(self.batches()))
        self.resident = replace(resident, clips_BVTCHW=resident.clips_BVTCHW.clone())
        self.loader.pause()

    def close(self) -> None:
        if self.training.config.data.source == "video":
            self._cutter.close()
            self._feeder.close()
        self.training.close()

    def measure(self, stage: str) -> tuple[float, float]:
        """Measure `steps` batches after a warm-up; return (clips per second of all ranks, share of waiting).

        The share is that of the rank that waited longest for data.
        """
        rate, waited = self._of_this_rank(stage)
        return sum(distributed.gather(rate)), max(distributed.gather(waited))

    def _of_this_rank(self, stage: str) -> tuple[float, float]:
        if stage in ("cut", "decode"):
            return self._rate(self._prepared(self._cutter) if stage == "cut" else self._decoded()), 1.0
        source: Iterable[Batch] = itertools.repeat(self.resident) if stage == "compute" else self.batches()
        full = 0 if stage == "compute" else self.training.config.runtime.prefetch + 1  # until the queue is full again
        for batch in itertools.islice(source, full):
            self._use(stage, batch)
        clips = self.training.config.train.batch // distributed.world_size()
        clock = Clock(self.training.device, clips)
        for batch in itertools.islice(clock.fetch(source), self.steps + 2):
            self._use(stage, batch)
        times = clock.read()
        if stage != "compute":
            self.loader.pause()  # so that other stages and cases can use all cores
        return times.clips_per_second, times.data_fraction

    def _use(self, stage: str, batch: Batch) -> None:
        if stage != "feed":
            self.training.take_step(batch, self.tally)

    def counts(self) -> dict:
        """Count frames decoded and bytes read per clip over the first batches, which noise does not affect.

        Each cut serves clip.repeats clips.
        """
        plan = self.loader.plan
        cuts = [
            self._cut(views, place)
            for views in (plan.draw(0, step) for step in range(min(COUNTED, len(plan))))
            for place in np.flatnonzero(views.row_B >= 0).tolist()
        ]
        clips = len(cuts) * plan.views
        decoded = sum(cut.packets for cut in cuts) / clips
        return {
            "decoded_per_used": decoded / self.training.config.model.frames,
            "decoded_per_clip": decoded,
            "bytes_per_clip": sum(len(cut.data) for cut in cuts) / clips,
            "clips": clips,
        }

    def memory(self) -> dict[str, int]:
        """Return the peak bytes of this process in the memory of the host and of the GPU."""
        on_gpu = self.training.device.type == "cuda"
        return {
            "host_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "gpu_bytes": torch.cuda.max_memory_allocated() if on_gpu else 0,
        }

    def batches(self) -> Iterator[Batch]:
        """Yield loaded batches, epoch after epoch."""
        return itertools.chain.from_iterable(self.loader.epoch(epoch) for epoch in self.epochs)

    def _rate(self, batches: Iterator) -> float:
        next(batches)
        began = time.perf_counter()
        for _ in itertools.islice(batches, self.steps):
            pass
        plan = self.loader.plan
        return self.steps * plan.batch * plan.views / (time.perf_counter() - began)

    def _cut(self, views: Views, place: int) -> cutter.Cut:
        return cutter.cut(self.loader.catalog.video(int(views.row_B[place])), np.unique(views.frames_BVT[place]))

    def _prepared(self, feeder: Feeder) -> Iterator[PreparedBatch]:
        """Yield the batches that a feeder's threads prepare, epoch after epoch."""
        places = ((epoch, step) for epoch in self.epochs for step in range(len(self.loader.plan)))
        return feeder.batches(places, self.training.config.runtime.prefetch)

    def _decoded(self) -> Iterator:
        """Yield batches of decoded frames. A graph that only decodes is used for the videos that DALI decodes."""
        prepared = self._prepared(self._feeder)
        if not self.loader.choice.in_graph:
            yield from prepared
        graph = self._decoder = self._decoder or self._decode_graph()
        self._to_decode = prepared
        while True:
            yield graph.run()

    def _decode_graph(self):
        on_gpu, decoder = self.training.device.type == "cuda", self.loader.choice.in_graph.in_graph
        graph = decode_graph(
            lambda: columns(next(self._to_decode).samples, GraphForm(self.loader.choice.graph_form.decoder))[3:],
            decoder=decoder,
            device="gpu" if on_gpu else "cpu",
            batch_size=self.loader.plan.batch,
            num_threads=graph_threads(decoder, self._threads),
            device_id=(self.training.device.index or 0) if on_gpu else None,
        )
        graph.build()
        return graph


class Undecoded:
    """A stand-in for every decoder that decodes nothing."""

    name, in_graph = "undecoded", ""

    def refusal(self, video: Video) -> None:
        """Accept every video."""

    def content(self, video: Video, frames_U: np.ndarray, *_) -> Content:
        """Read the pictures of a folder; the file of a video is already cut."""
        if video.access == "frames":
            read_pictures(video, frames_U)
        return BLANK


@pipeline_def(enable_conditionals=True)
def decode_graph(source, *, decoder: str, device: str):
    """Define a graph with the decoding of `graph.clip_graph` alone."""
    frames, *video = fn.external_source(
        source=source,
        num_outputs=5,
        batch=True,
        dtype=[types.UINT8, types.BOOL, types.UINT8, types.INT32, types.INT32],
        ndim=[4, 0, 1, 1, 1],
    )
    return join_frames(frames, video, decoder, device)
