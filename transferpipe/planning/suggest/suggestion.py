"""A proposed mapping: rules with what speaks for them, what is undecided, and the plan that they give."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from transferpipe.planning.plan import Plan
from transferpipe.recipe.model import LIVE, Unmatched
from transferpipe.recipe.outputs import output_of, suffixes_with
from transferpipe.text.collapse import counted

_WHOLE, _TENSORS = (suffixes_with(what)[0] for what in ("holds_architecture", "names_tensors"))


@dataclass(frozen=True)
class SuggestedRule:
    """A rule with its reasons.

    Attributes:
        name: its name in the mapping.
        data: the rule as in a recipe.
        weights: the target weights that it claims.
        evidence: what speaks for it, or why it keeps what it claims.
        doubts: what to look at before it is believed.
    """

    name: str
    data: Mapping[str, Any]
    weights: tuple[str, ...]
    evidence: str
    doubts: tuple[str, ...] = ()

    @property
    def keeps(self) -> bool:
        """Whether it leaves the weights as they are built."""
        return self.data.get("from", "") is None


@dataclass(frozen=True)
class OpenChoice:
    """A layer, or weight, of the target that no rule claims because the choice is the user's.

    Attributes:
        target: its name.
        weights: the target weights that belong to it.
        candidates: what it could take, the likeliest first.
        reason: why none is proposed.
    """

    target: str
    weights: tuple[str, ...]
    candidates: tuple[str, ...]
    reason: str


@dataclass(frozen=True, repr=False)
class Suggestion:
    """A proposed mapping. `print` shows it as YAML; nothing is applied.

    Attributes:
        source: what stands under `source:` in a recipe.
        target: what stands under `target:`.
        rules: the rules, in the order of the target.
        undecided: what is left to the user.
        plan: what the rules do, as planned.
        reverse: whether the recipe runs backwards: the target's weights go into the tensors of the source.
        unused: source weights that nothing takes.
    """

    source: Mapping[str, Any]
    target: Mapping[str, Any]
    rules: tuple[SuggestedRule, ...]
    undecided: tuple[OpenChoice, ...]
    plan: Plan = field(repr=False)
    reverse: bool = False

    @property
    def mapping(self) -> dict[str, dict[str, Any]]:
        """The rules as under `mapping:` in a recipe."""
        return {rule.name: dict(rule.data) for rule in self.rules}

    @property
    def unmatched(self) -> Unmatched:
        """What a recipe must say of weights that no rule claims: ``keep`` while something is undecided."""
        return "keep" if self.undecided else "error"

    @property
    def unused(self) -> tuple[str, ...]:
        """Names of source weights that nothing takes."""
        return tuple(w.name for w in self.plan.unused)

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe as plain data."""
        data: dict[str, Any] = {"source": dict(self.source), "target": dict(self.target)}
        data |= {**({"reverse": True} if self.reverse else {}), "mapping": self.mapping}
        if self.undecided:
            data["unmatched"] = "keep"
        return data if self.gives_model else {**data, "save": {"path": self.output}}

    @property
    def output(self) -> str:
        """The name of a file that holds what the target gives: a file of weights alone gives no model."""
        if self.reverse:
            return f"model{_TENSORS}"
        path = str(self.target.get("path", ""))
        known = output_of(path)
        if path.startswith(LIVE) or not path:
            return f"model{_WHOLE}"
        suffix = known.suffix if known.suffix and known.streams else _TENSORS
        return f"model{suffix}"

    @property
    def gives_model(self) -> bool:
        """Whether what a recipe saves unasked, a whole model, can be had of the target."""
        return self.output.endswith(_WHOLE)

    def __repr__(self) -> str:
        weights = sum(len(rule.weights) for rule in self.rules)
        rules = f"{counted(len(self.rules), 'rule')} for {counted(weights, 'weight')}"
        return f"<Suggestion: {rules}, {len(self.undecided):,} undecided>"

    def __str__(self) -> str:
        # `text` imports this module.
        from transferpipe.planning.suggest.text import suggestion_text

        return suggestion_text(self)

    def _repr_html_(self) -> str:
        # JupyterLab shows what is preformatted in its font for text, in which YAML does not line up.
        return f"<pre style='font-family: monospace'>{html.escape(str(self))}</pre>"
