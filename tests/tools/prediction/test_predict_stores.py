"""Evaluation and prediction of videos in shards and stores, bit for bit as of the same videos in files."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("obstore", reason="needs the extra `store`")

from benchmarks.harness.store_server import serving
from engine import loaders, runtime
from engine.evaluation.evaluate import evaluate
from engine.evaluation.scores import ScoreCollector
from engine.inference.saved_model import load_saved_model
from tests.tools.prediction.test_predict import VIDEOS, folder, run  # noqa: F401 - fixtures
from tools import prepare


@pytest.fixture(scope="module")
def store(folder):  # noqa: F811
    """Yield a store of the videos, of a list of them, and of the shards to which they were packed."""
    (folder / "all.list").write_text("".join(f"videos/{name} 0\n" for name in VIDEOS))
    assert prepare.main(["pack", str(folder / "all.list"), "--out", str(folder / "packed")]) == 0
    with serving(folder) as store:
        yield store


def scores(folder, source, tmp_path):  # noqa: F811
    """Return [N, K]: the scores that `eval.py` gives the videos of a list."""
    saved = load_saved_model(folder / "best.pt", overrides=["runtime.device=cpu"])
    data = replace(saved.info.config.data, train=source, val=source, cache=str(tmp_path))
    config = runtime.resolve(replace(saved.info.config, data=data))
    loader = loaders.open_loader(config, "test", torch.device("cpu"))
    keeper = ScoreCollector()
    result = evaluate(runtime.place(saved.model, config.runtime, loader.device), loader, config, keep=keeper.add)
    found = keeper.gather(loader, result, {})
    loader.close()
    assert result.evaluated == len(VIDEOS)
    return found.logits


@pytest.mark.parametrize("place", ["{folder}/packed/all.list", "{url}/all.list", "{url}/packed/all.list"])
def test_evaluation_from_a_store_equals_that_of_files(folder, store, tmp_path, place):  # noqa: F811
    source = place.format(folder=folder, url=store.url)
    plain = scores(folder, str(folder / "all.list"), tmp_path)
    np.testing.assert_array_equal(scores(folder, source, tmp_path), plain)


def answers(run, tmp_path, *sources):  # noqa: F811
    code, _, err = run(*sources, "--json", tmp_path / "answers.jsonl", "--force")
    assert code == 0, err
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("path", "ms")} for line in lines]


def test_predictions_from_a_store_equal_those_of_files(folder, store, run, tmp_path):  # noqa: F811
    names = [f"videos/{name}" for name in VIDEOS]
    plain = answers(run, tmp_path, *(folder / name for name in names))
    assert answers(run, tmp_path, *(f"{store.url}/{name}" for name in names)) == plain
    assert answers(run, tmp_path, f"{store.url}/all.list") == plain
    members = [
        f"{store.url}/packed/{line.split()[0]}" for line in (folder / "packed/all.list").read_text().splitlines()
    ]
    assert answers(run, tmp_path, *members) == plain
    assert answers(run, tmp_path, *(member.replace(store.url, str(folder)) for member in members)) == plain


def test_videos_of_two_places_are_refused(folder, store, run, capfd):  # noqa: F811
    code, _, err = run(folder / "videos/a.mp4", f"{store.url}/videos/a.mp4")
    assert code == 2 and "use one store at a time" in err
