"""Rules and catalogs in, an account of every weight out."""

from compact import catalog, codes, kept, pairs, plan_of, problems_of, structure
from compact_networks import HEAD, PAIRS, SOURCE, TARGET, TRUNK, fates


def test_every_weight_of_both_sides_is_accounted_for():
    plan = plan_of(TARGET, SOURCE, {"trunk": TRUNK, "head": HEAD}, ignore=["old/out/bias"], seed=3)
    assert pairs(plan) == PAIRS
    assert kept(plan) == {"head/kernel": "head: from: null", "head/bias": "head: from: null"}
    assert fates(plan) == {
        **dict.fromkeys(PAIRS.values(), "used"),
        "old/out/kernel": "unused",
        "old/out/bias": "ignored",
    }
    assert [w.name for w in plan.unused] == ["old/out/kernel"]
    assert {a.rule for a in plan.assignments} == {"trunk"}
    assert (plan.recipe, plan.target, plan.sources) == ("recipe", "target.keras", {"source": "source.h5"})
    assert (plan.seed, plan.save) == (3, ("model.keras",))


def test_an_assignment_says_what_it_does():
    plan = plan_of(
        "a/kernel 3x2 float16", "b/kernel 2x3 float32", {"r": {"to": "a", "from": "b", "transform": ["transpose"]}}
    )
    (assignment,) = plan.assignments
    assert (assignment.target, assignment.rule, assignment.merge) == ("a/kernel", "r", None)
    assert (assignment.shape, assignment.dtype, assignment.cast_from) == ((3, 2), "float16", "float32")
    assert assignment.transforms == ("transpose",)
    (ref,) = assignment.sources
    assert (ref.source, ref.name, ref.shape, ref.dtype) == ("source", "b/kernel", (2, 3), "float32")


def test_the_order_is_that_of_the_target():
    plan = plan_of(
        TARGET, SOURCE, {"a": HEAD, "z": {"to": "enc/conv1", "from": "old/c1"}, "b": TRUNK | {"except": "enc/conv1"}}
    )
    assert list(pairs(plan)) == list(PAIRS)
    assert list(kept(plan)) == ["head/kernel", "head/bias"]


# Rules are disjoint ---------------------------------------------------------------------------------------------------


def test_two_rules_for_one_weight():
    mapping = {"trunk": TRUNK, "also": {"to": "enc", "from": None}, "head": HEAD}
    assert problems_of(TARGET, SOURCE, mapping) == [
        "mapping.also, mapping.trunk: both claim enc/conv1/kernel and 3 more"
        " -> switch one off: mapping.also=null or mapping.trunk=null"
    ]
    mapping["also"] = {"to": "enc/conv2/bias", "from": None}
    assert problems_of(TARGET, SOURCE, mapping) == [
        "mapping.trunk, mapping.also: both claim enc/conv2/bias"
        " -> give mapping.trunk `except: 'enc/conv2/bias'`, or switch one off: mapping.trunk=null or mapping.also=null"
    ]
    mapping["trunk"] = {**TRUNK, "except": "enc/conv2/bias"}
    assert kept(plan_of(TARGET, SOURCE, mapping))["enc/conv2/bias"] == "also: from: null"


def test_every_pair_of_rules_that_collide_is_named():
    mapping = {name: {"to": "head", "from": None} for name in "abc"}
    found = problems_of(TARGET, SOURCE, mapping, unmatched="keep")
    assert [p.partition(":")[0] for p in found] == ["mapping.a, mapping.b", "mapping.a, mapping.c"]


# Rules that match nothing ---------------------------------------------------------------------------------------------


def test_a_rule_that_matches_nothing():
    mapping = {"trunk": TRUNK, "head": HEAD, "typo": {"to": "enc/conv3", "from": "x"}}
    assert problems_of(TARGET, SOURCE, mapping) == [
        "mapping.typo.to: 'enc/conv3' matches nothing in target"
        " -> did you mean 'enc/conv2', 'enc/conv1', 'enc/conv2/bias'?"
    ]
    mapping["typo"] = {"to": "zzzzzzzzz", "from": None}
    assert problems_of(TARGET, SOURCE, mapping) == [
        "mapping.typo.to: 'zzzzzzzzz' matches nothing in target -> `optional: true` lets a rule match nothing"
    ]
    mapping["typo"]["optional"] = True
    assert pairs(plan_of(TARGET, SOURCE, mapping)) == PAIRS


def test_a_rule_of_which_nothing_is_left():
    mapping = {"trunk": TRUNK, "head": HEAD, "none": {"to": "enc/conv1", "from": "x", "except": ".*/conv1"}}
    (text,) = problems_of(TARGET, SOURCE, mapping)
    assert text.startswith("mapping.none.to: 'enc/conv1' matches nothing in target after `except` -> did you mean")


def test_a_rule_that_matches_only_layers_without_weights():
    target = structure("a/kernel", ". Model\n a Dense\n flatten Flatten\n flat Flatten")
    (text,) = problems_of(target, "a/kernel", {"r": {"to": "flat.*"}}, unmatched="keep")
    assert text == (
        "mapping.r.to: matches only layers without weights, such as 'flatten'"
        " -> `optional: true` lets a rule match nothing"
    )


def test_an_except_that_takes_nothing_out_is_a_warning():
    plan = plan_of(TARGET, SOURCE, {"trunk": {**TRUNK, "except": ["enc/conv3", "head"]}, "head": HEAD})
    (warning,) = [w for w in plan.warnings if w.code == "except-nothing"]
    assert warning.where == "mapping.trunk"
    assert warning.text == "`except: enc/conv3` matches nothing, so it takes nothing out"


# Problems and warnings ------------------------------------------------------------------------------------------------


def test_all_problems_of_a_plan_at_once():
    mapping = {
        "one": {"to": "enc/conv1", "from": "gone"},
        "two": {"to": "nothing", "from": "x"},
        "three": {"to": "head", "from": "old/out"},
    }
    edits = {"e": {"at": "nowhere", "index": [0], "set": 1}}
    found = problems_of(TARGET, SOURCE, mapping, edit=edits, freeze=["typo"])
    assert [p.partition(":")[0] for p in found] == [
        *("mapping.two.to", "mapping.one.from", "mapping.three", "mapping.three", "unmatched", "edit.e.at", "freeze"),
    ]


def test_hints_stop_before_they_take_minutes():
    many = "\n".join(f"layer{i}/kernel" for i in range(60))
    source = catalog("\n".join(f"layre{i}/kernel" for i in range(60)), "s")
    found = problems_of(many, source, {"r": {"to": r"(layer\d+)", "from": r"\1"}})
    assert [("did you mean" in p) for p in found] == [True] * 20 + [False] * 40


def test_a_source_that_nothing_needs():
    plan = plan_of("a/kernel", None, unmatched="keep", edit={"e": {"at": "a/kernel", "index": [0, 0], "set": 1}})
    assert plan.source_weights == plan.assignments == ()
    assert codes(plan) == []
