"""What the names in a pickle of NumPy's arrays mean: descriptions of arrays, whose values stay where they are.

How NumPy pickles them: ``ndarray.__reduce__`` (``_reconstruct``, and then shape, dtype, order and bytes as its state)
and ``__reduce_ex__`` of protocol 5 (``_frombuffer``), ``dtype.__reduce__``, and ``scalar`` for numbers:
https://github.com/numpy/numpy/blob/main/numpy/_core/src/multiarray/methods.c. JAX puts the same in a function of its
own, PaddlePaddle in a pair with a name (``reduce_varbase`` of ``python/paddle/framework/io.py``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from transferpipe.errors import FileError, Problem
from transferpipe.files.segment import opened, read_into
from transferpipe.weights.formats.torch.limited import PickleError
from transferpipe.weights.formats.torch.objects import meaning_of
from transferpipe.weights.formats.torch.storages import Storages, StoredBytes
from transferpipe.weights.formats.torch.tensors import READABLE, DType, Storage, TensorView
from transferpipe.weights.formats.torch.unpickle import FarBytes, Foreign, Function, Opaque, Unfinished

_CODE = re.compile(r"[<>=|]?(b1|[iuf][1248]|f2|c8|c16)")
_OBJECTS, _TEXTS = re.compile(r"[<>=|]?O8?"), re.compile(r"[<>=|]?[SUmM].*")
_NO_NUMBERS = "text"
_MOST_AXES = 32  # of NumPy before 2.0
_MULTIARRAY, _NUMERIC = (
    ("numpy.core.multiarray", "numpy._core.multiarray"),
    ("numpy.core.numeric", "numpy._core.numeric"),
)


class PickledDType(Unfinished):
    """A dtype: its NumPy name, empty for objects; whether the highest byte is first; why it cannot be read, if so."""

    def __init__(self, given: tuple[Any, ...]) -> None:
        kind = given[0] if given else None
        self.is_big, self.refused, self.name = False, "", ""
        if isinstance(kind, Opaque) and kind.name.rpartition(".")[2] in READABLE:
            self.name = kind.name.rpartition(".")[2]
        elif isinstance(kind, str) and _CODE.fullmatch(kind):
            self.name, self.is_big = np.dtype(kind).name, kind[0] == ">"
        elif isinstance(kind, str) and _TEXTS.fullmatch(kind):
            self.name = _NO_NUMBERS
        elif not (isinstance(kind, str) and _OBJECTS.fullmatch(kind)):
            self.name, self.refused = "uint8", f"is of the dtype {getattr(kind, 'name', kind)!s:.40}"

    def finished(self, state: Any) -> Any:
        """Take the byte order from ``(version, order, ...)``."""
        if isinstance(state, tuple) and len(state) > 1 and state[1] == ">":
            self.is_big = True
        return self


class PickledArray(Unfinished):
    """An array before its state is set."""

    def __init__(self, buffers: PickledBuffers) -> None:
        self._buffers = buffers

    def finished(self, state: Any) -> Any:
        """Return the array that ``(version, shape, dtype, is Fortran's, values)`` describe; some lack the version."""
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise PickleError("has an array without a shape, a dtype and values")
        shape, dtype, is_fortran, values = state[-4:]
        return self._buffers.array(shape, dtype, values, is_fortran is True or is_fortran == 1)


@dataclass
class PickledBuffers:
    """Where the values of all arrays of a pickle lie: in the file, or in memory where the file has them as text."""

    near: dict[str, bytes] = field(default_factory=dict)
    far: dict[str, FarBytes] = field(default_factory=dict)
    swapped: dict[str, int] = field(default_factory=dict)

    def meaning_of(self, name: str) -> Any:
        """Return what the name of a Python object means in a pickle of arrays; None if it may not be in one."""
        module, _, last = name.rpartition(".")
        if module in _MULTIARRAY and last in ("_reconstruct", "scalar"):
            return Function(name, self._reconstruct if last == "_reconstruct" else self._scalar)
        if module in _NUMERIC and last == "_frombuffer":
            return Function(name, self._from_buffer)
        if name.split(".")[0] == "joblib":
            what = "was written by joblib, which puts the values of arrays between the parts of the pickle"
            fix = "load it there and save the arrays with numpy.savez, or as safetensors"
            raise FileError(Problem("", what, fix))
        own: Mapping[str, Callable[[tuple[Any, ...]], Any]] = {
            "numpy.dtype": PickledDType,
            **dict.fromkeys(("_codecs.encode", "builtins.bytes", "__builtin__.bytes"), _encoded),
            **dict.fromkeys(("builtins.tuple", "builtins.list", "__builtin__.tuple", "__builtin__.list"), _items),
            "jax._src.array._reconstruct_array": self._of_jax,
            "jax._src.device_array.reconstruct_device_array": self._of_jax,
        }
        if module == "ml_dtypes" and last in READABLE:
            return Foreign(name)
        return Function(name, own[name]) if name in own else meaning_of(name)

    def array(self, shape: Any, dtype: Any, values: Any, is_fortran: bool) -> Any:
        """Return the array of a shape and a dtype; one of objects is a list of them, or the only one."""
        if not isinstance(shape, tuple) or len(shape) > _MOST_AXES or not isinstance(dtype, PickledDType):
            raise PickleError("has an array without a shape or a dtype")
        if not all(type(n) is int and 0 <= n < 1 << 62 for n in shape):
            raise PickleError("has an array of an impossible shape")
        if not dtype.name:
            if not isinstance(values, list) or len(values) != math.prod(shape):
                raise PickleError("has an array of objects without them")
            return values if shape else values[0]
        if dtype.name == _NO_NUMBERS:
            return Opaque(dtype.name)
        key, size = self._key(values)
        numbers = DType(dtype.name)
        strides = _strides(shape, is_fortran)
        if dtype.refused:
            return TensorView(Storage(key, DType("uint8"), size, size), numbers, 0, (), (), dtype.refused)
        # The size of what is there decides; a shape alone may claim any.
        if math.prod(shape) * numbers.itemsize != size:
            raise PickleError(f"has {size:,} bytes for an array of shape {shape} of {dtype.name}")
        if dtype.is_big and numbers.itemsize > 1:
            key = f"{key} swapped by {numbers.itemsize}"
            self.swapped[key] = numbers.itemsize // (2 if dtype.name.startswith("complex") else 1)
        return TensorView(Storage(key, numbers, math.prod(shape), math.prod(shape)), numbers, 0, shape, strides)

    def storages(self, path: Path) -> Storages:
        """Return where the values lie, for a file at `path`."""
        stored = {key: StoredBytes(there.count, there.offset) for key, there in self.far.items()}
        stored |= {key: StoredBytes(len(data), None) for key, data in self.near.items()}
        stored |= {key: StoredBytes(stored[key.partition(" swapped")[0]].size, None) for key in self.swapped}

        def unpack(key: str, begin: int, count: int) -> bytes:
            plain = key.partition(" swapped")[0]
            if plain in self.near:
                data = self.near[plain][begin : begin + count]
            else:
                buffer = bytearray(count)
                with opened(path) as descriptor:
                    read_into(descriptor, memoryview(buffer), self.far[plain].offset + begin, path)
                data = bytes(buffer)
            size = self.swapped.get(key, 1)
            return np.frombuffer(data, np.uint8).reshape(-1, size)[:, ::-1].tobytes()

        return Storages(path, stored, unpack)

    def _key(self, values: Any) -> tuple[str, int]:
        """Return the key of an array's values, and how many bytes they are."""
        if isinstance(values, FarBytes):
            key = f"byte {values.offset}"
            self.far[key] = values
            return key, values.count
        if isinstance(values, str):  # Python 2 had no other bytes
            values = _encoded((values, "latin1"))
        if not isinstance(values, bytes | bytearray):
            raise PickleError(f"has an array whose values are of type {type(values).__name__}")
        key = f"array {len(self.near)}"
        self.near[key] = bytes(values)
        return key, len(values)

    def _reconstruct(self, _: tuple[Any, ...]) -> PickledArray:
        return PickledArray(self)

    def _from_buffer(self, given: tuple[Any, ...]) -> Any:
        if len(given) != 4 or given[3] not in ("C", "F"):
            raise PickleError("has an array without a buffer, a dtype, a shape and an order")
        values, dtype, shape, order = given
        return self.array(shape, dtype, values, order == "F")

    def _scalar(self, given: tuple[Any, ...]) -> Any:
        if len(given) != 2 or not isinstance(given[0], PickledDType):
            raise PickleError("has a number without a dtype")
        return self.array((), given[0], given[1], False) if given[0].name else Opaque("object")

    def _of_jax(self, given: tuple[Any, ...]) -> Any:
        """Return the array that JAX hands to NumPy's function, with that one's arguments and state."""
        if len(given) < 3 or not isinstance(given[0], Function) or not isinstance(given[1], tuple):
            raise PickleError("has an array of JAX without the function that makes it")
        made = given[0].call(given[1])
        return made.finished(given[2]) if isinstance(made, PickledArray) else made


def _encoded(given: tuple[Any, ...]) -> bytes:
    """Return bytes that a pickle has as text, each a letter of Latin-1."""
    text, *_ = given or ("",)
    try:
        return text.encode("latin-1") if isinstance(text, str) else b""
    except UnicodeEncodeError as error:
        raise PickleError("has bytes as text that is not Latin-1") from error


def _items(given: tuple[Any, ...]) -> Any:
    """Return the items of a list; of a pair of a name and an array, as PaddlePaddle pickles a parameter, the array."""
    items = given[0] if len(given) == 1 and isinstance(given[0], list | tuple) else ()
    if len(items) == 2 and isinstance(items[0], str) and isinstance(items[1], TensorView):
        return items[1]
    return list(items)


def _strides(shape: tuple[int, ...], is_fortran: bool) -> tuple[int, ...]:
    steps, step = [], 1
    for n in shape if is_fortran else reversed(shape):
        steps.append(step)
        step *= n
    return tuple(steps if is_fortran else reversed(steps))
