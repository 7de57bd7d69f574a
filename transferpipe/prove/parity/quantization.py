"""How far quantization alone moves what a model computes: measured, by moving every integer within its rounding.

An integer stands for whatever was rounded to it, up to half a step away: an error that is uniform over one step has a
variance of 1/12 of its square. A move by one whole step that one integer in twelve makes has the same variance and
stays an integer, so the model runs as it is, in whatever way Keras computes with such weights: no float twin of a
class is needed. Activations that are rounded on the way are moved in the same way.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.models.walk import to_numpy
from transferpipe.prove.parity.keras_trace import Adjust, KerasRunner, Trace, describe_error
from transferpipe.weights.name import WeightName

Move = Callable[[NDArray[Any], np.random.Generator], NDArray[Any]]
"""Takes values of a weight, returns others that would have been rounded to the same."""

_DRAWS = 4
# An error is one more draw: below six standard deviations, or below twice the largest of all draws where few rows
# have most of the error.
_DEVIATIONS, _LARGEST = 6.0, 2.0
_FLOAT8 = 2.0**-4  # half a unit of three bits behind the point
LEVELS = {"int8": 127, "uint8": 127, "int4": 7, "uint4": 7}
"""Steps between zero and the largest weight."""
_BYTE = 255  # steps of an activation in eight bits


class NotMeasuredError(Exception):
    """A quantized model that does not run with moved integers; how far quantization moves it is not known."""


@dataclass(frozen=True)
class Rounded:
    """What is rounded on the way to an output, beside the quantized layers of Keras's own.

    Attributes:
        weights: for weights of the model that are floats, how many steps lie between zero and the largest.
        activations: whether the original rounds what goes into a layer with a kernel.
    """

    weights: Mapping[str, int] = field(default_factory=dict)
    activations: bool = False


@dataclass(frozen=True)
class _Part:
    """One layer whose numbers are rounded: its variables, and what moves them and what goes into it."""

    name: str
    layer: Any
    weights: tuple[tuple[Any, Move], ...] = ()
    adjust: Callable[[np.random.Generator], Adjust] | None = None


def find_quantized_layers(runner: KerasRunner) -> dict[str, tuple[Any, ...]]:
    """Return the layers that Keras quantized, and how: two of the same round the same numbers in the same way."""
    found = {}
    for name, layer in runner.layers.items():
        if mode := getattr(layer, "quantization_mode", None):
            shapes = tuple((v.name, tuple(v.shape)) for v in _integers(layer))
            found[name] = (str(mode), type(layer).__name__, shapes)
    return found


def measure_rounding(
    runner: KerasRunner,
    data: Sequence[NDArray[Any]],
    trace: Trace,
    layers: Collection[str],
    rounded: Rounded | None = None,
) -> dict[str, float]:
    """Return how far rounding may move each output and each layer's output, by label; empty if nothing is rounded.

    Args:
        runner: runs the model; its weights are moved and put back.
        data: the inputs.
        trace: what it computes of them.
        layers: its quantized layers that count.
        rounded: what else is rounded.

    Raises:
        NotMeasuredError: it does not run with moved numbers.
    """
    # Layers that Keras quantized by their integers; what the original rounds and Keras keeps as floats by steps of
    # theirs.
    parts = [_make_part(name, runner.layers[name]) for name in layers]
    parts += _floats(runner, rounded or Rounded(), set(layers))
    if not parts:
        return {}
    # The same draws in every run: a verdict may not depend on chance.
    random = np.random.default_rng(0)
    squares: dict[str, list[float]] = {}
    try:
        for _ in range(_DRAWS):
            with _move_numbers(parts, random):
                # Made anew for each draw: every call moves what goes into it by itself.
                adjust = {p.name: p.adjust(random) for p in parts if p.adjust}
                other = runner.run(data, adjust=adjust)
            for label, off in _differences(trace, other):
                squares.setdefault(label, []).append(float(np.mean(off**2)))
                # The largest errors go by the label and a NUL, which no layer's name holds.
                squares.setdefault(f"{label}\0", []).append(float(np.max(off)))
    except Exception as error:
        raise NotMeasuredError(describe_error(error)) from error
    return {
        label: max(_DEVIATIONS * float(np.sqrt(np.mean(found))), _LARGEST * max(squares[f"{label}\0"]))
        for label, found in squares.items()
        if not label.endswith("\0")
    }


def _differences(trace: Trace, other: Trace) -> Iterator[tuple[str, NDArray[np.float64]]]:
    values = {**{n: c.value for n, c in trace.by_label.items()}, **trace.outputs}
    others = {**{n: c.value for n, c in other.by_label.items()}, **other.outputs}
    for label, value in values.items():
        moved = others.get(label)
        if value is None or moved is None or value.dtype.kind not in "fV" or value.shape != moved.shape:
            continue
        if value.size:
            yield label, np.abs(value.astype(np.float64) - moved.astype(np.float64))


def _integers(layer: Any) -> list[Any]:
    """Return the variables that hold a layer's quantized weights: not the zero points of their groups."""
    import keras

    dtypes = [(v, keras.backend.standardize_dtype(v.dtype)) for v in layer.variables]
    return [v for v, d in dtypes if d in ("int8", "uint8") and len(v.shape) > 1 and "zero" not in v.name]


def _make_part(name: str, layer: Any) -> _Part:
    mode = str(layer.quantization_mode)
    if mode == "float8":
        kernels = tuple((v, _move_short) for v in layer.variables if len(v.shape) > 1)
        return _Part(
            name, layer, kernels, lambda random: partial(_adjust_arguments, partial(_move_short, random=random))
        )
    # The policy of GPTQ is called gptq/BITS/GROUP.
    packed = mode in ("int4", "awq") or "gptq/4/" in str(layer.dtype_policy.name)
    return _Part(name, layer, tuple((v, _move_halves if packed else _move_integers) for v in _integers(layer)))


def _floats(runner: KerasRunner, rounded: Rounded, without: set[str]) -> list[_Part]:
    """Return the layers of floats that stand for integers, or take what the original rounds."""
    import keras

    by_layer: dict[str, list[tuple[Any, Move]]] = {}
    for name, value in runner.walked.values.items():
        layer = WeightName(name).layer
        if layer in without or layer not in runner.layers or not isinstance(value, keras.Variable):
            continue
        # Vectors, such as biases and scales, are kept in more bits than kernels.
        if len(value.shape) < 2 or "float" not in keras.backend.standardize_dtype(value.dtype):
            continue
        if name in rounded.weights:
            # Keras scales a table row by row, and every other kernel channel by channel.
            axes = (-1,) if "Embedding" in type(runner.layers[layer]).__name__ else tuple(range(len(value.shape) - 1))
            moved = partial(_move_steps, axes=axes, levels=rounded.weights[name])
            by_layer.setdefault(layer, []).append((value, moved))
        elif rounded.activations:
            by_layer.setdefault(layer, [])
    adjust = (
        (lambda random: partial(_adjust_arguments, partial(_move_bytes, random=random)))
        if rounded.activations
        else None
    )
    return [_Part(name, runner.layers[name], tuple(found), adjust) for name, found in by_layer.items()]


@contextlib.contextmanager
def _move_numbers(parts: Sequence[_Part], random: np.random.Generator) -> Iterator[None]:
    """Move the numbers of the layers, and what their quantizers round; afterwards they are what they were."""
    # Read before the first is moved, so that all can be put back whatever fails.
    old = [(variable, to_numpy(variable), move) for part in parts for variable, move in part.weights]
    quantizers = [(p.layer, q) for p in parts if (q := getattr(p.layer, "inputs_quantizer", None)) is not None]
    try:
        for variable, value, move in old:
            variable.assign(move(value, random))
        for layer, quantizer in quantizers:
            layer.inputs_quantizer = partial(_moving, quantizer, random)
        yield
    finally:
        for variable, value, _ in old:
            variable.assign(value)
        for layer, quantizer in quantizers:
            layer.inputs_quantizer = quantizer


def _moving(quantizer: Any, random: np.random.Generator, x: Any, *args: Any, **kwargs: Any) -> Any:
    """Stand for a quantizer of activations."""
    import keras

    values, scale = quantizer(x, *args, **kwargs)
    return keras.ops.convert_to_tensor(_move_integers(to_numpy(values), random)), scale


def _adjust_arguments(move: Callable[[NDArray[Any]], NDArray[Any]], args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a call's arguments with the first one moved, if it holds floats."""
    import keras

    # Whole numbers, as of tokens, are not rounded.
    if not args or not hasattr(args[0], "dtype") or "float" not in keras.backend.standardize_dtype(args[0].dtype):
        return args
    return keras.ops.convert_to_tensor(move(to_numpy(args[0])), dtype=args[0].dtype), *args[1:]


def _steps(shape: tuple[int, ...], random: np.random.Generator) -> NDArray[np.int32]:
    """Return a step up or down for one number in twelve."""
    # Two of 24, one up and one down: together one in twelve, and no drift.
    drawn = random.integers(0, 24, shape)
    return np.where(drawn == 0, 1, np.where(drawn == 1, -1, 0)).astype(np.int32)


def _move_integers(value: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    ends = np.iinfo(value.dtype)
    moved: NDArray[Any] = np.clip(value.astype(np.int32) + _steps(value.shape, random), ends.min, ends.max)
    return moved.astype(value.dtype)


def _move_halves(value: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    """Move both halves of bytes that hold two numbers each, the first in the lower bits."""
    signed = 8 if value.dtype == np.int8 else 0
    byte = value.view(np.uint8).astype(np.int32)
    # From 8 on, four bits stand for -8 to -1 (two's complement).
    halves = [((byte >> shift & 15) ^ signed) - signed for shift in (0, 4)]
    low, high = (np.clip(h + _steps(h.shape, random), -signed, 15 - signed) & 15 for h in halves)
    joined: NDArray[np.uint8] = (low | high << 4).astype(np.uint8)
    return joined.view(value.dtype)


def _move_short(value: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    wide: NDArray[np.float64] = value.astype(np.float64)
    # Floats of eight bits are as exact as they are small: the move is relative.
    moved: NDArray[np.float64] = wide * (1 + random.uniform(-_FLOAT8, _FLOAT8, value.shape))
    return moved.astype(value.dtype)


def _move_steps(value: NDArray[Any], random: np.random.Generator, axes: tuple[int, ...], levels: int) -> NDArray[Any]:
    wide: NDArray[np.float64] = value.astype(np.float64)
    step = np.max(np.abs(wide), axis=axes, keepdims=True, initial=0.0) / levels
    moved: NDArray[np.float64] = wide + random.uniform(-0.5, 0.5, value.shape) * step
    return moved.astype(value.dtype)


def _move_bytes(value: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    wide: NDArray[np.float64] = value.astype(np.float64)
    step = (np.max(wide, initial=0.0) - np.min(wide, initial=0.0)) / _BYTE
    moved: NDArray[np.float64] = wide + random.uniform(-0.5, 0.5, value.shape) * step
    return moved.astype(value.dtype)
