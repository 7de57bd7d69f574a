"""The table of keys: what is in it is read, what is read is in it, and every key is what its misspelling is answered with."""

import copy
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from transferpipe.errors import Problems, RecipeError
from transferpipe.planning.reading.read_recipe import read_recipe
from transferpipe.recipe.keys import ANY, SECTIONS, find_keys, walk_keys
from transferpipe.recipe.parsing.fields import Fields
from transferpipe.sweep.settings import read_settings_of

KEYS = {".".join(path): (path, key) for path, key in walk_keys()}
SWEEP = [name for name in KEYS if name.startswith("sweep")]
COMPOSED = [name for name, (_, key) in KEYS.items() if key.composed]
PARSED = [name for name in KEYS if name not in [*SWEEP, *COMPOSED]]
# What a key needs beside itself, by the path of what it stands in.
BESIDE = {
    (): {"target": "b.keras", "source": {"path": "a.h5"}, "unmatched": "keep"},
    ("mapping", ANY): {"to": "enc/(.*)", "from": r"enc/\1"},
    ("mapping", ANY, "from"): {"name": r"enc/\1"},
    ("edit", ANY): {"at": "head/kernel", "index": [0, 0], "set": 1.0},
    ("save",): {"path": "model.safetensors"},
    ("save", "like"): {"path": "reference.safetensors"},
    ("verify", "parity"): {"source": True},
}
FOR = {
    "mapping.*.merge": {"from": [r"a/\1", r"b/\1"], "to": "enc/(.*)"},
    "edit.*.set": {"at": "head/kernel", "index": [0, 0]},
    "edit.*.add": {"at": "head/kernel", "index": [0, 0]},
    "edit.*.multiply": {"at": "head/kernel", "index": [0, 0]},
    "edit.*.noise": {"at": "head/kernel", "index": [0, 0]},
    **{
        f"edit.*.{key}": {"at": "head/kernel", "set": 1.0}
        for key in ("filters", "channels", "mask", "smallest", "largest")
    },
    **{f"edit.*.{key}": {"at": "head/kernel", "smallest": 0.5, "set": 1.0} for key in ("of", "within")},
    "verify.parity.inputs": {"expected": "y.npz"},
    "verify.parity.expected": {"inputs": "x.npz"},
    "save.path": {},
    "mapping.*.units.norm": {"keep": "largest"},
    "mapping.*.pair": {"to": "enc/(.*)", "from": "enc/.*"},
}


def recipe_with(name, value, written=None):
    """Return a recipe in which `value` stands at the key `name`, under another spelling if one is given."""
    path, _ = KEYS[name]
    data = here = copy.deepcopy(BESIDE[()])
    if path[0] == "sources":
        del data["source"]
    for depth, part in enumerate(path[:-1], 1):
        here[part if part != ANY else "one"] = here = copy.deepcopy(BESIDE.get(path[:depth], {}))
    if name in FOR:
        here.clear()
        here.update(copy.deepcopy(FOR[name]))
    if name.endswith("._target_"):
        here.pop("path", None)
    elif len(path) > 1 and "_target_" in find_keys(path[:-1]) and (name != "target.like" or value is None):
        here.setdefault("path", "a.safetensors")
    here[written or path[-1]] = value
    return data


def problems(data):
    try:
        read_recipe(data)
    except RecipeError as error:
        return [str(p) for p in error.problems]
    return []


@pytest.mark.parametrize("name", PARSED)
def test_every_key_takes_the_value_that_its_row_shows(name):
    key = KEYS[name][1]
    example = key.default if name == "target.layout" else key.example  # a target has Keras's layout
    assert problems(recipe_with(name, example)) == []


@pytest.mark.parametrize("name", PARSED)
def test_a_default_means_the_same_as_leaving_the_key_out(name):
    path, key = KEYS[name]
    if (
        key.required
        or name in ("mapping.*.merge", "source", "save.path", "verify.parity.source")
        or key.kind in ("number", "number or file", "integers", "share")
        or name == "edit.*.mask"
    ):
        pytest.skip("nothing holds where it is left out")
    with_default = recipe_with(name, key.default)
    without = copy.deepcopy(with_default)
    here = without
    for part in path[:-1]:
        here = here["one" if part == ANY else part]
    del here[path[-1]]
    if key.default is None and not key.takes_null:
        return
    if name.endswith(".from"):  # null keeps the target's values
        assert key.default == r"\0"
    if problems(without):
        assert problems(with_default)
    else:
        assert read_recipe(with_default) == read_recipe(without)


@pytest.mark.parametrize("name", PARSED)
def test_null_stands_where_the_row_says_so(name):
    _, key = KEYS[name]
    if name in (
        *(f"edit.*.{key}" for key in ("filters", "channels", "mask", "smallest", "largest")),
        "edit.*.set",
        "verify.parity.source",
        "verify.parity.expected",
        "sources.*._target_",
        "source._target_",
    ):
        pytest.skip("the recipe needs it, or another key in its place")
    if (
        name.endswith("_target_")
        or name == "verify.parity.inputs"
        or name.startswith(("edit.*.add", "edit.*.mul", "edit.*.noise"))
    ):
        pytest.skip("the recipe needs it, or another key in its place")
    assert bool(problems(recipe_with(name, None))) is not key.takes_null


@pytest.mark.parametrize("name", [n for n in PARSED if KEYS[n][1].kind in ("choice", "words", "layout")])
def test_every_word_is_taken_and_no_other(name):
    key = KEYS[name][1]
    for word in key.words:
        if name.startswith("target.") and word != "auto":  # a target has Keras's layout
            continue
        assert problems(recipe_with(name, word)) == [], word
    for word in (f"{key.words[0]}x", "", 7, True, ["error"], {}):
        assert len(problems(recipe_with(name, word))) >= 1, word


@st.composite
def misspellings(draw):
    """Draw a key and what somebody types who means it: a letter left out, doubled, or two swapped."""
    name = draw(st.sampled_from([n for n in KEYS if not n.endswith("_target_")]))
    word = KEYS[name][0][-1]
    at = draw(st.integers(0, len(word) - 1))
    typed = draw(
        st.sampled_from(
            [
                word[:at] + word[at + 1 :],
                word[: at + 1] + word[at:],
                word[:at] + word[at : at + 2][::-1] + word[at + 2 :],
            ]
        )
    )
    others = find_keys(KEYS[name][0][:-1])
    return (name, typed) if typed and typed not in others else (name, f"{word}_")


@pytest.mark.follows("read_settings_of: did you mean …?")
@given(misspellings())
def test_a_misspelt_key_is_refused_and_answered_with_the_key(drawn):
    name, typed = drawn
    path, key = KEYS[name]
    if path[0] == "sweep" and len(path) == 2:
        with pytest.raises(RecipeError) as caught:
            read_settings_of({typed: key.example})
        read_settings_of({path[-1]: key.example})
        found = [str(p) for p in caught.value.problems]
    elif path[0] == "sweep" and len(path) > 2:
        return  # an origin like the others
    else:
        found = problems(recipe_with(name, key.example, typed))
    (line,) = [p for p in found if "unknown key" in p]
    where = ".".join(path[:-1]).replace(ANY, "one")
    assert line.startswith(f"{where}.{typed}: " if where else f"{typed}: ")
    hint = line.partition(" -> ")[2]
    assert f"'{path[-1]}'" in hint or path[-1] in hint.removeprefix("known here: ").split(", ")


@pytest.mark.parametrize("section", [s for s in SECTIONS if s != "sweep"])
def test_nothing_is_read_that_is_not_in_the_table(section):
    fields = Fields({"colour": "red"}, "", Problems(), section)
    for read in (fields.raw, fields.text, fields.flag, fields.choice, fields.texts, fields.mapping, fields.is_null):
        with pytest.raises(KeyError):
            read("colour")


def test_everything_in_the_table_is_read(monkeypatch):
    read = set()

    def note(self, data, where, problems, section="recipe"):
        original(self, data, where, problems, section)
        self._rows = Noting(self._rows, section)

    class Noting(dict):
        def __init__(self, rows, section):
            super().__init__(rows)
            self.section = section

        def __getitem__(self, key):
            read.add((self.section, key))
            return super().__getitem__(key)

    original = Fields.__init__
    monkeypatch.setattr(Fields, "__init__", note)
    for name in PARSED:
        problems(recipe_with(name, KEYS[name][1].example))
    rows = {(section, name) for section, keys in SECTIONS.items() for name, key in keys.items() if not key.composed}
    unread = {(s, n) for s, n in rows - read if s not in ("sweep", "origin")}  # an origin is part of a sweep
    assert unread == {("source", "_target_"), ("target", "_target_")}  # which decides how the rest is read


def test_a_key_that_only_a_recipe_file_has_is_said_to_be_one():
    for name in COMPOSED:
        (line,) = problems(recipe_with(name, KEYS[name][1].example))
        name = name.replace(f".{ANY}.", ".one.")
        assert line == f"{name}: is for recipe files, which the command line puts together -> leave it out"
        assert problems(BESIDE[()]) == []


# Sweeps ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in SWEEP if n.count(".") == 1])
def test_every_key_of_a_sweep_takes_the_value_that_its_row_shows(name):
    (path, key) = KEYS[name]
    read_settings_of({path[-1]: key.example})
    assert read_settings_of({path[-1]: key.default}) == read_settings_of({})
    assert read_settings_of({path[-1]: None}) == read_settings_of({})


@pytest.mark.parametrize("name", [n for n in SWEEP if n.count(".") == 1])
@pytest.mark.follows("_note_value: write …")
def test_a_wrong_value_in_a_sweep_is_answered_with_one_that_is_right(name):
    key = KEYS[name][0][-1]
    with pytest.raises(RecipeError) as caught:
        read_settings_of({key: 3 if KEYS[name][1].kind == "flag" else True})
    (problem,) = caught.value.problems
    assert problem.where == name
    written = yaml.safe_load("{" + problem.fix.removeprefix("write ") + "}")
    assert list(written) == [key]
    read_settings_of(written)


@pytest.mark.follows("_note_value: did you mean …?")
@pytest.mark.parametrize("typed, fix", [("worts", "did you mean 'worst'?"), ("zero", "use one of them")])
def test_a_word_that_a_key_of_a_sweep_does_not_know(typed, fix):
    with pytest.raises(RecipeError) as caught:
        read_settings_of({"failed": typed})
    (problem,) = caught.value.problems
    assert (problem.where, problem.what, problem.fix) == ("sweep.failed", f"{typed!r} is none of worst, drop", fix)
    for word in ("worst", "drop"):
        assert read_settings_of({"failed": word}).failed == word


def test_one_word_is_a_list_of_one():
    assert read_settings_of({"controls": "random", "log": "mlflow"}) == read_settings_of(
        {"controls": ["random"], "log": ["mlflow"]}
    )


def test_the_controls_are_those_that_there_are():
    from transferpipe.sweep.comparing.controls import CONTROLS

    assert set(SECTIONS["sweep"]["controls"].words) == set(CONTROLS)


# What stands in conf --------------------------------------------------------------------------------------------------


def test_the_primary_configuration_has_every_key_with_its_default():
    text = (Path(__file__).parents[2] / "conf" / "config.yaml").read_text(encoding="utf-8")
    config = yaml.safe_load(text)
    assert set(config) - {"hydra"} == set(SECTIONS["recipe"])
    for name in ("save", "verify", "sweep"):
        assert set(config[name]) == set(SECTIONS[name])
        assert config[name] == {key.name: key.default for key in SECTIONS[name].values()}
    for key in SECTIONS["recipe"].values():
        if key.name not in ("defaults", "name", "save", "verify", "sweep"):
            assert config[key.name] == key.default, key.name
