"""Packing: shards that other programs read, lists and catalogues that need no scan, and no loss after a kill."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from configs.schema import Data
from dali_pipes.lists.listing import read_list
from dali_pipes.scan import build
from dali_pipes.scan.build import load_catalog
from tests.support.memory import limited_file_size
from tests.support.paths import ROOT
from tests.support.storage.packing import NAMES, assert_cuts_equal, pack, packed_set, refuse_to_scan, write_set
from tests.support.videos import write_video
from tools.data.conversion import files


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return packed_set(tmp_path_factory.mktemp("pack"))


def test_a_packed_set_equals_its_source_and_needs_no_scan_after_moving(packed, tmp_path, monkeypatch):
    source, out = packed
    plain = load_catalog(str(source), Data(max_bad_fraction=1))
    moved = shutil.copytree(out, tmp_path / "moved", copy_function=shutil.copyfile)  # with new times
    monkeypatch.setattr(build, "call_all", refuse_to_scan)
    for folder in (out, moved):
        catalog = load_catalog(str(folder / "train.list"), Data())
        assert catalog.base == str(folder) and len(catalog.usable) == len(catalog) == 5
        assert catalog.label_N.tolist() == [0, 0, 0, 1, 0]
        assert_cuts_equal(catalog, plain)


def test_a_file_system_without_sendfile_gets_the_same_shards(packed, tmp_path, monkeypatch):
    def refused(out, source, offset, count):
        if offset or (calls.append(source) or len(calls)) % 2:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return sendfile(out, source, offset, min(count, 1000))

    calls, sendfile = [], os.sendfile
    monkeypatch.setattr(os, "sendfile", refused)
    source, out = write_set(tmp_path), tmp_path / "out"
    load_catalog(str(source), Data(max_bad_fraction=1))
    assert pack(source, out) == 0 and calls
    shards = sorted(out.rglob("*.tar"))
    assert [shard.read_bytes() for shard in shards] == [
        shard.read_bytes() for shard in sorted(packed[1].rglob("*.tar"))
    ]


def test_a_full_disk_is_reported_with_the_shard_and_the_next_start_continues(tmp_path, capsys):
    source, out = write_set(tmp_path), tmp_path / "out"
    load_catalog(str(source), Data(max_bad_fraction=1))
    with limited_file_size(1 << 13):
        assert pack(source, out) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    (shard,) = [word for word in said.split(": ") if word.endswith(".tar")]
    assert said == f"prepare.py pack: {shard}: File too large; make room and start again" and out == Path(shard).parent
    assert pack(source, out) == 0


def test_members_have_the_bytes_of_their_sources_and_names_that_others_can_divide(packed):
    source, out = packed
    rows = dict(line.rsplit(" ", 1) for line in (out / "train.list").read_text().splitlines())
    of_members = {path: read for path in rows for read in [member(out, path)]}
    assert sorted(of_members.values()) == sorted((source.parent / name).read_bytes() for name in NAMES[:-1])
    assert sorted(path.partition(".tar/")[2] for path in rows) == [
        "run/two.avi",
        "walk/a_b_c-2.mp4",
        "walk/a_b_c.mp4",
        "walk/one.mp4",
    ]


def member(folder, path):
    shard, _, name = path.partition(".tar/")
    with tarfile.open(folder / f"{shard}.tar") as archive:
        return archive.extractfile(name).read()


def test_the_folder_of_shards_is_a_list_too(packed):
    _, out = packed
    listing = read_list(str(out))
    assert listing.format == "webdataset"
    as_packed = read_list(str(out / "train.list"))
    labels = dict(zip(as_packed.paths, as_packed.label_N.tolist(), strict=True))
    assert dict(zip(listing.paths, listing.label_N.tolist(), strict=True)) == labels


def test_tar_and_dali_read_the_shards_by_their_index(packed):
    from nvidia.dali import fn, pipeline_def

    _, out = packed
    shards = sorted(out.glob("*.tar"))
    names = subprocess.run(["tar", "tf", shards[0]], capture_output=True, text=True, check=True).stdout.split()
    with tarfile.open(shards[0]) as archive:
        assert names == archive.getnames()

    @pipeline_def(batch_size=1, num_threads=1, device_id=None)
    def samples():
        paths, indices = [str(shard) for shard in shards], [str(shard.with_suffix(".idx")) for shard in shards]
        return tuple(fn.readers.webdataset(paths=paths, index_paths=indices, ext=["mp4;avi", "cls"]))

    pipeline = samples()
    pipeline.build()
    seen = [[bytes(np.asarray(part[0])) for part in pipeline.run()] for _ in range(4)]
    listing = read_list(str(out))
    wanted = [(member(out, path), b"%d" % label) for path, label in zip(listing.paths, listing.label_N, strict=True)]
    assert sorted(map(tuple, seen)) == sorted(wanted)


def test_packing_again_writes_only_missing_or_changed_shards(packed, tmp_path, caplog):
    source, out = packed
    out = Path(shutil.copytree(out, tmp_path / "again"))
    before = {path.name: path.read_bytes() for path in out.glob("*.tar")}
    first, second, *_ = sorted(out.glob("*.tar"))
    first.unlink()
    second.with_suffix(".idx").unlink()
    assert pack(source, out) == 0
    assert f"{len(before)} shards, 2 of them new" in caplog.text
    assert {path.name: path.read_bytes() for path in out.glob("*.tar")} == before
    load_catalog(str(out / "train.list"), Data())


def test_a_file_of_the_user_is_not_replaced(packed, tmp_path, capsys):
    source, out = packed
    shard = tmp_path / next(out.glob("*.tar")).name
    shard.write_text("mine")
    assert pack(source, tmp_path) == 2
    assert "is in the way" in capsys.readouterr().err
    assert shard.read_text() == "mine"
    assert pack(source, tmp_path, "--force") == 0
    assert shard.read_bytes() != b"mine"


def test_a_large_shard_is_recognised_by_its_first_and_last_bytes(packed, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(files, "_LARGE", 1000)
    monkeypatch.setattr(files, "_END", 100)
    source, _ = packed
    for damaged, code in ((None, 0), (-1, 2)):
        assert pack(source, tmp_path) == 0
        shard = next(tmp_path.glob("*.tar"))
        status = shard.stat()
        shard.with_suffix(".idx").unlink()
        if damaged:
            content = bytearray(shard.read_bytes())
            content[damaged] ^= 1
            shard.write_bytes(content)
            os.utime(shard, ns=(status.st_mtime_ns, status.st_mtime_ns))
        assert pack(source, tmp_path) == code
    assert "is in the way" in capsys.readouterr().err


def test_a_video_that_changes_after_the_scan_stops_the_work(packed, tmp_path, monkeypatch, capsys):
    source = write_set(tmp_path / "set")
    catalog = load_catalog(str(source), Data(max_bad_fraction=1))
    os.utime(tmp_path / "set" / NAMES[0], ns=(1, 1))
    monkeypatch.setattr("tools.data.pack.load_catalog", lambda *_: catalog)
    assert pack(source, tmp_path / "out") == 2
    assert f"{NAMES[0]}: changed since the scan; start again to scan it and go on" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("train.list"))


@pytest.mark.slow
def test_packing_survives_twenty_kills(tmp_path):
    """Each kill comes a little later than the one before; the final shards are those of a run without kills."""
    folder = tmp_path / "set"
    folder.mkdir()
    write_video(folder / "0.mp4", "mpeg4", 200, size=(240, 320))
    for number in range(1, 200):
        shutil.copyfile(folder / "0.mp4", folder / f"{number}.mp4")
    (folder / "train.list").write_text("".join(f"{number}.mp4 0\n" for number in range(200)))
    command = [sys.executable, "tools/prepare.py", "pack", str(folder / "train.list"), "--shard-size", "2", "--out"]
    subprocess.run([*command, str(tmp_path / "whole")], cwd=ROOT, check=True, capture_output=True)
    out, rng, kills = tmp_path / "killed", random.Random(0), 0
    while kills < 20:
        process = subprocess.Popen([*command, str(out)], cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
        begun = len(list(out.glob("*.tar")))
        while process.poll() is None and len(list(out.glob("*.tar"))) == begun and not list(out.glob(".tmp-*/*.tar")):
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.02))
        if process.poll() is not None:  # everything is packed: start again
            shutil.rmtree(out)
            continue
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    subprocess.run([*command, str(out)], cwd=ROOT, check=True, capture_output=True)
    for kind in ("*.tar", "*.idx", "train.list"):
        made, wanted = (
            {path.name: path.read_bytes() for path in place.glob(kind)} for place in (out, tmp_path / "whole")
        )
        assert made == wanted
    assert not list(out.glob(".tmp-*"))
    for line in (out / "done.jsonl").read_text().splitlines():
        json.loads(line)
