"""Transforms: small steps from source values to a target value, each planned by shape before any value is read.

What a transform is stands on its class; here is which there are. To add one: `protocol.py` has the steps.
"""

from __future__ import annotations

import importlib
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from numpy.typing import NDArray

from transferpipe.errors import did_you_mean
from transferpipe.planning.transforms.protocol import NO_GOAL, Goal, Transform, TransformError
from transferpipe.plugins import PlugInPoint

__all__ = [
    "MERGES",
    "NO_GOAL",
    "TRANSFORMS",
    "Goal",
    "Transform",
    "TransformError",
    "apply_chain",
    "fit_chain",
    "goal_before",
    "infer",
    "is_ours",
    "parse_merge",
    "parse_transform",
    "parse_transforms",
]

_Answer = TypeVar("_Answer")


class _Kinds(Mapping[str, type[Transform]]):
    """Classes by the names that recipes call them, each imported when it is asked for: most recipes need a few."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = places

    def __getitem__(self, name: str) -> type[Transform]:
        module, _, kind = self._places[name].partition(":")
        found: type[Transform] = getattr(importlib.import_module(f"{__name__}.{module}"), kind)
        return found

    # Else `Mapping` would import the module to answer.
    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


# What may stand in a rule's `transform`, by name: the module of its family, and the class there.
TRANSFORMS = _Kinds(
    {
        "transpose": "arranging.axes:Transpose",
        "reshape": "arranging.axes:Reshape",
        "slice": "arranging.select:Slice",
        "take": "arranging.select:Take",
        "concat": "arranging.join:Concat",
        "stack": "arranging.join:Stack",
        "same": "arranging.join:Same",
        "split": "arranging.arrange:Split",
        "unstack": "arranging.arrange:Unstack",
        "interleave": "arranging.arrange:Interleave",
        "repeat": "arranging.arrange:Repeat",
        "new_axis": "arranging.arrange:NewAxis",
        "fuse_qkv": "arranging.attention:FuseQkv",
        "unfuse_qkv": "arranging.attention:UnfuseQkv",
        "sum": "computing.reduce:Sum",
        "mean": "computing.reduce:MeanAlong",
        "max": "computing.reduce:Max",
        "weight_norm": "computing.combine:WeightNorm",
        "spectral_norm": "computing.combine:SpectralNorm",
        "pad": "arranging.pad:Pad",
        "cast": "computing.values:Cast",
        "scale": "computing.values:Scale",
        "fill": "computing.values:Fill",
        "identity": "computing.values:Identity",
        "add": "computing.arithmetic:Add",
        "noise": "computing.arithmetic:Noise",
        "normalize": "computing.arithmetic:Normalize",
        "zero": "computing.arithmetic:Zero",
        "flatten_order": "arranging.flatten:FlattenOrder",
        "flip": "arranging.legacy:Flip",
        "from_cudnn": "arranging.legacy:FromCudnn",
        "classes": "resizing.classes:Classes",
        "class_names": "resizing.classes:ClassNames",
        "vocabulary": "resizing.vocabulary:VocabularyRows",
        "fold_batchnorm": "computing.folding:FoldBatchNorm",
        "merge_lora": "computing.lora:MergeLora",
        "dequantize": "computing.dequantize:Dequantize",
        "channels": "resizing.channels:Channels",
        "crop_or_pad": "arranging.pad:CropOrPad",
        "resize": "resizing.resize:Resize",
        "resize_patches": "resizing.resize:ResizePatches",
        "resize_positions": "resizing.positions:ResizePositions",
        "inflate": "resizing.dimensions:Inflate",
        "deflate": "resizing.dimensions:Deflate",
        "units": "arranging.take_units:TakeUnits",
    }
)

# What may stand in a rule's `merge`, likewise.
MERGES = _Kinds(
    {
        "mean": "merging.merge:Mean",
        "linear": "merging.merge:Linear",
        "lerp": "merging.merge:Lerp",
        "slerp": "merging.merge:Slerp",
        "task_arithmetic": "merging.task_vectors:TaskArithmetic",
        "ties": "merging.task_vectors:Ties",
        "breadcrumbs": "merging.task_vectors:Breadcrumbs",
        "dare": "merging.random_drops:Dare",
        "della": "merging.random_drops:Della",
        "model_stock": "merging.task_vectors:ModelStock",
        "fisher": "merging.merge:Fisher",
    }
)


def _check_kind(kind: Any) -> str:
    is_kind = isinstance(kind, type) and issubclass(kind, Transform)
    return "" if is_kind else "is not a class that inherits transferpipe.planning.transforms.Transform"


OUTSIDE: PlugInPoint[type[Transform]] = PlugInPoint("transform", lambda: (*TRANSFORMS, *MERGES), _check_kind)


def parse_transform(data: Any) -> Transform:
    """Return the transform that a recipe writes as ``{name: arguments}``, or as its bare name.

    Raises:
        TransformError: the name or an argument is wrong.

    >>> str(parse_transform({"transpose": [1, 0]}))
    'transpose(1, 0)'
    """
    return _parse("transform", data, TRANSFORMS, "{transpose: [1, 0]}")


def parse_transforms(data: Any) -> tuple[Transform, ...]:
    """Return the transforms of a list, in the order in which they are applied; a single one needs no list.

    Raises:
        TransformError: a name or an argument is wrong.
    """
    if not data and isinstance(data, list | tuple):  # as of most weights
        return ()
    return tuple(parse_transform(item) for item in (data if isinstance(data, list | tuple) else [data]))


def parse_merge(data: Any) -> Transform:
    """Return the merge method that a recipe writes as ``mean`` or ``{linear: [0.3, 0.7]}``.

    Raises:
        TransformError: the name or an argument is wrong.
    """
    return _parse("merge", data, MERGES, "mean or {linear: [0.3, 0.7]}")


def _parse(key: str, data: Any, table: Mapping[str, type[Transform]], example: str) -> Transform:
    name, arguments = next(iter(data.items())) if isinstance(data, Mapping) and len(data) == 1 else (data, None)
    if not isinstance(name, str):
        raise TransformError(f"a {key} is one name with its arguments, not {reprlib.repr(data)}", f"write {example}")
    if name in table:
        return table[name].parse(arguments)
    kind = OUTSIDE.load(name, key) if table is TRANSFORMS else None
    if kind is not None:
        return _parse_outside(name, kind, arguments)
    for other, entries in (("transform", TRANSFORMS), ("merge", MERGES)):
        if name in entries:
            raise TransformError(f"{name} is no {key}, but a {other}", f"write it under {other}:")
    known = (*table, *(OUTSIDE.names() if table is TRANSFORMS else ()))
    near = did_you_mean(name, known)
    raise TransformError(f"there is no {key} {name!r}", near or f"there are {', '.join(known)}")


def _parse_outside(name: str, kind: type[Transform], arguments: Any) -> Transform:
    """Return the transform of a package; whatever it raises of arguments that it does not expect is said of them."""
    try:
        return kind.parse(arguments)
    except TransformError:
        raise
    except Exception as error:
        what = f"{name} does not take {reprlib.repr(arguments)}: {type(error).__name__}: {error}"
        raise TransformError(what, "see the documentation of its package for its arguments") from error


def fit_chain(
    transforms: Sequence[Transform], shapes: Sequence[tuple[int, ...]], goal: Goal = NO_GOAL
) -> tuple[Transform, ...]:
    """Return the steps of a chain with the sizes in them that the recipe left open, for inputs of `shapes`.

    Args:
        transforms: the steps; the first takes all inputs, every other one the result before it.
        shapes: the shapes of the inputs.
        goal: what the chain as a whole works towards.

    Raises:
        TransformError: a transform cannot be applied to its inputs, or several inputs meet none that combines them.
    """
    return tuple(step for step, _ in _fit_steps(transforms, shapes, goal))


def infer(
    transforms: Sequence[Transform],
    shapes: Sequence[tuple[int, ...]],
    dtypes: Sequence[str],
    goal: Goal = NO_GOAL,
) -> tuple[tuple[int, ...], str]:
    """Return shape and dtype of what the chain of `transforms` makes of inputs of `shapes` and `dtypes`.

    The first transform takes all inputs, every other one the result before it.

    Raises:
        TransformError: a transform cannot be applied to its inputs, or several inputs meet none that combines them.
    """
    for step, shape in _fit_steps(transforms, shapes, goal):
        dtypes = (_guard_answer(step, step.dtype, dtypes),)
        shapes = (shape,)
    return tuple(shapes[0]), dtypes[0]


def goal_before(transforms: Sequence[Transform], goal: Goal) -> Goal:
    """Return what the steps before `transforms` work towards, where those work towards `goal`."""
    if not transforms:
        return goal
    shape = goal.shape
    for step in reversed(transforms):
        shape = None if shape is None else _guard_answer(step, step.shape_before, shape)
    return replace(goal, shape=shape)


def _fit_steps(
    transforms: Sequence[Transform], shapes: Sequence[tuple[int, ...]], goal: Goal
) -> Iterator[tuple[Transform, tuple[int, ...]]]:
    """Yield every step of a chain, fitted, with the shape of its result."""
    _check_count(transforms, len(shapes))
    for k, transform in enumerate(transforms, 1):
        step = _guard_answer(transform, transform.fit, shapes, goal_before(transforms[k:], goal))
        shapes = (_guard_answer(step, step.shape, shapes),)
        yield step, tuple(shapes[0])


def _guard_answer(transform: Transform, ask: Callable[..., _Answer], *given: Any) -> _Answer:
    """Return the answer of a transform; what one of a package raises without meaning to is said of it."""
    try:
        return ask(*given)
    except TransformError:
        raise
    except Exception as error:
        if is_ours(transform):
            raise  # a fault of this package must not look like one of the recipe
        what = f"{transform} failed on shapes {given[0]}: {type(error).__name__}: {error}"
        raise TransformError(what, "report it to the package that adds it") from error


def is_ours(transform: Transform) -> bool:
    """Tell whether a transform is one of the tables here, which tests hold to what they say."""
    return type(transform).__module__.startswith(f"{__name__}.")


def apply_chain(transforms: Sequence[Transform], arrays: Sequence[NDArray[Any]], goal: Goal = NO_GOAL) -> NDArray[Any]:
    """Return what the chain makes of `arrays`, whose shapes and dtypes `infer` has accepted.

    The result may be one of the arrays, or a view of it: the caller must not write into it.
    """
    _check_count(transforms, len(arrays))
    for k, transform in enumerate(transforms, 1):
        arrays = (transform(*arrays, goal=goal_before(transforms[k:], goal)),)
    return arrays[0]


def _check_count(transforms: Sequence[Transform], inputs: int) -> None:
    if inputs > 1 and not (transforms and transforms[0].several):
        what = f"{transforms[0]} takes one input" if transforms else "nothing combines the inputs"
        fix = "begin with concat or stack, set `merge`, or name one source"
        raise TransformError(f"{what}, but there are {inputs}", fix)
