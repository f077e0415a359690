"""Messages and errors about the lists when loaders are opened."""

import pytest
import torch

from dali_pipes import DataError
from engine import loaders
from engine.train.training import build
from tests.support import tiny
from tests.support.videos import write_video


@pytest.mark.parametrize(
    ("labels", "classes", "warning"),
    [
        ((1, 2, 3), 4, "1 of 4 classes have no training video: '0'; do the labels count from 1?"),
        ((0, 1, 4), 6, "3 of 6 classes have no training video: '2', '3', '5'\n"),
        ((0, 1, 2), 3, ""),
    ],
)
def test_classes_without_a_training_video_are_named(tmp_path, caplog, labels, classes, warning):
    for label in labels:
        write_video(tmp_path / f"{label}.mp4", "mpeg4", 4)
    (tmp_path / "train.list").write_text("".join(f"{label}.mp4 {label}\n" for label in labels))
    data = {"source": "video", "train": f"{tmp_path}/train.list", "val": f"{tmp_path}/train.list"}
    config = tiny.config(data=data, model={"num_classes": classes}, train={"batch": 3})
    for split in ("train", "val"):
        caplog.clear()
        loaders.open_loader(config, split, torch.device("cpu")).close()
        assert (warning if split == "train" else "") in f"{caplog.text}\n"
        assert ("no training video" in caplog.text) == (split == "train" and bool(warning))


@pytest.mark.parametrize(
    ("listed", "names", "warned"),
    [("numbers", "", True), ("numbers", "names.txt", False), ("names", "", False), ("no network's", "", False)],
)
def test_numbers_used_as_labels_of_a_network_with_names_are_reported(tmp_path, caplog, listed, names, warned):
    write_video(tmp_path / "a.mp4", "mpeg4", 4)
    (tmp_path / "names.txt").write_text("up\ndown\nleft\nright\n")
    (tmp_path / "val.list").write_text("path,label\na.mp4,down\n" if listed == "names" else "a.mp4 1\n")
    data = {"source": "video", "train": "no", "val": f"{tmp_path}/val.list"}
    config = tiny.config(data=data | {"class_names": names and f"{tmp_path}/{names}"}, model={"num_classes": 4})
    network = () if listed == "no network's" else ("up", "down", "left", "right")
    loaders.open_loader(config, "val", torch.device("cpu"), network).close()
    seen = "val.list numbers its classes without names: its labels are taken as those of the network, 0 for 'up', 1 for"
    assert (seen in caplog.text) == warned


def test_a_missing_validation_list_is_found_before_the_training_list_is_scanned(tmp_path):
    write_video(tmp_path / "a.mp4", "mpeg4", 4)
    (tmp_path / "train.list").write_text("a.mp4 0\n")
    data = {"source": "video", "train": f"{tmp_path}/train.list", "val": f"{tmp_path}/val.list"}
    with pytest.raises(DataError, match=r"val\.list: no such list or folder"):
        build(tiny.config(data=data))
    assert not (tmp_path / "train.list.scan").exists()
