"""`prepare lists`, `subset` and `split`: from annotations to lists, with their messages."""

import json
import os
import re

import pytest

from configs.schema import Data
from dali_pipes.lists.listing import read_list
from dali_pipes.scan.build import load_catalog, open_catalog
from tests.support.files import scripted
from tests.support.files.trees import plant, rows
from tests.support.files.unusual_names import UNUSUAL_NAMES
from tools import prepare

HEADER = "label,youtube_id,time_start,time_end,split\n"
TRAIN = ["run,aaaaaaaaaaa,0,10,train", "run,bbbbbbbbbbb,0,10,train", "jump,ccccccccccc,5,15,train"]
VAL = ["run,bbbbbbbbbbb,20,30,val", "run,bbbbbbbbbbb,20,30,val", "run,ddddddddddd,0,10,val"]


@pytest.fixture
def kinetics(tmp_path):
    """Return a small Kinetics: of three and three rows one is missing each, one recording is in both splits."""
    lists = {"train.csv": HEADER + "\n".join(TRAIN), "val.csv": HEADER + "\n".join(VAL)}
    videos = [
        "train/aaaaaaaaaaa_000000_000010.mp4",
        "run/bbbbbbbbbbb_000000_000010.mp4",
        "bbbbbbbbbbb_000020_000030.mp4",
    ]
    return plant(tmp_path, {**lists, **{f"videos/{name}": "30" for name in videos}})


@pytest.fixture
def made(kinetics, capsys):
    """Make the lists of `kinetics`; return the folder and the output."""
    sources = [f"{kinetics}/val.csv", f"{kinetics}/train.csv"]
    assert prepare.main(["lists", *sources, "--root", f"{kinetics}/videos", "--out", f"{kinetics}/out"]) == 0
    return kinetics / "out", capsys.readouterr().out


def test_lists_counts_annotated_found_missing_duplicate_and_shared_videos(made):
    _, said = made
    assert "train: 3 annotated, 2 found, 1 missing, 0 not to be used, 0 duplicate\n" in said
    assert "val: 3 annotated, 1 found, 1 missing, 0 not to be used, 1 duplicate\n" in said
    assert "val and train: 0 videos in both, 1 recordings, such as bbbbbbbbbbb\n" in said


def test_lists_writes_what_a_recipe_reads(made, kinetics):
    out, said = made
    assert (out / "train.list").read_text() == (
        "train/aaaaaaaaaaa_000000_000010.mp4 1\nrun/bbbbbbbbbbb_000000_000010.mp4 1\n"
    )
    assert (out / "val.list").read_text() == "bbbbbbbbbbb_000020_000030.mp4 1\n"
    assert (out / "classes.txt").read_text() == "jump\nrun\n"
    recipe = f"data.root={kinetics}/videos data.val={out}/val.list data.train={out}/train.list"
    assert f"{recipe} data.class_names={out}/classes.txt model.num_classes=2\n" in said


def test_lists_gives_a_reason_for_every_row_left_out(made, kinetics):
    left_out = [json.loads(line) for line in (made[0] / "left_out.jsonl").read_text().splitlines()]
    assert [(row["list"], row["path"].rpartition("/")[2][:3], row["label"], row["reason"]) for row in left_out] == [
        ("val", "bbb", 1, "named before"),
        ("val", "ddd", 1, "no such file"),
        ("train", "ccc", 0, "no such file"),
    ]


def test_lists_takes_several_splits_of_one_source(tmp_path, capsys):
    names = {"brush_hair": "A_brush_hair_f_0.avi", "clap": "#1_clap_f_0.avi"}
    splits = {f"splits/{label}_test_split1.txt": f"{name} 1\n{name[:-5]}1.avi 2\n" for label, name in names.items()}
    plant(tmp_path, splits)
    plant(tmp_path / "videos", {f"{label}/{name[:-5]}{take}.avi": "" for label, name in names.items() for take in "01"})
    words = [f"{tmp_path}/splits", "--split", "train1", "test1", "--root", f"{tmp_path}/videos", "--out", f"{tmp_path}"]
    assert prepare.main(["lists", *words]) == 0
    said = capsys.readouterr().out
    assert "train1 and test1: 0 videos in both, 2 recordings, such as #1\n" in said
    assert f"data.train={tmp_path}/train1.list data.test={tmp_path}/test1.list" in said
    assert rows(read_list(f"{tmp_path}/test1.list")) == [
        ("brush_hair/A_brush_hair_f_1.avi", 0),
        ("clap/#1_clap_f_1.avi", 1),
    ]


def test_lists_keeps_frame_counts(tmp_path):
    plant(tmp_path, {"train.list": "a.mp4 30 0\nb.mp4 12 1\n", "a.mp4": ""})
    assert prepare.main(["lists", f"{tmp_path}/train.list", "--out", f"{tmp_path}/out"]) == 0
    assert (tmp_path / "out" / "train.list").read_text() == "a.mp4 30 0\n"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["{0}/train.csv", "--root", "{0}"], "none of its 3 videos can be used: .*: no such file; is --root"),
        (["{0}/val.csv", "--root", "{0}/videos"], "would number them; set data.train"),
        (["{0}/train.csv", "{0}/train.csv", "--root", "{0}/videos"], "train: two sources have this name"),
        (["{0}/train.csv", "--root", "{0}/videos", "--split", "test"], "has no split test; it has train"),
        (["{0}/tran.csv"], "no such list or folder; .* contains train.csv"),
    ],
)
def test_lists_that_cannot_be_made_are_refused_in_a_line(kinetics, capsys, words, reason):
    assert prepare.main(["lists", *(word.format(kinetics) for word in words), "--out", f"{kinetics}/out"]) == 2
    assert re.match(f"prepare.py lists: .*{reason}", capsys.readouterr().err)
    assert not (kinetics / "out").exists()


@pytest.mark.parametrize(
    ("train", "val"),
    [("train.csv", "val.csv"), ("all.csv:train", "all.csv:val")],
    ids=["two files", "two splits of a file"],
)
def test_annotations_are_scanned_as_they_are(kinetics, monkeypatch, train, val):
    monkeypatch.setenv("PROBE_LOG", str(kinetics / "log"))
    plant(kinetics, {"all.csv": HEADER + "\n".join(TRAIN + VAL)})
    sources = {"train": f"{kinetics}/{train}", "val": f"{kinetics}/{val}"}
    data = Data(root=f"{kinetics}/videos", max_bad_fraction=0.9, **sources)
    with scripted.scanning():
        for source in sources.values():
            load_catalog(source, data, workers=1)
    train_set, val_set = (open_catalog(source, data) for source in sources.values())
    assert train_set.class_names == val_set.class_names == ("jump", "run")
    assert train_set.usable.tolist() == [0, 1] and val_set.usable.tolist() == [0, 1]
    assert train_set.label_N.tolist() == [1, 1, 0] and val_set.label_N.tolist() == [1, 1, 1]


def test_a_subset_has_some_videos_of_every_class_and_the_same_each_time(tmp_path, capsys):
    plant(tmp_path, {"train.list": "".join(f"{n}.mp4 {n % 3}\n" for n in range(30)) + "rare.mp4 5\n"})
    chosen = []
    for seed in ("7", "7", "8"):
        words = [f"{tmp_path}/train.list", "--per-class", "4", "--seed", seed, "--out", f"{tmp_path}/out"]
        assert prepare.main(["subset", *words]) == 0
        chosen.append(rows(read_list(f"{tmp_path}/out/train.list")))
    assert chosen[0] == chosen[1] != chosen[2]
    assert sorted(label for _, label in chosen[0]) == [0] * 4 + [1] * 4 + [2] * 4 + [5]
    assert "train.list: 13 of 31 videos" in capsys.readouterr().out


def test_a_split_keeps_groups_together_and_says_what_a_side_lacks(tmp_path, capsys):
    lines = [f"{n}.mp4,{'abc'[n % 3]},film{n // 5}" for n in range(50)]
    plant(tmp_path, {"clips.csv": "path,label,film\n" + "\n".join([*lines, "rare.mp4,d,film50"])})
    words = [f"{tmp_path}/clips.csv", "--group", "film", "--held-out", "0.3", "--out", f"{tmp_path}"]
    assert prepare.main(["split", *words]) == 0
    train, val = (rows(read_list(f"{tmp_path}/{side}.list")) for side in ("train", "val"))
    assert len(train) + len(val) == 51 and 15 <= len(val) <= 20
    films = [{int(path[:-4]) // 5 for path, _ in side if path != "rare.mp4"} for side in (train, val)]
    assert not films[0] & films[1]
    assert ", none of class d" in capsys.readouterr().out
    assert (tmp_path / "classes.txt").read_text() == "a\nb\nc\nd\n"


def test_a_split_of_kinetics_keeps_recordings_together(tmp_path):
    lines = [f"run,{n // 2:011d},{n},{n + 10},train" for n in range(40)]
    plant(tmp_path, {"train.csv": HEADER + "\n".join(lines)})
    assert prepare.main(["split", f"{tmp_path}/train.csv", "--out", f"{tmp_path}/out"]) == 0
    train, val = (
        {path[:11] for path, _ in rows(read_list(f"{tmp_path}/out/{side}.list"))} for side in ("train", "val")
    )
    assert len(train) == 16 and len(val) == 4 and not train & val


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--group", "year"], "clips.csv:1: has no column year; it has path, label, film"),
        (["--group", "film"], "1 groups of videos are too few to divide"),
        (["--group-regex", "("], "--group-regex: '(' is not a regular expression (missing ), unterminated subpattern"),
        (["--held-out", "1.5"], "--held-out: 1.5 is not between 0 and 1"),
        (["--root", "ftp://a"], "--root: cannot be read; a store begins with one of s3://, gs://"),
    ],
)
def test_a_split_that_cannot_be_made_is_refused(tmp_path, capsys, words, reason):
    plant(tmp_path, {"clips.csv": "path,label,film\na.mp4,run,x\nb.mp4,run,x\n"})
    assert prepare.main(["split", f"{tmp_path}/clips.csv", *words, "--out", f"{tmp_path}/out"]) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize("fraction", ["2", "-1", "nan"])
def test_a_fraction_of_unreadable_videos_is_one(tmp_path, capsys, fraction):
    plant(tmp_path, {"clips.csv": "path,label\na.mp4,run\n"})
    assert prepare.main(["scan", f"{tmp_path}/clips.csv", f"--max-bad-fraction={fraction}"]) == 2
    assert f"prepare.py scan: --max-bad-fraction: {fraction} is not between 0 and 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("show --clips -1", "argument --clips: -1 is too small; the smallest allowed is 1"),
        ("show --epoch -1", "argument --epoch: -1 is too small; the smallest allowed is 0"),
        ("stats a.list --clip-frames 0", "argument --clip-frames: 0 is too small; the smallest allowed is 1"),
        ("demo --scenes 3 0", "argument --scenes: 0 is too small; the smallest allowed is 1"),
        ("frames a.list --out b --workers 0", "argument --workers: 0 is too small; the smallest allowed is 1"),
        ("transcode a.list --out b --gop 0", "argument --gop: 0 is too small; the smallest allowed is 1"),
        ("subset a.list --out b --per-class x", "argument --per-class: 'x' is not a whole number"),
    ],
)
def test_a_number_that_is_too_small_is_refused(capsys, words, problem):
    with pytest.raises(SystemExit) as leaving:
        prepare.main(words.split())
    assert leaving.value.code == 2
    assert capsys.readouterr().err == f"prepare.py {words.split()[0]}: {problem}\n"


def test_a_folder_has_no_columns(tmp_path, capsys):
    plant(tmp_path, {"set/run/a.mp4": "", "set/run/b.mp4": ""})
    assert prepare.main(["split", f"{tmp_path}/set", "--group", "film", "--out", f"{tmp_path}/out"]) == 2
    assert f"{tmp_path}/set: is a folder, which has no column film; data.group_regex" in capsys.readouterr().err


def test_an_unknown_command_is_refused_with_the_nearest(capsys):
    assert prepare.main(["list"]) == 2
    assert "list: no such command; did you mean lists?" in capsys.readouterr().err


WRITERS = {
    "split": ["split", "train.list", "--out", "."],
    "subset": ["subset", "train.list", "--per-class", "2", "--out", "."],
    "lists": ["lists", "train.list", "--out", "."],
}


@pytest.mark.parametrize("words", WRITERS.values(), ids=WRITERS)
def test_the_list_that_was_read_is_never_replaced_not_even_by_force(tmp_path, monkeypatch, capsys, words):
    text = "".join(f"{n}.mp4 {n % 3}\n" for n in range(36))
    plant(tmp_path, {"train.list": text, **{f"{n}.mp4": "x" for n in range(30)}})
    monkeypatch.chdir(tmp_path)
    for force in ([], ["--force"]):
        assert prepare.main([*words, *force]) == 2
        assert "train.list: is a source of this command, which is never replaced" in capsys.readouterr().err
        assert (tmp_path / "train.list").read_text() == text
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".mp4") == ["train.list"]


def test_a_users_class_file_and_held_out_list_are_refused_and_replaced_by_force(tmp_path, monkeypatch, capsys):
    lines = [f"{n}.mp4,{['red', 'green', 'blue'][n % 3]}" for n in range(30)]
    kept = {"classes.txt": "red\ngreen\nblue\n", "val.list": "mine.mp4 0\n"}
    plant(tmp_path, {"mine.csv": "path,label\n" + "\n".join(lines), **kept})
    monkeypatch.chdir(tmp_path)
    assert prepare.main(["split", "mine.csv", "--out", "."]) == 2
    assert re.search(r"(classes.txt|val.list): is in the way: .* --force replaces it", capsys.readouterr().err)
    assert {name: (tmp_path / name).read_text() for name in kept} == kept
    assert not (tmp_path / "train.list").exists()
    assert prepare.main(["split", "mine.csv", "--out", ".", "--force"]) == 0
    assert (tmp_path / "classes.txt").read_text() == "blue\ngreen\nred\n"
    assert prepare.main(["split", "mine.csv", "--out", ".", "--seed", "1"]) == 0  # a list that the command wrote


def test_two_lists_of_one_name_are_refused_by_subset(tmp_path, capsys):
    plant(tmp_path, {"a/train.list": "a.mp4 0\n", "b/train.list": "b.mp4 0\n"})
    sources = [f"{tmp_path}/{folder}/train.list" for folder in "ab"]
    assert prepare.main(["subset", *sources, "--per-class", "1", "--out", f"{tmp_path}/out"]) == 2
    assert "its list would have the name of another, train.list" in capsys.readouterr().err


HARD_NAMES = [
    os.fsdecode(b"caf\xe9.mp4"),
    "new\nline.mp4",
    "return\r.mp4",
    " blank before.mp4",
    "blank behind.mp4 ",
    "\ufeffmark.mp4",
    '{"path": 1}.mp4',
    "v_Run_g01_c01.avi",
    "a;b",
    *UNUSUAL_NAMES[:-2],
]


@pytest.mark.parametrize("names", [[name] for name in HARD_NAMES] + [HARD_NAMES], ids=ascii)
@pytest.mark.parametrize("classes", [["a", "b"], ["1 a", "2 b"], [os.fsdecode(b"\xff"), "b\nc"], ["[", "]"]], ids=ascii)
def test_lists_of_any_names_are_read_back(tmp_path, names, classes):
    """Names of videos and classes may be any that file systems allow; no `path label` line can hold some of them."""
    for label, folder in enumerate(classes):
        plant(tmp_path, {f"set/{folder}/{label}{name}{'' if name.endswith('.mp4') else '.mp4'}": "x" for name in names})
    assert prepare.main(["subset", f"{tmp_path}/set", "--per-class", "99", "--out", f"{tmp_path}/out"]) == 0
    data = Data(root=f"{tmp_path}/set", class_names=f"{tmp_path}/out/classes.txt")
    written, source = read_list(f"{tmp_path}/out/set.list", data), read_list(f"{tmp_path}/set")
    assert sorted(rows(written)) == sorted(rows(source))
    assert written.class_names == source.class_names == tuple(sorted(classes))


def test_subset_and_split_keep_the_parts_of_videos(tmp_path):
    lines = [f"{name}.mp4,{start},{start + 2},{label}" for name in "abcd" for label, start in (("run", 0), ("jump", 5))]
    root = plant(tmp_path, {"all.csv": "\n".join(["video,start,end,label", *lines])})
    assert prepare.main(["subset", f"{root}/all.csv", "--per-class", "3", "--out", f"{root}/few"]) == 0
    few = read_list(f"{root}/few/all.list", Data(class_names=f"{root}/few/classes.txt", root=str(root)))
    assert len(few.paths) == 6 and {few.span(row) for row in range(6)} == {(0, 2), (5, 7)}
    assert prepare.main(["split", f"{root}/all.csv", "--out", f"{root}/lists"]) == 0
    sides = [read_list(f"{root}/lists/{side}.list", Data(root=str(root))) for side in ("train", "val")]
    assert [len(side.paths) for side in sides] == [6, 2] and not set(sides[0].paths) & set(sides[1].paths)
    assert sides[1].span_N2.tolist() == [[0, 2], [5, 7]]
