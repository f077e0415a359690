"""Decode the videos of lists, and list those that cannot be used with the reason. Changes and deletes nothing.

Decodes the first and the last group of pictures of each, or with --full every frame. A file that was checked before, at
least as thoroughly, is not checked again until it changes. Exit code 1 if a video cannot be used.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import replace

from dali_pipes.lists.split import counted
from dali_pipes.scan import summary
from dali_pipes.scan.build import load_catalog
from dali_pipes.scan.catalog import Catalog
from tools.data.arguments import add_dataset_arguments, datasets


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset_arguments(parser)
    parser.add_argument("--full", dest="check", action="store_const", const="full", help="decode every frame")
    parser.set_defaults(check="ends")


def run(arguments: argparse.Namespace) -> int:
    sets = [
        (source, replace(data, check=arguments.check, max_bad_fraction=1.0)) for source, data in datasets(arguments)
    ]
    bad = [report(load_catalog(source, data)) for source, data in sets]
    return 1 if sum(bad) else 0


def report(catalog: Catalog) -> int:
    """Print the unusable videos by reason, the most frequent first; returns their number."""
    paths = defaultdict(list)
    for _, path, reason in summary.bad_files(catalog):
        paths[reason].append(path)
    for reason, sharing in sorted(paths.items(), key=lambda item: -len(item[1])):
        print(f"{counted(len(sharing), 'video')}: {reason}")
        print("".join(f"    {path}\n" for path in sharing), end="")
    return sum(map(len, paths.values()))
