"""The error that a user sees if data cannot be used."""

import pickle
from pathlib import Path

import pytest

from dali_pipes.errors import DataError, masked
from dali_pipes.scan.processes import Failure


def test_an_error_has_path_and_reason_and_survives_a_pickle():
    error = pickle.loads(pickle.dumps(DataError(Path("a.mp4"), "is empty")))
    assert (error.path, error.reason, str(error)) == ("a.mp4", "is empty", "a.mp4: is empty")


def test_the_path_is_left_out_only_where_the_reader_knows_it():
    error = DataError("a: b.mp4", "a: b.mp4: is a strange reason")
    assert error.reason_for("a: b.mp4") == "a: b.mp4: is a strange reason"
    assert error.reason_for("a") == str(error) == "a: b.mp4: a: b.mp4: is a strange reason"
    assert Failure(error.reason, error.path).reason_for("a: b.mp4") == error.reason
    assert Failure(error.reason, error.path).reason_for("other") == str(error)
    assert Failure("hung").reason_for("other") == "hung"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://camera/stream", "rtsp://camera/stream"),
        ("rtsp://me:pa55@camera:554/a/b", "rtsp://***@camera:554/a/b"),
        ("rtsp://me:pa@55@camera/a", "rtsp://***@camera/a"),
        ("rtsp://me:pa/55@camera/a", "rtsp://***"),
        ("rtsp://me:pa?55@camera/a", "rtsp://***"),
        ("https://store/a.mp4?X-Amz-Signature=pa55&x=me", "https://store/a.mp4?***"),
        ("http://camera/a.mp4#pa55", "http://camera/a.mp4?***"),
        ("rtsp://[::1]:554/a", "rtsp://[::1]:554/a"),
        ("rtsp://camera/user=me&password=pa55&channel=1.sdp", "rtsp://camera/user=***&password=***&channel=1.sdp"),
        ("folder/me:pa55@x?y.mp4", "folder/me:pa55@x?y.mp4"),
    ],
)
def test_secrets_of_an_address_are_not_shown(address, shown):
    assert masked(address) == shown and masked(shown.removesuffix("?***")) == shown.removesuffix("?***")
    error = DataError(address, "is gone")
    assert str(error) == f"{shown}: is gone" and shown in repr(error)
    assert error.reason_for(address) == "is gone"
