"""Command-line arguments that select datasets: lists with a few flags, or all lists of a recipe."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import get_args, get_type_hints

from configs import ConfigError, load
from configs.schema import Data
from dali_pipes.errors import DataError
from dali_pipes.lists.classes import file_beside
from dali_pipes.lists.formats.source import split_name, split_of
from dali_pipes.lists.listing import read_list

logger = logging.getLogger(__name__)


def add_dataset_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the lists or settings, `--config`, and the flags that stand for the settings of the same name."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="LIST",
        help="a list, an annotation file or a folder of classes; with --config: section.key=value",
    )
    parser.add_argument("--config", "-c", metavar="RECIPE", help="work on all lists of this recipe")
    add_reading_arguments(parser)
    parser.add_argument(
        "--cache", default="", help="data.cache: folder for the catalogues (default: next to each list)"
    )
    checks = get_args(get_type_hints(Data)["check"])
    parser.add_argument("--check", default=Data.check, choices=checks, help="data.check: how thoroughly (%(default)s)")
    parser.add_argument(
        "--max-bad-fraction", type=float, default=Data.max_bad_fraction, help="unreadable videos allowed (%(default)s)"
    )


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that set how lists are read."""
    choices = get_args(get_type_hints(Data)["format"])
    parser.add_argument("--root", default="", help="data.root: the folder that the paths in the lists start from")
    parser.add_argument(
        "--no-follow-links",
        dest="follow_links",
        action="store_false",
        help="data.follow_links=false: refuse links that lead out of --root, in lists of strangers",
    )
    parser.add_argument(
        "--format",
        default="auto",
        choices=choices,
        metavar="FORMAT",
        help=f"data.format: format of the lists ({', '.join(choices)}; else %(default)s)",
    )
    parser.add_argument("--prefix", default="", help="data.prefix: prepend to every path")
    parser.add_argument("--suffix", default="", help="data.suffix: append to every path, such as .mp4")
    parser.add_argument(
        "--frames",
        dest="decoder",
        action="store_const",
        const="jpeg",
        default="auto",
        help="data.decoder=jpeg: the lists name folders of pictures",
    )
    parser.add_argument("--class-names", default="", help="data.class_names: a file with a class name a line, by label")


def reading(arguments: argparse.Namespace, sources: Sequence[str]) -> Data:
    """Return the settings to read these sources with; the training list, if there is one, numbers the classes."""
    train = next((source for source in sources if split_name(os.path.basename(source)).startswith("train")), "")
    flags = ("root", "follow_links", "format", "prefix", "suffix", "decoder", "class_names")
    return _checked(Data(train=train), arguments, flags)


def _checked(data: Data, arguments: argparse.Namespace, flags: Sequence[str]) -> Data:
    """Return `data` with the settings of these flags. Raises ConfigError if a value is not allowed."""
    data = replace(data, **{name: getattr(arguments, name) for name in flags})
    problems = [f"--{name.replace('_', '-')}: {problem}" for name, problem in data.problems() if name in flags]
    if problems:
        raise ConfigError("\n".join(problems))
    return data


def with_names_beside(source: str, data: Data) -> Data:
    """Return the settings with the file of class names that lies beside a numbered list, unless one is given.

    That is `NAME.classes.txt` or `classes.txt`, as commands write them. One that does not name every label is not
    taken, and a line says so. Raises DataError if the list cannot be read.
    """
    path = split_of(source)[0]
    file = file_beside(path)
    if not file or data.class_names or not os.path.isfile(path):
        return data
    listing = read_list(source, data)
    if listing.class_names and not any(file in note for note in listing.notes):  # it has names of its own
        return data
    named = replace(data, class_names=file)
    try:
        read_list(source, named)
    except DataError as problem:
        logger.warning(f"{file} is not taken for the class names of {source}: {problem}; give a file by --class-names")
        return data
    logger.info(f"{source}: the names of its classes are those of {file}")
    return named


def datasets(arguments: argparse.Namespace) -> Iterator[tuple[str, Data]]:
    """Yield each list once, with the settings to read it. Raises ConfigError if there is none."""
    if arguments.config:
        data = load(arguments.config, arguments.words).data
        sources = [data.train, data.val, data.test]
    else:
        sources = arguments.words
        flags = ("cache", "check", "max_bad_fraction")
        data = _checked(reading(arguments, sources), arguments, flags)
    sources = [source for source in dict.fromkeys(sources) if source not in ("", "auto")]  # train.py makes that one
    if not sources:
        raise ConfigError("no list to work on; name one or more, or give a recipe that has some by --config")
    yield from ((source, data) for source in sources)
