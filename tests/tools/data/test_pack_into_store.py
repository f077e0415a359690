"""Packing into a store: the shards of a folder, no partial objects, and nothing written twice."""

import shutil
import signal
import subprocess
import sys

import pytest

pytest.importorskip("obstore", reason="needs the extra `store`")

from benchmarks.harness.store_server import CUT, serving
from configs.schema import Data
from dali_pipes.scan import build
from dali_pipes.scan.build import load_catalog
from dali_pipes.storage import faults
from tests.support.paths import ROOT
from tests.support.storage.packing import assert_cuts_equal, pack, packed_set, refuse_to_scan

FORBIDDEN = 403


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return packed_set(tmp_path_factory.mktemp("pack"))


@pytest.fixture
def store(tmp_path):
    (tmp_path / "store").mkdir()
    with serving(tmp_path / "store") as store:
        yield store


def content(folder):
    """Return the content of the shards, indices and lists of a folder, by name."""
    kinds = (".tar", ".idx", ".list")
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in kinds}


def written(store):
    """Return the names of the objects written since the server was reset."""
    return [request.path.removeprefix("out/") for request in store.requests if request.method == "PUT"]


def test_packing_into_a_store_equals_packing_into_a_folder(packed, store, tmp_path, monkeypatch):
    source, folder = packed
    assert pack(source, f"{store.url}/out") == 0
    assert content(store.folder / "out") == content(folder)
    assert written(store)[-1] == "train.list"  # written last, when all files that it names exist
    monkeypatch.setattr(build, "call_all", refuse_to_scan)
    there = load_catalog(f"{store.url}/out/train.list", Data(cache=str(tmp_path / "cache")))
    here = load_catalog(str(folder / "train.list"), Data())
    assert there.label_N.tolist() == here.label_N.tolist()
    assert_cuts_equal(there, here)


def test_shards_already_in_the_store_are_not_written_again(packed, store, caplog):
    source, folder = packed
    assert pack(source, f"{store.url}/out") == 0
    shards = len(list(folder.glob("*.tar")))
    (store.folder / "out" / "train-000001.tar").unlink()
    (store.folder / "out" / "train-000002.idx").write_text("changed")
    store.reset()
    caplog.clear()
    assert pack(source, f"{store.url}/out", "--force") == 0
    assert f"{shards} shards, 2 of them new" in caplog.text
    tars = [name for name in written(store) if name.endswith(".tar")]
    assert tars == ["train-000001.tar", "train-000002.tar"]
    assert content(store.folder / "out") == content(folder)


def test_a_failing_store_loses_nothing_and_the_next_run_continues(packed, store, monkeypatch, capsys):
    source, folder = packed
    second = "PUT", "out/train-000001.tar"
    store.fault = lambda number: FORBIDDEN if store.requests[number][:2] == second else None
    assert pack(source, f"{store.url}/out") != 0
    assert "access is denied (403)" in capsys.readouterr().err
    assert set(content(store.folder / "out")) == {"train-000000.tar", "train-000000.idx"}
    store.reset()
    assert pack(source, f"{store.url}/out") == 0
    assert "train-000000.tar" not in written(store)
    assert content(store.folder / "out") == content(folder)


def test_lost_responses_of_the_store_are_retried(packed, store, monkeypatch):
    monkeypatch.setattr(faults, "PAUSES", (0.01,) * 20)
    source, folder = packed
    store.fault = lambda number: {1: 503, 2: CUT}.get(number % 4)
    assert pack(source, f"{store.url}/out") == 0
    assert content(store.folder / "out") == content(folder)


def test_an_object_of_the_user_is_not_replaced(packed, store, capsys):
    source, folder = packed
    mine = store.folder / "out" / "train-000000.tar"
    mine.parent.mkdir()
    mine.write_text("mine")
    assert pack(source, f"{store.url}/out") == 2
    assert "is in the way" in capsys.readouterr().err
    assert (mine.read_text(), written(store)) == ("mine", [])
    assert pack(source, f"{store.url}/out", "--force") == 0
    assert content(store.folder / "out") == content(folder)


def test_a_changed_video_makes_its_shard_anew(packed, store, tmp_path):
    source, _ = packed
    shutil.copytree(source.parent, tmp_path / "set", ignore=shutil.ignore_patterns("*.scan"))
    source = tmp_path / "set" / "train.list"
    assert pack(source, f"{store.url}/out") == 0
    video = source.parent / "run" / "two.avi"
    shutil.copyfile(video, tmp_path / "copy.avi")
    shutil.move(tmp_path / "copy.avi", video)
    store.reset()
    assert pack(source, f"{store.url}/out") == 0
    assert len([name for name in written(store) if name.endswith(".tar")]) == 1


def test_a_kill_leaves_no_half_of_a_shard(packed, store):
    source, folder = packed
    second = "PUT", "out/train-000001.tar"
    words = f"from tests.support.storage.packing import pack; pack({str(source)!r}, {store.url + '/out'!r})"
    store.lateness = lambda number: 3600.0 * (store.requests[number][:2] == second)
    process = subprocess.Popen([sys.executable, "-c", words], cwd=ROOT, stderr=subprocess.DEVNULL)
    while not any(request[:2] == second for request in store.requests):
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert set(content(store.folder / "out")) == {"train-000000.tar", "train-000000.idx"}
    store.reset()
    assert pack(source, f"{store.url}/out") == 0
    assert "train-000000.tar" not in written(store)
    assert content(store.folder / "out") == content(folder)
