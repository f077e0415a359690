"""A set in an S3 bucket, served by moto: scanned by LIST, cut as files are, alone and in shards; packed and read."""

import socket
import subprocess
import sys
import threading
import urllib.request

import numpy as np
import pytest

pytest.importorskip("obstore", reason="needs the extra `store`")
pytest.importorskip("moto.server", reason="needs moto[server,s3], which is too large for the extra `test`")

from configs.schema import Data
from dali_pipes.cut.cutter import cut_all
from dali_pipes.scan.build import load_catalog
from dali_pipes.storage import objects
from dali_pipes.storage.faults import StorageFault
from tests.support.videos import write_video
from tools import prepare

pytestmark = pytest.mark.slow

FRAMES = np.array([3, 40, 17])
SERVER = "import sys; from moto.server import main; main(['-H', '127.0.0.1', '-p', sys.argv[1]])"


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """An empty bucket `videos` of a server on this machine, and the environment that leads to it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(port)], stderr=subprocess.DEVNULL)
    endpoint = f"http://127.0.0.1:{port}"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "very secret",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT": endpoint,
            "AWS_ALLOW_HTTP": "true",
        }.items():
            patch.setenv(name, value)
        objects._opened.cache_clear()
        wait_for(endpoint)
        put(f"{endpoint}/videos", b"")
        yield f"{endpoint}/videos"
    objects._opened.cache_clear()
    process.terminate()
    process.wait()


def wait_for(endpoint):
    for _ in range(600):
        try:
            urllib.request.urlopen(endpoint).close()
            return
        except OSError:
            threading.Event().wait(0.05)
    raise AssertionError("the server does not come up")


def put(url, content):
    request = urllib.request.Request(url, content, {"Content-Type": "application/octet-stream"}, method="PUT")
    urllib.request.urlopen(request).close()


def upload(folder, bucket, prefix):
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix in (".mp4", ".tar", ".idx"):
            put(f"{bucket}/{prefix}/{path.relative_to(folder)}", path.read_bytes())


@pytest.fixture(scope="module")
def uploaded(bucket, tmp_path_factory):
    """A folder with a list of videos, and the folder that it was packed to; both are in the bucket, too."""
    folder = tmp_path_factory.mktemp("s3")
    for name, codec in {"one.mp4": "libx264", "sub/two.mp4": "mpeg4"}.items():
        (folder / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(folder / "set" / name, codec)
    (folder / "set" / "all.list").write_text("one.mp4 0\nsub/two.mp4 1\n")
    assert prepare.main(["pack", str(folder / "set" / "all.list"), "--out", str(folder / "packed")]) == 0
    for name in ("set", "packed"):
        upload(folder / name, bucket, name)
    return folder


@pytest.mark.parametrize("name", ["set", "packed"])
def test_cuts_of_a_bucket_are_those_of_files(uploaded, name):
    source = str(uploaded / name / "all.list")
    here = load_catalog(source, Data(root=str(uploaded / name)))
    there = load_catalog(source, Data(root=f"s3://videos/{name}"))
    made, wanted = (cut_all([catalog.video(row) for row in range(2)], [FRAMES] * 2) for catalog in (there, here))
    assert [cut.data for cut in made] == [cut.data for cut in wanted]


def test_a_packed_set_needs_no_scan_in_a_bucket(uploaded, caplog):
    source = str(uploaded / "packed" / "all.list")
    load_catalog(source, Data(root=str(uploaded / "packed")))
    caplog.clear()
    load_catalog(source, Data(root="s3://videos/packed"))
    assert "none new or changed" in caplog.text


def test_a_wrong_bucket_is_named_and_no_secret_is(uploaded, caplog):
    with pytest.raises(StorageFault, match="there is no such bucket") as error:
        load_catalog(str(uploaded / "set" / "all.list"), Data(root="s3://vidoes/set"))
    assert "very secret" not in str(error.value) + caplog.text
