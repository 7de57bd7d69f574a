"""Controls: made of the variants, each once."""

from dataclasses import replace

import pytest

from transferpipe.errors import RecipeError
from transferpipe.sweep.comparing.controls import controls_of
from transferpipe.sweep.variant import Variant

RECIPE = {"source": {"path": "a.keras"}, "target": {"_target_": "t"}, "mapping": {"r": {}}, "freeze": ["x"], "seed": 0}


def variant(overrides, **changed):
    return Variant({**RECIPE, **changed}, overrides, None, {"recipe": "own"})


def test_nothing_is_transferred_and_nothing_frozen():
    (control,) = controls_of("random", [variant({})])
    assert control.recipe["mapping"] == {} and control.recipe["freeze"] == []
    assert control.recipe["unmatched"] == "keep"
    assert (control.control, control.label) == ("random", "control=random")


def test_the_source_is_the_target():
    (control,) = controls_of("source", [variant({})])
    assert control.recipe["target"] == RECIPE["source"]
    assert control.recipe["source"] is None


OWN = {"path": "own.keras"}


def own_variant(**changed):
    return replace(variant({}, **changed), own=OWN)


def test_a_selffer_differs_in_nothing_but_where_its_weights_come_from():
    (control,) = controls_of("selffer", [own_variant()])
    assert control.recipe == {**RECIPE, "source": OWN, "sources": {}, "expect": None}


def test_a_named_source_keeps_its_name_so_that_rules_still_find_it():
    (control,) = controls_of("selffer", [own_variant(source=None, sources={"teacher": {"path": "a.keras"}})])
    assert control.recipe["sources"] == {"teacher": OWN}
    assert control.recipe["source"] is None


def test_a_selffer_needs_a_network_and_one_source():
    with pytest.raises(RecipeError, match=r"there is no network to cut -> .*sweep\.selffer"):
        controls_of("selffer", [variant({})])
    with pytest.raises(RecipeError, match="exactly one source"):
        controls_of("selffer", [own_variant(source=None, sources={"a": {}, "b": {}})])


def test_variants_that_differ_only_in_what_a_control_has_not_share_it():
    variants = [variant({"seed": str(s), "freeze": f}, seed=s, freeze=[f]) for s in (0, 1) for f in "ab"]
    assert [c.overrides for c in controls_of("random", variants)] == [{"seed": "0"}, {"seed": "1"}]


def test_every_target_has_its_own():
    variants = [variant({"target.width": w}, target={"_target_": "t", "width": w}) for w in "12"]
    assert [c.overrides for c in controls_of("random", variants)] == [{"target.width": "1"}, {"target.width": "2"}]


def test_an_unknown_control():
    with pytest.raises(RecipeError, match="did you mean 'random'"):
        controls_of("randon", [variant({})])


def test_two_sources_are_no_control():
    with pytest.raises(RecipeError, match="exactly one source"):
        controls_of("source", [variant({}, source=None, sources={"a": {}, "b": {}})])
