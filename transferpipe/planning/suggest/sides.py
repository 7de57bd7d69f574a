"""What a mapping is wanted between."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from transferpipe.planning.structure import TargetStructure
from transferpipe.weights.spec import Catalog

NOT_WRITTEN = "not written"
"""What a weight is that no tensor is paired with where weights go into tensors."""

Statistics = Callable[[str], tuple[float, ...] | None]
"""Called with a weight's name; returns mean, spread, least and largest value, or None where they say nothing."""


@dataclass(frozen=True)
class Sides:
    """What a mapping is wanted between.

    Attributes:
        source: the catalog of the source.
        target: the structure of the target.
        layout: how names and axes are arranged in the source.
        origins: what stands in a recipe under ``source`` and ``target``.
        labels: what a plan calls them.
        statistics: of source and target, read only where nothing else decides; None where the target is still to be
            initialised.
        reverse: whether the recipe is to run backwards: what is wanted are ways from the target to the source.
    """

    source: Catalog
    target: TargetStructure
    layout: str
    origins: Mapping[str, Mapping[str, Any]]
    labels: Mapping[str, str]
    statistics: tuple[Statistics, Statistics] | None = None
    reverse: bool = False

    @property
    def fate_without(self) -> str:
        """What becomes of a weight of the target that nothing in the source is paired with."""
        return NOT_WRITTEN if self.reverse else "kept"
