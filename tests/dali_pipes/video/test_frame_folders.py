"""Folders of JPEG frames: their scan, and that they give the same clips as the videos they came from."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from configs.schema import Data
from dali_pipes import DataError
from dali_pipes.feed.decoders import JPEG
from dali_pipes.scan.build import load_catalog
from dali_pipes.video.frame_folders import probe_folder, read_pictures
from tests.support.loading import LUMA, STD, arrays, build_loader, make_config, read, with_section, write_set
from tests.support.videos import HEIGHT, WIDTH, number_in, picture, write_video
from tools import prepare

PATTERN = "img_{:05}.jpg"


def write_folder(folder: Path, frames: int = 12, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Path:
    """Write pictures 0 to frames - 1 as img_00001.jpg and so on."""
    folder.mkdir(parents=True)
    for number in range(frames):
        Image.fromarray(picture(number, *size)).save(folder / PATTERN.format(number + 1), quality=95)
    return folder


def probe(folder: Path, check="demux", pattern=PATTERN, frames=0):
    return probe_folder(str(folder), check, pattern, frames)


# The scan of a folder


@pytest.mark.parametrize("check", ["demux", "ends", "full"])
def test_a_folder_of_frames_is_probed_as_a_video(tmp_path, check):
    video = probe(write_folder(tmp_path / "clip"), check, frames=12)
    assert (video.frames, video.width, video.height, video.access) == (12, WIDTH, HEIGHT, "frames")


def test_frames_are_counted_where_the_list_does_not_say(tmp_path):
    assert probe(write_folder(tmp_path / "clip", 7)).frames == 7


def test_a_list_may_use_fewer_frames_than_there_are(tmp_path):
    assert probe(write_folder(tmp_path / "clip"), frames=5).frames == 5


def test_a_folder_numbered_from_0_is_refused_unless_the_list_counts_its_frames(tmp_path):
    folder = write_folder(tmp_path / "clip", 7)
    shutil.copy(folder / "img_00001.jpg", folder / "img_00000.jpg")
    with pytest.raises(DataError, match=r"contains img_00000\.jpg, which would be lost: number its pictures from 1"):
        probe(folder)
    assert probe(folder, frames=7).frames == 7


def test_frame_k_is_the_picture_of_number_k_plus_one(tmp_path):
    video = probe(write_folder(tmp_path / "clip"))
    files = [tmp_path / "clip" / "img_00003.jpg", tmp_path / "clip" / "img_00012.jpg"]
    assert [bytes(data) for data in read_pictures(video, np.array([2, 11]))] == [path.read_bytes() for path in files]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_their_exif_notes_say(tmp_path, orientation):
    shown, note = Image.fromarray(picture(5)), Image.Exif()
    note[ExifTags.Base.Orientation] = orientation
    undo = {6: 8, 8: 6}.get(orientation, orientation)  # the orientation that undoes it
    back = Image.Exif()
    back[ExifTags.Base.Orientation] = undo
    stored = shown.copy()
    stored.info["exif"] = back.tobytes()
    folder = tmp_path / "clip"
    folder.mkdir()
    for number in (1, 2):
        ImageOps.exif_transpose(stored).save(folder / PATTERN.format(number), quality=95, exif=note)
    video = probe(folder, "full")
    assert (video.width, video.height) == shown.size
    frames = JPEG.content(video, np.array([0, 1]), None, None).frames
    for frame_HWC in frames:
        np.testing.assert_allclose(frame_HWC, np.asarray(shown), atol=12)
        assert number_in(frame_HWC) == 5


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_damaged_exif_note_is_no_damage_of_the_picture(tmp_path):
    folder = write_folder(tmp_path / "clip", 1)
    Image.fromarray(picture(0)).save(folder / PATTERN.format(1), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert probe(folder, "full").frames == 1


def drop(*numbers):
    return lambda folder: [(folder / PATTERN.format(number)).unlink() for number in numbers]


def overwrite(number, content):
    return lambda folder: (folder / PATTERN.format(number)).write_bytes(content)


def resize(number):
    return lambda folder: Image.fromarray(picture(0, 32, 80)).save(folder / PATTERN.format(number))


def replace_by_pipe(number):
    def harm(folder):
        (folder / PATTERN.format(number)).unlink()
        os.mkfifo(folder / PATTERN.format(number))

    return harm


def cut_short(number):
    def harm(folder):
        path = folder / PATTERN.format(number)
        path.write_bytes(path.read_bytes()[:-200])

    return harm


@pytest.mark.parametrize(
    ("harm", "check", "frames", "reason"),
    [
        (drop(5), "demux", 0, "1 of 12 pictures are missing, such as img_00005.jpg"),
        (drop(12), "demux", 12, "1 of 12 pictures are missing, such as img_00012.jpg"),
        (drop(5), "demux", 8, "1 of 8 pictures are missing, such as img_00005.jpg"),  # although there are 8 and more
        (
            drop(2, 3, 4, 5),
            "demux",
            0,
            "4 of 12 pictures are missing, such as img_00002.jpg, img_00003.jpg, img_00004.jpg",
        ),
        (drop(*range(1, 13)), "demux", 12, "contains no img_00001.jpg; is data.frame_pattern=img_{:05}.jpg right?"),
        (overwrite(1, b"no picture"), "demux", 0, "img_00001.jpg is damaged, or not a JPEG picture"),
        (overwrite(12, b""), "ends", 0, "img_00012.jpg is empty, or not a file"),
        (
            drop(1),
            "demux",
            2**31 - 1,
            "2147483636 of 2147483647 pictures are missing, such as img_00001.jpg, img_00013.jpg",
        ),
        (replace_by_pipe(3), "full", 0, "img_00003.jpg is empty, or not a file"),
        (cut_short(6), "full", 0, "img_00006.jpg is damaged, or not a JPEG picture"),
        (resize(12), "ends", 0, "its pictures change size: 80x32, 96x48"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_with_a_reason(tmp_path, harm, check, frames, reason):
    folder = write_folder(tmp_path / "clip")
    harm(folder)
    with pytest.raises(DataError) as refusal:
        probe(folder, check, frames=frames)
    assert str(refusal.value).startswith(f"{folder}: {reason}")


def write_list(folder: Path, lines: list[str]) -> str:
    (folder / "all.list").write_text("".join(f"{line}\n" for line in lines))
    return str(folder / "all.list")


def reasons(source: str, **data) -> dict[str, str]:
    """Return the reason of each folder that a scan refuses."""
    catalog = load_catalog(source, replace(make_data(source), **data))
    return {Path(path).name: reason for _, path, reason in catalog.unreadable}


def make_data(source):
    return Data(train=source, decoder="jpeg", max_bad_fraction=0.9)


def test_a_scan_names_missing_folders_and_files_in_their_place(tmp_path):
    write_folder(tmp_path / "good")
    (tmp_path / "file").write_text("")
    assert reasons(write_list(tmp_path, ["good 12 0", "gone 12 1", "file 12 2"])) == {
        "gone": "no such file",
        "file": "is empty (0 bytes)",
    }


def test_a_changed_frame_count_in_the_list_is_scanned_again(tmp_path):
    write_folder(tmp_path / "one")
    write_folder(tmp_path / "two")
    assert reasons(write_list(tmp_path, ["one 12 0", "two 12 1"])) == {}
    assert reasons(write_list(tmp_path, ["one 12 0", "two 13 1"])) == {
        "two": "1 of 13 pictures are missing, such as img_00013.jpg"
    }
    assert reasons(write_list(tmp_path, ["one 12 0", "two 12 1"])) == {}


def test_another_frame_pattern_scans_again(tmp_path):
    folder = write_folder(tmp_path / "one")
    write_folder(tmp_path / "two")
    for number in range(1, 13):
        (folder / PATTERN.format(number)).rename(folder / f"{number:06}.jpg")
    source = write_list(tmp_path, ["one 12 0", "two 12 1"])
    assert list(reasons(source)) == ["one"]
    assert list(reasons(source, frame_pattern="{:06d}.jpg")) == ["two"]
    assert list(reasons(source)) == ["one"]


def test_a_list_may_mix_videos_and_folders(tmp_path):
    write_folder(tmp_path / "one")
    write_video(tmp_path / "two.mp4", "libx264", 9)
    catalog = load_catalog(write_list(tmp_path, ["one 0", "two.mp4 1"]), Data(train="all.list"))
    assert [catalog.video(row).access for row in catalog.usable] == ["frames", "ranged"]
    assert catalog.frames_N.tolist() == [12, 9]


# The command, and clips


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Return the configs of one set as videos and as folders of frames."""
    folder = tmp_path_factory.mktemp("both")
    source = write_set(folder)
    assert prepare.main(["frames", source, "--out", str(folder / "frames"), "--workers", "1"]) == 0
    videos, frames = (
        make_config(source),
        replace(make_config(source), data=make_data(str(folder / "frames" / "all.list"))),
    )
    frames = with_section(frames, "data", val=frames.data.train)
    load_catalog(frames.data.train, frames.data)
    return videos, frames


def test_the_command_writes_every_frame_once_and_lists_to_match(tmp_path):
    write_video(tmp_path / "a b.mkv", "libx264", 9, b_frames=2)
    source = write_list(tmp_path, ["a b.mkv 3"])
    assert prepare.main(["frames", source, "--out", str(tmp_path / "new"), "--workers", "1"]) == 0
    assert (tmp_path / "new" / "all.list").read_text() == "a b 9 3\n"
    names = sorted(path.name for path in (tmp_path / "new" / "a b").iterdir())
    assert names == [PATTERN.format(number) for number in range(1, 10)]
    pictures = [np.asarray(Image.open(tmp_path / "new" / "a b" / name)) for name in names]
    assert [number_in(picture_HWC) for picture_HWC in pictures] == list(range(9))


def test_frames_of_a_rotated_video_are_extracted_upright(shared, tmp_path):
    source = write_list(tmp_path, [f"{shared}/data/nasty/torchcodec__nasa_13013_rotated.mp4 0"])
    assert prepare.main(["frames", source, "--out", str(tmp_path / "new"), "--workers", "1"]) == 0
    assert probe(tmp_path / "new" / "torchcodec__nasa_13013_rotated").width == 270
    assert "turned upright" in json.loads((tmp_path / "new" / "done.jsonl").read_text())["changes"]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize(("split", "crops"), [("train", "center"), ("val", "center"), ("val", "ten")])
def test_frames_and_videos_give_the_same_clips(both, split, crops, device):
    """JPEG of quality 95, decoded by DALI, has nearly the pixels of H.264, decoded by PyAV."""
    videos, frames = (with_section(config, "eval", crops=crops) for config in both)
    frames = with_section(frames, "runtime", device=device)
    distances = []
    for (ours, *rows), (theirs, *same_rows) in zip(read(frames, split), read(videos, split), strict=True):
        np.testing.assert_array_equal(rows, same_rows)
        used = rows[1] >= 0
        distances.append(np.abs(np.moveaxis(ours[used] - theirs[used], 3, -1) * STD * 255))
    luma = max((distance @ LUMA).max() for distance in distances)
    mean = np.mean([distance.mean() for distance in distances])
    print(f"{split}, {crops}: at most {luma:.1f} grey levels of luma apart, {mean:.2f} on average")
    assert luma < 8
    assert mean < 1.2


def test_a_damaged_picture_makes_only_its_own_video_unreadable(both, tmp_path):
    _, config = both
    whole = read(config, "val")
    folder = Path(config.data.val).parent / "6"
    names, status = sorted(folder.iterdir()), folder.stat()
    kept = [path.read_bytes() for path in names]
    for path in names:
        path.write_bytes(b"\xff\xd8\xff" + bytes(100))  # written in place: the folder's own time stays
    assert folder.stat().st_mtime_ns == status.st_mtime_ns
    loader = build_loader(config, "val")
    batches = list(map(arrays, loader.epoch(0)))
    loader.close()
    for path, content in zip(names, kept, strict=True):
        path.write_bytes(content)
    assert [bad.row for bad in loader.unreadable] == [6]
    for (clips, _, row_B), (same, label_B, same_row_B) in zip(whole, batches, strict=True):
        good = same_row_B >= 0
        assert set(row_B[~good]) <= {6, -1}
        assert (label_B[~good] == -1).all()
        np.testing.assert_array_equal(clips[good], same[good])
