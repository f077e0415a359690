"""Index every video of a list once, in parallel, in a catalogue next to the list."""

from __future__ import annotations

import argparse
import logging

from dali_pipes.feed.choice import on_a_gpu
from dali_pipes.scan.build import load_catalog
from tools.data.arguments import add_dataset_arguments, datasets

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    for source, data in datasets(arguments):
        catalog = load_catalog(source, data)
        logger.info(f"{source}: on a GPU: {on_a_gpu(catalog)}")
