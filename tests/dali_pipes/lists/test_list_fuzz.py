"""Malformed lists of every format: rows inside the root, or one error with file and line, and nothing else."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.schema import Data
from dali_pipes.errors import DataError
from dali_pipes.lists.formats import FORMATS
from dali_pipes.lists.listing import read_list
from dali_pipes.lists.locate import inside
from tests.support.files.trees import plant

V2 = [{"id": "7", "template": "Eating [something]"}, {"id": "8", "template": "Eating [something]"}]
KINETICS = {"---QUuC4vJs": {"annotations": {"label": "run", "segment": [84, 94.0]}, "subset": "training"}}
SAMPLES = {
    "train.list": "a b.mp4 0\r\ndir/é.mp4 3\n",
    "train_frames.list": "a b 30 0\ndir/c 12 3\n",
    "train.csv": 'path,label,split\n"a,b.mp4",run,train\nc.mp4,jump,train\n',
    "train.jsonl": '{"path": "a.mp4", "label": 0, "frames": 3}\n{"path": "b.mp4", "label": 1}\n',
    "kinetics_train.csv": "label,youtube_id,time_start,time_end,split\nrun,---QUuC4vJs,84,94,train\n",
    "kinetics_train.txt": "run,---QUuC4vJs,84,94,train\nrun,0074cdXclLU,3,13,train\n",
    "kinetics_train.json": json.dumps(KINETICS, indent=1),
    "trainlist01.txt": "Archery/v_Archery_g09_c02.avi 2\nHandstandPushups/v_HandStandPushups_g01_c01.avi 3\n",
    "something-train.json": json.dumps(V2),
    "jester-train.csv": "34870;Thumb Up\n56557;Swiping Left\n",
    "hmdb/clap_test_split1.txt": "a(b)_clap_f.avi 1 \n#c_clap_f.avi 2 \n",
}
COMPANIONS = {
    "classInd.txt": "1 ApplyEyeMakeup\n2 Archery\n3 HandstandPushups\n",
    "something-labels.json": '{"Eating something": "0"}',
    "jester-labels.csv": "Swiping Left\nThumb Up\n",
    "run/---QUuC4vJs_000084_000094.mp4": "",
}
FRAGMENTS = [
    *("..", "../", "/", "/etc/passwd", "\0", "\n", "\r", "\t", " ", ",", ";", '"', "'", "{", "}", "[", "]", ":", "\\"),
    *(
        "-1",
        "0",
        "9" * 12,
        "1e999",
        "null",
        "true",
        "é",
        "e\u0301",
        "\ufeff",
        "\\ud800",
        "🎬",
        "train",
        "label",
        "path",
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of intact samples and their companion files."""
    return plant(tmp_path_factory.mktemp("fuzz"), {**SAMPLES, **COMPANIONS})


@st.composite
def damaged(draw):
    """Draw (name, bytes) of a sample or companion file with a few cuts, copies and insertions."""
    name = draw(st.sampled_from([*SAMPLES, "classInd.txt", "something-labels.json", "jester-labels.csv"]))
    content = {**SAMPLES, **COMPANIONS}[name].encode()
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(0, 12)))
        insertion = draw(st.one_of(st.sampled_from(FRAGMENTS).map(str.encode), st.binary(max_size=3)))
        content = content[:start] + insertion + content[end if draw(st.booleans()) else start :]
    return name, content


def source_of(name):
    """Return the list to read if a file is damaged: the file itself, or the list that it accompanies."""
    lists = {
        "classInd.txt": "trainlist01.txt",
        "something-labels.json": "something-train.json",
        "jester-labels.csv": "jester-train.csv",
        "hmdb/clap_test_split1.txt": "hmdb:train1",
    }
    return lists.get(name, name)


@settings(max_examples=1500)
@given(damage=damaged(), form=st.one_of(st.just("auto"), st.sampled_from(list(FORMATS))))
def test_a_damaged_list_is_read_within_the_root_or_refused_by_line(folder, damage, form):
    name, content = damage
    (folder / name).write_bytes(content)
    try:
        listing = read_list(str(folder / source_of(name)), Data(root=str(folder), format=form))
    except DataError as refusal:
        for line in str(refusal).split("\n"):
            assert re.match(rf"{folder}/?\S*: \S|\.\.\. and \d+ more such lines$|\(read as ", line), str(refusal)
        of_lines = form == "auto" and "hmdb" not in name
        assert not of_lines or re.match(rf"{folder}/\S+:\d+: |{folder}/\S+: contains ", str(refusal))
    else:
        assert listing.paths and listing.label_N.min() >= 0
        assert not listing.class_names or listing.label_N.max() < len(listing.class_names)
        assert all(inside(str(folder), listing.path(row)) for row in range(len(listing.paths)))
        assert listing.digest
    finally:
        (folder / name).write_text({**SAMPLES, **COMPANIONS}[name], encoding="utf-8", newline="")


@pytest.mark.parametrize("name", SAMPLES)
def test_undamaged_samples_are_read(folder, name):
    assert read_list(str(folder / source_of(name)), Data(root=str(folder))).paths
