"""Batches from a store: equal to those from files, with requests far ahead and a limit on memory."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import pytest
import torch

pytest.importorskip("obstore", reason="needs the extra `store`")

from benchmarks.harness.store_server import serving
from configs.schema import Clip, Config, Data, Model, Runtime, Train
from dali_pipes.feed import feeder
from dali_pipes.feed.fetcher import Fetcher
from dali_pipes.scan.build import load_catalog
from dali_pipes.storage import fetch
from dali_pipes.storage.faults import StorageFault
from dali_pipes.storage.memory_budget import MemoryBudget
from tests.support.loading import build_loader
from tests.support.paths import ROOT
from tests.support.videos import write_video

VIDEOS = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fetcher") / "videos"
    folder.mkdir()
    for number in range(VIDEOS):
        write_video(folder / f"{number}.mp4", "mpeg4", 24 + number, gop=4)
    rows = "".join(f"{number}.mp4 {number % 3}\n" for number in range(VIDEOS))
    for name in ("here.list", "there.list"):
        (folder.parent / name).write_text(rows)
    return folder


@pytest.fixture(scope="module")
def store(folder):
    with serving(folder) as store:
        load_catalog(str(folder.parent / "there.list"), Data(root=store.url), workers=1)
        load_catalog(str(folder.parent / "here.list"), Data(root=str(folder)), workers=1)
        yield store


def loader(folder, root, name, **data):
    config = Config(
        model=Model(frames=4, num_classes=3),
        data=Data(train=str(folder.parent / name), root=root, decoder="pyav", **data),
        clip=Clip(size=32),
        train=Train(name="x", batch=4, epochs=9),
        runtime=Runtime(device="cpu", precision="fp32", threads=2),
    )
    return build_loader(config, "train")


@pytest.mark.parametrize("ahead", [0, 5, 512])
def test_batches_of_a_store_are_those_of_files(folder, store, monkeypatch, ahead):
    monkeypatch.setattr(feeder, "CLIPS_AHEAD", ahead)
    store.reset()
    here, there = loader(folder, str(folder), "here.list"), loader(folder, store.url, "there.list")
    for epoch in range(2):
        for mine, plain in zip(there.epoch(epoch), here.epoch(epoch), strict=True):
            assert torch.equal(mine.clips_BVTCHW, plain.clips_BVTCHW)
            assert torch.equal(mine.label_B, plain.label_B)
    assert not there.unreadable
    here.close(), there.close()


def test_requests_are_under_way_before_batches_are_asked_for(folder, store):
    store.reset()
    there = loader(folder, store.url, "there.list")
    next(iter(there.epoch(0)))
    for _ in range(500):
        if len({request.path for request in store.requests}) == VIDEOS:
            break
        threading.Event().wait(0.01)
    assert len({request.path for request in store.requests}) == VIDEOS
    there.close()


def test_a_refusal_by_the_store_stops_the_epoch_and_marks_no_video(folder, store):
    store.reset()
    there = loader(folder, store.url, "there.list")
    store.fault = lambda number: 403 if number > 5 else None
    with pytest.raises(StorageFault, match="access is denied"):
        list(there.epoch(0))
    assert not there.unreadable
    store.reset()
    assert sum(len(batch.label_B) for batch in there.epoch(0)) == VIDEOS
    there.close()


def test_an_abandoned_epoch_returns_its_memory_budget(folder, store):
    store.reset()
    there = loader(folder, store.url, "there.list")
    next(iter(there.epoch(0)))
    there.pause()
    fetcher: Fetcher = there._runner._feeder._fetcher
    for _ in range(500):
        if not fetcher._budget.reserved:
            break
        threading.Event().wait(0.01)
    assert fetcher._budget.reserved == 0
    there.close()


@pytest.mark.parametrize("end", ["pause", "close"])
def test_pausing_or_closing_a_loader_cancels_its_waiting_requests(folder, store, end, monkeypatch):
    store.reset()
    store.delay = 0.05
    monkeypatch.setattr(fetch, "_pool", cache(lambda process: ThreadPoolExecutor(2)))  # so that most requests wait
    there = loader(folder, store.url, "there.list")
    next(iter(there.epoch(0)))
    queue = fetch._pool(os.getpid())._work_queue
    assert queue.qsize() > 8  # the requests of the epochs ahead
    getattr(there, end)()
    made = len(store.requests)
    fetch._pool(os.getpid()).shutdown(wait=True)
    assert len(store.requests) < made + 8
    there.close()


def test_a_program_that_ends_during_requests_prints_nothing_and_cancels_waiting_ones(folder, store):
    store.reset()
    store.delay = 0.1
    command = [sys.executable, "-c", _LEAVES, f"{store.url}/0.mp4"]
    for pause in ("0.1", "0.12", "0.15"):
        done = subprocess.run([*command, pause], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stderr == ""
    assert 0 < len(store.requests) < 3 * 512  # all would take six seconds


@pytest.mark.parametrize("failing", [False, True])
def test_a_program_can_end_during_an_epoch_with_a_full_budget_or_a_failing_store(folder, store, failing):
    store.reset()
    if failing:
        store.fault = lambda number: 503 if number > 12 else None
    arguments = [str(folder.parent / "there.list"), store.url]
    done = subprocess.run([sys.executable, "-c", _IN_AN_EPOCH, *arguments], cwd=ROOT, capture_output=True, timeout=300)
    assert done.returncode == 0


_IN_AN_EPOCH = """
import sys
from pathlib import Path
from dali_pipes.feed import fetcher
small = fetcher.MemoryBudget(1)
fetcher.MemoryBudget = lambda most: small
from tests.dali_pipes.feed.test_fetcher import loader
list_file = Path(sys.argv[1])
epoch = loader(list_file.parent / "videos", sys.argv[2], list_file.name).epoch(0)
next(epoch)
"""


_LEAVES = """
import sys, time
from dali_pipes.storage import fetch
fetch.AT_ONCE = 8
fetch.begin([fetch.RangeRequest(sys.argv[1], 0, 50000, 1, [(0, 1000), (30000, 10)])] * 512)
time.sleep(float(sys.argv[2]))
"""


def test_the_memory_budget_blocks_and_is_returned_when_its_owner_is_deleted():
    class Owner:
        pass

    budget, first, second = MemoryBudget(10), Owner(), Owner()
    budget.reserve(25, first)  # more than the budget, allowed for a single owner
    waiting = threading.Thread(target=budget.reserve, args=(4, second), daemon=True)
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive() and budget.reserved == 25
    del first
    waiting.join(10)
    assert not waiting.is_alive() and budget.reserved == 4


def test_the_second_epoch_is_read_from_the_cache_without_a_request(folder, store, tmp_path):
    here = loader(folder, str(folder), "here.list")
    with serving(folder) as quiet:  # requests of closed loaders are still under way to the other server
        (folder.parent / "quiet.list").write_text((folder.parent / "there.list").read_text())
        load_catalog(str(folder.parent / "quiet.list"), Data(root=quiet.url), workers=1)
        quiet.reset()
        there = loader(folder, quiet.url, "quiet.list", cache_dir=str(tmp_path), cache_gb=1)
        for epoch in range(2):
            for mine, plain in zip(there.epoch(epoch), here.epoch(epoch), strict=True):
                assert torch.equal(mine.clips_BVTCHW, plain.clips_BVTCHW)
            there.pause()
            whole = [request.path for request in quiet.requests if request.first == 0]
            assert len(set(whole)) == len(whole) == (0 if epoch else VIDEOS)
            # batches of the second epoch that were prepared before their files were written are read by ranges
            assert not epoch or not quiet.requests
            quiet.reset()
        here.close(), there.close()


def test_videos_that_do_not_fit_the_cache_are_read_by_ranges(folder, store, tmp_path):
    store.reset()
    there = loader(folder, store.url, "there.list", cache_dir=str(tmp_path), cache_gb=1e-5)
    for epoch in range(2):
        assert sum(len(batch.label_B) for batch in there.epoch(epoch)) == VIDEOS
    assert 0 < sum(path.stat().st_size for path in tmp_path.glob("*/*/*")) <= 10_000
    assert not there.unreadable
    there.close()


def test_removed_or_damaged_cache_files_are_read_by_ranges_and_cached_again(folder, store, tmp_path):
    store.reset()
    here = loader(folder, str(folder), "here.list")
    there = loader(folder, store.url, "there.list", cache_dir=str(tmp_path), cache_gb=1)
    for epoch in range(4):
        for mine, plain in zip(there.epoch(epoch), here.epoch(epoch), strict=True):
            assert torch.equal(mine.clips_BVTCHW, plain.clips_BVTCHW)
        there.pause()
        if epoch == 1:
            kept = sorted(path for path in tmp_path.glob("*/*/*"))
            assert len(kept) == VIDEOS
            kept[0].unlink()
            kept[1].write_bytes(b"short")
    assert not there.unreadable
    assert sorted(path for path in tmp_path.glob("*/*/*")) == kept and kept[1].stat().st_size > 5
    here.close(), there.close()
