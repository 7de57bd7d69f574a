"""Transforms that Keras 2 made while it loaded a file: flip and from_cudnn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from transferpipe.planning.transforms.arguments import parse_integer, parse_integers, parse_named
from transferpipe.planning.transforms.checks import find_axis
from transferpipe.planning.transforms.protocol import PartialShape, Transform, TransformError
from transferpipe.weights.keras.layer_classes import GATES

_FLIP, _FROM_CUDNN = "{flip: [0, 1]}", "{from_cudnn: {part: kernel, gates: 4}}"
_PARTS = ("kernel", "recurrent_kernel", "bias")
_CELLS = {gates: name for name, gates in GATES.items() if gates > 1}  # those that cuDNN has fused kernels of


@dataclass(frozen=True, slots=True)
class Flip(Transform):
    """Reverse the order along `axes`, as `numpy.flip` does.

    Theano's convolutions run through their kernel backwards; Keras 2 flipped the spatial axes of such a file
    (``keras/utils/conv_utils.py``, ``convert_kernel``).

    Example: ``{to: conv, from: theano, transform: [{flip: [0, 1]}]}``, (3, 3, 4, 8) to (3, 3, 4, 8).
    """

    axes: tuple[int, ...]
    name: ClassVar[str] = "flip"
    arguments: ClassVar[tuple[str, ...]] = ()
    permutes: ClassVar[bool] = True
    computes: ClassVar[bool] = False
    reorders: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``flip: [0, 1]``."""
        return cls(parse_integers("the axes of flip", data, _FLIP))

    def __post_init__(self) -> None:
        if not self.axes:
            raise TransformError(f"{self} reverses nothing", f"list at least one axis: {_FLIP}")

    def __str__(self) -> str:
        return f"flip({', '.join(map(str, self.axes))})"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        (shape,) = shapes
        # Flipping an axis twice would undo it.
        if len({find_axis(self, axis, shape) for axis in self.axes}) < len(self.axes):
            raise TransformError(f"{self} names an axis twice", "name every axis once")
        return shape

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        return np.flip(arrays[0], self.axes)

    def shape_before(self, after: PartialShape) -> PartialShape | None:  # whatever the axes
        """See `Transform`."""
        return after

    def reverse(self, shape: tuple[int, ...]) -> tuple[Transform, ...] | None:  # whatever the shape
        """See `Transform`."""
        return (self,)


@dataclass(frozen=True, slots=True)
class FromCudnn(Transform):
    """Turn a weight of a CuDNNGRU or CuDNNLSTM into that of a GRU with ``reset_after=True``, or of an LSTM.

    As Keras 2 did (``keras/engine/saving.py``, ``_convert_rnn_weights``): cuDNN keeps every gate of both kernels
    transposed, the input kernel's in the other order of memory, and adds two biases where an LSTM has one.

    Example: ``{to: bias, from: cudnn, transform: [{from_cudnn: {part: bias, gates: 4}}]}``, (64,) to (32,).

    Attributes:
        part: ``kernel``, ``recurrent_kernel`` or ``bias``.
        gates: 3 for a GRU, 4 for an LSTM.
    """

    part: str
    gates: int
    name: ClassVar[str] = "from_cudnn"
    arguments: ClassVar[tuple[str, ...]] = ("part", "gates")
    reorders: ClassVar[bool] = True

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Return the transform for ``from_cudnn: {part: kernel, gates: 4}``."""
        given = parse_named("from_cudnn", data, _FROM_CUDNN, cls.arguments, cls.arguments)
        gates = parse_integer("gates", given["gates"], _FROM_CUDNN)
        if given["part"] not in _PARTS or gates not in _CELLS:
            what = f"from_cudnn has no part {given['part']!r} of {gates} gates"
            raise TransformError(what, f"parts are {', '.join(_PARTS)}; an LSTM has 4 gates, a GRU 3")
        return cls(given["part"], gates)

    def __str__(self) -> str:
        return f"from_cudnn({self.part}, gates={self.gates})"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """See `Transform`."""
        (shape,) = shapes
        columns = shape[-1] if shape else 0
        rank, parts = (1, 2 * self.gates) if self.part == "bias" else (2, self.gates)
        # Each gate of a recurrent kernel is a square, from units to units.
        square = self.part != "recurrent_kernel" or shape[:1] == (columns // self.gates,)
        if len(shape) != rank or columns % parts or not square:
            what = f"{self}: no {self.part} of a CuDNN{_CELLS[self.gates]} has shape {shape}"
            raise TransformError(what, "give it to the weights of such a layer only")
        if self.part != "bias":
            return shape
        return (columns // 2,) if _CELLS[self.gates] == "LSTM" else (2, columns // 2)

    def apply(self, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """See `Transform`."""
        (array,) = arrays
        if self.part == "bias":
            both = array.reshape(2, -1)
            # cuDNN adds a bias to each of the two products. An LSTM can have their sum; a GRU resets one of them, and
            # needs both.
            return both[0] + both[1] if _CELLS[self.gates] == "LSTM" else both
        gates = np.split(array, self.gates, axis=1)
        if self.part == "recurrent_kernel":
            return np.concatenate([gate.T for gate in gates], axis=1)
        return np.concatenate([gate.T.reshape(gate.shape, order="F") for gate in gates], axis=1)
