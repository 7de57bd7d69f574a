"""Merges against what mergekit 0.1.5 gave on the same tensors: a base and two models that were trained further from it.

Where mergekit draws random numbers its own way, what it drew is read off its result.
"""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from transferpipe.cli import main
from transferpipe.planning.transforms import apply_chain, parse_merge
from transferpipe.planning.transforms.merging.task_vectors import sum_up

REFERENCE = json.loads((Path(__file__).parent / "mergekit.json").read_text())
WEIGHTS = tuple(REFERENCE["shapes"])
K_PROJ, NORM_1, NORM = WEIGHTS
TOLERANCE = 1e-7
WEIGHED = {"base": 0, "weights": [0.6, 0.4]}
SAME = {
    "linear_sum1": ("one two", {"linear": [0.3, 0.7]}),
    "linear_normalised": ("one two", {"linear": {"weights": [1, 3], "normalize": True}}),
    "linear_not_normalised": ("one two", {"linear": [1, 3]}),
    "linear_three_equal": ("base one two", "mean"),
    "slerp_t0": ("one two", {"slerp": 0}),
    "slerp_t03": ("one two", {"slerp": 0.3}),
    "slerp_t1": ("one two", {"slerp": {"t": 1}}),
    "task_arithmetic": ("base one two", {"task_arithmetic": WEIGHED}),
    "task_arithmetic_lambda": ("base one two", {"task_arithmetic": {**WEIGHED, "scale": 0.5}}),
    "task_arithmetic_negative": ("base one", {"task_arithmetic": {"base": 0, "weights": -1}}),
    "ties_d1": ("base one two", {"ties": {**WEIGHED, "density": 1}}),
    "ties_d05": ("base one two", {"ties": {**WEIGHED, "density": 0.5}}),
    "ties_d05_not_normalised": ("base one two", {"ties": {**WEIGHED, "density": [0.5, 0.5], "normalize": False}}),
    "ties_d05_lambda": ("one base two", {"ties": {**WEIGHED, "base": 1, "density": 0.5, "scale": 0.7}}),
    "ties_d02": ("one two base", {"ties": {**WEIGHED, "base": 2, "density": 0.2}}),
    "dare_linear_d1": ("base one two", {"dare": {**WEIGHED, "density": 1}}),
    "breadcrumbs_d09": ("base one two", {"breadcrumbs": {**WEIGHED, "density": 0.9, "gamma": 0.05}}),
    "nuslerp": ("one two", {"slerp": 0.4}),  # whose weights are 0.6 and 0.4
    "model_stock": ("base one two", {"model_stock": {"base": 0}}),
}


def model(name, weight):
    return np.array(REFERENCE["inputs"][name][weight], "float32").reshape(REFERENCE["shapes"][weight])


def expected(case, weight):
    return np.array(REFERENCE["cases"][case][weight]).reshape(REFERENCE["shapes"][weight])


def test_every_case_is_compared():
    drawn = {"dare_linear_d05_seed7", "dare_ties_d05_seed7"}
    # In slerp_gradient every rule has a t of its own; layers are stacked by rules, below.
    others = {"slerp_gradient", "linear_bf16_out", "passthrough_stack"}
    assert REFERENCE["cases"].keys() == SAME.keys() | drawn | others


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("case", SAME)
def test_a_merge_gives_what_mergekit_gives(case, weight):
    names, merge = SAME[case]
    result = apply_chain([parse_merge(merge)], [model(name, weight) for name in names.split()])
    assert result.dtype == np.float32
    assert np.abs(result - expected(case, weight)).max() <= TOLERANCE


@pytest.mark.parametrize(("weight", "t"), [(K_PROJ, 0.0), (NORM_1, 0.5), (NORM, 0.5)])
def test_the_way_along_the_arc_may_differ_from_weight_to_weight(weight, t):
    result = parse_merge({"slerp": t}).apply([model("one", weight), model("two", weight)])
    assert np.abs(result - expected("slerp_gradient", weight)).max() <= TOLERANCE


@pytest.mark.parametrize("weight", WEIGHTS)
def test_sources_that_are_cast_first_give_what_mergekit_gives_in_bfloat16(weight):
    halves = [model(name, weight).astype(ml_dtypes.bfloat16) for name in ("one", "two")]
    result = parse_merge({"linear": [0.3, 0.7]}).apply(halves)
    assert np.array_equal(result.astype("float64"), expected("linear_bf16_out", weight).astype("float32"))


def test_layers_of_two_models_are_stacked_by_rules(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        save_file({weight: model(name, weight) for weight in WEIGHTS}, f"{name}.safetensors")
    save_file({weight: np.zeros_like(model("one", weight)) for weight in WEIGHTS}, "frame.safetensors")
    mapping = {
        "layers": {"to": r"layers/(\d)/(.*)", "from": r"one:layers/\1/\2"},
        "last": {"to": "norm", "from": "two:norm"},
    }
    sources = {name: {"path": f"{name}.safetensors", "layout": "keras"} for name in ("one", "two")}
    target, save = {"path": "frame.safetensors"}, {"path": "stacked.safetensors"}
    Path("stack.yaml").write_text(json.dumps({"sources": sources, "target": target, "mapping": mapping, "save": save}))
    assert main(["run", "recipe=stack.yaml", "hydra.run.dir=out"]) == 0
    stacked = load_file("out/stacked.safetensors")
    assert stacked.keys() == REFERENCE["cases"]["passthrough_stack"].keys()
    for weight, value in stacked.items():
        assert np.array_equal(value, expected("passthrough_stack", weight).astype("float32")), weight


@pytest.mark.parametrize("weight", [K_PROJ, NORM])
@pytest.mark.parametrize("elect", [False, True])
def test_what_dare_adds_up_is_what_mergekit_adds_up(elect, weight):
    """Its factors are found from places that one model alone filled; then every place is explained by what was kept."""
    base, *models = (model(name, weight).astype("float64").ravel() for name in ("base", "one", "two"))
    found = expected("dare_ties_d05_seed7" if elect else "dare_linear_d05_seed7", weight).ravel() - base
    vectors = [m - base for m in models]
    factors = []
    for vector, share in zip(vectors, (0.6, 0.4), strict=True):
        ratios = found / (vector * share)
        near = [r for r in ratios if (np.abs(ratios - r) < 2e-4 * abs(r)).sum() > 1 and r > 1]
        factors.append(max(near, key=lambda r: (np.abs(ratios - r) < 2e-4 * abs(r)).sum()))
    ways = []
    for kept in ((0, 0), (0, 1), (1, 0), (1, 1)):
        scaled = [v * f * k for v, f, k in zip(vectors, factors, kept, strict=True)]
        ways.append(sum_up(scaled, (0.6, 0.4), elect=elect, normalize=False))
    assert np.abs(np.array(ways) - found).min(0).max() <= 2e-5  # the factors come from numbers of 7 digits


@pytest.mark.parametrize(
    ("one", "two", "t", "wanted"),
    [
        ([0, 0], [3, 4], 0.25, ["0x1.25e6a00000000p+0", "0x1.87de2c0000000p+0"]),
        ([1, 2], [2, 4], 0.25, ["0x1.4000000000000p+0", "0x1.4000000000000p+1"]),
        ([1, 2], [-1, -2], 0.25, ["0x1.0000000000000p-1", "0x1.0000000000000p+0"]),
        ([1, 0], [0, 3], 0.5, ["0x1.6a09e60000000p-1", "0x1.0f876c0000000p+1"]),
    ],
)
def test_the_arc_between_vectors_that_are_zero_parallel_opposite_or_at_right_angles(one, two, t, wanted):
    result = parse_merge({"slerp": t}).apply([np.array(one, "float32"), np.array(two, "float32")])
    assert np.abs(result - [float.fromhex(w) for w in wanted]).max() <= 3e-7


@pytest.mark.parametrize(
    ("density", "numbers", "wanted"),
    [
        (0.5, [3, -1, 2, -2, 1, 0], [3, 0, 2, -2, 0, 0]),
        (0.5, [1, 1, 1, 1], [1, 1, 0, 0]),
        (0.34, [1, 2, 3, 4, 5], [0, 0, 0, 0, 5]),
        (0, [1, 2], [0, 0]),
    ],
)
def test_which_numbers_are_kept_of_few(density, numbers, wanted):
    vector = np.array(numbers, "float32")
    result = parse_merge({"ties": {"base": 0, "density": density}}).apply([np.zeros_like(vector), vector])
    assert result.tolist() == wanted


def test_which_signs_are_elected():
    """Deltas (1, -1, 2, 0) and (-1, -1, -3, 0): in mergekit's masks the first and the third place belong to one model."""
    base = np.zeros(4, "float32")
    models = [np.array(d, "float32") for d in ([1, -1, 2, 0], [-1, -1, -3, 0])]
    result = parse_merge({"ties": {"base": 0, "density": 1}}).apply([base, *models])
    assert result.tolist() == [1, -1, -3, 0]
