"""Pickles of NumPy arrays in dictionaries, read without running anything: what Paddle writes as .pdparams.

A pickle asks for classes and functions by name, and calls them with what it likes. Here it gets none that it asks for:
each name that arrays need means a small class below, which checks what it is given, and there are no other names. A
pickle may also put a state into whatever it has got: each class has a `__setstate__`, so that its instances check that
state, and the class itself takes none.
"""

import math
import pickle
import pickletools
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
    with path.open("rb") as file:
        _refuse_far_memos(file)
        file.seek(0)
        try:
            # Python 2 wrote bytes as text, in which latin1 makes of each byte the character of its number.
            return _Unpickler(file, encoding="latin1").load()
        except _Refused as error:
            raise CheckpointError(f"{path}: {error}") from None


class _Refused(Exception):
    """What a pickle asked for and does not get."""


def _refuse_far_memos(file: BinaryIO) -> None:
    """A pickle numbers what it wants to refer to, and Python makes room for as many things as the highest number."""
    for opcode, argument, position in pickletools.genops(file):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > position:
            raise ValueError(f"thing number {argument} in the first {position} bytes")


class _Array(np.ndarray):
    """An array, and NumPy's function that makes an empty one for its state to be put in."""

    def __new__(cls, *_: object) -> "_Array":
        return super().__new__(cls, 0, np.uint8)

    def __setstate__(self, state: object) -> None:
        _, shape, dtype, fortran, raw = state
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        numpy_dtype = dtype.numpy()
        if not all(type(size) is int and size >= 0 for size in shape) or len(shape) > MOST_AXES:
            raise _Refused("holds an array whose shape is no shape")
        if type(raw) not in (bytes, bytearray) or math.prod(shape) * numpy_dtype.itemsize != len(raw):
            raise _Refused(f"declares an array of shape {list(shape)} and does not bring the bytes for it")
        super().__setstate__((1, tuple(shape), numpy_dtype, bool(fortran), bytes(raw)))


class _FromBuffer(_Array):
    """NumPy's function that makes an array of its bytes: so protocol 5 writes them."""

    def __new__(cls, raw: object, dtype: object, shape: object, order: str) -> _Array:
        array = _Array()
        array.__setstate__((1, shape, dtype, order == "F", raw))
        return array


class _Dtype:
    """A NumPy dtype of numbers."""

    def __init__(self, kind: str, *_: object):
        if type(kind) is not str or kind not in KINDS:
            raise _Refused(f"holds an array of {printable(kind)}, where numbers are expected")
        self.kind, self.order = kind, "="

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1] if state[1] in ("<", ">") else "="

    def numpy(self) -> np.dtype:
        return np.dtype(self.order + self.kind)


class _Bytes(bytes):
    """The function that makes bytes of text: so protocol 2 writes them."""

    def __new__(cls, text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise _Refused(f"asks for text in {printable(encoding)}")
        return text.encode("latin1")

    def __setstate__(self, state: object) -> None:
        raise _Refused("puts a state into bytes")


NAMES = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Bytes,
    ("builtins", "tuple"): tuple,  # Paddle's tensors inside dictionaries of dictionaries: (name, array)
    ("__builtin__", "tuple"): tuple,
    ("collections", "OrderedDict"): dict,
} | {
    (f"numpy.{core}.{module}", function): stand_in
    for core in ("core", "_core")  # of NumPy 1 and 2
    for module, function, stand_in in [("multiarray", "_reconstruct", _Array), ("numeric", "_frombuffer", _FromBuffer)]
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        if (module, name) not in NAMES:
            raise _Refused(f"asks for {printable(f'{module}.{name}')}, which arrays have no need of; nothing was run")
        return NAMES[module, name]
