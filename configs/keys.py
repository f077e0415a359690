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


def likely(key: str) -> list[str]:
    """The settings (or the section) that a person may have meant by an unknown key; none where none is near."""
    section, _, name = key.rpartition(".")
    elsewhere = [known for known in KINDS if known.endswith(f".{name}")]
    if elsewhere and section in ("", *SECTIONS):
        return elsewhere
    names = {known.split(".")[1]: known for known in KINDS}
    return get_close_matches(key, KINDS if section else SECTIONS, 1, cutoff=0.75) or [
        names[near] for near in get_close_matches(name, names, 1)
    ]


def did_you_mean(words: Iterable[str]) -> str:
    """The end of an error message that offers `words`; empty where there are none."""
    offer = " or ".join(words)
    return f"; did you mean {offer}?" if offer else ""


def inside(section: str) -> str:
    """The end of an error message that lists what a section holds; the sections themselves where it is none."""
    held = [known.split(".")[1] for known in KINDS if known.startswith(f"{section}.")]
    return f"; {section} has {', '.join(held)}" if held else f"; there are {', '.join(SECTIONS)}"
