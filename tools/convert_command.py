"""What the commands that convert whole sets have in common: their arguments, and what is said at the end."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from dali_pipes.progress import say
from dali_pipes.scan.build import load_catalog
from tools.convert import DONE, LEFT_OUT, Conversion, Outcome, convert_all
from tools.dataset_arguments import add_dataset_arguments, datasets
from tools.list_files import by_split


def add_conversion_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which lists, where to, and how many at once."""
    add_dataset_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the new tree and lists go")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes (%(default)s)")


def convert_datasets(arguments: argparse.Namespace, conversion: Conversion) -> Outcome:
    """Scan and convert the sets that the arguments name, and say what came of it."""
    console = Console(stderr=True)
    # However many videos are bad: they are left out, and named.
    sets = [(source, replace(data, max_bad_fraction=1.0)) for source, data in datasets(arguments)]
    catalogs = [load_catalog(source, data, workers=arguments.workers, console=console) for source, data in sets]
    outcome = convert_all(catalogs, arguments.out, conversion, arguments.workers, console)
    for line in summary(outcome, arguments.out):
        say(console, line)
    gone = [f"data.{key}=" for key in ("prefix", "suffix") if any(getattr(data, key) for _, data in sets)]
    words = [f"data.root={arguments.out}", *by_split(outcome.lists), *gone, *conversion.reading]
    say(console, f"for a recipe: {' '.join(words)}")
    return outcome


def summary(outcome: Outcome, out: Path) -> list[str]:
    """What there is now, in a few lines."""
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
