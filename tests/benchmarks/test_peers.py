"""The comparison with other libraries, run on one small video."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import configs
from benchmarks.alternatives import step
from benchmarks.alternatives.decoders import DECODERS
from benchmarks.peers import draw_clips
from engine import runtime
from models import build_model
from tests.support import tiny
from tests.support.paths import ROOT
from tests.support.videos import decode_whole, number_in, write_video


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("peers") / "a.mp4", "libx264", 48, gop=16, b_frames=2)


@pytest.mark.parametrize("name", DECODERS)
def test_every_way_to_decode_gives_the_frames_of_a_whole_decode(video, name):
    try:
        decode = DECODERS[name]()
    except (ImportError, RuntimeError, OSError):
        pytest.skip("not installed, which is fine")
    truth = np.stack(decode_whole(video))
    for clip in draw_clips(str(video), 4):
        found = np.asarray(torch.as_tensor(decode(clip)).cpu())
        assert [number_in(frame) for frame in found] == clip.frames_T.tolist()
        if "CUDA" not in name:  # a GPU rounds otherwise
            np.testing.assert_array_equal(found, truth[clip.frames_T])


@pytest.mark.slow
def test_all_contenders_are_recorded_with_difference_and_speed_ratio(video, tmp_path):
    how = ["--clips", "2", "--rounds", "2", "--threads", "2", "--out", str(tmp_path)]
    subprocess.run(
        [sys.executable, "benchmarks/peers.py", "decode", str(video), *how], cwd=ROOT, check=True, capture_output=True
    )
    records = [json.loads(line) for line in (tmp_path / "peers.jsonl").read_text().splitlines()]
    assert {record["case"].split("/")[-1] for record in records} == set(DECODERS)
    measured = {record["case"]: record for record in records if "skipped" not in record}
    for threads in ("1 thread", "2 threads"):
        ours, seeking = (measured[f"decode/a, {threads}/{name}"] for name in ("ours (cut, pyav)", "PyAV with seeks"))
        assert seeking["largest_difference"] == 0
        assert seeking["ours_over_it"] == pytest.approx(ours["clips_per_s"] / seeking["clips_per_s"])


@pytest.mark.slow
def test_dalis_decoders_are_compared_by_their_pixels_before_they_are_timed(tmp_path):
    """The reader is given a whole file with the content of the cut, because it takes evenly spaced frames."""
    video = write_video(tmp_path / "a.mp4", "libvpx-vp9", 24, gop=8)
    how = ["--clips", "2", "--rounds", "1", "--threads", "1", "--out", str(tmp_path)]
    subprocess.run(
        [sys.executable, "benchmarks/peers.py", "dali", str(video), *how], cwd=ROOT, check=True, capture_output=True
    )
    records = map(json.loads, (tmp_path / "peers.jsonl").read_text().splitlines())
    found = {record["case"]: record["largest_difference"] for record in records}
    ours = "ours (cut, DALI)"
    assert found == {f"dali/a/{ours}": 0, "dali/a/whole file, DALI": 0, f"dali even/a/{ours}": 0,
                     "dali even/a/DALI's reader": 0}  # fmt: skip


@pytest.mark.parametrize("build", step.NETWORKS.values(), ids=step.NETWORKS)
def test_other_implementations_of_the_network_compute_the_same_from_our_weights(build):
    config = tiny.config(model={"backbone": "resnet50", "width": 64, "frames": 4}, train={"batch": 1})
    ours = build_model(config.model).eval()
    torch.nn.init.normal_(ours.fc.weight)
    try:
        theirs = build(ours).eval()
    except ImportError:
        pytest.skip("not installed, which is fine")
    clips_BTCHW = torch.randn(2, 4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(theirs(clips_BTCHW), ours(clips_BTCHW), rtol=1e-4, atol=1e-4)


def test_networks_are_compared_in_an_fp32_that_a_gpu_does_not_shorten():
    ours = step.Ours(runtime.resolve(step.recipe(1, 32)))
    peer, allowed = step.Peer(step.MitTsm, ours, tuned=True), []
    peer.network.register_forward_pre_hook(lambda *_: allowed.append(torch.backends.cudnn.allow_tf32))
    assert peer.distance(ours) < step.CLOSE
    assert allowed == [False] and torch.backends.cudnn.allow_tf32


@pytest.mark.gpu
@pytest.mark.parametrize("best", [True, False])
def test_on_a_gpu_too_they_compute_the_same_and_learn(best):
    config = configs.override(step.recipe(2, 64), ["runtime.compile=off"])  # compiling would take a minute
    ours = step.Ours(runtime.resolve(config))
    peer = step.Peer(step.MitTsm, ours, best)
    assert peer.distance(ours) < step.CLOSE
    for take_step in (ours.step, peer.step) * 3:
        take_step()
    for network in (ours.training.model, peer.network):
        assert all(tensor.isfinite().all() for tensor in network.state_dict().values())
