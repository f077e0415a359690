"""How commands are told which datasets they work on: lists with a few flags, or all lists of a recipe."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import get_args, get_type_hints

from configs import ConfigError, load
from configs.schema import Data


def add_dataset_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the lists or settings, `--config`, and the flags that stand for the settings of the same name."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="LIST",
        help="a list, an annotation file or a folder of classes; with --config: section.key=value",
    )
    parser.add_argument("--config", "-c", metavar="RECIPE", help="work on all lists of this recipe")
    parser.add_argument("--root", default="", help="data.root: the folder that the paths in the lists start from")
    parser.add_argument("--cache", default="", help="data.cache: the folder of the catalogues (beside each list)")
    parser.add_argument("--check", default=Data.check, choices=get_args(get_type_hints(Data)["check"]))
    parser.add_argument(
        "--max-bad-fraction", type=float, default=Data.max_bad_fraction, help="unreadable videos allowed (%(default)s)"
    )


def datasets(arguments: argparse.Namespace) -> Iterator[tuple[str, Data]]:
    """Each list once, and the settings to read it with. ConfigError where none is given."""
    if arguments.config:
        data = load(arguments.config, arguments.words).data
        sources = [data.train, data.val, data.test]
    else:
        flags = ("root", "cache", "check", "max_bad_fraction")
        data = Data(**{name: getattr(arguments, name) for name in flags})
        sources = arguments.words
    sources = [source for source in dict.fromkeys(sources) if source]
    if not sources:
        raise ConfigError("no list to work on; name one or more, or give a recipe that has some by --config")
    yield from ((source, data) for source in sources)
