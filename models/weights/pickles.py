"""Pickles of NumPy arrays in dictionaries, read without running anything: what Paddle writes as .pdparams.

A pickle asks for classes and functions by name, and calls them with what it likes. Here it gets none that it asks for:
each name that arrays need means a small class below, which checks what it is given, and there are no other names. None
of them copies, so that what is read is not much larger than the file. A pickle may also put a state into whatever it
has got: each class has a `__setstate__`, so that its instances check that state, and the class itself takes none.
"""

import math
import pickle
import pickletools
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np

from models.errors import CheckpointError, printable

MOST_AXES = 8
KINDS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "f2", "f4", "f8"}


def read_pickle(path: Path) -> object:
    """What the pickle at `path` holds: dictionaries, lists, tuples, plain values and arrays.

    Raises CheckpointError where it asks for more, other exceptions where it is damaged.
    """
    try:
        with path.open("rb") as file:
            _refuse_far_memos(file)
            file.seek(0)
            return _Unpickler(file).load()
    except _Refused as error:
        raise CheckpointError(f"{path}: {error}") from None
    finally:
        _latin1.cache_clear()


class _Refused(Exception):
    """What a pickle asked for and does not get."""


def _refuse_far_memos(file: BinaryIO) -> None:
    """A pickle numbers what it wants to refer to, and Python makes room for as many things as the highest number."""
    for opcode, argument, position in pickletools.genops(file):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > position:
            raise _Refused(f"numbers a thing {argument} in its first {position} bytes")


class _Dtype:
    """NumPy's dtype, of numbers."""

    def __init__(self, kind: str, *_: object):
        if type(kind) is not str or kind not in KINDS:
            raise _Refused(f"holds an array of {printable(kind)}, where numbers are expected")
        self.numpy = np.dtype(kind)

    def __setstate__(self, state: tuple) -> None:
        self.numpy = self.numpy.newbyteorder(">" if state[1] == ">" else "<")

    def check(self, shape: tuple[int, ...], raw: bytes | bytearray) -> None:
        """That these bytes make up an array of this shape."""
        if len(shape) > MOST_AXES or not all(type(size) is int and size >= 0 for size in shape):
            raise _Refused("holds an array whose shape is no shape")
        if len(raw) != math.prod(shape) * self.numpy.itemsize:
            raise _Refused(f"declares an array of shape {list(shape)} and brings {len(raw)} bytes for it")


class _Array(np.ndarray):
    """NumPy's array, and its function that makes an empty one for its state to be put in."""

    def __new__(cls, *_: object) -> "_Array":
        return super().__new__(cls, 0, np.uint8)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, in_columns, raw = state
        if type(raw) is not bytes:
            raise _Refused(f"makes an array of a {type(raw).__name__}")
        _Dtype.check(dtype, shape, raw)
        super().__setstate__((1, shape, dtype.numpy, bool(in_columns), raw))


class _Function:
    """What is called for its result, and has no instances."""

    def __setstate__(self, state: object) -> None:
        """Not for the class: a pickle that puts a state into it lacks an argument here."""


class _FromBuffer(_Function):
    """NumPy's function that makes an array of its bytes: so protocol 5 writes them."""

    def __new__(cls, raw: bytes | bytearray, dtype: _Dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
        if type(raw) is bytearray:
            return np.frombuffer(raw, dtype.numpy).reshape(shape, order="F" if order == "F" else "C")
        array = _Array()
        array.__setstate__((1, shape, dtype, order == "F", raw))
        return array


class _Encode(_Function):
    """The function that makes bytes of text: so protocol 2 writes them."""

    def __new__(cls, text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise _Refused(f"asks for text in {printable(encoding)}")
        return _latin1(text)


@cache  # of one file: what a pickle has encoded many times is there once
def _latin1(text: str) -> bytes:
    return text.encode("latin1")


class _Tuple(_Function):
    """Python's tuple, of a tuple: so Paddle writes tensors in dictionaries of dictionaries, as (name, array)."""

    def __new__(cls, items: tuple) -> tuple:
        return items


class _Dict(_Function):
    """An ordered dictionary, empty at first."""

    def __new__(cls) -> dict:
        return {}


STAND_INS = {
    "numpy.ndarray": _Array,
    "numpy.dtype": _Dtype,
    "numpy.core.multiarray._reconstruct": _Array,  # NumPy 1
    "numpy.core.numeric._frombuffer": _FromBuffer,
    "numpy._core.multiarray._reconstruct": _Array,  # NumPy 2
    "numpy._core.numeric._frombuffer": _FromBuffer,
    "_codecs.encode": _Encode,
    "__builtin__.tuple": _Tuple,
    "builtins.tuple": _Tuple,
    "collections.OrderedDict": _Dict,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        if stand_in := STAND_INS.get(f"{module}.{name}"):
            return stand_in
        raise _Refused(f"asks for {printable(f'{module}.{name}')}, which arrays have no need of; nothing was run")
