"""Hostile weights files: nothing in them runs, memory does not grow, and the error is one line."""

import pickle
import re
import subprocess
import zipfile

import numpy as np
import pytest
import torch

from configs.schema import Model
from models import CheckpointError, build_model, load_weights
from models.weights import pickles
from tests.support.memory import resident_bytes

PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)


class Ask:
    """An object that calls a function when it is read, and then sets a state on the result."""

    def __init__(self, function, *arguments, state=None):
        self.asked = (function, arguments, state) if state is not None else (function, arguments)

    def __reduce__(self):
        return self.asked


MODEL = build_model(Model(backbone="resnet18", width=8, num_classes=3))


def refusal(path):
    """Return the one-line error of a refused file."""
    with pytest.raises(CheckpointError) as caught:
        load_weights(MODEL, path)
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    assert "\n" not in said
    assert len(said) < 600
    return said


@pytest.fixture
def canary(tmp_path):
    """Yield a path that no test may write to."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists()


def pickled(folder, content, protocol=4):
    (folder / "hostile.pdparams").write_bytes(pickle.dumps(content, protocol))
    return folder / "hostile.pdparams"


def write_a_file(path):
    return Ask(open, str(path), "w")


WRAPPINGS = {
    "tensor": lambda hostile: {"conv1.weight": hostile},
    "beside": lambda hostile: {"meta": {"log": [hostile]}},
    "bare": lambda hostile: hostile,
    "name": lambda hostile: {hostile: 1},
}
wrapped = pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS)


def test_the_hostile_files_run_code_in_plain_pickle(tmp_path):
    pickle.loads(pickle.dumps(write_a_file(tmp_path / "canary")))
    assert (tmp_path / "canary").exists()


@wrapped
@pytest.mark.parametrize("archive", [True, False], ids=["archive", "legacy"])
def test_a_torch_file_that_asks_for_code_is_refused(tmp_path, canary, wrap, archive):
    path = tmp_path / "hostile.pt"
    content = wrap(write_a_file(canary))
    if isinstance(content, dict):
        content["state_dict"] = MODEL.state_dict()  # which would load if it were trusted
    torch.save(content, path, _use_new_zipfile_serialization=archive)
    refusal(path)


@wrapped
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pickle_that_asks_for_code_is_refused(tmp_path, canary, wrap, protocol):
    path = pickled(tmp_path, wrap(write_a_file(canary)), protocol)
    assert re.search(r"asks for (io|_io)\.open, .*; nothing was run", refusal(path))


@pytest.mark.parametrize(
    "ask",
    [
        lambda canary: Ask(eval, f"open({str(canary)!r}, 'w')"),
        lambda canary: Ask(subprocess.call, ["touch", str(canary)]),
        lambda canary: Ask(getattr, Ask(__import__, "os"), "system"),
        lambda canary: Ask(np.load, str(canary)),
    ],
    ids=["eval", "subprocess", "getattr", "numpy"],
)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_only_array_functions_are_allowed_in_a_pickle(tmp_path, canary, ask, protocol):
    assert "; nothing was run" in refusal(pickled(tmp_path, {"conv1.weight": ask(canary)}, protocol))
    torch.save({"conv1.weight": ask(canary)}, tmp_path / "hostile.pt")
    refusal(tmp_path / "hostile.pt")


RECONSTRUCT = np.empty(0).__reduce__()[0]


class Sneaky(np.ndarray):
    """A class that is no ndarray, in a place where NumPy's function expects one."""


OBJECTS = np.empty(1, dtype=object)
OBJECTS[0] = print


DAMAGED = "cannot be read ("
FLOATS = np.dtype("f4")


def array_of(*state):
    """Return an array whose state is (version, shape, dtype, order, bytes)."""
    return Ask(RECONSTRUCT, np.ndarray, (0,), b"b", state=state)


@pytest.mark.parametrize(
    "value, seen",
    [
        (Ask(RECONSTRUCT, Sneaky, (0,), b"b"), "asks for "),
        (array_of(1, (2,), FLOATS, False, b"1234"), DAMAGED),
        (array_of(1, (10**15,), FLOATS, False, b"1"), DAMAGED),
        (array_of(1, (-2, -2), FLOATS, False, b"0" * 16), DAMAGED),
        (array_of(1, (1,) * 99, FLOATS, False, b"0000"), DAMAGED),
        (array_of(1, (2,), "f4", False, b"12345678"), DAMAGED),
        (array_of("state"), DAMAGED),
        (array_of(1, "ab", FLOATS, False, b"1234"), DAMAGED),
        (array_of(1, (1,), FLOATS, False, "1234"), DAMAGED),
        (OBJECTS, "array of O8, where numbers are expected"),
        (np.array(["text"]), "array of U4, where numbers are expected"),
        (np.zeros(1, dtype=[("a", "f4")]), "array of V4, where numbers are expected"),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), "array of M8, where numbers are expected"),
        (Ask(np.dtype, ["f4"]), "array of list, where numbers are expected"),
        (
            Ask(np.dtype, "f4", state=(3, {"a": 1}, None, None, None, -1, -1, 0)),
            "contains a dictionary of conv1.weight; ",
        ),
        (Ask(pickle.codecs.encode, "text", "rot13"), "asks for 4 letters in rot13"),
        (Ask(pickle.codecs.encode, b"text", "latin1"), DAMAGED),
    ],
)
def test_invalid_states_of_arrays_in_a_pickle_are_refused(tmp_path, value, seen):
    assert seen in refusal(pickled(tmp_path, {"conv1.weight": value}))


@pytest.mark.parametrize("name", [*pickles.ALLOWED, "_codecs.encode"])
@pytest.mark.parametrize("state", [b"(N(S'__module__'\nS'changed'\ndt", b"(S'__doc__'\nS'changed'\nd"])
def test_a_pickle_cannot_modify_the_allowed_functions(tmp_path, name, state):
    """A pickle may set the state of any object, including the functions and classes that it is allowed to use."""
    module, _, function = name.rpartition(".")
    (tmp_path / "hostile.pdparams").write_bytes(b"\x80\x02" + f"c{module}\n{function}\n".encode() + state + b"b.")

    def attributes():
        given = {**pickles.ALLOWED, "_codecs.encode": pickles._Unpickler._encode}
        return {name: {key: getattr(thing, key) for key in dir(thing)} for name, thing in given.items()}

    before = str(attributes())
    assert "cannot be read (" in refusal(tmp_path / "hostile.pdparams")
    assert str(attributes()) == before


def test_a_high_memo_index_takes_no_memory(tmp_path):
    path = tmp_path / "hostile.pdparams"
    path.write_bytes(b"\x80\x02Nr\xff\xff\xff\x7f.")  # pickle.Unpickler would write zeros over 32 GiB
    before = resident_bytes()
    assert "contains a NoneType; " in refusal(path)
    assert resident_bytes() < before + 2**26


def test_a_pickle_that_encodes_the_same_text_many_times_is_refused(tmp_path):
    """Otherwise a small file could fill the memory."""
    text = "a" * 1000
    start = (
        b"\x80\x02](c_codecs\nencode\nq\x00X\xe8\x03\x00\x00" + text.encode() + b"q\x01X\x06\x00\x00\x00latin1q\x0200"
    )
    path = tmp_path / "hostile.pdparams"
    path.write_bytes(start + b"h\x00h\x01h\x02\x86R" * 100 + b"e.")
    assert "asks for 1000 letters in latin1" in refusal(path)


@pytest.mark.parametrize("opcode", [b"\x8e", b"\x96"], ids=["bytes", "bytearray"])
def test_a_pickle_that_declares_more_bytes_than_it_has_is_refused(tmp_path, opcode):
    path = tmp_path / "hostile.pdparams"
    path.write_bytes(b"\x80\x05" + opcode + (2**40).to_bytes(8, "little") + b"abc.")
    assert "cannot be read (" in refusal(path)


@pytest.mark.parametrize(
    "note", [5, {"a": 5}, {"a": {"OriginShape": (2,), "slices": ["b", "b"]}}, {"a": {"slices": []}}]
)
def test_an_invalid_record_of_split_arrays_is_refused(tmp_path, note):
    content = {"b": np.zeros(1, np.float32), "UnpackBigParamInfor@@": note}
    assert "cannot be read (" in refusal(pickled(tmp_path, content))


def test_an_archive_that_grows_is_refused(tmp_path):
    plain, packed = tmp_path / "plain.pt", tmp_path / "packed.pt"
    torch.save({"conv1.weight": torch.zeros(2**20)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    assert re.search(r": has \d{4,5} bytes that unpack to 41\d{5}, ", refusal(packed))


def test_names_that_a_file_asks_for_are_shown_on_one_line(tmp_path):
    path = tmp_path / "hostile.pdparams"
    name = "a\nTraceback\x1b[31m" + "b" * 500
    path.write_bytes(b"\x80\x04\x8c\x02os\x8d" + len(name).to_bytes(8, "little") + name.encode() + b"\x93.")
    assert "asks for os.a?Traceback?[31mbbb" in refusal(path)


@pytest.mark.parametrize("key", ["conv1.weight", "fc.weight", "backbone.conv._conv.weight", "head.fc.weight"])
def test_a_tensor_expanded_from_one_number_is_refused(tmp_path, key):
    torch.save({key: torch.zeros(1).expand(2**20, 2**20)}, tmp_path / "hostile.pt")
    assert "does not fit the model; " in refusal(tmp_path / "hostile.pt")


def test_a_dictionary_that_contains_itself_is_refused(tmp_path):
    content = {"model": {}}
    content["model"]["state_dict"] = content
    refusal(pickled(tmp_path, content))
