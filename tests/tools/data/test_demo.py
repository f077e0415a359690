"""The generated set: its lists, bytes and exact frames, and files that are in its way."""

import hashlib
from fractions import Fraction

import numpy as np
import pytest

from configs import ConfigError
from engine.output_record import RECORD
from tools.data import demo
from tools.data.demo import CLASSES, write_demo_set


def digests(folder):
    """Return the hash of each file below a folder, by its relative path."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_two_runs_write_the_same_bytes_with_any_number_of_processes(tmp_path):
    for name, workers in (("one", 1), ("two", 2)):
        assert write_demo_set(tmp_path / name, {"train": 2, "val": 1}, workers=workers) == 12
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert len(digests(tmp_path / "one")) == 12 + 3  # two lists and the class names


@pytest.mark.parametrize("axis", [0, 1])
def test_a_pixel_is_the_exact_mean_of_what_it_covers_rounded_half_to_even(axis):
    """A twentieth of the means are halfway between two grey levels, where a sum of floats may round to either side."""
    scene = demo.draw_scene(np.random.default_rng(0), demo.FINE * (demo.SIDE + 2 * demo.FRAMES))
    frames_THWC, speed = demo.pan(scene, 1.3, axis), 1.3
    middle = (len(scene) - demo.FINE * demo.SIDE) // 2
    for frame in (0, 17):
        total_HWC = np.zeros((demo.SIDE, demo.SIDE, 3), int)
        for shutter in (-0.5, -0.25, 0, 0.25, 0.5):
            top, left = (int(demo.FINE * speed * (frame + 0.5 + shutter)), middle)[:: 1 if axis == 0 else -1]
            for down, right in np.ndindex(demo.FINE, demo.FINE):
                rows, columns = (slice(at, at + 2 * demo.SIDE, demo.FINE) for at in (top + down, left + right))
                total_HWC += scene[rows, columns]
        exact = [round(Fraction(total, 5 * demo.FINE**2)) for total in total_HWC.ravel().tolist()]
        assert frames_THWC[frame].ravel().tolist() == exact


def test_a_set_of_a_version_without_records_is_kept_and_completed(tmp_path):
    write_demo_set(tmp_path, {"train": 1})
    (tmp_path / RECORD).unlink()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    lost = tmp_path / CLASSES[0] / "scene0000.mp4"
    lost.unlink()
    assert write_demo_set(tmp_path, {"train": 1}) == len(CLASSES)
    assert {path: path.read_bytes() for path in before} == before


def test_an_existing_list_is_refused_before_any_video_is_made(tmp_path):
    (tmp_path / "train.list").write_text("mine")
    with pytest.raises(ConfigError, match=r"train.list: is in the way: .* kept no record; move it"):
        write_demo_set(tmp_path, {"train": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["train.list"]
