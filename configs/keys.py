"""The settings' dotted keys: which there are, what each expects, in words, and which one a person may have meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Literal, get_args, get_origin, get_type_hints

from configs.schema import Config

SECTIONS: dict[str, type] = get_type_hints(Config)
KINDS = {f"{name}.{key}": kind for name, section in SECTIONS.items() for key, kind in get_type_hints(section).items()}
"""The type of every setting, by dotted key, in the schema's order."""

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def expected(kind: object) -> str:
    """What a setting of this type takes, in words."""
    options = get_args(kind)
    if kind in _WORDS:
        return _WORDS[kind]
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, options))}" if len(options) > 1 else str(options[0])
    if get_origin(kind) is tuple:
        count = "" if Ellipsis in options else f"{len(options)} "
        return f"a list of {count}{expected(options[0]).removeprefix('a ')}s"
    return " or ".join(map(expected, options))


def did_you_mean(key: str) -> str:
    """`; did you mean ...?` with the setting (or section) nearest to an unknown key, or nothing where none is near."""
    section, _, name = key.rpartition(".")
    elsewhere = [known for known in KINDS if known.endswith(f".{name}")]
    if elsewhere and section in ("", *SECTIONS):
        return f"; did you mean {' or '.join(elsewhere)}?"
    return nearest(key, KINDS if section else SECTIONS, 0.75) or _nearest_name(name)


def nearest(word: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """`; did you mean ...?` with the likeliest of the `known` words, or nothing where none is near."""
    close = get_close_matches(word, known, 1, likeness)
    return f"; did you mean {close[0]}?" if close else ""


def _nearest_name(name: str) -> str:
    """`; did you mean ...?` with the setting whose name, in any section, is nearest."""
    names = {known.split(".")[1]: known for known in KINDS}
    close = get_close_matches(name, names, n=1)
    return f"; did you mean {names[close[0]]}?" if close else ""
