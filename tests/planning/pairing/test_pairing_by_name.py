"""Templates name source layers for target layers and source weights for target weights."""

import re

import pytest
import yaml
from compact import codes, pairs, plan_of, problems_of, structure

from transferpipe.weights.spec import WeightSpec, catalog_of

TARGET = "enc/c1/kernel\n enc/c1/bias 3\n enc/c2/kernel\n enc/c2/bias 3"
SOURCE = "old/c1/kernel\n old/c1/bias 3\n old/c2/kernel\n old/c2/bias 3"


def rule(**keys):
    return {"r": {"to": "enc", **keys}}


def test_a_layer_takes_a_layer_by_relative_names():
    plan = plan_of(TARGET, SOURCE, rule(**{"from": "old"}))
    assert pairs(plan) == {
        t: t.replace("enc", "old") for t in ("enc/c1/kernel", "enc/c1/bias", "enc/c2/kernel", "enc/c2/bias")
    }


def test_a_weight_takes_a_weight():
    plan = plan_of(
        "a/kernel\n a/bias 3",
        "b/k\n b/c 3",
        {"k": {"to": "a/kernel", "from": "b/k"}, "b": {"to": "(.)/bias", "from": "b/c"}},
    )
    assert pairs(plan) == {"a/kernel": "b/k", "a/bias": "b/c"}


def test_groups_and_arithmetic():
    mapping = {"r": {"to": r"enc/c(?P<i>\d)", "from": "old/{i-1}/{{c}}"}}
    plan = plan_of("enc/c1/k\n enc/c2/k", "old/0/{c}/k\n old/1/{c}/k", mapping)
    assert pairs(plan) == {"enc/c1/k": "old/0/{c}/k", "enc/c2/k": "old/1/{c}/k"}


def test_from_left_out_is_the_same_name():
    plan = plan_of(TARGET, TARGET, rule())
    assert pairs(plan) == {w.name: w.name for w in plan.source_weights}


def test_from_null_needs_no_source():
    plan = plan_of(TARGET, None, rule(**{"from": None}))
    assert [k.reason for k in plan.kept] == ["from: null"] * 4


def test_the_empty_name_is_the_whole_source():
    source = "c1/kernel\n c1/bias 3\n c2/kernel\n c2/bias 3\n more"
    plan = plan_of(TARGET, source, rule(**{"from": ""}))
    assert pairs(plan)["enc/c2/bias"] == "c2/bias"
    assert [w.name for w in plan.unused] == ["more"]
    (text,) = problems_of(TARGET, "c1/kernel\n c1/bias 3\n c2/kernel", rule(**{"from": ""}))
    assert text.startswith("mapping.r.from: enc takes source.h5, which holds no 'c2/bias'; it holds 'c1/kernel', ")
    several = {"one": "x", "two": source}
    assert pairs(plan_of(TARGET, several, rule(**{"from": "two:"})))["enc/c1/bias"] == "two:c1/bias"


def test_one_source_weight_may_serve_many():
    plan = plan_of("a/k\n b/k", "s/k", {"r": {"to": "a|b", "from": "s"}})
    assert pairs(plan) == {"a/k": "s/k", "b/k": "s/k"}
    assert [(w.name, w.fate) for w in plan.source_weights] == [("s/k", "used")]


def test_several_sources_by_prefix():
    plan = plan_of(
        "a/k\n b/k", {"t": "x/k", "s": "x/k"}, {"a": {"to": "a", "from": "t:x"}, "b": {"to": "b", "from": "s:x"}}
    )
    assert pairs(plan) == {"a/k": "t:x/k", "b/k": "s:x/k"}


def test_what_is_taken_out_needs_no_partner():
    plan = plan_of(
        TARGET, "old/c1/kernel\n old/c1/bias 3", rule(**{"from": "old", "except": "enc/c2"}), unmatched="keep"
    )
    assert list(pairs(plan)) == ["enc/c1/kernel", "enc/c1/bias"]


# What is not there --------------------------------------------------------------------------------------------------


def test_a_layer_that_is_not_there():
    assert problems_of(TARGET, SOURCE, rule(**{"from": "odl"})) == [
        "mapping.r.from: source.h5 has no layer 'odl' (for enc) -> did you mean 'old'?"
    ]
    assert problems_of(TARGET, SOURCE, rule(**{"from": "zzzz"})) == [
        "mapping.r.from: source.h5 has no layer 'zzzz' (for enc)"
        " -> its layers begin with 'old'; see `transferpipe inspect`; or keep it: from=null"
    ]
    assert problems_of(TARGET, "k", rule(**{"from": "zzzz"})) == [
        "mapping.r.from: source.h5 has no layer 'zzzz' (for enc) -> it has no layers"
    ]


def test_every_layer_that_is_not_there_is_reported():
    found = problems_of(TARGET, SOURCE, {"r": {"to": r"enc/c(\d)", "from": r"old/d\1"}})
    assert [p.partition(" (for ")[2].partition(")")[0] for p in found] == ["enc/c1", "enc/c2"]


def test_a_weight_that_is_not_there():
    assert problems_of("a/kernel", "b/kernle\n b/bias", {"r": {"to": "a/kernel", "from": "b/kernel"}}) == [
        "mapping.r.from: source.h5 has no weight 'b/kernel' (for a/kernel) -> did you mean 'b/kernle'?"
    ]


def test_a_layer_for_a_weight_and_a_weight_for_a_layer():
    assert problems_of("a/kernel", "b/kernel", {"r": {"to": "a/kernel", "from": "b"}}) == [
        "mapping.r.from: 'b' is a layer of source.h5, but `to` matched the weight a/kernel"
        " -> end both with the weight's name"
    ]
    assert problems_of("a/kernel", "b/kernel", {"r": {"to": "a", "from": "b/kernel"}}) == [
        "mapping.r.from: 'b/kernel' is a weight, but `to` matched the layer a -> take its layer: from=b"
    ]


def test_weights_that_the_source_layer_lacks():
    (text,) = problems_of("a/kernel\n a/bias 3\n a/more", "b/kernel\n b/bais 3", {"r": {"to": "a", "from": "b"}})
    assert text == (
        "mapping.r.from: a takes b, which holds no 'bias', 'more'; it holds 'kernel', 'bais'"
        " -> give this rule `except: ['a/bias', 'a/more']`, and add a rule {to: 'a/bias|a/more', from: null}"
    )
    (text,) = problems_of("a/kernel\n a/bias 3", "b/kernel\n b/bais 3", {"r": {"to": "a", "from": "b"}})
    assert text.endswith("which holds no 'bias'; it holds 'kernel', 'bais' -> did you mean 'bais'?")
    (text,) = problems_of("a/kernel\n a/qqqq", "b/kernel", {"r": {"to": "a", "from": "b"}})
    assert text.endswith("-> give this rule `except: 'a/qqqq'`, and add a rule {to: 'a/qqqq', from: null}")


def test_weights_that_only_the_source_layer_has_are_unused():
    plan = plan_of("a/kernel", "b/kernel\n b/bias 3", {"r": {"to": "a", "from": "b"}})
    assert [w.name for w in plan.unused] == ["b/bias"]
    assert "unused" in codes(plan)


def test_arithmetic_that_fails_names_the_layer():
    (text,) = problems_of("a/x/k", "b/k", {"r": {"to": "a/(?P<i>.)", "from": "b{i+1}"}})
    assert text == "mapping.r.from: 'b{i+1}' for a/x: the group 'i' matched 'x', which is not an integer"


# Layers whose weights a file only numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize(("shapes", "kind", "warns"), [
    ((2, 2), "Mine", True),
    ((2, 3), "Mine", False),  # no other way round is possible
    ((2, 2), "LayerNormalization", False),  # Keras's own class: gamma is the first, as Keras loads it
])  # fmt: skip
def test_numbers_are_warned_of_where_they_could_be_another_way_round(shapes, kind, warns):
    names = ("gamma", "beta")
    target = "\n".join(f"a/{n} {s} float32 {kind}" for n, s in zip(names, shapes, strict=True))
    plan = plan_of(target, f"a/0 {shapes[0]}\n a/1 {shapes[1]}", {"r": {"to": "a"}})
    assert pairs(plan) == {"a/gamma": "a/0", "a/beta": "a/1"}
    assert ("numbered-weights" in codes(plan)) == warns


@pytest.mark.follows("code: numbered-weights")
def test_names_that_are_stored_are_matched_by_name():
    target = "a/gamma 2 float32 Mine\n a/beta 2 float32 Mine"
    assert "numbered-weights" in codes(plan_of(target, "a/0 2\n a/1 2", {"r": {"to": "a"}}))
    plan = plan_of(target, "a/beta 2\n a/gamma 2", {"r": {"to": "a"}})  # as a .keras file says it
    assert pairs(plan) == {"a/gamma": "a/gamma", "a/beta": "a/beta"}
    assert "numbered-weights" not in codes(plan)


def test_a_layer_of_unknown_class_is_taken_by_number():
    plan = plan_of("a/alpha 2\n a/beta 2", "b/0 2\n b/1 2", {"r": {"to": "a", "from": "b"}})
    assert pairs(plan) == {"a/alpha": "b/0", "a/beta": "b/1"}
    (warning,) = [w for w in plan.warnings if w.code == "numbered-weights"]
    assert (warning.where, warning.text) == ("b", "weight names of b are not stored in source.h5; matched by position")


def test_single_weights_of_such_a_layer():
    plan = plan_of("a/alpha 2\n a/beta 3", "a/0 2\n a/1 3", {"r": {"to": "a/beta"}}, unmatched="keep")
    assert pairs(plan) == {"a/beta": "a/1"}
    plan = plan_of("a/alpha 2\n a/beta 3", "a/0 2\n a/1 3", unmatched="same_name")
    assert pairs(plan) == {"a/alpha": "a/0", "a/beta": "a/1"}


def test_weights_of_the_model_itself():
    plan = plan_of("alpha 2\n beta 2\n d/kernel", "0 2\n 1 2\n d/kernel", unmatched="same_name")
    assert pairs(plan) == {"alpha": "0", "beta": "1", "d/kernel": "d/kernel"}
    assert [w.where for w in plan.warnings if w.code == "numbered-weights"] == ["the model"]


def test_numbers_do_not_count_unless_there_are_equally_many():
    found = problems_of("a/alpha 2\n a/beta 2", "b/0 2\n b/1 2\n b/2 2", {"r": {"to": "a", "from": "b"}})
    assert found[0].startswith("mapping.r.from: a takes b, which holds no 'alpha', 'beta'; it holds '0', '1', '2'")


def layer_at(name, path, kind, *weights):
    """Return the catalog of one layer with weights of shape (2,), which Keras saves at `path`."""
    specs = (WeightSpec(f"{name}/{w}", (2,), "float32", kind, f"{path}/vars/{i}") for i, w in enumerate(weights))
    return catalog_of(specs, name)


NAMED, NUMBERED = ("bb/layers/mixer_1", "Mixer", "alpha", "beta"), ("layers/mixer", None, "0", "1")


@pytest.mark.parametrize(("ours", "theirs"), [(NAMED, NUMBERED), (NUMBERED, NAMED)])
def test_either_side_may_number_where_keras_saves_the_layer_at_the_same_place(ours, theirs):
    target = structure(layer_at("a", *ours))
    plan = plan_of(target, layer_at("b", *theirs), {"r": {"to": "a", "from": "b"}})
    assert pairs(plan) == {f"a/{o}": f"b/{t}" for o, t in zip(ours[2:], theirs[2:], strict=True)}
    assert "numbered-weights" not in codes(plan)


@pytest.mark.parametrize(
    "theirs",
    [
        ("layers/gate", "Gate", "alpha", "beta"),  # another class
        ("layers/mixer", "Mixer", "alpha", "beta", "more"),
    ],
)
def test_a_numbered_target_takes_no_other_layer(theirs):
    target = structure(layer_at("a", *NUMBERED))
    (text,) = problems_of(target, layer_at("b", *theirs), {"r": {"to": "a", "from": "b"}})
    assert "b, which holds no '0', '1'" in text


def test_a_normalization_is_never_taken_by_number():
    source = "b/0 4 float32 BatchNormalization\n b/1 4 float32 BatchNormalization\n b/2 4 float32 BatchNormalization"
    target = "a/beta 4\n a/moving_mean 4\n a/moving_variance 4"
    (text,) = problems_of(target, source, {"r": {"to": "a", "from": "b"}})
    assert "the file numbers the weights of this BatchNormalization and does not say which optional ones it has" in text
    rule = "{to: 'a', from: 'b', pair: order}"
    assert (
        f"if both layers are configured alike, use `pair: order` for this layer alone, in a rule of its own: {rule}"
        in text
    )
    plan = plan_of(target, source, {"r": yaml.safe_load(rule)})
    assert pairs(plan) == {"a/beta": "b/0", "a/moving_mean": "b/1", "a/moving_variance": "b/2"}
    assert plan.warnings == ()


def test_the_rule_for_a_numbered_layer_inside_another_names_that_layer():
    norm = [f"n/{i} 4 float32 BatchNormalization" for i in range(3)]
    source = "\n".join(f"net/b/{line}" for line in ("d/kernel", *norm))
    target = "\n".join(f"a/{line}" for line in ("d/kernel", "n/beta 4", "n/moving_mean 4", "n/moving_variance 4"))
    (text,) = problems_of(target, source, {"r": {"to": "a", "from": "net/b"}})
    rule = re.search(r"rule of its own: (.*)$", text)[1]
    plan = plan_of(target, source, {"r": {"to": "a", "from": "net/b", "except": "a/n"}, "n": yaml.safe_load(rule)})
    assert pairs(plan)["a/n/beta"] == "net/b/n/0"
