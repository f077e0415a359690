"""The error a user sees when data cannot be used."""

import pickle
from pathlib import Path

from dali_pipes.errors import DataError
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
