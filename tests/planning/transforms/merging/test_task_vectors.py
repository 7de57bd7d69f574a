"""Merges of task vectors against their papers, on small cases and by statistics; what they refuse, and what is advised."""

import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from advice import offered, written

import transferpipe as tp
from transferpipe.errors import TransferError
from transferpipe.planning.transforms import (
    Goal,
    TransformError,
    apply_chain,
    blocks,
    fit_chain,
    infer,
    parse_merge,
)
from transferpipe.planning.transforms.blocks import InMemory
from transferpipe.planning.transforms.merging import cut

follows = pytest.mark.follows


def normal(*shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def merged(merge, *arrays, name="w", seed=0):
    steps = fit_chain([parse_merge(merge)], [a.shape for a in arrays], Goal(name=name, seed=seed))
    assert infer(steps, [a.shape for a in arrays], [a.dtype.name for a in arrays]) == (
        arrays[0].shape,
        arrays[0].dtype.name,
    )
    return apply_chain(steps, arrays)


# Which numbers are the largest -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("levels", [2, 5, 10**6])
def test_a_cut_keeps_what_sorting_keeps_however_the_blocks_are_cut(dtype, levels, monkeypatch):
    """Few levels make many equal magnitudes, of which the first count as larger."""
    monkeypatch.setattr(blocks, "CHUNK", 37)
    monkeypatch.setattr(cut, "_BINS", 1 << 4)
    monkeypatch.setattr(cut, "_DIGIT", 4)
    rng = np.random.default_rng(3)
    numbers = (rng.integers(-levels, levels + 1, 500) / 32).astype(dtype)
    order = np.argsort(-np.abs(numbers.astype("float64")), kind="stable")
    counts = [0, 1, 7, 250, 499, 500]
    (found,) = cut.find_cuts(InMemory([numbers]), lambda b: [cut.magnitude_keys(b.arrays[0])], [counts])
    for count, kept in zip(counts, found, strict=True):
        mask = np.concatenate([kept.keeps(cut.magnitude_keys(numbers[i : i + 11]), i) for i in range(0, 500, 11)])
        wanted = np.isin(np.arange(500), order[:count])
        assert np.array_equal(mask[numbers != 0], wanted[numbers != 0])


@pytest.mark.parametrize("merge", [
    {"ties": {"base": 0, "density": 0.3}}, {"dare": {"base": 0, "density": 0.3}}, {"model_stock": {"base": 0}},
    {"della": {"base": 0, "density": 0.5}}, {"breadcrumbs": {"base": 0, "density": 0.5, "gamma": 0.1}}, "fisher",
])  # fmt: skip
def test_a_merge_does_not_depend_on_the_blocks(merge, monkeypatch):
    arrays = [abs(normal(40, 30, seed=i)) for i in range(4)]
    whole = merged(merge, *arrays)
    monkeypatch.setattr(blocks, "CHUNK", 64)
    monkeypatch.setattr(blocks, "PIECE", 16)
    assert np.abs(merged(merge, *arrays) - whole).max() <= (1e-6 if "model_stock" in merge else 0)


# Against the papers ----------------------------------------------------------------------------------------------------


def test_ties_averages_those_that_agree_with_the_sign_of_the_sum():
    """Yadav et al. 2023, section 3.1: trim, elect, disjoint mean, on three task vectors by hand."""
    base = np.full(4, 10, "float32")
    vectors = [[5, 1, -4, 1], [-1, 3, -2, 6], [3, -2, 4, 7]]
    result = merged({"ties": {"base": 0, "density": 0.5, "scale": 2}}, base, *(base + np.float32(v) for v in vectors))
    # Trimmed: (5, 0, -4, 0), (0, 3, 0, 6), (0, 0, 4, 7); signs +, +, + (of 0), +; means 5, 3, 4, 6.5.
    assert result.tolist() == [20, 16, 18, 23]


@pytest.mark.parametrize("known", [([np.nan, 1], [-1, 1]), ([np.nan, -1], [1, 1])])
def test_nan_does_not_hide_a_negative_information(known):
    one, two = (np.float32(values) for values in known)
    with pytest.raises(TransformError, match="one is -1"):
        merged("fisher", np.float32([1, 2]), np.float32([3, 4]), one, two)


def test_weights_that_cancel_but_for_rounding_are_not_divided_by():
    """0.1 + 0.2 - 0.3 is 5.6e-17 in floats: a sum of weights that nobody means to divide by."""
    base, weights = np.zeros(3, "float32"), [0.1, 0.2, -0.3]
    models = [np.float32([1, 2, -1]), np.float32([1, 2, -1]), np.float32([-1, -2, 1])]
    found = merged({"ties": {"base": 0, "density": 1, "weights": weights}}, base, *models)
    assert np.allclose(found, [0.6, 1.2, -0.6])
    with pytest.raises(TransformError, match="sum to 0"):
        parse_merge({"linear": {"weights": weights, "normalize": True}})


def test_breadcrumbs_drops_outliers_and_small_numbers():
    base, vector = np.zeros(10, "float32"), np.arange(1, 11, dtype="float32")
    result = merged({"breadcrumbs": {"base": 0, "density": 0.6, "gamma": 0.2, "weights": [0.5]}}, base, vector)
    assert result.tolist() == [0, 0, 1.5, 2, 2.5, 3, 3.5, 4, 0, 0]


def test_dare_keeps_what_the_density_says_and_scales_it():
    base, vector = np.zeros(100_000), normal(100_000, dtype="float64")
    result = merged({"dare": {"base": 0, "density": 0.1, "seed": 7}}, base, vector)
    kept = result != 0
    assert abs(kept.mean() - 0.1) < 0.004  # four standard deviations
    assert np.allclose(result[kept], vector[kept] / 0.1, rtol=1e-15)
    assert np.array_equal(merged({"dare": {"base": 0, "density": 0.1, "seed": 7, "rescale": False}}, base, vector)[kept],
                          vector[kept])  # fmt: skip
    assert np.array_equal(merged({"dare": {"base": 0, "density": 1, "seed": 7}}, base, vector), vector)


def test_what_is_drawn_depends_on_seed_weight_and_model_alone():
    base, vector = np.zeros(1000, "float32"), np.ones(1000, "float32")
    dare = {"dare": {"base": 0, "density": 0.5}}
    first = merged(dare, base, vector, name="a", seed=3)
    assert np.array_equal(
        first, merged({"dare": {"base": 0, "density": 0.5, "seed": 3}}, base, vector, name="a", seed=9)
    )
    for other in (merged(dare, base, vector, name="b", seed=3), merged(dare, base, vector, name="a", seed=4)):
        assert 400 < (first != other).sum() < 600
    both = merged({"dare": {"base": 0, "density": 0.5, "weights": [1, 10]}}, base, vector, vector, name="a", seed=3)
    assert {*np.unique(both)} == {0, 2, 20, 22}  # the two models are dropped independently


def test_dare_that_elects_is_ties_of_what_was_kept():
    arrays = [normal(500, seed=i) for i in range(4)]
    each = [merged({"dare": {"base": 0, "density": 0.5, "seed": 1, "weights": w}}, *arrays, name="w") - arrays[0]
            for w in ([1, 0, 0], [0, 1, 0], [0, 0, 1])]  # fmt: skip
    result = merged({"dare": {"base": 0, "density": 0.5, "seed": 1, "elect": True}}, *arrays)
    sign = np.where(sum(each) >= 0, 1, -1)
    assert np.allclose(result - arrays[0], sum(np.where(np.sign(d) == sign, d, 0) for d in each), atol=1e-5)


def test_della_keeps_large_numbers_more_often():
    """Deep et al. 2024: the probability rises evenly with the rank in a row, from density - epsilon to density + epsilon."""
    rows = np.tile(np.arange(1, 6.0), (20_000, 1)) * np.array([1, -1, 1, -1, 1])
    rows = rows[:, [2, 0, 4, 1, 3]]
    della = {"della": {"base": 0, "density": 0.4, "epsilon": 0.2, "seed": 5, "elect": False, "normalize": False}}
    result = merged(della, np.zeros_like(rows), rows)
    wanted = 0.2 + 0.1 * (np.abs(rows[0]) - 1)
    assert np.abs((result != 0).mean(0) - wanted).max() < 0.015
    assert np.allclose(result[result != 0], (rows / wanted)[result != 0])


@pytest.mark.parametrize("count", [2, 3, 5])
def test_model_stock_goes_as_far_as_the_models_agree(count):
    """Jang et al. 2024, equations 5 and 6."""
    base = normal(7, 3, dtype="float64")
    shared = normal(7, 3, seed=50, dtype="float64")
    models = [base + 0.1 * (shared + normal(7, 3, seed=i + 1, dtype="float64")) for i in range(count)]
    vectors = [(m - base).ravel() for m in models]
    cosines = [np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)
               for i, a in enumerate(vectors) for b in vectors[i + 1 :]]  # fmt: skip
    t = count * np.mean(cosines) / (1 + (count - 1) * np.mean(cosines))
    wanted = t * np.mean(models, 0) + (1 - t) * base
    assert np.allclose(merged({"model_stock": {"base": 0}}, base, *models), wanted, rtol=1e-10)


def test_model_stock_of_models_that_say_nothing_or_the_contrary_is_the_base():
    base, vector = normal(6), np.float32([1, 2, 3, 4, 5, 6])
    for models in ([base, base + vector], [base + vector, base - vector], [base, base]):
        assert np.allclose(merged({"model_stock": {"base": 0}}, base, *models), base, atol=1e-6)


def test_fisher_is_the_mean_of_a_product_of_gaussians():
    """Matena and Raffel 2022: each posterior is a Gaussian whose precision is the Fisher information."""
    means, precisions = [np.array([1.0, 4.0]), np.array([3.0, 0.0])], [np.array([1.0, 3.0]), np.array([3.0, 0.0])]
    assert merged("fisher", *means, *precisions)[0] == 2.5
    assert np.allclose(merged({"fisher": {"weights": [3, 1]}}, *means, *precisions), [2, 4], rtol=1e-6)
    nothing = [np.zeros(2), np.zeros(2)]
    assert merged("fisher", *means, *nothing).tolist() == [2, 2]


@pytest.mark.parametrize("t", [0, 0.25, 1, 1.5, -0.5])
def test_the_straight_way_between_two(t):
    one, two = normal(5, 4), normal(5, 4, seed=1)
    assert np.allclose(merged({"lerp": t}, one, two), one + np.float32(t) * (two - one), atol=1e-6)


def test_a_merge_that_does_nothing_gives_the_bits_of_its_input():
    one, two = normal(5, 4), normal(5, 4, seed=1)
    assert np.array_equal(merged({"slerp": 0}, one, two), one)
    assert np.array_equal(merged({"lerp": 1}, one, two), two)
    assert np.array_equal(merged({"task_arithmetic": {"base": 0}}, one, two), two)


# In a recipe -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    """Write a base and two models, and return their paths by name."""
    base = {"a/kernel": normal(6, 4), "b/kernel": normal(4, 3, seed=1)}
    for i, name in enumerate(("base", "one", "two")):
        np.savez(
            tmp_path / f"{name}.npz", **{k: v + np.float32(i) * normal(*v.shape, seed=i + 5) for k, v in base.items()}
        )
    return {name: str(tmp_path / f"{name}.npz") for name in ("base", "one", "two")}


def rule(merge, names=("base", "one", "two")):
    return {"all": {"to": ".*", "from": [rf"{n}:\0" for n in names], "merge": merge}}


def run(files, merge, tmp_path, names=("base", "one", "two"), **options):
    target = next(iter(files.values()))
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    tp.transfer(files, target, mapping=rule(merge, names), folder=folder, save="o.npz", **options)
    return dict(np.load(folder / "o.npz"))


def refusal(files, merge, tmp_path, **options):
    with pytest.raises(TransferError) as caught:
        run(files, merge, tmp_path, **options)
    assert not list(tmp_path.rglob("o.npz"))
    return caught.value.problems


def values(files, weight):
    return [np.load(files[n])[weight] for n in ("base", "one", "two")]


@pytest.mark.parametrize("base", ["base", 1])
def test_the_base_is_named_by_its_source_or_its_place(base, files, tmp_path):
    names = ("one", "base", "two")
    found = run(files, {"task_arithmetic": {"base": base, "weights": [0.5, 0.25]}}, tmp_path, names)
    zero, one, two = values(files, "a/kernel")
    assert np.allclose(found["a/kernel"], zero + 0.5 * (one - zero) + 0.25 * (two - zero), atol=1e-5)


def test_the_seed_of_the_recipe_and_the_name_of_the_weight_decide_what_is_drawn(files, tmp_path):
    found = [run(files, {"dare": {"base": "base", "density": 0.5}}, tmp_path, seed=seed) for seed in (1, 1, 2)]
    assert np.array_equal(found[0]["a/kernel"], found[1]["a/kernel"])
    assert not np.array_equal(found[0]["a/kernel"], found[2]["a/kernel"])
    wanted = merged({"dare": {"base": 0, "density": 0.5}}, *values(files, "a/kernel"), name="a/kernel", seed=2)
    assert np.array_equal(found[2]["a/kernel"], wanted)


def test_models_of_another_shape_are_said_weight_by_weight(files, tmp_path):
    np.savez(files["two"], **{"a/kernel": normal(6, 5), "b/kernel": normal(5, 3)})
    problems = refusal(files, {"ties": {"base": "base", "density": 0.5}}, tmp_path)
    assert [p.where for p in problems] == ["mapping.all"] * 2
    assert problems[0].what.startswith("a/kernel from base:a/kernel, one:a/kernel, two:a/kernel: ties(")
    assert "input 0 has shape (6, 4), but input 2 has shape (6, 5)" in problems[0].what
    assert "input 0 has shape (4, 3), but input 2 has shape (5, 3)" in problems[1].what


def test_a_model_that_lacks_a_weight_is_refused(files, tmp_path):
    np.savez(files["two"], **{"a/kernel": normal(6, 4)})
    (problem,) = refusal(files, "mean", tmp_path)
    assert "two.npz has no layer 'b'" in problem.what


@pytest.mark.parametrize("merge", ["mean", {"slerp": 0.3}, {"ties": {"base": "base", "density": 0.5}},
                                   {"dare": {"base": "base", "density": 0.5}}, {"model_stock": {"base": "base"}}])  # fmt: skip
def test_a_source_that_holds_nan_is_refused(merge, files, tmp_path):
    kernel = normal(6, 4)
    kernel[2, 1] = np.nan
    np.savez(files["two"], **{"a/kernel": kernel, "b/kernel": normal(4, 3)})
    files, names = (files, None) if "slerp" not in merge else ({n: files[n] for n in ("one", "two")}, ("one", "two"))
    (problem,) = refusal(files, merge, tmp_path, **({"names": names} if names else {}))
    assert "two.npz: a/kernel" in problem.where and "at [2, 1]" in problem.what


# What is advised -------------------------------------------------------------------------------------------------------


def advice(merge, count=3, dtype="float32"):
    with pytest.raises(TransformError) as caught:
        step = parse_merge(merge)
        infer([step], [(2, 2)] * count, [dtype] * count)
    return caught.value


@pytest.mark.parametrize(
    "merge",
    [
        pytest.param({"ties": {"base": 0, "density": 1.5}}, marks=follows("parse_fraction: write …")),
        pytest.param({"ties": {"base": 0, "density": [0.5, -0.1]}}, marks=follows("parse_fraction: write …")),
        pytest.param({"ties": {"density": 0.5}}, marks=follows("parse_named: write … #2")),
    ],
)
def test_arguments_that_are_written_instead(merge, files, tmp_path):
    (advised,) = written(advice(merge).fix)
    found = run(files, advised, tmp_path)
    assert np.array_equal(found["a/kernel"], merged(advised, *values(files, "a/kernel")))


@pytest.mark.parametrize(
    ("merge", "count", "what", "right"),
    [
        pytest.param({"ties": {"base": 0, "density": 0.5, "normalize": 1}}, 3, "must be true or false",
                     {"ties": {"base": 0, "density": 0.5, "normalize": True}},
                     marks=follows("parse_flag: write true or false")),
        pytest.param({"linear": {"weights": [1, -1], "normalize": True}}, 2, "sum to 0", {"linear": [1, -1]},
                     marks=follows("Linear.parse: leave out normalize, or")),
        pytest.param({"fisher": {"weights": [1, -1]}}, 4, "divides by a sum", {"fisher": {"weights": [1, 0]}},
                     marks=follows("Fisher.parse: give weights of at")),
        pytest.param("fisher", 3, "there are 3 inputs", None, marks=follows("Fisher.shape: name in `from` first")),
        pytest.param({"lerp": 0.5}, 3, "there are 3", "mean", marks=follows("_check_two: name two sources in")),
        pytest.param({"model_stock": {"base": 0}}, 2, "one beside the base", None,
                     marks=follows("ModelStock.shape: name at least two")),
        pytest.param({"ties": {"base": 0, "density": 0.5}}, 1, "needs a model beside", None,
                     marks=follows("check_base: name both in `from`:")),
        pytest.param({"ties": {"base": 3, "density": 0.5}}, 3, "input 3 does not exist among 3", {"ties": {"base": 2, "density": 0.5}},
                     marks=follows("check_base: name a source, or")),
        pytest.param({"dare": {"base": 0, "density": 0}}, 3, "density, which is 0", {"dare": {"base": 0, "density": 0.1}},
                     marks=follows("_check_above_zero: give a density above")),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_merge_and_what_is_right(merge, count, what, right):
    found = advice(merge, count)
    assert what in found.what
    more = {"fisher": 4, "model_stock": 3, "ties": 2}
    name = merge if isinstance(merge, str) else next(iter(merge))
    count = count if right is not None else more[name]
    arrays = [abs(normal(2, 2, seed=i)) for i in range(count)]
    assert np.isfinite(merged(merge if right is None else right, *arrays)).all()


@follows("TaskVectors.shape: give a list of")
@pytest.mark.parametrize("method", ["ties", "breadcrumbs", "dare", "della"])
@pytest.mark.parametrize("key", ["weights", "density"])
@pytest.mark.parametrize("numbers", [[0.5], [0.5] * 3])
def test_a_list_has_a_number_for_each_model(method, key, numbers):
    """A list of one is not a number for all: what a list was copied from may have had another number of models."""
    merge = {method: {"base": 0, "density": 0.5, key: numbers}}
    found = advice(merge)
    assert f" {len(numbers)} number" in found.what and "there are 2 models" in found.what and key in found.what
    count = int(re.findall(r"\d+", found.fix)[0])
    arrays = [normal(2, 2, seed=i) for i in range(3)]
    each, one_for_all = ({method: {**merge[method], key: value}} for value in ([0.5] * count, 0.5))
    assert np.array_equal(merged(each, *arrays), merged(one_for_all, *arrays))


@follows("Della.parse: give an epsilon below")
def test_probabilities_stay_between_0_and_1():
    della = {"base": 0, "density": 0.8, "epsilon": 0.3}
    bound = float(re.search(r"below ([\d.]+)", advice({"della": della}).fix)[1])
    assert bound == 0.2
    arrays = [normal(3, 3, seed=i) for i in range(2)]
    assert np.isfinite(merged({"della": della | {"epsilon": bound * 0.9}}, *arrays)).all()
    assert "a density above 0" in advice({"della": della | {"density": 0}}).fix


@follows("Fisher.measure: give the mean of")
def test_information_is_never_negative(tmp_path):
    for name, value in {"a": 1.0, "b": 3.0, "fa": 1.0, "fb": -1.0}.items():
        np.savez(tmp_path / f"{name}.npz", k=np.full((2, 2), value))
    files = {n: str(tmp_path / f"{n}.npz") for n in ("a", "b", "fa", "fb")}
    (problem,) = refusal(files, "fisher", tmp_path, names=tuple(files))
    assert "cannot be negative, but one is -1" in problem.what
    gradients = np.array([[1.0, -1.0], [3.0, 3.0]])
    np.savez(tmp_path / "fb.npz", k=np.full((2, 2), (gradients**2).mean()))
    assert np.allclose(run(files, "fisher", tmp_path, names=tuple(files))["k"], (1 + 3 * 5) / 6)


@follows("_parse_merge: did you mean …?", "_parse_merge: give the place of")
def test_a_base_that_no_source_is(files, tmp_path):
    (problem,) = refusal(files, {"model_stock": {"base": "bass"}}, tmp_path)
    assert problem.where == "mapping.all.merge"
    assert problem.what == "base 'bass' is not a source that the rule takes from: base, one, two"
    right = run(files, {"model_stock": {"base": offered(problem.fix)[0]}}, tmp_path)
    names, other = ("base", "base", "one", "two"), tmp_path / "other"
    other.mkdir()
    (problem,) = refusal(files, {"model_stock": {"base": "base"}}, other, names=names)
    place = int(problem.fix.split()[-1])
    found = run(files, {"model_stock": {"base": place}}, tmp_path, names=names)
    wanted = merged({"model_stock": {"base": 1}}, *[np.load(files[n])["a/kernel"] for n in names])
    assert np.array_equal(found["a/kernel"], wanted) and not np.array_equal(found["a/kernel"], right["a/kernel"])


@follows("check_step: use a smaller number,")
def test_task_vectors_that_overflow_are_refused_with_what_to_do(tmp_path):
    for name, value in {"a": 0.0, "b": 60000.0}.items():
        np.savez(tmp_path / f"{name}.npz", k=np.full((2, 2), value, "float16"))
    files = {n: str(tmp_path / f"{n}.npz") for n in ("a", "b")}
    (problem,) = refusal(files, {"task_arithmetic": {"base": "a", "scale": 2}}, tmp_path, names=("a", "b"))
    assert problem.fix == "use smaller factors"
    for smaller in ({"scale": 1}, {"scale": 2, "weights": 0.5}):
        found = run(files, {"task_arithmetic": {"base": "a", **smaller}}, tmp_path, names=("a", "b"))
        assert (found["k"] == 60000).all()
