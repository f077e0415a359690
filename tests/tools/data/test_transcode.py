"""Transcoding: every frame once, upright, in plain colours, in short groups; resumable; sources are kept."""

import errno
import json
import os
import re
import shutil
import signal
from pathlib import Path

import av
import numpy as np
import pytest

from configs.schema import Data
from dali_pipes.cut.cutter import cut
from dali_pipes.cut.decode import decode_frames
from dali_pipes.scan.build import load_catalog
from dali_pipes.scan.probe import probe
from dali_pipes.scan.processes import Failure
from tests.support.files.kills import EQUAL_BYTES, call_killed_at
from tests.support.files.trees import contents
from tests.support.videos import number_in, write_video
from tools import prepare
from tools.data.conversion import convert as convert_module
from tools.data.conversion.files import LOCK
from tools.data.conversion.reencode import ENCODERS, Settings
from tools.data.conversion.reencode import write_video as transcode
from tools.data.conversion.upright import stored_size

FRAMES = 20
UPRIGHT = 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30  # display matrices, as mp4 has them
ON_SIDE = 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30


def settings(codec="h264", **changes):
    quality = {"crf": ENCODERS[codec].quality, "gop": 8}
    return Settings(codec=codec, **{**quality, **changes}).__dict__


def psnr(some: np.ndarray, others: np.ndarray) -> float:
    """Return the PSNR in decibels over all values of two uint8 arrays."""
    return float(10 * np.log10(255**2 / np.mean((some.astype(float) - others) ** 2)))


def cut_decode(path, numbers):
    video = probe(str(path))
    return decode_frames(cut(video, np.asarray(numbers)), str(path))


def write_set(folder: Path, videos: int = 4) -> Path:
    """Write videos of two classes, one of them unreadable; return the list."""
    for number in range(videos):
        write_video(folder / f"{number}.avi", "mpeg4", FRAMES + number)
    (folder / "bad.mp4").write_text("no video")
    names = [f"{number}.avi" for number in range(videos)]
    lines = [f"{name} {place % 2}" for place, name in enumerate([*names[:2], "bad.mp4", *names[2:], names[0]])]
    (folder / "all.list").write_text("\n".join(lines).replace(f"{names[0]} 1", f"{names[0]} 0"))
    return folder / "all.list"


# One video


@pytest.mark.parametrize("codec", ENCODERS)
def test_every_frame_is_transcoded_once_and_in_order(tmp_path, codec):
    source = probe(str(write_video(tmp_path / "source.mkv", "libx264", FRAMES, gop=100, b_frames=3)))
    made = transcode(source, str(tmp_path / "new.mp4"), settings(codec))
    assert made["frames"] == FRAMES
    assert [number_in(frame) for frame in cut_decode(tmp_path / "new.mp4", range(FRAMES))] == list(range(FRAMES))


def test_each_frame_is_progress_so_that_a_long_video_may_take_its_time(tmp_path, monkeypatch):
    steps = []
    monkeypatch.setattr("dali_pipes.scan.processes.restart_time_limit", lambda: steps.append(1))
    source = probe(str(write_video(tmp_path / "source.mkv", "libx264", FRAMES)))
    probe(source.path, "full")
    checked, steps[:] = len(steps), []
    transcode(source, str(tmp_path / "new.mp4"), settings())
    assert checked >= 2 * FRAMES  # decoded whole, and in cuts
    assert len(steps) >= 4 * FRAMES  # decoded, encoded, and what was written is checked as above


@pytest.mark.parametrize(("codec", "gop", "groups"), [("h264", 8, 3), ("hevc", 8, 3), ("vp9", 8, 3), ("h264", 1, 20)])
def test_transcoded_groups_have_the_requested_length_without_reordering(tmp_path, codec, gop, groups):
    source = probe(str(write_video(tmp_path / "source.mp4", "libx264", FRAMES)))
    transcode(source, str(tmp_path / "new.mp4"), settings(codec, gop=gop))
    new = probe(str(tmp_path / "new.mp4"))
    assert len(new.groups) == groups
    assert not new.reordered and new.access == "ranged"


def test_the_pictures_are_those_of_the_source(tmp_path):
    source = write_video(tmp_path / "source.mp4", "libx264", FRAMES)
    transcode(probe(str(source)), str(tmp_path / "new.mp4"), settings(crf=10))
    assert psnr(cut_decode(source, range(FRAMES)), cut_decode(tmp_path / "new.mp4", range(FRAMES))) > 38


def test_the_same_source_gives_the_same_bytes(tmp_path):
    source = probe(str(write_video(tmp_path / "source.mp4", "libx264", FRAMES)))
    for name in ("one.mp4", "two.mp4"):
        transcode(source, str(tmp_path / name), settings())
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()


def test_the_index_comes_first_and_there_is_no_sound(shared, tmp_path):
    source = probe(str(shared / "data" / "nasty" / "torchcodec__nasa_13013.mp4"))
    transcode(source, str(tmp_path / "new.mp4"), settings())
    content = (tmp_path / "new.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    with av.open(str(tmp_path / "new.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]


@pytest.mark.parametrize(
    ("size", "upscale", "stored"),
    [
        ((1920, 1080), False, (448, 256)),
        ((1080, 1920), False, (256, 448)),
        ((340, 256), False, (336, 256)),
        ((320, 240), False, (320, 240)),
        ((320, 240), True, (336, 256)),
        ((175, 143), False, (160, 128)),  # never larger than the source
        ((7, 5), False, (16, 16)),  # 16 is the smallest size
    ],
)
def test_sizes_are_multiples_of_sixteen_near_the_short_side(size, upscale, stored):
    assert stored_size(*size, short_side=256, upscale=upscale) == stored


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_rotated_phone_videos_are_transcoded_upright(shared, tmp_path, angle):
    """The files show one scene, filmed in different orientations; `rotation` is FFmpeg's reading of their matrix."""
    path = shared / "data" / "nasty" / f"decord__video_{angle}.mov"
    made = transcode(probe(str(path)), str(tmp_path / "new.mp4"), settings(crf=10))
    assert "turned upright" in made["changes"]
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        seen = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
    new = cut_decode(tmp_path / "new.mp4", [0])[0]
    scaled = av.VideoFrame.from_ndarray(np.ascontiguousarray(seen), format="rgb24").reformat(*new.shape[1::-1])
    assert psnr(new, scaled.to_ndarray()) > 32


def test_a_changing_frame_rate_becomes_an_even_one_and_is_named(shared, tmp_path):
    source = probe(str(shared / "data" / "nasty" / "derived__vfr.mp4"))
    made = transcode(source, str(tmp_path / "new.mp4"), settings())
    assert any("changing frame rate" in change for change in made["changes"])
    with av.open(str(tmp_path / "new.mp4")) as container:
        times = [frame.pts for frame in container.decode(video=0)]
    assert len(times) == source.frames
    assert len(set(np.diff(times))) == 1


# Whole sets


def convert(source: Path, out: Path, *flags: str) -> int:
    return prepare.main(["transcode", str(source), "--out", str(out), "--workers", "1", "--gop", "8", *flags])


def jsonl(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_set_is_transcoded_with_its_lists(tmp_path):
    source = write_set(tmp_path)
    assert convert(source, tmp_path / "new") == 0
    assert (tmp_path / "new" / "all.list").read_text() == "0.mp4 0\n1.mp4 1\n2.mp4 1\n3.mp4 0\n0.mp4 0\n"
    assert [(Path(entry["path"]).name, entry["reason"]) for entry in jsonl(tmp_path / "new" / "left_out.jsonl")] == [
        ("bad.mp4", "is damaged, or not a video")
    ]
    assert prepare.main(["verify", str(tmp_path / "new" / "all.list"), "--full"]) == 0
    for number in range(4):
        frames = FRAMES + number
        assert [number_in(f) for f in cut_decode(tmp_path / "new" / f"{number}.mp4", range(frames))] == list(
            range(frames)
        )


def test_a_video_is_transcoded_again_only_if_its_source_or_a_setting_changed(tmp_path):
    source, new = write_set(tmp_path), tmp_path / "new"

    def made_again(*flags: str) -> set[str]:
        before = {path.name: path.stat().st_ino for path in new.glob("*.mp4")}
        assert convert(source, new, *flags) == 0
        return {path.name for path in new.glob("*.mp4") if path.stat().st_ino != before.get(path.name)}

    assert len(made_again()) == 4
    assert made_again() == set()
    write_video(tmp_path / "1.avi", "mpeg4", FRAMES - 1)
    (new / "3.mp4").unlink()
    assert made_again() == {"1.mp4", "3.mp4"}
    assert len(made_again("--crf", "30")) == 4


def test_files_that_differ_only_in_their_suffix_get_different_names(tmp_path):
    for name in ("a.avi", "a.mp4", "b.mkv"):
        write_video(tmp_path / name, "mpeg4", 4)
    (tmp_path / "all.list").write_text("a.avi 0\na.mp4 1\nb.mkv 2\n")
    assert convert(tmp_path / "all.list", tmp_path / "new") == 0
    assert (tmp_path / "new" / "all.list").read_text() == "a.avi.mp4 0\na.mp4.mp4 1\nb.mp4 2\n"


def test_a_folder_of_classes_keeps_its_classes(tmp_path):
    for name in ("jump", "run", "swim"):
        (tmp_path / "all" / name).mkdir(parents=True)
    write_video(tmp_path / "all" / "swim" / "1.mp4", "mpeg4", 4)
    write_video(tmp_path / "all" / "jump" / "1.mp4", "mpeg4", 4)
    assert convert(tmp_path / "all", tmp_path / "new") == 0
    assert (tmp_path / "new" / "all.list").read_text() == "jump/1.mp4 0\nswim/1.mp4 2\n"
    assert (tmp_path / "new" / "all.classes.txt").read_text() == "jump\nrun\nswim\n"


def test_nothing_is_written_over_a_source(tmp_path, capsys):
    write_video(tmp_path / "a.mp4", "mpeg4", 4)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "all.list").write_text("a.mp4 0\n")
    before = (tmp_path / "a.mp4").read_bytes()
    for force in ([], ["--force"]):
        assert convert(tmp_path / "lists" / "all.list", tmp_path, "--root", str(tmp_path), *force) == 2
    assert "a.mp4: is a source of this command, which is never replaced" in capsys.readouterr().err
    assert (tmp_path / "a.mp4").read_bytes() == before


def test_a_set_without_a_single_video_is_an_error(tmp_path, capsys):
    (tmp_path / "bad.mp4").write_text("no video")
    (tmp_path / "all.list").write_text("bad.mp4 0\n")
    assert convert(tmp_path / "all.list", tmp_path / "new") == 2
    assert "nothing is left" in capsys.readouterr().err


def test_verify_names_each_bad_video_with_its_reason(tmp_path, capsys):
    assert prepare.main(["verify", str(write_set(tmp_path))]) == 1
    assert capsys.readouterr().out == f"1 video: is damaged, or not a video\n    {tmp_path / 'bad.mp4'}\n"


def transcode_until(moment: int, source: Path, out: Path) -> int:
    command = ["transcode", str(source), "--out", str(out), "--workers", "1", *EQUAL_BYTES]
    return call_killed_at(moment, out, prepare.main, command)


def test_transcoding_killed_twice_and_rerun_gives_the_same_files(tmp_path):
    source = write_set(tmp_path, videos=3)
    assert transcode_until(0, source, tmp_path / "whole") == 0
    assert transcode_until(10, source, tmp_path / "killed") == -signal.SIGKILL
    assert transcode_until(10, source, tmp_path / "killed") == -signal.SIGKILL
    assert transcode_until(0, source, tmp_path / "killed") == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert not list((tmp_path / "killed").glob(".tmp-*"))


IN_THE_WAY = {
    "a result": "0.mp4",
    "the list": "all.list",
    "the rows left out": "left_out.jsonl",
    "the record of results": "done.jsonl",
}


@pytest.mark.parametrize("name", IN_THE_WAY.values(), ids=IN_THE_WAY)
@pytest.mark.parametrize("written", [False, True], ids=["before", "after"])
def test_a_users_file_among_the_results_is_refused_and_replaced_by_force(tmp_path, capsys, name, written):
    source, new = write_set(tmp_path, videos=2), tmp_path / "new"
    new.mkdir()
    assert not written or convert(source, new) == 0
    (new / name).write_text("mine")
    assert convert(source, new, "--crf", "30") == 2
    assert re.search(f"{name}: is in the way: .* --force replaces it", capsys.readouterr().err)
    assert (new / name).read_text() == "mine"
    assert written or sorted(path.name for path in new.iterdir()) == sorted([LOCK, name])
    assert convert(source, new, "--crf", "30", "--force") == 0
    assert (new / name).read_bytes() != b"mine"
    assert convert(source, new, "--crf", "28") == 0


def test_a_folder_of_frames_to_which_a_user_has_added_a_file_stays(tmp_path, capsys):
    source, new = write_set(tmp_path, videos=1), tmp_path / "new"
    words = ["frames", str(source), "--out", str(new), "--workers", "1"]
    assert prepare.main(words) == 0
    (new / "0" / "notes.txt").write_text("mine")
    for force in ([], ["--force"]):
        assert prepare.main([*words, "--quality", "50", *force]) == 2
        assert f"{new}/0: is a folder; name another file, or remove it" in capsys.readouterr().err
    (new / "0" / "notes.txt").unlink()
    assert prepare.main([*words, "--quality", "50"]) == 2  # its time has changed
    shutil.rmtree(new / "0")
    assert prepare.main([*words, "--quality", "50"]) == 0


def test_results_of_another_source_are_not_replaced(tmp_path, capsys):
    new = tmp_path / "new"
    for folder in "ab":
        (tmp_path / folder).mkdir()
        write_video(tmp_path / folder / "0.mp4", "mpeg4", 4)
        (tmp_path / folder / f"{folder}.list").write_text("0.mp4 0\n")
    assert convert(tmp_path / "a" / "a.list", new) == 0
    before = (new / "0.mp4").read_bytes()
    assert convert(tmp_path / "b" / "b.list", new) == 2
    assert f"0.mp4: was made of {tmp_path}/a/0.mp4, not of {tmp_path}/b/0.mp4" in capsys.readouterr().err
    assert (new / "0.mp4").read_bytes() == before


def test_a_result_that_is_a_link_does_not_change_its_target(tmp_path, capsys):
    source, new = write_set(tmp_path, videos=1), tmp_path / "new"
    assert convert(source, new) == 0
    (new / "0.mp4").rename(tmp_path / "kept.mp4")
    kept = (tmp_path / "kept.mp4").read_bytes()
    (new / "0.mp4").symlink_to(tmp_path / "kept.mp4")
    assert convert(source, new, "--crf", "30") == 2
    assert "--force replaces it" in capsys.readouterr().err
    assert (tmp_path / "kept.mp4").read_bytes() == kept


def test_videos_with_nested_frame_folders_keep_their_endings(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("a.mp4", "a/b.mp4", "all.list.mp4"):
        write_video(tmp_path / name, "mpeg4", 4)
    (tmp_path / "all.list").write_text("a.mp4 0\na/b.mp4 1\n")
    assert prepare.main(["frames", f"{tmp_path}/all.list", "--out", f"{tmp_path}/new", "--workers", "1"]) == 0
    assert (tmp_path / "new" / "all.list").read_text() == "a.mp4 4 0\na/b 4 1\n"
    (tmp_path / "all.list").write_text("all.list.mp4 0\n")
    assert prepare.main(["frames", f"{tmp_path}/all.list", "--out", f"{tmp_path}/more", "--workers", "1"]) == 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_stops_the_work_and_omits_no_video(tmp_path, monkeypatch, capsys, number):
    source = write_set(tmp_path)
    full = Failure(f"cannot be transcoded ({os.strerror(number)})")
    monkeypatch.setattr(convert_module, "call_all", lambda function, calls, count: [(call.key, full) for call in calls])
    assert convert(source, tmp_path / "new") == 2
    refusal = f"{tmp_path}/new: the disk is full ({os.strerror(number)}); make room and start again to go on\n"
    assert refusal in capsys.readouterr().err
    assert not (tmp_path / "new" / "all.list").exists()


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (["--crf", "99"], "--crf: 99 is not between 0 and 51, which h264 has"),
        (["--crf", "0", "--codec", "mjpeg"], "--crf: 0 is not between 1 and 31, which mjpeg has"),
    ],
)
def test_a_setting_that_no_encoder_has_is_refused(tmp_path, capsys, words, refusal):
    assert convert(tmp_path / "any.list", tmp_path / "new", *words) == 2
    assert capsys.readouterr().err == f"prepare.py transcode: {refusal}\n"


def test_a_split_of_a_table_keeps_its_name(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, "mpeg4", 4)
    (tmp_path / "table.csv").write_text("path,label,split\na.mp4,0,train\nb.mp4,1,val\n")
    assert convert(f"{tmp_path}/table.csv:train", tmp_path / "new") == 0
    assert (tmp_path / "new" / "table-train.list").read_text() == "a.mp4 0\n"


def test_the_settings_for_the_new_set_are_printed(tmp_path, capsys):
    write_video(tmp_path / "a.mp4", "mpeg4", 4)
    (tmp_path / "train.list").write_text("a 0\n")
    new = tmp_path / "new"
    assert convert(tmp_path / "train.list", new, "--suffix", ".mp4") == 0
    assert f"for a recipe: data.root={new} data.train={new}/train.list data.suffix=\n" in capsys.readouterr().err
    frames = tmp_path / "frames"
    assert prepare.main(["frames", str(new / "train.list"), "--out", str(frames), "--pattern", "{:03}.jpg"]) == 0
    found = f"data.root={frames} data.train={frames}/train.list data.decoder=jpeg 'data.frame_pattern={{:03}}.jpg'\n"
    assert f"for a recipe: {found}" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["classes.txt", "train.classes.txt"])
def test_names_next_to_a_numbered_list_are_kept(tmp_path, capsys, name):
    write_video(tmp_path / "a.mp4", "mpeg4", 4)
    (tmp_path / "train.list").write_text("a.mp4 1\n")
    (tmp_path / name).write_text("jump\nrun\n")
    new, packed, some = tmp_path / "new", tmp_path / "packed", tmp_path / "some"
    assert convert(tmp_path / "train.list", new) == 0
    assert (new / "train.classes.txt").read_text() == "jump\nrun\n"
    said = capsys.readouterr().err
    assert f"train.list: the names of its classes are those of {tmp_path / name}\n" in said
    assert f"data.train={new}/train.list data.class_names={new}/train.classes.txt\n" in said
    assert prepare.main(["pack", str(new / "train.list"), "--out", str(packed)]) == 0
    assert (packed / "train.classes.txt").read_text() == "jump\nrun\n"
    assert f"data.train={packed}/train.list data.class_names={packed}/train.classes.txt\n" in capsys.readouterr().err
    assert prepare.main(["subset", str(new / "train.list"), "--per-class", "1", "--out", str(some)]) == 0
    assert (some / "classes.txt").read_text() == "jump\nrun\n"


def test_names_next_to_a_list_that_lack_a_label_are_not_used(tmp_path, capsys):
    write_video(tmp_path / "a.mp4", "mpeg4", 4)
    (tmp_path / "train.list").write_text("a.mp4 7\n")
    (tmp_path / "classes.txt").write_text("jump\nrun\n")
    assert convert(tmp_path / "train.list", tmp_path / "new") == 0
    assert f"{tmp_path}/classes.txt is not taken for the class names" in capsys.readouterr().err
    assert not (tmp_path / "new" / "train.classes.txt").exists()


def test_a_part_of_a_video_keeps_its_frames(tmp_path):
    write_video(tmp_path / "a.avi", "mpeg4", FRAMES)
    (tmp_path / "parts.csv").write_text("path,start,end,label\na.avi,0.1,0.3,0\na.avi,,,1\na.avi,9,10,1\n")
    out = tmp_path / "out"
    words = ["transcode", str(tmp_path / "parts.csv"), "--out", str(out), "--workers", "1"]
    assert prepare.main(words) == 0
    before, after = (
        load_catalog(str(source), Data(max_bad_fraction=1)) for source in (tmp_path / "parts.csv", out / "parts.list")
    )
    assert before.frames_N.tolist() == [6, FRAMES, 0] and after.frames_N.tolist() == [6, FRAMES]
    assert before.first_frame_N.tolist() == [3, 0, 0] and after.first_frame_N.tolist() == [3, 0]
    (left_out,) = map(json.loads, (out / "left_out.jsonl").read_text().splitlines())
    assert "before its part from 9 s to 10 s begins" in left_out["reason"]
    assert prepare.main(["frames", str(tmp_path / "parts.csv"), "--out", str(tmp_path / "pictures")]) == 2
