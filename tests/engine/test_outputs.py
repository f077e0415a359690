"""Results replace only earlier results that nobody has changed."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from configs import ConfigError
from configs.schema import Data
from engine import outputs
from engine.output_record import RECORD, is_result, record
from engine.outputs import Outputs
from tests.support.memory import limited_file_size
from tests.support.paths import ROOT


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_result_is_replaced_by_the_next_one(tmp_path):
    file = tmp_path / "a.list"
    for text in ("one\n", "two\n", "one\n", "three\n"):
        Outputs().write({file: text})
        assert file.read_text() == text
    assert names(file.parent) == [RECORD, "a.list"]


def test_a_full_disk_names_the_file_and_leaves_no_part_of_it(tmp_path):
    file = tmp_path / "page.html"
    with limited_file_size(1 << 12), pytest.raises(OSError, match=r"page\.html"):
        Outputs().write({file: "x" * (1 << 14)})
    assert not names(tmp_path)


def place_users_file(path):
    path.write_text("mine")


def place_changed_result(path):
    Outputs().write({path: "result"})
    path.write_text("result, corrected by hand")


def place_copied_result(path):
    Outputs().write({path.parent / "result": "result"})
    path.write_text("result")


def place_link(path):
    path.with_name("mine").write_text("mine")
    path.symlink_to("mine")


def place_link_to_result(path):
    Outputs().write({path.with_name("result"): "result"})
    path.symlink_to("result")


def place_broken_link(path):
    path.symlink_to("gone")


def place_older_result_than_the_record(path):
    Outputs().write({path: "result"})
    path.write_text("mine")
    (path.parent / RECORD).unlink()


IN_THE_WAY = [value for name, value in list(globals().items()) if name.startswith("place_")]


@pytest.mark.parametrize("place", IN_THE_WAY)
def test_existing_files_are_refused_and_force_replaces_them_without_following_links(tmp_path, place):
    file = tmp_path / "file"
    place(file)
    link = os.readlink(file) if file.is_symlink() else None
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path) if (tmp_path / name).exists()}
    with pytest.raises(ConfigError, match=r"file: is in the way: .*; move it, or name another place"):
        Outputs().write({tmp_path / "another": "new", file: "new"})
    with pytest.raises(ConfigError, match="--force"), Outputs(force=False).growing(file):
        pass
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path) if (tmp_path / name).exists()} == before
    assert link == (os.readlink(file) if file.is_symlink() else None)
    Outputs(force=True).write({file: "new"})
    assert file.read_text() == "new" and not file.is_symlink()
    others = before.keys() - {"file", RECORD}
    assert {name: (tmp_path / name).read_bytes() for name in others} == {name: before[name] for name in others}
    Outputs().write({file: "newer"})


@pytest.mark.parametrize("spell", [lambda path: path, lambda path: path.parent / "link"])
def test_a_source_is_never_replaced_not_even_by_force_or_as_a_result(tmp_path, spell):
    source = tmp_path / "a.list"
    Outputs().write({source: "rows"})
    (tmp_path / "link").hardlink_to(source)
    with pytest.raises(ConfigError, match="is a source of this command"):
        Outputs([source], force=True).write({spell(source): "fewer rows"})
    assert source.read_text() == (tmp_path / "link").read_text() == "rows"
    Outputs([source]).write({spell(source): "rows"})  # nothing changes


def test_replacing_a_result_does_not_change_its_hard_links(tmp_path):
    file, kept = tmp_path / "file", tmp_path / "kept"
    Outputs().write({file: "old"})
    kept.hardlink_to(file)
    Outputs().write({file: "new"})
    with Outputs().growing(file) as growing:
        growing.write("newest")
    assert (kept.read_text(), file.read_text()) == ("old", "newest")


def test_a_growing_file_is_seen_at_once_and_is_a_result_also_after_an_error(tmp_path):
    file = tmp_path / "file"
    with pytest.raises(ZeroDivisionError), Outputs().growing(file) as growing:
        print("one", file=growing, flush=True)
        assert file.read_text() == "one\n"
        growing.write(str(1 / 0))
    Outputs().write({file: "again"})


def test_a_kill_before_a_file_is_in_place_leaves_it_a_result(tmp_path, monkeypatch):
    file = tmp_path / "file"
    Outputs().write({file: "old"})

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            Outputs().write({file: "new"})
    assert file.read_text() == "old"
    Outputs().write({file: "newer"})
    assert names(tmp_path) == [RECORD, "file"]


def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with Outputs().replacing(pipe) as file:
        file.write("one")
    with Outputs().growing(pipe) as file:
        file.write("two")
    assert os.read(reader, 100) == b"onetwo" and pipe.is_fifo()
    os.close(reader)


def test_what_is_appended_to_the_redirected_standard_output_keeps_what_is_there(tmp_path):
    """`predict.py --json /dev/stdout >> all.jsonl`: opened by its name, the file would be emptied."""
    file = tmp_path / "all.jsonl"
    file.write_text("before\n")
    script = """
from pathlib import Path
from engine.outputs import Outputs
print("printed", flush=True)
for name in ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"):
    Outputs().write({Path(name): f"{name}\\n"})
with Outputs().growing(Path("/dev/stdout")) as out:
    out.write("growing\\n")
"""
    with file.open("a") as redirected:
        subprocess.run([sys.executable, "-c", script], cwd=ROOT, stdout=redirected, check=True)
    expected = ["before", "printed", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "growing"]
    assert file.read_text().splitlines() == expected


def test_a_device_is_never_replaced_by_a_finished_file(tmp_path):
    os.mkfifo(tmp_path / "device")
    (tmp_path / "made").write_text("x")
    with pytest.raises(ConfigError, match="is a device or a pipe; name a file"):
        Outputs().place(tmp_path / "made", tmp_path / "device")


def test_a_folder_in_the_way_is_refused_even_by_force(tmp_path):
    (tmp_path / "file").mkdir()
    with pytest.raises(ConfigError, match="is a folder"):
        Outputs(force=True).write({tmp_path / "file": "new"})


def test_names_may_hold_any_bytes(tmp_path):
    file = tmp_path / os.fsdecode(b"caf\xe9\n")
    for text in ("one", "two"):
        Outputs().write({file: text})
    assert file.read_text() == "two"


def test_a_file_whose_writing_failed_is_the_old_one_and_nothing_else_is_left(tmp_path):
    Outputs().write({tmp_path / "file": "old"})
    with pytest.raises(ZeroDivisionError), Outputs().replacing(tmp_path / "file") as file:
        file.write("new" + str(1 // 0))
    assert {path.name for path in tmp_path.iterdir()} == {"file", RECORD}
    assert (tmp_path / "file").read_text() == "old"


def test_two_writers_that_replace_a_file_at_once_do_not_write_into_each_others(tmp_path):
    with Outputs().replacing(tmp_path / "file") as mine:
        mine.write("mine")
        Outputs().write({tmp_path / "file": "theirs, and longer"})
        assert (tmp_path / "file").read_text() == "theirs, and longer"
    assert {path.name for path in tmp_path.iterdir()} == {"file", RECORD}
    assert (tmp_path / "file").read_text() == "mine"


def test_a_file_in_memory_is_a_file_and_not_a_device():
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        file = Path(folder, "status.json")
        Outputs().write({file: "{}"})
        assert is_result(file)


def test_outputs_that_a_disk_treats_as_one_file_are_refused(tmp_path, monkeypatch):
    texts = {tmp_path / "Cat.json": "1", tmp_path / "cat.json": "2"}
    monkeypatch.setattr(os.path, "samefile", lambda a, b: str(a).casefold() == str(b).casefold())  # as such a disk
    for force in (False, True):
        with pytest.raises(ConfigError, match="named twice, as its disk ignores the case"):
            Outputs(force=force).write(texts)
    assert names(tmp_path) == []
    monkeypatch.undo()
    Outputs().write(texts)
    assert {"Cat.json", "cat.json"} <= set(names(tmp_path))


def test_a_file_that_a_disk_shows_under_another_case_is_in_the_way(tmp_path):
    """A link stands for the second name of a file on such a disk."""
    (tmp_path / "Notes.json").write_text("mine")
    (tmp_path / "notes.json").hardlink_to(tmp_path / "Notes.json")
    with pytest.raises(ConfigError, match="in the way"):
        Outputs().write({tmp_path / "notes.json": "new"})
    with pytest.raises(ConfigError, match="source"):
        Outputs([tmp_path / "Notes.json"], force=True).write({tmp_path / "notes.json": "new"})
    assert (tmp_path / "Notes.json").read_text() == "mine"


def test_lists_their_videos_and_class_names_are_never_replaced_and_read_only_if_a_file_is_in_the_way(
    tmp_path, monkeypatch
):
    asked = []
    monkeypatch.setattr(outputs, "videos_of", lambda data, names: (asked.append(1) or path for path in ["a.mp4"]))
    monkeypatch.chdir(tmp_path)
    results = Outputs(force=True)
    for name in ("a.mp4", "train.csv", "val.csv", "test.csv", "names.txt"):
        Path(name).write_text("input")
    Path("b.mp4").hardlink_to("a.mp4")
    results.add_lists(Data(train="train.csv:train", val="val.csv", test="test.csv:test2", class_names="names.txt"))
    results.write({Path("new"): "text"})
    assert not asked
    for name in ("a.mp4", "b.mp4", "train.csv", "val.csv", "test.csv", "names.txt"):
        with pytest.raises(ConfigError, match="is a source of this command, which is never replaced"):
            results.write({Path(name): "result"})


def test_a_source_may_name_a_split_of_its_file(tmp_path):
    (tmp_path / "all.csv").write_text("input")
    with pytest.raises(ConfigError, match="is a source of this command, which is never replaced"):
        Outputs([f"{tmp_path}/all.csv:val"], force=True).write({tmp_path / "all.csv": "result"})
    (tmp_path / "set").mkdir()
    with pytest.raises(ConfigError, match="would be read with the results"):
        outputs.refuse_inside(tmp_path / "set" / "new", [f"{tmp_path}/set:val"])


@pytest.mark.parametrize("place", ["set", "set/new", "link/new", "set/a/../new", "other/../set/"])
def test_results_are_not_written_into_a_folder_that_is_read_as_a_list(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    for name in ("set/a", "other"):
        Path(name).mkdir(parents=True)
    Path("link").symlink_to("set")
    for source in ("set", "./set/", "link", str(tmp_path)):
        with pytest.raises(ConfigError, match="a source of this command, which would be read with the results"):
            outputs.refuse_inside(Path(place), [source])
    outputs.refuse_inside(Path("other/set"), ["set", "gone", None, ""])
    outputs.refuse_inside(Path("set"), ["set"], strictly=True)
    with pytest.raises(ConfigError):
        outputs.refuse_inside(Path("set/new"), ["set"], strictly=True)


def test_lines_that_are_not_utf_8_are_appended(tmp_path):
    for line in ("\udcff.mp4", "b.mp4"):
        Outputs().append_line(tmp_path / "log", line)
    assert (tmp_path / "log").read_bytes() == b"\xff.mp4\nb.mp4\n"


def test_a_result_with_the_number_of_a_replaced_source_is_none(tmp_path):
    """A disk gives the number of a file that is gone to a new one."""
    (tmp_path / "a.list").write_text("a.mp4 0\n")
    outputs = Outputs([tmp_path / "a.list"])
    os.link(tmp_path / "a.list", tmp_path / "status.json")  # the number, as a disk may give it again
    record(tmp_path / "status.json", tmp_path / "status.json")
    with pytest.raises(ConfigError, match="is a source of this command"):
        outputs.write({tmp_path / "status.json": "{}"})
    (tmp_path / "a.list").unlink()
    (tmp_path / "a.list").write_text("b.mp4 0\n")
    outputs.write({tmp_path / "status.json": "{}"})
    assert (tmp_path / "status.json").read_text() == "{}"
