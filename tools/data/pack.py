"""Pack the videos of lists into tar shards, with lists that name the members, and catalogues: nothing is scanned again.

The shards are plain tar files, which tar, WebDataset and DALI read. They, the lists and the catalogues may be copied
elsewhere together. The bytes of the videos stay as they are. Shards of an earlier run are kept. docs/storage.md tells
when shards are of use.
"""

from __future__ import annotations

import argparse
import logging
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from configs import ConfigError
from configs.progress import watched
from configs.schema import Data
from dali_pipes.device import usable_cores
from dali_pipes.errors import DataError
from dali_pipes.lists.formats.source import split_of
from dali_pipes.lists.listing import read_list
from dali_pipes.lists.writing import ListedRow, as_json_lines, classes_text, list_text
from dali_pipes.scan.build import load_catalog, publish
from dali_pipes.scan.catalog import Catalog, Entry
from dali_pipes.scan.parts import find_parts
from dali_pipes.scan.place import ScanPlace
from engine.outputs import RECORD, Outputs, add_force_argument
from tools.data.arguments import add_dataset_arguments, datasets
from tools.data.conversion.convert import DONE, LEFT_OUT, classes_file, workplace
from tools.data.conversion.files import LOCK, FinishedResults, list_name, refuse_conflicts
from tools.data.conversion.shards import MB, Shard, plan_shards
from tools.data.write_lists import by_split

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder for shards and lists")
    parser.add_argument("--shard-size", type=int, default=1000, metavar="MB", help="of a shard (%(default)s)")
    add_force_argument(parser)


def run(arguments: argparse.Namespace) -> None:
    if arguments.shard_size < 1:
        raise ConfigError(f"--shard-size: {arguments.shard_size} is too small; 1 is the least")
    sets = [(source, replace(data, max_bad_fraction=1.0)) for source, data in datasets(arguments)]
    catalogs = [load_catalog(source, data) for source, data in sets]
    for catalog in catalogs:
        _refuse_folders_of_frames(catalog)
    shards = {catalog.source: plan_shards(catalog, arguments.shard_size * MB) for catalog in catalogs}
    lists = {catalog.source: arguments.out / list_name(catalog.source) for catalog in catalogs}
    sources = [arguments.config, *(data.class_names for _, data in sets), *(split_of(name)[0] for name in lists)]
    sources += [member.source.path for of_list in shards.values() for shard in of_list for member in shard.members]
    outputs = Outputs(sources, arguments.force)
    with workplace(arguments.out) as unfinished:
        made = _write_shards(
            arguments.out, [shard for of_list in shards.values() for shard in of_list], outputs, unfinished, lists
        )
        left_out = [entry for catalog in catalogs for entry in _left_out(catalog)]
        outputs.write({arguments.out / LEFT_OUT: as_json_lines(left_out)})
        for catalog in catalogs:
            _write_list(catalog, lists[catalog.source], shards[catalog.source], outputs)
    total = sum(len(of_list) for of_list in shards.values())
    logger.info(
        f"{arguments.out}: {total} shards, {made} of them new; lists {', '.join(file.name for file in lists.values())}"
    )
    if left_out:
        logger.info(f"{arguments.out}: {len(left_out)} rows left out; the reasons are in {arguments.out / LEFT_OUT}")
    logger.info(f"for a recipe: {shlex.join([f'data.root={arguments.out}', *by_split(lists.values())])}")


def _refuse_folders_of_frames(catalog: Catalog) -> None:
    for row in catalog.usable[:1].tolist():
        if catalog.video(row).access == "frames":
            raise DataError(catalog.source, "names folders of pictures, which shards cannot hold; pack video files")


def _left_out(catalog: Catalog) -> Iterator[dict]:
    for bad in catalog.unreadable:
        yield {"path": bad.path, "label": int(catalog.label_N[bad.row]), "reason": bad.reason}


def _write_shards(out: Path, shards: list[Shard], outputs: Outputs, unfinished: Path, lists: dict[str, Path]) -> int:
    """Write the shards that are not there yet, and return their number."""
    files = [out / name for shard in shards for name in (shard.name, shard.index_name)]
    others = [file for new in lists.values() for file in (new, classes_file(new))]
    refuse_conflicts([], [*files, *others, *(out / name for name in (DONE, LEFT_OUT, LOCK, RECORD))], out)
    outputs.check(*others, out / LEFT_OUT)
    finished = FinishedResults(out / DONE, out, {}, outputs)
    todo = [shard for shard in shards if not all(finished.has(shard, name) for name in (shard.name, shard.index_name))]
    for shard in todo:
        for name in (shard.name, shard.index_name):
            finished.check(shard.path, name)
    for shard in watched(todo, len(todo), "packing"):
        index = unfinished / shard.index_name
        index.write_text(shard.write(unfinished / shard.name), encoding="utf-8", errors="surrogateescape")
        for made in (index, unfinished / shard.name):  # a shard without its index would have another stamp
            finished.place(shard, made.name, made, {})
    return len(todo)


def _write_list(catalog: Catalog, new: Path, shards: list[Shard], outputs: Outputs) -> None:
    """Write the list of the members that hold a catalogue's videos, and the catalogue of that list."""
    out = new.parent
    names = {member.source.path: f"{shard.name}/{member.name}" for shard in shards for member in shard.members}
    rows = [
        ListedRow(names[catalog.path(row)], 0, int(catalog.label_N[row]), catalog.window(row))
        for row in catalog.usable.tolist()
    ]
    texts = {new: list_text(new, rows)}
    if catalog.class_names:
        texts[classes_file(new)] = classes_text(catalog.class_names)
    outputs.write(texts)
    listing = read_list(str(new))
    entries = dict(_entries(catalog, out, shards))
    with ScanPlace.of(str(new), Data()).locked() as folder:
        found = [entries[listing.paths[row]] for row in listing.distinct.tolist()]
        publish(folder, listing, found, find_parts(listing, lambda number: found[number].outcome, usable_cores()))


def _entries(catalog: Catalog, out: Path, shards: list[Shard]) -> Iterator[tuple[str, Entry]]:
    """Yield the path of each member, as a list names it, and what a scan of it would find."""
    for shard in shards:
        index = shard.read_index(out)
        for member in shard.members:
            start, size = index.members[member.name]
            path = f"{shard.name}/{member.name}"
            video = replace(member.source, path=str(out / path), mtime_ns=index.stamp, start_byte=start)
            yield path, Entry(size, index.stamp, member.check, video)
