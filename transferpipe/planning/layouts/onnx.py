"""ONNX: torch's exporter keeps the names of modules, and the graph tells the axes weight by weight."""

from __future__ import annotations

from typing import ClassVar

from transferpipe.planning.layouts.adapter import Adapted
from transferpipe.planning.layouts.onnx_recurrent import onnx_cell
from transferpipe.planning.layouts.torch import Torch


class Onnx(Torch):
    """The layout of ONNX's operators under the names of torch's modules."""

    name: ClassVar[str] = "onnx"
    label: ClassVar[str] = " (axes by its graph)"
    formats: ClassVar[tuple[str, ...]] = ("onnx",)
    tag: ClassVar[str | None] = None

    def find_cell(self, kind: str, own_name: str, inside: str = "", direction: int = 0) -> tuple[Adapted, ...]:
        """See `Torch`."""
        return onnx_cell(kind, own_name, inside, direction)
