"""What a source holds and nobody can read: in the account, warned of, and refused where something asks for it."""

import dataclasses

import pytest
from compact import catalog, structure
from unfolded import unfolded

from transferpipe.errors import RecipeError
from transferpipe.planning.planner import make_plan
from transferpipe.planning.reading.read_recipe import read_recipe
from transferpipe.weights.spec import Unreadable

TARGET = """
fc/kernel 4x3 float32 Dense
fc/bias 3 float32 Dense
head/kernel 3x2 float32 Dense
"""
SOURCE = "fc/bias 3\nhead/weight 2x3"
LEFT = Unreadable("fc/weight", "is int4, which NumPy does not have", "save it as a float")


def planned(layout="torch", left=LEFT, **keys):
    source = dataclasses.replace(catalog(SOURCE, "s"), unreadable=(left,))
    recipe = read_recipe({"source": {"path": "s"}, "target": {"path": "t"}, **keys})
    return make_plan(recipe, {"source": source}, structure(TARGET), {"source": "s", "target": "t"}, {"source": layout})


def test_what_may_be_kept_is_kept_with_a_warning():
    plan = planned(unmatched="same_name_or_keep")
    assert "fc/kernel" in [k.target for k in plan.kept]
    (warning,) = (w for w in plan.warnings if w.code == "unreadable")
    assert "fc/weight is int4" in warning.text


HEAD = {"head": {"to": "head/kernel"}}


def test_it_is_warned_of_and_in_the_account():
    plan = planned(mapping=HEAD, unmatched="keep")
    (warning,) = (w for w in plan.warnings if w.code == "unreadable")
    assert "fc/weight is int4, which NumPy does not have: save it as a float" in warning.text
    assert [w.name for w in plan.source_weights if w.fate == "unreadable"] == ["fc/weight"]
    assert "1 unreadable" in unfolded(plan)


@pytest.mark.follows("code: unreadable")
def test_ignore_expects_it():
    (warning,) = planned(mapping=HEAD, unmatched="keep").warnings
    key = warning.text.rpartition("or `")[2].partition("`")[0]
    plan = planned(mapping=HEAD, unmatched="keep", **{key: ["fc"]})
    assert [w.code for w in plan.warnings] == []


@pytest.mark.parametrize(
    ("keys", "where"),
    [
        ({"mapping": {"a": {"to": "fc"}}, "unmatched": "keep"}, "mapping.a"),
        ({"mapping": {"a": {"to": "fc/kernel", "from": "fc/weight"}}, "unmatched": "keep"}, "mapping.a"),
        ({"mapping": {"a": {"to": "fc/.*"}}, "unmatched": "keep"}, "mapping.a"),
        ({"unmatched": "same_name"}, "unmatched"),
    ],
)
def test_whoever_asks_for_it_is_refused(keys, where):
    with pytest.raises(RecipeError) as raised:
        planned(**keys)
    (problem,) = raised.value.problems
    assert problem.where.startswith(where)
    assert "fc/kernel would take fc/weight of s, which cannot be read: it is int4" in problem.what


def test_under_keras_names():
    with pytest.raises(RecipeError, match="cannot be read: it is sparse"):
        planned("keras", Unreadable("fc/kernel", "is sparse", "save it dense"), mapping={"a": {"to": "fc"}})


@pytest.mark.follows("_report_missing: …")
def test_a_layer_whose_weights_lie_under_a_name_that_nobody_looks_for():
    """A Linear that torch has quantised dynamically: its state_dict holds a tuple of the weight and the bias."""
    packed = Unreadable("fc/packed/0", "is quantised", "save what its dequantize() gives")
    with pytest.raises(RecipeError) as raised:
        planned(left=packed, mapping={"a": {"to": "fc"}}, unmatched="keep")
    (problem,) = raised.value.problems
    assert problem.what.endswith("it holds 'bias'; fc/packed/0 cannot be read: it is quantised")
    assert problem.fix.startswith("save what its dequantize() gives, or ")
    # What dequantize() gives has the name that the layer's weight has.
    dequantised = catalog(f"{SOURCE}\nfc/weight 3x4", "s")
    recipe = read_recipe(
        {"source": {"path": "s"}, "target": {"path": "t"}, "mapping": {"a": {"to": "fc"}}, "unmatched": "keep"}
    )
    labels, layouts = {"source": "s", "target": "t"}, {"source": "torch"}
    assert len(make_plan(recipe, {"source": dequantised}, structure(TARGET), labels, layouts).assignments) == 2
