"""The weight that a tensor of an ONNX file is, of all the ways in which nodes take it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transferpipe.weights.formats.onnx.steps import Shape, TensorStep
from transferpipe.weights.formats.onnx.uses.use import COMPUTED, Use
from transferpipe.weights.spec import IN_OUT, OUT_IN, Axes


@dataclass(frozen=True)
class Weight:
    """A tensor of the file as the weight that it is.

    Attributes:
        shape: its shape.
        dtype: its dtype.
        axes: how its axes are arranged, where the nodes that take it agree on that.
        steps: what is to be done to the tensor of the file; empty where that is the weight itself.
        unreadable: why what the graph makes of it cannot be computed here; empty if it can.
        computed: what the graph computes of it, as `Mul(w, s)`, where an operator takes that instead.
    """

    shape: Shape
    dtype: str
    axes: Axes | None = None
    steps: tuple[TensorStep, ...] = ()
    unreadable: str = ""
    computed: str = ""


def weight_of(shape: Shape, dtype: str, uses: Sequence[Use]) -> Weight:
    """Return the weight that a tensor is.

    A matrix that is only transposed stays as it lies in the file, and what is said of its axes is turned. Where nodes
    take a tensor in several ways it stays as it is, but for the rounding that all of them take it through; where they
    disagree about axes nothing is said of these.
    """
    if reason := next((r for use in uses if (r := _unreadable(use.steps))), ""):
        return Weight(shape, dtype, unreadable=reason)
    if computed := next((s.data[0] for use in uses for s in use.steps if s.kind == COMPUTED), ""):
        found = {_turn_axes(use.axes, [s for s in use.steps if s.kind != COMPUTED]) for use in uses if use.axes}
        return Weight(shape, dtype, found.pop() if len(found) == 1 else None, computed=computed)
    ways = {(use.steps, use.shape) for use in uses}
    if len(ways) != 1 or (all(s.kind == "transpose" for steps, _ in ways for s in steps) and len(shape) == 2):
        rounding = _find_shared_rounding([use.steps for use in uses])
        axes = {_turn_axes(use.axes, use.steps[len(rounding) :]) for use in uses if use.axes}
        return Weight(shape, _dtype_after(rounding, dtype), axes.pop() if len(axes) == 1 else None, rounding)
    ((steps, there),) = ways
    axes = {use.axes for use in uses if use.axes}
    if any(not step.data[0].scale for step in steps if step.kind == "dequantize"):
        return Weight(shape, dtype)
    return Weight(there, _dtype_after(steps, dtype), axes.pop() if len(axes) == 1 else None, steps)


def _unreadable(steps: Sequence[TensorStep]) -> str:
    """Return why a rounding of the graph cannot be done here; empty if it can, or there is none."""
    kinds = [step.kind for step in steps]
    if "quantize" not in kinds:
        return ""
    last = max(i for i, kind in enumerate(kinds) if kind == "quantize")
    if "dequantize" not in kinds[last:]:
        return "is rounded in the graph (QuantizeLinear) and taken as whole numbers"
    levels = [step.data[0] for step in steps if step.kind in ("quantize", "dequantize")]
    if any(each.scale is None for each in levels):
        return "is rounded in the graph (QuantizeLinear) by scales or zero points that are not numbers of the file"
    if any(not step.data[0].dtype for step in steps if step.kind == "quantize"):
        return "is rounded in the graph (QuantizeLinear) to numbers of another kind than int4, int8 or int16"
    return ""


def _find_shared_rounding(ways: Sequence[tuple[TensorStep, ...]]) -> tuple[TensorStep, ...]:
    """Return the steps that round a tensor before the ways to its nodes part; a tied table is taken in two ways."""
    shared: list[TensorStep] = []
    for steps in zip(*ways, strict=False):
        if len(set(steps)) > 1 or steps[0].kind not in ("quantize", "clip", "dequantize"):
            break
        shared.append(steps[0])
    whole = [i for i, step in enumerate(shared, 1) if step.kind == "dequantize" and step.data[0].scale]
    return tuple(shared[: whole[-1]]) if whole else ()


def _dtype_after(steps: Sequence[TensorStep], dtype: str) -> str:
    return next((step.data[0].scale.dtype for step in reversed(steps) if step.kind == "dequantize"), dtype)


def _turn_axes(axes: Axes | None, steps: Sequence[TensorStep]) -> Axes | None:
    turns = sum(step.kind == "transpose" and step.data == (1, 0) for step in steps)
    turned: dict[Axes | None, Axes] = {IN_OUT: OUT_IN, OUT_IN: IN_OUT}
    if any(step.kind not in ("transpose", "slice") for step in steps):
        return None
    return turned.get(axes, axes) if turns % 2 else axes
