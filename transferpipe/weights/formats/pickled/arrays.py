"""What the names in a pickle of NumPy's arrays mean: descriptions of arrays, whose values stay where they are.

How NumPy pickles them: ``ndarray.__reduce__`` (``_reconstruct``, and then shape, dtype, order and bytes as its state)
and ``__reduce_ex__`` of protocol 5 (``_frombuffer``), ``dtype.__reduce__``, and ``scalar`` for numbers:
https://github.com/numpy/numpy/blob/main/numpy/_core/src/multiarray/methods.c. JAX puts the same in a function of its
own, PaddlePaddle in a pair with a name (``reduce_varbase`` of ``python/paddle/framework/io.py``). joblib puts the
values of an array behind its description, between the opcodes (``NumpyArrayWrapper`` of ``joblib/numpy_pickle.py``).
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from transferpipe.errors import FileError, Problem
from transferpipe.files.segment import opened, read_into
from transferpipe.weights.formats.pickled.packed import Unpacked
from transferpipe.weights.formats.torch.limited import Limited, PickleError
from transferpipe.weights.formats.torch.objects import meaning_of
from transferpipe.weights.formats.torch.storages import Storages, StoredBytes
from transferpipe.weights.formats.torch.tensors import READABLE, DType, Storage, TensorView
from transferpipe.weights.formats.torch.unpickle import (
    Entries,
    FarBytes,
    Foreign,
    Function,
    Machine,
    Opaque,
    Unfinished,
    read_pickle,
)

_CODE = re.compile(r"[<>=|]?(b1|[iuf][1248]|f2|c8|c16)")
_OBJECTS, _TEXTS = re.compile(r"[<>=|]?O8?"), re.compile(r"[<>=|]?[SUmM].*")
_NO_NUMBERS = "text"
_MOST_AXES = 32  # of NumPy before 2.0
_BESIDE = re.compile(r"joblib\.(numpy_pickle|numpy_pickle_compat)\.Z?NDArrayWrapper")
_MULTIARRAY, _NUMERIC = (
    ("numpy.core.multiarray", "numpy._core.multiarray"),
    ("numpy.core.numeric", "numpy._core.numeric"),
)


class PickledDType(Unfinished):
    """A dtype: its NumPy name, empty for objects; whether the highest byte is first; why it cannot be read, if so."""

    def __init__(self, given: tuple[Any, ...]) -> None:
        kind = given[0] if given else None
        self.is_big, self.refused, self.name, self.text_size = False, "", "", 0
        if isinstance(kind, Opaque) and kind.name.rpartition(".")[2] in READABLE:
            self.name = kind.name.rpartition(".")[2]
        elif isinstance(kind, str) and _CODE.fullmatch(kind):
            self.name, self.is_big = np.dtype(kind).name, kind[0] == ">"
        elif isinstance(kind, str) and _TEXTS.fullmatch(kind):
            self.name, self.text_size = _NO_NUMBERS, _text_size(kind)
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


class JoblibArray(Unfinished):
    """An array of joblib's before its state is set; its values follow in the file then."""

    def __init__(self, buffers: PickledBuffers) -> None:
        self._buffers = buffers

    def finished(self, state: Any) -> Any:
        """Return the array that shape, dtype and order describe, and leave the file behind its values."""
        given = {k: v for k, v in state.pairs if isinstance(k, str)} if isinstance(state, Entries) else {}
        dtype, shape = given.get("dtype"), given.get("shape")
        if (
            not isinstance(dtype, PickledDType)
            or not isinstance(shape, tuple)
            or not all(type(n) is int for n in shape)
        ):
            raise PickleError("has an array of joblib's without a shape or a dtype")
        # Since joblib 1.2 (wrappers before have no such attribute) values are aligned, and a byte says how far.
        is_aligned = type(given.get("numpy_array_alignment_bytes")) is int
        return self._buffers.following(shape, dtype, given.get("order") == "F", is_aligned)


@dataclass
class PickledBuffers:
    """Where the values of all arrays of a pickle lie: in the file, or in memory where the file has them as text.

    Attributes:
        near: values in memory.
        far: those in the file.
        swapped: the sizes of numbers whose highest byte is first.
        file: the file that is read, and `machine` what it is read with, where values may lie between opcodes.
    """

    near: dict[str, bytes] = field(default_factory=dict)
    far: dict[str, FarBytes] = field(default_factory=dict)
    swapped: dict[str, int] = field(default_factory=dict)
    file: Limited | None = None
    machine: Machine | None = None

    def meaning_of(self, name: str) -> Any:
        """Return what the name of a Python object means in a pickle of arrays; None if it may not be in one."""
        module, _, last = name.rpartition(".")
        if module in _MULTIARRAY and last in ("_reconstruct", "scalar"):
            return Function(name, self._reconstruct if last == "_reconstruct" else self._scalar)
        if module in _NUMERIC and last == "_frombuffer":
            return Function(name, self._from_buffer)
        if name.endswith("joblib.numpy_pickle.NumpyArrayWrapper") and self.machine is not None:
            return Function(name, lambda _: JoblibArray(self))
        if _BESIDE.search(name):
            what = "was written by joblib before 0.10, which puts the values of arrays into files beside it"
            fix = "load it there and save the arrays with numpy.savez, or as safetensors"
            raise FileError(Problem("", what, fix))
        own: Mapping[str, Callable[[tuple[Any, ...]], Any]] = {
            "numpy.dtype": PickledDType,
            **dict.fromkeys(("_codecs.encode", "builtins.bytes", "__builtin__.bytes"), _encode_letters),
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

    def following(self, shape: tuple[int, ...], dtype: PickledDType, is_fortran: bool, is_aligned: bool) -> Any:
        """Return the array whose values begin where the file is read; they are stepped over."""
        if self.file is None or self.machine is None:
            raise PickleError("has the values of an array where none can be")
        if not dtype.name and not dtype.refused:
            return self._objects_following(self.file, self.machine)
        size = dtype.text_size if dtype.name == _NO_NUMBERS else DType(dtype.name).itemsize
        if not size or dtype.refused or not all(0 <= n < 1 << 62 for n in shape):
            raise PickleError("has an array of joblib's whose dtype or shape is unknown")
        if is_aligned:
            self.file.skip(self.file.read(1)[0])
        count = math.prod(shape) * size
        return self.array(shape, dtype, FarBytes(self.file.skip(count), count), is_fortran)

    def _objects_following(self, file: Limited, machine: Machine) -> Any:
        """Return an array of objects, which is a pickle inside the pickle; not again inside of that."""
        inner = Machine(self.meaning_of, machine.persistent, machine.leaves_bytes, machine.refused, machine.steps)
        self.machine = None
        found = read_pickle(file, inner)
        self.machine, machine.steps = machine, inner.steps
        return found

    def storages(self, path: Path, unpacked: Unpacked | None = None) -> Storages:
        """Return where the values lie, for a file at `path`, or for its unpacked content."""
        stored = {
            key: StoredBytes(each.count, each.offset if unpacked is None else None) for key, each in self.far.items()
        }
        stored |= {key: StoredBytes(len(data), None) for key, data in self.near.items()}
        stored |= {key: StoredBytes(stored[key.partition(" swapped")[0]].size, None) for key in self.swapped}

        def unpack(key: str, begin: int, count: int) -> bytes:
            plain = key.partition(" swapped")[0]
            if plain in self.near:
                data = self.near[plain][begin : begin + count]
            else:
                buffer = bytearray(count)
                with contextlib.nullcontext(unpacked.descriptor()) if unpacked else opened(path) as descriptor:
                    read_into(descriptor, memoryview(buffer), self.far[plain].offset + begin, path)
                data = bytes(buffer)
            size = self.swapped.get(key)
            if size is None:
                return data
            return np.frombuffer(data, np.uint8).reshape(-1, size)[:, ::-1].tobytes()

        return Storages(path, stored, unpack)

    def _key(self, values: Any) -> tuple[str, int]:
        """Return the key of an array's values, and how many bytes they are."""
        if isinstance(values, FarBytes):
            key = f"byte {values.offset}"
            self.far[key] = values
            return key, values.count
        if isinstance(values, str):  # Python 2 had no other bytes
            values = _encode_letters((values, "latin1"))
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


def _text_size(kind: str) -> int:
    """Return how many bytes one text of a dtype has; 0 if it is none that NumPy knows."""
    try:
        return np.dtype(kind).itemsize
    except (TypeError, ValueError):
        return 0


def _encode_letters(given: tuple[Any, ...]) -> bytes:
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
