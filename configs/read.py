"""Read the settings of recipes and overrides as text, each with its origin. Keys are checked here, values in `load`.

YAML is composed, never constructed: aliases are not expanded, tags run no code, interpolations read nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, NamedTuple, get_args, get_origin, get_type_hints

import yaml

from configs.checks import ConfigError
from configs.schema import Config

SHIPPED = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))}
"""The recipes that come with the project, by name."""

MOST_BYTES = 65_536  # a recipe has 2,000 to 3,000 bytes; a much larger file takes seconds to parse

_PREFIX = "tag:yaml.org,2002:"
_PLAIN_NAMES = ("str", "int", "float", "bool", "null", "timestamp", "seq", "map", "merge", "value")
_PLAIN_TAGS = {_PREFIX + name for name in _PLAIN_NAMES}


class Mistake(str):
    """A syntax error of a setting, stored instead of its value."""


class Setting(NamedTuple):
    """A setting with its value as text."""

    key: str
    value: object  # text, list of texts, or Mistake; None or {} for a YAML null or mapping, which no setting accepts
    place: str  # the origin, with which an error message begins


def argument(text: str) -> Setting:
    """Read a `section.key=value` override. The value is the text after the first `=`, not YAML."""
    place = f"argument {text!r}"
    key, equals, value = text.partition("=")
    if not equals:
        hint = f"; a list or folder of videos is named by data.train={text}" if Path(text).exists() else ""
        return Setting(key, Mistake(f"expected section.key=value{hint}"), place)
    if get_origin(KINDS.get(key)) is tuple:
        items = [item.strip(" '\"") for item in value.strip(" []()").split(",")]
        return Setting(key, _list([_scalar(item) for item in items if item]), place)
    return Setting(key, _scalar(value), place)


def recipe(name_or_path: str) -> Iterator[Setting]:
    """Yield the settings of a recipe, line by line. Raises ConfigError if it is not valid YAML."""
    try:
        path = _find(name_or_path)
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{name_or_path}: cannot be read: {error.strerror}") from None
    label = path.name if path in SHIPPED.values() else name_or_path
    root = _compose(_text(content, label), label)
    if not _is_mapping(root):
        line = root.start_mark.line + 1 if root else 1
        raise ConfigError(f"{label}:{line}: expected sections ({', '.join(SECTIONS)}), each with its settings")
    yield from _settings(root, "", label, {})


def _find(name_or_path: str) -> Path:
    """Find the recipe's file: the path itself, config.yaml in a run's folder, or the shipped recipe of this name."""
    path = Path(name_or_path)
    if (path / "config.yaml").is_file():  # a run's folder
        return path / "config.yaml"
    if path.is_file():
        return path
    name = path.name.removesuffix(".yaml")
    if path.name == name_or_path and name in SHIPPED:
        return SHIPPED[name]
    if path.exists():
        raise ConfigError(f"{name_or_path}: not a file; give a recipe's path or one of {', '.join(SHIPPED)}")
    near = get_close_matches(name, SHIPPED, 1)
    hint = did_you_mean(near) if near else f"; there are {', '.join(SHIPPED)}"
    raise ConfigError(f"{name_or_path}: no such file, nor a shipped recipe{hint}")


def _text(content: bytes, label: str) -> str:
    if len(content) > MOST_BYTES:
        raise ConfigError(f"{label}: larger than {MOST_BYTES} bytes, so not a recipe")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(f"{label}:{line}: not UTF-8 text") from None


def _compose(text: str, label: str) -> yaml.Node | None:
    """Parse text into YAML nodes, which know their lines. The C loader would crash on deep nesting."""
    try:
        loader = yaml.SafeLoader(text)
        return loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        line, problem = error.problem_mark.line + 1, error.problem
    except yaml.reader.ReaderError as error:
        line, problem = text[: error.position].count("\n") + 1, f"the character {chr(error.character)!r} is not allowed"
    except RecursionError:
        line, problem = loader.line + 1, "nested too deeply"
    raise ConfigError(f"{label}:{line}: not valid YAML: {problem}")


def _settings(mapping: yaml.MappingNode, prefix: str, label: str, lines: dict[str, int]) -> Iterator[Setting]:
    """Yield the settings of a mapping; `lines` has the line of each key so far, to detect duplicates."""
    for name, node in mapping.value:
        key = prefix + (name.value if isinstance(name, yaml.ScalarNode) and name.value.isprintable() else "?")
        line = name.start_mark.line + 1
        place = f"{label}:{line}: {key}"
        if key in lines:
            yield Setting(key, Mistake(f"already written in line {lines[key]}; keep one"), place)
            continue
        lines[key] = line
        if key in SECTIONS and _is_mapping(node):
            yield from _settings(node, f"{key}.", label, lines)
        else:
            yield Setting(key, _plain(node), place)


def _is_mapping(node: yaml.Node | None) -> bool:
    return isinstance(node, yaml.MappingNode) and node.tag == _PREFIX + "map"


def _plain(node: yaml.Node) -> object:
    """Return the value of a node, for `Setting.value`."""
    if node.tag not in _PLAIN_TAGS:
        return Mistake(f"the tag {node.tag.replace(_PREFIX, '!!')} is not allowed; write a plain value")
    if isinstance(node, yaml.MappingNode):
        return {}
    if isinstance(node, yaml.SequenceNode):
        return _list([_plain(item) if isinstance(item, yaml.ScalarNode) else "..." for item in node.value])
    return None if node.tag == _PREFIX + "null" else _scalar(node.value)


def _list(items: list) -> object:
    """Return the items, or the first Mistake among them."""
    return next((item for item in items if isinstance(item, Mistake)), items)


def _scalar(text: str) -> str:
    """Return the text, or a Mistake if OmegaConf would interpret it."""
    if "${" in text:
        return Mistake("interpolation with ${...} is not supported; write the value itself")
    if text.lstrip("\\") == "???":
        return Mistake("??? stands for a value still to be given; write the value itself")
    return text


SECTIONS: dict[str, type] = get_type_hints(Config)
KINDS = {f"{name}.{key}": kind for name, section in SECTIONS.items() for key, kind in get_type_hints(section).items()}
"""The type of every setting, by dotted key, in the schema's order."""

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def expected(kind: object) -> str:
    """Describe the values that a setting of this type accepts."""
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
    """Return the settings (or the section) that are similar to an unknown key; empty if there are none."""
    section, _, name = key.rpartition(".")
    elsewhere = [known for known in KINDS if known.endswith(f".{name}")]
    if elsewhere and section in ("", *SECTIONS):
        return elsewhere
    names = {known.split(".")[1]: known for known in KINDS}
    return get_close_matches(key, KINDS if section else SECTIONS, 1, cutoff=0.75) or [
        names[near] for near in get_close_matches(name, names, 1)
    ]


def example(section: str) -> str:
    """Return an example setting of a section, for the error if a section is given without a key."""
    return "data.train" if section == "data" else next(key for key in KINDS if key.startswith(f"{section}."))


def did_you_mean(words: Iterable[str]) -> str:
    """Return the end of an error message that suggests `words`; empty without words."""
    offer = " or ".join(words)
    return f"; did you mean {offer}?" if offer else ""


def inside(section: str) -> str:
    """Return the end of an error message that lists the settings of a section, or all sections if it is unknown."""
    held = [known.split(".")[1] for known in KINDS if known.startswith(f"{section}.")]
    return f"; {section} has {', '.join(held)}" if held else f"; there are {', '.join(SECTIONS)}"
