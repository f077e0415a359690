"""A configuration as people and files see it: flat lines, a complete recipe, a fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict

import yaml

from configs.read import KINDS, SECTIONS
from configs.schema import Config


class _Dumper(yaml.SafeDumper):
    """Writes tuples as lists, in a line."""


_Dumper.add_representer(tuple, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, True))


def flat(config: Config) -> dict[str, object]:
    """Every setting by its dotted key, in the schema's order."""
    return {key: getattr(getattr(config, key.split(".")[0]), key.split(".")[1]) for key in KINDS}


def from_flat(values: Mapping[str, object]) -> Config:
    """The configuration that `flat` wrote down, maybe by another version: settings it does not name are the defaults.

    Settings that do not exist any more are left out; nothing is checked again.
    """
    sections: dict[str, dict[str, object]] = {name: {} for name in SECTIONS}
    for key in KINDS.keys() & values.keys():
        section, name = key.split(".")
        value = values[key]
        sections[section][name] = tuple(value) if isinstance(value, list) else value
    return Config(**{name: kind(**sections[name]) for name, kind in SECTIONS.items()})


def describe(config: Config) -> str:
    """A line for each setting, `*` where it departs from the default (a required setting has none)."""
    defaults = flat(Config())
    return "\n".join(
        f"{' ' if value == defaults[key] else '*'} {key} = {_written(value)}" for key, value in flat(config).items()
    )


def to_yaml(config: Config) -> str:
    """The complete configuration as a recipe, which loads back equal."""
    return yaml.dump(asdict(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def fingerprint(config: Config) -> str:
    """12 hex digits that two configurations share only when all their settings are equal."""
    return hashlib.sha256(json.dumps(flat(config)).encode()).hexdigest()[:12]


def _written(value: object) -> str:
    """A value as one writes it in an override, so that a line of `describe` can be used as one."""
    if isinstance(value, str):
        return value or '""'
    return json.dumps(value)
