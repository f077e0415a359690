"""Split a table of videos into a training and a held-out list, whole groups on one side."""

from __future__ import annotations

import argparse
import csv
import random
from collections import defaultdict
from pathlib import Path

from dali_pipes import DataError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", type=Path, help="CSV with a header: path, label and the column of --group")
    parser.add_argument("--group", required=True, help="column whose equal values stay on one side")
    parser.add_argument("--held-out", type=float, default=0.2, help="fraction of the videos (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder for the lists")


def run(arguments: argparse.Namespace) -> None:
    try:
        counts = split_table(arguments.table, arguments.group, arguments.held_out, arguments.out, arguments.seed)
    except (OSError, ValueError) as error:
        raise DataError(str(error)) from error
    print(f"{counts['train']} videos to train on and {counts['val']} held out, lists in {arguments.out}")


def split_table(table: Path, group: str, held_out: float, out: Path, seed: int = 0) -> dict[str, int]:
    """Write `train.list`, `val.list` and `classes.txt` to `out`; returns how many videos each list has.

    `table` is CSV with a header that has `path`, `label` (a name) and the column `group`. Groups go to the held-out
    side in an order of `seed`'s until it has the fraction `held_out`; labels are numbered by name. Raises ValueError
    naming what the table lacks.
    """
    with table.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    missing = {"path", "label", group} - set(rows[0] if rows else ())
    if missing:
        raise ValueError(f"{table}: no column {', '.join(sorted(missing))}, or no rows")
    members = defaultdict(list)
    for row in rows:
        members[row[group]].append(row)
    names = sorted(members)
    random.Random(seed).shuffle(names)

    lists: dict[str, list[dict]] = {"val": [], "train": []}
    for name in names:
        lists["val" if len(lists["val"]) < held_out * len(rows) else "train"] += members[name]
    classes = sorted({row["label"] for row in rows})
    out.mkdir(parents=True, exist_ok=True)
    for split, members_of in lists.items():
        lines = sorted(f"{row['path']} {classes.index(row['label'])}\n" for row in members_of)
        (out / f"{split}.list").write_text("".join(lines))
    (out / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    return {split: len(rows) for split, rows in lists.items()}
