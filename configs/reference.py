"""Describe every setting: its default, the values that it accepts, and its comment in the schema."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from itertools import pairwise

from configs.checks import ConfigError
from configs.read import KINDS, SECTIONS, did_you_mean, expected, inside, likely
from configs.schema import Config
from configs.show import flat, written

WIDTH = 100
REQUIRED = "???"  # OmegaConf's marker for a setting without a default


def reference(what: str = "") -> str:
    """Return the description of all settings, of a section, or of one setting.

    Raises ConfigError, with suggestions, if there is no such section or setting.
    """
    keys = [key for key in KINDS if not what or key == what or key.startswith(f"{what}.")]
    if not keys:
        hint = did_you_mean(likely(what)) or inside(what.split(".")[0])
        raise ConfigError(f"--help-config: {what}: no such section or setting{hint}")
    defaults, sentences = flat(Config()), dict(_sentences())
    return "\n".join(_entry(key, defaults[key], sentences[key]) for key in keys)


def _entry(key: str, default: object, sentence: str) -> str:
    """Describe one setting: one line with its default and values, and its comment below."""
    start = "required" if default == REQUIRED else f"default {written(default)}"
    lines = textwrap.wrap(f"{key}  ({start}; {expected(KINDS[key])})", WIDTH, subsequent_indent="        ")
    lines += textwrap.wrap(sentence, WIDTH, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)
    return "\n".join(lines)


def _sentences() -> Iterator[tuple[str, str]]:
    """Yield each key with the docstring that follows its setting in the schema, as one line."""
    for name, section in SECTIONS.items():
        (body,) = (node for node in ast.parse(inspect.getsource(section)).body if isinstance(node, ast.ClassDef))
        for node, following in pairwise([*body.body, ast.Pass()]):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                yield f"{name}.{node.target.id}", " ".join(_text(following).split())


def _text(node: ast.stmt) -> str:
    """Return the text of a statement that is a string literal; empty for other statements."""
    found = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and node.value.value
    return found if isinstance(found, str) else ""
