"""What sets one plan apart from another, as a code review shows a change: what is gone, and what is there instead."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from transferpipe.planning.model import Assignment, Kept, PlanWarning
from transferpipe.planning.plan import Plan
from transferpipe.planning.reading.read_plan import plan_from_data
from transferpipe.recipe.model import Edit

Changed = Mapping[str, tuple[Any, Any]]
"""Of each name what it was and what it is, None where it is not there."""


@dataclass(frozen=True)
class PlanChanges:
    """What is different in the plan `after`.

    Attributes:
        before: the plan that it is compared with.
        after: the plan.
        keys: what the plans say of the whole, such as ``target`` or ``seed``.
        weights: the target's weights whose assignment is another, or that are kept now or no longer.
        fates: the source weights, with their sources, that have another fate.
        frozen: the target's weights that are frozen now (True) or no longer.
        edits: the edits, by their names.
        state: what lookup layers take, by the target's layers.
        gone: warnings that are no longer given.
        new: warnings that were not given.
    """

    before: Plan
    after: Plan
    keys: Changed
    weights: Changed
    fates: Changed
    frozen: Mapping[str, bool]
    edits: Changed
    state: Changed
    gone: tuple[PlanWarning, ...]
    new: tuple[PlanWarning, ...]

    @property
    def any(self) -> bool:
        """Whether anything is different."""
        return any((self.keys, self.weights, self.fates, self.frozen, self.edits, self.state, self.gone, self.new))

    def to_data(self) -> dict[str, Any]:
        """Return the changes as mappings, lists, texts and numbers."""
        both = {
            "keys": self.keys,
            "weights": self.weights,
            "fates": self.fates,
            "edits": self.edits,
            "state": self.state,
        }
        data: dict[str, Any] = {
            "changed": self.any,
            "checksum": {"before": self.before.checksum, "after": self.after.checksum},
        }
        for what, changed in both.items():
            data[what] = {name: {"before": _plain(old), "after": _plain(new)} for name, (old, new) in changed.items()}
        data["frozen"] = {
            "added": [name for name, now in self.frozen.items() if now],
            "removed": [name for name, now in self.frozen.items() if not now],
        }
        data["warnings"] = {"added": [w.to_data() for w in self.new], "removed": [w.to_data() for w in self.gone]}
        return data


def compare_plans(before: Plan, after: Plan) -> PlanChanges:
    """Return what is different in the plan `after`; the recipe's name, and what was compared of settings, are not."""
    after = plan_from_data(json.loads(json.dumps(after.to_data())))  # as `before` was read: its lists are lists
    was_frozen, is_frozen = (set(plan.freezing.frozen_weights) for plan in (before, after))
    weights = dict.fromkeys(w for plan in (after, before) for w in _weights(plan))  # in the order of the new one
    return PlanChanges(
        before,
        after,
        _find_changed(before, after, _keys),
        _find_changed(before, after, _weights),
        _find_changed(before, after, lambda p: {f"{w.source}:{w.name}": w.fate for w in p.source_weights}),
        {name: name in is_frozen for name in weights if (name in was_frozen) != (name in is_frozen)},
        _find_changed(before, after, _name_edits),
        _find_changed(before, after, lambda p: {m.target: m for m in p.state}),
        tuple(w for w in before.warnings if w not in after.warnings),
        tuple(w for w in after.warnings if w not in before.warnings),
    )


def _find_changed(before: Plan, after: Plan, of: Callable[[Plan], Mapping[str, Any]]) -> dict[str, tuple[Any, Any]]:
    old, new = of(before), of(after)
    pairs = {name: (old.get(name), new.get(name)) for name in dict.fromkeys([*new, *old])}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _keys(plan: Plan) -> dict[str, Any]:
    return {
        **{alias if alias == "source" else f"sources.{alias}": label for alias, label in plan.sources.items()},
        "target": plan.target,
        "seed": plan.seed,
        "save": ", ".join(plan.save),
        "save.layout": plan.save_layout,
        "save.shard": plan.save_shard,
        "save.names": ", ".join(f"{t.name}: {t.key}" for t in plan.save_tensors) or None,
        "quantize": plan.quantize,
        "optimizer": None if plan.optimizer.fate == "none" else str(plan.optimizer),
        "trainable parameters": f"{plan.freezing.trainable_parameters:,} of {plan.freezing.parameters:,}",
    }


def _weights(plan: Plan) -> dict[str, Assignment | Kept]:
    return {a.target: a for a in plan.assignments} | {k.target: k for k in plan.kept}


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int) else json.loads(json.dumps(asdict(value)))


def _name_edits(plan: Plan) -> dict[str, Edit]:
    """Return the edits by their names, with the weight's where one edits several."""
    names = Counter(edit.name for edit in plan.edits)
    return {e.name if names[e.name] == 1 else f"{e.name} {e.at}": e for e in plan.edits}
