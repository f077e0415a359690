"""Members of tar shards: found by an index or by headers, and read like files."""

import os
import shutil
import tarfile

import numpy as np
import pytest

from configs.schema import Data
from dali_pipes.cut import reading
from dali_pipes.cut.cutter import cut, cut_all
from dali_pipes.errors import DataError
from dali_pipes.scan.build import load_catalog
from dali_pipes.scan.probe import probe
from dali_pipes.storage import open_shards, opening, shards
from dali_pipes.storage.open_shards import OpenShards
from dali_pipes.storage.opening import open_source, read_all
from dali_pipes.video.times import frame_times
from tests.support.storage.shards import write_tar
from tests.support.videos import write_video

KINDS = {  # a video that is cut by ranges, one that is demuxed in memory, and one that is read whole
    "ranged.mp4": ("libx264", {"b_frames": 2}),
    "demux.ts": ("libx264", {}),
    "whole.mpg": ("mpeg1video", {}),
}
FRAMES = np.array([3, 40, 17, 17])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a video of each kind, and with a shard that contains them."""
    folder = tmp_path_factory.mktemp("shards")
    for name, (codec, settings) in KINDS.items():
        write_video(folder / name, codec, **settings)
    write_tar(folder / "a.tar", {f"sub/{name}": (folder / name).read_bytes() for name in KINDS} | {"sub/none.mp4": b""})
    return folder


def with_index(shard):
    """Write the index of a shard next to it, as DALI's `wds2idx` does."""
    with open_source(str(shard)) as opened:
        text = shards.write_index([member] for member in shards.walk(opened))
    shard.with_suffix(".idx").write_text(text)
    return shard


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("indexed", [False, True])
def test_a_member_is_scanned_and_cut_as_the_file_is(folder, tmp_path, name, indexed):
    shard = shutil.copy(folder / "a.tar", tmp_path)
    if indexed:
        with_index(tmp_path / "a.tar")
    member, file = probe(f"{shard}/sub/{name}"), probe(str(folder / name))
    assert (member.access, member.frames, member.size) == (file.access, file.frames, file.size)
    np.testing.assert_array_equal(member.packets, file.packets)
    assert cut(member, FRAMES).data == cut(file, FRAMES).data
    np.testing.assert_array_equal(frame_times(member), frame_times(file))


def test_members_are_found_in_a_list_and_missing_ones_have_a_reason(folder, tmp_path):
    rows = [
        "a.tar/sub/ranged.mp4 0",
        "a.tar/sub/gone.mp4 0",
        "a.tar/sub/none.mp4 0",
        "ranged.mp4/x.mp4 0",
        "demux.ts 0",
    ]
    (tmp_path / "all.list").write_text("\n".join(rows))
    data = Data(train="x", root=str(folder), max_bad_fraction=1)
    catalog = load_catalog(str(tmp_path / "all.list"), data, workers=1)
    assert catalog.usable.tolist() == [0, 4]
    assert [bad.reason for bad in catalog.unreadable] == [
        "is not among the 4 members of the shard",
        "is empty (0 bytes)",
        "not a directory",
    ]
    assert cut(catalog.video(0), FRAMES).data == cut(probe(str(folder / "ranged.mp4")), FRAMES).data


@pytest.mark.parametrize("indexed", [False, True])
def test_a_member_whose_name_another_one_has_cannot_be_read(folder, tmp_path, indexed):
    video = (folder / "ranged.mp4").read_bytes()
    shard = write_tar(tmp_path / "a.tar", {"a.mp4": b"an earlier one", "b.mp4": video}, {"./a.mp4": video})
    if indexed:
        with_index(shard)
    (tmp_path / "all.list").write_text("a.tar/a.mp4 0\na.tar/b.mp4 0\n")
    catalog = load_catalog(str(tmp_path / "all.list"), Data(train="x", max_bad_fraction=1), workers=1)
    second = 512 * (4 + -(-len(video) // 512))
    (bad,) = catalog.unreadable
    assert bad.reason.startswith(f"is in the shard more than once, at bytes 512 and {second}; unpack the shard, and")
    with pytest.raises(DataError, match="is in the shard more than once"):
        read_all(f"{shard}/a.mp4")
    assert read_all(f"{shard}/b.mp4") == video


def test_a_folder_may_have_the_name_of_a_shard(folder, tmp_path):
    (tmp_path / "b.tar").mkdir()
    video = probe(shutil.copy(folder / "ranged.mp4", tmp_path / "b.tar"))
    assert video.start_byte == 0 and cut(video, FRAMES).positions.tolist()


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["a.mp4", "./sub/a.mp4", "n" * 90 + "/" + "a" * 90 + ".mp4"])
def test_every_kind_of_header_is_read(tmp_path, format, name):
    shard = write_tar(tmp_path / "a.tar", {"first": b"x" * 700, name: b"content"}, format=format)
    assert read_all(f"{shard}/{os.path.normpath(name)}") == b"content"


@pytest.mark.parametrize(
    "damage", [b"", b"v9 1\nmp4 512 3 a.mp4\n", b"v1.2 2\nmp4 512 3 a.mp4\n", b"v1.2 1\nmp4 512 9999999 a.mp4\n"]
)
def test_an_index_that_is_damaged_or_of_another_shard_is_not_used(tmp_path, damage):
    shard = write_tar(tmp_path / "a.tar", {"a.mp4": b"content"})
    (tmp_path / "a.idx").write_bytes(damage)
    assert read_all(f"{shard}/a.mp4") == b"content"


def test_a_file_that_is_no_tar_is_refused_in_one_line(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"no archive" * 100)
    with pytest.raises(DataError, match=r"a\.tar: is not a tar file that can be read"):
        read_all(str(tmp_path / "a.tar/x.mp4"))


def test_copies_of_a_shard_and_its_index_have_the_same_stamp_and_other_content_another(folder, tmp_path):
    stamps = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        shard = with_index(tmp_path / name / shutil.copy(folder / "a.tar", tmp_path / name))
        with open_source(f"{shard}/sub/ranged.mp4") as member:
            stamps.add(member.stamp)
    assert len(stamps) == 1
    other = with_index(write_tar(tmp_path / "c.tar", {"sub/ranged.mp4": b"x"}))
    with open_source(f"{other}/sub/ranged.mp4") as member:
        assert member.stamp not in stamps


def test_a_shard_is_opened_once_and_its_status_is_checked_each_time(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "_shards", OpenShards())
    shard = shutil.copy(folder / "a.tar", tmp_path)
    videos = [probe(f"{shard}/sub/{name}") for name in ("ranged.mp4", "demux.ts")]
    opened = []
    monkeypatch.setattr(open_shards, "LocalFile", lambda path: opened.append(path) or opening.LocalFile(path))
    for _ in range(3):
        assert not any(isinstance(made, DataError) for made in cut_all(videos, [FRAMES, FRAMES]))
    assert opened == [shard]
    shutil.copy(folder / "a.tar", tmp_path / "new.tar")
    os.utime(tmp_path / "new.tar", ns=(1, 1))
    os.replace(tmp_path / "new.tar", shard)
    for result in cut_all(videos, [FRAMES, FRAMES]):
        assert str(result) == f"{shard}: changed since the scan; scan the list again"
    os.unlink(shard)
    with pytest.raises(DataError, match=r"cannot be opened \(No such file or directory\); it was there when scanned"):
        cut(videos[0], FRAMES)


def test_idle_shards_are_closed_when_too_many_are_open(tmp_path):
    paths = [str(write_tar(tmp_path / f"{number}.tar", {"a": b"x"})) for number in range(5)]
    opened = OpenShards(most=2)
    before = len(os.listdir("/proc/self/fd"))
    held = opened.take(paths[0], os.stat(paths[0]).st_mtime_ns)
    for path in paths[1:]:
        opened.give_back(opened.take(path, os.stat(path).st_mtime_ns))
    assert os.pread(held, 1, 512) == b"x"
    opened.give_back(held)
    for path in paths[3:]:
        opened.give_back(opened.take(path, os.stat(path).st_mtime_ns))
    assert len(os.listdir("/proc/self/fd")) - before <= 2
