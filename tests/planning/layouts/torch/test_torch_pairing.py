"""``layout: torch``: which torch weights a rule finds for the weights of Keras layers, and what happens to their axes."""

import pytest
from compact import codes, kept
from torch_plans import problem, steps, taken, torch_plan
from unfolded import unfolded

from transferpipe.planning.model import Adaptation
from transferpipe.planning.reading.read_plan import plan_from_data

TARGET = """
enc/conv1/kernel 3x3x4x8 float32 Conv2D
enc/conv1/bias 8 float32 Conv2D
enc/bn1/gamma 8 float32 BatchNormalization
enc/bn1/beta 8 float32 BatchNormalization
enc/bn1/moving_mean 8 float32 BatchNormalization
enc/bn1/moving_variance 8 float32 BatchNormalization
head/kernel 8x8 float32 Dense
head/bias 8 float32 Dense
"""
SOURCE = """
layer1/0/conv1/weight 8x4x3x3
layer1/0/conv1/bias 8
layer1/0/bn1/weight 8
layer1/0/bn1/bias 8
layer1/0/bn1/running_mean 8
layer1/0/bn1/running_var 8
fc/weight 8x8
fc/bias 8
"""
RULES = {"enc": {"to": "enc", "from": "layer1/0"}, "head": {"to": "head", "from": "fc"}}


def test_layers_are_paired_by_torchs_names_below_any_unit():
    plan = torch_plan(TARGET, SOURCE, RULES)
    assert taken(plan) == {
        "enc/conv1/kernel": "layer1/0/conv1/weight",
        "enc/conv1/bias": "layer1/0/conv1/bias",
        "enc/bn1/gamma": "layer1/0/bn1/weight",
        "enc/bn1/beta": "layer1/0/bn1/bias",
        "enc/bn1/moving_mean": "layer1/0/bn1/running_mean",
        "enc/bn1/moving_variance": "layer1/0/bn1/running_var",
        "head/kernel": "fc/weight",
        "head/bias": "fc/bias",
    }
    assert steps(plan, "enc/conv1/kernel") == ({"transpose": [2, 3, 1, 0]},)
    assert steps(plan, "enc/bn1/gamma") == ()


def test_a_square_kernel_is_no_riddle_where_the_layout_is_known():
    assert codes(torch_plan(TARGET, SOURCE, RULES)) == []


def test_a_square_kernel_that_the_rule_transposes_once_more_is_one():
    rules = {**RULES, "head": {"to": "head", "from": "fc", "transform": {"kernel": ["transpose"]}}}
    assert codes(torch_plan(TARGET, SOURCE, rules)) == ["square-kernel"]


def test_a_rules_own_transforms_come_after_the_layout():
    rule = {"to": "head", "from": "fc", "transform": {"kernel": [{"slice": ["0:2"]}]}}
    plan = torch_plan(
        "head/kernel 2x5 float32 Dense\n head/bias 5 float32 Dense", "fc/weight 5x3\n fc/bias 5", {"r": rule}
    )
    assert steps(plan, "head/kernel") == ({"transpose": [1, 0]}, {"slice": ["0:2"]})


def test_a_single_weight_is_taken_as_it_is_named_and_gets_the_steps():
    rule = {"to": "head/kernel", "from": "fc/odd"}
    plan = torch_plan("head/kernel 2x5 float32 Dense", "fc/odd 5x2", {"r": rule})
    assert (taken(plan), steps(plan, "head/kernel")) == ({"head/kernel": "fc/odd"}, ({"transpose": [1, 0]},))


def test_the_source_may_be_one_module():
    plan = torch_plan(
        "head/kernel 2x5 float32 Dense\n head/bias 5 float32 Dense",
        "weight 5x2\n bias 5",
        {"r": {"to": "head", "from": ""}},
    )
    assert taken(plan) == {"head/kernel": "weight", "head/bias": "bias"}


def test_layers_by_order():
    source = "a/bias 8\n a/weight 8x4x3x3\n b/weight 8\n b/bias 8\n b/running_mean 8\n b/running_var 8"
    target = "".join(line + "\n" for line in TARGET.splitlines() if "enc" in line)
    plan = torch_plan(target, source, {"r": {"to": "enc/.*", "from": ".", "pair": "order"}})
    assert taken(plan)["enc/conv1/kernel"] == "a/weight"
    assert taken(plan)["enc/bn1/moving_variance"] == "b/running_var"
    assert codes(plan) == []


def test_weights_by_order():
    rule = {"to": "head/(kernel|bias)", "from": "fc/(weight|bias)", "pair": "order"}
    plan = torch_plan(
        "head/kernel 2x5 float32 Dense\n head/bias 5 float32 Dense", "fc/weight 5x2\n fc/bias 5", {"r": rule}
    )
    assert (steps(plan, "head/kernel"), codes(plan)) == (({"transpose": [1, 0]},), [])


def test_same_name():
    plan = torch_plan(
        "fc/kernel 2x5 float32 Dense\n fc/bias 5 float32 Dense", "fc/weight 5x2\n fc/bias 5", unmatched="same_name"
    )
    assert taken(plan) == {"fc/kernel": "fc/weight", "fc/bias": "fc/bias"}
    assert steps(plan, "fc/kernel") == ({"transpose": [1, 0]},)


def test_same_name_or_keep_keeps_what_torch_lacks():
    plan = torch_plan(
        "fc/kernel 2x5 float32 Dense\n fc/bias 5 float32 Dense", "fc/weight 5x2", unmatched="same_name_or_keep"
    )
    assert kept(plan) == {"fc/bias": "unmatched: no rule"}


def test_a_layer_of_a_users_own_class_is_taken_as_it_is():
    plan = torch_plan("a/scale 3 float32 Mine", "a/scale 3", {"r": {"to": "a"}})
    assert (taken(plan), steps(plan, "a/scale")) == ({"a/scale": "a/scale"}, ())


def test_what_is_missing_is_named_as_torch_names_it():
    text = problem("head/kernel 2x5 float32 Dense", "fc/w 5x2\n fc/bias 5", {"r": {"to": "head", "from": "fc"}})
    assert text == (
        "mapping.r.from: head takes fc, which holds no 'weight' (for head/kernel of the Dense, in torch's layout); "
        "it holds 'w', 'bias' -> keep it: from=null"
    )


def test_missing_under_same_name():
    text = problem("fc/kernel 2x5 float32 Dense", "fd/weight 5x2", unmatched="same_name")
    assert "no source has a weight called fc/weight, torch's name for fc/kernel of the Dense" in text


def test_shapes_are_compared_after_the_layout():
    text = problem("head/kernel 2x5 float32 Dense", "fc/weight 5x3", {"r": {"to": "head", "from": "fc"}})
    assert "head/kernel has shape (2, 5), fc/weight gives (3, 5) after the transforms" in text


def test_a_shape_that_differs_can_be_kept():
    rule = {"to": "head", "from": "fc", "on_mismatch": "keep"}
    assert kept(torch_plan("head/kernel 2x5 float32 Dense", "fc/weight 5x3", {"r": rule})) == {
        "head/kernel": "r: shape differs"
    }


TWO = {"a": "fc/weight 5x2", "b": "fc/weight 5x2"}
DENSE = "head/kernel 2x5 float32 Dense"


def test_each_source_of_a_merge_is_adapted_before_it():
    plan = torch_plan(DENSE, TWO, {"r": {"to": "head", "from": ["a:fc", "b:fc"], "merge": "mean"}})
    (assignment,) = plan.assignments
    assert (assignment.merge, assignment.transforms) == ("mean", ())
    assert assignment.adapter == (Adaptation(1, ({"transpose": [1, 0]},)),) * 2
    assert plan_from_data(plan.to_data()) == plan
    assert "each: transpose(1, 0), mean" in unfolded(plan)


def test_sources_of_different_layouts_are_adapted_each_in_its_own_way():
    two = {"a": "fc/weight 5x2", "b": "fc/kernel 2x5"}
    rule = {"to": "head/kernel", "from": ["a:fc/weight", "b:fc/kernel"], "merge": "mean"}
    plan = torch_plan(DENSE, two, {"r": rule}, torch=["a"])
    assert plan.assignments[0].adapter == (Adaptation(1, ({"transpose": [1, 0]},)), Adaptation(1))
    assert "1: transpose(1, 0), 2: as it is, mean" in unfolded(plan)


def test_sources_that_a_transform_joins_are_adapted_before_it():
    rule = {"to": "head", "from": ["a:fc", "b:fc"], "transform": {"kernel": [{"concat": 0}]}}
    plan = torch_plan("head/kernel 4x5 float32 Dense", TWO, {"r": rule})
    assert plan.assignments[0].adapter == (Adaptation(1, ({"transpose": [1, 0]},)),) * 2
    assert plan.assignments[0].transforms == ({"concat": 0},)


def test_what_cannot_be_joined_after_it_is_refused():
    rule = {"to": "head", "from": ["a:fc", "b:fc"], "transform": {"kernel": [{"concat": 1}]}}
    text = problem("head/kernel 4x5 float32 Dense", TWO, {"r": rule})
    assert "head/kernel has shape (4, 5), a:fc/weight, b:fc/weight gives (2, 10) after the transforms" in text


WHOLE = "fc/kernel 2x5 float32 Dense\n fc/bias 5 float32 Dense", "fc/weight 5x2\n fc/bias 5"


@pytest.mark.parametrize("rule", [{}, {"from": r"\1/\2"}])
def test_a_rule_for_weights_may_name_them_as_keras_does(rule):
    plan = torch_plan(*WHOLE, {"r": {"to": "(.*)/(kernel|bias)", **rule}})
    assert taken(plan) == {"fc/kernel": "fc/weight", "fc/bias": "fc/bias"}
    assert steps(plan, "fc/kernel") == ({"transpose": [1, 0]},)


def test_so_may_one_for_weights_that_torch_keeps_in_parts():
    rule = {"to": "a/cell/(bias)", "from": r"b/cell/\1"}
    plan = torch_plan("a/cell/bias 12 float32 LSTMCell", "b/bias_ih_l0 12\n b/bias_hh_l0 12", {"r": rule})
    assert taken(plan) == {"a/cell/bias": "b/bias_ih_l0 + b/bias_hh_l0"}


def test_a_single_weight_that_is_missing_is_named_as_torch_names_it():
    text = problem(WHOLE[0], "fc/w 5x2\n fc/bias 5", {"r": {"to": ".*/kernel"}}, unmatched="keep")
    assert text == "mapping.r.from: source.pt has no weight 'fc/weight' (for fc/kernel) -> did you mean 'fc/w'?"


def test_a_weight_of_the_root_itself():
    plan = torch_plan("kernel 2x5 float32 Dense", "weight 5x2", {"r": {"to": "kernel"}})
    assert taken(plan) == {"kernel": "weight"}
