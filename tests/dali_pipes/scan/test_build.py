"""Scanning: which files are read, what is stored, and that bad files and kills do no harm."""

import errno
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import rich

from configs import progress
from configs.schema import Data
from dali_pipes.errors import DataError
from dali_pipes.scan import build, processes, request
from dali_pipes.scan.build import load_catalog, open_catalog, scan_divided
from tests.support.files import scripted
from tests.support.files.trees import plant
from tests.support.files.unusual_names import UNUSUAL_NAMES
from tests.support.paths import ROOT
from tests.support.videos import write_video

SCAN_IN_A_PROCESS = """
import logging
import sys
from tests.support.files import scripted
from configs.schema import Data
from dali_pipes.scan.build import load_catalog
logging.basicConfig(level=logging.INFO)
if len(sys.argv) > 2:
    scripted.die_at_result(int(sys.argv[2]))
with scripted.scanning():
    print(len(load_catalog(sys.argv[1], Data(), workers=2).usable))
"""


@pytest.fixture
def probed(tmp_path, monkeypatch):
    """Return a function that lists the files probed since its last call."""
    log = tmp_path / "probe.log"
    log.touch()
    monkeypatch.setenv("PROBE_LOG", str(log))

    def names() -> list[str]:
        lines = log.read_text().splitlines()
        log.write_text("")
        return sorted(os.path.basename(line) for line in lines)

    return names


@pytest.fixture
def listed(tmp_path):
    """Return a function that writes scripted files (name: content) and a list that gives the n-th of them label n."""

    def write(scripts: dict[str, str]) -> str:
        for name, script in scripts.items():
            (tmp_path / name).write_text(script)
        rows = [f"{name} {label}\n" for label, name in enumerate(scripts)]
        (tmp_path / "train.list").write_text("".join(rows), newline="")
        return str(tmp_path / "train.list")

    return write


def load(source: str, **data):
    """Return the catalogue of scripted files."""
    with scripted.scanning():
        return load_catalog(source, Data(**data), workers=2)


def quarantined(source: str) -> list[dict]:
    file = Path(f"{source}.scan/quarantine.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def start_scan(source: str, *killed_at: str) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCAN_IN_A_PROCESS, source, *killed_at]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.processes
def test_every_usable_row_keeps_its_own_label_whatever_was_bad(listed, probed):
    scripts = {f"{n}.mp4": "bad" if n % 10 == 3 else str(n + 1) for n in range(60)}
    catalog = load(listed(scripts), max_bad_fraction=0.1)
    found = [(catalog.path(row), catalog.label_N[row], catalog.video(row).frames) for row in catalog.usable.tolist()]
    folder = os.path.dirname(catalog.source)
    assert found == [(f"{folder}/{n}.mp4", n, n + 1) for n in range(60) if n % 10 != 3]


def test_odd_names_are_scanned(listed, probed):
    names = [name for name in UNUSUAL_NAMES if "/" not in name]
    catalog = load(listed({name: "5" for name in names}))
    assert [os.path.basename(catalog.video(row).path) for row in range(len(catalog))] == names


def test_a_second_scan_reads_no_file(listed, probed):
    source = listed({"a.mp4": "1", "b.mp4": "bad", "c.mp4": "3"})
    first = load(source, max_bad_fraction=0.5)
    assert probed() == ["a.mp4", "b.mp4", "c.mp4"]
    second = load(source, max_bad_fraction=0.5)
    assert probed() == []
    assert second.unreadable == first.unreadable and second.frames_N.tolist() == [1, 0, 3]


def test_only_new_or_changed_files_are_scanned(listed, probed, tmp_path):
    load(listed({"a.mp4": "1", "b.mp4": "2", "c.mp4": "3"}))
    probed()
    catalog = load(listed({"c.mp4": "3", "d.mp4": "40", "b.mp4": "20"}))
    assert probed() == ["b.mp4", "c.mp4", "d.mp4"]  # c was written again, so its time has changed

    os.utime(tmp_path / "b.mp4", ns=(1, 1))
    load(catalog.source)
    assert probed() == ["b.mp4"], "another time alone is a change"

    (tmp_path / "train.list").write_text("b.mp4 7\nd.mp4 7\n")
    os.utime(tmp_path / "d.mp4", ns=(1, 1))
    catalog = load(catalog.source)
    assert probed() == ["d.mp4"]
    assert catalog.frames_N.tolist() == [20, 40] and catalog.label_N.tolist() == [7, 7]


def test_a_moved_folder_is_not_scanned_again(listed, probed, tmp_path):
    (tmp_path / "here").mkdir()
    source = listed({"here/a.mp4": "1", "here/b.mp4": "2"})
    (tmp_path / "train.list").write_text("a.mp4 0\nb.mp4 1\n")
    load(source, root=str(tmp_path / "here"))
    (tmp_path / "here").rename(tmp_path / "there")
    probed()
    catalog = load(source, root=str(tmp_path / "there"))
    assert probed() == []
    assert catalog.path(1) == f"{tmp_path}/there/b.mp4"


def test_a_more_thorough_check_looks_again_and_a_lesser_one_does_not(listed, probed):
    source = listed({"a.mp4": "1"})
    load(source, check="ends")
    probed()
    load(source, check="demux")
    assert probed() == []
    load(source, check="full")
    assert probed() == ["a.mp4"]


@pytest.mark.processes
def test_files_that_crash_or_hang_the_scanner_are_quarantined(listed, probed, monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE", 1.0)
    source = listed({"a.mp4": "1", "crash.mp4": "crash", "b.mp4": "2", "hang.mp4": "hang"})
    catalog = load(source, max_bad_fraction=0.9)
    assert catalog.usable.tolist() == [0, 2]
    assert [reason for _, _, reason in catalog.unreadable] == [
        "crashed the scanner (SIGSEGV)",
        "no progress for 1 s",
    ]


@pytest.mark.processes
def test_a_bug_in_the_reader_stops_the_scan_and_quarantines_nothing(listed, probed, capfd):
    source = listed({"a.mp4": "1", "b.mp4": "mistake KeyError"})
    with pytest.raises(RuntimeError, match="failed with a bug"):
        load(source, max_bad_fraction=1.0)
    assert "KeyError: 'nobody expected this'" in capfd.readouterr().err
    assert not Path(f"{source}.scan/catalog").exists()
    assert quarantined(source) == []


@pytest.mark.processes
def test_a_scan_that_a_bug_stopped_continues_where_it_stopped(listed, probed, tmp_path, capfd):
    source = listed({"a.mp4": "1", "b.mp4": "bad", "c.mp4": "mistake TypeError"})
    with pytest.raises(RuntimeError, match="failed with a bug"):
        load(source, max_bad_fraction=0.9)
    probed()
    (tmp_path / "c.mp4").write_text("3")
    assert load(source, max_bad_fraction=0.9).usable.tolist() == [0, 2]
    assert probed() == ["c.mp4"]


def test_another_version_of_the_reader_scans_again_once(listed, probed, monkeypatch, caplog):
    source = listed({"a.mp4": "1", "b.mp4": "bad", "c.mp4": "3"})
    with monkeypatch.context() as older:
        older.setattr(build, "reader", lambda: "an older one")
        file = load(source, max_bad_fraction=0.9).file
    probed()
    load(source, max_bad_fraction=0.9)
    assert probed() == ["a.mp4", "b.mp4", "c.mp4"]
    assert f"{file}: made with another version of the reader or of FFmpeg; scanning again" in caplog.text
    load(source, max_bad_fraction=0.9)
    assert probed() == []


def test_a_read_only_catalogue_of_another_version_is_not_used(listed, probed, tmp_path, monkeypatch):
    source = listed({"a.mp4": "1"})
    with monkeypatch.context() as older:
        older.setattr(build, "reader", lambda: "an older one")
        load(source)
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    probed()
    assert load(source).file.is_relative_to(tmp_path / "own" / "dali_pipes")
    assert probed() == ["a.mp4"]


def test_the_quarantine_names_each_bad_file_once(listed, probed, tmp_path):
    source = listed({"a.mp4": "1", 'quote"é.mp4': "bad"})
    with open(source, "a") as file:
        file.write('quote"é.mp4 1\na.mp4 0\nmissing.mp4 4\n')
    load(source, max_bad_fraction=0.9)
    assert quarantined(source) == [
        {"path": f'{tmp_path}/quote"é.mp4', "label": 1, "reason": "scripted to be bad"},
        {"path": f"{tmp_path}/missing.mp4", "label": 4, "reason": "no such file"},
    ]


def test_the_quarantine_names_files_whose_names_are_no_text(probed, tmp_path):
    """A list is text, but a class folder may contain any name."""
    bad = tmp_path / "set" / "lie" / os.fsdecode(b"\xff.mp4")
    for folder in ("run", "lie"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    (tmp_path / "set" / "run" / "a.mp4").write_text("4")
    bad.symlink_to("nowhere")
    load(str(tmp_path / "set"), max_bad_fraction=0.9)
    reason = "a link to a file that does not exist"
    assert quarantined(str(tmp_path / "set")) == [{"path": str(bad), "label": 0, "reason": reason}]


def test_a_file_that_the_system_refused_is_tried_again(listed, probed):
    """A permission changes neither size nor time of a file."""
    source = listed({"a.mp4": "1", "b.mp4": "refused", "c.mp4": "bad"})
    assert load(source, max_bad_fraction=0.9).usable.tolist() == [0]
    assert [line["reason"] for line in quarantined(source)] == ["cannot be read (scripted)", "scripted to be bad"]
    assert probed() == ["a.mp4", "b.mp4", "c.mp4"]
    with pytest.MonkeyPatch.context() as allowed:
        allowed.setenv("PROBE_ALLOWED", "7")
        assert load(source, max_bad_fraction=0.9).frames_N.tolist() == [1, 7, 0]
    assert probed() == ["b.mp4"]
    load(source, max_bad_fraction=0.9)
    assert probed() == []


def test_unreadable_files_are_scanned_again_by_other_code_and_readable_ones_are_not(listed, probed, monkeypatch):
    source = listed({"a.mp4": "1", "b.mp4": "bad", "c.mp4": "2"})
    load(source, max_bad_fraction=0.9)
    probed()
    monkeypatch.setattr(build, "code", lambda: "other")
    monkeypatch.setattr(request, "code", lambda: "other")
    load(source, max_bad_fraction=0.9)
    assert probed() == ["b.mp4"]
    load(source, max_bad_fraction=0.9)
    assert probed() == []


def test_the_quarantine_is_removed_when_the_last_bad_file_is_repaired(listed, probed, tmp_path):
    source = listed({"a.mp4": "1", "b.mp4": "bad"})
    load(source, max_bad_fraction=0.9)
    (tmp_path / "b.mp4").write_text("25")
    assert load(source).frames_N.tolist() == [1, 25]
    assert not os.path.exists(f"{source}.scan/quarantine.jsonl")


def test_unreadable_files_are_quarantined_without_being_opened(listed, probed, tmp_path, monkeypatch):
    source = listed({"a.mp4": "1"})
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "nowhere")
    (tmp_path / "circle.mp4").symlink_to(tmp_path / "circle.mp4")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(tmp_path)  # a socket's full path may be too long
        listener.bind("socket.mp4")
    reasons = {
        "missing.mp4": "no such file",
        "#was.mp4": "no such file; if its line is a comment, remove it: lists have none",
        "~/a.mp4": "no such file; write the folder itself: ~ and $ are not expanded in lists",
        "run\\a.mp4": "no such file; write / in place of \\",
        '"quoted.mp4"': "no such file; write the path without the quotation marks around it",
        "folder.mp4": "contains no img_00001.jpg; is data.frame_pattern=img_{:05}.jpg right?",
        "pipe.mp4": "a pipe, not a file",
        "socket.mp4": "a socket, not a file",
        "/dev/zero": "a device, not a file",
        "dangling.mp4": "a link to a file that does not exist",
        "circle.mp4": "too many levels of symbolic links",
        "a.mp4/b.mp4": "not a directory",
        "x" * 300: "file name too long",
    }
    with open(source, "a") as file:
        file.writelines(f"{name} 1\n" for name in reasons)
    catalog = load(source, max_bad_fraction=0.99)
    assert [reason for _, _, reason in catalog.unreadable] == list(reasons.values())
    assert probed() == ["a.mp4"]


def test_forbidden_links_out_of_the_root_are_quarantined_without_being_opened(listed, probed, tmp_path):
    (tmp_path / "root").mkdir()
    source = listed({"root/a.mp4": "1", "secret.mp4": "2"})
    (tmp_path / "root" / "file.mp4").symlink_to(tmp_path / "secret.mp4")
    (tmp_path / "root" / "folder").symlink_to(tmp_path)
    (tmp_path / "root" / "within.mp4").symlink_to("a.mp4")
    (tmp_path / "train.list").write_text("a.mp4 0\nfile.mp4 1\nfolder/secret.mp4 1\nwithin.mp4 0\n")
    catalog = load(source, root=str(tmp_path / "root"), max_bad_fraction=0.9, follow_links=False)
    assert catalog.usable.tolist() == [0, 3]
    refusal = f"a link leads out of {tmp_path}/root to {tmp_path}/secret.mp4, which data.follow_links=false forbids"
    assert all(reason == refusal for *_, reason in catalog.unreadable)
    assert probed() == ["a.mp4", "within.mp4"]


@pytest.mark.processes
def test_a_killed_scan_continues_where_it_stopped(listed, probed, tmp_path):
    names = [f"{n:03d}.mp4" for n in range(120)]
    source = listed({name: "7" for name in names})
    before = []
    for _ in range(2):
        process = start_scan(source, "50")
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        before += probed()
    catalog = load(source)
    after = probed()
    assert catalog.frames_N.tolist() == [7] * 120
    assert sorted({*before, *after}) == names
    assert len(before) + len(after) <= 120 + 2 * 3  # one that is not stored yet, and one in each process
    assert sorted(os.listdir(f"{source}.scan")) == ["catalog", "lock"]


def test_two_scans_at_once_look_into_each_file_once(listed, probed):
    names = [f"{n:03d}.mp4" for n in range(60)]
    source = listed({name: "7 0.02" for name in names})
    processes = [start_scan(source), start_scan(source)]
    answers = [process.communicate() for process in processes]
    assert [out for out, _ in answers] == ["60\n", "60\n"]
    assert probed() == names
    assert "another process is scanning; waiting" in "".join(error for _, error in answers)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
@pytest.mark.filterwarnings("ignore:flock not supported")
def test_a_scan_works_on_a_file_system_without_locks(listed, probed, monkeypatch, number):
    monkeypatch.setattr("fcntl.flock", mock.Mock(side_effect=OSError(number, os.strerror(number))))
    assert load(listed({"a.mp4": "1", "b.mp4": "2"})).usable.tolist() == [0, 1]


DAMAGES = {
    "empty": lambda content: b"",
    "cut short": lambda content: content[:-9],
    "reversed": lambda content: content[::-1],
    "a label changed": lambda content: (
        content[:128] + bytes([content[128] ^ 1]) + content[129:]
    ),  # the columns start at byte 128
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_catalogue_is_rebuilt_with_a_message(listed, probed, damage, caplog):
    source = listed({"a.mp4": "1", "b.mp4": "2"})
    file = load(source).file
    file.write_bytes(damage(file.read_bytes()))
    catalog = load(source)
    assert catalog.frames_N.tolist() == [1, 2] and catalog.label_N.tolist() == [0, 1]
    assert f"{file}: damaged, or of another version; scanning again" in caplog.text


def test_a_damaged_journal_is_replaced(listed, probed):
    source = listed({"a.mp4": "1"})
    os.mkdir(f"{source}.scan")
    Path(f"{source}.scan/journal.sqlite").write_bytes(b"this is no database, whatever its name says" * 100)
    assert load(source).frames_N.tolist() == [1]


def test_a_scan_without_a_writable_folder_stops_with_a_reason(listed, probed, tmp_path):
    source = listed({"a.mp4": "1"})
    (tmp_path / "full" / "journal.sqlite").mkdir(parents=True)
    os.symlink("full", f"{source}.scan")
    with pytest.raises(DataError, match=r"train.list.scan: the scan stopped: unable to open .*; start it again"):
        load(source)
    os.remove(f"{source}.scan")
    Path(f"{source}.scan").touch()
    with pytest.raises(DataError, match=r"train.list.scan: File exists; set data.cache"):
        load(source)


def test_too_many_bad_files_are_refused_with_their_count_and_the_first_five(listed, probed):
    source = listed({f"{n}.mp4": "bad" if n < 7 else "1" for n in range(20)})
    assert len(load(source, max_bad_fraction=0.35).unreadable) == 7
    with pytest.raises(DataError) as refusal:
        load(source, max_bad_fraction=0.34)
    head, *shown = str(refusal.value).split("\n")
    assert f"{source}: 7 of 20 videos cannot be read, more than data.max_bad_fraction=0.34 allows" in head
    assert "or set 0.35; all are in" in head
    assert shown == [f"  {os.path.dirname(source)}/{n}.mp4: scripted to be bad" for n in range(5)]


def test_the_fraction_that_a_refusal_names_is_enough(listed, probed):
    source = listed({f"{n}.mp4": "bad" if n < 29 else "1" for n in range(100)})
    with pytest.raises(DataError, match=r"or set 0\.29;"):
        load(source, max_bad_fraction=0.28)
    assert len(load(source, max_bad_fraction=0.29).unreadable) == 29


def test_a_set_without_a_readable_video_is_refused_at_any_max_bad_fraction(listed, probed):
    with pytest.raises(DataError, match="2 of 2 videos cannot be read, so nothing is left"):
        load(listed({"a.mp4": "bad", "b.mp4": "bad"}), max_bad_fraction=1.0)


def test_a_wrong_root_or_suffix_is_suggested_if_no_file_exists(listed, probed, tmp_path):
    source = listed({"a.mp4": "1"})
    with pytest.raises(DataError, match=r"none of its 1 files exists; data.root=/wrong is .*; tried /wrong/a.mp4"):
        load(source, root="/wrong")
    with pytest.raises(DataError, match=r"their paths need no data\.suffix=\.mp4, so set data\.suffix=; tried "):
        load(source, suffix=".mp4")


@pytest.mark.processes
def test_the_summary_describes_the_set_in_one_line(listed, probed, monkeypatch, caplog):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    source = listed({f"{n}.mp4": "bad" if n < 3 else "300" for n in range(100)})
    load(source, max_bad_fraction=0.03)
    load(source, max_bad_fraction=0.03)
    *steps, scanned, again = caplog.messages
    what = (
        f"97 readable, 3 quarantined (see {source}.scan/quarantine.jsonl); "
        "h264 100 %, 340x256; median 300 frames, keyframe every 4"
    )
    assert re.fullmatch(rf"{source}: scanned 100 videos in \d+\.\d s: {re.escape(what)}", scanned)
    assert again == f"{source}: 100 videos, none new or changed: {what}"
    assert len(steps) == 100 and re.fullmatch(r"scanning train.list: 100 of 100, [\d.]+ a second, 0 s left", steps[-1])


def test_a_bar_shows_the_progress_on_a_terminal(listed, probed):
    screen = io.StringIO()
    rich.reconfigure(file=screen, force_terminal=True, width=80)
    load(listed({"[a].mp4": "1"}))
    assert "scanning train.list" in screen.getvalue() and "1/1" in screen.getvalue()


@pytest.mark.processes
def test_other_processes_open_what_the_first_scanned(listed, probed):
    source = listed({"a.mp4": "1", "b.mp4": "2"})
    with pytest.raises(DataError, match="has not been scanned yet"):
        open_catalog(source, Data())
    load(source)
    assert open_catalog(source, Data()).frames_N.tolist() == [1, 2]


def test_the_catalogue_is_stored_in_data_cache(listed, probed, tmp_path):
    source = listed({"a.mp4": "1"})
    file = load(source, cache=str(tmp_path / "deep" / "cache")).file
    assert (tmp_path / "deep" / "cache") in file.parents
    assert open_catalog(source, Data(cache=str(tmp_path / "deep" / "cache"))).file == file
    assert not os.path.exists(f"{source}.scan")


def test_the_users_cache_folder_is_used_if_the_lists_folder_is_read_only(listed, probed, tmp_path, monkeypatch, caplog):
    source = listed({"a.mp4": "1"})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    writable = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and writable(path, mode))
    assert (tmp_path / "home") in load(source).file.parents
    assert "cannot be written to, so its catalogue goes to" in caplog.text
    assert (tmp_path / "home") in open_catalog(source, Data()).file.parents


def test_a_read_only_folder_with_a_catalogue_is_used_as_it_is(listed, probed, monkeypatch):
    source = listed({"a.mp4": "1"})
    file = load(source).file
    writable = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and writable(path, mode))
    assert load(source).file == open_catalog(source, Data()).file == file


def test_class_folders_are_scanned_with_their_names(probed, tmp_path):
    for name in ("run/a.mp4", "lie/b.mp4", "run/c.mp4"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_text("4")
    catalog = load(str(tmp_path / "set") + "/")
    assert catalog.class_names == ("lie", "run") and catalog.label_N.tolist() == [0, 1, 1]
    assert catalog.file.parent == tmp_path / "set.scan"  # inside the folder it would be a class


def test_a_list_reuses_the_scan_of_its_folder(listed, probed, tmp_path):
    """The lists of a split are in another folder than the videos."""
    for name in ("set/run/a.mp4", "set/lie/b.mp4", "set/lie/bad.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("bad" if "bad" in name else "4")
    load(str(tmp_path / "set"), max_bad_fraction=0.5)
    probed()
    source = listed({})
    Path(source).write_text("run/a.mp4 1\nlie/bad.mp4 0\n")
    catalog = load(source, root=str(tmp_path / "set"), max_bad_fraction=0.5)
    assert probed() == [] and catalog.frames_N.tolist() == [4, 0]

    (tmp_path / "set/run/a.mp4").write_text("50")
    Path(source).write_text("run/a.mp4 1\nlie/b.mp4 0\n")
    assert load(source, root=str(tmp_path / "set")).frames_N.tolist() == [50, 4]
    assert probed() == ["a.mp4"]


def test_a_list_reuses_the_scan_of_another_list_in_its_folder(listed, probed, tmp_path):
    load(listed({"a.mp4": "1", "b.mp4": "2"}))
    probed()
    (tmp_path / "part.list").write_text("b.mp4 0\n")
    assert load(str(tmp_path / "part.list")).frames_N.tolist() == [2]
    assert probed() == []


def test_a_list_that_is_divided_is_scanned_once_for_both_sides_of_every_run(listed, probed, tmp_path):
    """The videos may be in the folder of the list or elsewhere."""
    (tmp_path / "lists").mkdir()
    given = tmp_path / "lists" / "all.list"
    given.write_text(Path(listed({"a.mp4": "1", "b.mp4": "2"})).read_text())
    for run in ("one", "two"):
        folder = tmp_path / "runs" / run
        folder.mkdir(parents=True)
        (folder / "train.list").write_text("a.mp4 0\n")
        (folder / "val.list").write_text("b.mp4 1\n")
        sides = [str(folder / "train.list"), str(folder / "val.list")]
        data = Data(root=str(tmp_path))
        with scripted.scanning():
            scan_divided(str(given), data, sides, data)
        assert [load(side, root=str(tmp_path)).frames_N.tolist() for side in sides] == [[1], [2]]
        assert probed() == (["a.mp4", "b.mp4"] if run == "one" else [])


def test_the_bad_fraction_of_a_side_is_that_of_the_list_that_was_divided(listed, probed):
    """One bad video in 20 is one in 4 on the held-out side."""
    side = listed({"a.mp4": "bad", "b.mp4": "2", "c.mp4": "3", "d.mp4": "4"})
    assert load(side, max_bad_fraction=0.05, divided=20).usable.tolist() == [1, 2, 3]
    with pytest.raises(DataError, match=r"1 of 4 videos cannot be read, more than .*=0\.05 allows"):
        load(side, max_bad_fraction=0.05, divided=19)


@pytest.mark.processes
def test_real_videos_are_scanned_by_the_real_probe(shared, tmp_path):
    clips = sorted((shared / "data" / "pan4" / "pan_left").glob("*.mp4"))[:3]
    bad = shared / "data" / "nasty" / "derived__truncated_half_kinetics.mp4"
    (tmp_path / "val.list").write_text("".join(f"{path} {label}\n" for label, path in enumerate([*clips, bad])))
    catalog = load_catalog(str(tmp_path / "val.list"), Data(max_bad_fraction=0.25))
    assert catalog.usable.tolist() == [0, 1, 2]
    video = catalog.video(2)
    assert (video.path, video.frames, video.width, video.codec) == (str(clips[2]), 24, 160, "h264")
    np.testing.assert_array_equal(np.sort(video.packets["order"]), np.arange(24))
    assert "cut short" in catalog.reason(3)


def test_two_labels_per_line_are_not_read_as_frames_unless_the_format_is_set(tmp_path):
    for number in range(3):
        write_video(tmp_path / f"{number}.mp4", "libx264", 10)
    lists = {"two.list": "0.mp4 1 0\n1.mp4 2 1\n2.mp4 1 2\n", "frames.list": "0.mp4 10 0\n1.mp4 9 1\n2.mp4 1 2\n"}
    plant(tmp_path, lists)
    refusal = "the first is not the number of frames: 1 for .*0.mp4, which has 10; if both are labels, keep one"
    with pytest.raises(DataError, match=refusal):
        load_catalog(f"{tmp_path}/two.list", Data())
    assert load_catalog(f"{tmp_path}/two.list", Data(format="path_frames_label")).label_N.tolist() == [0, 1, 2]
    assert load_catalog(f"{tmp_path}/frames.list", Data()).label_N.tolist() == [0, 1, 2]


def test_the_summary_counts_what_a_class_folder_leaves_out(tmp_path, caplog):
    (tmp_path / "set" / "run" / "day1").mkdir(parents=True)
    write_video(tmp_path / "set" / "run" / "day1" / "a.mp4", "libx264", 4)
    plant(tmp_path, {"set/run/notes.txt": "x", "set/jump/readme": "x"})
    load_catalog(f"{tmp_path}/set", Data())
    assert "1 readable; " in caplog.messages[-1]
    assert "; left out: 1 files without an ending, 1 .txt files; classes without a video: jump; " in caplog.messages[-1]
