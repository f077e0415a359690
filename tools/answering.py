"""Answers to all videos of a catalogue, in the way that a command line asks for."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager

from dali_pipes import DataError
from dali_pipes.scan.catalog import Catalog
from dali_pipes.video import container
from dali_pipes.views import plans
from dali_pipes.views.plans import Window
from engine.inference.network import Network
from engine.inference.predict import predict
from engine.inference.stream import follow
from tools import answers

Answer = tuple[int, dict]  # the row of the catalogue that it is about


class Answering:
    """Answers video by video; `bad` has the row of each that has none, with the reason.

    Raises ConfigError where frames are to be followed and the network cannot do that.
    """

    def __init__(self, network: Network, args: Namespace):
        self.network = network
        self.args = args
        self.bad: dict[int, str] = {}
        self._step = network.open_stream() if args.online else None

    def all(self, catalog: Catalog) -> Iterator[Answer]:
        """The answers, as they come, in the order of rows as far as decoders allow."""
        self.bad |= {row: reason for row, _, reason in catalog.unreadable}
        yield from self._followed(catalog) if self.args.online else self._scored(catalog)

    def _scored(self, catalog: Catalog) -> Iterator[Answer]:
        """Of each video as a whole, or window by window."""
        make = answers.of_parts if self.args.sliding else answers.of_video
        for found in predict(self.network, catalog, self._windows(catalog), self.bad):
            row = found[0].window.row
            with self._reason(catalog, row):
                yield row, make(self.network, catalog.video(row), found, self.args.top_k)

    def _followed(self, catalog: Catalog) -> Iterator[Answer]:
        """Of each video, frame by frame."""
        how = {"every": self.args.every, "smooth": self.args.smooth}
        for row in catalog.usable.tolist():
            with self._reason(catalog, row):
                start = time.perf_counter()
                moments = follow(self.network, self._step, catalog, row, **how)
                seconds = time.perf_counter() - start
                yield row, answers.of_stream(self.network, catalog.video(row), moments, how, seconds)

    def _windows(self, catalog: Catalog) -> list[Window]:
        """What is to be scored of each video: all of it, or one window after the other."""
        seconds = self.args.sliding
        if not seconds:
            return plans.whole(catalog)
        found = []
        for row in catalog.usable.tolist():
            with self._reason(catalog, row):
                video = catalog.video(row)
                time_F = container.frame_times(video)
                end = container.duration(time_F, video.fps)
                found += plans.sliding(row, time_F, end, seconds, self.args.stride or seconds / 2)
        return found

    @contextmanager
    def _reason(self, catalog: Catalog, row: int) -> Iterator[None]:
        """What makes a video unreadable is the reason why it has no answer."""
        try:
            yield
        except DataError as error:
            self.bad[row] = str(error).removeprefix(f"{catalog.path(row)}: ")
