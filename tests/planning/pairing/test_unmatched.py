"""Target weights that no rule claims, and source weights that nothing uses."""

import pytest
from compact import kept, pairs, plan_of, problems_of
from compact_networks import PAIRS, SOURCE, TARGET, TRUNK, fates

# What no rule claims --------------------------------------------------------------------------------------------------


@pytest.mark.follows("_refuse_unclaimed: add a rule (`from:")
def test_unmatched_error():
    expected = "-> add a rule (`from: null` keeps the initial values), or set unmatched=keep"
    assert problems_of(TARGET, SOURCE, {"trunk": TRUNK}) == [
        f"unmatched: no rule claims 2 target weights: head/kernel, head/bias {expected}"
    ]
    assert problems_of("a/kernel", "b/kernel") == [f"unmatched: no rule claims 1 target weight: a/kernel {expected}"]
    kept_ones = {"trunk": TRUNK, "head": {"to": "head", "from": None}}
    assert pairs(plan_of(TARGET, SOURCE, kept_ones)) == PAIRS
    assert pairs(plan_of(TARGET, SOURCE, {"trunk": TRUNK}, unmatched="keep")) == PAIRS
    many, others = ("\n".join(f"{layer}/w{i}" for i in range(8)) for layer in "ab")
    assert problems_of(many, others) == [
        f"unmatched: no rule claims 8 target weights: a/w0, a/w1, a/w2, a/w3, a/w4 and 3 more {expected}"
    ]


@pytest.mark.follows("_refuse_unclaimed: set unmatched=… (… of")
def test_unmatched_error_says_what_the_source_has_under_the_same_name():
    (text,) = problems_of("a/kernel\n b/kernel 3", "a/kernel\n b/kernel 3\n c/kernel")
    assert text.endswith(
        "-> set unmatched=same_name (2 of them are in the source under the same name), or add a rule (`from: null` keeps the initial values)"
    )
    plan = plan_of("a/kernel\n b/kernel 3", "a/kernel\n b/kernel 3\n c/kernel", unmatched="same_name")
    assert pairs(plan) == {"a/kernel": "a/kernel", "b/kernel": "b/kernel"}
    # What has another shape, or is in two sources, is not taken by its name: such advice would lead from one error to another.
    target, sources = "a/kernel\n b/kernel 3\n c/kernel", {"one": "a/kernel\n b/kernel 4\n c/kernel", "two": "c/kernel"}
    (text,) = problems_of(target, sources)
    assert "-> set unmatched=same_name_or_keep (1 of them is in the source under the same name), or" in text
    rules = {"b": {"to": "b/.*", "from": None}, "c": {"to": "c/.*", "from": r"two:\g<0>"}}
    assert pairs(plan_of(target, sources, rules, unmatched="same_name_or_keep")) == {
        "a/kernel": "one:a/kernel",
        "c/kernel": "two:c/kernel",
    }


def test_unmatched_keep():
    plan = plan_of(TARGET, SOURCE, {"trunk": TRUNK}, unmatched="keep")
    assert pairs(plan) == PAIRS
    assert kept(plan) == dict.fromkeys(("head/kernel", "head/bias"), "unmatched: no rule")


def test_unmatched_same_name():
    both = "a/kernel\n a/bias 3"
    plan = plan_of(both, f"{both}\n x", unmatched="same_name")
    assert pairs(plan) == {"a/kernel": "a/kernel", "a/bias": "a/bias"}
    assert {a.rule for a in plan.assignments} == {"unmatched"}
    assert problems_of(both, "a/kernel\n a/bais 3", unmatched="same_name") == [
        "unmatched: no source has a weight called a/bias -> did you mean 'a/bais'?"
    ]
    assert problems_of("q", "a/kernel", unmatched="same_name") == [
        "unmatched: no source has a weight called q -> keep it by a rule {to: 'q', from: null}"
    ]


def test_unmatched_same_name_or_keep():
    plan = plan_of("a/kernel\n b/kernel", "a/kernel\n c/kernel", unmatched="same_name_or_keep")
    assert pairs(plan) == {"a/kernel": "a/kernel"}
    assert kept(plan) == {"b/kernel": "unmatched: no rule"}


def test_unmatched_same_name_with_another_shape():
    for unmatched in ("same_name", "same_name_or_keep"):
        (text,) = problems_of("a/kernel 2x3", "a/kernel 2x4", unmatched=unmatched)
        assert text == (
            "unmatched: a/kernel has shape (2, 3), a/kernel gives (2, 4) -> give it a rule with a transform"
        )


def test_unmatched_same_name_in_several_sources():
    sources = {"one": "a/kernel\n b/kernel", "two": "a/kernel\n c/kernel"}
    assert problems_of("a/kernel\n b/kernel\n c/kernel", sources, unmatched="same_name") == [
        "unmatched: a/kernel is in several sources: one, two -> give it a rule: {to: 'a/kernel', from: 'one:a/kernel'}"
    ]
    plan = plan_of("b/kernel\n c/kernel", sources, unmatched="same_name")
    assert pairs(plan) == {"b/kernel": "one:b/kernel", "c/kernel": "two:c/kernel"}


def test_a_rule_goes_before_unmatched():
    plan = plan_of("a/kernel\n b/kernel", "a/kernel\n b/kernel", {"r": {"to": "a", "from": "b"}}, unmatched="same_name")
    assert pairs(plan) == {"a/kernel": "b/kernel", "b/kernel": "b/kernel"}


# What nothing uses ----------------------------------------------------------------------------------------------------


def test_unused_error_and_ignore():
    keys = {"unused": "error", "unmatched": "keep"}
    fix = "-> add a rule for them, or ignore them: ignore="
    assert problems_of(TARGET, SOURCE, {"trunk": TRUNK}, **keys) == [
        f"unused: nothing uses 2 source weights: old/out/kernel, old/out/bias {fix}[old/out/kernel,old/out/bias]"
    ]
    assert problems_of(TARGET, SOURCE, {"trunk": TRUNK}, **keys, ignore=[".*/bias"]) == [
        f"unused: nothing uses 1 source weight: old/out/kernel {fix}[.*/bias,old/out/kernel]"
    ]
    plan = plan_of(TARGET, SOURCE, {"trunk": TRUNK}, **keys, ignore=["old/out"])
    assert [n for n, fate in fates(plan).items() if fate == "ignored"] == ["old/out/kernel", "old/out/bias"]


def test_what_is_used_is_not_ignored():
    plan = plan_of(TARGET, SOURCE, {"trunk": TRUNK}, unmatched="keep", ignore=[".*"])
    assert fates(plan)["old/c1/kernel"] == "used"
    assert not plan.unused


def test_ignore_of_one_of_several_sources():
    sources = {"one": "a/kernel\n b/kernel", "two": "a/kernel\n b/kernel"}
    keys = {"mapping": {"r": {"to": "a", "from": "one:a"}}, "unused": "error"}
    assert problems_of("a/kernel", sources, **keys, ignore=["two:.*"]) == [
        "unused: nothing uses 1 source weight: one:b/kernel -> add a rule for them, or ignore them: ignore=[two:.*,one:b/kernel]"
    ]
    assert plan_of("a/kernel", sources, **keys, ignore=["b", "two:a"]).assignments


def test_unused_is_not_asked_while_rules_fail():
    (text,) = problems_of("a/kernel", "b/kernel", {"r": {"to": "a", "from": "c"}}, unused="error")
    assert text.startswith("mapping.r.from")
