"""Run the graph on a plan's batches, and replace a pipeline that failed. No other module runs a DALI pipeline.

One undecodable file makes DALI invalidate the whole pipeline, and DALI does not name the file. So the runner records
the batches in flight, finds the file by bisection, has threads decode it instead of the graph, and continues with the
same batch.
"""

from __future__ import annotations

import itertools
import re
import time
from collections import deque
from collections.abc import Iterator, Sequence

import torch
from nvidia.dali import Pipeline
from torch import Tensor

from dali_pipes.errors import DataError, Unreadable
from dali_pipes.feed.choice import Choice
from dali_pipes.feed.dali_errors import FAILURES, dali_reason
from dali_pipes.feed.decoders import example
from dali_pipes.feed.feeder import Feeder
from dali_pipes.feed.graph import clip_graph
from dali_pipes.feed.samples import PreparedBatch, Sample, columns, placeholder
from dali_pipes.views.plans import Place, Plan

NVDEC_THREADS = 16  # each thread opens a decoding session, which takes GPU memory; no GPU has more than 8 NVDEC engines
_MEMORY = re.compile("out of memory|alloc")


def graph_threads(decoder: str, threads: int) -> int:
    """Return the number of threads of a graph with this decoder."""
    return min(threads, NVDEC_THREADS) if decoder == "mixed" else threads


class GraphRunner:
    """Runs a plan: threads prepare batches ahead, and the graph turns them into clips."""

    def __init__(self, plan: Plan, choice: Choice, device: torch.device, threads: int, dtype: torch.dtype):
        self.plan = plan
        self._choice = choice
        self._device = device
        self._threads = threads
        self._dtype = dtype
        self._feeder = Feeder(plan, choice.of_batch, threads)
        self._prepared = self._feeder.batches(iter(()), 0)
        self._coming: Iterator[PreparedBatch] = iter(())
        self._in_flight: deque[PreparedBatch] = deque()
        self._mistake: RuntimeError | None = None  # raised by our source
        self._waited_for_threads = 0.0
        self.slow_part = ""  # the slower stage of the newest batch
        self._form = choice.graph_form
        self._pipeline: Pipeline | None = None
        try:
            self._pipeline = self._build(self._next_columns, plan.batch)
        except FAILURES as error:
            raise DataError(
                f"DALI cannot work on {device}",
                f"{dali_reason(error)}; its build for CUDA 13 needs NVIDIA driver 580 or newer, "
                f"for an older one, install nvidia-dali-cuda120 instead (and a torch for CUDA 12)",
            ) from error

    @property
    def unreadable(self) -> dict[int, Unreadable]:
        """Return the videos that could not be read, by row."""
        return self._feeder.unreadable

    def begin(self, places: Iterator[Place]) -> None:
        """Continue with the batches at these places; drop batches in preparation."""
        self._prepared.close()
        self._coming = iter(())
        while self._run() is not None:
            pass
        self._in_flight.clear()
        self._prepared = self._feeder.batches(places, self.plan.config.runtime.prefetch)
        self._coming = self._prepared

    def next(self) -> tuple[PreparedBatch, Tensor] | None:
        """Return the next batch and its clips, BVTHWC; None after the last. Raises DataError if decoding fails for a
        reason other than a video.
        """
        began, self._waited_for_threads = time.perf_counter(), 0.0
        clips_BVTHWC = self._run()
        if clips_BVTHWC is None:
            return None
        for_graph = time.perf_counter() - began - self._waited_for_threads
        self.slow_part = "the threads that read and decode" if self._waited_for_threads > for_graph else "DALI's graph"
        if self._choice.share:
            self._choice.share.observe(self._waited_for_threads, for_graph)
        return self._in_flight.popleft(), clips_BVTHWC

    def close(self) -> None:
        """Stop all threads."""
        self._prepared.close()
        self._feeder.close()

    def _build(self, source, batch: int) -> Pipeline:
        """Build a pipeline over `source` for batches of `batch` videos."""
        clip = self.plan.config.clip
        on_gpu = self._device.type == "cuda"
        pipeline = clip_graph(
            source,
            form=self._form,
            device="gpu" if on_gpu else "cpu",
            views=self.plan.views,
            size=self.plan.size,
            antialias=clip.antialias,
            mean=clip.mean,
            std=clip.std,
            half=self._dtype == torch.float16,
            batch_size=batch,
            num_threads=graph_threads(self._form.decoder, self._threads),
            device_id=(self._device.index or 0) if on_gpu else None,
        )
        pipeline.build()
        return pipeline

    def _next_columns(self):
        """Return the graph's inputs of the next batch, and record the batch as in flight."""
        began = time.perf_counter()
        try:
            prepared = next(self._coming)  # StopIteration ends the run
            self._waited_for_threads += time.perf_counter() - began
            self._in_flight.append(prepared)
            return columns(prepared.samples, self._form)
        except RuntimeError as error:
            self._mistake = error
            raise

    def _run(self) -> Tensor | None:
        """Return the next clips, BVTHWC; None after the last batch."""
        while True:
            try:
                if self._pipeline is None:
                    self._pipeline = self._build(self._next_columns, self.plan.batch)
                (clips,) = self._pipeline.run()
                return torch.from_dlpack(clips.as_tensor())
            except StopIteration:
                self._pipeline.reset()
                return None
            except FAILURES as error:
                if self._mistake:
                    raise self._mistake from None
                self._replace_undecodable_video(error)

    def _replace_undecodable_video(self, error: Exception) -> None:
        """Drop the failed pipeline, and have threads decode the video that DALI cannot decode.

        Raises DataError if no video is the cause.
        """
        self._pipeline = None  # and free its memory
        in_flight, self._in_flight = list(self._in_flight), deque()
        suspects = [
            (prepared, place)
            for prepared in in_flight
            for place, sample in enumerate(prepared.samples)
            if sample.content.for_graph
        ]
        if not suspects:
            raise self._failure(dali_reason(error)) from error
        number, reason = self._find_undecodable([prepared.samples[place] for prepared, place in suspects], error)
        prepared, place = suspects[number]
        decoder = self._choice.give_to_threads(int(prepared.row_B[place]), reason)
        self._feeder.prepare_again(prepared, place, decoder)
        self._coming = itertools.chain(in_flight, self._coming)

    def _find_undecodable(self, samples: Sequence[Sample], error: Exception) -> tuple[int, str]:
        """Find by bisection a sample that DALI cannot decode alone, among samples that failed together; return it with
        the reason.

        Raises DataError if there is none, if memory is short, or if DALI cannot decode any video.
        """
        low, high, reason, refused, decodes = 0, len(samples), "", 0, False
        while high - low > 1:
            middle = (low + high) // 2
            if found := self._refusal(samples[low:middle]):
                high, reason, refused = middle, found, middle - low
            else:
                low, decodes = middle, True
        if refused != 1:  # no single sample fails
            reason = self._refusal(samples[low:high])
        if not reason:
            raise self._failure(f"{dali_reason(error)}; each of {len(samples)} videos decodes separately") from error
        if not decodes:
            working = placeholder(self.plan.views, self.plan.frames, example(self._form.decoder))
            if broken := self._refusal([working]):
                raise self._failure(broken) from error
        return low, reason

    def _failure(self, reason: str) -> DataError:
        """Return the error for a decoder that fails for a reason other than a video."""
        name = self._choice.in_graph.name if self._choice.in_graph else "DALI"
        what = f"decoding by {name} on {self._device} failed"
        if _MEMORY.search(reason):
            return DataError(what, f"{reason}; if memory is short, use a smaller train.batch or eval.batch")
        return DataError(what, reason)

    def _refusal(self, samples: Sequence[Sample]) -> str:
        """Decode some videos in a separate pipeline; return the error if that fails, otherwise an empty string.

        Raises DataError if memory is short.
        """
        once = iter([columns(samples, self._form)])
        try:
            self._build(lambda: next(once), len(samples)).run()
        except FAILURES as error:
            reason = dali_reason(error)
            if _MEMORY.search(reason):
                raise self._failure(reason) from error
            return reason
        return ""
