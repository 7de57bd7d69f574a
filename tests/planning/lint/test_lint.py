"""Warnings about what is legal and probably wrong."""

import dataclasses

import pytest
from compact import catalog, codes, plan_of, structure

from transferpipe.weights.network import Network, Node


def warned(plan, code):
    return [(w.where, w.text) for w in plan.warnings if w.code == code]


def test_a_plan_as_it_should_be_has_none():
    assert codes(plan_of("a/kernel 3x3\n a/bias 3", "b/kernel 3x3\n b/bias 3", {"r": {"to": "a", "from": "b"}})) == []


# Square kernels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "source", "transform"),
    [
        ("a/kernel 4x4", "b/weight 4x4", []),
        ("a/kernel 3x3x4x4", "b/weight 3x3x4x4", []),
        ("a/kernel 4x4", "b/kernel 4x4", ["transpose"]),
        ("a/kernel 4x4", "b/kernel 4x4", [{"transpose": [1, 0]}]),
        ("a/recurrent_kernel 4x4", "b/weight_hh 4x4", []),
    ],
)
def test_a_square_kernel_that_may_have_to_be_transposed(target, source, transform):
    own, theirs = target.split()[0], source.split()[0]
    plan = plan_of(target, source, {"r": {"to": own, "from": theirs, "transform": transform}})
    ((where, text),) = warned(plan, "square-kernel")
    assert where == "mapping.r"
    assert text.startswith(f"{own} (")
    assert text.endswith(f") is square: its shape does not show whether {theirs} has to be transposed")


@pytest.mark.parametrize(
    ("target", "source"),
    [
        ("a/kernel 4x4", "b/kernel 4x4"),
        ("a/kernel 4x5", "b/weight 4x5"),
        ("a/kernel 1x1", "b/weight 1x1"),
        ("a/kernel 3x3x4x5", "b/weight 3x3x4x5"),
        ("a/embeddings 4x4", "b/weight 4x4"),
        ("a/kernel 4", "b/weight 4"),
    ],
)
def test_kernels_that_say_enough(target, source):
    plan = plan_of(target, source, {"r": {"to": target.split()[0], "from": source.split()[0]}})
    assert warned(plan, "square-kernel") == []


# What is used for what ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "theirs", "warns"),
    [
        ("gamma", "bias", True),
        ("gamma", "weight", False),
        ("beta", "weight", True),
        ("beta", "bias", False),
        ("moving_mean", "running_var", True),
        ("moving_variance", "running_var", False),
        ("gamma", "running_mean", True),
        ("gamma", "0", False),
        ("kernel", "recurrent_kernel", True),
        ("recurrent_kernel", "kernel", True),
        ("kernel", "weight_ih_l0", False),
        ("kernel", "weight_hh_l0_reverse", True),
        ("kernel", "weight_hh_l11", True),
        ("recurrent_kernel", "weight_hh_l11_reverse", False),
        ("recurrent_kernel", "weight_ih", True),
        ("kernel", "depthwise_kernel", False),
        ("depthwise_kernel", "pointwise_kernel", True),
        ("bias", "weight", False),
    ],
)
def test_roles_by_the_names_of_both_frameworks(own, theirs, warns):
    plan = plan_of(f"a/{own} 3", f"b/{theirs} 3", {"r": {"to": f"a/{own}", "from": f"b/{theirs}"}})
    found = [("mapping.r", f"a/{own} takes b/{theirs}: {own} from {theirs}")] if warns else []
    assert warned(plan, "other-role") == found


def test_a_weight_from_one_with_another_role():
    mapping = {"r": {"to": "a/gamma", "from": "b/beta"}, "m": {"to": "a/moving_mean", "from": "b/variance"}}
    plan = plan_of("a/gamma 3\n a/moving_mean 3", "b/beta 3\n b/variance 3", mapping)
    assert warned(plan, "other-role") == [
        ("mapping.r", "a/gamma takes b/beta: gamma from beta"),
        ("mapping.m", "a/moving_mean takes b/variance: moving_mean from variance"),
    ]
    plan = plan_of(
        "a/moving_mean 3\n a/gamma 3",
        "b/mean 3\n b/weight 3",
        {"r": {"to": "a/moving_mean", "from": "b/mean"}, "g": {"to": "a/gamma", "from": "b/weight"}},
    )
    assert warned(plan, "other-role") == []


def test_a_layer_half_of_which_is_kept_for_its_shape():
    target, source = "a/kernel 2x3\n a/bias 3\n c/kernel 3x3", "b/kernel 2x4\n b/bias 3\n c/kernel 4x4"
    mapping = {"r": {"to": "a", "from": "b", "on_mismatch": "keep"}, "c": {"to": "c", "on_mismatch": "keep"}}
    plan = plan_of(target, source, mapping)
    assert warned(plan, "half-transferred") == [
        ("mapping.r", "a/bias is transferred, but a/kernel of the same layer is kept")
    ]
    mapping = {"r": {"to": "a/kernel", "from": "b/kernel"}, "k": {"to": "a/bias", "from": None}}
    plan = plan_of("a/kernel 2x3\n a/bias 3", "b/kernel 2x3", mapping)
    assert warned(plan, "half-transferred") == []


def test_unused_source_weights():
    plan = plan_of("a/k", "a/k\n b\n c\n d\n e", {"r": {"to": "a"}})
    assert warned(plan, "unused") == [("unused", "4 source weights are not used: {b..e}")]
    plan = plan_of("a/k", "a/k\n head\n tail\n eye\n ear", {"r": {"to": "a"}})
    assert warned(plan, "unused") == [("unused", "4 source weights are not used: head, tail, eye and 1 more")]
    plan = plan_of("a/k", {"s": "a/k\n b", "t": ""}, {"r": {"to": "a", "from": "s:a"}})
    assert warned(plan, "unused") == [("unused", "1 source weight is not used: s:b")]
    assert warned(plan_of("a/k", "a/k\n b", {"r": {"to": "a"}}, ignore=["b"]), "unused") == []


@pytest.mark.parametrize(("source", "said"), [
    ("a/k\n b/k\n b/l", []),  # left alone as a whole, as `unmatched: keep` says
    ("a/k\n a/l\n b/k", ["a/l"]),  # the rest of a layer that is taken
    ("a/k\n b/k\n c/k", ["c/k"]),  # the target has no such layer
])  # fmt: skip
def test_unused_layers_that_both_sides_have(source, said):
    plan = plan_of("a/k\n a/l\n b/k\n b/l", source, {"r": {"to": "a/k"}}, unmatched="keep")
    assert [text.rpartition(": ")[2] for _, text in warned(plan, "unused")] == said


def test_a_head_that_a_rule_keeps_is_not_missed_in_the_source():
    mapping = {"r": {"to": "a"}, "h": {"to": "head", "from": None}}
    assert warned(plan_of("a/k\n head/k 2x5", "a/k\n head/k 2x3", mapping), "unused") == []
    assert warned(plan_of("a/k\n head/k 2x5", "a/k\n b/k\n head/k 2x3", mapping), "unused") == [
        ("unused", "1 source weight is not used: b/k")
    ]


@pytest.mark.parametrize(("forgotten", "said"), [("", []), ("b", ["1 source weight is not used: b/k"])])
def test_the_head_of_the_source_may_be_called_otherwise(forgotten, said):
    def network(head):
        return Network(tuple(
            Node(name, "Dense", inputs=before) for name, before in (("a", ()), ("b", ("a",)), ("c", ("b",)), (head, ("c",)))
        ), connected=True)  # fmt: skip

    target, source = (
        dataclasses.replace(catalog(f"a/k\n b/k\n c/k\n {head}/k"), network=network(head)) for head in ("new", "top")
    )
    mapping = {"r": {"to": "a|b|c", "except": forgotten or "x"}, "h": {"to": "new", "from": None}}
    mapping |= {"f": {"to": forgotten, "from": "a"}} if forgotten else {}
    assert [text for _, text in warned(plan_of(target, source, mapping), "unused")] == said


def test_a_source_of_which_nothing_is_used():
    plan = plan_of("a/k", "b/k\n b/l", unmatched="keep")
    assert codes(plan) == ["nothing-transferred"]
    assert plan.warnings[0].text == "nothing is transferred: none of the source weights (2) is used"


def test_variables_switched_off_one_by_one():
    import dataclasses

    target = dataclasses.replace(structure("a/k\n b/k"), switched_off=frozenset({"b/k", "a/k"}))
    ((_, text),) = warned(plan_of(target, None, unmatched="keep"), "variable-flag")
    assert text.startswith("a/k; b/k is frozen by its variable's own flag")


# Many of one kind ---------------------------------------------------------------------------------------------------


def test_many_of_one_kind_at_one_place_are_one_line_with_a_count():
    names = "\n".join(f"l{i}/kernel 4x4" for i in range(10))
    mapping = {"r": {"to": r"l(\d)/kernel", "from": r"m/\1"}, "s": {"to": "z/kernel", "from": "m/9"}}
    plan = plan_of(f"{names}\n z/kernel 4x4", "\n".join(f"m/{i} 4x4 float32 Mine" for i in range(10)), mapping)
    found = warned(plan, "square-kernel")
    assert [w for w, _ in found] == ["mapping.r", "mapping.s"]
    assert found[0][1].startswith("l0/kernel (4, 4)")
    assert "; and 7 more" in found[0][1]


def turned(axes, *shapes):
    """Return the plan of kernels stored as (out, in, height, width) and turned by one rule."""
    lines = ["\n".join(f"c{i}/kernel {'x'.join(map(str, s))}" for i, s in enumerate(side))
             for side in (shapes, [(s[-1], s[-2], *s[:-2]) for s in shapes])]  # fmt: skip
    return plan_of(*lines, {"all": {"to": ".*", "transform": {"kernel": [{"transpose": axes}]}}})


def test_all_axes_reversed_turns_the_filters_about():
    ((where, text),) = warned(turned([3, 2, 1, 0], (3, 3, 2, 4)), "reversed-axes")
    assert where == "mapping.all"
    assert "{transpose: [2, 3, 1, 0]}" in text
    assert warned(turned([2, 3, 1, 0], (3, 3, 2, 4)), "reversed-axes") == []  # followed
    assert warned(turned([3, 2, 1, 0], (1, 1, 2, 4)), "reversed-axes") == []  # nothing to turn


def test_an_oblong_kernel_shows_how_a_rule_must_turn_the_square_ones():
    assert warned(turned([2, 3, 1, 0], (3, 3, 2, 4), (3, 3, 4, 4)), "square-kernel") == []
    assert len(warned(turned([2, 3, 1, 0], (3, 3, 4, 4)), "square-kernel")) == 1
