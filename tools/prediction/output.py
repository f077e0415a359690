"""Write prediction records to the screen, JSON lines and CSV, line by line, so that interrupted jobs keep them."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TextIO

import rich
from rich.bar import Bar
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from configs import ConfigError
from configs.cli import STDOUT, descriptor
from configs.progress import format_rate
from dali_pipes.errors import masked
from dali_pipes.lists.formats.annotation import Span
from dali_pipes.lists.split import counted
from dali_pipes.video.times import USUAL_FPS
from engine.console import cell
from engine.evaluation.results import writing
from engine.outputs import Outputs

Write = Callable[[dict], None]
COLUMNS = ("path", "start", "end", "rank", "label", "name", "probability", "error")


class _Screen(Console):
    """A console that leaves it to the program how it ends when nobody reads any more, as after `| head`."""

    def on_broken_pipe(self) -> None:
        raise  # the BrokenPipeError, during which rich calls this


@contextmanager
def writer(json_file: Path | None, csv_file: Path | None, outputs: Outputs) -> Iterator[Write]:
    """Yield a function that writes a record to the screen and the files, with addresses masked."""
    with ExitStack() as files:
        on_stdout = any(file and descriptor(file) == STDOUT for file in (json_file, csv_file))
        writers: list[Write] = [partial(show, *_consoles(quiet=on_stdout))]
        for file, form in ((json_file, json_lines), (csv_file, table)):
            if file:
                writers.append(files.enter_context(form(file, outputs)))

        def write(answer: dict) -> None:
            for write_to in writers:
                write_to({**answer, "path": masked(answer["path"])})

        yield write


@contextmanager
def json_lines(file: Path, outputs: Outputs | None = None) -> Iterator[Write]:
    """Open a file for one JSON object per video; yield a function that writes a record."""
    with _open(file, outputs or Outputs(), "--json") as out:

        def write(answer: dict) -> None:
            with writing(file):
                print(json.dumps(answer, ensure_ascii=False), file=out, flush=True)

        yield write


@contextmanager
def table(file: Path, outputs: Outputs | None = None) -> Iterator[Write]:
    """Open a CSV file with COLUMNS and one line per class of a video, or per segment if it has any; yield a function
    that writes a record.
    """
    with _open(file, outputs or Outputs(), "--csv") as out:
        lines = csv.DictWriter(out, COLUMNS, extrasaction="ignore", lineterminator="\n")
        lines.writeheader()

        def write(answer: dict) -> None:
            with writing(file):
                lines.writerows(_cells({**answer, **guess}) for guess in _guesses(answer))
                out.flush()

        yield write


def _cells(line: dict) -> dict:
    """Escape paths, names and errors that a spreadsheet would interpret as formulas."""
    return {column: cell(value) if isinstance(value, str) else value for column, value in line.items()}


def _guesses(answer: dict) -> list[dict]:
    if "error" in answer:
        return [{}]
    if "segments" in answer:
        return [{"rank": 1, **segment} for segment in answer["segments"]]
    return [{"rank": rank, **guess} for rank, guess in enumerate(answer["top"], start=1)]


@contextmanager
def _open(file: Path, outputs: Outputs, flag: str) -> Iterator[TextIO]:
    """Open a text file for writing. Bytes of names that are not UTF-8 become \\udcNN, as in JSON."""
    with ExitStack() as stack:
        try:
            opened = outputs.growing(file, encoding="utf-8", errors="backslashreplace", newline="")
            out = stack.enter_context(opened)
        except OSError as error:
            raise ConfigError(f"{flag}: {file}: cannot be written: {error.strerror}") from error
        yield out


def _consoles(quiet: bool) -> tuple[Console, Console]:
    """Return the consoles for records and errors; on a terminal, both are the progress bar's. `quiet`: no records."""
    shared = rich.get_console()
    if sys.stdout.isatty() and shared.is_terminal:
        return (Console(quiet=True) if quiet else shared), shared
    return _Screen(quiet=quiet), _Screen(stderr=True)


BAR_WIDTH = 20
SPEEDS = ("frames_per_s", "windows_per_s")


def _part(answer: dict, video: dict) -> str:
    """Describe the part of a video that a record is about; empty for whole videos, up to the length of a frame."""
    fps = video["fps"] or USUAL_FPS
    if "end" not in answer or (answer["end"] - answer["start"]) * fps > video["frames"] - 1.5:
        return ""
    return f", {answer['start']:g} s to {answer['end']:g} s"


def _requested(answer: dict) -> str:
    """Describe the part of a video that has no result; empty for a whole video."""
    if "start" not in answer:
        return ""
    return f" from {Span(answer['start'], math.inf if answer['end'] is None else answer['end'])}"


def show(console: Console, notes: Console, answer: dict) -> None:
    """Print a record under the path of its video; errors go to `notes`."""
    if "error" in answer:
        notes.print(Text(f"{answer['path']}{_requested(answer)}: {answer['error']}"), soft_wrap=True)
        return
    path = Text(answer["path"], "bold")
    if video := answer.get("video"):  # a stream has none
        part = _part(answer, video)
        path.append(f"  {video['width']}x{video['height']}, {counted(video['frames'], 'frame')}{part}", "dim")
    console.print(path, soft_wrap=True)
    if "latency_ms" in answer:
        p50, p99 = (f"{name} {ms:.2f} ms" for name, ms in answer["latency_ms"].items())
        speed = next(f"{format_rate(answer[key])} {key[:-6]}/s" for key in SPEEDS if key in answer)
        console.print(Text(f"  {speed}, latency {p50}, {p99}", "dim"))
    if "labelled" in answer:
        console.print(Text(f"  labelled: {answer['labelled']}", "dim"), soft_wrap=True)
    if "labelled_error" in answer:
        notes.print(Text(f"{answer['path']}: not labelled: {answer['labelled_error']}"), soft_wrap=True)
    if "explained" in answer:
        console.print(Text(f"  explained: {answer['explained']['strip']}", "dim"), soft_wrap=True)
    if "explained_error" in answer:
        notes.print(Text(f"{answer['path']}: not explained: {answer['explained_error']}"), soft_wrap=True)
    console.print(Padding(_timeline(answer) if "segments" in answer else _best(answer), (0, 2), expand=False))
    console.print()


def clock(seconds: float) -> str:
    """Format minutes and seconds: `0:07.5`, `62:00.0`."""
    minutes, tenths = divmod(round(10 * seconds), 600)
    return f"{minutes}:{tenths / 10:04.1f}"


def _best(answer: dict) -> Table:
    """Return the table of the best classes."""
    table = _table()
    for rank, guess in enumerate(answer["top"], start=1):
        table.add_row(str(rank), *_guess(guess))
    return table


def _timeline(answer: dict) -> Table:
    """Return the table of the top class of each segment."""
    table = _table()
    for segment in answer["segments"]:
        table.add_row(f"{clock(segment['start'])} – {clock(segment['end'])}", *_guess(segment))
    return table


def _table() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(width=BAR_WIDTH)
    return table


def _guess(guess: dict) -> tuple[Text, str, Bar]:
    probability = guess["probability"]
    return Text(guess["name"]), f"{100 * probability:.1f} %", Bar(1, 0, probability, width=BAR_WIDTH, color="green")
