"""One source beside the target while their settings are compared: what is found, and when two values are the same."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from transferpipe.planning.lint.arrangement import Arrangement
from transferpipe.planning.lint.settings_paired import ComparedPair
from transferpipe.planning.model import SettingDifference
from transferpipe.weights.keras.layer_settings import LayerFunction
from transferpipe.weights.keras.setting_values import LINEAR, UNKNOWN_AXIS


@dataclass
class ComparedSides:
    """One source and the target, and the differences between them so far.

    Attributes:
        alias: the source's name.
        source: its network.
        target: the target's.
        pairs: the layers that the plan pairs, by their names on both sides.
        found: the differences.
    """

    alias: str
    source: Arrangement
    target: Arrangement
    pairs: Mapping[tuple[str, str], ComparedPair]
    found: list[SettingDifference] = field(default_factory=list)

    def add_difference(self, pair: ComparedPair, setting: str, one: Any, two: Any) -> None:
        """Note that a setting of two layers, or what stands before them, is one thing here and another there."""
        words = in_words(one), in_words(two)
        self.found.append(SettingDifference(pair.rule, self.alias, pair.source, pair.target, setting, *words))

    def compare_activations(self, pair: ComparedPair, one: tuple[str | None, ...], two: tuple[str | None, ...]) -> None:
        """Compare what two layers do to their outputs, activation by activation."""
        one, two = _without_repeats(one), _without_repeats(two)
        if UNKNOWN_AXIS in (*one, *two):  # along whichever axis
            one, two = (tuple(name and name.partition("(axis=")[0] for name in names) for names in (one, two))
        if one != two and None not in (*one, *two):
            self.add_difference(
                pair, "activation", " + ".join(map(str, one)) or LINEAR, " + ".join(map(str, two)) or LINEAR
            )


def _without_repeats(activations: tuple[str | None, ...]) -> tuple[str | None, ...]:
    """Return activations without those that change nothing behind the one before: a ReLU behind a ReLU."""
    found: list[str | None] = []
    for name in activations:
        if not (found and name == found[-1] and (name or "").startswith("relu")):
            found.append(name)
    return tuple(found)


def input_shape(side: Arrangement, name: str) -> tuple[int | None, ...]:
    """Return the shape of a node's only input; () where it has several, or the shape is not known."""
    shapes = side.network.by_name[name].input_shapes
    return shapes[0] if len(shapes) == 1 else ()


def same_value(one: Any, two: Any) -> bool:
    """Tell whether two values of a setting are the same; numbers may have gone through float32."""
    if isinstance(one, tuple) and isinstance(two, tuple):
        return len(one) == len(two) and all(same_value(a, b) for a, b in zip(one, two, strict=True))
    if isinstance(one, int | float) and isinstance(two, int | float):
        # float32 is exact to 6e-8, and no two settings that people choose are as near as 1e-5.
        return one == two or math.isclose(one, two, rel_tol=1e-5)
    return bool(one == two)


def cuts_patches(function: LayerFunction) -> bool:
    """Tell whether a convolution cuts its input into patches, so that its strides follow from its kernel."""
    size = function.settings.get("kernel_size")
    return size is not None and size == function.settings.get("strides")


def without_rank(kind: str) -> str:
    """Return the name of a class without its dimensions: MaxPooling2D is to images what MaxPooling3D is to videos."""
    return re.sub(r"[123]D$", "", kind)


def same_step(key: str, one: Any, two: Any, of_other_rank: bool) -> bool:
    """Tell whether a setting of two layers between others means the same, whatever the size of the input.

    Where one layer has a dimension more, such as time, the dimensions that both have are the last ones.
    """
    if not (isinstance(one, tuple) and isinstance(two, tuple)):
        return same_value(one, two)
    if key == "target_shape" and len(one) == len(two) and all(type(n) is int and n != -1 for n in (*one, *two)):
        # Other numbers of values come from an input of another size.
        return one[-1:] == two[-1:] if math.prod(one) != math.prod(two) else one == two
    shared = min(len(one), len(two)) if of_other_rank else max(len(one), len(two))
    return same_value(one[-shared:], two[-shared:])


def in_words(value: Any) -> str:
    """Return a value as a message shows it."""
    text = value if isinstance(value, str) else f"{value:.6g}" if type(value) is float else str(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
