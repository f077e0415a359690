"""The commands that convert datasets: their arguments, the lists that they read, and the summary that they print."""

from __future__ import annotations

import argparse
import logging
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from configs.cli import at_least
from configs.schema import Data
from dali_pipes.device import usable_cores
from dali_pipes.scan.build import load_catalog
from dali_pipes.scan.catalog import Catalog
from engine.outputs import add_force_argument
from tools.data.arguments import add_dataset_arguments, datasets, with_names_beside
from tools.data.conversion.convert import DONE, LEFT_OUT, Conversion, Outcome, classes_file, convert_all
from tools.data.write_lists import by_split

logger = logging.getLogger(__name__)


def add_conversion_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the lists, the output folder and the number of processes."""
    add_dataset_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder for the new tree and lists")
    add_force_argument(parser)
    parser.add_argument("--workers", type=at_least(1), default=usable_cores(), help="processes (%(default)s)")


def convert_datasets(arguments: argparse.Namespace, conversion: Conversion) -> Outcome:
    """Scan and convert the datasets that the arguments name, and print a summary."""
    sets = sets_to_convert(arguments)
    catalogs = [load_catalog(source, data, workers=arguments.workers) for source, data in sets]
    recipe = [arguments.config, *(data.class_names for _, data in sets)]
    outcome = convert_all(catalogs, arguments.out, conversion, arguments.workers, arguments.force, recipe)
    for line in summary(outcome, arguments.out):
        logger.info(line)
    gone = [f"data.{key}=" for key in ("prefix", "suffix") if any(getattr(data, key) for _, data in sets)]
    words = [f"data.root={arguments.out}", *by_split(outcome.lists), *names_of(catalogs, outcome.lists)]
    words += [*gone, *conversion.reading]
    logger.info(f"for a recipe: {shlex.join(words)}")
    return outcome


def sets_to_convert(arguments: argparse.Namespace) -> list[tuple[str, Data]]:
    """Return each list that the arguments name, with the settings to read it and the class names next to it.

    Unreadable videos are left out and reported, however many there are.
    """
    return [
        (source, with_names_beside(source, replace(data, max_bad_fraction=1.0))) for source, data in datasets(arguments)
    ]


def names_of(catalogs: Sequence[Catalog], lists: Sequence[Path]) -> list[str]:
    """Return the setting of the class names of new lists, if all have the same."""
    names = {catalog.class_names for catalog in catalogs}
    return [f"data.class_names={classes_file(lists[0])}"] if len(names) == 1 and names != {()} else []


def summary(outcome: Outcome, out: Path) -> list[str]:
    """Return the lines of the summary."""
    records = outcome.records
    before, after = (
        sum(sizes) / 1e6 for sizes in zip(*((r["source"]["size"], r["bytes"]) for r in records), strict=True)
    )
    lines = [
        f"{out}: {len(records)} videos, {outcome.made} of them new; "
        f"{before:.1f} MB became {after:.1f} MB ({100 * after / before:.0f} %)"
    ]
    changes = Counter(change for record in records for change in record["changes"])
    lines += [f"{out}: {count} {change}" for change, count in changes.most_common()]
    if outcome.left_out:
        lines.append(f"{out}: {len(outcome.left_out)} rows left out; the reasons are in {out / LEFT_OUT}")
    return [*lines, f"{out}: lists {', '.join(new.name for new in outcome.lists)}; every result is in {DONE}"]
