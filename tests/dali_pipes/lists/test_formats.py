"""General list formats: plain lists, tables, JSON lines, class folders."""

import json
import math

import pytest

from configs.schema import Data
from dali_pipes.errors import DataError
from dali_pipes.lists.formats.annotation import WHOLE
from dali_pipes.lists.formats.class_names import Numbers, read_class_names
from dali_pipes.lists.listing import read_list
from tests.support.files import trees
from tests.support.files.trees import rows

tree = trees.tree


# Lists of TSM, mmaction2 and PaddleVideo


def test_frame_counts_of_tsm_lists_are_kept(tree):
    root = tree({"train.txt": "something/v1/img/78687 36 41\nsomething/v1/img/42326 62 3\n"})
    listing = read_list(f"{root}/train.txt")
    assert rows(listing) == [("something/v1/img/78687", 41), ("something/v1/img/42326", 3)]
    assert listing.num_frames_N.tolist() == [36, 62]


def test_paddlevideo_frame_lists_keep_the_extension_in_the_folders_name(tree):
    root = tree({"train_frames.list": "abseiling/_4YTwq0-73Y_000044_000054.mp4 300 0\n"})
    assert rows(read_list(f"{root}/train_frames.list")) == [("abseiling/_4YTwq0-73Y_000044_000054.mp4", 0)]


def test_a_list_is_one_of_frames_only_if_every_line_could_be(tree):
    root = tree({"train.list": "take 1 300 0\ntake two 5\n"})
    listing = read_list(f"{root}/train.list")
    assert rows(listing) == [("take 1 300", 0), ("take two", 5)] and listing.num_frames_N is None


def test_a_format_can_be_forced(tree):
    source = str(tree({"train.list": "take 300 0"}) / "train.list")
    assert rows(read_list(source)) == [("take", 0)]
    assert rows(read_list(source, Data(format="path_label"))) == [("take 300", 0)]


def test_paddlevideo_ucf101_lists_need_a_suffix(tree):
    root = tree({"ucf101_train_split_1_videos.txt": "/data/v_Archery_g01_c01 2\n/data/v_Archery_g01_c02 2\n"})
    listing = read_list(f"{root}/ucf101_train_split_1_videos.txt", Data(suffix=".avi"))
    assert rows(listing) == [("/data/v_Archery_g01_c01.avi", 2), ("/data/v_Archery_g01_c02.avi", 2)]


def test_a_prefix_is_a_folder_above_every_path(tree):
    root = tree({"train.list": "a.mp4 0\n/b.mp4 1\n"})
    assert rows(read_list(f"{root}/train.list", Data(prefix="videos"))) == [("videos/a.mp4", 0), ("/b.mp4", 1)]


# Tables


@pytest.mark.parametrize(
    "content",
    [
        "path,label\nb.mp4,run\na.mp4,jump\n",
        "\ufeffLabel\tPath\r\nrun\tb.mp4\r\njump\ta.mp4\r\n",
        'path;label;split\n"b.mp4";run;training\na.mp4; jump;training\n',
        "path,label,start,end\nb.mp4,run,,\na.mp4,jump,,\n",
    ],
    ids=["csv", "tsv", "semicolons and a split", "no parts"],
)
def test_a_table_with_class_names_is_numbered_by_the_alphabet(tree, content):
    listing = read_list(str(tree({"train.csv": content}) / "train.csv"))
    assert rows(listing) == [("b.mp4", 1), ("a.mp4", 0)] and listing.class_names == ("jump", "run")


def test_a_table_with_numbers_keeps_them(tree):
    root = tree({"val.csv": 'path,label,frames\na b,7,12\n"c,d",0,9\n'})
    listing = read_list(f"{root}/val.csv")
    assert rows(listing) == [("a b", 7), ("c,d", 0)] and listing.num_frames_N.tolist() == [12, 9]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("c.mp4", "1 fields, but the header names 4"),
        ('"c.mp4,1,,', "not a line of a table"),
        ("c.mp4,x,,", "label 'x' is not a whole number"),
        ("c.mp4,,,", "no label"),
        (",1,,", "no path"),
        ("c.mp4,1,2,0.5", "the part from 2 s to 0.5 s is empty: its end must be greater than its start"),
        ("c.mp4,1,2,2", "the part from 2 s to 2 s is empty"),
        ("c.mp4,1,-1,2", "start '-1' is not a time in seconds"),
        ("c.mp4,1,,inf", "end 'inf' is not a time in seconds"),
        ("c.mp4,1,0:60,", "start '0:60' is not a time in seconds, at least 0, as in 62.5, 1:02.5, 0:01:02.5"),
        ("c.mp4,1,1:60:00,", "start '1:60:00' is not a time in seconds"),
        ("c.mp4,1,-0:30,", "start '-0:30' is not a time in seconds"),
        ("c.mp4,1,0:00:01:12,", "start '0:00:01:12' is not a time in seconds"),
        ("c.mp4,1,0:30,0:29.5", "the part from 30 s to 29.5 s is empty"),
    ],
)
def test_a_bad_line_of_a_table_is_named(tree, line, reason):
    root = tree({"train.csv": f"path,label,start,end\na.mp4,0,,\n{line}\n"})
    with pytest.raises(DataError, match=f"train.csv:3: {reason}"):
        read_list(f"{root}/train.csv")


def test_rows_may_name_parts_of_a_video(tree):
    content = "video,start,end,label\na.mp4,0,2.5,run\na.mp4,2.5,,jump\na.mp4,,,run\na.mp4,0,2.5,run\n"
    listing = read_list(str(tree({"train.csv": content}) / "train.csv"))
    assert rows(listing) == [("a.mp4", 1), ("a.mp4", 0), ("a.mp4", 1), ("a.mp4", 1)]
    assert [listing.span(row) for row in range(4)] == [(0, 2.5), (2.5, math.inf), WHOLE, (0, 2.5)]
    assert listing.distinct.tolist() == [0] and listing.samples.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("0:01", 1), ("1:02.5", 62.5), ("1:02:03.1", 3723.1), ("00:00:09", 9), ("90:00", 5400), ("100:59:59", 363599),
        ("0:1", 1), ("12.5", 12.5),
    ],
)  # fmt: skip
def test_times_may_have_minutes_and_hours(tree, time, seconds):
    root = tree(
        {
            "all.csv": f"path,label,start\na.mp4,0,{time}\n",
            "all.jsonl": f'{{"path": "a.mp4", "label": 0, "start": "0:00", "duration": "{time}"}}\n',
        }
    )
    assert read_list(f"{root}/all.csv").span(0) == (seconds, math.inf)
    assert read_list(f"{root}/all.jsonl").span(0) == (0, seconds)


def test_columns_may_be_named_with_blanks(tree):
    listing = read_list(str(tree({"all.csv": '"File Name";"Class-Name";"End Time"\na.mp4;run;2\n'}) / "all.csv"))
    assert (listing.paths, listing.class_names, listing.span(0)) == (["a.mp4"], ("run",), (0, 2))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "clip,verb\na.mp4,run\n",
            "has the columns clip, verb; name that of the videos `path` and that of the classes",
        ),
        ("a.mp4,run\nb.mp4,walk\n", "is a table without names of its columns; add a first line such as `path,label`"),
    ],
)
def test_a_table_whose_columns_are_not_known_is_refused_in_a_line(tree, text, reason):
    with pytest.raises(DataError) as refused:
        read_list(str(tree({"all.csv": text}) / "all.csv"))
    assert refused.value.reason.startswith(reason)


@pytest.mark.parametrize(
    "text",
    [
        "path,label,start,duration\na.mp4,0,0.1,0.2\na.mp4,0,,2\nb.mp4,1,3,\n",
        "path,label,t_start,Duration_Sec\na.mp4,0,0.1,0.2\na.mp4,0,,2\nb.mp4,1,3,\n",
        '{"path": "a.mp4", "label": 0, "start": 0.1, "duration": 0.2}\n{"path": "a.mp4", "label": 0, "start": 0, '
        '"duration": 2}\n{"path": "b.mp4", "label": 1, "start": 3}\n',
    ],
)
def test_a_duration_after_a_start_gives_the_end_of_a_part(tree, text):
    listing = read_list(str(tree({"parts": text}) / "parts"))
    assert [listing.span(row) for row in range(3)] == [(0.1, 0.3), (0, 2), (3, math.inf)]
    assert listing.notes == ()


@pytest.mark.parametrize(
    "columns", ["path,label,duration\na.mp4,0,2\n", "path,label,start,end,duration\na.mp4,0,,,2\n"]
)
def test_a_duration_of_whole_videos_is_not_read(tree, columns):
    listing = read_list(str(tree({"all.csv": columns}) / "all.csv"))
    assert listing.span_N2 is None and listing.notes == ("not used for its rows: duration",)


def test_a_list_of_whole_videos_has_no_spans(tree):
    listing = read_list(str(tree({"train.csv": "path,label,start,end\na.mp4,0,0,\n"}) / "train.csv"))
    assert listing.span_N2 is None and listing.span(0) == WHOLE


def test_one_part_of_a_video_has_one_label(tree):
    root = tree({"train.csv": "path,label,start,end\na.mp4,0,1,2\na.mp4,1,2,3\na.mp4,1,1,2\n"})
    with pytest.raises(DataError, match=r"train.csv:4: a\.mp4 from 1 s to 2 s has label 1 here and label 0 in line 2"):
        read_list(f"{root}/train.csv")


def test_json_lines_hold_any_name(tree):
    name = 'odd "name"\twith\n a break.mp4 '
    root = tree({"a.jsonl": json.dumps({"path": name, "label": 3}) + '\n{"path": "b", "label": 0, "frames": 9}\n'})
    listing = read_list(f"{root}/a.jsonl")
    assert rows(listing) == [(name, 3), ("b", 0)] and listing.num_frames_N is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"path": "b.mp4", "label": true}', "label is true"),
        ('{"path": ["b.mp4"], "label": 1}', r"path is \[\"b.mp4\"\]"),
        ('{"path": "b.mp4", "label": 1.0}', "label is 1.0, neither text nor a whole number"),
        ('{"path": "b.mp4", "label": 1, "start": [0]}', r"start '\[0\]' is not a time in seconds"),
        ('{"path": "b.mp4", "label": 1, "end": true}', "end 'True' is not a time in seconds"),
        ('{"path": "b.mp4", "label": -1}', "label '-1' is not a whole number"),
        ('{"path": "\\ud800.mp4", "label": 1}', "surrogates not allowed"),
        ('{"path": "b.mp4"', "not a JSON object"),
        ("[" * 100_000, "not a JSON object"),
        ("7", "expected a JSON object"),
    ],
)
def test_a_bad_line_of_json_is_named(tree, line, reason):
    root = tree({"a.jsonl": f'{{"path": "a.mp4", "label": 0}}\n{line}\n'})
    with pytest.raises(DataError, match=f"a.jsonl:2: .*{reason}"):
        read_list(f"{root}/a.jsonl")


# Class folders


def test_class_folders_held_out_take_their_numbers_from_those_for_training(tree):
    names = ["train/jump/a.mp4", "train/lie/a.mp4", "train/run/a.mp4", "val/run/b.mp4", "val/jump/b.mp4"]
    root = tree(dict.fromkeys(names, ""))
    listing = read_list(f"{root}/val", Data(train=f"{root}/train"))
    assert rows(listing) == [("jump/b.mp4", 0), ("run/b.mp4", 2)] and listing.class_names == ("jump", "lie", "run")


# Files of class names


@pytest.mark.parametrize(
    "content",
    [
        *("a b\nc\n3 d\n", "0 a b\n1 c\n2 3 d\n", "3 3 d\n1 a b\n2 c\n", "\ufeff1,a b\r\n2,c\r\n\r\n3,3 d"),
        *("3 d 2\na b 0\nc 1\n", "id,name\n1,c\n0,a b\n2,3 d\n", "name;id\n3 d;3\na b;1\nc;2\n"),
        *("# made by hand\n2: 3 d\n0: a b\n1: c\n", "3. 3 d\n2. c\n1. a b\n"),
    ],
)
def test_class_names_may_be_numbered(tree, content):
    assert read_class_names(str(tree({"names.txt": content}) / "names.txt")) == ("a b", "c", "3 d")


@pytest.mark.parametrize(
    ("content", "reason"),
    [("a\n\nb\na\n", "4: 'a' names two classes, here and in line 1"), ("\n", "1: no class names")],
)
def test_repeated_class_names_and_an_empty_file_are_refused(tree, content, reason):
    with pytest.raises(DataError, match=f"names.txt:{reason}"):
        read_class_names(str(tree({"names.txt": content}) / "names.txt"))


def test_a_class_is_found_however_a_mirror_spells_it():
    numbers = Numbers(["passing American football (in game)", "massaging person's head", "tai chi", "tai-chi"])
    assert numbers.of("passing_american_football_in_game") == 0
    assert numbers.of('"massaging_person’s_head"') == 1
    assert numbers.of("tai-chi") == 3
    with pytest.raises(ValueError, match="class 'Tai Chi' is not among the 4 classes"):
        numbers.of("Tai Chi")


def test_a_class_that_a_file_of_names_lacks_is_refused_with_the_file_and_without_a_line_of_the_folder(tree):
    root = tree({"videos/run/a.mp4": "", "videos/walk/b.mp4": "", "names.txt": "run\nwolk\n"})
    with pytest.raises(DataError) as refused:
        read_list(str(root / "videos"), Data(class_names=str(root / "names.txt")))
    reason = f"class 'walk' is not among the 2 classes of {root}/names.txt; did you mean 'wolk'?"
    assert str(refused.value) == f"{root}/videos: {reason}"


@pytest.mark.parametrize(
    ("source", "format", "reason"),
    [("a.list", "folders", "folders, and this is a file"), (".", "table", "files, and this is a folder")],
)
def test_a_format_of_folders_is_refused_for_a_file_and_the_other_way_round(tree, source, format, reason):
    root = tree({"a.list": "a.mp4 0\n"})
    with pytest.raises(DataError, match=f"data.format={format} is for {reason}; use auto"):
        read_list(str(root / source), Data(format=format))


def test_a_file_too_large_for_class_names_is_not_read(tmp_path):
    with (tmp_path / "classes.txt").open("wb") as file:
        file.truncate(2**40)  # a sparse file
    with pytest.raises(DataError, match="too many for a file of class names"):
        read_class_names(str(tmp_path / "classes.txt"))


@pytest.mark.parametrize(
    "content",
    [
        "video_path,class\na.mp4,run\nb.mp4,jump\n",
        "FileName\tCategory\tnum_frames\na.mp4\trun\t9\nb.mp4\tjump\t9\n",
        "path,class_name,subset\na.mp4,run,train\nb.mp4,jump,train\n",
        '{"file": "a.mp4", "action": "run"}\n{"file": "b.mp4", "action": "jump"}\n',
    ],
)
def test_columns_may_have_the_names_of_other_projects(tree, content):
    listing = read_list(str(tree({"train.txt": content}) / "train.txt"))
    assert rows(listing) == [("a.mp4", 1), ("b.mp4", 0)] and listing.class_names == ("jump", "run")


def test_other_names_of_the_ends_of_a_part_are_read(tree):
    listing = read_list(str(tree({"a.csv": "video,label,start_time,end_time\na.mp4,0,1,2.5\n"}) / "a.csv"))
    assert listing.span_N2.tolist() == [[1, 2.5]]


@pytest.mark.parametrize(
    ("content", "twice"),
    [
        ("video,class,category\na.mp4,run,sport\n", "a.csv:1: class and category may both be the label"),
        ("path,label,label\na.mp4,0,1\n", "a.csv:1: label and label may both be the label"),
        ("path,label,t_start,start_time\na.mp4,0,1,2\n", "a.csv:1: t_start and start_time may both be the start"),
        ('{"Path": "a.mp4", "path": "b.mp4", "label": 0}\n', "a.csv:1: Path and path may both be the path"),
        ('{"path": "a.mp4", "label": 0, "label": 1}\n', "a.csv:1: .*a key occurs twice among path, label, label"),
    ],
)
def test_two_columns_with_one_meaning_are_refused(tree, content, twice):
    root = tree({"a.csv": content})
    with pytest.raises(DataError, match=twice):
        read_list(f"{root}/a.csv")


@pytest.mark.parametrize(
    "content",
    [
        "id,path,label,start_frame\n7,a.mp4,0,12\n",
        '{"path": "a.mp4", "id": 7, "label": 0, "start_frame": 12}\n',
        '[{"id": 7, "path": "a.mp4", "label": 0},\n {"path": "a.mp4", "label": 0, "start_frame": 12}]\n',
    ],
)
def test_columns_that_are_not_read_are_named(tree, content):
    assert read_list(str(tree({"a.txt": content}) / "a.txt")).notes == ("not used for its rows: id, start_frame",)


def test_an_array_of_json_objects_is_a_table(tree):
    root = tree({"a.json": '[{"Video": "b.mp4", "class": "run"},\n {"video": "a.mp4", "class": "jump"}]'})
    listing = read_list(f"{root}/a.json")
    assert rows(listing) == [("b.mp4", 1), ("a.mp4", 0)] and listing.format == "json"


@pytest.mark.parametrize("content", ['{"path": "a.mp4", "label": 0},\n', '{"a.mp4": 0}\n', "[[1, 2]]\n"])
def test_json_of_another_form_is_refused_with_the_form_that_is_read(tree, content):
    root = tree({"a.json": content})
    with pytest.raises(DataError, match=r'JSON: an object such as {"path": "a.mp4", "label": 0} a line, or an array'):
        read_list(f"{root}/a.json")


@pytest.mark.parametrize("label", ["-1", "1.0", "1e3", "+1", ".5"])
def test_a_number_that_is_no_valid_label_is_not_taken_as_a_class_name(tree, label):
    for content in (f"path,label\na.mp4,{label}\nb.mp4,{label}\n", f"path,label\na.mp4,run\nb.mp4,{label}\n"):
        root = tree({"a.csv": content})
        with pytest.raises(DataError, match=r"is not a whole number of at least 0"):
            read_list(f"{root}/a.csv")


@pytest.mark.parametrize("content", ["a.mp4 0\n".encode("utf-16-le"), b"a.mp4 0\n\0\0\0", "a 0\n".encode("utf-32")])
def test_a_list_with_nul_characters_is_refused_with_the_cause(tmp_path, content):
    (tmp_path / "a.list").write_bytes(content)
    with pytest.raises(
        DataError, match="contains NUL characters: it is damaged, or UTF-16 without the byte order mark"
    ):
        read_list(f"{tmp_path}/a.list")


@pytest.mark.parametrize(
    "content",
    ['["run", "a jump"]', '{"run": 0, "a jump": 1}', '{"a jump": "1", "run": "0"}', '{"1": "run",\n "2": "a jump"}\n'],
)
def test_class_names_may_be_json(tree, content):
    assert read_class_names(str(tree({"classes.json": content}) / "classes.json")) == ("run", "a jump")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"run": 0, "jump": 2}', "do not have the numbers 0 to 1"),
        ('{"run": 0, "jump": "lie"}', "names to numbers, or numbers to names"),
        ('{"0": "run", "1": "run"}', "'run' names two classes"),
        ('{"run": 0,\n "run": 1}', "'run' names two classes"),
        ('["run", 1]', "only texts"),
        ('{\n"run": 0', "begins like JSON, but is not valid"),
    ],
)
def test_json_that_does_not_number_classes_is_refused(tree, content, reason):
    with pytest.raises(DataError, match=reason):
        read_class_names(str(tree({"classes.json": content}) / "classes.json"))
