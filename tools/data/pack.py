"""Pack the videos of lists into tar shards, with lists that name the members, and catalogues: nothing is scanned again.

The shards are plain tar files, which tar, WebDataset and DALI read. They, the lists and the catalogues may be copied
elsewhere together, or written into a store at once. The bytes of the videos stay as they are. Shards of an earlier run
are kept. docs/storage.md tells when shards are of use.
"""

from __future__ import annotations

import argparse
import logging
import shlex
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from configs.cli import at_least
from configs.progress import with_progress
from configs.schema import Data
from dali_pipes.device import usable_cores
from dali_pipes.errors import DataError
from dali_pipes.lists.listing import read_list
from dali_pipes.lists.split import counted
from dali_pipes.lists.writing import ListedRow, as_json_lines, classes_text, list_text
from dali_pipes.scan.build import load_catalog, publish
from dali_pipes.scan.catalog import Catalog, Entry
from dali_pipes.scan.parts import find_parts
from dali_pipes.scan.place import CATALOG, ScanPlace
from dali_pipes.storage.objects import is_url
from dali_pipes.storage.opening import read_all
from dali_pipes.storage.shards import Index, parse_index, stamp_of
from engine.files import named
from engine.output_record import RECORD
from engine.outputs import Outputs, add_force_argument, refuse_inside
from tools.data.arguments import add_dataset_arguments
from tools.data.conversion.command import names_of, sets_to_convert
from tools.data.conversion.convert import DONE, LEFT_OUT, classes_file, workplace
from tools.data.conversion.files import LOCK, FinishedResults, list_name, refuse_conflicts
from tools.data.conversion.shards import MB, Shard, plan_shards
from tools.data.conversion.uploads import StoredResults
from tools.data.write_lists import by_split

logger = logging.getLogger(__name__)


class Job(NamedTuple):
    """A list to pack: its catalogue, the shards to make of it, and the name of the new list."""

    catalog: Catalog
    shards: list[Shard]
    name: str

    @property
    def classes_name(self) -> str:
        return classes_file(Path(self.name)).name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset_arguments(parser)
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder for shards and lists, or URL of one")
    parser.add_argument("--shard-size", type=at_least(1), default=1000, metavar="MB", help="of a shard (%(default)s)")
    add_force_argument(parser)


def run(arguments: argparse.Namespace) -> None:
    sets = sets_to_convert(arguments)
    catalogs = [load_catalog(source, data) for source, data in sets]
    for catalog in catalogs:
        _refuse_folders_of_frames(catalog)
    jobs = [
        Job(catalog, plan_shards(catalog, arguments.shard_size * MB), list_name(catalog.source)) for catalog in catalogs
    ]
    out = arguments.out.rstrip("/") or "/"
    if is_url(out):
        made = _pack_into_store(out, jobs, arguments.force)
    else:
        sources = [arguments.config, *(data.class_names for _, data in sets), *(catalog.source for catalog in catalogs)]
        refuse_inside(Path(out), sources)
        sources += [member.source.path for shard in _shards(jobs) for member in shard.members]
        made = _pack_into_folder(Path(out), jobs, Outputs(sources, arguments.force))
    lists = [job.name for job in jobs]
    logger.info(f"{out}: {counted(len(_shards(jobs)), 'shard')}, {made} of them new; lists {', '.join(lists)}")
    if left_out := sum(len(catalog.unreadable) for catalog in catalogs):
        logger.info(f"{out}: {left_out} rows left out; the reasons are in {out}/{LEFT_OUT}")
    words = by_split(map(Path, lists))
    words += [] if is_url(out) else names_of(catalogs, [Path(name) for name in lists])
    splits = [word.replace("=", f"={out}/", 1) for word in words]
    logger.info(f"for a recipe: {shlex.join([f'data.root={out}', *splits])}")


def _shards(jobs: list[Job]) -> list[Shard]:
    return [shard for job in jobs for shard in job.shards]


def _refuse_folders_of_frames(catalog: Catalog) -> None:
    for row in catalog.usable[:1].tolist():
        if catalog.video(row).access == "frames":
            raise DataError(catalog.source, "names folders of pictures, which shards cannot hold; pack video files")


def _left_out(jobs: list[Job]) -> str:
    """Return the lines about rows that are not in the new lists."""
    return as_json_lines(
        {"path": bad.path, "label": int(job.catalog.label_N[bad.row]), "reason": bad.reason}
        for job in jobs
        for bad in job.catalog.unreadable
    )


def _pack_into_folder(out: Path, jobs: list[Job], outputs: Outputs) -> int:
    """Write the shards that are not there yet, then the lists; return the number of new shards."""
    shards = _shards(jobs)
    with workplace(out) as unfinished:
        files = [out / name for shard in shards for name in (shard.name, shard.index_name)]
        others = [out / name for job in jobs for name in (job.name, job.classes_name)]
        refuse_conflicts([], [*files, *others, *(out / name for name in (DONE, LEFT_OUT, LOCK, RECORD))], out)
        outputs.check(*others, out / LEFT_OUT)
        finished = FinishedResults(out / DONE, out, {}, outputs)
        made = _write_shards(shards, finished, unfinished)
        outputs.write({out / LEFT_OUT: _left_out(jobs)})
        for job in jobs:
            _write_list(job, out, str(out), {shard.name: shard.read_index(out) for shard in job.shards}, outputs)
    return made


def _write_shards(shards: list[Shard], finished: FinishedResults, unfinished: Path) -> int:
    """Write the shards that are not there yet, and return their number."""
    todo = [shard for shard in shards if not all(finished.has(shard, name) for name in (shard.name, shard.index_name))]
    for shard in todo:
        for name in (shard.name, shard.index_name):
            finished.check(shard.path, name)
    for shard in with_progress(todo, len(todo), "packing"):
        index = unfinished / shard.index_name
        with named(unfinished.parent / shard.name), (unfinished / shard.name).open("xb", buffering=0) as file:
            index.write_text(shard.write(file), encoding="utf-8", errors="surrogateescape")
        for made in (index, unfinished / shard.name):  # a shard without its index would have another stamp
            finished.place(shard, made.name, made, {})
    return len(todo)


def _pack_into_store(out: str, jobs: list[Job], force: bool) -> int:
    """Write the shards that are not below the URL yet, then the lists; return the number of new shards."""
    shards = _shards(jobs)
    files = [f"{job.name}.scan/{CATALOG}" for job in jobs]
    files += [job.classes_name for job in jobs if job.catalog.class_names]
    files += [LEFT_OUT, *(job.name for job in jobs)]  # the lists come last: what they name is there
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        names = [*(name for shard in shards for name in (shard.index_name, shard.name)), *files]
        refuse_conflicts([], [here / name for name in (DONE, *names)], here)
        stored = StoredResults(out, names, force)
        todo = [shard for shard in shards if not all(stored.has(shard, n) for n in (shard.name, shard.index_name))]
        stored.begin()
        indices = {shard.name: _stored_index(stored, shard) for shard in shards if shard not in todo}
        for shard in with_progress(todo, len(todo), "packing"):
            text = stored.write(shard.name, shard, shard.write).encode("utf-8", "surrogateescape")
            stored.write(shard.index_name, shard, lambda upload, text=text: upload.write(text))
            indices[shard.name] = _index(text, stored.size(shard.name))
        outputs = Outputs()
        outputs.write({here / LEFT_OUT: _left_out(jobs)})
        for job in jobs:
            _write_list(job, here, out, indices, outputs)
        for name in files:
            stored.put(name, (here / name).read_bytes())
    return len(todo)


def _stored_index(stored: StoredResults, shard: Shard) -> Index:
    return _index(read_all(f"{stored.out}/{shard.index_name}"), stored.size(shard.name))


def _index(text: bytes, size: int) -> Index:
    return Index.of(parse_index(text.decode("utf-8", "surrogateescape"), size), stamp_of(text, size))


def _write_list(job: Job, folder: Path, out: str, indices: dict[str, Index], outputs: Outputs) -> None:
    """Write the list of the members that hold a catalogue's videos, and the catalogue of that list, into a folder.

    `out`: the folder or URL of the shards.
    """
    catalog, new = job.catalog, folder / job.name
    names = {member.source.path: f"{shard.name}/{member.name}" for shard in job.shards for member in shard.members}
    rows = [
        ListedRow(names[catalog.path(row)], 0, int(catalog.label_N[row]), catalog.span(row))
        for row in catalog.usable.tolist()
    ]
    texts = {new: list_text(new, rows)}
    if catalog.class_names:
        texts[folder / job.classes_name] = classes_text(catalog.class_names)
    outputs.write(texts)
    listing = read_list(str(new), Data(root=out))
    entries = dict(_entries(job.shards, out, indices))
    with ScanPlace.of(str(new), Data()).locked() as scan:
        found = [entries[listing.paths[row]] for row in listing.distinct.tolist()]
        publish(scan, listing, found, find_parts(listing, lambda number: found[number].outcome, usable_cores()))


def _entries(shards: list[Shard], out: str, indices: dict[str, Index]) -> Iterator[tuple[str, Entry]]:
    """Yield the path of each member, as a list names it, and what a scan of it would find."""
    for shard in shards:
        index = indices[shard.name]
        for member in shard.members:
            start, size = index.members[member.name]
            path = f"{shard.name}/{member.name}"
            video = replace(member.source, path=f"{out}/{path}", mtime_ns=index.stamp, start_byte=start)
            yield path, Entry(size, index.stamp, member.check, video)
