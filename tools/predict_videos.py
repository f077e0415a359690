"""One run of tools/predict.py: from the sources to answers, to the reasons where there are none, to the exit code."""

from __future__ import annotations

import os
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console

from dali_pipes import progress
from dali_pipes.loader import why_not_nvdec
from dali_pipes.scan import build
from engine.inference.network import open_network
from tools import answer_files, answer_screen, sources
from tools.answering import Answering
from tools.labelled import LabelledVideos

ALL_DONE, NOTHING_DONE, SOME_DONE = 0, 2, 3


def run(args: Namespace) -> int:
    """Answer for every video, name those that have no answer, and return the exit code."""
    notes = Console(stderr=True)
    paths, failures = sources.find(args.sources)
    labelled = LabelledVideos(args.save_video) if args.save_video else None
    network = open_network(args.weights, args.config, args.overrides, partial(progress.say, notes))
    if reason := why_not_nvdec(network.config, network.device):
        progress.say(notes, f"data.decoder=auto decodes on the CPU: {reason}")
    answering = Answering(network, args)
    answered = incomplete = 0
    with _outputs(args) as write, tempfile.TemporaryDirectory(prefix="predict-") as folder:  # nothing beside the videos
        catalog = build.scan_videos([*map(os.path.abspath, paths)], Path(folder), network.config.data.check, notes)
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
        progress.say(notes, f"predict.py: {len(failures)} of {answered + len(failures)} cannot be answered")
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
