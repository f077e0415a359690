"""Exported files predict what their weights predict: whole clips, pixels and streams."""

import json
import sys

import pytest

from configs import ConfigError
from engine.inference.network import open_network
from tests.support import tiny
from tests.support.videos import write_video
from tools import export
from tools.exporting import export as export_file
from tools.predict import main


def weights_file(folder):
    """Return weights of a causal network, which accepts clips and streams."""
    config = tiny.config(model={"causal": True}, data={"source": "video", "train": "unknown"})
    tiny.save_network(config, folder / "best.pt", class_names=("up", "down", "left"))
    return folder / "best.pt"


def answer(monkeypatch, folder, weights, *mode):
    """Return the JSON record that predict.py writes about a video."""
    arguments = folder / "a.mp4", "--weights", weights, "--json", folder / "o.jsonl", *mode
    monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, arguments)])
    assert main() == 0
    return json.loads((folder / "o.jsonl").read_text())


def test_an_exported_program_scores_videos_as_its_weights_do(tmp_path, monkeypatch):
    weights, file = weights_file(tmp_path), tmp_path / "best.pt2"
    write_video(tmp_path / "a.mp4", "libx264", 20)
    export_file.export(export.arguments(["--weights", str(weights), "--format", "export", "--out", str(file)]))
    expected, found = (answer(monkeypatch, tmp_path, path) for path in (weights, file))
    assert [guess["name"] for guess in found["top"]] == [guess["name"] for guess in expected["top"]]
    assert found["top"][0]["probability"] == pytest.approx(expected["top"][0]["probability"], abs=1e-4)
    assert found["clips"] == expected["clips"]
    assert found["weights"] != expected["weights"]
    with pytest.raises(ConfigError, match=r"takes clips of 16 pixels a side, not 32"):
        open_network(str(file), overrides=["eval.size=32", "eval.short_side=32"])
    with pytest.raises(ConfigError, match="was exported for clips"):
        open_network(str(file)).open_stream()
    with pytest.raises(ConfigError, match="omit --config"):
        open_network(str(file), "demo")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "mode"), [(["--uint8"], []), (["--online"], ["--online"]), (["--online", "--uint8"], ["--online"])]
)
def test_onnx_files_predict_what_their_weights_predict(tmp_path, monkeypatch, words, mode):
    weights, file = weights_file(tmp_path), tmp_path / "best.onnx"
    write_video(tmp_path / "a.mp4", "libx264", 20)
    export_file.export(export.arguments(["--weights", str(weights), "--format", "onnx", "--out", str(file), *words]))
    expected, found = (answer(monkeypatch, tmp_path, path, *mode) for path in (weights, file))
    kind = "segments" if mode else "top"
    assert [guess["label"] for guess in found[kind]] == [guess["label"] for guess in expected[kind]]
    for one, other in zip(found[kind], expected[kind], strict=True):
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-4)
