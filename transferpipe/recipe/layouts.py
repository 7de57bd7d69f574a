"""Which layouts a recipe may name, and where each is.

To add one: a module in ``planning/layouts`` (the docstring of its ``layout.py`` has the steps) and a line in `LAYOUTS`.
A recipe is checked by the names alone; planning loads the object that a plan needs.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

from transferpipe.plugins import PlugInPoint

KERAS, AUTO = "keras", "auto"
_HOME = "transferpipe.planning.layouts"


class LayoutPlace(NamedTuple):
    """Where a layout is, as ``module:class``, and whether files can be written in it."""

    value: str
    is_written: bool = True


LAYOUTS: Mapping[str, LayoutPlace] = {
    KERAS: LayoutPlace(f"{_HOME}.keras:Keras"),
    "torch": LayoutPlace(f"{_HOME}.torch.layout:Torch"),
    "onnx": LayoutPlace(f"{_HOME}.onnx:Onnx", is_written=False),
    "flax": LayoutPlace(f"{_HOME}.flax:Flax"),
    "tflite": LayoutPlace(f"{_HOME}.tflite:Tflite", is_written=False),
}
WRITTEN = tuple(name for name, place in LAYOUTS.items() if place.is_written)


def _check(thing: Any) -> str:
    wanted = ("name", "adapters", "find_counterpart", "names_in")
    is_layout = inspect.isclass(thing) and all(hasattr(thing, attribute) for attribute in wanted)
    return "" if is_layout else "is not a class that inherits transferpipe.planning.layouts.layout.Layout"


OUTSIDE: PlugInPoint[Any] = PlugInPoint("layout", lambda: LAYOUTS, _check)


def is_layout(word: Any) -> bool:
    """Tell whether a recipe may call a layout so."""
    return isinstance(word, str) and (word in LAYOUTS or word in OUTSIDE.names())


def layout_words(word: Any) -> tuple[str, ...]:
    """Return the words of which `word` must be one; packages are only searched for one that is not ours."""
    is_known = word in (None, AUTO) or (isinstance(word, str) and word in LAYOUTS)
    return (*LAYOUTS, *(() if is_known else OUTSIDE.names()))
