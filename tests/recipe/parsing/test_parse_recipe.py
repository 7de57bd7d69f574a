"""From plain data to a checked recipe: every key, every wrong value, all mistakes at once."""

import copy

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from recipe_data import FULL, SMALL, one_problem, parse, problems

from transferpipe.errors import RecipeError, UnsafeError
from transferpipe.recipe.layouts import LAYOUTS
from transferpipe.recipe.model import Build, Edit, From, Ignore, Origin, Save, Verify
from transferpipe.recipe.patterns import Pattern
from transferpipe.recipe.templates import Template

# Every key ------------------------------------------------------------------------------------------------------------


def test_every_key_is_read():
    recipe = parse(FULL)
    assert recipe.name == "whole"
    assert recipe.sources == {"source": Origin("a.h5", format="legacy_h5", layout="keras")}
    base = Build("my.base", {"sizes": [1, 2]}, "target.backbone")
    assert recipe.target == Origin(build=Build("my.build", {"classes": 2, "backbone": base}, "target"))
    assert (recipe.unmatched, recipe.unused, recipe.seed, recipe.expect) == ("keep", "error", 7, "p123")
    assert recipe.ignore == (Ignore(None, Pattern("old/.*")),)
    assert recipe.edits == (Edit("probe", "head/kernel", (3, "0:2"), "set", 99.0),)
    assert (recipe.freeze, recipe.freeze_transferred) == ((Pattern("enc"),), True)
    assert recipe.save == Save("out/m.weights.h5", ("m.npz",), True)
    assert recipe.verify == Verify(True, "allow", "allow")
    assert recipe.score == Build("my.score", {"repeats": 3}, "score")


def test_every_key_of_a_rule_is_read():
    trunk, by_order, head = parse(FULL).rules
    assert trunk.name == "trunk"
    assert trunk.where == "mapping.trunk"
    assert trunk.to == Pattern(r"enc/(?P<i>\d+)")
    assert trunk.froms == (
        From("source", r"a\1", template=Template(r"a\1")),
        From("source", "b{i+1}", template=Template("b{i+1}")),
    )
    assert trunk.excepts == (Pattern("enc/9"),)
    assert trunk.merge == {"linear": [0.5, 0.5]}
    assert trunk.transforms_of("kernel") == ({"transpose": [1, 0]},)
    assert trunk.transforms_of("bias") == trunk.transforms_of("gamma") == ()
    assert (trunk.on_mismatch, trunk.optional, trunk.pair, trunk.keep) == ("keep", True, "name", False)
    assert by_order.froms == (From("source", "d.*", pattern=Pattern("d.*")),)
    assert (by_order.pair, by_order.on_mismatch, by_order.optional) == ("order", "error", False)
    assert by_order.transforms_of("anything") == ("transpose",)
    assert (head.keep, head.froms, head.merge) == (True, (), None)


def test_what_is_left_out_has_its_default():
    recipe = parse(SMALL)
    assert recipe.rules == recipe.ignore == recipe.edits == recipe.freeze == ()
    assert (recipe.unmatched, recipe.unused, recipe.seed, recipe.name) == ("error", "report", 0, "recipe")
    assert recipe.save == Save("model.keras", (), False)
    assert recipe.verify == Verify(False, "error", "error")
    assert recipe.score is None
    assert recipe.expect is None
    assert not recipe.freeze_transferred


@pytest.mark.parametrize(
    "key",
    [
        *("source", "sources", "mapping", "unused", "ignore", "edit", "freeze", "save", "verify", "score", "seed"),
        *("name", "expect"),
    ],
)
def test_null_is_the_default(key):
    without = {"target": "b.keras", "unmatched": "keep"}
    if key == "unused":
        assert one_problem({**without, key: None}) == "unused: must be one of report, error, not null"
    else:
        assert parse({**without, key: None}) == parse(without)


def test_the_largest_seed():
    assert parse({**SMALL, "seed": 2**32 - 1}).seed == 2**32 - 1


def test_the_data_is_left_as_it_was():
    before = copy.deepcopy(FULL)
    parse(FULL)
    assert before == FULL


@pytest.mark.parametrize("key", ["source", "target"])
def test_a_path_may_stand_alone(key):
    assert parse({**SMALL, key: "x.keras"}) == parse({**SMALL, key: {"path": "x.keras"}})


def test_a_builder_may_say_its_layout():
    recipe = parse({**SMALL, "source": {"_target_": "my.build", "layout": "keras", "n": 1}})
    assert recipe.sources["source"] == Origin(build=Build("my.build", {"n": 1}, "source"), layout="keras")
    recipe = parse({**SMALL, "source": {"_target_": "my.build", "layout": "mine"}})
    assert recipe.sources["source"].build.arguments == {"layout": "mine"}


@pytest.mark.parametrize("where", ["source", "target"])
def test_builders_at_any_depth(where):
    inner = {"_target_": "my.inner", "n": 1}
    recipe = parse({**SMALL, where: {"_target_": "my.build", "a": {"b": [inner]}}})
    origin = recipe.target if where == "target" else recipe.sources["source"]
    assert origin.build.arguments["a"]["b"] == [Build("my.inner", {"n": 1}, f"{where}.a.b.0")]


# Unknown and missing keys, wrong types --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("mappping", "did you mean 'mapping'?"),
        (
            "zzz",
            "known here: allow, defaults, edit, expect, freeze, ignore, mapping, name, optimizer, quantize, reverse, save, score, seed, source, sources, state, strict, sweep, target,",
        ),
        ("source.pth", "did you mean 'path'?"),
        ("mapping.trunk.form", "did you mean 'from', 'transform'?"),
        ("mapping.head.exept", "did you mean 'except'?"),
        ("edit.probe.idx", "did you mean 'index'?"),
        ("save.overwrit", "did you mean 'overwrite'?"),
        ("verify.relaod", "did you mean 'reload'?"),
    ],
)
def test_an_unknown_key_anywhere(path, hint):
    data = copy.deepcopy(FULL)
    *parents, key = path.split(".")
    node = data
    for parent in parents:
        node = node[parent]
    node[key] = 1
    assert one_problem(data).startswith(f"{path}: unknown key -> {hint}")


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("source", 3, "source: must be a path or a mapping, not integer 3"),
        ("source.path", 3, "source.path: must be text, not integer 3"),
        ("source.format", 1, "source.format: must be text, not integer 1"),
        ("source.layout", "torchy", f"source.layout: must be one of auto, {', '.join(LAYOUTS)}, not text"),
        ("target", [1], "target: must be a path or a mapping, not list [1]"),
        ("target._target_", "build", "target._target_: must be a dotted Python name such as my_models.build, not"),
        ("target._target_", 3, "target._target_: must be a dotted Python name such as my_models.build, not integer 3"),
        ("target.backbone._target_", "a b", "target.backbone._target_: must be a dotted Python name"),
        ("target._partial_", True, "target._partial_: is not the name of an argument"),
        ("target.backbone.two words", 1, "target.backbone.two words: is not the name of an argument"),
        ("mapping", [], "mapping: must be a mapping, not list []"),
        ("mapping.trunk", "x", "mapping.trunk: must be a mapping with `to` and `from`, or null, not text 'x'"),
        ("mapping.head.to", 3, "mapping.head.to: must be text, not integer 3"),
        ("mapping.head.to", "", "mapping.head.to: a pattern over target names is required"),
        ("mapping.head.to", None, "mapping.head.to: a pattern over target names is required"),
        (
            "mapping.trunk.from",
            3,
            "mapping.trunk.from: must be a name, or a mapping with `name` and `transform`, or a list",
        ),
        (
            "mapping.trunk.from",
            ["a", None],
            "mapping.trunk.from: must be a name, or a mapping with `name` and `transform`",
        ),
        ("mapping.trunk.from", [{"transform": []}], "mapping.trunk.from.0.name: the source's name is required"),
        ("mapping.trunk.from", {"name": 3}, "mapping.trunk.from.name: must be text, not integer 3"),
        ("mapping.trunk.from", [{"name": "a", "steps": []}], "mapping.trunk.from.0.steps: unknown key"),
        ("mapping.trunk.from", ["a", {"name": "a", "transform": 3}], "mapping.trunk.from.1.transform: must be a list"),
        ("mapping.trunk.from", [], "mapping.trunk.from: is an empty list -> name a source, or set it to null to keep"),
        ("mapping.trunk.except", 3, "mapping.trunk.except: must be a list of texts, not integer 3"),
        ("mapping.trunk.transform", 3, "mapping.trunk.transform: must be a list of transforms, or a list for each"),
        ("mapping.trunk.transform", {"kernel": "x"}, "mapping.trunk.transform: must be a list of transforms, or a"),
        ("mapping.trunk.transform", ["transpos"], "mapping.trunk.transform.0: there is no transform 'transpos'"),
        ("mapping.trunk.transform", {"bias": [{}]}, "mapping.trunk.transform.bias.0: a transform is one name"),
        ("mapping.trunk.merge", "median", "mapping.trunk.merge: there is no merge 'median'"),
        ("mapping.trunk.on_mismatch", "kep", "mapping.trunk.on_mismatch: must be one of error, keep, not text 'kep'"),
        ("mapping.trunk.optional", "yes", "mapping.trunk.optional: must be true or false, not text 'yes'"),
        ("mapping.trunk.optional", 1, "mapping.trunk.optional: must be true or false, not integer 1"),
        ("mapping.trunk.pair", "odrer", "mapping.trunk.pair: must be one of name, order, not text 'odrer' -> did you"),
        ("unmatched", "same", "unmatched: must be one of error, keep, same_name, same_name_or_keep, not text 'same'"),
        ("unused", True, "unused: must be one of report, error, not true/false True"),
        ("ignore", {"a": 1}, "ignore: must be a list of texts, not mapping {'a': 1}"),
        ("ignore", ["("], "ignore.0: '(' is not a regular expression"),
        ("edit", [], "edit: must be a mapping, not list []"),
        ("edit.probe", 3, "edit.probe: must be a mapping with `at`, `index` and one of set, add, multiply, not"),
        ("freeze", 3, "freeze: must be a list of texts, not integer 3"),
        ("freeze", ["a("], "freeze: 'a(' is not a regular expression"),
        ("save", 3, "save: must be a path or a mapping, not integer 3"),
        ("save.path", 3, "save.path: must be text, not integer 3"),
        ("save.also", 3, "save.also: must be a list of texts, not integer 3"),
        ("save.overwrite", "no", "save.overwrite: must be true or false, not text 'no'"),
        ("verify", True, "verify: must be a mapping, not true/false True"),
        ("verify.reload", "x", "verify.reload: must be true or false, not text 'x'"),
        ("verify.nonfinite", "alow", "verify.nonfinite: must be one of error, allow, not text 'alow' -> did you mean"),
        ("verify.negative_variance", 1, "verify.negative_variance: must be one of error, allow, not integer 1"),
        ("score", "my.score", "score: must name a callable with `_target_:`, not text 'my.score'"),
        ("score", {"a": 1}, "score: must name a callable with `_target_:`, not mapping {'a': 1}"),
        ("seed", True, "seed: must be an integer, not true/false True"),
        ("seed", 1.5, "seed: must be an integer, not number 1.5"),
        ("seed", -1, "seed: must be at least 0, not -1"),
        ("seed", 2**32, "seed: must be at most 4294967295, not 4294967296"),
        ("name", 3, "name: must be text, not integer 3"),
        ("expect", 12e45, "expect: must be text, not number 1.2e+46"),
    ],
)
def test_a_wrong_value_is_one_problem(path, value, text):
    data = copy.deepcopy(FULL)
    *parents, key = path.split(".")
    node = data
    for parent in parents:
        node = node[parent]
    node[key] = value
    assert one_problem(data).startswith(text)


def test_a_long_value_is_not_shown_whole():
    assert len(one_problem({**SMALL, "seed": "x" * 1000})) < 120


@pytest.mark.parametrize(
    "path",
    [
        *("source", "source.path", "target", "target._target_", "target.classes", "target.backbone.sizes"),
        *("mapping", "mapping.trunk.to", "mapping.trunk.from", "mapping.trunk.except", "mapping.trunk.transform"),
        *("mapping.trunk.merge", "mapping.trunk.pair", "mapping.trunk.optional", "unmatched", "ignore", "edit"),
        *("edit.probe.at", "edit.probe.index", "edit.probe.set", "freeze", "save", "save.path", "save.also", "verify"),
        *("verify.reload", "score", "score.repeats", "seed", "name", "expect"),
    ],
)
def test_a_required_value_left_open_is_one_problem(path):
    data = copy.deepcopy(FULL)
    *parents, key = path.split(".")
    node = data
    for parent in parents:
        node = node[parent]
    node[key] = "???"
    assert one_problem(data) == f"{path}: a value is required -> give one: {path}=..."


def test_a_required_value_deep_inside_arguments():
    data = {**SMALL, "target": {"_target_": "my.build", "a": {"b": [1, "???"]}}}
    assert one_problem(data) == "target.a.b.1: a value is required -> give one: target.a.b.1=..."


def test_all_problems_at_once():
    data = {
        "source": {"path": "a.h5", "formt": "x"},
        "mapping": {
            "one": {"to": "a(", "from": "b{", "transform": ["transpos"], "merge": "men"},
            "two": {"from": r"\1", "optional": 3},
            "three": {"to": "a", "from": r"\1"},
        },
        "unmatched": "no",
        "edit": {"e": {"at": "x", "index": ["a"], "set": "b", "ad": 1}},
        "freeze": ["(?!x)"],
        "save": "/abs.kers",
        "verify": {"reload": 1},
        "seed": -3,
        "frezze": 1,
    }
    assert [p.partition(" ")[0] for p in problems(data)] == [
        *("target:", "source.formt:"),
        *("mapping.one.to:", "mapping.one.from:", "mapping.one.transform.0:", "mapping.one.merge:"),
        *("mapping.two.to:", "mapping.two.optional:", "mapping.three.from:", "unmatched:"),
        *("edit.e.index:", "edit.e.set:", "edit.e.ad:", "freeze:"),
        *("save.path:", "save.path:", "verify.reload:", "seed:", "frezze:"),
    ]


# Anything at all ------------------------------------------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**33) | st.floats() | st.sampled_from(["???", "a", "x.keras", r"\1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=5,
)
paths = ["source", "sources", "target", "mapping", "mapping.trunk", "edit", "edit.probe", "save", "verify", "score"]
keys = [*FULL, *(f"mapping.trunk.{k}" for k in FULL["mapping"]["trunk"]), *(f"save.{k}" for k in FULL["save"]), *paths]


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(keys), values, max_size=4))
@example({"mapping.trunk": {}, "mapping.trunk.merge": {"a": r"\1", "b": r"\1"}})  # the same problem twice
@example({"save.path": r"\1"})  # no path of any system: unsafe, with its place
def test_whatever_stands_in_a_recipe_is_read_or_refused_with_places(changes):
    data = copy.deepcopy(FULL)
    for path, value in sorted(changes.items()):
        *parents, key = path.split(".")
        node = data
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node[key] = value
    try:
        parse(data)
    except (RecipeError, UnsafeError) as error:
        found = error.problems
        assert len(set(found)) == len(found)
        assert all(p.where.split(".")[0] in {*FULL, "sources"} for p in found)


def test_numbers_beyond_floats_are_refused_in_words():
    fold = {"to": "a", "from": "b", "fold": "n", "fold_with": {"epsilon": 10**400}}
    assert one_problem({**SMALL, "mapping": {"r": fold}}).startswith("mapping.r.fold_with: epsilon: integer 1000")
    parity = {"inputs": "x.npz", "expected": "y.npz", "atol": 10**400}
    found = one_problem({**SMALL, "verify": {"parity": parity}})
    assert found.startswith("verify.parity.atol: must be a number of at least 0, not integer 1000")
