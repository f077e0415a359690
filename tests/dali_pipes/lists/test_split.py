"""Splits: stratified, deterministic, with whole recordings on one side, and messages about similar names."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.schema import Data
from dali_pipes.errors import DataError
from dali_pipes.lists.listing import read_list
from dali_pipes.lists.split import divide, divided_recordings, groups_of, hold_out


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """Return a function that writes a list of (path, label) rows and reads it."""
    folder = tmp_path_factory.mktemp("lists")

    def write(rows):
        (folder / "all.list").write_text("".join(f"{path} {label}\n" for path, label in rows))
        return read_list(str(folder / "all.list"))

    return write


def labels(listing, rows):
    return Counter(listing.label_N[rows].tolist())


def test_each_class_is_divided_by_the_same_fraction(listed):
    listing = listed([(f"{label}/{n}.mp4", label) for label in range(3) for n in (range(40) if label else range(10))])
    sides = divide(listing, groups_of(listing), 0.2, seed=0)
    assert labels(listing, sides["val"]) == {0: 2, 1: 8, 2: 8}
    assert labels(listing, sides["train"]) == {0: 8, 1: 32, 2: 32}


@given(
    videos=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), min_size=2, max_size=40),
    held_out=st.floats(0.05, 0.95),
    seed=st.integers(0, 3),
)
def test_groups_stay_whole_and_no_class_is_lost_from_training(listed, videos, held_out, seed):
    listing = listed([(f"seq{group}_{n}.mp4", label) for n, (group, label) in enumerate(videos)])
    groups = groups_of(listing, pattern=r"seq\d+")
    try:
        sides = divide(listing, groups, held_out, seed)
    except DataError:
        shared = {label: {group for group, other in videos if other == label} for _, label in videos}
        assert any(len(of_class) == 1 for of_class in shared.values())  # a class of one group keeps it in training
        return
    assert sorted(sides["train"] + sides["val"]) == list(range(len(videos)))
    assert {groups[row] for row in sides["train"]}.isdisjoint(groups[row] for row in sides["val"])
    assert labels(listing, sides["train"]).keys() == labels(listing, list(range(len(videos)))).keys()


def test_a_new_video_leaves_the_others_on_their_side(listed):
    rows = [(f"{label}/{n}.mp4", label) for label in range(2) for n in range(50)]
    before = listed(rows)
    held = {before.paths[row] for row in divide(before, groups_of(before), 0.2, 0)["val"]}
    after = listed([*rows, ("1/new.mp4", 1)])
    now = {after.paths[row] for row in divide(after, groups_of(after), 0.2, 0)["val"]}
    assert len(held ^ now) <= 2  # the new one may take the place of another


def test_another_seed_gives_another_split(listed):
    listing = listed([(f"{n}.mp4", n % 2) for n in range(40)])
    assert divide(listing, groups_of(listing), 0.2, 0) != divide(listing, groups_of(listing), 0.2, 1)


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (
            ["v_Dive_g01_c01.avi", "v_Dive_g01_c02.avi", "v_Jump_g01_c01.avi"],
            ["v_dive_g01", "v_dive_g01", "v_jump_g01"],
        ),
        (["---QUuC4vJs_000084_000094.mp4", "a-_45678901_000001_000011.mp4"], ["---QUuC4vJs", "a-_45678901"]),
        (["v_Dive_g01_c01.avi", "mine.avi"], ["x/v_Dive_g01_c01.avi", "x/mine.avi"]),
    ],
    ids=["UCF101", "Kinetics", "not all"],
)
def test_file_names_of_published_datasets_give_the_recording(listed, names, groups):
    assert groups_of(listed([(f"x/{name}", 0) for name in names])) == groups


def test_a_list_of_one_group_cannot_be_split(listed):
    listing = listed([("seq1_a.mp4", 0), ("seq1_b.mp4", 1)])
    with pytest.raises(DataError, match="1 groups of videos are too few to divide"):
        divide(listing, groups_of(listing, pattern=r"seq\d+"), 0.5, 0)


def test_two_classes_of_one_video_cannot_be_divided(listed):
    listing = listed([("a.mp4", 0), ("b.mp4", 1)])
    with pytest.raises(DataError, match="2 videos are too few to divide: to hold one out, a class needs two"):
        divide(listing, groups_of(listing), 0.5, 0)


def test_a_list_too_small_to_hold_out_names_the_setting_that_trains_on_all(listed, tmp_path):
    with pytest.raises(DataError, match=r"a class needs two; data\.val= holds none out and trains on all"):
        hold_out(listed([("a.mp4", 0), ("b.mp4", 1)]), Data(), 0, tmp_path)


def test_a_group_pattern_that_matches_no_path_is_refused(listed):
    listing = listed([("take1_a.mp4", 0), ("take1_b.mp4", 1)])
    with pytest.raises(DataError, match=r"seq\\d\+ of the groups is found in none of its 2 paths, such as take1_a"):
        groups_of(listing, pattern=r"seq\d+")


def test_names_that_differ_in_their_last_part_are_pointed_out_across_sides(listed):
    rows = [(f"walk/seq{n}_{part}.mp4", 0) for n in range(6) for part in "ab"]
    listing = listed(rows)
    sides = {"train": [0, *range(2, 12)], "val": [1]}
    assert divided_recordings(listing, sides) == [("walk/seq0_a.mp4", "walk/seq0_b.mp4")]
    assert divided_recordings(listing, {"train": list(range(2, 12)), "val": [0, 1]}) == []


def test_plain_numbered_names_are_not_reported_as_recordings(listed):
    listing = listed([(f"clip_{n:03}.mp4", 0) for n in range(20)])
    assert divided_recordings(listing, {"train": list(range(10)), "val": list(range(10, 20))}) == []


def test_groups_of_a_split_of_a_table_are_those_of_its_rows(tmp_path):
    rows = ["a.mp4,0,train,ann", "b.mp4,0,val,bob", "c.mp4,1,train,bob"]
    (tmp_path / "all.csv").write_text("\n".join(["path,label,split,person", *rows]))
    listing = read_list(f"{tmp_path}/all.csv:train")
    assert groups_of(listing, "person") == ["ann", "bob"]
    with pytest.raises(DataError, match="has no column persons"):
        groups_of(listing, "persons")


@pytest.mark.parametrize("ending", ["jsonl", "json"])
def test_a_json_key_defines_the_groups_of_a_split(tmp_path, ending):
    rows = [{"path": f"{number}.mp4", "label": number % 2, "Cam": number // 4} for number in range(16)]
    lines = list(map(json.dumps, rows))
    (tmp_path / "a.list").write_text("\n".join(lines) if ending == "jsonl" else f"[{','.join(lines)}]")
    listing = read_list(f"{tmp_path}/a.list")
    assert groups_of(listing, "cam") == [str(number // 4) for number in range(16)]
    with pytest.raises(DataError, match=r"a\.list:1: has no column day; it has path, label, Cam"):
        groups_of(listing, "day")
