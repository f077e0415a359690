"""Frame-by-frame prediction of a video: each frame once, in order, with the scores of the offline network."""

import json
import sys

import numpy as np
import pytest
import torch

import configs
from configs import ConfigError
from configs.progress import format_rate
from dali_pipes import DataError
from dali_pipes.loader import VideoLoader
from dali_pipes.scan import build
from dali_pipes.views import windows
from dali_pipes.views.windows import FramePlan
from engine.inference import stream
from engine.inference.network import open_network
from models import build_model
from tests.support import tiny
from tests.support.videos import write_video
from tools.predict import main

FRAMES = 21


@pytest.fixture(autouse=True)
def chunks_of_eight(monkeypatch):
    monkeypatch.setattr(windows, "CHUNK", 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a video, weights of a causal network, and weights of one that is not causal."""
    folder = tmp_path_factory.mktemp("online")
    write_video(folder / "a.mp4", "libx264", FRAMES, gop=6)
    for name, causal in (("causal", True), ("whole", False)):
        config = tiny.config(
            model={"causal": causal},
            data={"source": "video", "train": "unknown"},
            runtime={"device": "cpu", "precision": "fp32"},
        )
        torch.manual_seed(1)
        model = build_model(config.model)
        torch.nn.init.normal_(model.fc.weight)
        torch.save({"model": model.state_dict(), "config": configs.flat(config)}, folder / f"{name}.pt")
    return folder


@pytest.fixture
def catalog(folder, tmp_path):
    return build.scan_videos([str(folder / "a.mp4")], tmp_path, "demux")


def offline(network, catalog, every):
    """Return the [T, K] logits of each frame by the network over the whole clip."""
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(windows, "CHUNK", 1000)
        plan = FramePlan.of(network.info.config, catalog, 0, every)
        loader = VideoLoader(plan, network.device)
        (batch,) = loader.epoch(0)
        clip_1TCHW = batch.clips_BTCHW[:, : len(plan.numbers)]
        logits_TK = network.score.frame_logits(clip_1TCHW)[0].numpy()
        loader.close()
    return logits_TK


@pytest.mark.parametrize("every", [1, 4])
def test_stream_scores_equal_offline_frame_logits(folder, catalog, every):
    network = open_network(folder / "causal.pt", overrides=["runtime.device=cpu"])
    moments = stream.predict_stream(network, network.open_stream(), catalog, 0, every, smooth=1)
    logits_TK = offline(network, catalog, every)
    assert [moment.frame for moment in moments] == list(range(0, FRAMES, every))
    assert np.ptp(logits_TK, 0).max() > 0.1
    np.testing.assert_allclose(np.stack([moment.score_K for moment in moments]), logits_TK, atol=1e-5)


def test_the_newest_frames_are_averaged(folder, catalog):
    network = open_network(folder / "causal.pt", overrides=["runtime.device=cpu"])
    moments = stream.predict_stream(network, network.open_stream(), catalog, 0, 1, smooth=5)
    logits_TK = offline(network, catalog, 1)
    for seen, moment in enumerate(moments, start=1):
        np.testing.assert_allclose(moment.score_K, logits_TK[max(0, seen - 5) : seen].mean(0), atol=1e-5)


def test_scores_that_are_no_numbers_are_an_error_with_the_frame(folder, catalog):
    network = open_network(folder / "causal.pt", overrides=["runtime.device=cpu"])
    step = network.open_stream()

    def breaking(frame_BCHW, *caches):
        logits_BK, *caches = step(frame_BCHW, *caches)
        return logits_BK * float("nan"), *caches

    with pytest.raises(DataError, match=r"a\.mp4: frame 0: the scores of the network are not finite"):
        stream.predict_stream(network, breaking, catalog, 0, 1, smooth=5)


def test_a_network_for_whole_clips_is_refused(folder):
    with pytest.raises(ConfigError, match=r"model\.causal"):
        open_network(folder / "whole.pt").open_stream()


def test_a_timeline_reports_its_speed(folder, tmp_path, monkeypatch, capfd):
    arguments = (
        folder / "a.mp4",
        "--online",
        "--every",
        2,
        "--json",
        tmp_path / "o.jsonl",
        "--weights",
        folder / "causal.pt",
    )
    monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, arguments)])
    assert main() == 0
    (answer,) = map(json.loads, (tmp_path / "o.jsonl").open())
    assert answer["frames"] == 11
    assert answer["views"] == {"crops": "center", "every": 2, "smooth": 12, "short_side": 16, "size": 16}
    assert 0 < answer["latency_ms"]["p50"] <= answer["latency_ms"]["p99"]
    assert answer["segments"][0]["start"] == 0
    assert answer["segments"][-1]["end"] == pytest.approx(FRAMES / 30, abs=1e-3)
    assert (
        f"{format_rate(answer['frames_per_s'])} frames/s, latency p50 {answer['latency_ms']['p50']:.2f} ms"
        in capfd.readouterr().out
    )
