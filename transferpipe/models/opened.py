"""What a recipe names, opened; and the recipe with its plan, ready to be carried out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from transferpipe.models.target import Target
from transferpipe.planning.model import PlanWarning
from transferpipe.planning.plan import Plan
from transferpipe.recipe.model import Recipe
from transferpipe.weights.spec import Source


@dataclass(frozen=True)
class Opened:
    """Everything a recipe names, opened.

    Attributes:
        sources: by their names.
        target: the target.
        labels: what each is, as the recipe says it (not as this machine resolves it).
        layouts: the layout of each source, one of those of a recipe.
        warnings: about what may be another file tomorrow.
        is_live: whether the target is a model of the user's own process.
    """

    sources: Mapping[str, Source]
    target: Target
    labels: Mapping[str, str]
    layouts: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[PlanWarning, ...] = ()
    is_live: bool = False


@dataclass(frozen=True)
class Prepared:
    """A recipe with everything opened and planned; nothing has been written.

    Attributes:
        recipe: what was asked for.
        opened: what it names.
        plan: what will be done.
        trusted: packages the command line vouched for.
    """

    recipe: Recipe
    opened: Opened = field(repr=False)
    plan: Plan
    trusted: tuple[str, ...] = ()
