"""Answers as files, written line by line, so that a long job leaves what it has done: JSON lines and CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from configs import ConfigError
from engine.console import cell
from engine.evaluation.results import writing

Write = Callable[[dict], None]
COLUMNS = ("path", "start", "end", "rank", "label", "name", "probability", "error")


@contextmanager
def json_lines(file: Path) -> Iterator[Write]:
    """Writes one JSON object a video."""
    with _open(file, "--json") as out:

        def write(answer: dict) -> None:
            with writing(file):
                print(json.dumps(answer, ensure_ascii=False), file=out, flush=True)

        yield write


@contextmanager
def table(file: Path) -> Iterator[Write]:
    """Writes a line of COLUMNS for each guess: of the whole video, or of each segment where it has any."""
    with _open(file, "--csv") as out:
        lines = csv.DictWriter(out, COLUMNS, extrasaction="ignore", lineterminator="\n")
        lines.writeheader()

        def write(answer: dict) -> None:
            with writing(file):
                lines.writerows(_cells({**answer, **guess}) for guess in _guesses(answer))
                out.flush()

        yield write


def _cells(line: dict) -> dict:
    """A line whose paths, names and errors no spreadsheet takes for formulas."""
    return {column: cell(value) if isinstance(value, str) else value for column, value in line.items()}


def _guesses(answer: dict) -> list[dict]:
    if "error" in answer:
        return [{}]
    if "segments" in answer:
        return [{"rank": 1, **segment} for segment in answer["segments"]]
    return [{"rank": rank, **guess} for rank, guess in enumerate(answer["top"], start=1)]


@contextmanager
def _open(file: Path, flag: str) -> Iterator[TextIO]:
    """A text file to be written anew. A name need not be text: what is not becomes the \\udcNN that JSON knows."""
    try:
        out = open(file, "w", encoding="utf-8", errors="backslashreplace", newline="")  # noqa: SIM115
    except OSError as error:
        raise ConfigError(f"{flag}: {file}: cannot be written: {error.strerror}") from error
    try:
        yield out
    finally:
        with suppress(OSError):  # what a full disk has refused once, which has been said
            out.close()
