"""Catalogs, targets, recipes and plans from a few lines of text, for tests that need no model."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pytest

from transferpipe.errors import RecipeError
from transferpipe.planning.plan import Plan
from transferpipe.planning.planner import make_plan
from transferpipe.planning.reading.read_recipe import read_recipe
from transferpipe.planning.structure import LayerState, TargetStructure
from transferpipe.weights.spec import Catalog, WeightSpec, catalog_of

NEVER_TRAINED = ("moving_mean", "moving_variance")
REGENERATE = "TRANSFERPIPE_REGENERATE"


def catalog(text: str, label: str = "") -> Catalog:
    """Return the catalog of lines such as ``enc/conv/kernel 3x3x1x8 float32 Conv2D``.

    Shape, dtype and class may be left out from the end; the shape of a scalar is ``-``.
    """
    return catalog_of((_weight(line.split()) for line in text.splitlines() if line.strip()), label)


def _weight(words: list[str]) -> WeightSpec:
    name, shape, dtype, layer_class = (*words, *("2x3", "float32", None)[len(words) - 1 :])
    sizes = () if shape == "-" else tuple(int(n) for n in shape.split("x"))
    return WeightSpec(name, sizes, dtype, layer_class, where=name)


def structure(
    weights: str | Catalog, layers: str | None = None, *, fixed: tuple[str, ...] = (), label: str = "target"
) -> TargetStructure:
    """Return the target structure of `weights`.

    Args:
        weights: as for `catalog`.
        layers: lines such as ``enc/bn BatchNormalization off unrecorded``, ``.`` for the root; left out, one for the
            root and for every node of the weights' names, all trainable and recorded.
        fixed: names of weights that cannot be assigned.
        label: what messages call the target.
    """
    found = weights if isinstance(weights, Catalog) else catalog(weights, label)
    if layers is None:
        classes = {w.layer: w.layer_class for w in found}
        states = [LayerState(n, classes.get(n), True, True) for n in ("", *found.layers)]
    else:
        states = [_layer(line.split()) for line in layers.splitlines() if line.strip()]
    trained = frozenset(w.name for w in found if w.own_name not in NEVER_TRAINED)
    return TargetStructure(label, found, tuple(states), trained, frozenset(fixed))


def _layer(words: list[str]) -> LayerState:
    name, layer_class, *flags = words
    return LayerState(
        name.strip("."), None if layer_class == "?" else layer_class, "off" not in flags, "unrecorded" not in flags
    )


def plan_of(
    target: str | TargetStructure,
    source: str | Catalog | Mapping[str, str | Catalog] | None = None,
    mapping: Mapping[str, Any] | None = None,
    built: Collection[str] = (),
    **keys: Any,
) -> Plan:
    """Return the plan of a recipe, given as its keys, over catalogs given as text.

    Those named in `built` are models of a process, the others files.
    """
    several = isinstance(source, Mapping)
    given = source if several else {"source": source} if source is not None else {}
    catalogs = {a: c if isinstance(c, Catalog) else catalog(c, f"{a}.h5") for a, c in given.items()}
    origins = {alias: {"path": f"live://{alias}" if alias in built else f"{alias}.h5"} for alias in catalogs}
    recipe = read_recipe(
        {
            **({"sources": origins} if several else origins),
            "target": {"path": "live://target" if "target" in built else "target.keras"},
            "mapping": mapping or {},
            **keys,
        }
    )
    wanted = target if isinstance(target, TargetStructure) else structure(target)
    labels = {alias: f"{alias}.h5" for alias in catalogs} | {"target": "target.keras"}
    return make_plan(recipe, catalogs, wanted, labels)


def problems_of(*args: Any, **keys: Any) -> list[str]:
    """Return the problems of what `plan_of` must refuse, a text each."""
    with pytest.raises(RecipeError) as caught:
        plan_of(*args, **keys)
    return [str(p) for p in caught.value.problems]


def pairs(plan: Plan) -> dict[str, str]:
    """Return for every assigned target weight its sources, joined by `` + ``."""
    many = len(plan.sources) > 1
    return {
        a.target: " + ".join(f"{r.source}:{r.name}" if many else r.name for r in a.sources) for a in plan.assignments
    }


def kept(plan: Plan) -> dict[str, str]:
    """Return for every kept weight the rule and the reason."""
    return {k.target: f"{k.rule}: {k.reason}" for k in plan.kept}


def codes(plan: Plan) -> list[str]:
    """Return the codes of the plan's warnings."""
    return [w.code for w in plan.warnings]


def assert_golden(text: str, path: Path) -> None:
    """Compare `text` with the file at `path`, or write that file if the environment asks for it."""
    if os.environ.get(REGENERATE):
        path.write_text(f"{text}\n", encoding="utf-8")
        return
    known = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    if known != text.splitlines():
        diff = "\n".join(difflib.unified_diff(known, text.splitlines(), str(path.name), "now", lineterm=""))
        pytest.fail(f"{diff}\nif this is meant: {REGENERATE}=1 pytest {path.parent.parent.name}", pytrace=False)
