"""What the page says a sweep was: the commands that made it, its recipes, sources, targets and scores."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from transferpipe.sweep.plan import SweepPlan
from transferpipe.sweep.variant import Planned

About = Mapping[str, Sequence[str]]
_MOST = 20  # texts of one kind


def about(overrides: Sequence[str], plan: SweepPlan, before: About) -> About:
    """Return what the page says, by heading; what earlier commands made stays.

    Args:
        overrides: those of the present command.
        plan: what they came to.
        before: the same of the sweep so far.
    """
    # Controls follow from the variants, and would only repeat what is said of these.
    ordinary = [p for p in plan.variants if not p.variant.control]
    now = {"command": [f"transferpipe sweep {shlex.join(overrides)}"], **_describe_makers(ordinary)}
    # A folder may be swept by many commands: the last ones are what its present results come from.
    return {key: [*dict.fromkeys([*before.get(key, ()), *texts])][-_MOST:] for key, texts in now.items() if texts}


def _describe_makers(variants: Sequence[Planned]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"recipe": [], "source": [], "target": [], "score": []}
    for recipe in (p.variant.recipe for p in variants):
        found["recipe"].append(str(recipe.get("name")))
        sources = recipe.get("sources") or {"": recipe.get("source")}
        found["source"] += [_show_callable(source, str(alias)) for alias, source in sources.items() if source]
        found["target"] += [_show_callable(recipe["target"])] if recipe.get("target") else []
        found["score"] += [_show_callable(recipe["score"])] if recipe.get("score") else []
    return {key: [*dict.fromkeys(texts)] for key, texts in found.items()}


def _show_callable(value: Any, alias: str = "") -> str:
    """Return a file or a callable with its arguments, in a line."""
    if not isinstance(value, Mapping):
        return f"[{', '.join(map(_show_callable, value))}]" if isinstance(value, list) else str(value)
    words = {k: v for k, v in value.items() if k not in ("_target_", "path") and v is not None}
    name = str(value.get("_target_") or value.get("path") or "")
    inner = ", ".join(f"{k}={_show_callable(v)}" for k, v in words.items())
    called = f"{name}({inner})" if inner or "_target_" in value else name
    return f"{alias}: {called}" if alias else called
