"""The weights file of a run or a path."""

import pytest

from configs import ConfigError
from engine.runs.find import network_file


def test_the_path_of_a_weights_file_is_returned_if_it_exists(tmp_path):
    (tmp_path / "x.pt").touch()
    assert network_file(tmp_path / "x.pt") == tmp_path / "x.pt"
    with pytest.raises(ConfigError, match="there is neither a run nor a file of weights with this name"):
        network_file(tmp_path / "gone.pt")


def test_the_name_of_a_run_in_the_usual_folder_is_answered_with_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/first").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"with this name; did you mean runs/first\?"):
        network_file("first")


def test_a_run_is_its_best_weights_else_its_last_else_its_newest_checkpoint(tmp_path, caplog):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ConfigError, match="contains no network; name a file of weights, or a run's folder"):
        network_file(tmp_path)
    (tmp_path / "status.json").touch()
    with pytest.raises(ConfigError, match="this run has saved no network yet"):
        network_file(tmp_path)
    for name in ("checkpoints/step-00000004.pt", "checkpoints/step-00000012.pt"):
        (tmp_path / name).touch()
    assert network_file(tmp_path).name == "step-00000012.pt"
    (tmp_path / "last.pt").touch()
    assert network_file(tmp_path).name == "last.pt"
    assert "has no best.pt, which needs data.val in training; using" in caplog.text
    caplog.clear()
    (tmp_path / "best.pt").touch()
    assert network_file(tmp_path).name == "best.pt" and not caplog.text
