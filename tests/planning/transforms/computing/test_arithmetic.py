"""add, noise, normalize and zero: by statistics and by NumPy; what they refuse, and what is advised."""

import numpy as np
import pytest
from advice import written

from transferpipe.planning.transforms import Goal, TransformError, apply_chain, blocks, infer, parse_transform

follows = pytest.mark.follows
X = np.random.default_rng(3).normal(size=(300, 200)).astype("float32")


def made(data, array, name="w", seed=0):
    return apply_chain([parse_transform(data)], [array], Goal(array.shape, name, seed))


def test_noise_has_the_deviation_that_was_asked_for(monkeypatch):
    noise = made({"noise": {"std": 0.25}}, X) - X
    assert abs(noise.mean()) < 0.005 and abs(noise.std() - 0.25) < 0.005
    assert abs((np.abs(noise) < 0.25).mean() - 0.6827) < 0.01  # as of a normal distribution
    relative = made({"noise": {"std": 0.25, "relative": True}}, 8 * X) - 8 * X
    assert abs(relative.std() / (8 * X).std() - 0.25) < 0.005
    whole = made({"noise": {"std": 0.25, "seed": 2}}, X)
    monkeypatch.setattr(blocks, "CHUNK", 1001)
    monkeypatch.setattr(blocks, "PIECE", 37)
    assert np.array_equal(made({"noise": {"std": 0.25, "seed": 2}}, X), whole)


def test_noise_depends_on_the_seed_and_the_name_of_the_weight():
    step = {"noise": {"std": 1}}
    first = made(step, X, "a", 1)
    assert np.array_equal(made(step, X, "a", 1), first)
    assert np.array_equal(made({"noise": {"std": 1, "seed": 1}}, X, "a", 5), first)
    for other in (made(step, X, "b", 1), made(step, X, "a", 2)):
        assert abs(np.corrcoef((other - X).ravel(), (first - X).ravel())[0, 1]) < 0.02


@pytest.mark.parametrize(
    ("data", "axis"), [("normalize", None), ({"normalize": {"axis": 0}}, 0), ({"normalize": {"axis": [-1]}}, 1)]
)
@pytest.mark.parametrize("size", [1e-30, 1, 1e30])
def test_norms_are_one(data, axis, size):
    found = made(data, (X * size).astype("float32"))
    assert np.allclose(np.linalg.norm(found.astype("float64"), axis=axis), 1, atol=1e-6)
    assert np.array_equal(made(data, np.zeros((2, 2), "float32")), np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        pytest.param(
            {"noise": {"std": -1}}, {"noise": {"std": 0.01}}, marks=follows("Noise.parse: write {noise: {std: 0.01}}")
        ),
        pytest.param({"zero": 1}, "zero", marks=follows("Zero.parse: write zero")),
        pytest.param({"identity": 1}, "identity", marks=follows("Identity.parse: write identity")),
    ],
)
def test_what_is_written_instead(wrong, right):
    with pytest.raises(TransformError) as caught:
        parse_transform(wrong)
    (advised,) = written(caught.value.fix)
    assert parse_transform(advised) == parse_transform(right)


@follows("Arithmetic.dtype: put a cast before", "Normalize.dtype: put a cast before")
def test_integers_are_cast_before():
    for step in ({"add": 1}, "normalize"):
        with pytest.raises(TransformError) as caught:
            infer([parse_transform(step)], [(2, 2)], ["int32"])
        (cast,) = written(caught.value.fix)
        array = np.array([[3, 0], [0, 4]], "int32")
        found = apply_chain([parse_transform(cast), parse_transform(step)], [array])
        assert np.allclose(found, array + 1 if isinstance(step, dict) else array / 5)
