"""One run of tools/predict.py: from the sources to the answers, to those who cannot be answered, to the exit code."""

from __future__ import annotations

import os
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console

from dali_pipes import DataError, progress, scan, times, windows
from dali_pipes.catalog import Catalog
from dali_pipes.windows import Window
from engine.network import Network, open_network
from engine.predict import predict
from tools import answer_files, answer_screen, answers, sources

ALL_ANSWERED, NONE_ANSWERED, SOME_ANSWERED = 0, 2, 3


def run(args: Namespace) -> int:
    """Answer for every video, name those that have no answer, and return the exit code."""
    notes = Console(stderr=True)
    paths, failures = sources.find(args.sources)
    network = open_network(args.weights, args.config, args.overrides, partial(progress.say, notes))
    answered = 0
    with _outputs(args) as outputs, _scanned(paths, network, notes) as catalog:
        for answer in _answers(args, network, catalog, paths, failures):
            answered += 1
            for output in outputs:
                output(answer)
        for path, reason in failures.items():
            for output in outputs:
                output({"path": path, "error": reason})
    if not failures:
        return ALL_ANSWERED
    progress.say(notes, f"predict.py: {len(failures)} of {answered + len(failures)} cannot be answered")
    return SOME_ANSWERED if answered and not args.strict else NONE_ANSWERED


@contextmanager
def _outputs(args: Namespace) -> Iterator[list[Callable[[dict], None]]]:
    """Everything that answers are given to."""
    with ExitStack() as files:
        outputs = [partial(answer_screen.show, Console(), Console(stderr=True))]
        for file, form in ((args.json, answer_files.json_lines), (args.csv, answer_files.table)):
            if file:
                outputs.append(files.enter_context(form(file)))
        yield outputs


@contextmanager
def _scanned(paths: list[str], network: Network, notes: Console) -> Iterator[Catalog]:
    """The catalogue of the videos, in a temporary folder: nothing is written beside them."""
    with tempfile.TemporaryDirectory(prefix="predict-") as folder:
        yield scan.scan_videos([*map(os.path.abspath, paths)], Path(folder), network.config.data.check, notes)


def _answers(
    args: Namespace, network: Network, catalog: Catalog, paths: list[str], failures: dict[str, str]
) -> Iterator[dict]:
    """An answer for each video that has one; the others go into `failures`, with the reason."""
    bad = {row: reason for row, _, reason in catalog.unreadable}
    answer = answers.of_parts if args.sliding else answers.of_video
    for found in predict(network, catalog, _windows(args, catalog, bad), bad):
        row = found[0].window.row
        with _kept_for(catalog, row, bad):
            yield {"path": paths[row], **answer(network, catalog.video(row), found, args.top_k)}
    failures |= {paths[row]: bad[row] for row in sorted(bad)}


def _windows(args: Namespace, catalog: Catalog, bad: dict[int, str]) -> list[Window]:
    """What is to be scored of each video: all of it, or one window after the other."""
    if not args.sliding:
        return windows.whole(catalog)
    found = []
    for row in catalog.usable.tolist():
        with _kept_for(catalog, row, bad):
            time_F, fps = times.frame_times(catalog.video(row)), catalog.video(row).fps
            found += windows.sliding(
                row, time_F, times.duration(time_F, fps), args.sliding, args.stride or args.sliding / 2
            )
    return found


@contextmanager
def _kept_for(catalog: Catalog, row: int, bad: dict[int, str]) -> Iterator[None]:
    """A DataError of a video is the reason why it has no answer."""
    try:
        yield
    except DataError as error:
        bad[row] = str(error).removeprefix(f"{catalog.path(row)}: ")
