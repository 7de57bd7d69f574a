"""Recipes that the tests of parsing start from, and what is wrong with others."""

import pytest

from transferpipe.errors import RecipeError, UnsafeError
from transferpipe.planning.reading.read_recipe import read_recipe as parse
from transferpipe.recipe.trust import resolve

SMALL = {"source": {"path": "a.h5"}, "target": {"path": "b.keras"}}
TWO = {"sources": {"teacher": "t.h5", "student": "s.h5"}, "target": "b.keras"}

FULL = {
    "name": "whole",
    "source": {"path": "a.h5", "format": "legacy_h5", "layout": "keras"},
    "target": {"_target_": "my.build", "classes": 2, "backbone": {"_target_": "my.base", "sizes": [1, 2]}},
    "mapping": {
        "trunk": {
            "to": r"enc/(?P<i>\d+)",
            "from": [r"a\1", "b{i+1}"],
            "except": "enc/9",
            "merge": {"linear": [0.5, 0.5]},
            "transform": {"kernel": [{"transpose": [1, 0]}], "bias": []},
            "on_mismatch": "keep",
            "optional": True,
        },
        "by_order": {"to": "dec/.*", "from": "d.*", "pair": "order", "transform": ["transpose"]},
        "head": {"to": "head", "from": None},
        "off": None,
    },
    "unmatched": "keep",
    "unused": "error",
    "ignore": ["old/.*"],
    "edit": {"probe": {"at": "head/kernel", "index": [3, "0:2"], "set": 99.0}, "off": None},
    "freeze": ["enc", "transferred"],
    "save": {"path": "out/m.weights.h5", "also": ["m.npz"], "overwrite": True},
    "verify": {"reload": True, "nonfinite": "allow", "negative_variance": "allow"},
    "score": {"_target_": "my.score", "repeats": 3},
    "seed": 7,
    "expect": "p123",
}


def problems(data, **keys):
    with pytest.raises((RecipeError, UnsafeError)) as caught:
        parse(data, **keys)
    return [str(p) for p in caught.value.problems]


def one_problem(data, **keys):
    found = problems(data, **keys)
    assert len(found) == 1, found
    return found[0]


def with_rule(rule, base=SMALL):
    return {**base, "mapping": {"r": rule}}


def refused_name(dotted, trusted=(), error=UnsafeError):
    """Return why a recipe may not name `dotted`."""
    with pytest.raises(error) as caught:
        resolve(dotted, "target._target_", trusted)
    (problem,) = caught.value.problems
    assert problem.where == "target._target_"
    return f"{problem.what} -> {problem.fix}"
