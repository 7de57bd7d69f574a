"""Keras's own layout, into which all others are adapted: every weight is taken as it is, or as Keras 2 kept it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from transferpipe.planning.layouts.keras_2 import Keras2
from transferpipe.planning.layouts.layout import Layout
from transferpipe.planning.lint.flatten import lint_flatten
from transferpipe.planning.model import PlanWarning
from transferpipe.planning.plan import Plan
from transferpipe.planning.structure import TargetStructure
from transferpipe.weights.spec import Catalog, WeightSpec


class Keras(Layout):
    """The layout of Keras. What an earlier version kept otherwise, and converts on loading, is converted here, too."""

    name: ClassVar[str] = "keras"
    framework: ClassVar[str] = "Keras"
    tag: ClassVar[str | None] = "keras"
    separator: ClassVar[str] = "/"
    is_channels_last: ClassVar[bool] = True
    earlier: ClassVar[Layout] = Keras2()

    def find_stored(self, name: str, catalog: Catalog) -> str | None:
        """See `Layout`."""
        return self.earlier.find_stored(name, catalog)

    def gather(self, weight: WeightSpec, catalog: Catalog) -> tuple[str, ...]:
        """See `Layout`."""
        return self.earlier.gather(weight, catalog)

    def convert(self, weight: WeightSpec, catalog: Catalog) -> tuple[Any, ...]:
        """See `Layout`."""
        return self.earlier.convert(weight, catalog)

    def lint_taken(self, plan: Plan, target: TargetStructure, sources: Mapping[str, Catalog]) -> Iterable[PlanWarning]:
        """See `Layout`. Where both networks are known, the order in which they flatten maps may differ."""
        return lint_flatten(plan, target, sources)
