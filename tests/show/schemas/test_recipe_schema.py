"""The JSON Schema of recipes: it takes what the parser takes, and refuses what the parser refuses."""

from pathlib import Path

import jsonschema
import pytest
import yaml
from hub_folders import write_folders
from hypothesis import given
from hypothesis import strategies as st

from transferpipe.cli.compose.composing import Composer
from transferpipe.planning.transforms import MERGES, TRANSFORMS, TransformError, parse_merge, parse_transform
from transferpipe.recipe.keys import ANY, walk_keys
from transferpipe.show.help_pages import read_topic
from transferpipe.show.schemas import DRAFT, read_schema

CONF = Path(__file__).parents[3] / "conf"
SCHEMA = read_schema("recipe")
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)
KEYS = {".".join(path): (path, key) for path, key in walk_keys()}
MISSPELT = [name for name, (path, _) in KEYS.items() if not name.endswith("_target_")]


def errors(data):
    return [e.message for e in VALIDATOR.iter_errors(data)]


def at(name, value, written=None):
    """Return a recipe in which nothing stands but one key."""
    path, _ = KEYS[name]
    data = {written or path[-1]: value}
    for part in reversed(path[:-1]):
        data = {"one" if part == ANY else part: data}
    return data


def test_it_is_a_schema():
    assert SCHEMA["$schema"] == DRAFT
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("recipe", sorted(p.stem for p in (CONF / "recipe").glob("*.yaml")))
def test_every_shipped_recipe_is_valid_as_it_stands_and_when_it_is_composed(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folders(tmp_path)
    assert errors(yaml.safe_load((CONF / "recipe" / f"{recipe}.yaml").read_text(encoding="utf-8"))) == []
    data = Composer().compose([f"recipe={recipe}", *(["source.path=x.h5"] if recipe == "nested_vgg16" else [])]).data
    assert set(data) > {"mapping", "save", "verify"}
    assert errors(data) == []


@pytest.mark.parametrize("file", sorted(p.relative_to(CONF) for p in CONF.glob("s*/*.yaml")), ids=str)
def test_every_shipped_file_of_a_group_is_valid_where_it_is_put(file):
    text = yaml.safe_load((CONF / file).read_text(encoding="utf-8"))
    if file.parts[0] == "score" and text:
        text.pop("defaults", None)
    assert errors({file.parts[0]: text}) == []


@pytest.mark.parametrize("name", KEYS)
def test_every_key_takes_its_example_an_interpolation_and_what_is_left_open(name):
    key = KEYS[name][1]
    for value in (key.example, key.default, *key.words):
        if value is not None:
            assert errors(at(name, value)) == [], value
    if key.kind not in ("defaults",):
        assert errors(at(name, "???")) == errors(at(name, "${vars.x}")) == []


@pytest.mark.parametrize("name", KEYS)
def test_null_stands_where_the_row_says_so(name):
    assert bool(errors(at(name, None))) is not KEYS[name][1].takes_null


@given(st.sampled_from(MISSPELT), st.data())
def test_a_misspelt_key_is_refused(name, data):
    path, key = KEYS[name]
    word = path[-1]
    position = data.draw(st.integers(0, len(word) - 1))
    typed = data.draw(st.sampled_from([word[:position] + word[position + 1 :], word[: position + 1] + word[position:]]))
    inside = {p[-1] for p, _ in KEYS.values() if p[:-1] == path[:-1]}
    if typed in inside or not typed:
        typed = f"{word}_"
    assert errors(at(name, key.example)) == []
    assert errors(at(name, key.example, typed)) != []


@pytest.mark.parametrize(
    "recipe",
    [
        "mapping: {a: {to: x, transform: [transpos]}}",
        "mapping: {a: {to: x, transform: {kernel: [{transpos: [1, 0]}]}}}",
        "mapping: {a: {to: x, transform: [{transpose: [1, 0], flip: [0]}]}}",
        "mapping: {a: {to: x, merge: median}}",
        "mapping: {a: 3}",
        "mapping: []",
        "source: 3",
        "source: {path: 3}",
        "source: {path: a, classes: 3}",
        "unmatched: kep",
        "seed: -1",
        "seed: 1.5",
        "strict: 'yes'",
        "save: {shard: many}",
        "edit: {a: {at: x, index: [a], set: 1}}",
        "edit: {a: {at: x, index: [0], set: 1e-5}}",
        "verify: {parity: {atol: small}}",
        "allow: [unsed]",
        "score: my.score",
        "score: {repeats: 3}",
        "hydra: {run: {dir: /tmp}}",
        "sweep: {controls: [randm]}",
        "- a",
    ],
)
def test_what_is_wrong_is_refused(recipe):
    assert errors(yaml.safe_load(recipe)) != []


@pytest.mark.parametrize(
    "recipe",
    [
        "source: a.h5",
        "target: {_target_: my.build, anything: {deep: [1, {_target_: my.inner}]}}",
        "sources: {a: a.h5, b: {path: b.h5, layout: torch}}",
        "mapping: {a: null, b: {to: x, from: null}, c: {to: x, transform: {kernel: [transpose], bias: []}}}",
        "mapping: {a: {to: x, transform: [transpose, {transpose: [1, 0]}, {cast: float32}], merge: mean}}",
        "verify: {parity: source}",
        "verify: {parity: {source: {_target_: my.reference}, atol: 1e-5}}",
        "verify: {parity: false}",
        "save: {shard: 1.5 GiB, also: a.npz}",
        "save: out.keras",
        "edit: {a: {at: x, index: '0:2', multiply: 2}, b: null}",
        "freeze: none",
        "ignore: '.*'",
        "defaults: [digits, mapping: mine, _self_]",
        "{}",
    ],
)
def test_what_is_right_is_taken(recipe):
    assert errors(yaml.safe_load(recipe)) == []


@pytest.mark.parametrize(("table", "key"), [(TRANSFORMS, "transform"), (MERGES, "merge")])
def test_every_transform_and_merge_is_known_with_what_its_page_shows(table, key):
    page = read_topic("transforms")
    for name in table:
        prefix = "merge: " if key == "merge" else ""
        section = page.split(f"\n{prefix}{name}\n---")[1].split("\n---")[0]
        forms = [line.strip().removeprefix(prefix) for line in section.splitlines() if line.startswith("    ")]
        assert forms
        for form in forms:
            step = yaml.safe_load(form) if ": " in form else form
            value = step if key == "merge" else [step]
            assert errors({"mapping": {"a": {"to": "x", key: value}}}) == [], form


KINDS = [
    (key, name, kind) for key, table in (("transform", TRANSFORMS), ("merge", MERGES)) for name, kind in table.items()
]


@pytest.mark.parametrize(("key", "name", "kind"), KINDS, ids=[name for _, name, _ in KINDS])
def test_an_argument_that_a_transform_does_not_have_is_refused_by_both(key, name, kind):
    parse = parse_merge if key == "merge" else parse_transform
    assert kind.arguments is not None
    for argument in [*(f"{a}_" for a in kind.arguments), "colour"]:
        others = [a for a in kind.arguments if a != "widths"]  # of pad, which stands for the others
        step = {name: {**dict.fromkeys(others, 0), argument: 0}}
        assert errors({"mapping": {"a": {"to": "x", key: step if key == "merge" else [step]}}}) != []
        with pytest.raises(TransformError) as caught:
            parse(step)
        if kind.arguments:
            assert f"has no argument {argument!r}" in caught.value.what
            assert any(a in caught.value.fix for a in kind.arguments)
    given = {name: dict.fromkeys(kind.arguments, 0)}
    if kind.arguments:
        assert errors({"mapping": {"a": {"to": "x", key: given if key == "merge" else [given]}}}) == []


def test_transforms_and_layouts_of_installed_packages_are_known(monkeypatch):
    from transferpipe.planning.transforms import OUTSIDE
    from transferpipe.recipe.layouts import OUTSIDE as LAYOUTS

    recipe = {"mapping": {"a": {"to": "x", "transform": [{"power": {"of": 2}}], "layout": "mine"}}}
    assert errors(recipe) != []
    monkeypatch.setattr(OUTSIDE, "names", lambda: ("power",))
    monkeypatch.setattr(LAYOUTS, "names", lambda: ("mine",))
    assert list(jsonschema.Draft7Validator(read_schema("recipe")).iter_errors(recipe)) == []


def test_the_page_shows_every_key_and_its_recipe_is_valid():
    page = read_topic("recipe")
    flat = " ".join(page.split())
    for path, key in walk_keys():
        assert f"* `{path[-1]}`: {key.about}" in flat
    example = "\n".join(line for line in page.split("\n\n") if line.startswith("    source:"))
    assert errors(yaml.safe_load(example)) == []
    assert set(yaml.safe_load(example)) == {"source", "target", "mapping", "freeze"}
