"""Class numbers by name: lists and networks whose classes differ in order, number or names."""

import pytest

from configs.schema import Data
from dali_pipes import DataError
from dali_pipes.lists.formats.class_names import class_numbers
from dali_pipes.lists.listing import read_list


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return class folders with one empty video each."""
    for name in ("green", "red", "sky_blue"):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "1.mp4").touch()
    return tmp_path / "set"


def test_reordered_classes_get_the_numbers_of_the_network():
    assert class_numbers("x", ["a", "b", "c"], [0, 1, 2], ["c", "a", "b"]).tolist() == [1, 2, 0]


def test_spelling_may_differ_in_case_blanks_and_punctuation():
    assert class_numbers("x", ["Sky_Blue", "red"], [0, 1], ["red", "sky blue"]).tolist() == [1, 0]


def test_two_classes_that_match_one_class_of_the_network_are_refused():
    with pytest.raises(DataError, match="its classes 'Red' and 'red' are one of the network; give them one name"):
        class_numbers("x", ["Red", "blue", "red"], [0, 1, 2], ["red", "blue"])
    assert class_numbers("x", ["Red", "blue", "red"], [1, 2], ["red", "blue"]).tolist() == [0, 1, 0]


def test_a_label_beyond_the_class_names_is_refused(tmp_path):
    (tmp_path / "a.list").write_text("a.mp4 1\nb.mp4 2\n")
    (tmp_path / "names.txt").write_text("red\nblue\n")
    with pytest.raises(DataError, match=r"a\.list:2: label 2 has no name: 2 classes are named, from label 0 on"):
        read_list(f"{tmp_path}/a.list", Data(class_names=f"{tmp_path}/names.txt"))


def test_a_class_without_rows_need_not_be_known_to_the_network():
    assert class_numbers("x", ["a", "new"], [0], ["b", "a"]).tolist() == [1, -1]


def test_the_refusal_of_a_new_class_names_what_differs_on_both_sides():
    with pytest.raises(DataError) as error:
        class_numbers("set/val", ["green", "red", "sky_blue"], [0, 1, 2], ["blue", "green", "red"])
    assert str(error.value).startswith(
        "set/val: has classes that the network does not know: 'sky_blue', and lacks 'blue' of the network; rename them"
    )


def test_many_new_classes_are_counted():
    with pytest.raises(DataError, match=r"'7', '8', '9', '10', '11' and 2 more"):
        class_numbers("x", [*map(str, range(7, 14))], range(7), ["a"])


def test_class_folders_are_numbered_as_the_network_numbers_them(folder):
    names = ("sky blue", "green", "yellow", "red")
    listing = read_list(str(folder), Data(), names)
    assert (listing.class_names, listing.label_N.tolist()) == (names, [1, 3, 0])


def test_class_folders_of_a_held_out_set_need_no_training_list_if_the_network_has_names(folder):
    renamed = folder.rename(folder.with_name("val"))
    names = ("green", "red", "sky_blue")
    data = Data(train=str(folder / "gone"))
    assert read_list(str(renamed), data, names).label_N.tolist() == [0, 1, 2]
    with pytest.raises(DataError, match="gone"):
        read_list(str(renamed), data)


def test_a_renamed_class_folder_is_refused_though_the_counts_are_equal(folder):
    with pytest.raises(DataError, match="has classes that the network does not know: 'sky_blue', and lacks 'blue'"):
        read_list(str(folder), Data(), ("blue", "green", "red"))


def test_numeric_labels_are_not_renumbered(tmp_path):
    (tmp_path / "x.list").write_text("1.mp4 2\n2.mp4 0\n")
    listing = read_list(str(tmp_path / "x.list"), Data(), ("a", "b", "c"))
    assert (listing.class_names, listing.label_N.tolist()) == ((), [2, 0])
