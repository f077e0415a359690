"""Objects of a store as sources: the requests of a scan."""

import numpy as np
import pytest

pytest.importorskip("obstore", reason="needs the extra `store`")

from benchmarks.harness.store_server import serving
from benchmarks.storage.store import repeated
from dali_pipes.scan.probe import probe, scan_file
from tests.support.videos import remuxed, write_video


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a video whose index comes last, and one whose long index comes first."""
    folder = tmp_path_factory.mktemp("remote")
    clip = write_video(folder / "last.mp4", "libx264", 100, b_frames=2, size=(240, 320), options={"crf": "4"})
    remuxed(repeated(clip, folder / "long.mp4"), folder / "web.mp4", movflags="faststart")
    return folder


@pytest.mark.parametrize(("name", "requests", "most_bytes"), [("last.mp4", 3, 200_000), ("web.mp4", 3, 400_000)])
def test_an_index_takes_three_requests(folder, name, requests, most_bytes):
    with serving(folder) as store:
        found = scan_file(f"{store.url}/{name}", "index")
        assert (found.check, len(store.requests)) == ("index", requests)
        assert store.sent <= most_bytes
    here = probe(str(folder / name))
    for field in ("offset", "size", "order"):
        np.testing.assert_array_equal(found.video.packets[field], here.packets[field])
