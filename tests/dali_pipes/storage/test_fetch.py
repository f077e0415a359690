"""Videos in stores: the bytes of local cuts, in few requests, and the distinction of faults."""

import errno
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("obstore", reason="needs the extra `store`")

from benchmarks.harness.store_server import CUT, serving
from configs.schema import Data
from dali_pipes.cut.cutter import cut_all
from dali_pipes.errors import DataError
from dali_pipes.lists.listing import read_list
from dali_pipes.scan.build import load_catalog
from dali_pipes.storage import faults, fetch, objects
from dali_pipes.storage.faults import StorageFault
from dali_pipes.storage.fetch import joined
from tests.support.storage.shards import write_tar
from tests.support.videos import write_video
from tools import prepare

NAMES = {"long.mp4": "libx264", "short é.mp4": "mpeg4", "sub/demux.ts": "libx264", "whole.mpg": "mpeg1video"}
SHARD = "a.tar"
ROWS = [*NAMES, f"{SHARD}/x/long.mp4", f"{SHARD}/x/demux.ts"]
FRAMES = [np.array([3, 200, 401, 595]), *[np.array([3, 40, 17, 17])] * 3, np.array([7, 300]), np.array([3, 40, 17, 17])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of videos and a shard, with a list of them."""
    folder = tmp_path_factory.mktemp("store") / "videos"
    (folder / "sub").mkdir(parents=True)
    for name, codec in NAMES.items():
        write_video(
            folder / name, codec, **({"frames": 600, "gop": 8, "size": (96, 192)} if name == "long.mp4" else {})
        )
    members = {f"x/{os.path.basename(name)}": (folder / name).read_bytes() for name in ("long.mp4", "sub/demux.ts")}
    write_tar(folder / SHARD, members)
    (folder.parent / "all.list").write_text("".join(f"{row} {number}\n" for number, row in enumerate(ROWS)))
    return folder


@pytest.fixture(scope="module")
def serving_folder(folder):
    with serving(folder) as store:
        yield store


@pytest.fixture
def store(serving_folder):
    serving_folder.reset()
    return serving_folder


@pytest.fixture(scope="module")
def videos(folder, serving_folder):
    """Scan the videos of the list, in the store and in files; return both."""
    return [scanned(folder, root) for root in (serving_folder.url, str(folder))]


def scanned(folder, root):
    catalog = load_catalog(str(folder.parent / "all.list"), Data(root=root), workers=1)
    assert not catalog.unreadable
    return [catalog.video(row) for row in range(len(catalog))]


@pytest.fixture
def pauses(monkeypatch):
    """Return the list of pauses between retries, which take no time."""
    made = []
    monkeypatch.setattr(faults.program_ends, "wait", made.append)
    monkeypatch.setattr(faults, "_failing", set())
    return made


def test_cuts_of_a_store_are_those_of_files(videos, store):
    in_store, in_files = videos
    for mine, plain in zip(in_store, in_files, strict=True):
        np.testing.assert_array_equal(mine.packets, plain.packets)
    made, wanted = cut_all(in_store, FRAMES), cut_all(in_files, FRAMES)
    assert [cut.data for cut in made] == [cut.data for cut in wanted]
    assert {request.method for request in store.requests} == {"GET"}


def test_a_list_in_a_store_is_read_as_in_a_file(folder, videos, store, tmp_path):
    shutil.copy(folder.parent / "all.list", folder / "all.list")
    _, in_files = videos
    source = f"{store.url}/all.list"
    catalog = load_catalog(source, Data(cache=str(tmp_path)), workers=1)
    assert catalog.base == store.url and catalog.source == source
    made = cut_all([catalog.video(row) for row in range(len(catalog))], FRAMES)
    assert [cut.data for cut in made] == [cut.data for cut in cut_all(in_files, FRAMES)]
    with pytest.raises(DataError, match="no such list"):
        load_catalog(f"{store.url}/none.list", Data(cache=str(tmp_path)))


def test_the_catalogue_of_a_packed_set_is_read_from_the_store(folder, store, tmp_path, caplog):
    packed = folder / "packed"
    assert prepare.main(["pack", str(folder.parent / "all.list"), "--root", str(folder), "--out", str(packed)]) == 0
    store.reset()
    caplog.clear()
    catalog = load_catalog(f"{store.url}/packed/all.list", Data(cache=str(tmp_path)), workers=1)
    assert "none new or changed" in caplog.text
    cut_all([catalog.video(row) for row in range(len(catalog))], FRAMES[: len(catalog)])
    assert len(catalog.usable) == len(catalog)


def test_the_index_of_a_shard_is_read_once_for_all_clips_that_want_it_at_once(folder, videos, store, monkeypatch):
    shutil.copy(folder / SHARD, folder / "other.tar")
    monkeypatch.setattr(fetch, "_shard_stamps", {})
    store.delay = 0.05
    member = replace(videos[0][-1], path=f"{store.url}/other.tar/x/demux.ts")
    cut_all([member] * 16, FRAMES[-1:] * 16)
    assert [request.path for request in store.requests].count("other.idx") == 1


def test_a_clip_of_a_long_video_is_a_few_requests_and_bytes(videos, store):
    (video, *_), _ = videos
    (cut,) = cut_all([video], FRAMES[:1])
    assert len(store.requests) == 4
    assert store.sent < 0.2 * video.size and store.sent < len(cut.data) + 4 * fetch.GAP


def test_parts_of_a_long_video_are_found_by_its_index(folder, store, tmp_path):
    (tmp_path / "parts.csv").write_text("path,label,start,end\nlong.mp4,0,0,4\nlong.mp4,1,8,10\n")
    catalogs = []
    for root in (str(folder), store.url):
        data = Data(root=root, check="index", cache=str(tmp_path / root.replace("/", "")))
        catalogs.append(load_catalog(str(tmp_path / "parts.csv"), data, workers=1))
    here, there = catalogs
    assert there.frames_N.tolist() == here.frames_N.tolist() and min(there.frames_N) > 0
    assert store.sent < (folder / "long.mp4").stat().st_size


def test_ranges_are_joined_over_small_gaps_and_the_whole_is_fetched_where_nearly_all_is_wanted():
    gap = fetch.GAP
    assert joined([(0, 5), (5 + gap, 5), (11 + 2 * gap, 5)], 10**9) == [(0, gap + 10), (11 + 2 * gap, 5)]
    assert joined([(0, 40), (40 + gap + 1, 60 * gap)], 61 * gap + 41) == [(0, 61 * gap + 41)]


def test_server_errors_and_truncated_responses_are_retried_without_loss(videos, store):
    in_store, in_files = videos
    store.fault = lambda number: {3: 503, 5: CUT}.get(number % 7)
    made = cut_all(in_store * 5, FRAMES * 5)
    assert [cut.data for cut in made] == [cut.data for cut in cut_all(in_files, FRAMES)] * 5


def test_a_temporary_outage_of_a_store_is_retried_and_logged_once(videos, store, pauses, caplog, monkeypatch):
    in_store, in_files = videos
    down = iter(range(len(in_store) + 2))
    monkeypatch.setitem(objects._RETRIES, "max_retries", 0)
    objects._opened.cache_clear()
    store.fault = lambda number: 503 if next(down, None) is not None else None
    made = cut_all(in_store, FRAMES)
    objects._opened.cache_clear()
    assert [cut.data for cut in made] == [cut.data for cut in cut_all(in_files, FRAMES)]
    assert pauses[:2] == [0.5, 1.0]
    assert len([message for message in caplog.messages if "does not answer" in message]) == 1


def test_a_lasting_outage_of_a_store_raises_a_storage_fault(videos, store, pauses, monkeypatch):
    monkeypatch.setitem(objects._RETRIES, "max_retries", 0)
    objects._opened.cache_clear()
    store.fault = lambda number: 500
    with pytest.raises(StorageFault, match=r"does not answer .*, after 60 s of trying again"):
        cut_all(videos[0][:1], FRAMES[:1])
    objects._opened.cache_clear()
    assert sum(pauses) == 60.5


def test_denied_access_stops_the_work_at_once(videos, store, pauses):
    store.fault = lambda number: 403
    with pytest.raises(StorageFault, match="access is denied") as error:
        cut_all(videos[0][:1], FRAMES[:1])
    assert error.value.errno == errno.EACCES and not pauses


@pytest.mark.parametrize("damage", ["gone", "replaced", "shorter"])
def test_an_object_that_is_gone_or_was_replaced_is_named_and_others_are_cut(
    folder, videos, serving_folder, tmp_path, damage
):
    copy = shutil.copytree(folder, tmp_path / "copy")  # with the times, and so the ETags
    (videos, _), before = videos, serving_folder.url
    with serving(copy) as store:
        videos = [replace(video, path=video.path.replace(before, store.url)) for video in videos]
        if damage == "gone":
            os.unlink(copy / "long.mp4")
        else:
            content = (copy / "long.mp4").read_bytes()
            (copy / "long.mp4").write_bytes(content[: len(content) // 2 if damage == "shorter" else None])
            os.utime(copy / "long.mp4", ns=(1, 1))
        made = cut_all(videos, FRAMES)
    reason = "is gone; it was there when scanned" if damage == "gone" else "changed since the scan; scan the list again"
    assert isinstance(made[0], DataError) and str(made[0]) == f"{store.url}/long.mp4: {reason}"
    assert not any(isinstance(cut, DataError) for cut in made[1:])


def test_the_scan_gives_a_reason_for_each_missing_object(folder, store, tmp_path):
    (tmp_path / "some.list").write_text("long.mp4 0\nnone.mp4 0\na.tar/none.mp4 0\nb.tar/none.mp4 0\n")
    catalog = load_catalog(str(tmp_path / "some.list"), Data(root=f"{store.url}/", max_bad_fraction=1), workers=1)
    assert [bad.reason for bad in catalog.unreadable] == [
        "no such file",
        "is not among the 2 members of the shard",
        "no such file",
    ]
    assert catalog.path(0) == f"{store.url}/long.mp4"
    before = len(store.requests)
    load_catalog(str(tmp_path / "some.list"), Data(root=store.url, max_bad_fraction=1), workers=1)
    assert {request.method for request in store.requests[before:]} == {"HEAD"}


def test_rows_that_lead_out_of_a_store_are_refused(tmp_path):
    for row in ("../x.mp4", "/etc/x.mp4"):
        (tmp_path / "bad.list").write_text(f"{row} 0\n")
        with pytest.raises(DataError, match=r"leads out of data.root|lies outside data.root"):
            read_list(str(tmp_path / "bad.list"), Data(root="s3://bucket/videos"))


def test_a_forked_process_cannot_use_the_stores_of_its_parent(store, videos):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            cut_all(videos[0][:1], FRAMES[:1])
        except StorageFault as error:
            os.write(write, error.strerror.encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 1000) == b"a store that was opened before a fork cannot be used after it"


def test_error_messages_contain_no_text_of_the_storage_library():
    for kind in ("GenericError", "PermissionDeniedError", "NotFoundError", "PreconditionError", "ValueError"):
        error = type(kind, (Exception,), {})("GET https://host/key?X-Amz-Signature=secret")
        assert "secret" not in str(objects.answer_to("s3://bucket/key", error))


def test_local_lists_never_load_the_library(folder, videos):
    import subprocess
    import sys

    code = (
        "import sys; from configs.schema import Data; from dali_pipes.scan.build import load_catalog;"
        "from dali_pipes.cut.cutter import cut; import numpy as np;"
        f"catalog = load_catalog({str(folder.parent / 'all.list')!r}, Data(root={str(folder)!r}), workers=1);"
        "cut(catalog.video(0), np.array([3])); sys.exit('obstore' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
