"""Videos that a training and a held-out list share: the same path, a link, or on request a copy."""

import shutil

from configs.schema import Data
from dali_pipes.scan.build import load_catalog
from dali_pipes.scan.overlap import shared_videos
from tests.support.videos import write_video


def catalog(folder, name, *paths):
    (folder / name).write_text("".join(f"{path} 0\n" for path in paths))
    return load_catalog(str(folder / name), Data(train=name), workers=1)


def test_shared_videos_are_found_by_path_by_link_and_on_request_by_content(tmp_path):
    for number, frames in enumerate((4, 6, 8)):
        write_video(tmp_path / f"{number}.mp4", "libx264", frames)
    shutil.copyfile(tmp_path / "2.mp4", tmp_path / "copy.mp4")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "1.mp4")
    write_video(tmp_path / "other.mp4", "libx264", 10)
    training = catalog(tmp_path, "train.list", "0.mp4", "1.mp4", "2.mp4")
    held_out = catalog(tmp_path, "val.list", "other.mp4", "0.mp4", "link.mp4", "copy.mp4")
    assert shared_videos(training, held_out) == [1, 2]
    assert shared_videos(training, held_out, by_content=True) == [1, 2, 3]


def test_a_link_to_a_video_with_another_label_is_reported(tmp_path, caplog):
    caplog.set_level("INFO")
    write_video(tmp_path / "a.mp4", "mpeg4", 4)
    write_video(tmp_path / "b.mp4", "mpeg4", 6)
    (tmp_path / "link.mp4").symlink_to("a.mp4")
    (tmp_path / "hard.mp4").hardlink_to(tmp_path / "a.mp4")
    (tmp_path / "same.mp4").symlink_to("b.mp4")
    text = "a.mp4 0\nb.mp4 1\nlink.mp4 1\nhard.mp4 2\nsame.mp4 1\n"
    (tmp_path / "train.list").write_text(text)
    load_catalog(f"{tmp_path}/train.list", Data(), workers=1)
    assert f"2 have a second name with another label, such as {tmp_path}/link.mp4" in caplog.text
