"""Running a Keras model once while every layer's inputs and outputs are noted, in the order in which they compute.

Layers are watched where they are called, and no second model is built: nested, subclassed and shared layers are seen
as they run. A layer's call can be replaced, which is how a likely cause is tried out.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.models.patches import patched
from transferpipe.models.walk import Walked, to_numpy, walk

Override = Callable[[tuple[Any, ...], dict[str, Any]], Any]
"""Stands for a layer's call: takes its arguments, returns its output."""
Adjust = Callable[[tuple[Any, ...]], tuple[Any, ...]]
"""Changes what a layer is called with."""

MASK = "mask"
"""How the arguments end by which Keras hands masks on."""
_DEEPEST = 8  # lists in dicts of arguments
_MOST_CALLS = 8  # a cell is called once a step, a shared layer once a branch


@dataclass(frozen=True)
class InputSpec:
    """One input of a model: its name, shape with None for open sizes (the batch first), and dtype."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True, eq=False)  # tensors have no truth value to compare by
class Call:
    """One call of a layer: its readable name, which call it was, the layer, its arguments and its output.

    `twin` holds a layer like it, and its call, once an experiment has made one.
    """

    name: str
    number: int
    layer: Any = field(repr=False)
    args: tuple[Any, ...] = field(repr=False)
    kwargs: dict[str, Any] = field(repr=False)
    output: Any = field(repr=False)
    twin: list[Any] = field(default_factory=list, repr=False)

    @property
    def label(self) -> str:
        """The layer's name, with the number of a further call."""
        return self.name if self.number == 1 else f"{self.name} (call {self.number})"

    @cached_property
    def value(self) -> NDArray[Any] | None:
        """The output as an array; None where it is several, or no value."""
        return as_array(self.output)

    @cached_property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """All values that the layer was called with, whether alone, in a list or by name; masks are none of them."""
        named = {key: self.kwargs[key] for key in sorted(self.kwargs) if not key.endswith(MASK)}
        return tuple(_arrays((self.args, named), 0))

    @cached_property
    def input(self) -> NDArray[Any] | None:
        """The first argument as an array; None where it is several, or no value."""
        return as_array(self.args[0]) if self.args else None


@dataclass(frozen=True)
class Trace:
    """What one forward pass gave: the model's outputs by name, and the calls of its layers."""

    outputs: Mapping[str, NDArray[Any]]
    calls: tuple[Call, ...] = ()

    @cached_property
    def by_label(self) -> dict[str, Call]:
        """The calls by the layer's name and number."""
        return {call.label: call for call in self.calls}


def _arrays(value: Any, depth: int) -> Iterator[NDArray[Any]]:
    if isinstance(value, Mapping | list | tuple) and depth < _DEEPEST:
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _arrays(part, depth + 1)
    elif (found := as_array(value)) is not None:
        yield found


def as_array(value: Any) -> NDArray[Any] | None:
    """Return a tensor as an array; None where it is a structure of several, or holds no values."""
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, list | tuple | dict) or value is None or not hasattr(value, "shape"):
        return None
    try:
        return to_numpy(value)
    except Exception:  # a tensor of a step that is being compiled has no values
        return None


class _EnoughError(BaseException):
    """Ends a run early; Keras rewrites what is an `Exception`."""


class RefusedError(Exception):
    """A layer raised: the innermost, as a call without an output, and what it raised."""

    def __init__(self, call: Call, error: Exception) -> None:
        super().__init__(str(error))
        self.call, self.error = call, error


class KerasRunner:
    """A Keras model that can be run."""

    framework = "keras"

    def __init__(self, model: Any, label: str, walked: Walked | None = None) -> None:
        self.model, self.label = model, label
        self.walked = walked or walk(model, label)
        # `walked` keeps the layers alive, so that no other object can get the id of one of them.
        self._names = {id(layer): name for name, layer in self.walked.layers.items() if name}

    @cached_property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The inputs; empty for a model that does not say what it takes."""
        import keras

        tensors = getattr(self.model, "inputs", None)
        if not tensors:
            return ()
        names = list(getattr(self.model, "input_names", ()) or ())
        if len(names) != len(tensors):
            names = [tensor.name for tensor in tensors]
        return tuple(
            InputSpec(str(n), tuple(t.shape), str(keras.backend.standardize_dtype(t.dtype)))
            for n, t in zip(names, tensors, strict=True)
        )

    @cached_property
    def built_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """The shapes that a model of a class of the user's own was built for, in the order of Keras's trees.

        Keras notes them of the first argument of its `call` alone.
        """
        shapes = (self.model.get_build_config() or {}).get("input_shape") if not self.inputs else None
        if shapes is not None and _is_shape(shapes):
            return {"input": tuple(shapes)}
        named = shapes if isinstance(shapes, Mapping) else {}
        if isinstance(shapes, list | tuple):
            named = {f"input_{i}": shape for i, shape in enumerate(shapes)}
        found = {str(name): tuple(named[name]) for name in sorted(named) if _is_shape(named[name])}
        return found if len(found) == len(named) else {}

    @cached_property
    def argument_names(self) -> tuple[str, ...]:
        """The names by which a model of a class of the user's own takes several inputs; empty where it has none."""
        if self.inputs:
            return ()
        shapes = (self.model.get_build_config() or {}).get("input_shape")
        if isinstance(shapes, Mapping):
            return tuple(self.built_shapes)
        names = self._positional
        return names if len(names) > 1 else ()

    @cached_property
    def _positional(self) -> tuple[str, ...]:
        parameters = inspect.signature(self.model.call).parameters.values()
        asked = (p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))
        return tuple(p.name for p in asked if p.default is p.empty)

    @property
    def layers(self) -> Mapping[str, Any]:
        """The layers by their readable names."""
        return {name: layer for name, layer in self.walked.layers.items() if name}

    def run(
        self,
        data: Sequence[NDArray[Any]],
        overrides: Mapping[str, Override] | None = None,
        until: str = "",
        adjust: Mapping[str, Adjust] | None = None,
    ) -> Trace:
        """Run the model for inference on `data`, one array an input.

        With `until`, the run ends once the layer of that label has computed; there are then no outputs. `overrides`
        stand for layers, by their names, and `adjust` changes what layers are called with.

        Raises:
            RefusedError: a layer raises.
        """
        import keras

        calls: list[Call] = []
        counts: dict[str, int] = {}
        refused: list[Call] = []

        def refuse(name: str, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            refused.append(Call(name, counts.get(name, 0) + 1, layer, args, kwargs, None))

        def record(name: str, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            counts[name] = counts.get(name, 0) + 1
            if counts[name] <= _MOST_CALLS:
                calls.append(Call(name, counts[name], layer, args, kwargs, output))
                if calls[-1].label == until:
                    raise _EnoughError

        tensors = [keras.ops.convert_to_tensor(array) for array in data]
        try:
            with _watch_calls(self._names, (record, refuse), overrides or {}, adjust or {}):
                outputs = self.model(*self._pack(tensors), training=False)
        except _EnoughError:
            return Trace({}, tuple(calls))
        except Exception as error:
            if not refused:
                raise
            raise RefusedError(refused[0], error) from error  # the innermost is the first to raise
        return Trace(self._name_outputs(outputs), tuple(calls))

    def _pack(self, tensors: list[Any]) -> tuple[Any, ...]:
        """Return the arguments of the model's call."""
        import keras

        if self.inputs:
            alike = self.model.inputs[0] if isinstance(self.model, keras.Sequential) else self.model.input
            return (keras.tree.pack_sequence_as(alike, tensors),)
        if len(self.argument_names) != len(tensors):
            return (tensors[0] if len(tensors) == 1 else tensors,)
        if self.argument_names == self._positional:
            return tuple(tensors)
        return (dict(zip(self.argument_names, tensors, strict=True)),)

    def _name_outputs(self, outputs: Any) -> dict[str, NDArray[Any]]:
        import keras

        flat = keras.tree.flatten(outputs)
        names = list(outputs) if isinstance(outputs, dict) and len(outputs) == len(flat) else []
        names = names or [str(n) for n in getattr(self.model, "output_names", ()) or ()]
        if len(names) != len(flat) or len(set(names)) != len(names):
            names = [f"output_{i}" for i in range(len(flat))] if len(flat) > 1 else ["output"]
        return {name: to_numpy(value) for name, value in zip(names, flat, strict=True)}


@contextlib.contextmanager
def _watch_calls(
    names: Mapping[int, str],
    notes: tuple[Callable[..., None], Callable[..., None]],
    overrides: Mapping[str, Override],
    adjust: Mapping[str, Adjust],
) -> Iterator[None]:
    """Note every call of the layers in `names`, by their identity; other layers of the process are left alone.

    The first of `notes` takes what was computed, the second the call of a layer that raised.
    """
    import keras

    record, refuse = notes

    def call(proceed: Callable[..., Any], layer: Any, /, *args: Any, **kwargs: Any) -> Any:
        name = names.get(id(layer))
        if name is None:
            return proceed(layer, *args, **kwargs)
        if name in adjust:
            args = adjust[name](args)
        replaced = overrides.get(name)
        try:
            output = replaced(args, kwargs) if replaced else proceed(layer, *args, **kwargs)
        except Exception:
            refuse(name, layer, args, kwargs)
            raise
        record(name, layer, args, kwargs, output)
        return output

    with patched(keras.layers.Layer, "__call__", call):
        yield


def describe_error(error: BaseException) -> str:
    """Return what an error says in a line; Keras says on one which layer raised, and on the next, in bold, what."""
    import re

    error = error.error if isinstance(error, RefusedError) else error
    # TensorFlow also says which of its kernels it was, and on which device.
    noise = r"\x1b\[\d+m|\{\{function_node [^}]*\}\}\s*|\s*\[Op:\w+\]( name:)?"
    lines = (re.sub(noise, "", line).strip() for line in str(error).splitlines())
    text = " ".join([line for line in lines if line][:2])
    return f"{type(error).__name__}: {text}"[:300]


def _is_shape(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(n is None or isinstance(n, int) for n in value)


def finite(value: NDArray[Any]) -> bool:
    """Tell whether a value has neither NaN nor infinity; texts and integers have none."""
    # "V" is the kind of bfloat16 and of the float8s, for which NumPy has no `isfinite` of its own.
    return value.dtype.kind not in "fcV" or bool(np.all(np.isfinite(value.astype(np.float64))))
