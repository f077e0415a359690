"""Reads pickles of NumPy arrays in dictionaries, such as Paddle's .pdparams, without running code from the file.

A pickle asks for classes and functions by name and calls them. Here it gets only the names in `ALLOWED`, which build
arrays of numbers, and only arrays and their dtypes take a state. Nothing copies an array's bytes, so the result is not
much larger than the file.
"""

import pickle
from pathlib import Path
from typing import BinaryIO

import numpy as np

from models.errors import CheckpointError, printable

KINDS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "f2", "f4", "f8"}


def read_pickle(path: Path) -> object:
    """Return the content of the pickle at `path`: dictionaries, lists, tuples, plain values and arrays.

    Raises CheckpointError if it asks for more, and other exceptions if it is damaged.
    """
    try:
        with path.open("rb") as file:
            return _Unpickler(file, path.stat().st_size).load()
    except _Refused as error:
        raise CheckpointError(f"{path}: {error}") from None


class _Refused(Exception):
    """A pickle asks for something that it does not get."""


class _Dtype:
    """Stands in for NumPy's dtype: numbers only, and the pickled state sets nothing but the byte order."""

    def __init__(self, kind: str, *_: object):
        if type(kind) is not str or kind not in KINDS:
            raise _Refused(f"contains an array of {printable(kind)}, where numbers are expected")
        self.numpy = np.dtype(kind)

    def __setstate__(self, state: tuple) -> None:
        self.numpy = self.numpy.newbyteorder(">" if state[1] == ">" else "<")


class _Array(np.ndarray):
    """Stands in for NumPy's array and its `_reconstruct`: empty until its state is set."""

    def __new__(cls, *_: object) -> "_Array":
        return super().__new__(cls, 0, np.uint8)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, in_columns, raw = state
        fitting = np.frombuffer(raw, dtype.numpy).reshape(shape)  # raises if shape, dtype and bytes do not fit
        super().__setstate__((1, fitting.shape, dtype.numpy, bool(in_columns), raw))


def _from_buffer(raw: bytes | bytearray, dtype: _Dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    """Stand in for NumPy's `_frombuffer`, which protocol 5 uses."""
    if isinstance(raw, bytearray):
        return np.frombuffer(raw, dtype.numpy).reshape(shape, order=order)
    array = _Array()  # which, unlike one from frombuffer, is writable over `bytes`
    array.__setstate__((1, shape, dtype, order == "F", raw))
    return array


ALLOWED = {
    "numpy.ndarray": _Array,
    "numpy.dtype": _Dtype,
    "numpy.core.multiarray._reconstruct": _Array,  # NumPy 1
    "numpy.core.numeric._frombuffer": _from_buffer,
    "numpy._core.multiarray._reconstruct": _Array,  # NumPy 2
    "numpy._core.numeric._frombuffer": _from_buffer,
    "__builtin__.tuple": tuple,  # Paddle writes the tensors in nested dictionaries as tuples (name, array)
    "builtins.tuple": tuple,
    "collections.OrderedDict": dict,
}


class _Unpickler(pickle._Unpickler):  # the one in Python: its memo is a dictionary, C's grows to the highest index
    def __init__(self, file: BinaryIO, size: int):
        super().__init__(file)
        self._unencoded = size

    def find_class(self, module: str, name: str) -> object:
        wanted = f"{module}.{name}"
        if wanted == "_codecs.encode":  # protocol 2 writes bytes as text
            return self._encode
        if wanted not in ALLOWED:
            raise _Refused(f"asks for {printable(wanted)}, which arrays do not need; nothing was run")
        return ALLOWED[wanted]

    def _encode(self, text: str, encoding: str) -> bytes:
        """Encode text as latin1, of all texts together no more than the file is long."""
        self._unencoded -= len(text)
        if encoding != "latin1" or self._unencoded < 0:
            raise _Refused(f"asks for {len(text)} letters in {printable(encoding)}, which arrays do not need")
        return text.encode("latin1")

    def load_build(self) -> None:
        """Set the state of an array or a dtype; nothing else has a `__setstate__` here."""
        state = self.stack.pop()
        self.stack[-1].__setstate__(state)

    dispatch = pickle._Unpickler.dispatch | {pickle.BUILD[0]: load_build}
