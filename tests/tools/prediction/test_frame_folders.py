"""tools/predict.py predicts folders of frames like videos."""

import json
import sys

import av
import numpy as np
import pytest
from PIL import Image

from configs.schema import Data
from dali_pipes.scan.build import load_catalog
from dali_pipes.views.windows import whole_windows
from engine.inference import predict
from engine.inference.network import open_network
from tests.support import tiny
from tools.predict import main

PATTERN = "f{:03}.jpg"
FRAMES = {"walk/one": 5, "run/two": 14}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of folders of frames, and a network that was trained on such frames."""
    folder = tmp_path_factory.mktemp("frames")
    random = np.random.default_rng(0)
    for name, count in FRAMES.items():
        (folder / "videos" / name).mkdir(parents=True)
        for number in range(1, count + 1):
            picture = random.integers(0, 256, (3, 6, 3), np.uint8).repeat(17, 0).repeat(17, 1)
            Image.fromarray(picture).save(folder / "videos" / name / PATTERN.format(number))
    config = tiny.config(data={"source": "video", "train": "x", "decoder": "jpeg", "frame_pattern": PATTERN})
    tiny.save_network(config, folder / "best.pt")
    return folder


@pytest.fixture
def run(folder, tmp_path, monkeypatch):
    """Return a function that calls predict.py; it returns the exit code and the records."""

    def run(*arguments):
        words = [*arguments, "--weights", folder / "best.pt", "--json", tmp_path / "out.jsonl", "runtime.device=cpu"]
        monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, words)])
        return main(), [json.loads(line) for line in (tmp_path / "out.jsonl").open()]

    return run


def listed(folder):
    """Return the probabilities of each folder of a list, as evaluation reads it."""
    (folder / "all.list").write_text("".join(f"videos/{name} {count} 0\n" for name, count in FRAMES.items()))
    network = open_network(folder / "best.pt", overrides=["runtime.device=cpu"])
    catalog = load_catalog(str(folder / "all.list"), Data(frame_pattern=PATTERN), workers=1)
    found = predict.predict(network, catalog, whole_windows(catalog), {})
    return {catalog.path(one.window.row): [guess.probability for guess in one.top(3)] for (one,) in found}


def test_folders_of_frames_are_predicted_as_rows_of_lists_are(folder, run):
    expected = listed(folder)
    for source in ([folder / "videos"], [f"{folder}/videos/*/*"], [folder / "all.list"], list(expected)):
        code, records = run(*source)
        assert code == 0
        found = {record["path"]: [guess["probability"] for guess in record["top"]] for record in records}
        assert found.keys() == expected.keys()
        for path, probabilities in found.items():
            np.testing.assert_allclose(probabilities, expected[path], atol=1e-5)
    _, ((first, _)) = run(folder / "videos", "data.decoder=jpeg")
    assert first["video"] == {"width": 102, "height": 51, "frames": 14, "fps": 0.0, "codec": "mjpeg"}


def test_25_frames_are_a_second_of_a_timeline_and_of_the_copies(folder, run, tmp_path):
    two = folder / "videos" / "run" / "two"
    _, (record,) = run(two, "--sliding", 0.2, "--stride", 0.2)
    assert [(window["start"], window["end"]) for window in record["windows"]] == [(0, 0.2), (0.2, 0.4), (0.36, 0.56)]
    code, (record,) = run(two, "--save-video", tmp_path / "copies", "--explain", tmp_path / "why", "--top-k", "1")
    assert code == 0
    with av.open(record["labelled"]) as copy:
        assert [round(25 * frame.time) for frame in copy.decode(video=0)] == list(range(14))
    assert (tmp_path / "why" / "two.explained.mp4").exists()


def test_a_folder_without_the_pictures_of_the_network_is_named(folder, run, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "img_00001.jpg").touch()
    code, (record,) = run(tmp_path / "other")
    assert code == 2
    assert record["error"] == f"contains no f001.jpg; is data.frame_pattern={PATTERN} right?"
