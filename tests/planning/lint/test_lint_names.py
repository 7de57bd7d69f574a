"""Names that Keras counts up are warned of where a model is built, whose counting depends on what was built before."""

import re

import pytest
from compact import codes, pairs, plan_of

TEXT = (
    "relies on auto-generated names such as {}, which change with build order: name the layers where the model is built"
)


def warned(plan):
    return [(w.where, w.text) for w in plan.warnings if w.code == "auto-names"]


@pytest.mark.parametrize(
    ("target", "source", "built", "named"),
    [
        ("conv2d_7", "first", ["target"], "conv2d_7"),
        ("conv2d_7", "first", ["source"], None),
        ("conv2d_7", "first", [], None),
        ("a/enc", "b/dense_1", ["source"], "dense_1"),
        ("a/enc", "b/dense_1", ["target"], None),
        ("dense_2", "dense_1", ["target", "source"], "dense_2 and 1 more"),
        ("dense", "dense", ["target", "source"], None),
        ("block_1", "my_dense_1", ["target", "source"], None),
    ],
)
def test_only_what_is_built_drifts(target, source, built, named):
    plan = plan_of(f"{target}/kernel", f"{source}/kernel", {"r": {"to": target, "from": source}}, built=built)
    assert [(where, text.partition(", or use")[0]) for where, text in warned(plan)] == (
        [("mapping.r", TEXT.format(named))] if named else []
    )


def test_under_same_name():
    source = "dense_2/kernel\n dense_3/kernel"  # of one more, so that they need not be the same
    plan = plan_of("dense_2/kernel", source, unmatched="same_name", built=["target"])
    assert warned(plan) == [("unmatched", TEXT.format("dense_2"))]


def test_own_names_are_no_layer_names():
    assert warned(plan_of("a/dense_1", "a/dense_1", {"r": {"to": "a"}}, built=["target", "source"])) == []


def test_names_mean_nothing_to_a_rule_that_pairs_by_order():
    mapping = {"r": {"to": "dense_.", "from": "dense_.", "pair": "order"}}
    assert warned(plan_of("dense_2/kernel", "dense_1/kernel", mapping, built=["target", "source"])) == []


def test_one_line_a_rule():
    layers = "\n".join(f"dense_{i}/kernel" for i in range(1, 9))
    plan = plan_of(layers, f"{layers}\n dense_9/kernel", {"r": {"to": ".*"}}, built=["target"])
    assert len(warned(plan)) == 1
    assert "dense_1 and 7 more" in warned(plan)[0][1]


# The same names at the same places: two builds of one architecture ----------------------------------------------------

COUNTED = "dense/kernel\n dense_1/kernel\n conv2d/kernel"


@pytest.mark.parametrize(
    ("target", "source", "rule", "warns"),
    [
        (COUNTED, COUNTED, {"to": ".*"}, False),
        (COUNTED, COUNTED, {"to": "dense", "optional": True}, False),  # a head that is kept counts as well
        (COUNTED, f"{COUNTED}\n dense_2/kernel", {"to": ".*"}, True),  # which of the three is not there?
        (COUNTED, "dense_1/kernel\n dense/kernel\n conv2d/kernel", {"to": ".*"}, True),
        (COUNTED, "dense_1/kernel\n dense_2/kernel", {"to": r"dense(_\d)?", "from": "dense_1"}, True),
        ("a/dense_1/kernel", "dense_1/kernel", {"to": "a/(.*)", "from": r"\1"}, False),
    ],
)
def test_two_builds_of_one_architecture(target, source, rule, warns):
    plan = plan_of(target, source, {"r": rule}, built=["target", "source"], unmatched="keep")
    assert bool(warned(plan)) == warns


# The hint: followed, it gives the same pairs, or it is not given ------------------------------------------------------


def test_order_is_not_offered_for_some_of_many():
    """Which two of three it is would be a matter of their numbers, too."""
    layers = "\n".join(f"dense_{i}/kernel" for i in range(1, 4))
    rule = {"to": r"dense_(?P<i>[12])", "from": "dense_{i+1}"}
    plan = plan_of(layers, layers, {"r": rule}, built=["target"], unmatched="keep")
    assert "pair: order" not in warned(plan)[0][1]


@pytest.mark.parametrize(
    ("target", "source", "offered"),
    [
        (["dense_1", "dense_2"], ["dense_2", "dense_3"], True),
        (["dense_1", "dense_2", "dense_3"], ["dense_3", "dense_2", "dense_4"], False),
    ],
)
def test_order_is_offered_where_it_pairs_alike(target, source, offered):
    texts = ["\n".join(f"{name}/kernel 4x4" for name in names) for names in (target, source)]
    rule = {"to": r"dense_(?P<i>\d)(.*)", "from": r"dense_{i+1}\2"}
    by_name = plan_of(*texts, {"r": rule}, built=["target", "source"])
    ((_, text),) = warned(by_name)
    assert ("pair: order" in text) == offered
    layers = "|".join(map(re.escape, target))
    theirs = "|".join(map(re.escape, source))
    by_order = plan_of(*texts, {"r": {"to": layers, "from": theirs, "pair": "order"}}, built=["target", "source"])
    assert (pairs(by_order) == pairs(by_name)) == offered
    assert not offered or codes(by_order) == []
