"""Files made to do harm: nothing of them is run, nothing grows, and one line says what was wrong."""

import pickle
from pathlib import Path

import pytest
import torch

from models import CheckpointError, read_file

PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)


class Hostile:
    """Pickle calls what an object asks for. This one asks for a file to be written when it is read."""

    def __init__(self, canary: Path, call=None):
        self.ask = call or (open, (str(canary), "w"))

    def __reduce__(self):
        return self.ask


def refusal(path):
    """The one line that a refused file is answered with."""
    with pytest.raises(CheckpointError) as caught:
        read_file(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    assert "\n" not in said
    return said


@pytest.fixture
def canary(tmp_path):
    """A path that nothing may be written to."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists()


WRAPPINGS = [
    lambda hostile: {"conv1.weight": hostile},
    lambda hostile: {"state_dict": {"conv1.weight": torch.zeros(1)}, "meta": {"log": [hostile]}},
    lambda hostile: hostile,
    lambda hostile: {hostile: 1},
]


@pytest.mark.parametrize("wrap", WRAPPINGS, ids=["tensor", "beside", "bare", "name"])
@pytest.mark.parametrize("archive", [True, False], ids=["archive", "legacy"])
def test_a_torch_file_that_asks_for_code_is_refused(tmp_path, canary, wrap, archive):
    path = tmp_path / "hostile.pt"
    torch.save(wrap(Hostile(canary)), path, _use_new_zipfile_serialization=archive)
    refusal(path)


@pytest.mark.parametrize("wrap", WRAPPINGS, ids=["tensor", "beside", "bare", "name"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pickle_that_asks_for_code_is_refused(tmp_path, canary, wrap, protocol):
    path = tmp_path / "hostile.pdparams"
    path.write_bytes(pickle.dumps(wrap(Hostile(canary)), protocol))
    assert "nothing was run" in refusal(path)
