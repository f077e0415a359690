"""Rows of a list as a checkpoint stores them, and the messages about differences between two starts."""

import pytest
import torch

from dali_pipes.lists.listing import read_list
from dali_pipes.lists.rows import Rows, with_lost_rows
from tests.support.files.trees import plant

BEFORE = Rows.of(["set/a/1.mp4", "set/a/2.mp4", "set/b/3.mp4"], [0, 0, 1])


def test_rows_survive_a_checkpoint_whatever_their_names(tmp_path):
    rows = Rows.of(["a b\n\t.mp4", "\udcff.mp4", "über.mp4"], [2, 0, 1], [7, 0, 5_000_000_000])
    torch.save(rows.to_state(), tmp_path / "rows.pt")
    kept = Rows.from_state(torch.load(tmp_path / "rows.pt", weights_only=True))
    assert kept == rows and kept.sizes == rows.sizes


def test_files_of_another_size_are_counted_where_both_sizes_are_known():
    paths, labels = ["a.mp4", "b.mp4", "c.mp4", "d.mp4"], [0, 0, 1, 1]
    before = Rows.of(paths, labels, [10, 2000, 0, 5])
    assert Rows.of(paths, labels, [10, 1000, 30, 0]).other_sizes(before) == (
        "1 file has another size, such as b.mp4 (2,000 -> 1,000 bytes)"
    )
    assert Rows.of(paths, labels, [11, 1000, 30, 0]).other_sizes(before).startswith("2 files have another size")
    assert before.other_sizes(before) == "" and before.difference(Rows.of(paths, labels)) == ""
    assert before.other_sizes(Rows.of(paths, labels)) == "", "a checkpoint of an older version"


def test_a_set_that_moved_has_the_same_rows():
    moved = Rows.of(["/elsewhere/a/1.mp4", "/elsewhere/a/2.mp4", "/elsewhere/b/3.mp4"], [0, 0, 1])
    assert moved.difference(BEFORE) == ""


@pytest.mark.parametrize(
    ("paths", "labels", "said"),
    [
        (["a/1.mp4", "b/3.mp4"], [0, 1], "1 gone, such as a/2.mp4"),
        (["a/1.mp4", "a/2.mp4", "b/3.mp4", "b/4.mp4", "b/5.mp4"], [0, 0, 1, 1, 1], "2 new, such as b/4.mp4"),
        (["a/1.mp4", "a/2.mp4", "b/3.mp4"], [0, 2, 1], "1 with another label, such as a/2.mp4 (0 -> 2)"),
        (
            ["a/1.mp4", "a/0.mp4", "b/3.mp4"],
            [5, 0, 1],
            "1 gone, such as a/2.mp4; 1 new, such as a/0.mp4; 1 with another label, such as a/1.mp4 (0 -> 5)",
        ),
        (["a/1.mp4", "b/3.mp4", "a/2.mp4"], [0, 1, 0], "other places, from b/3.mp4 on"),
        (["a/1.mp4", "a/2.mp4", "b/3.mp4", "b/3.mp4"], [0, 0, 1, 1], "other places, from b/3.mp4 on"),
    ],
)
def test_differences_between_lists_are_counted_with_an_example(paths, labels, said):
    assert Rows.of(paths, labels).difference(BEFORE) == said


@pytest.fixture
def folders(tmp_path):
    """Return class folders."""
    return plant(tmp_path / "set", {f"{label}/{name}.mp4": "" for label in ("down", "up") for name in ("1", "2", "3")})


def rows_of(listing):
    return Rows.of(listing.paths, listing.label_N.tolist())


def test_a_file_that_is_lost_from_a_class_folder_keeps_its_row(folders):
    before = rows_of(read_list(str(folders)))
    (folders / "down" / "2.mp4").unlink()
    listing = read_list(str(folders))
    assert rows_of(listing).difference(before) == "1 gone, such as down/2.mp4"
    kept = with_lost_rows(listing, before)
    assert rows_of(kept) == before and kept.distinct.tolist() == list(range(6))
    assert kept.path(1) == f"{folders}/down/2.mp4" and "1 files are gone since the run was started" in kept.notes


def test_a_new_file_or_a_missing_line_is_a_changed_list(folders):
    before = rows_of(read_list(str(folders)))
    (folders / "down" / "2.mp4").rename(folders / "down" / "4.mp4")
    listing = read_list(str(folders))
    assert with_lost_rows(listing, before) is listing
    (folders / "all.list").write_text("up/1.mp4 1\nup/2.mp4 1\n")
    shorter = read_list(f"{folders}/all.list")
    assert with_lost_rows(shorter, Rows(("1.mp4", "2.mp4", "3.mp4"), (1, 1, 1))) is shorter
