"""One run of tools/predict.py: from the sources to answers, to the reasons where there are none, to the exit code."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console

from dali_pipes import DataError
from dali_pipes.loader import why_not_nvdec
from dali_pipes.scan import build
from dali_pipes.scan.catalog import Catalog
from dali_pipes.video import container
from dali_pipes.views import plans
from dali_pipes.views.plans import Window
from engine.inference.network import Network, open_network
from engine.inference.predict import predict
from engine.inference.stream import follow
from tools.prediction import answer as answers
from tools.prediction import inputs
from tools.prediction import output as answer_files
from tools.prediction import output as answer_screen
from tools.prediction.overlay import LabelledVideos

logger = logging.getLogger(__name__)
ALL_DONE, NOTHING_DONE, SOME_DONE = 0, 2, 3


def run(args: Namespace) -> int:
    """Answer for every video, name those that have no answer, and return the exit code."""
    paths, failures = inputs.find(args.sources)
    labelled = LabelledVideos(args.save_video) if args.save_video else None
    network = open_network(args.weights, args.config, args.overrides)
    if reason := why_not_nvdec(network.info.config, network.device):
        logger.info(f"data.decoder=auto decodes on the CPU: {reason}")
    answering = Answering(network, args)
    answered = incomplete = 0
    with _outputs(args) as write, tempfile.TemporaryDirectory(prefix="predict-") as folder:  # nothing beside the videos
        catalog = build.scan_videos([*map(os.path.abspath, paths)], Path(folder), network.info.config.data.check)
        for row, answer in answering.all(catalog):
            if labelled:
                answer |= labelled.write(catalog.video(row), answer)
            write({"path": paths[row], **answer})
            answered += 1
            incomplete += "labelled_error" in answer
        failures |= {paths[row]: reason for row, reason in sorted(answering.bad.items())}
        for path, reason in failures.items():
            write({"path": path, "error": reason})
    if failures:
        logger.warning(f"predict.py: {len(failures)} of {answered + len(failures)} cannot be answered")
    if not failures and not incomplete:
        return ALL_DONE
    return SOME_DONE if answered and not args.strict else NOTHING_DONE


@contextmanager
def _outputs(args: Namespace) -> Iterator[Callable[[dict], None]]:
    """Gives an answer to everything that was asked for."""
    with ExitStack() as files:
        outputs = [partial(answer_screen.show, Console(), Console(stderr=True))]
        for file, form in ((args.json, answer_files.json_lines), (args.csv, answer_files.table)):
            if file:
                outputs.append(files.enter_context(form(file)))

        def write(answer: dict) -> None:
            for output in outputs:
                output(answer)

        yield write


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
        self.bad |= {bad.row: bad.reason for bad in catalog.unreadable}
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
            self.bad[row] = error.reason_for(catalog.path(row))
