"""Render pages from the templates in this folder, with text escaped and unprintable characters replaced.

Class names, paths and settings may contain anything; only `Markup` is inserted unescaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from engine.console import printable

MOST_OPEN = 20  # tables up to this many rows are shown unfolded


class Number(str):
    """A formatted number, which a table aligns to the right."""


class Share(Number):
    """A fraction, shown as a percentage with a bar behind it."""

    fraction: float

    def __new__(cls, fraction: float) -> Share:
        share = super().__new__(cls, f"{100 * fraction:.2f} %")
        share.fraction = fraction
        return share


class Table:
    """Rows of values under a header, which may be empty. Columns of numbers are aligned to the right."""

    def __init__(self, header: Sequence[str], rows: Iterable[Sequence[object]]):
        self.header = header
        self.rows = [list(row) for row in rows]
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(header)
        self.numeric = [
            bool(column) and all(isinstance(value, int | float | Number) for value in column) for column in columns
        ]
        self.short = len(self.rows) <= MOST_OPEN


def render(template: str, **values: object) -> str:
    """Render a template of this folder."""
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["share"] = lambda value: isinstance(value, Share)
    return environment


def _printable(value: object) -> object:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
