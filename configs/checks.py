"""Checks that several sections share. Each yields a problem for every wrong setting."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

SMALLEST = 16  # pixels of a side of a frame or clip
Problem = tuple[str, str]  # (setting: its name within a section, or the dotted key; the error and a remedy)


def check_minimums(section: object, **lowest: float) -> Iterator[Problem]:
    """Yield a problem for each setting of `section`, or item of it, below its lowest allowed value."""
    for name, low in lowest.items():
        value = getattr(section, name)
        if not isinstance(value, str) and min(value if isinstance(value, tuple) else (value,), default=low) < low:
            yield name, f"{value} is too small; the smallest allowed is {low:g}"


def check_fractions(section: object, *names: str, below_one: bool = False) -> Iterator[Problem]:
    """Yield a problem for each setting of `section` that is not between 0 and 1, or that is 1 with `below_one`."""
    for name in names:
        value = getattr(section, name)
        if not isinstance(value, str) and not (0 <= value < 1 if below_one else 0 <= value <= 1):
            yield name, f"{value:g} is not {'at least 0 and below 1' if below_one else 'between 0 and 1'}"


def check_sides(section: object, *names: str) -> Iterator[Problem]:
    """Yield a problem for each setting of `section` that is neither 0 nor a side of SMALLEST pixels or more."""
    for name in names:
        value = getattr(section, name)
        if not isinstance(value, str) and value != 0 and value < SMALLEST:
            yield name, f"{value} is too small; use 0, or at least {SMALLEST} pixels"


def check_finite(section: Any) -> Iterator[Problem]:
    """Yield a problem for each number of `section` that is infinite or not a number."""
    for setting in fields(section):
        value = getattr(section, setting.name)
        numbers = value if isinstance(value, tuple) else (value,)
        if not all(math.isfinite(number) for number in numbers if isinstance(number, float)):
            yield setting.name, f"{value} is not a finite number"


class ConfigError(Exception):
    """Invalid settings. One line for each mistake: its place, the value, and a valid alternative."""
