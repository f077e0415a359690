"""The catalogue file: written and read back equal, opened fast, and damage is detected."""

import errno
import json
import mmap
import os
import pickle
import struct
import time
import zlib
from dataclasses import fields

import numpy as np
import pytest

from dali_pipes.errors import DataError
from dali_pipes.lists.listing import Listing, read_list
from dali_pipes.scan.catalog import MAGIC, Catalog, Entry, write_catalog
from dali_pipes.video.packet_table import KEYFRAME, PACKET, Video
from tests.support.memory import resident_bytes

ODD_NAME = os.fsdecode(b"latin-1 \xe9.mp4")  # bytes that are not UTF-8


def make_video(path: str, frames: int, **changes) -> Video:
    packets = np.zeros(frames, PACKET)
    packets["offset"] = 1000 + np.arange(frames) * 7
    packets["size"] = 7
    packets["order"] = np.arange(frames)
    packets["flags"][::4] = KEYFRAME
    shape = {"width": 340, "height": 256, "fps": 29.97, "codec": "h264", "access": "ranged", "description": b"stsd"}
    return Video(path=path, frames=frames, size=5000 + frames, mtime_ns=7, packets=packets, **shape | changes)


def make_listing(paths: list[str], labels: list[int], class_names: tuple[str, ...] = ()) -> Listing:
    first_N = np.array([paths.index(path) for path in paths])
    return Listing("/d/train.list", "/d", "", paths, np.array(labels, np.int32), first_N, class_names)


def same(one: Video, other: Video) -> bool:
    pairs = [(getattr(one, field.name), getattr(other, field.name)) for field in fields(Video)]
    return all(np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b for a, b in pairs)


VIDEOS = {
    0: make_video("/d/a.mp4", 10),
    2: make_video(f"/d/{ODD_NAME}", 1, codec="vp9", access="whole", description=b"", fps=25.0),
    4: make_video(
        "/elsewhere/c.mp4", 300, codec="hevc", access="demux", description=b"other\0stsd", width=32, height=768
    ),
}


@pytest.fixture
def file(tmp_path):
    """Return a catalogue of six rows: three videos, a bad file, and one of each again."""
    listing = make_listing(["a.mp4", "bad.mp4", ODD_NAME, "a.mp4", "/elsewhere/c.mp4", "bad.mp4"], [3, 1, 0, 3, 2, 1])
    entries = [
        Entry(5010, 7, 0, VIDEOS[0]),
        Entry(9, 8, 2, "is empty"),
        *(Entry(1, 7, 1, VIDEOS[row]) for row in (2, 4)),
    ]
    write_catalog(tmp_path / "catalog", listing, entries, "reader")
    return tmp_path / "catalog"


def test_bytes_of_videos_are_those_of_readable_files_and_not_of_folders(file, tmp_path):
    assert Catalog(file).video_bytes().tolist() == [5010, 0, 5001, 5010, 5300, 0]
    folder = make_video("/d/folder", 10, access="frames", description=b"img_{:05}.jpg")
    write_catalog(tmp_path / "folders", make_listing(["folder"], [0]), [Entry(4096, 7, 0, folder)], "reader")
    assert Catalog(tmp_path / "folders").video_bytes().tolist() == [0]


def test_videos_are_read_back_equal(file):
    catalog = Catalog(file)
    assert all(same(catalog.video(row), video) for row, video in VIDEOS.items())
    assert same(catalog.video(3), VIDEOS[0])


def test_every_row_of_the_list_is_there_with_its_own_label(file):
    catalog = Catalog(file)
    assert len(catalog) == 6
    assert catalog.label_N.tolist() == [3, 1, 0, 3, 2, 1]
    assert catalog.frames_N.tolist() == [10, 0, 1, 10, 300, 0]
    assert catalog.height_N.tolist() == [256, 0, 256, 256, 768, 0]
    assert catalog.usable.tolist() == [0, 2, 3, 4]
    assert [catalog.path(row) for row in (1, 2, 4)] == ["/d/bad.mp4", f"/d/{ODD_NAME}", "/elsewhere/c.mp4"]


def test_unreadable_rows_are_named_with_their_reason(file):
    assert Catalog(file).unreadable == [(1, "/d/bad.mp4", "is empty"), (5, "/d/bad.mp4", "is empty")]


def test_packets_are_views_of_the_file(file):
    packets = Catalog(file).video(4).packets
    assert packets.base is not None and not packets.flags.writeable


@pytest.mark.parametrize("refuse", ["shared", "all"])
def test_a_file_system_that_cannot_map_files_has_catalogues_too(file, monkeypatch, refuse):
    whole = mmap.mmap

    def refusing(descriptor, size, flags=mmap.MAP_SHARED, prot=0, access=mmap.ACCESS_READ, **more):
        if refuse == "all" or not flags & mmap.MAP_PRIVATE:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        return whole(descriptor, size, flags=flags, prot=prot, **more)

    monkeypatch.setattr(mmap, "mmap", refusing)
    catalog = Catalog(file)
    assert same(catalog.video(4), VIDEOS[4]) and same(pickle.loads(pickle.dumps(catalog)).video(0), VIDEOS[0])


def test_a_catalogue_is_sent_to_processes_by_name(file):
    sent = pickle.dumps(Catalog(file))
    assert len(sent) < 500
    assert same(pickle.loads(sent).video(4), VIDEOS[4])


@pytest.mark.parametrize("keep", [0, 10, 23, 24, 100, 0.5, 0.9, -1], ids=str)
def test_a_catalogue_cut_short_is_refused(file, keep):
    content = file.read_bytes()
    file.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(DataError, match="not a whole catalogue"):
        Catalog(file)


def test_a_catalogue_of_another_version_or_kind_is_refused(file):
    content = file.read_bytes()
    for other in (b"VIDCAT00" + content[8:], b"a.mp4 0\n" * 100, bytes(4096)):
        file.write_bytes(other)
        with pytest.raises(DataError, match="not a whole catalogue"):
            Catalog(file)


def test_an_unfinished_catalogue_is_refused(tmp_path):
    def interrupted():
        yield Entry(1, 7, 0, VIDEOS[0])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_catalog(tmp_path / "catalog", make_listing(["a.mp4", "b.mp4"], [0, 1]), interrupted(), "reader")
    with pytest.raises(DataError, match="not a whole catalogue"):
        Catalog(tmp_path / "catalog")


def test_any_flipped_bit_but_those_of_packets_is_seen(file):
    def is_whole() -> bool:
        try:
            return Catalog(file).is_intact()
        except DataError:
            return False

    content = file.read_bytes()
    assert is_whole()
    packets_end = 24 + 311 * PACKET.itemsize
    for place in [*range(20), *range(packets_end + 64, len(content), 7)]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        file.write_bytes(damaged)
        assert not is_whole(), place


def test_labels_must_be_below_the_number_of_classes(file):
    catalog = Catalog(file)
    catalog.check_labels(4)
    with pytest.raises(DataError, match=r"train.list: label 3 of a.mp4 is not below model.num_classes=3; set .* to 4"):
        catalog.check_labels(3)


def test_labels_that_count_from_one_are_recognised(tmp_path):
    write_catalog(tmp_path / "c", make_listing(["a", "b"], [1, 2]), [Entry(1, 7, 0, VIDEOS[0])] * 2, "reader")
    with pytest.raises(DataError, match="count from 1"):
        Catalog(tmp_path / "c").check_labels(2)


def test_class_folders_must_be_as_many_as_classes(tmp_path):
    write_catalog(
        tmp_path / "c", make_listing(["a", "b"], [0, 1], ("run", "walk")), [Entry(1, 7, 0, VIDEOS[0])] * 2, "reader"
    )
    assert Catalog(tmp_path / "c").class_names == ("run", "walk")
    Catalog(tmp_path / "c").check_labels(2)
    with pytest.raises(DataError, match=r"names 2 classes, but model.num_classes=3"):
        Catalog(tmp_path / "c").check_labels(3)


@pytest.mark.parametrize("count", [100_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_a_catalogue_of_many_videos_opens_fast_and_takes_no_memory(tmp_path, count):
    (tmp_path / "train.list").write_text("".join(f"class {n % 400}/{n}.mp4 {n % 400}\n" for n in range(count)))
    video = make_video("", 24)
    write_catalog(
        tmp_path / "catalog",
        read_list(str(tmp_path / "train.list")),
        (Entry(1, 7, 0, video) for _ in range(count)),
        "reader",
    )
    memory, start = resident_bytes(), time.process_time()
    catalog = Catalog(tmp_path / "catalog")
    last = catalog.video(count - 1)
    assert time.process_time() - start < 0.1
    assert resident_bytes() - memory < 10e6
    assert os.path.getsize(catalog.file) > 50e6
    assert last.path == f"{tmp_path}/class 399/{count - 1}.mp4" and len(last.packets) == 24


@pytest.mark.parametrize(
    "footer", [b"[" * 100_000, b"[]", b"{}", b"7", b'{"source": 1, "arrays": {"label": [0, 1000000000000, "<i4"]}}']
)
def test_an_invalid_footer_is_refused_even_if_its_checksum_fits(tmp_path, footer):
    header = struct.pack("<8sQI4x", MAGIC, 24, zlib.crc32(footer))
    (tmp_path / "catalog").write_bytes(header + footer)
    with pytest.raises(DataError, match="catalog: not a whole catalogue of this version"):
        Catalog(tmp_path / "catalog")


def test_a_catalogue_whose_arrays_exceed_the_file_is_refused(file):
    content = file.read_bytes()
    start = int.from_bytes(content[8:16], "little")
    footer = json.loads(content[start:])
    footer["arrays"]["label"][1] = 10**12
    claimed = json.dumps(footer).encode()
    file.write_bytes(struct.pack("<8sQI4x", MAGIC, start, zlib.crc32(claimed)) + content[24:start] + claimed)
    with pytest.raises(DataError, match="not a whole catalogue"):
        Catalog(file)
