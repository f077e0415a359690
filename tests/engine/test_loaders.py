"""What is said of the lists when loaders are opened."""

import pytest
import torch

from engine import loaders
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
