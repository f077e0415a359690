"""The sources on a command line, and the videos that they stand for, each once."""

import io
import math
import os
import sys
import tarfile

import pytest

import configs
from dali_pipes import DataError
from dali_pipes.lists.formats.annotation import WHOLE
from tests.support import tiny
from tests.support.files.trees import plant
from tools.prediction.inputs import find


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = ("b.mp4", "a.mkv", "notes.md", "sub/c.webm", "sub/.hidden.mp4", ".cache/d.mp4", "odd name=[1].mp4")
    return plant(tmp_path, dict.fromkeys(files, ""))


def test_a_folder_is_all_videos_below_it_in_order_but_no_hidden_ones(here):
    assert find(["."])[::2] == (["./a.mkv", "./b.mp4", "./odd name=[1].mp4", "./sub/c.webm"], {})


def test_a_path_is_kept_whatever_its_suffix_and_whether_it_exists(here):
    paths = ["notes.md", "gone.mp4", "odd name=[1].mp4"]
    assert find(paths) == (paths, [WHOLE] * 3, {})


def test_a_glob_may_reach_into_folders(here):
    assert find(["*.m*"])[0] == ["a.mkv", "b.mp4", "notes.md", "odd name=[1].mp4"]
    assert find(["**/*.webm", "s*"])[::2] == (["sub/c.webm"], {})


def test_a_list_has_paths_relative_to_its_folder_with_or_without_labels(here):
    plant(here, {"sub/some.list": f"c.webm 3\n\n../b.mp4\r\n{here}/a.mkv 0\n../odd name=[1].mp4\ngone.mp4 2\n"})
    found = [os.path.normpath(path) for path in find(["sub/some.list"])[0]]
    assert found == ["sub/c.webm", "b.mp4", f"{here}/a.mkv", "odd name=[1].mp4", "sub/gone.mp4"]


def test_a_list_of_a_split_is_read_from_its_root_with_frames_labels_or_as_json(here):
    json_lines = '{"path": "sub/c.webm", "label": 1}\n{"path": "b.mp4", "label": 0}\n'
    plant(here, {"lists/val.list": "sub/c.webm 1\nb.mp4 0\na.mkv 12 0\n", "lists/json.list": json_lines})
    assert find(["lists/val.list"], str(here))[0] == [f"{here}/sub/c.webm", f"{here}/b.mp4", f"{here}/a.mkv"]
    assert find(["lists/json.list"], str(here))[0] == [f"{here}/sub/c.webm", f"{here}/b.mp4"]


def test_a_list_of_members_of_shards_may_have_labels_too(here):
    with tarfile.open("x.tar", "w") as shard:
        for name in ("a.mkv", "sub/plain", "plain 1"):
            (here / "member").write_text("video")
            shard.add("member", name)
    plant(here, {"some.list": "x.tar/a.mkv 3\nx.tar/sub/plain 12 0\nx.tar/plain 1\nx.tar/gone.mkv 2\nx.tar/a.mkv\n"})
    found = [os.path.normpath(path) for path in find(["some.list"])[0]]
    assert found == ["x.tar/a.mkv", "x.tar/sub/plain", "x.tar/plain 1", "x.tar/gone.mkv"]
    paths, _, failures = find(["*.tar", "x.tar/a.mkv"])
    assert paths == ["x.tar/a.mkv"] and list(failures) == ["x.tar"] and "members" in failures["x.tar"]


def test_only_numbers_after_a_path_are_labels(here):
    plant(here, {"some.list": "b.mp4 a.mkv\na.mkv\t12\t0\nsub/c.webm run\nb.mp4\n"})
    assert [os.path.normpath(path) for path in find(["some.list"])[0]] == [
        *("b.mp4 a.mkv", "a.mkv", "sub/c.webm run", "b.mp4"),
    ]


def test_columns_that_are_not_read_are_named(here, caplog):
    caplog.set_level("INFO")
    plant(here, {"parts.csv": "path,begin,label\na.mkv,2,run\n", "parts.list": '[{"path": "a.mkv", "begin": 2}]'})
    for name in ("parts.csv", "parts.list"):
        caplog.clear()
        assert find([name])[0] == ["a.mkv"] and f"{name}: not used for its rows: begin" in caplog.text


TABLES = {
    "parts.csv": "video,t_start,t_end,class\na.mkv,0.5,2,serve\na.mkv,2,,\nsub/c.webm,,,rally\n",
    "parts.tsv": "t_end\tFile_Name\tstart\n2\ta.mkv\t0.5\n\ta.mkv\t2\n\tsub/c.webm\t\n",
    "parts.txt": "path;start;end\na.mkv;0.5;2\na.mkv;2;\nsub/c.webm;;\n",
    "parts.jsonl": '{"video": "a.mkv", "start_time": 0.5, "stop": "2", "label": [1, 2]}\n'
    '{"video": "a.mkv", "start_time": 2}\n{"video": "sub/c.webm", "stop": null}\n',
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_may_name_parts_in_all_columns_that_training_reads(here, name):
    plant(here, {name: TABLES[name]})
    parts = [(0.5, 2.0), (2.0, math.inf), WHOLE]
    assert find([name, name, "a.mkv"]) == (["a.mkv", "a.mkv", "sub/c.webm", "a.mkv"], [*parts, WHOLE], {})


def test_a_table_on_stdin_may_name_parts(here, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"path,start,end\nb.mp4,1,2\n")))
    assert find(["-"]) == (["b.mp4"], [(1.0, 2.0)], {})


@pytest.mark.parametrize(
    "name, text, problem",
    [
        ("a.csv", "path,start,end\na.mkv,3,2\n", r"a\.csv:2: the part from 3 s to 2 s is empty"),
        ("a.csv", "path,start\na.mkv,-1\n", r"a\.csv:2: start '-1' is not a time"),
        ("a.jsonl", '{"path": "a.mkv"}\n{"path": "a.mkv", "end": true}\n', r"a\.jsonl:2: end 'True' is not a time"),
        ("a.jsonl", '{"path": "a.mkv"}\n{"label": 1}\n', r"a\.jsonl:2: no path"),
        ("a.csv", "name,label\na.mkv,3\n", r"a\.csv:1: has no column path; it has name, label"),
    ],
)
def test_a_row_that_training_refuses_is_refused(here, name, text, problem):
    plant(here, {name: text})
    with pytest.raises(DataError, match=problem):
        find([name])


def test_a_name_with_a_comma_is_no_header(here):
    plant(here, {"some.list": "path\nvideo, label.mp4\n"})
    assert find(["some.list"])[0] == ["path", "video, label.mp4"]


def test_a_list_in_a_run_is_read_from_the_root_of_the_run(here):
    config = configs.to_yaml(tiny.config(data={"root": str(here)}))
    plant(here, {"runs/mine/data/val.list": "b.mp4 0\n", "runs/mine/config.yaml": config})
    assert find(["runs/mine/data/val.list"])[0] == [f"{here}/b.mp4"]


def test_a_missing_list_is_an_error_of_the_user(here):
    with pytest.raises(DataError, match=r"gone\.txt: no such file"):
        find(["gone.txt"])


def test_stdin_has_one_path_per_line_in_any_bytes(here, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"b.mp4\nsub/c.webm\n\xff.mp4\n")))
    assert find(["-"])[0] == ["b.mp4", "sub/c.webm", "\udcff.mp4"]


def test_each_video_comes_once_in_the_order_it_was_first_named(here):
    assert find(["sub/c.webm", ".", "b.mp4"])[0] == ["sub/c.webm", "./a.mkv", "./b.mp4", "./odd name=[1].mp4"]


def test_inputs_without_videos_are_named(here, monkeypatch):
    (here / "hollow").mkdir()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert find(["-"])[::2] == ([], {"-": "stdin was empty; write a path a line to it"})
    assert find(["hollow", "*.avi"])[::2] == ([], {"hollow": "contains no videos", "*.avi": "nothing has such a name"})


def test_a_folder_of_numbered_pictures_is_a_video_if_no_video_is_below_it(here):
    pictures = ("sets/b/1.jpg", "sets/b/2.jpg", "sets/a/x/img_00001.JPEG", "sets/cover.jpg", "sets/png/1.png", "7.jpg")
    plant(here, dict.fromkeys(pictures, ""))
    assert find(["sets"])[::2] == (["sets/a/x", "sets/b"], {})
    assert find(["sets/b", "sets/*"])[0] == ["sets/b", "sets/a/x", "sets/cover.jpg"]
    assert find(["sets/png"])[::2] == ([], {"sets/png": "contains no videos"})
    assert find([str(here)])[0][-3:] == [f"{here}/sets/a/x", f"{here}/sets/b", f"{here}/sub/c.webm"]


def test_a_link_in_a_circle_ends(here):
    (here / "sub" / "up").symlink_to(here)
    assert find(["sub"])[0] == ["sub/c.webm"]
