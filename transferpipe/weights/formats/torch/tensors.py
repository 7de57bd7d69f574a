"""Storages and tensors of a PyTorch checkpoint, as descriptions without values."""

from __future__ import annotations

import math
from dataclasses import dataclass

from transferpipe.weights.spec import numpy_dtype

_READABLE = """
    float64 float32 float16 bfloat16 int64 int32 int16 int8 uint64 uint32 uint16 uint8 bool complex64 complex128
    float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu
"""
_UNREADABLE = """
    complex32 float4_e2m1fn_x2 qint8 quint8 qint32 quint4x2 quint2x4 bits8 bits16 bits1x8 bits2x4 bits4x2
    uint1 uint2 uint3 uint4 uint5 uint6 uint7 int1 int2 int3 int4 int5 int6 int7
"""
READABLE, UNREADABLE = frozenset(_READABLE.split()), frozenset(_UNREADABLE.split())
_SIZES = {"qint32": 4, "complex32": 4, "bits16": 2}
# A tensor larger than its storage repeats values; more of them than this are no weight.
_MOST_REPEATED = 1 << 26


@dataclass(frozen=True)
class DType:
    """A dtype by the name that torch gives it."""

    name: str

    @property
    def readable(self) -> bool:
        """Whether NumPy, with ml_dtypes, has it too."""
        return self.name in READABLE

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return numpy_dtype(self.name).itemsize if self.readable else _SIZES.get(self.name, 1)


@dataclass(frozen=True)
class StorageClass:
    """A class of storages: the dtype of its elements, or None for one that holds bytes."""

    dtype: DType | None


@dataclass(frozen=True)
class Storage:
    """A stretch of values that tensors look into.

    Attributes:
        key: its name in the file.
        dtype: of its elements; None if it holds bytes.
        count: how many elements it has.
        whole: how many elements there are in what is stored under `key`.
        begin: at which of them it begins.
    """

    key: str
    dtype: DType | None
    count: int
    whole: int
    begin: int = 0

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize if self.dtype else 1

    @property
    def nbytes(self) -> int:
        """Bytes of all that is stored under `key`."""
        return self.whole * self.itemsize


@dataclass(frozen=True, eq=False)
class TensorView:
    """A tensor without its values.

    Attributes:
        storage: what it looks into.
        dtype: of its elements.
        offset: where in the storage its first element is, in elements of `dtype`.
        shape: its shape.
        strides: elements from one to the next along each axis.
        refused: why it cannot be read, if so.
    """

    storage: Storage
    dtype: DType
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    refused: str = ""

    @property
    def span(self) -> int:
        """Elements of the storage from its first to its last one."""
        if 0 in self.shape:
            return 0
        return 1 + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))

    @property
    def begin(self) -> int:
        """Where it begins in what is stored, in bytes."""
        return self.storage.begin * self.storage.itemsize + self.offset * self.dtype.itemsize

    @property
    def contiguous(self) -> bool:
        """Whether its elements lie in C order without gaps."""
        step = 1
        for n, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if n != 1 and stride != step:
                return False
            step *= n
        return True

    @property
    def unreadable(self) -> str:
        """Why it cannot be read though nothing is wrong with it; empty if it can."""
        return self.refused or ("" if self.dtype.readable else f"holds {self.dtype.name}, which NumPy does not have")

    def problem(self) -> str:
        """Say why it cannot be read; empty if it can."""
        if self.unreadable:
            return self.unreadable
        room = self.storage.count * self.storage.itemsize // self.dtype.itemsize
        if self.offset + self.span > room:
            return f"reaches element {self.offset + self.span:,} of a storage of {room:,}"
        count = math.prod(self.shape)
        if count > room and count * self.dtype.itemsize > _MOST_REPEATED:
            return f"repeats {self.span:,} stored elements to make {count:,}"
        return ""
