"""ONNX: torch's exporter keeps the names of modules, and the graph tells the axes weight by weight."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any, ClassVar

from transferpipe.planning.layouts.adapter import Adapted, Adapters, Shape
from transferpipe.planning.layouts.onnx_recurrent import onnx_cell
from transferpipe.planning.layouts.torch.layout import ADAPTERS, Torch
from transferpipe.planning.model import Assignment, PlanWarning
from transferpipe.planning.structure import TargetStructure
from transferpipe.weights.framework_settings import is_padded_evenly
from transferpipe.weights.network import Node


def _slope(sources: Sequence[Shape], target: Shape) -> tuple[Any, ...]:
    """From one number a channel, with ones behind it for the places, or from one a place, to channels last.

    ``PRelu`` broadcasts its slope like NumPy: https://onnx.ai/onnx/operators/onnx__PRelu.html.
    """
    slope, of_samples = sources[0], len(sources[0]) - len(target)
    if of_samples == 1 and slope[0] == 1:  # an axis for the samples in front
        slope = slope[1:]
        return {"reshape": list(slope)}, *_slope([slope], target)
    if math.prod(slope[1:]) == 1:
        alike = [*(1,) * (len(target) - 1), *slope[:1]]
        return ({"reshape": alike},) if tuple(alike) != slope else ()
    return ({"transpose": [*range(1, len(slope)), 0]},)


def _slope_back(target: Shape) -> tuple[Any, ...]:
    places = len(target) - 1
    if math.prod(target[:-1]) == 1:
        return ({"reshape": [target[-1], *(1,) * places]},) if places else ()
    return ({"transpose": [places, *range(places)]},)


class Onnx(Torch):
    """The layout of ONNX's operators under the names of torch's modules."""

    name: ClassVar[str] = "onnx"
    framework: ClassVar[str] = "ONNX"
    adapters: ClassVar[Adapters] = {**ADAPTERS, "PReLU": {"alpha": (Adapted(("weight",), _slope, (_slope_back,)),)}}
    label: ClassVar[str] = " (axes by its graph)"
    formats: ClassVar[tuple[str, ...]] = ("onnx",)
    tag: ClassVar[str | None] = None
    has_graph: ClassVar[bool] = True
    resets_after: ClassVar[bool] = False  # it has both kinds of GRU

    def may_hold(self, keys: Collection[str]) -> bool:
        """See `Layout`. Names are whatever the exporter made of them."""
        return True

    def owns(self, keys: Collection[str]) -> bool:
        """See `Layout`. No file of named tensors is ONNX."""
        return False

    def is_padded_evenly(self, node: Node | None) -> bool:
        """See `Layout`."""
        return node is not None and is_padded_evenly(node.settings)

    def find_cell(self, kind: str, own_name: str, inside: str = "", direction: int = 0) -> tuple[Adapted, ...]:
        """See `Torch`."""
        return onnx_cell(kind, own_name, inside, direction)

    def lint_untaken(self, a: Assignment, target: TargetStructure) -> Iterable[PlanWarning]:
        """See `Layout`. Torch's layout has said it."""
        return ()
