"""Which part of a tensor a Slice or a Split gives.

https://onnx.ai/onnx/operators/onnx__Slice.html, ``onnx__Split.html``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from transferpipe.weights.formats.onnx.graph import GraphNode

Shape = tuple[int, ...]
Cut = tuple[tuple[int, int | None, int], ...]
"""Begin, end and step along each axis, as a Python slice has them."""
Numbers = Mapping[str, tuple[int | float, ...]]


def find_cuts(node: GraphNode, shape: Shape, numbers: Numbers) -> dict[str, tuple[Cut, Shape]]:
    """Return what each output of a Slice or Split is of a tensor, and its shape; nothing where that is not known."""
    if node.op == "Slice":
        given = [_given(node, key, place, numbers) for place, key in enumerate(("starts", "ends", "axes", "steps"), 1)]
        cut = _slice(shape, given)
        return {node.output: (cut, _size(cut, shape))} if cut else {}
    sizes, axis = _given(node, "split", 1, numbers), node.attributes.get("axis", 0)
    if not isinstance(axis, int) or not -len(shape) <= axis < len(shape):
        return {}
    if sizes is None:
        part = -(-shape[axis] // len(node.outputs))
        sizes = [min(part, shape[axis] - i * part) for i in range(len(node.outputs))]
    if len(sizes) != len(node.outputs) or min(sizes) < 0 or sum(sizes) != shape[axis]:
        return {}
    found, begin = {}, 0
    for output, size in zip(node.outputs, sizes, strict=True):
        cut = _slice(shape, [[begin], [begin + size], [axis], [1]])
        begin += size
        if output and cut:
            found[output] = (cut, _size(cut, shape))
    return found


def is_turned(cut: Cut) -> bool:
    """Tell whether a part has its places in another order than the whole."""
    return any(step != 1 for _, _, step in cut)


def _given(node: GraphNode, key: str, place: int, numbers: Numbers) -> list[int] | None:
    """Return what an attribute says, or since later versions of the operator an input; None if neither is given."""
    found = node.attributes.get(key)
    if found is None and len(node.inputs) > place and node.inputs[place]:
        found = numbers.get(node.inputs[place], ("computed",))
    if found is None:
        return None
    numbers_of = found if isinstance(found, tuple | list) else (found,)
    return [n if type(n) is int else _UNKNOWN for n in numbers_of]


# What no place is; a computed bound is one that nobody knows.
_UNKNOWN = -(1 << 70)


def _slice(shape: Shape, bounds: Sequence[list[int] | None]) -> Cut:
    starts, ends, axes, steps = bounds
    if starts is None or ends is None:
        return ()
    axes = axes if axes is not None else list(range(len(starts)))
    steps = steps if steps is not None else [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or _UNKNOWN in (*starts, *ends, *axes, *steps):
        return ()
    if any(not -len(shape) <= axis < len(shape) for axis in axes) or 0 in steps:
        return ()
    cut: list[tuple[int, int | None, int]] = [(0, size, 1) for size in shape]
    for axis, *ends_of in zip(axes, starts, ends, steps, strict=True):
        begin, end, step = slice(*ends_of).indices(shape[axis])
        cut[axis] = (begin, end if end >= 0 else None, step)
    return tuple(cut)


def _size(cut: Cut, shape: Shape) -> Shape:
    return tuple(len(range(*slice(*bounds).indices(size))) for bounds, size in zip(cut, shape, strict=True))
