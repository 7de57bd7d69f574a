"""What a plan is refused for, and what is advised then: the recipe is changed as it is printed, and planned again."""

import dataclasses
import hashlib
import re

import numpy as np
import pytest
import yaml
from advice import braces, follow, offered, put
from compact import catalog, structure

import transferpipe as tp
from transferpipe.errors import RecipeError, TransferError
from transferpipe.planning.planner import make_plan
from transferpipe.planning.reading.read_recipe import read_recipe
from transferpipe.weights.spec import Double, Unreadable

follows = pytest.mark.follows

TARGET = """
enc/a/kernel 2x3 float32 Dense
enc/a/bias 3 float32 Dense
enc/b/kernel 3x3 float32 Dense
enc/b/bias 3 float32 Dense
head/kernel 3x2 float32 Dense
"""
SOURCE = TARGET
ALL = {"enc/a/kernel", "enc/a/bias", "enc/b/kernel", "enc/b/bias", "head/kernel"}


def plan(recipe, source=SOURCE, target=TARGET, unreadable=()):
    """Return the plan of a recipe over catalogs given as text."""
    given = source if isinstance(source, dict) else {"source": source}
    catalogs = {a: dataclasses.replace(catalog(text, a), unreadable=unreadable) for a, text in given.items()}
    origins = {"sources": {a: {"path": a} for a in given}} if isinstance(source, dict) else {"source": {"path": "s"}}
    read = read_recipe({**origins, "target": {"path": "t"}, **recipe})
    of = target if not isinstance(target, str) else structure(target)
    return make_plan(read, catalogs, of, dict.fromkeys([*given, "target"], "x"))


def refused(recipe, *rest, **keys):
    """Return the first problem of a recipe that cannot be planned."""
    with pytest.raises(RecipeError) as caught:
        plan(recipe, *rest, **keys)
    return caught.value.problems[0]


def moved(planned):
    """Return the names of the source weights that a plan gives to those of the target."""
    return {a.target: ":".join((a.sources[0].source, a.sources[0].name)).removeprefix("source:")
            for a in planned.assignments}  # fmt: skip


def same(*names):
    return {n: n for n in names}


def changed(recipe, fix, where):
    """Return the recipe with a rule switched off, a key added to a rule, or a rule of its own, whatever `fix` says."""
    recipe = {**recipe, "mapping": dict(recipe.get("mapping", {}))}
    key = re.search("`(except): (.*?)`", fix)
    if key:
        rule = re.search(r"give mapping\.(\w+) `except", fix)
        name = rule[1] if rule else where.removeprefix("mapping.").partition(".")[0]
        recipe["mapping"][name] = {**recipe["mapping"][name], "except": yaml.safe_load(key[2])}
    elif off := re.search(r"mapping\.(\w+)=null", fix):
        recipe["mapping"][off[1]] = None
    for rule in braces(fix):
        recipe["mapping"]["added"] = rule
    return recipe


# Weights that a rule should not claim --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mapping", "kept"),
    [
        ({"a": {"to": "enc"}, "b": {"to": "enc/b", "from": None}}, {"enc/b/kernel", "enc/b/bias"}),
        ({"a": {"to": "enc/.*"}, "b": {"to": "enc/b/bias", "from": None}}, {"enc/b/bias"}),
        (
            {"a": {"to": "enc", "except": "enc/a/bias"}, "b": {"to": ".*/bias", "from": None}},
            {"enc/a/bias", "enc/b/bias"},
        ),
    ],
)
@follows("_check_disjoint: give …, or switch")
def test_rules_that_claim_the_same(mapping, kept):
    recipe = {"mapping": mapping, "unmatched": "keep"}
    problem = refused(recipe)
    planned = plan(changed(recipe, problem.fix, problem.where))
    assert {k.target for k in planned.kept} == kept | {"head/kernel"}
    assert moved(planned) == same(*ALL - kept - {"head/kernel"})


@follows("_check_disjoint: give …, or switch")
def test_rules_that_claim_nothing_else():
    recipe = {"mapping": {"a": {"to": "enc"}, "b": {"to": "enc", "from": None}}, "unmatched": "keep"}
    problem = refused(recipe)
    assert "except" not in problem.fix
    off = re.findall(r"mapping\.(\w)=null", problem.fix)
    assert off == ["a", "b"]
    for name in off:
        planned = plan({**recipe, "mapping": {**recipe["mapping"], name: None}})
        assert moved(planned) == ({} if name == "a" else same(*ALL - {"head/kernel"}))


@follows("_check_same: give …, or switch")
def test_two_names_of_one_variable():
    second = catalog("out/table 4x3").weights[0]
    tied = dataclasses.replace(catalog("emb/table 4x3\nd/kernel 3x3", "t"), doubles=(Double(second, "emb/table", 1),))
    source = "emb/table 4x3\nother/table 4x3\nd/kernel 3x3"
    for to, taken in (("out", {"emb/table": "emb/table"}), ("out|zz", {"emb/table": "other/table"})):
        recipe = {"mapping": {"a": {"to": "emb|d"}, "b": {"to": to, "from": "other"}}}
        problem = refused(recipe, source, target=structure(tied))
        fix = problem.fix if to == "out" else re.sub("mapping.a `.*?` or ", "", problem.fix)
        right = changed(recipe, fix, problem.where)
        if to == "out":  # the rule that claims nothing else is switched off
            right = {"mapping": {**recipe["mapping"], re.findall(r"mapping\.(\w)=null", fix)[1]: None}}
        planned = plan(right, source, target=structure(tied))
        assert moved(planned) == taken | {"d/kernel": "d/kernel"}


@pytest.mark.parametrize("rule", [{"to": "enc"}, {"to": "enc/a/kernel"}, {"to": "enc/.*", "except": "enc/b/bias"}])
@follows("Pairing.refuse_unreadable: …, or …")
def test_a_weight_that_cannot_be_read_is_kept_alone(rule):
    left = Unreadable("enc/a/kernel", "is int4, which NumPy does not have", "save it as a float")
    source = SOURCE.replace("enc/a/kernel 2x3 float32 Dense", "")
    recipe = {"mapping": {"r": rule}, "unmatched": "keep"}
    problem = refused(recipe, source, unreadable=(left,))
    if "`except" in problem.fix:
        right = changed(recipe, problem.fix, problem.where)
    else:
        right = put(recipe, "mapping.r.from", yaml.safe_load(re.search(r"from=(\w+)", problem.fix)[1]))
    planned = plan(right, source, unreadable=(left,))
    claimed = {"enc/a/kernel"} if rule["to"].endswith("kernel") else ALL - {"head/kernel"}
    assert moved(planned) == same(*claimed - {"enc/a/kernel", rule.get("except")})
    assert "enc/a/kernel" in {k.target for k in planned.kept}


@pytest.mark.parametrize("to", ["enc", "enc/a/bias"])
@follows("assign: give this rule …,")
def test_a_weight_that_its_layer_saves_in_its_own_way_is_kept_alone(to):
    target = structure(TARGET, fixed=("enc/a/bias",))
    recipe = {"mapping": {"r": {"to": to}}, "unmatched": "keep"}
    problem = refused(recipe, target=target)
    fix = problem.fix
    right = put(recipe, "mapping.r.from", None) if "from=null" in fix else changed(recipe, fix, problem.where)
    assert moved(plan(right, target=target)) == same(*() if to != "enc" else ALL - {"enc/a/bias", "head/kernel"})


@follows("_report_missing: …")
def test_weights_that_the_source_layer_lacks():
    source = "enc/a/kernel 2x3\nenc/b/kernel 3x3"
    recipe = {"mapping": {"r": {"to": "enc"}}, "unmatched": "keep"}
    problem = refused(recipe, source)
    planned = plan(changed(recipe, problem.fix, problem.where), source)
    assert moved(planned) == same("enc/a/kernel", "enc/b/kernel")
    assert {k.target for k in planned.kept if k.rule == "added"} == {"enc/a/bias", "enc/b/bias"}


# Names and sources ----------------------------------------------------------------------------------------------------


@follows("_settle_same_name: give it a rule:")
def test_a_name_in_several_sources():
    source = {"one": SOURCE, "two": "head/kernel 3x2"}
    recipe = {"unmatched": "same_name"}
    planned = plan(changed(recipe, refused(recipe, source).fix, ""), source)
    assert moved(planned)["head/kernel"] == "one:head/kernel"


@follows("_settle_same_name: did you mean …?")
def test_a_name_in_no_source():
    target = TARGET.replace("head/kernel 3x2", "head/kernel 3x7")
    source = target.replace("head/kernel", "head/kernels")
    recipe = {"unmatched": "same_name"}
    problem = refused(recipe, source, target=target)
    rule = {"to": "head/kernel", "from": offered(problem.fix)[0]}
    planned = plan({**recipe, "mapping": {"r": rule}}, source, target=target)
    assert moved(planned)["head/kernel"] == "head/kernels"
    source = TARGET.replace("head/kernel 3x2 float32 Dense", "")  # the kernels that are left have other sizes
    planned = plan(changed(recipe, refused(recipe, source, target=target).fix, ""), source, target=target)
    assert [k.target for k in planned.kept] == ["head/kernel"]


@follows("_settle_same_name: give it a rule: #2")
def test_a_layer_whose_weights_are_numbered():
    target = "a/beta 4 float32 BatchNormalization\na/moving_mean 4 float32 BatchNormalization"
    source = "a/0 4 float32 BatchNormalization\na/1 4 float32 BatchNormalization"
    problem = refused({"unmatched": "same_name"}, source, target=target)
    planned = plan(changed({"unmatched": "same_name"}, problem.fix, ""), source, target=target)
    assert moved(planned) == {"a/beta": "a/0", "a/moving_mean": "a/1"}


@pytest.mark.parametrize("ignore", [[], ["enc/b"]])
@follows("_refuse_unused: add a rule for")
def test_unused_weights_are_ignored(ignore):
    recipe = {"mapping": {"r": {"to": "head"}}, "unmatched": "keep", "unused": "error", "ignore": ignore}
    source = SOURCE + "x/y 3\n"
    for _ in range(1 if ignore else 2):
        problem = refused(recipe, source)
        if "=" not in problem.fix:  # too many to be named
            recipe = {**recipe, "ignore": ["enc"]}
            continue
        recipe = follow(recipe, problem)
    planned = plan(recipe, source)
    assert not planned.unused
    assert {w.name for w in planned.source_weights if w.fate == "ignored"} == ALL - {"head/kernel"} | {"x/y"}


@pytest.mark.parametrize(
    ("rule", "right", "wanted"),
    [
        ({"to": "enc/.*", "from": "enc/a"}, {"except": "enc/b"}, same("enc/a/kernel", "enc/a/bias")),
        ({"to": "enc/a", "from": "enc/."}, {"from": "enc/a"}, same("enc/a/kernel", "enc/a/bias")),
        ({"to": "enc/a", "from": "zzz"}, {"from": "enc/a"}, same("enc/a/kernel", "enc/a/bias")),
    ],
)
@follows("_pair_by_order: correct `from`: it matches")
def test_patterns_that_match_unlike_counts(rule, right, wanted):
    recipe = {"mapping": {"r": {**rule, "pair": "order"}}, "unmatched": "keep"}
    problem = refused(recipe)
    (key,) = right
    assert f"`{key}`" in problem.fix
    recipe["mapping"]["r"] |= right
    assert moved(plan(recipe)) == wanted


@pytest.mark.parametrize("beside", ["arith/constant 4", "zeros 3x3\n shape -\n axes -\n more 2", "other/a/kernel 2x3"])
@pytest.mark.parametrize("alias", ["", "one:"])
@follows("_pair_by_order: correct `from`: it matches")
def test_what_lies_beside_the_layers_of_a_graph(beside, alias):
    """As in a file of TensorFlow Lite, whose layers have a home of their own, and constants lie elsewhere."""
    target = "a/kernel 2x3\n a/bias 3\n b/kernel 3x3\n b/bias 3\n head/kernel 3x2"
    source = "node/x/kernel 3x2\n node/x/bias 3\n node/y/kernel 3x3\n node/y/bias 3\n node/z/kernel 2x3"
    recipe = {"mapping": {"r": {"to": ".*", "from": f"{alias}.*", "pair": "order"}}, "unused": "report"}
    given = f"{source}\n{beside}"
    given = {"one": given, "two": "z 1"} if alias else given
    with pytest.raises(RecipeError) as caught:
        plan(recipe, given, target)
    found = re.search(r"write from: '(.*)'", caught.value.problems[0].fix)[1]
    assert found == f"{alias}node/.*"
    recipe["mapping"]["r"] |= {"from": found, "transform": {"kernel": ["transpose"]}}
    names = [line.split()[0] for line in target.splitlines()]
    assert moved(plan(recipe, given, target)) == {
        name: f"{alias}node/{name.replace('a/', 'x/').replace('b/', 'y/').replace('head', 'z')}" for name in names
    }


@follows("_pair_units: pair them by name")
def test_layers_that_hold_unlike_counts():
    recipe = {"mapping": {"r": {"to": "enc/a", "from": "x", "pair": "order"}}, "unmatched": "keep"}
    assert refused(recipe, "x/kernel 2x3").fix == "pair them by name"
    recipe["mapping"]["r"] = {"to": "enc/a/kernel", "from": "x/kernel"}
    assert moved(plan(recipe, "x/kernel 2x3")) == {"enc/a/kernel": "x/kernel"}


@follows("compile_template: add the group to")
def test_a_group_that_the_pattern_lacks():
    recipe = {"mapping": {"r": {"to": "enc/.", "from": r"enc/\1"}}, "unmatched": "keep"}
    assert "`to`" in refused(recipe).fix
    recipe["mapping"]["r"]["to"] = "enc/(.)"
    assert moved(plan(recipe)) == same(*ALL - {"head/kernel"})


@follows("plan_freezing: did you mean …?")
def test_layers_to_freeze():
    target = structure(TARGET, "enc/a Dense\nenc/b Dense\nhead Dense\nenc ?\n. ?")
    recipe = {"unmatched": "same_name"}
    right = offered(refused({**recipe, "freeze": ["enc/aa"]}, target=target).fix)[0]
    assert plan({**recipe, "freeze": [right]}, target=target).freezing.layers == ("enc/a",)
    layer = refused({**recipe, "freeze": ["head/kernel"]}, target=target).fix.removeprefix("name its layer: ")
    assert plan({**recipe, "freeze": [layer]}, target=target).freezing.layers == ("head",)
    target = structure("total 3\nd/kernel 2x2 float32 Dense", ". Model\nd Dense")
    root = re.search("'(.*?)'", refused({**recipe, "freeze": ["total"]}, "total 3\nd/kernel 2x2", target=target).fix)[1]
    frozen = plan({**recipe, "freeze": [root]}, "total 3\nd/kernel 2x2", target=target).freezing
    assert set(frozen.frozen_weights) == {"total", "d/kernel"}


# Where things come from -----------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, number in (("s", 2), ("t", 1)):
        np.savez(f"{name}.npz", **{"a/kernel": np.full((3, 2), number, "float32")})
    return tmp_path


def run(recipe):
    keys = {"mapping": {"r": {"to": "a"}}, "save": "o.npz", **recipe}
    tp.transfer(keys.pop("source", None), keys.pop("target", None), folder=".", **keys)
    return np.load("o.npz")["a/kernel"]


def problem_of(recipe):
    with pytest.raises(TransferError) as caught:
        run(recipe)
    return caught.value.problems[0]


@follows("_check_sources_are_there: give `path:` or `_target_:`")
def test_a_source_is_required(here):
    key = re.search("`(.*?):`", problem_of({"target": "t.npz"}).fix)[1]
    assert (run({"target": "t.npz", "source": {key: "s.npz"}}) == 2).all()


@follows("_parse_target: give `_target_:` of a")
def test_a_target_is_required(here):
    with pytest.raises(RecipeError) as caught:
        read_recipe({"source": {"path": "s.npz"}, "mapping": {"r": {"to": "a"}}})
    key = re.search("or `(.*?):`", caught.value.problems[0].fix)[1]
    assert (run({"source": "s.npz", "target": {key: "t.npz"}}) == 2).all()


@follows("_digest: take it from `sha256sum")
def test_the_digest_of_a_source(here):
    recipe = {"source": {"path": "s.npz", "sha256": "abc"}, "target": "t.npz"}
    assert "sha256sum FILE" in problem_of(recipe).fix
    digest = hashlib.sha256((here / "s.npz").read_bytes()).hexdigest()  # which sha256sum prints
    assert (run(put(recipe, "source.sha256", digest)) == 2).all()


@follows("parse_build: give one: …._target_=...")
def test_the_name_of_a_builder(here):
    recipe = {"source": "s.npz", "target": {"_target_": "???"}, "unmatched": "keep", "save": "m.weights.h5"}
    key, value = problem_of(recipe).fix.removeprefix("give one: ").split("=")
    right = put(recipe, key, value.replace("...", "transferpipe.zoo.small_mlp"))
    right |= {"mapping": {"r": {"to": "classes/bias", "from": "b"}}, "source": "b.npz"}
    np.savez("b.npz", b=np.array([1, 2, 3], "float32"))
    tp.transfer(right.pop("source"), right.pop("target"), folder=".", **right)
    written = tp.catalog(here / "m.weights.h5")
    assert "classes/bias" in {w.name for w in written}
