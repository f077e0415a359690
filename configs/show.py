"""Write a configuration as lines `key = value`, as a complete recipe, or as a fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict

import yaml

from configs.read import KINDS, SECTIONS
from configs.schema import Config


class _Dumper(yaml.SafeDumper):
    """Write tuples as lists on one line."""


_Dumper.add_representer(tuple, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, True))


def flat(config: Config) -> dict[str, object]:
    """Return every setting by its dotted key, in the schema's order."""
    return {key: getattr(getattr(config, key.split(".")[0]), key.split(".")[1]) for key in KINDS}


def from_flat(values: Mapping[str, object]) -> Config:
    """Return the configuration of the output of `flat`, possibly of another version of the project.

    Missing settings get their defaults, unknown ones are dropped, and values are not checked.
    """
    sections: dict[str, dict[str, object]] = {name: {} for name in SECTIONS}
    for key in KINDS.keys() & values.keys():
        section, name = key.split(".")
        value = values[key]
        sections[section][name] = tuple(value) if isinstance(value, list) else value
    return Config(**{name: kind(**sections[name]) for name, kind in SECTIONS.items()})


def describe(config: Config) -> str:
    """Return one line per setting, with `*` if it differs from the default (required settings have no default)."""
    defaults = flat(Config())
    return "\n".join(
        f"{' ' if value == defaults[key] else '*'} {key} = {written(value)}" for key, value in flat(config).items()
    )


def to_yaml(config: Config) -> str:
    """Return the complete configuration as a recipe; loading it gives an equal configuration."""
    return yaml.dump(asdict(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def fingerprint(config: Config) -> str:
    """Return 12 hex digits of a hash of the configuration."""
    return hashlib.sha256(json.dumps(flat(config)).encode()).hexdigest()[:12]


def written(value: object) -> str:
    """Format a value as in an override, so that a line of `describe` can be used as an override."""
    if isinstance(value, str):
        return value or '""'
    return json.dumps(value)
