"""Downloads: interrupted, continued, verified and refused, from a server on this machine."""

import fcntl
import hashlib
import logging
import os

import pytest

from configs import progress
from models import CheckpointError
from models.weights import download as module
from models.weights.download import download
from tests.support.files.site import serving

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "net.pth").write_bytes(CONTENT)
    os.utime(folder / "net.pth", (1_700_000_000, 1_700_000_000))
    with serving(folder) as site:
        yield site


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "net.pth"


@pytest.fixture
def impatient(monkeypatch):
    """Remove the pauses between attempts."""
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)


def test_a_file_is_downloaded_once(site, path):
    for _ in range(2):
        assert download(site.url("net.pth"), path, SHA256[:8]) == path
    assert path.read_bytes() == CONTENT
    assert site.asked == [("/net.pth", None)]
    assert [file.name for file in path.parent.iterdir()] == ["net.pth"]


def test_a_lost_connection_is_continued_where_it_broke_off(site, path, impatient, caplog):
    site.breaks_after = [300_000, 200_000]
    download(site.url("net.pth"), path, SHA256)
    assert path.read_bytes() == CONTENT
    starts = [span for _, span in site.asked]
    assert starts == [None, "bytes=300000-", "bytes=500000-"]
    assert "the connection ended after 300,000 of 1,048,576 bytes; connecting again" in caplog.text


def test_a_download_that_was_given_up_is_continued_by_the_next_command(site, path, impatient):
    site.breaks_after = [300_000] + [0] * module.ATTEMPTS
    with pytest.raises(CheckpointError, match="the connection ended after 300,000 of 1,048,576 bytes"):
        download(site.url("net.pth"), path)
    assert not path.exists()
    site.asked.clear()
    download(site.url("net.pth"), path)
    assert path.read_bytes() == CONTENT and site.asked == [("/net.pth", "bytes=300000-")]


@pytest.mark.parametrize("how", ["another date", "no ranges"])
def test_a_download_that_cannot_be_continued_restarts(site, path, impatient, how):
    site.breaks_after = [300_000]
    os.makedirs(path.parent)
    part = path.with_name("net.pth.part")
    part.write_bytes(b"x" * 1000)  # dated today: left by a killed process, or part of an older file
    if how == "no ranges":
        os.utime(part, (1_700_000_000, 1_700_000_000))
        site.knows_ranges = False
    download(site.url("net.pth"), path, SHA256)
    assert path.read_bytes() == CONTENT


def test_a_part_that_is_longer_than_the_file_is_dropped(site, path):
    os.makedirs(path.parent)
    part = path.with_name("net.pth.part")
    part.write_bytes(CONTENT + b"more")
    os.utime(part, (1_700_000_000, 1_700_000_000))
    download(site.url("net.pth"), path)
    assert path.read_bytes() == CONTENT


def test_a_file_with_another_digest_is_not_kept(site, path):
    with pytest.raises(CheckpointError, match=f"its sha256 begins with {SHA256[:8]}, not 00000000; nothing was kept"):
        download(site.url("net.pth"), path, "00000000")
    assert list(path.parent.iterdir()) == []


def test_a_server_that_lacks_the_file_is_quoted_with_the_place_to_put_it(site, path):
    with pytest.raises(CheckpointError) as refused:
        download(site.url("gone.pth"), path.with_name("gone.pth"), instead=", or do without")
    assert str(refused.value) == (
        f"{site.url('gone.pth')}: cannot be downloaded (HTTP Error 404: File not found); without a network, "
        f"put gone.pth into {path.parent}, or do without"
    )
    assert list(path.parent.iterdir()) == []


def test_offline_the_error_names_the_path_of_the_file(path, impatient):
    with pytest.raises(
        CheckpointError, match=rf"cannot be downloaded .*; without a network, put net.pth into {path.parent}$"
    ):
        download("http://127.0.0.1:9/net.pth", path)


def test_a_second_process_does_not_write_to_the_same_part(site, path):
    os.makedirs(path.parent)
    with path.with_name("net.pth.part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(CheckpointError, match="another process is downloading it"):
            download(site.url("net.pth"), path)


def test_a_full_disk_is_seen_before_the_download(site, path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: module.shutil._ntuple_diskusage(9, 9, 2**19))
    with pytest.raises(CheckpointError, match="1 MiB are needed and 0 free"):
        download(site.url("net.pth"), path)


def test_progress_of_a_download_is_logged(site, path, monkeypatch, caplog):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with caplog.at_level(logging.INFO):
        download(site.url("net.pth"), path)
    assert f"downloading {site.url('net.pth')}, 1.0 MiB" in caplog.text
    assert "net.pth (MiB): 1 of 1, " in caplog.text and "0 s left" in caplog.text
