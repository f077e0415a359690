"""Run tools/predict.py: find the videos, predict, write the records and the reasons for failures."""

from __future__ import annotations

import logging
import math
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import configs
from configs import ConfigError
from dali_pipes import DataError
from dali_pipes.feed.choice import choose_graph_decoder
from dali_pipes.lists.formats.annotation import WHOLE, Span
from dali_pipes.scan import build
from dali_pipes.scan.catalog import Catalog
from dali_pipes.storage.objects import absolute
from dali_pipes.video import times
from dali_pipes.views.windows import Window, sliding, whole_windows
from engine.inference.network import Network, open_network
from engine.inference.predict import predict
from engine.inference.stream import predict_stream
from engine.outputs import Outputs, refuse_inside
from engine.runs.find import network_file
from tools.prediction import inputs
from tools.prediction.answer import of_parts, of_stream, of_video
from tools.prediction.explained import ExplainedVideos
from tools.prediction.features import FeatureFile
from tools.prediction.live import follow
from tools.prediction.output import writer
from tools.prediction.overlay import LabelledVideos

logger = logging.getLogger(__name__)
ALL_DONE, NOTHING_DONE, SOME_DONE = 0, 2, 3


def run(args: Namespace) -> int:
    """Predict every video, list failures, and return the exit code."""
    args.weights = network_file(args.weights)
    if args.live:
        follow(args)
        return ALL_DONE
    found = inputs.find(args.sources, str(configs.overridden(args.overrides).get("data.root", "")))
    _refuse_parts(args, found)
    paths, spans, failures = found
    outputs = Outputs([*args.sources, *paths, args.weights, args.config], args.force)
    outputs.check(args.json, args.csv, args.features)
    for folder in filter(None, (args.save_video, args.explain)):
        refuse_inside(folder, args.sources)
    labelled = LabelledVideos(args.save_video, outputs) if args.save_video else None
    network = open_network(str(args.weights), args.config, args.overrides)
    _, reason = choose_graph_decoder(network.info.config.data.decoder, network.device)
    if reason:
        logger.info(f"data.decoder=auto decodes on the CPU: {reason}")
    explained = ExplainedVideos(args.explain, network, outputs) if args.explain else None
    features = FeatureFile(args.features, outputs) if args.features else None
    answering = Answering(network, args, features)
    answered = incomplete = 0
    with writer(args.json, args.csv, outputs) as write, tempfile.TemporaryDirectory(prefix="predict-") as folder:
        data = network.info.config.data
        catalog = build.scan_videos([*map(absolute, paths)], Path(folder), data.check, data.frame_pattern, spans)
        for row, answer in answering.all(catalog):
            if labelled:
                answer |= labelled.write(catalog.video(row), answer)
            if explained:
                answer |= explained.write(catalog, row, answer)
            write({"path": paths[row], **answer})
            answered += 1
            incomplete += "labelled_error" in answer or "explained_error" in answer
        if features:
            features.save()
        failed = [{"path": path, "error": reason} for path, reason in failures.items()]
        bad = sorted(answering.bad.items())
        failed += [{"path": paths[row], **_part(spans[row]), "error": reason} for row, reason in bad]
        for answer in failed:
            write(answer)
    if failed:
        logger.warning(f"predict.py: {len(failed)} of {answered + len(failed)} cannot be answered")
    if not failed and not incomplete:
        return ALL_DONE
    return SOME_DONE if answered and not args.strict else NOTHING_DONE


def _refuse_parts(args: Namespace, found: inputs.Found) -> None:
    """Raise ConfigError if a list requests parts, but an option needs whole videos."""
    flags = [flag for flag in ("sliding", "online", "save_video", "explain") if getattr(args, flag)]
    parts = (path for path, span in zip(found.paths, found.spans, strict=True) if span != WHOLE)
    if flags and (path := next(parts, None)):
        raise ConfigError(
            f"--{flags[0].replace('_', '-')}: takes whole videos, and the list asks for parts (start, end), such as of "
            f"{path}; leave it out, or cut them first with prepare.py cut"
        )


def _part(span: Span) -> dict:
    """Return the fields for the requested part of a video that has no result; empty for a whole video."""
    return {} if span == WHOLE else {"start": span.start, "end": None if span.end == math.inf else span.end}


Answer = tuple[int, dict]  # the row of the catalogue, its record


class Answering:
    """Predicts video by video; `bad` has the failed rows with the reasons.

    Raises ConfigError for --online if the network is not causal.
    """

    def __init__(self, network: Network, args: Namespace, features: FeatureFile | None = None):
        self.network = network
        self.features = features
        self.args = args
        self.bad: dict[int, str] = {}
        self._step = network.open_stream() if args.online else None

    def all(self, catalog: Catalog) -> Iterator[Answer]:
        """Yield the records when they are ready, mostly in the order of rows."""
        self.bad |= {bad.row: bad.reason for bad in catalog.unreadable}
        yield from self._streamed(catalog) if self.args.online else self._scored(catalog)

    def _scored(self, catalog: Catalog) -> Iterator[Answer]:
        """Predict each video, or the part of it that a list names, as a whole or in windows."""
        make = of_parts if self.args.sliding else of_video
        wanted = self.features is not None
        for found in predict(self.network, catalog, self._windows(catalog), self.bad, features=wanted):
            row = found[0].window.row
            with self._reason(catalog, row):
                record = make(self.network, catalog.video(row), found, self.args.top_k, self.args.min_score)
                if self.features:
                    seconds = [(window["start"], window["end"]) for window in record.get("windows", [record])]
                    self.features.add(catalog.path(row), found, seconds)
                yield row, record

    def _streamed(self, catalog: Catalog) -> Iterator[Answer]:
        """Predict each video frame by frame."""
        how = {"every": self.args.every, "smooth": self.args.smooth}
        for row in catalog.usable.tolist():
            with self._reason(catalog, row):
                start = time.perf_counter()
                frames = predict_stream(self.network, self._step, catalog, row, **how)
                seconds = time.perf_counter() - start
                yield row, of_stream(self.network, catalog.video(row), frames, how, seconds, self.args.min_score)

    def _windows(self, catalog: Catalog) -> list[Window]:
        """Return the windows to score: each row of the catalogue, or sliding windows."""
        seconds = self.args.sliding
        if not seconds:
            return whole_windows(catalog)
        found = []
        for row in catalog.usable.tolist():
            with self._reason(catalog, row):
                video = catalog.video(row)
                time_F = times.frame_times(video)
                end = times.duration(time_F, video.fps)
                found += sliding(row, time_F, end, seconds, self.args.stride or seconds / 2)
        return found

    @contextmanager
    def _reason(self, catalog: Catalog, row: int) -> Iterator[None]:
        """Record a DataError in the block as the reason why the video failed."""
        try:
            yield
        except DataError as error:
            self.bad[row] = error.reason_for(catalog.path(row))
