"""The scan of an index alone: the frames that a scan of the packets finds, or the reason why it is ambiguous."""

import random
import struct

import numpy as np
import pytest

from configs.schema import Data
from dali_pipes.cut.cutter import cut
from dali_pipes.cut.decode import decode_frames
from dali_pipes.errors import DataError
from dali_pipes.scan.build import load_catalog
from dali_pipes.scan.probe import probe, scan_file
from dali_pipes.scan.request import CHECKS
from dali_pipes.video import mp4
from dali_pipes.video.packet_table import HIDDEN, KEYFRAME
from tests.support.files.boxes import TABLE, edit, sized, without
from tests.support.files.corpus import Case, cases
from tests.support.videos import remuxed, write_video

DAMAGED = ("swapped times", "an empty packet", "a packet of a byte", "a picture shown again", "two packets in one")
"""Traits of the corpus that no index shows."""
FIELDS = ("width", "height", "frames", "fps", "codec", "access", "description", "orientation", "tracks", "size")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Return H.264 in mp4, with B-frames and the index at the end."""
    return write_video(tmp_path_factory.mktemp("index") / "clip.mp4", "libx264", 48, b_frames=2)


def assert_same(path) -> bool:
    """Return True if the index of a file suffices; then its scan must equal a scan of the packets."""
    found = scan_file(str(path), "index")
    assert (found.check == "index") == (not found.reason)
    if found.reason:
        return False
    video, whole = found.video, probe(str(path))
    assert [getattr(video, name) for name in FIELDS] == [getattr(whole, name) for name in FIELDS]
    for name in ("offset", "size", "order"):
        np.testing.assert_array_equal(video.packets[name], whole.packets[name])
    assert not (whole.flags & HIDDEN).any()
    assert not (video.flags & ~whole.flags & KEYFRAME).any()
    return True


SAMPLE = [
    Case("h264", "mp4", "as it is"),
    Case("h264 no B", "mov", "as it is"),
    Case("hevc", "mp4", "as it is"),
    Case("hevc closed", "mp4", "turned"),
    Case("h264", "mp4", "junk at the end"),
    Case("h264 slices", "mp4", "full range"),
    Case("h264", "mp4", "no keyframe marked but the first"),
]


@pytest.mark.parametrize("case", SAMPLE, ids=str)
def test_an_index_scan_of_ordinary_files_equals_their_packet_scan(case, tmp_path):
    assert assert_same(case.write(tmp_path))


@pytest.mark.slow
def test_an_index_scan_of_the_corpus_equals_the_packet_scan_or_falls_back(tmp_path):
    by_index = 0
    for case in cases():
        path = case.write(tmp_path) if case.trait not in DAMAGED else None
        if path is None:
            continue
        try:
            by_index += assert_same(path)
        except DataError:
            with pytest.raises(DataError):
                probe(str(path))
        path.unlink()
    assert by_index >= 100


def test_an_index_scan_of_real_files_equals_the_packet_scan_or_falls_back(shared):
    damaged = {"decord__corrupted.mp4", "derived__bitflips_200_kinetics.mp4"}
    files = [path for path in (shared / "data" / "nasty").iterdir() if path.suffix in (".mp4", ".mov")]
    by_index = 0
    for path in files:
        if path.name in damaged:
            continue
        try:
            by_index += assert_same(path)
        except DataError as error:
            with pytest.raises(DataError) as of_packets:
                probe(str(path))
            assert str(of_packets.value) == str(error)
    assert by_index >= 40


def test_an_index_scan_reads_the_rotation(tmp_path):
    found = scan_file(str(Case("h264", "mp4", "turned").write(tmp_path)), "index")
    assert (found.check, found.video.orientation > 0) == ("index", True)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (Case("h264", "mkv", "as it is"), "it is not an mp4 or mov file"),
        (Case("vp9", "mp4", "as it is"), "packets of vp9 may hold more or fewer pictures than one"),
        (Case("h264 interlaced", "mp4", "as it is"), "its packets may hold one field or two"),
        (Case("h264 pyramid", "mp4", "as it is"), "pictures of a group are shown before its keyframe"),
        (Case("h264", "mp4", "repeated time"), "several of its pictures have one time"),
        (Case("h264", "mp4", "no sync table"), "its keyframes may need pictures before them"),
    ],
    ids=str,
)
def test_files_with_an_ambiguous_index_are_scanned_by_packets(case, reason, tmp_path):
    path = case.write(tmp_path)
    found = scan_file(str(path), "index")
    assert (found.check, found.reason) == ("demux", reason)
    np.testing.assert_array_equal(found.video.packets, probe(str(path)).packets)


def test_a_file_in_fragments_is_scanned_by_packets(clip, tmp_path):
    path = remuxed(clip, tmp_path / "a.mp4", movflags="frag_keyframe+empty_moov")
    assert scan_file(str(path), "index").reason == "it is fragmented"


def edited(clip, target, path, change):
    target.write_bytes(edit(clip.read_bytes(), path, change))
    return target


def test_b_pictures_without_times_are_scanned_by_packets(clip, tmp_path):
    unedited = edited(clip, tmp_path / "b.mp4", TABLE[:2], lambda box: sized(without(box, b"edts")))
    path = edited(unedited, tmp_path / "a.mp4", TABLE, lambda box: sized(without(box, b"ctts")))
    found = scan_file(str(path), "index")
    assert "its pictures may be shown in another order" in found.reason
    assert found.video.order.tolist() == probe(str(clip)).order.tolist()


def test_pictures_without_time_offsets_are_in_decode_order(tmp_path):
    path = write_video(tmp_path / "a.mp4", "libx264", 20)
    assert mp4.find_box(path.read_bytes(), (*TABLE, b"ctts")) is None
    assert assert_same(path)


@pytest.mark.parametrize(("ticks", "reason"), [(0, ""), (5, "it has an edit list that hides pictures")])
def test_an_edit_list_is_followed_by_packets_if_it_hides_pictures(clip, tmp_path, ticks, reason):
    scale = struct.unpack_from(">I", clip.read_bytes(), clip.read_bytes().index(b"mdhd") + 16)[0]

    def later(box):
        (start,) = struct.unpack_from(">i", box, 20)
        return box[:20] + struct.pack(">i", start + ticks * scale // 30) + box[24:]

    path = edited(clip, tmp_path / "a.mp4", (b"moov", b"trak", b"edts", b"elst"), later)
    assert scan_file(str(path), "index").reason == reason
    assert scan_file(str(path), "index").video.frames == probe(str(path)).frames == 48 - ticks


def test_an_edited_index_never_harms_the_scan(clip, tmp_path):
    content, rng, outcomes = clip.read_bytes(), random.Random(0), set()
    start, path = content.index(b"moov"), tmp_path / "a.mp4"
    for _ in range(200):
        edited = bytearray(content)
        for _ in range(rng.choice([1, 1, 2, 5])):
            edited[rng.randrange(start, len(edited))] = rng.choice([0, 255, rng.randrange(256)])
        path.write_bytes(edited)
        try:
            outcomes.add(scan_file(str(path), "index").check)
        except DataError:
            outcomes.add("refused")
    assert outcomes == {"index", "demux", "refused"}


def test_a_catalogue_knows_which_files_were_scanned_by_packets(clip, tmp_path, caplog):
    (tmp_path / "a.mp4").write_bytes(clip.read_bytes())
    write_video(tmp_path / "b.avi", "mpeg4")
    (tmp_path / "train.list").write_text("a.mp4 0\nb.avi 1\n")
    source = str(tmp_path / "train.list")
    catalog = load_catalog(source, Data(check="index"))
    assert [CHECKS[check] for check in catalog.check_N] == ["index", "demux"]
    assert "1 read completely, not only the index: it is not an mp4 or mov file" in caplog.text
    caplog.clear()
    load_catalog(source, Data(check="index"))
    assert "none new or changed" in caplog.text
    load_catalog(source, Data())
    assert "scanned 1 of 2 videos" in caplog.text


def test_a_cut_is_larger_but_has_the_same_frames(clip):
    by_index, whole = scan_file(str(clip), "index").video, probe(str(clip))
    frames = np.array([7, 22, 41])
    some, fewer = cut(by_index, frames), cut(whole, frames)
    assert some.packets >= fewer.packets
    pictures, of_fewer = (decode_frames(made, str(clip)) for made in (some, fewer))
    np.testing.assert_array_equal(pictures, of_fewer)
