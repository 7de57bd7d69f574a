"""Which layouts there are, and finding what one of them has for a weight of the target."""

from __future__ import annotations

from collections.abc import Mapping

from transferpipe.planning.layouts.flax import Flax
from transferpipe.planning.layouts.keras import Keras
from transferpipe.planning.layouts.layout import Counterpart, Layout, joined
from transferpipe.planning.layouts.onnx import Onnx
from transferpipe.planning.layouts.torch import Torch
from transferpipe.planning.structure import TargetStructure

__all__ = ["LAYOUTS", "Counterpart", "find_counterpart", "joined"]

LAYOUTS: Mapping[str, Layout] = {layout.name: layout for layout in (Keras(), Torch(), Onnx(), Flax())}


def find_counterpart(layout: str, weight: str, target: TargetStructure) -> Counterpart | None:
    """Return what `layout` has for the target weight called `weight`; None if it is taken as it is."""
    return LAYOUTS[layout].find_counterpart(weight, target)
