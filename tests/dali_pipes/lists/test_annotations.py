"""Annotations of published datasets, on small samples in the published format."""

import json

import pytest

from configs.schema import Data
from dali_pipes.errors import DataError
from dali_pipes.lists.listing import read_list
from tests.support.files import trees
from tests.support.files.trees import rows

tree = trees.tree


# Kinetics

KINETICS = """label,youtube_id,time_start,time_end,split
testifying,---QUuC4vJs,84,94,train
"shooting goal (soccer)",-1IlTIWPNs4,43,53,train
massaging person's head,0074cdXclLU,3,13,train
air drumming,-0H3T2B9PH4,25,35,train
"""
CLASSES = ("air drumming", "massaging person's head", "shooting goal (soccer)", "testifying")
CLIPS = ["---QUuC4vJs_000084_000094", "-1IlTIWPNs4_000043_000053", "0074cdXclLU_000003_000013"]


def kinetics_json(split):
    return json.dumps(
        {
            "---QUuC4vJs": {
                "annotations": {"label": "testifying", "segment": [84.0, 94.0]},
                "duration": 10.0,
                "subset": split,
                "url": "https://www.youtube.com/watch?v=---QUuC4vJs",
            }
        }
    )


def test_kinetics_csv_names_clips_by_id_and_seconds(tree):
    listing = read_list(str(tree({"train.csv": KINETICS}) / "train.csv"))
    assert listing.paths == [f"{name}.mp4" for name in [*CLIPS, "-0H3T2B9PH4_000025_000035"]]
    assert listing.label_N.tolist() == [3, 2, 1, 0] and listing.class_names == CLASSES


@pytest.mark.parametrize(
    "folder",
    ["", "train/", "air drumming/", "air_drumming/", "train/air_drumming/", "Air-Drumming/", "replacement/{}/"],
)
def test_kinetics_clips_are_found_wherever_mirrors_put_them(tree, folder):
    name = folder.format("replacement_for_corrupted_k400") + "-0H3T2B9PH4_000025_000035.mp4"
    root = tree({"list/train.csv": KINETICS, f"videos/{name}": ""})
    listing = read_list(f"{root}/list/train.csv", Data(root=f"{root}/videos"))
    assert listing.paths[3] == name and listing.label_N.tolist() == [3, 2, 1, 0]


def test_a_repaired_kinetics_clip_is_preferred_to_the_broken_one(tree):
    clip = "-0H3T2B9PH4_000025_000035.mp4"
    repaired = f"replacement/replacement_for_corrupted_k400/{clip}"
    root = tree({"train.csv": KINETICS, f"train/{clip}": "", repaired: ""})
    assert read_list(f"{root}/train.csv").paths[3] == repaired


def test_clips_are_found_in_class_folders_of_either_spelling(tree):
    root = tree({"train.csv": KINETICS, "air_drumming/x.mp4": "", "air drumming/-0H3T2B9PH4_000025_000035.mp4": ""})
    assert read_list(f"{root}/train.csv").paths[3] == "air drumming/-0H3T2B9PH4_000025_000035.mp4"


def test_ids_of_kinetics_that_differ_in_case_or_dashes_are_different_videos(tree):
    root = tree({"train.csv": KINETICS, "train/-0h3T2B9PH4_000025_000035.mp4": "", "_0H3T2B9PH4_000025_000035.mp4": ""})
    assert read_list(f"{root}/train.csv").paths[3] == "-0H3T2B9PH4_000025_000035.mp4"


def test_held_out_lists_of_kinetics_take_their_numbers_from_the_training_list(tree):
    val = "label,youtube_id,time_start,time_end,split\ntestifying,aaaaaaaaaaa,0,10,validate\n"
    root = tree({"train.csv": KINETICS, "val.csv": val})
    listing = read_list(f"{root}/val.csv", Data(train=f"{root}/train.csv"))
    assert listing.label_N.tolist() == [3] and listing.class_names == CLASSES


def test_held_out_lists_take_their_numbers_from_a_file_of_names(tree):
    root = tree({"val.csv": KINETICS.replace("train", "val"), "names.txt": "\n".join(("acting_in_play", *CLASSES))})
    listing = read_list(f"{root}/val.csv", Data(class_names=f"{root}/names.txt"))
    assert listing.label_N.tolist() == [4, 3, 2, 1]


def test_held_out_lists_without_class_numbers_are_refused(tree):
    root = tree({"val.csv": KINETICS.replace("train", "val"), "train.list": "a.mp4 0\n"})
    with pytest.raises(DataError, match=r"set data.train to it, or data.class_names"):
        read_list(f"{root}/val.csv")
    with pytest.raises(DataError, match=r"set data.train to it, or data.class_names"):
        read_list(f"{root}/val.csv", Data(train=f"{root}/train.list"))


def test_a_class_that_the_training_list_lacks_is_refused(tree):
    root = tree({"train.csv": KINETICS, "val.csv": KINETICS.replace("train", "val").replace("air ", "hair ")})
    with pytest.raises(DataError, match=r"val.csv:5: class 'hair drumming' is not among the 4 classes; did you mean"):
        read_list(f"{root}/val.csv", Data(train=f"{root}/train.csv"))


@pytest.mark.parametrize(
    "content",
    [
        "testifying,---QUuC4vJs,84,94,train\n",
        "testifying,---QUuC4vJs,84.0,94.0,train,0\n",
        "label,youtube_id,time_start,time_end,split,is_cc\ntestifying,---QUuC4vJs,84,94,train,1\n",
        "testifying/---QUuC4vJs_000084_000094.mp4\n",
        kinetics_json("training"),
    ],
    ids=["no header", "no header, more columns", "licence", "paths", "json"],
)
def test_other_forms_of_kinetics_lists_give_the_same_rows(tree, content):
    listing = read_list(str(tree({"train.txt": content}) / "train.txt"))
    assert rows(listing) == [("---QUuC4vJs_000084_000094.mp4", 0)] and listing.class_names == ("testifying",)


def test_a_file_of_several_splits_is_read_one_at_a_time(tree):
    both = KINETICS + "air drumming,bbbbbbbbbbb,1,11,validate\n"
    source = str(tree({"all.csv": both}) / "all.csv")
    with pytest.raises(DataError, match=r"all.csv: contains train, val; say which, as in .*all.csv:val"):
        read_list(source)
    with pytest.raises(DataError, match="has no split test; it has train, val"):
        read_list(f"{source}:test")
    assert len(read_list(f"{source}:train").paths) == 4
    assert rows(read_list(f"{source}:val")) == [("bbbbbbbbbbb_000001_000011.mp4", 0)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (",---QUuC4vJs,84,94,train", "no label"),
        ("x,---QUuC4vJ,84,94,train", "'---QUuC4vJ' is not a YouTube id"),
        ("x,../../../et,84,94,train", "is not a YouTube id"),
        ("x,---QUuC4vJs,84,soon,train", "'84' to 'soon' is not a range of seconds"),
        ("x,---QUuC4vJs,84,94", "4 fields, but the header names 5"),
        ("air drumming,---QUuC4vJs,84,94,train", "has label 0 here and label 3 in line 2"),
    ],
)
def test_a_bad_line_of_kinetics_is_named(tree, line, reason):
    with pytest.raises(DataError, match=f"train.csv:6: .*{reason}"):
        read_list(str(tree({"train.csv": f"{KINETICS}{line}\n"}) / "train.csv"))


@pytest.mark.parametrize(
    "item", ['{"annotations": {"label": 3, "segment": [1, 2]}}', '{"annotations": {"label": "run"}}', "{}", "[]", "7"]
)
def test_a_bad_item_of_kinetics_json_is_named_by_its_line(tree, item):
    good = '"---QUuC4vJs": {"annotations": {"label": "run", "segment": [84, 94]}}'
    root = tree({"train.json": f'{{{good},\n\n"aaaaaaaaaaa": {item}}}'})
    with pytest.raises(DataError, match=r"train.json:3: expected an id with annotations"):
        read_list(f"{root}/train.json")


@pytest.mark.parametrize(("ending", "line"), [("", 3), ("}, 7}", 3), ("}}\n}", 4)])
def test_broken_json_is_refused_at_the_line_where_it_breaks(tree, ending, line):
    root = tree(
        {"train.json": f'{{"---QUuC4vJs":\n {{"annotations": {{"label": "run",\n "segment": [84, 94]}}{ending}'}
    )
    with pytest.raises(DataError, match=f"train.json:{line}: "):
        read_list(f"{root}/train.json")


def test_a_lone_surrogate_in_json_is_refused(tree):
    root = tree({"train.json": kinetics_json("training").replace("testifying", "testifying\\ud800")})
    with pytest.raises(DataError, match=r"train.json:1: .*surrogates not allowed"):
        read_list(f"{root}/train.json")


def test_a_kinetics_test_set_without_labels_is_refused(tree):
    root = tree({"test.csv": "youtube_id,time_start,time_end,split\n--6bJUbfpnQ,17,27,test\n"})
    with pytest.raises(DataError, match=r"test.csv:2: no label"):
        read_list(f"{root}/test.csv")


# UCF101

UCF = {
    "classInd.txt": "1 ApplyEyeMakeup\r\n2 Archery\r\n3 HandstandPushups\r\n",
    "trainlist01.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\r\nArchery/v_Archery_g09_c02.avi 2\r\n",
    "testlist01.txt": "HandstandPushups/v_HandStandPushups_g01_c01.avi\r\nArchery/v_Archery_g01_c02.avi\r\n",
}


def test_ucf101_lists_are_numbered_from_0_by_classind(tree):
    root = tree(UCF)
    train, test = read_list(f"{root}/trainlist01.txt"), read_list(f"{root}/testlist01.txt")
    assert train.label_N.tolist() == [0, 1] and test.label_N.tolist() == [2, 1]
    assert train.class_names == test.class_names == ("ApplyEyeMakeup", "Archery", "HandstandPushups")


def test_ucf101_videos_are_found_in_any_case_with_a_note(tree):
    root = tree({**UCF, "videos/HandStandPushups/v_HandstandPushups_g01_c01.avi": ""})
    listing = read_list(f"{root}/testlist01.txt", Data(root=f"{root}/videos"))
    assert listing.paths[0] == "HandStandPushups/v_HandstandPushups_g01_c01.avi"
    assert "1 file is spelled otherwise than listed" in listing.notes[0]


def test_names_are_case_sensitive_in_other_formats(tree):
    root = tree({"train.list": "Run/é.mp4 0\n", "run/é.mp4": "", "Run/É.mp4": ""})
    assert read_list(f"{root}/train.list").paths == ["Run/é.mp4"]


def test_a_label_that_contradicts_classind_is_refused(tree):
    root = tree({**UCF, "trainlist01.txt": UCF["trainlist01.txt"] + "Archery/v_Archery_g09_c03.avi 3\n"})
    with pytest.raises(DataError, match=r"trainlist01.txt:3: label 3, but classInd.txt gives Archery the number 2"):
        read_list(f"{root}/trainlist01.txt")


def test_a_zero_based_list_next_to_classind_keeps_its_labels(tree):
    root = tree({**UCF, "ucf101_train.txt": "Archery/v_Archery_g09_c02.avi 1\n"})
    assert rows(read_list(f"{root}/ucf101_train.txt")) == [("Archery/v_Archery_g09_c02.avi", 1)]


def test_a_ucf101_test_list_without_classind_is_refused(tree):
    root = tree({"testlist01.txt": UCF["testlist01.txt"]})
    with pytest.raises(DataError, match=r"testlist01.txt:1: needs classInd.txt in the same folder"):
        read_list(f"{root}/testlist01.txt")


# HMDB51

HMDB = {
    "splits/brush_hair_test_split1.txt": "April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1 \n"
    "#20_Rhythm_&_clap_brush_hair_u_nm_np1_ba_goo_1.avi 2 \nunused_brush_hair_h_nm_np1_ba_goo_2.avi 0 \n",
    "splits/brush_hair_test_split2.txt": "April_09_brush_hair_u_nm_np1_ba_goo_0.avi 2 \n",
    "splits/clap_test_split1.txt": "50_FIRST_DATES(a)[b];!_clap_f_nm_np1_fr_med_25.avi 1 \n",
}


def test_hmdb51_splits_leave_out_videos_of_neither_side(tree):
    root = tree(HMDB)
    train, test = read_list(f"{root}/splits:train1"), read_list(f"{root}/splits:test1")
    assert rows(train) == [
        ("brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi", 0),
        ("clap/50_FIRST_DATES(a)[b];!_clap_f_nm_np1_fr_med_25.avi", 1),
    ]
    assert rows(test) == [("brush_hair/#20_Rhythm_&_clap_brush_hair_u_nm_np1_ba_goo_1.avi", 0)]
    assert train.class_names == ("brush_hair", "clap")


def test_an_hmdb51_folder_without_a_split_is_refused_with_the_splits(tree):
    with pytest.raises(DataError, match="contains test1, test2, train1; say which"):
        read_list(str(tree(HMDB) / "splits"))


def test_a_bad_line_of_hmdb51_is_named_with_its_own_file(tree):
    root = tree({**HMDB, "splits/clap_test_split2.txt": "a.avi 1\nb.avi 3\n"})
    with pytest.raises(DataError, match=r"clap_test_split2.txt:2: expected a name and 0, 1 or 2"):
        read_list(f"{root}/splits:train1")


# Something-Something and Jester

V2_LABELS = {"Approaching something with your camera": "0", "Pretending to pour something out of something": "1"}
V2_TRAIN = [
    {
        "id": "78687",
        "label": "pretending to pour water out of a cup",
        "template": "Pretending to pour [something] out of [something]",
        "placeholders": ["water", "a cup"],
    },
    {"id": "42326", "label": "approaching a box", "template": "Approaching [something] with your camera"},
]


def v2(train):
    return {
        "something-something-v2-labels.json": json.dumps(V2_LABELS),
        "something-something-v2-train.json": json.dumps(train, indent=1),
    }


def test_something_v2_is_numbered_by_its_templates(tree):
    listing = read_list(str(tree(v2(V2_TRAIN)) / "something-something-v2-train.json"))
    assert rows(listing) == [("78687.webm", 1), ("42326.webm", 0)]
    assert listing.class_names == tuple(V2_LABELS)


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"id": "1"}, "no template"),
        ({"id": "1", "template": "Eating [something]"}, "template 'Eating something' is not in"),
        ({"id": "../1", "template": "Approaching [something] with your camera"}, "id '../1' is not a number"),
        ("78687", "no template"),
    ],
)
def test_a_bad_item_of_something_v2_is_named_by_its_line(tree, item, reason):
    root = tree(v2([*V2_TRAIN, item]))
    line = 2 + json.dumps(V2_TRAIN, indent=1).count("\n") - 1
    with pytest.raises(DataError, match=f"v2-train.json:{line}: {reason}"):
        read_list(f"{root}/something-something-v2-train.json")


@pytest.mark.parametrize("labels", ['{"a": "0", "b": "2"}', '{"a": 0, "b": 0}', '["a"]', "{}", '{"a": {}}'])
def test_labels_without_the_numbers_from_0_are_refused(tree, labels):
    root = tree({**v2(V2_TRAIN), "something-something-v2-labels.json": labels})
    with pytest.raises(DataError, match=r"labels.json:1: expected an object that gives each label its number"):
        read_list(f"{root}/something-something-v2-train.json")


@pytest.mark.parametrize("dataset", ["something-something-v1", "jester-v1"])
def test_ids_with_labels_are_folders_of_frames_numbered_by_the_alphabet(tree, dataset):
    root = tree(
        {
            f"{dataset}-labels.csv": "Swiping Left\nDoing other things\nThumb Up\n",
            f"{dataset}-validation.csv": "34870;Thumb Up\n56557;Swiping Left\n",
        }
    )
    source = f"{root}/{dataset}-validation.csv"
    listing = read_list(source)
    assert rows(listing) == [("34870", 2), ("56557", 1)]
    assert listing.class_names == ("Doing other things", "Swiping Left", "Thumb Up")
    assert read_list(source, Data(suffix=".webm")).paths == ["34870.webm", "56557.webm"]


def test_a_file_of_class_names_overrides_the_numbers_of_jester(tree):
    root = tree(
        {
            "jester-v1-labels.csv": "Swiping Left\nThumb Up\n",
            "jester-v1-train.csv": "1;Thumb Up\n2;Swiping Left\n",
            "mine.txt": "0 Thumb Up\n1 Swiping Left\n",
        }
    )
    listing = read_list(f"{root}/jester-v1-train.csv", Data(class_names=f"{root}/mine.txt"))
    assert listing.label_N.tolist() == [0, 1]


def test_no_label_depends_on_which_videos_exist(tree):
    root = tree({"train.csv": KINETICS, **UCF, **HMDB, **v2(V2_TRAIN), "train.list": "a.mp4 4\n"})
    sources = ["train.csv", "trainlist01.txt", "splits:train1", "something-something-v2-train.json", "train.list"]
    before = [read_list(f"{root}/{source}") for source in sources]
    tree({listing.path(0): "" for listing in before})
    after = [read_list(f"{root}/{source}") for source in sources]
    assert [rows(listing) for listing in after] == [rows(listing) for listing in before]
