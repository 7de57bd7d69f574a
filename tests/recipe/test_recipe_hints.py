"""What is said in words of a recipe's keys, done: the recipe is changed as the hint says, and moves the right values."""

import re

import numpy as np
import pytest
import yaml

import transferpipe as tp
from transferpipe.errors import TransferError
from transferpipe.planning.reading.read_recipe import read_recipe

follows = pytest.mark.follows
BASE = {"source": {"path": "s.npz"}, "target": {"path": "t.npz"}, "mapping": {"r": {"to": "a", "from": "a"}},
        "save": {"path": "o.npz", "overwrite": True}, "unmatched": "keep"}  # fmt: skip
VALUE = np.arange(12, dtype="float32").reshape(3, 4)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("s.npz", **{"a/kernel": VALUE, "b/kernel": VALUE + 1})
    np.savez("t.npz", **{"a/kernel": np.zeros((3, 4), "float32"), "b/kernel": np.zeros((3, 4), "float32")})
    return tmp_path


def run(recipe):
    keys = {**BASE, **recipe}
    keys = {k: v for k, v in keys.items() if v is not ...}
    sources = keys.pop("source", None), keys.pop("sources", None)
    tp.transfer(sources[0] or sources[1], keys.pop("target"), folder=".", **keys)
    with np.load(keys["save"]["path"]) as file:
        return dict(file)


def refused(recipe):
    keys = {k: v for k, v in {**BASE, **recipe}.items() if v is not ...}
    with pytest.raises(TransferError) as caught:
        read_recipe(keys)
        run(recipe)
    return caught.value.problems[0]


def save(**keys):
    return {"save": {**BASE["save"], **keys}}


def rule(**keys):
    return {"mapping": {"r": {**BASE["mapping"]["r"], **keys}}}


TWO = {"source": ..., "sources": {"one": {"path": "s.npz"}, "two": {"path": "s.npz"}}}

# The key of the hint, what is wrong, and what is written instead, made of the hint's words.
CASES = [
    ("_read_sources: keep one of them", {"sources": TWO["sources"]},
     lambda fix: {} if fix == "keep one of them" else None),
    ("_read_sources: use letters, digits and", {"source": ..., "sources": {"o e": {"path": "s.npz"}}},
     lambda fix: {"source": ..., "sources": {f"o{fix.split()[4]}e": {"path": "s.npz"}}}),
    ("_parse_rules: choose another name", {"mapping": {"unmatched": {"to": "a"}}},
     lambda fix: {"mapping": {fix.split()[1]: {"to": "a"}}}),
    ("_note_unnamed: save one of …", save(path="o.keras", layout="torch"),
     lambda fix: save(path="o" + next(s for s in fix.replace(",", "").split() if s == ".npz"), layout="torch")),
    ("_parse_shard: such as 2GB, 500MB", save(path="o.safetensors", shard="x"),
     lambda fix: save(path="o.npz", shard=None) if re.findall(r"\d+[KMG]i?B", fix) else None),
    ("_check_save_path: add one; a SavedModel", save(path="o.zzz"), lambda fix: save(path="o.npz")),
    ("_check_save_path: such as model…", save(path=".npz"), lambda fix: save(path=fix.split()[-1])),
    ("_check_save_path: write the folder out", save(path="~/o.npz"),
     lambda fix: save(path="home/o.npz") if "folder out" in fix else None),
    ("_check_save_path: choose another name", save(path="plan.json/o.npz"),
     lambda fix: save(path="plan/o.npz") if "another name" in fix else None),
    ("_check_save_path: give a path without", save(path="../o.npz"),
     lambda fix: save(path="../o.npz".replace(re.search("'(.*)'", fix)[1] + "/", ""))),
    ("parse_origin: set it on the", {"target": {"path": "t.npz", "layout": "torch"}},
     lambda fix: {fix.split()[-1]: {"path": "s.npz", "layout": "keras"}}),
    ("parse_origin: keep one of them", {"source": {"path": "s.npz", "_target_": "a.b"}}, lambda fix: {}),
    ("parse_origin: name a file or", {"source": {"format": "npz"}},
     lambda fix: {"source": {"format": "npz", "path": "s.npz"}}),
    ("_parse_entries: name a source, or", rule(**{"from": []}),
     lambda fix: rule(**{"from": ["a"]}) if "null" in fix else None),
    ("_parse_entries: write {name: 'enc/\\1', transform:", rule(**{"from": [{"transform": []}]}),
     lambda fix: rule(**{"from": [{**yaml.safe_load(fix.partition(" ")[2]), "name": "a", "transform": []}]})),
    ("_parse_from: write one of …", TWO | rule(**{"from": "a"}),
     lambda fix: TWO | rule(**{"from": re.search(r"(\w+):\.\.\.", fix)[1] + ":a"})),
    ("_parse_index: such as [3, 5],", {"edit": {"e": {"at": "b/kernel", "set": 0}}},
     lambda fix: {"edit": {"e": {"at": "b/kernel", "set": 0, "index": yaml.safe_load(fix.rpartition("or ")[2])}}}),
    ("Fields.raw: give one: …=...", {"target": "???"},
     lambda fix: {re.search(r"(\w+)=\.\.\.", fix)[1]: {"path": "t.npz"}}),
    ("_argument: give one: …=...", {"target": {"_target_": "transferpipe.zoo.small_mlp", "inputs": "???"}},
     lambda fix: {} if re.search(r"target\.inputs=\.\.\.", fix) else None),
    ("_check_index: give … entries; ':'", {"edit": {"e": {"at": "b/kernel", "index": [1], "set": 0}}},
     lambda fix: {"edit": {"e": {"at": "b/kernel", "index": [":"] * int(fix.split()[1]), "set": 0}}}),
    ("_check_index: give … entries; ':' #2", {"edit": {"e": {"at": "b/kernel", "index": [9, 0], "set": 0}}},
     lambda fix: {"edit": {"e": {"at": "b/kernel", "index": [int(fix.split()[-1]), 0], "set": 0}}}),
    ("_check_overlap: merge the two edits",
     {"edit": {n: {"at": "b/kernel", "index": [0, ":"], "set": v} for n, v in (("x", 1), ("y", 2))}},
     lambda fix: {"edit": {"x": {"at": "b/kernel", "index": [0, ":"], "set": 2}}}),
    ("_pair_weight: end both with the", {"mapping": {"r": {"to": "a/kernel", "from": "a"}}},
     lambda fix: {"mapping": {"r": {"to": "a/kernel", "from": "a/kernel"}}}),
    ("_parse_tolerance: such as 1.0e-4", {"verify": {"parity": {"source": True, "atol": "x"}}},
     lambda fix: {} if float(fix.split()[-1]) == 1e-4 else None),
    ("_parse_parity: inputs: x.npz", {"verify": {"parity": {"expected": "y.npz"}}},
     lambda fix: {} if yaml.safe_load(fix) == {"inputs": "x.npz"} else None),
    ("_parse_parity: keep one of them", {"verify": {"parity": {"expected": "y.npz", "inputs": "x.npz", "source": True}}},
     lambda fix: {}),
    ("_parse_parity: write it with numpy.savez", {"verify": {"parity": {"expected": "y.npy", "inputs": "x.npz"}}},
     lambda fix: {} if hasattr(np, fix.rpartition(".")[2]) else None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "mend"),
    [pytest.param(*case, id=f"{i} {key}", marks=follows(key)) for i, (key, *case) in enumerate(CASES)],
)
def test_the_recipe_is_changed_as_it_is_said(wrong, mend, here):
    right = mend(refused(wrong).fix)
    assert right is not None
    (here / "home").mkdir()
    found = run(right)
    values = {k.replace(".weight", "/kernel"): v for k, v in found.items()}
    moved = next(v for k, v in values.items() if k.startswith("a"))
    assert np.array_equal(moved, VALUE)
    if "edit" in right:
        index = tuple(slice(None) if i == ":" else slice(0, 3) if i == "0:3" else i
                      for i in next(iter(right["edit"].values()))["index"])  # fmt: skip
        changed = values["b/kernel"][index]
        assert (changed == next(iter(right["edit"].values()))["set"]).all()


@follows("prepare_opened: look at the plan;")
def test_the_plan_that_is_expected(here):
    problem = refused({"expect": "p000000000000"})
    checksum = re.search(r"this plan is (\w+)", problem.what)[1]
    assert np.array_equal(run({"expect": checksum})["a/kernel"], VALUE)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("o.keras", marks=follows("_check_formats: save as .weights.h5, or")),
        pytest.param("o.weights.h5", marks=follows("_check_formats: save as .safetensors or")),
    ],
)
def test_what_a_target_can_be_saved_as(path, here):
    if path == "o.keras":  # a target with Keras's places and without an architecture
        pytest.importorskip("keras")
        from transferpipe.zoo import small_mlp

        model = small_mlp()
        model.save_weights("t.weights.h5")
        recipe = {"target": {"path": "t.weights.h5"}, "mapping": {}, "source": ...}
    else:
        recipe = {}
    suffixes = re.findall(r"(?:as|or) (\.[\w.]+\w)", refused({**recipe, **save(path=path)}).fix)
    assert suffixes
    for suffix in suffixes:
        keys = {**BASE, **recipe, **save(path=f"o{suffix}")}
        keys = {k: v for k, v in keys.items() if v is not ...}
        tp.transfer(keys.pop("source", None), keys.pop("target"), folder=".", **keys)
        assert {w.name for w in tp.catalog(f"o{suffix}")} == {w.name for w in tp.catalog(keys.get("t") or (
            "t.weights.h5" if recipe else "t.npz"))}  # fmt: skip


@follows("_does_not_fit: choose a value that")
def test_a_value_that_the_dtype_holds(here):
    np.savez("t.npz", **{"a/kernel": np.zeros((3, 4), "float32"), "b/kernel": np.zeros((3, 4), "int8")})
    edit = {"e": {"at": "b/kernel", "index": [0, 0], "set": 1000}}
    assert refused({"edit": edit}).fix == "choose a value that the dtype holds"
    edit["e"]["set"] = int(np.iinfo("int8").max)
    assert run({"edit": edit})["b/kernel"][0, 0] == 127


@pytest.mark.parametrize("several", [False, True])
@follows("_parse_source: name the one to")
def test_which_source_is_compared_with(several):
    recipe = {**BASE, "verify": {"parity": {"source": True}}}
    recipe |= (
        {"sources": TWO["sources"], "mapping": {"r": {"to": "a", "from": "one:a"}}} if several else {"mapping": {}}
    )
    recipe.pop("source")
    with pytest.raises(TransferError) as caught:
        read_recipe(recipe)
    fix = next(p.fix for p in caught.value.problems if p.where == "verify.parity.source")
    if several:
        name = fix.partition(": ")[2].split(", ")[0]
        assert read_recipe({**recipe, "verify": {"parity": {"source": name}}}).verify.parity.source == name
    else:
        keys = dict.fromkeys(re.findall(r"inputs|expected", fix), "x.npz")
        assert read_recipe({**recipe, "verify": {"parity": keys}}).verify.parity.expected == "x.npz"


@follows("resolve: name a function or")
def test_a_function_or_a_class(tmp_path, monkeypatch):
    from transferpipe.recipe.trust import resolve

    monkeypatch.chdir(tmp_path)
    (tmp_path / "only_a_number.py").write_text("X = 3\n")
    with pytest.raises(TransferError) as caught:
        resolve("only_a_number.X", "target")
    assert caught.value.problems[0].fix == "name a function or a class"
    assert callable(resolve("transferpipe.zoo.small_mlp", "target"))


@follows("locate: name a file inside", "locate: write it as in")
def test_a_file_of_a_package():
    from transferpipe.recipe.locate import locate

    with pytest.raises(TransferError):
        locate("pkg://transferpipe/../x")
    assert locate("pkg://transferpipe/codes.py").is_file()
    with pytest.raises(TransferError) as caught:
        locate("pkg://my-package/x")
    example = caught.value.problems[0].fix.rpartition(" ")[2]
    path = example.replace("my_package", "transferpipe").replace("inner/path", "recipe/locate.py")
    assert locate(path).is_file()
