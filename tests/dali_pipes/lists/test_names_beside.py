"""Class names in the folder of a numbered list: they are used if they name all classes; a contradiction is an error."""

import pytest

from configs.schema import Data
from dali_pipes import DataError
from dali_pipes.lists.listing import read_list

NAMES = ("up", "down", "left")


@pytest.fixture
def numbered(tmp_path):
    """Return a numbered list whose classes 0 and 1 have names in a file of another folder."""
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.list").write_text("a.mp4 0\nb.mp4 1\n")
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    return tmp_path / "set" / "a.list"


@pytest.mark.parametrize("name", ["a.classes.txt", "classes.txt"])
def test_names_that_number_the_classes_otherwise_are_refused(numbered, name):
    (numbered.parent / name).write_text("down\nup\n")
    seen = rf"a\.list: is numbered by .*{name}, where label 0 is 'down', which is label 1 of"
    with pytest.raises(DataError, match=rf"{seen} .*names\.txt; set data\.class_names=.*{name}, or move that file"):
        read_list(str(numbered), Data(class_names=str(numbered.parents[1] / "names.txt")))
    with pytest.raises(DataError, match=f"{seen} the network; "):
        read_list(str(numbered), Data(), NAMES)
    asked = Data(class_names=str(numbered.parent / name))
    assert read_list(str(numbered), asked, NAMES).class_names == ("down", "up")


@pytest.mark.parametrize("name", ["a.classes.txt", "classes.txt"])
@pytest.mark.parametrize("train", ["", "a.list"])
def test_a_name_for_each_class_of_a_training_list_names_them(numbered, monkeypatch, name, train):
    monkeypatch.chdir(numbered.parent)
    (numbered.parent / name).write_text("oben\nunten\n")
    listing = read_list("a.list", Data(train=train))
    assert listing.class_names == ("oben", "unten") and listing.notes == (f"class names of {numbered.parent / name}",)


def test_fewer_or_more_names_than_classes_are_not_used(numbered):
    for names in ("one\n", "one\ntwo\nthree\n"):
        (numbered.parent / "classes.txt").write_text(names)
        listing = read_list(str(numbered))
        assert listing.class_names == () and "not used" in listing.notes[0]


def test_names_next_to_a_held_out_list_are_used_if_they_are_those_of_the_network(numbered):
    """Its labels do not show the number of classes."""
    (numbered.parent / "classes.txt").write_text("Up\nDown\n")
    (numbered.parent / "train.list").write_text("c.mp4 0\nc.mp4 1\n")
    data = Data(train=str(numbered.parent / "train.list"))
    assert read_list(str(numbered), data).class_names == ()
    assert read_list(str(numbered), data, NAMES[:2]).class_names == NAMES[:2]
    assert read_list(str(numbered), data, NAMES).class_names == ()


@pytest.mark.parametrize(
    "beside",
    ["up\ndown\n", "Up\nDOWN\nleft\nright\n", "haut\nbas\n", "up\ndown\nup_2\n", "up\nup\n", "\n", "left\ndown\n"],
)
def test_name_files_with_the_same_numbers_or_unrelated_words_are_accepted(numbered, beside):
    (numbered.parent / "classes.txt").write_text(beside)
    data = Data(class_names=str(numbered.parents[1] / "names.txt"))
    if beside.startswith("left"):
        numbered.write_text("a.mp4 1\n")  # the label whose name differs has no row
    assert read_list(str(numbered), data).class_names == NAMES


def test_a_list_that_names_its_classes_is_numbered_by_name(numbered):
    numbered.write_text("path,label\na.mp4,up\nb.mp4,down\n")
    (numbered.parent / "classes.txt").write_text("down\nup\n")
    assert read_list(str(numbered), Data(), NAMES).label_N.tolist() == [0, 1]
