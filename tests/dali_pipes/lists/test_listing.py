"""Lists: accepted rows, refusals and their messages."""

import os
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.schema import Data
from dali_pipes.errors import DataError
from dali_pipes.lists.listing import read_list
from dali_pipes.lists.locate import Finder, inside
from tests.support.files.trees import rows
from tests.support.files.unusual_names import UNUSUAL_NAMES


@pytest.fixture
def listed(tmp_path):
    """Return a function that writes a list of this text or bytes and reads it."""

    def read(content, root=""):
        file = tmp_path / "train.list"
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_list(str(file), Data(root=root))

    return read


@pytest.mark.parametrize(
    "content",
    [
        "a.mp4 0\nb.mp4 12\n",
        "a.mp4 0\nb.mp4 12",
        "a.mp4 0\r\nb.mp4 12\r\n",
        "\ufeffa.mp4 0\nb.mp4 12\n",
        "a.mp4\t0\nb.mp4   012  \n",
        "\n\na.mp4 0\n \t\nb.mp4 12\n\n",
        "./a.mp4 0\nx/../b.mp4 12\n",
        "a.mp4 0\rb.mp4 12\r",
        "a.mp4 0\r\nb.mp4 12\r\n".encode("utf-16"),
    ],
    ids=["plain", "no final newline", "CRLF", "BOM", "tabs and blanks", "empty lines", "roundabout", "CR", "UTF-16"],
)
def test_a_list_is_read_however_its_editor_wrote_it(listed, content):
    assert rows(listed(content)) == [("a.mp4", 0), ("b.mp4", 12)]


def test_unusual_file_names_are_read_unchanged(listed):
    listing = listed("".join(f"{name} {label}\n" for label, name in enumerate(UNUSUAL_NAMES)))
    assert rows(listing) == [(name, label) for label, name in enumerate(UNUSUAL_NAMES)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("video.mp4", "no label"),
        ("3", "no label"),
        (
            "video.mp4,1",
            "no label in 'video.mp4,1'; expected `path label`, or a table whose first line names the columns",
        ),
        ("video.mp4 -1", "'-1' is not a whole number"),
        ("video.mp4 1.0", "'1.0' is not a whole number"),
        ("video.mp4 １", "'１' is not a whole number"),
        ("video.mp4 abseiling", "names of classes need a table: `path,label` as its first line, then `a.mp4,jump`"),
        ("1 video.mp4", "label 'video.mp4' is not a whole number of at least 0; the label comes last, after the path"),
        ("# my videos", "lists have no comments, so remove this line"),
        ("path label", "if the line names the columns, remove it, or write a table with commas: `path,label`"),
        ("video.mp4 2147483648", "too large"),
        ("video.mp4 " + "9" * 5000, "too large"),
        ("nul\0.mp4 1", "NUL"),
        ("../video.mp4 1", "leads out of the list's folder"),
        ("a/../../video.mp4 1", "leads out of the list's folder"),
    ],
)
def test_a_bad_line_is_named_with_its_number_and_reason(listed, tmp_path, line, reason):
    with pytest.raises(DataError, match=re.escape(reason)) as refusal:
        listed(f"good.mp4 0\n\n{line}\n")
    assert str(refusal.value).startswith(f"{tmp_path}/train.list:3: ")


def test_paths_that_are_not_utf8_are_names_with_the_same_bytes_and_are_counted(listed):
    listing = listed("a.mp4 0\nn\u00e9e.mp4 1\n".encode("latin-1"))
    assert os.fsencode(listing.path(1)).endswith(b"/n\xe9e.mp4")
    assert "1 paths are not UTF-8, such as 'n\\udce9e.mp4'" in listing.notes[0]


def test_a_broken_utf16_list_is_refused_with_what_would_work(listed):
    with pytest.raises(DataError, match=r"not utf-16.*, which its first bytes announce; save it as UTF-8"):
        listed("a.mp4 0\n".encode("utf-16") + b"\n")


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
def test_an_empty_list_is_refused(listed, content):
    with pytest.raises(DataError, match="is empty"):
        listed(content)


def test_ten_of_many_bad_lines_are_shown_and_the_rest_counted(listed):
    with pytest.raises(DataError) as refusal:
        listed("no-label.mp4\n" * 25)
    lines = str(refusal.value).split("\n")
    assert [line.split(":")[1] for line in lines[:10]] == [str(number) for number in range(1, 11)]
    assert lines[10:] == ["... and 15 more such lines"]


def test_a_file_with_two_labels_is_refused_naming_both_lines(listed):
    with pytest.raises(DataError, match=r"train.list:3: a.mp4 has label 1 here and label 0 in line 1"):
        listed("a.mp4 0\nb.mp4 1\n./a.mp4 1\n")


def test_repeated_rows_are_kept_and_point_at_the_first(listed):
    listing = listed("a.mp4 0\nb.mp4 1\na.mp4 0\n./b.mp4 1\n")
    assert listing.first_N.tolist() == [0, 1, 0, 1]
    assert listing.distinct.tolist() == [0, 1]


def test_relative_paths_start_at_the_root_and_without_one_at_the_lists_folder(listed, tmp_path):
    assert listed("a.mp4 0\n").path(0) == f"{tmp_path}/a.mp4"
    assert listed("a.mp4 0\n", root=str(tmp_path / "videos")).path(0) == f"{tmp_path}/videos/a.mp4"


def test_absolute_paths_are_taken_as_they_are_without_a_root(listed):
    assert listed("/data/ucf101/v_Archery_g01_c01.avi 2\n").path(0) == "/data/ucf101/v_Archery_g01_c01.avi"


def test_absolute_paths_must_lie_inside_the_root(listed, tmp_path):
    assert listed(f"{tmp_path}/a.mp4 0\n", root=str(tmp_path)).path(0) == f"{tmp_path}/a.mp4"
    with pytest.raises(DataError, match=r"train.list:1: /etc/passwd lies outside data.root"):
        listed("/etc/passwd 0\n", root=str(tmp_path))


def test_inside_follows_links(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "out").symlink_to(tmp_path)
    (root / "in").symlink_to(root)
    assert inside(str(root), str(root / "in" / "a.mp4"))
    assert not inside(str(root), str(root / "out" / "a.mp4"))
    assert not inside(str(root), f"{root}-beside/a.mp4")


def test_a_missing_list_is_refused_with_similar_names(tmp_path):
    (tmp_path / "train.list").touch()
    with pytest.raises(DataError, match=r"trian.list: no such list or folder; .* contains train.list"):
        read_list(str(tmp_path / "trian.list"))
    with pytest.raises(DataError, match="does not exist either"):
        read_list(str(tmp_path / "nowhere" / "train.list"))


def test_a_device_is_not_read_as_a_list():
    with pytest.raises(DataError, match="neither a file nor a folder"):
        read_list("/dev/zero")


def test_class_folders_are_labelled_in_sorted_order_and_an_empty_one_keeps_its_label(tmp_path):
    for name in ("run/b.mp4", "run/a.AVI", "run/notes.txt", "run/.hidden.mp4", "jump/z.webm", ".git/x.mp4", "top.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "lie").mkdir()
    listing = read_list(str(tmp_path))
    assert listing.class_names == ("jump", "lie", "run")
    assert rows(listing) == [("jump/z.webm", 0), ("run/a.AVI", 2), ("run/b.mp4", 2)]


def test_a_folder_without_class_folders_is_refused(tmp_path):
    with pytest.raises(DataError, match="is empty; expected one sub-folder a class"):
        read_list(str(tmp_path))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.jpg").touch()
    with pytest.raises(DataError, match=r"expected one sub-folder a class with its videos in it \(1 .jpg files left"):
        read_list(str(tmp_path))
    (tmp_path / "set-0.tar.gz").touch()
    with pytest.raises(DataError, match=r"unpack archives; shards are read as \.tar"):
        read_list(str(tmp_path))
    (tmp_path / "a.mp4").touch()
    with pytest.raises(DataError, match="holds 1 video and no classes; put the videos of each class into") as refusal:
        read_list(str(tmp_path))
    assert "\n" not in str(refusal.value)


def test_videos_in_sub_folders_of_classes_are_reported(tmp_path):
    for name in ("sport/run/a.mp4", "sport/jump/b.mp4", "rest/lie/c.mp4", "rest/lie/d.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = "4 videos in sub-folders of their class, such as rest/lie: if those are the classes, a table of"
    assert found in read_list(str(tmp_path)).notes[0]
    (tmp_path / "rest" / "e.mp4").touch()
    assert read_list(str(tmp_path)).notes == ("4 videos in sub-folders of their class",)


def test_a_catalogue_is_not_suggested_for_a_missing_folder(tmp_path):
    (tmp_path / "my_videos").mkdir()
    (tmp_path / "my_videos.scan").mkdir()
    with pytest.raises(DataError, match=r"contains my_videos$"):
        read_list(str(tmp_path / "my_video"))


def test_the_digest_changes_with_any_row_and_with_nothing_else(listed):
    digest = listed("a.mp4 0\nb.mp4 1\n").digest
    assert listed("a.mp4 0\r\n\r\nb.mp4\t1").digest == digest
    others = ["b.mp4 1\na.mp4 0\n", "a.mp4 0\nb.mp4 2\n", "a.mp4 0\n", "a.mp4 0\nc.mp4 1\n"]
    assert digest not in {listed(other).digest for other in others}


fragments = st.sampled_from(
    ["a.mp4", "..", "/", "/etc/passwd", " ", "\t", "\r", "0", "-1", "7", "1e3", "\0", "é", "\ufeff"]
)
fuzzed_lines = st.lists(st.one_of(fragments, st.text(max_size=5)), max_size=6).map("".join)
whole_lines = st.tuples(st.sampled_from(["a.mp4", "sub/é b.mp4", "../out.mp4", "/etc/out.mp4"]), st.integers(0, 3)).map(
    lambda row: f"{row[0]} {row[1]}"
)
fuzzed_lists = st.one_of(
    st.lists(fuzzed_lines, max_size=12).map(lambda lines: "\n".join(lines).encode()),
    st.lists(whole_lines, min_size=1, max_size=3).map(lambda lines: "\n".join(lines).encode()),
    st.binary(),
)


@pytest.fixture(scope="module")
def fuzz_file(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "train.list"


@settings(max_examples=500)
@given(content=fuzzed_lists, rooted=st.booleans())
def test_any_bytes_are_either_rows_or_a_refusal_that_names_lines(fuzz_file, content, rooted):
    fuzz_file.write_bytes(content)
    try:
        listing = read_list(str(fuzz_file), Data(root=str(fuzz_file.parent) if rooted else ""))
    except DataError as refusal:
        for line in str(refusal).split("\n"):
            assert re.match(rf"{fuzz_file}:\d+: .|\.\.\. and \d+ more such lines$|\(read as |{fuzz_file}: is a ", line)
    else:
        assert listing.paths and listing.label_N.min() >= 0
        assert not rooted or all(inside(str(fuzz_file.parent), listing.path(row)) for row in range(len(listing.paths)))


@settings(max_examples=300)
@given(
    name=st.text(min_size=1, max_size=30).filter(
        lambda text: not set(text) & set("\n\0/") and text == text.strip().strip("\ufeff") and text not in (".", "..")
    ),
    label=st.integers(0, 2**31 - 1),
)
def test_any_file_name_is_read_unchanged(fuzz_file, name, label):
    fuzz_file.write_text(f"{name} {label}\n", encoding="utf-8", newline="")
    assert rows(read_list(str(fuzz_file), Data(format="path_label"))) == [(name, label)]


def test_a_hundred_thousand_rows_are_read_in_order(listed):
    number = np.arange(100_000)
    listing = listed("".join(f"class {n % 400}/{n}.mp4 {n % 400}\n" for n in number))
    np.testing.assert_array_equal(listing.label_N, number % 400)
    assert listing.paths[-1] == os.path.join("class 399", "99999.mp4")


def test_missing_class_names_are_an_error_about_the_setting(tmp_path):
    (tmp_path / "train.csv").write_text("path,label\na.mp4,up\n")
    with pytest.raises(
        DataError, match=r"data\.class_names: /nope: no such file; name a text file with a class name a"
    ):
        read_list(str(tmp_path / "train.csv"), Data(class_names="/nope"))


def test_an_exact_spelling_is_preferred_then_the_first_match_in_order(tmp_path):
    for name in ("Run.mp4", "RUN.mp4", "walk.mp4", "WALK.mp4"):
        (tmp_path / name).touch()
    finder = Finder(str(tmp_path), "", str.lower, str.lower)
    found = [finder.find(((),), name) for name in ("run.mp4", "Run.mp4", "walk.mp4", "jump.mp4")]
    assert found == ["RUN.mp4", "Run.mp4", "walk.mp4", None]


@pytest.mark.parametrize("numbers", ["1 0", "1 2 0", "0 5", "0 1 2 3"])
def test_several_labels_a_line_are_refused_with_what_would_work(listed, numbers):
    lines = f"a b.mp4 {numbers}\nc.avi {numbers}\n"
    if numbers == "1 0":
        assert listed(lines).num_frames_N.tolist() == [1, 1]  # may be frames: the scan tells
        return
    with pytest.raises(DataError, match=r"train.list:1: several numbers after 'a b.mp4': .* write `path label`"):
        listed(lines)


@pytest.mark.parametrize(
    ("labels", "answer"),
    [
        (("0;1", "1", "0"), "table.csv:2: several labels, '0;1': a video has one label here"),
        (("run", "jump", "run | jump"), r"table.csv:4: several labels, 'run | jump'"),
        (("run", '"run, jump"', "jump"), "table.csv:3: several labels, 'run, jump'"),
    ],
)
def test_several_labels_in_a_column_are_refused(tmp_path, labels, answer):
    rows = "".join(f"{number}.mp4,{label}\n" for number, label in enumerate(labels))
    (tmp_path / "table.csv").write_text(f"path,label\n{rows}")
    with pytest.raises(DataError, match=re.escape(answer)):
        read_list(str(tmp_path / "table.csv"))


def test_a_class_name_may_hold_a_comma(tmp_path):
    (tmp_path / "table.csv").write_text('path,label\na.mp4,"shaking hands, formal"\nb.mp4,formal\n')
    assert read_list(str(tmp_path / "table.csv")).class_names == ("formal", "shaking hands, formal")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\x03\x04\x14\0\0\0\n1\n2", "a zip archive"),
        (b"\x1f\x8b\x08\0\n", "a gzip archive"),
        (b"\0\0\0\x18ftypisom\n1\n", "a video"),
    ],
)
def test_an_archive_or_a_video_given_as_a_list_is_one_error(tmp_path, content, what):
    (tmp_path / "mine").write_bytes(content)
    with pytest.raises(DataError, match=f"mine: is {what}, and not a list; name a list, or a folder"):
        read_list(str(tmp_path / "mine"))


def test_a_video_has_one_label_whether_it_is_named_from_the_root_or_in_full(listed, tmp_path):
    with pytest.raises(DataError, match=r"train.list:2: .*a\.mp4 has label 1 here and label 0 in line 1"):
        listed(f"a.mp4 0\n{tmp_path}/a.mp4 1\n", root=str(tmp_path))
    assert listed(f"a.mp4 0\n{tmp_path}/a.mp4 0\n").distinct.tolist() == [0]
