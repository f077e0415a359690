"""Index every video of a list once, in parallel, in a catalogue next to the list."""

from __future__ import annotations

import argparse

from dali_pipes.scan.build import load_catalog
from tools.data.arguments import add_dataset_arguments, datasets


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    for source, data in datasets(arguments):
        load_catalog(source, data)
