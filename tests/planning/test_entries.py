"""Steps of single sources before the merge: planned, computed, shown, recorded, and refused where they cannot be."""

import json

import numpy as np
import pytest
from compact import plan_of
from safetensors.numpy import load_file, save_file

import transferpipe as tp
from transferpipe.errors import RecipeError
from transferpipe.planning.reading.read_plan import plan_from_data
from transferpipe.planning.tables.plan_rows import plan_rows
from transferpipe.prove.manifest import weight_entries
from transferpipe.weights.formats import open_source

RANDOM = np.random.default_rng(5)
SOURCE = {
    "q/kernel": RANDOM.normal(size=(4, 6)).astype("float32"),
    "k/kernel": RANDOM.normal(size=(6, 4)).astype("float32"),
    "q/bias": RANDOM.normal(size=6).astype("float32"),
    "k/bias": RANDOM.normal(size=6).astype("float32"),
}
TARGET = {"qk/kernel": np.zeros((4, 12), "float32"), "qk/bias": np.zeros(12, "float32")}
JOINED = {
    "to": "qk",
    "from": [
        {"name": "q", "transform": [{"scale": 2}]},
        {"name": "k", "transform": {"kernel": ["transpose"]}},
    ],
    "transform": [{"concat": -1}],
}
SHAPES = ("qk/kernel 4x12\nqk/bias 12", "q/kernel 4x6\nk/kernel 6x4\nq/bias 6\nk/bias 6")


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file(SOURCE, "a.safetensors")
    save_file(TARGET, "t.safetensors")


def test_each_source_goes_through_its_own_steps_then_all_through_those_of_the_rule(files, tmp_path):
    report = tp.transfer("a.safetensors", "t.safetensors", mapping={"qk": JOINED}, save=tmp_path / "o.safetensors")
    made = load_file(tmp_path / "o.safetensors")
    wanted = np.concatenate([SOURCE["q/kernel"] * 2, SOURCE["k/kernel"].T], axis=1)
    assert made["qk/kernel"].tobytes() == wanted.tobytes()
    assert made["qk/bias"].tobytes() == np.concatenate([SOURCE["q/bias"] * 2, SOURCE["k/bias"]]).tobytes()
    assert report.verdict.weights == "pass"


def test_a_merge_takes_what_the_steps_of_each_source_give():
    mapping = {
        "m": {
            "to": "w",
            "from": [{"name": "a", "transform": ["transpose"]}, "b"],
            "merge": {"linear": [0.5, 0.5]},
            "transform": [{"reshape": [-1]}],
        }
    }
    plan = plan_of("w 6", "a 2x3\nb 3x2", mapping)
    (found,) = plan.assignments
    assert (found.items, found.transforms) == ((("transpose",), ()), ({"reshape": [-1]},))
    assert [(e.sources[0].name, e.steps) for e in found.entries] == [("a", ("transpose",)), ("b", ())]
    assert not found.is_copy


def test_the_plan_shows_and_keeps_the_steps_of_each_source():
    plan = plan_of(*SHAPES, {"qk": JOINED})
    assert [row.notes for row in plan_rows(plan)] == [
        "1: scale(2.0), 2: transpose, concat(axis=-1)",
        "1: scale(2.0), 2: as it is, concat(axis=-1)",
    ]
    again = plan_from_data(json.loads(json.dumps(plan.to_data())))
    assert again == plan and again.checksum == plan.checksum
    other = {**JOINED, "from": [{"name": "q", "transform": [{"scale": 3}]}, JOINED["from"][1]]}
    assert plan_of(*SHAPES, {"qk": other}).checksum != plan.checksum


def test_the_steps_of_a_single_source_are_those_of_the_rule():
    alone = {"to": "w", "from": {"name": "a", "transform": ["transpose"]}, "transform": [{"scale": 2}]}
    rule = {"to": "w", "from": "a", "transform": ["transpose", {"scale": 2}]}
    plans = [plan_of("w 3x2", "a 2x3", {"w": r}) for r in (alone, rule)]
    assert plans[0].checksum == plans[1].checksum


def test_the_k_th_match_goes_through_its_steps():
    mapping = {"r": {"to": "t.*", "from": {"name": "s.*", "transform": ["transpose"]}, "pair": "order"}}
    plan = plan_of("t1/kernel 3x2\nt2/kernel 3x4", "s1/kernel 2x3\ns2/kernel 4x3", mapping)
    assert [a.transforms for a in plan.assignments] == [("transpose",)] * 2


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (
            {"from": ["q", {"name": "k", "transform": {"kernl": []}}]},
            r"mapping.r.from.1.transform.kernl: the rule claims",
        ),
        (
            {"from": ["q", {"name": "k", "transform": ["transpos"]}]},
            r"mapping.r.from.1.transform.0: there is no transform",
        ),
        (
            {"from": ["q", {"name": "k", "transform": [{"slice": ["0:9"]}]}], "transform": [{"concat": -1}]},
            r"qk/bias from q/bias, k/bias: k/bias: slice\(0:9\): stop 9 lies outside axis 0",
        ),
        ({"from": [{"name": "q", "transform": [{"scale": 2}]}, "k"]}, "nothing combines the inputs, but there are 2"),
    ],
)
def test_what_cannot_be_is_said_with_the_place_of_the_step(rule, said):
    with pytest.raises(RecipeError, match=said):
        plan_of(*SHAPES, {"r": {"to": "qk", **rule}})


def test_one_source_feeds_several_targets():
    """A fused kernel is taken apart, one rule for each of its parts."""
    mapping = {
        name: {"to": name, "from": "qkv", "transform": [{"slice": {"axis": 0, "start": 4 * k, "stop": 4 * k + 4}}]}
        for k, name in enumerate("qkv")
    }
    plan = plan_of("q 4x3\nk 4x3\nv 4x3", "qkv 12x3", mapping)
    assert [w.fate for w in plan.source_weights] == ["used"] and len(plan.assignments) == 3


def test_the_manifest_names_the_steps_of_each_source(files, tmp_path):
    plan = tp.plan("a.safetensors", "t.safetensors", mapping={"qk": JOINED}, save="o.safetensors")
    entries = weight_entries(plan, open_source(tmp_path / "t.safetensors").catalog, dict.fromkeys(TARGET, ""), {})
    kernel = next(e for e in entries if e["name"] == "qk/kernel")
    assert (kernel["adapted"], kernel["transforms"]) == ([[{"scale": 2}], ["transpose"]], [{"concat": -1}])
