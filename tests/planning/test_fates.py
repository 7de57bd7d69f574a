"""Shapes, dtypes, transforms and merges on the way from source weights to a target weight."""

import pytest
from compact import kept, pairs, plan_of, problems_of, structure


def fates(plan):
    return {f"{w.source}:{w.name}" if len(plan.sources) > 1 else w.name: w.fate for w in plan.source_weights}


# Shapes and dtypes ----------------------------------------------------------------------------------------------------


def test_a_shape_that_differs():
    mapping = {"head": {"to": "head", "from": "old/out"}}
    expected = "-> correct the mapping, or add a transform, or set on_mismatch: keep"
    assert problems_of(
        "head/kernel 4x2\n head/bias 2", "old/out/kernel 4x10\n old/out/bias 10", mapping, unmatched="keep"
    ) == [
        f"mapping.head: head/kernel has shape (4, 2), old/out/kernel gives (4, 10) {expected}",
        f"mapping.head: head/bias has shape (2,), old/out/bias gives (10,) {expected}",
    ]


def test_on_mismatch_keep_keeps_only_what_differs():
    mapping = {"all": {"to": "a", "from": "b", "on_mismatch": "keep"}}
    plan = plan_of("a/kernel 4x2\n a/bias 2", "b/kernel 4x3\n b/bias 2", mapping)
    assert pairs(plan) == {"a/bias": "b/bias"}
    assert kept(plan) == {"a/kernel": "all: shape differs"}
    assert fates(plan) == {"b/kernel": "unused", "b/bias": "used"}


def test_on_mismatch_does_not_forgive_a_source_that_is_not_there():
    (text,) = problems_of("a/kernel", "b/kernel", {"r": {"to": "a", "from": "c", "on_mismatch": "keep"}})
    assert text.startswith("mapping.r.from: source.h5 has no layer 'c' (for a)")


def test_reversed_axes_are_recognised():
    (text,) = problems_of("a/kernel 2x3x4", "b/kernel 4x3x2", {"r": {"to": "a", "from": "b"}})
    assert "if its axes are (out, in, width), as in PyTorch" in text
    assert "add {transpose: [2, 1, 0]} under `transform: {kernel: [...]}`" in text
    rule = {"to": "a", "from": "b", "transform": [{"transpose": [2, 1, 0]}]}
    assert plan_of("a/kernel 2x3x4", "b/kernel 4x3x2", {"r": rule}).assignments
    (text,) = problems_of("a/kernel 2x3x5", "b/kernel 4x3x2", {"r": rule})
    assert "gives (2, 3, 4) after the transforms -> correct the mapping" in text


def test_transforms_by_own_name():
    target, source = "a/kernel 2x3\n a/bias 3", "b/kernel 3x2\n b/bias 3"
    rule = {"to": "a", "from": "b", "transform": {"kernel": ["transpose"], "bias": []}}
    plan = plan_of(target, source, {"r": rule})
    assert [(a.target, a.transforms) for a in plan.assignments] == [("a/kernel", ("transpose",)), ("a/bias", ())]
    assert problems_of(
        target, source, {"r": {**rule, "transform": {"kernel": ["transpose"], "bais": ["transpose"]}}}
    ) == ["mapping.r.transform.bais: the rule claims no weight of that name -> did you mean 'bias'?"]
    rule["transform"] = {"kernel": ["transpose"], "zzz": []}
    assert problems_of(target, source, {"r": rule}) == [
        "mapping.r.transform.zzz: the rule claims no weight of that name -> it claims 'kernel', 'bias'"
    ]


def test_a_transform_that_does_not_fit():
    rule = {"to": "a", "from": "b", "transform": [{"transpose": [0, 1, 2]}], "on_mismatch": "keep"}
    (text,) = problems_of("a/kernel 2x3", "b/kernel 2x3", {"r": rule})
    assert text == (
        "mapping.r: a/kernel from b/kernel: transpose(0, 1, 2) permutes 3 axes, but the shape (2, 3) has 2"
        " -> list 2 axes, or transpose other weights alone: transform: {kernel: [...]}"
    )


@pytest.mark.parametrize(
    ("ours", "theirs"), [("float32", "int8"), ("int32", "float32"), ("bool", "int8"), ("int8", "bool")]
)
def test_a_cast_between_kinds_must_be_asked_for(ours, theirs):
    target, source = f"a/kernel 2x3 {ours}", f"b/kernel 2x3 {theirs}"
    (text,) = problems_of(target, source, {"r": {"to": "a", "from": "b"}})
    what = f"mapping.r: a/kernel is {ours}, b/kernel gives {theirs}: a cast between kinds changes what a number means"
    assert text.startswith(f"{what} -> if ")
    assert f"add the transform {{cast: {ours}}}" in text
    plan = plan_of(target, source, {"r": {"to": "a", "from": "b", "transform": [{"cast": ours}]}})
    assert plan.assignments[0].cast_from == ours


@pytest.mark.parametrize(("ours", "theirs"), [("float32", "float16"), ("bfloat16", "float64"), ("int8", "int64")])
def test_a_cast_within_a_kind_needs_no_word(ours, theirs):
    (assignment,) = plan_of(f"a/k 2 {ours}", f"a/k 2 {theirs}", {"r": {"to": "a"}}).assignments
    assert (assignment.dtype, assignment.cast_from) == (ours, theirs)


def test_a_weight_that_cannot_be_assigned():
    target = structure("a/kernel\n b/kernel", fixed=("a/kernel",))
    expected = "a/kernel is saved by its layer in a way of its own and cannot be assigned -> keep it: from=null"
    assert problems_of(target, "a/kernel", {"r": {"to": "a"}}, unmatched="keep") == [f"mapping.r: {expected}"]
    assert problems_of(target, "a/kernel", unmatched="same_name_or_keep") == [
        f"unmatched: {expected}".replace("keep it: from=null", "keep it by a rule {to: 'a/kernel', from: null}")
    ]
    assert kept(plan_of(target, "a/kernel", unmatched="keep"))["a/kernel"] == "unmatched: no rule"


# Merging --------------------------------------------------------------------------------------------------------------


def test_several_sources_become_one():
    sources = {"teacher": "t/kernel 2x3", "student": "s/kernel 2x3\n s/bias 3"}
    rule = {"to": "a", "from": ["teacher:t", "student:s"], "merge": {"linear": [0.3, 0.7]}}
    plan = plan_of("a/kernel 2x3", sources, {"r": rule})
    assert pairs(plan) == {"a/kernel": "teacher:t/kernel + student:s/kernel"}
    assert plan.assignments[0].merge == {"linear": [0.3, 0.7]}
    assert fates(plan) == {"student:s/kernel": "used", "student:s/bias": "unused", "teacher:t/kernel": "used"}
    swapped = plan_of("a/kernel 2x3", sources, {"r": {**rule, "from": rule["from"][::-1]}})
    assert pairs(swapped) == {"a/kernel": "student:s/kernel + teacher:t/kernel"}
    assert swapped.checksum != plan.checksum


def test_one_source_twice_and_a_transform_that_takes_several():
    rule = {"to": "a", "from": ["b", "c"], "transform": [{"concat": 0}, "transpose"]}
    plan = plan_of("a/kernel 3x5", "b/kernel 2x3\n c/kernel 3x3", {"r": rule})
    assert pairs(plan) == {"a/kernel": "b/kernel + c/kernel"}


def test_nothing_says_how_to_combine():
    (text,) = problems_of("a/kernel 2x3", "b/kernel 2x3", {"r": {"to": "a", "from": ["b", "b"]}})
    assert text.startswith("mapping.r: a/kernel from b/kernel, b/kernel: nothing combines the inputs, but there are 2")


def test_what_one_source_lacks_is_a_problem():
    sources = {"teacher": "t/kernel 2x3", "student": "s/kernel 2x3\n s/bias 3"}
    rule = {"to": "a", "from": ["teacher:t", "student:s"], "merge": "mean"}
    (text,) = problems_of("a/kernel 2x3\n a/bias 3", sources, {"r": rule})
    assert text.startswith("mapping.r.from: a takes t, which holds no 'bias'; it holds 'kernel'")
