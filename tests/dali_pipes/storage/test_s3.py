"""A set in an S3 bucket (moto): scanned by LIST, cut like files, as single objects and in shards; packed and read."""

import json
import random
import socket
import subprocess
import sys
import threading
import urllib.request
from unittest import mock

import numpy as np
import pytest

pytest.importorskip("obstore", reason="needs the extra `store`")
pytest.importorskip("moto.server", reason="needs the extra `test-s3`, which is large")

from configs.schema import Data
from dali_pipes.cut.cutter import cut_all
from dali_pipes.errors import DataError
from dali_pipes.scan.build import load_catalog
from dali_pipes.storage import objects
from dali_pipes.storage.faults import StorageFault
from dali_pipes.storage.opening import read_all
from dali_pipes.storage.uploads import Upload
from dali_pipes.video import mp4
from tests.support.videos import write_video
from tools import prepare

pytestmark = pytest.mark.slow

FRAMES = np.array([3, 40, 17])
SERVER = "import sys; from moto.server import main; main(['-H', '127.0.0.1', '-p', sys.argv[1]])"


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """Yield an empty bucket `videos` of a server on this machine, with the environment that leads to it."""
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
    """Return a folder with a list of videos, and the folder it was packed to; both are in the bucket, too."""
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


@pytest.fixture
def keys_of_a_user(uploaded, bucket):
    """Yield the keys of the only user whose signatures the server accepts."""
    import boto3

    endpoint = bucket.removesuffix("/videos")
    iam = boto3.client("iam", "us-east-1", endpoint_url=endpoint)
    iam.create_user(UserName="reader")
    rights = [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]
    policy = json.dumps({"Version": "2012-10-17", "Statement": rights})
    iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=policy)
    keys = iam.create_access_key(UserName="reader")["AccessKey"]

    def checked_after(requests):
        form = {"Content-Type": "text/plain"}
        urllib.request.urlopen(
            urllib.request.Request(f"{endpoint}/moto-api/reset-auth", b"%d" % requests, form)
        ).close()

    checked_after(0)
    yield keys["AccessKeyId"], keys["SecretAccessKey"]
    checked_after(1 << 60)
    objects._opened.cache_clear()


def test_requests_are_signed_and_a_wrong_key_stops_at_once(uploaded, keys_of_a_user, monkeypatch, tmp_path):
    key, secret = keys_of_a_user
    source, there = str(uploaded / "packed" / "all.list"), Data(root="s3://videos/packed", cache=str(tmp_path))
    here = load_catalog(source, Data(root=str(uploaded / "packed")))
    wanted = cut_all([here.video(row) for row in range(2)], [FRAMES] * 2)
    for name, value in {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}.items():
        monkeypatch.setenv(name, value)
    objects._opened.cache_clear()
    catalog = load_catalog(source, there)
    videos = [catalog.video(row) for row in range(2)]
    assert [cut.data for cut in cut_all(videos, [FRAMES] * 2)] == [cut.data for cut in wanted]
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"{secret}x")
    objects._opened.cache_clear()
    with pytest.raises(StorageFault, match="access is denied") as error:
        cut_all(videos, [FRAMES] * 2)
    assert secret not in str(error.value)


def test_a_wrong_bucket_is_named_and_no_secret_is(uploaded, caplog):
    with pytest.raises(StorageFault, match="there is no such bucket") as error:
        load_catalog(str(uploaded / "set" / "all.list"), Data(root="s3://vidoes/set"))
    assert "very secret" not in str(error.value) + caplog.text


def test_a_set_is_packed_into_a_bucket_in_parts_that_appear_as_a_whole(uploaded, tmp_path, capsys):
    """A junk box after the pictures of a video makes its shard large enough for several parts."""
    content = (uploaded / "set" / "one.mp4").read_bytes()
    (tmp_path / "large.mp4").write_bytes(content + mp4.box(b"free", random.Random(0).randbytes(20_000_000)))
    (tmp_path / "large.list").write_text("large.mp4 0\n")
    words = ["pack", str(tmp_path / "large.list"), "--out"]
    with mock.patch.object(Upload, "tell", side_effect=[0, DataError("large.mp4", "changed")]):
        assert prepare.run(words[0], [*words[1:], "s3://videos/large"]) == 2
    assert [url for url, *_ in objects.list_objects("s3://videos/large")] == ["s3://videos/large/done.jsonl"]
    assert prepare.main([*words, "s3://videos/large"]) == 0
    assert prepare.main([*words, str(tmp_path / "here")]) == 0
    shard = (tmp_path / "here" / "large-000000.tar").read_bytes()
    assert read_all("s3://videos/large/large-000000.tar") == shard
    there = load_catalog("s3://videos/large/large.list", Data(cache=str(tmp_path / "cache")))
    here = load_catalog(str(tmp_path / "here" / "large.list"), Data())
    cuts = [cut_all([catalog.video(0)], [FRAMES]) for catalog in (there, here)]
    assert cuts[0][0].data == cuts[1][0].data
    capsys.readouterr()
    assert prepare.run(words[0], [*words[1:], "s3://videos/large"]) == 0
    assert "1 shards, 0 of them new" in capsys.readouterr().err
