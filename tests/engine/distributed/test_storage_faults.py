"""A store that fails for one rank: all ranks stop at the same step, which has a checkpoint, and resume exactly."""

import json

import pytest

pytest.importorskip("obstore", reason="needs the extra `store`")

from benchmarks.harness.store_server import serving
from configs.schema import Data
from dali_pipes.scan.build import load_catalog
from tests.support import programs
from tests.support.ranks import two_ranks
from tests.support.videos import write_video

VIDEOS = 12
UNAVAILABLE = 503


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    (folder / "videos").mkdir()
    for number in range(VIDEOS):
        write_video(folder / "videos" / f"{number}.mp4", "mpeg4", 24, gop=4)
    (folder / "all.list").write_text("".join(f"{number}.mp4 {number % 3}\n" for number in range(VIDEOS)))
    return folder


def ended(folder, store, run):
    """Run two ranks under this run name, started or resumed; return the results of both."""
    place = {"list": str(folder / "all.list"), "root": store.url, "run": run}
    (folder / "place.json").write_text(json.dumps(place))
    process = programs.run(two_ranks.__file__, folder, "from_a_store", ranks=2)
    assert process.returncode == 0, process.stderr
    return json.loads((folder / "found.json").read_text())["from_a_store"]


@pytest.fixture(scope="module")
def store(folder):
    with serving(folder / "videos") as store:
        load_catalog(str(folder / "all.list"), Data(root=store.url), workers=1)
        yield store


@pytest.fixture(scope="module")
def whole(folder, store):
    """Return the results of an uninterrupted run."""
    whole = ended(folder, store, "whole")
    assert (whole["reasons"], whole["step"]) == ([None, None], VIDEOS // 4)
    return whole


@pytest.mark.parametrize("video", [1, 7])
def test_a_store_that_fails_for_one_rank_stops_all_at_the_same_step_and_they_resume_exactly(
    folder, store, whole, video
):
    store.reset()
    store.fault = lambda number: UNAVAILABLE * (store.requests[number].path == f"{video}.mp4") or None
    stopped = ended(folder, store, f"stopped-{video}")
    assert all("the store does not answer" in reason for reason in stopped["reasons"])
    assert stopped["step"] < VIDEOS // 4
    store.reset()
    assert ended(folder, store, f"stopped-{video}") == whole
