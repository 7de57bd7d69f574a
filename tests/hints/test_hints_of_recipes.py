"""What is said of a recipe that is wrong, done as it is printed: the recipe then moves the right values."""

from pathlib import Path

import numpy as np
import pytest
from advice import follow

import transferpipe as tp
from transferpipe.errors import TransferError
from transferpipe.execute.prepare import prepare
from transferpipe.execute.run import execute
from transferpipe.planning.reading.read_recipe import read_recipe

follows = pytest.mark.follows
RANDOM = np.random.default_rng(3)
LAYERS = ("conv", "head")
SOURCE = {f"{n}/{w}": RANDOM.normal(size=s).astype("float32")
          for n in LAYERS for w, s in (("kernel", (3, 4)), ("bias", (4,)))}  # fmt: skip
BAD = {**SOURCE, "conv/kernel": np.full((3, 4), np.nan, "float32")}
NEGATIVE = {"bn/moving_variance": np.array([1, -1], "float32")}
BOTH = {"r": {"to": "conv|head"}}
HEAD = {"mapping": {"r": {"to": "head", "from": "conv"}}, "unmatched": "keep"}
MOVED = {"head/kernel": "conv/kernel", "head/bias": "conv/bias"}

# The key of the hint, what is wrong in the recipe, and which weight of the target takes which of the source then.
CASES = [
    ("Fields.finish: did you mean …?", {"mapping": {"r": {"to": "head", "frm": "conv"}}, "unmatched": "keep"}, MOVED),
    ("Fields.finish: did you mean …?", {**HEAD, "unmached": "keep"}, None),
    ("Fields.choice: did you mean …?", {**HEAD, "unmatched": "kep"}, MOVED),
    ("_parse_allow: did you mean …?", {**HEAD, "allow": ["unusd"]}, MOVED),
    ("_claim: did you mean …?", {"mapping": {"r": {"to": "hed", "from": "conv"}}, "unmatched": "keep"}, MOVED),
    ("_pair_weight: did you mean …?", {"mapping": {"r": {"to": "head/bias", "from": "conv/bais"}}, "unmatched": "keep"},
     {"head/bias": "conv/bias"}),
    ("_report_no_layer: take its layer: from=…", {**HEAD, "mapping": {"r": {"to": "head", "from": "cnv"}}}, MOVED),
    ("_report_no_layer: take its layer: from=…", {**HEAD, "mapping": {"r": {"to": "head", "from": "conv/bias"}}}, MOVED),
    ("_refuse_unclaimed: set unmatched=… (… of", {"mapping": HEAD["mapping"]},
     {**MOVED, "conv/kernel": "conv/kernel", "conv/bias": "conv/bias"}),
    ("_check_own_names: did you mean …?", {**HEAD, "mapping": {"r": {**HEAD["mapping"]["r"], "transform": {"kernl": [{"scale": 1}]}}}},
     MOVED),
    ("check_edits: did you mean …?", {**HEAD, "edit": {"e": {"at": "conv/kernal", "index": [":", ":"], "set": 0}}}, MOVED),
    ("refuse_warnings: fix what is wrong", {**HEAD, "strict": True}, MOVED),
    ("format_called: did you mean …?", {**HEAD, "source": {"path": "source.npz", "format": "npzz"}}, MOVED),
    ("_check_path: did you mean …?", {**HEAD, "source": {"path": "sorce.npz"}}, MOVED),
]  # fmt: skip


def run(recipe):
    keys = {"source": {"path": "source.npz"}, "target": "target.npz", "save": "out/model.npz", **recipe}
    return execute(prepare(read_recipe(keys)), Path())


def read():
    with np.load("out/model.npz") as file:
        return dict(file)


def refused(recipe):
    with pytest.raises(TransferError) as caught:
        run(recipe)
    return caught.value.problems[0]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("source.npz", **SOURCE)
    np.savez("target.npz", **{name: np.full_like(value, 9) for name, value in SOURCE.items()})
    return tmp_path


@pytest.mark.parametrize(
    ("wrong", "moved"),
    [pytest.param(*case, id=f"{i} {key}", marks=follows(key)) for i, (key, *case) in enumerate(CASES)],
)
def test_the_recipe_as_it_is_advised_moves_the_right_values(wrong, moved, here):
    right = follow(wrong, refused(wrong))
    if moved is None:  # the key is meant twice then; the one that was right says the same
        right, moved = {k: v for k, v in right.items() if k in HEAD}, MOVED
    run(right)
    result = read()
    for name in SOURCE:
        expected = SOURCE[moved[name]] if name in moved else np.full_like(SOURCE[name], 9)
        if "edit" in right and name == "conv/kernel":
            expected = np.zeros_like(expected)
        assert np.array_equal(result[name], expected), name


@pytest.mark.parametrize(
    ("source", "layer"),
    [
        pytest.param(BAD, "conv/kernel", marks=follows("check_finite: take another source; to")),
        pytest.param(NEGATIVE, "bn/moving_variance", marks=follows("check_variance: take another source; to")),
    ],
)
def test_values_are_copied_as_they_are_where_that_is_asked_for(source, layer, here):
    np.savez("source.npz", **source)
    np.savez("target.npz", **{layer: np.ones_like(source[layer])})
    wrong = {"mapping": {"r": {"to": layer}}}
    run(follow(wrong, refused(wrong)))
    assert read()[layer].tobytes() == source[layer].tobytes()


@follows("_check_free: choose another name, or")
def test_a_file_is_replaced_where_that_is_asked_for(here):
    run(HEAD)
    np.savez("source.npz", **{name: value + 1 for name, value in SOURCE.items()})
    wrong = {**HEAD, "save": {"path": "out/model.npz"}}
    run(follow(wrong, refused(wrong)))
    assert np.array_equal(read()["head/bias"], SOURCE["conv/bias"] + 1)


@follows("parse_save: save.path=model…")
def test_a_format_that_can_be_cut_into_several_files(here):
    wrong = {**HEAD, "save": {"path": "model.npz", "shard": "1GB"}}
    right = follow(wrong, refused(wrong))
    run(right)
    saved = tp.catalog(here / right["save"]["path"])
    assert {w.name for w in saved} == set(SOURCE)
