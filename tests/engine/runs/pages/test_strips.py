"""Film strips: evenly spread frames of a video, of a part of one, or of a folder of pictures."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from engine.runs.pages.strips import FRAMES, data_uri, film_strip
from tests.support.videos import HEIGHT, WIDTH, number_in, picture, write_video


def numbers(strip):
    """Return the numbers on the frames of a strip."""
    width = round(WIDTH * strip.height / HEIGHT)
    frames = [strip.crop((left, 0, left + width, strip.height)) for left in range(0, strip.width, width + 2)]
    return [number_in(np.asarray(frame.resize((WIDTH, HEIGHT)))) for frame in frames]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return str(write_video(tmp_path_factory.mktemp("strips") / "a.mp4", "libx264", 60, gop=20, b_frames=2))


def test_the_frames_of_a_video_are_spread_evenly(video):
    assert numbers(film_strip(video)) == [5, 15, 25, 35, 45, 55]


@pytest.mark.parametrize(
    ("start", "end", "frames"), [(1.0, None, [32, 37, 42, 47, 52, 57]), (0.2, 0.4, [6, 7, 8, 9, 10, 11])]
)
def test_a_part_shows_frames_from_inside_it(video, start, end, frames):
    assert numbers(film_strip(video, start, end)) == frames


def test_a_part_that_ends_after_the_video_ends_with_it(video):
    assert numbers(film_strip(video, 1.0, 100.0)) == numbers(film_strip(video, 1.0))


def test_a_folder_of_pictures_has_a_strip(tmp_path):
    for number in range(2 * FRAMES):
        Image.fromarray(picture(number)).save(tmp_path / f"{number:03}.png")
    assert numbers(film_strip(str(tmp_path))) == [1, 3, 5, 7, 9, 11]


def test_an_unreadable_video_has_no_strip(tmp_path):
    (tmp_path / "bad.mp4").write_text("no video")
    assert film_strip(str(tmp_path / "bad.mp4")) is None


def test_a_page_carries_a_strip_as_a_jpeg(video):
    kind, _, content = data_uri(film_strip(video)).partition(",")
    assert kind == "data:image/jpeg;base64"
    assert numbers(Image.open(io.BytesIO(base64.b64decode(content)))) == [5, 15, 25, 35, 45, 55]
