"""Build a `Config` from a recipe and overrides, or raise one error with one line per mistake.

The schema, not YAML, defines the type of a value: YAML reads `12:30` as 750, `yes` as true and `1e-4` as text. So a
value stays text until OmegaConf converts it to the type of its setting.
"""

from __future__ import annotations

import math
import os
import reprlib
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import cast, get_args, get_origin

from omegaconf import OmegaConf

from configs import read
from configs.checks import ConfigError
from configs.read import KINDS, SECTIONS, did_you_mean, expected, inside, likely
from configs.schema import Config

_BOOLS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def load(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Load a recipe (a path, or a name in configs/) and apply `section.key=value` overrides; the last one wins.

    Raises ConfigError with one line per mistake.
    """
    draft = _Draft()
    for setting in read.recipe(str(name_or_path)):
        draft.put(setting)
    draft.move_lists(Path(name_or_path))
    for override in overrides:
        draft.put(read.argument(override))
    return draft.finish()


def moved(config: Config, folder: Path) -> Config:
    """Return the settings of a run that was moved to `folder`, with the paths of the lists that it wrote adjusted.

    So a moved or copied run never reads the lists of another run that has its old name now.
    """
    draft = _Draft(config)
    draft.move_lists(folder)
    return draft.finish()


def override(config: Config, overrides: Sequence[str]) -> Config:
    """Return `config` with `section.key=value` overrides applied. Raises ConfigError as `load` does.

    If they name data outside of the store of `config`, its cache is not used either.
    """
    draft = _Draft(config)
    for text in overrides:
        draft.put(read.argument(text))
    draft.leave_store()
    return draft.finish()


def overridden(overrides: Sequence[str]) -> dict[str, object]:
    """Return the values that `section.key=value` overrides set, by dotted key. Raises ConfigError as `load` does."""
    draft = _Draft()
    for text in overrides:
        draft.put(read.argument(text))
    if draft.errors:
        raise ConfigError("\n".join(draft.errors))
    return {key: OmegaConf.select(draft.tree, key) for key in draft.places}


class _Draft:
    """A configuration under construction: its values, the origin of each, and the errors so far."""

    def __init__(self, start: Config | type[Config] = Config) -> None:
        self.tree = OmegaConf.structured(start)
        for section in SECTIONS:
            OmegaConf.set_readonly(self.tree[section], False)
        self.places: dict[str, str] = {}
        self.errors: list[str] = []
        self.refused: set[str] = set()

    def put(self, setting: read.Setting) -> None:
        """Store a setting, or record its error."""
        key, value, self.places[key] = setting
        if isinstance(value, read.Mistake):
            self.refuse(key, value)
        elif key in SECTIONS:
            self.refuse(key, f"expected settings, such as {read.example(key)}, got {_shortened(value)}")
        elif key not in KINDS:
            hint = did_you_mean(likely(key)) or inside(key.split(".")[0])
            self.refuse(key, f"no such {'section' if value == {} and '.' not in key else 'key'}{hint}")
        else:
            self._convert(key, value)

    def _convert(self, key: str, value: object) -> None:
        try:
            OmegaConf.update(self.tree, key, _unambiguous(value, KINDS[key]))
        except ValueError:  # OmegaConf's own errors are ValueErrors, too
            self.refuse(key, f"expected {expected(KINDS[key])}, got {_shortened(value)}")

    def move_lists(self, place: Path) -> None:
        """Point the list settings of a run to the folder that now contains the settings: `place`, or the folder of this
        file.
        """
        values = cast(dict[str, dict], OmegaConf.to_container(self.tree))  # without interpolation
        folder = place if place.is_dir() else place.parent
        own = Path(str(values["train"]["runs"]), str(values["train"]["name"]))
        for name in ("train", "val", "test", "class_names"):
            inside = os.path.relpath(str(values["data"][name]) or ".", own)
            here = folder / inside
            if not inside.startswith("..") and here.is_file() and here.absolute() != Path(own, inside).absolute():
                OmegaConf.update(self.tree, f"data.{name}", str(here))

    def leave_store(self) -> None:
        """Remove the cache of a store that is not read any more, unless an override sets it."""
        data = self._build(unknown=OmegaConf.missing_keys(self.tree)).data
        if "data.cache_dir" not in self.places and not data.in_store:
            self.tree.data.cache_dir = ""

    def refuse(self, key: str, problem: str) -> None:
        """Record an error with the place where the key was set, or with the key if it was not set."""
        self.errors.append(f"{self.places.get(key, key)}: {problem}")
        self.refused.add(key)

    def finish(self) -> Config:
        """Return the checked configuration, or raise a ConfigError with all errors."""
        missing = OmegaConf.missing_keys(self.tree)
        required = ((key, "required, and the recipe does not set it") for key in KINDS if key in missing)
        config = self._build(unknown=missing)  # a setting with an invalid value keeps its previous value or default
        for key, problem in chain(required, config.problems()):
            if self.refused.isdisjoint((key, key.split(".")[0])):
                self.refuse(key, problem)
        if self.errors:
            raise ConfigError("\n".join(self.errors))
        return config

    def _build(self, unknown: set[str]) -> Config:
        """Build the dataclasses. Unknown values become nan, which few checks reject."""
        values = cast(dict[str, dict], OmegaConf.to_container(self.tree))
        for key in unknown:
            section, name = key.split(".")
            if get_origin(KINDS[key]) is not tuple:
                values[section][name] = math.nan
        return Config(**{section: kind(**values[section]) for section, kind in SECTIONS.items()})


def _unambiguous(value: object, kind: object) -> object:
    """Prepare text for OmegaConf, which accepts any number as a bool, and no text for a Literal of numbers."""
    if kind in (str, float) or not isinstance(value, str):
        return value
    if kind is bool:
        if value.lower() not in _BOOLS:
            raise ValueError(value)
        return _BOOLS[value.lower()]
    with suppress(ValueError):
        return float(value) if float in get_args(kind) else int(value)
    return value


def _shortened(value: object) -> str:
    """Return an invalid value for an error message, shortened."""
    if value is None:
        return "null"
    return "a mapping" if value == {} else reprlib.repr(value)
