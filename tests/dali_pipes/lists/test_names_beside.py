"""Class names in the folder of a numbered list: they are not used, but a contradiction is an error."""

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
    assert read_list(str(numbered), Data()).class_names == ()


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
