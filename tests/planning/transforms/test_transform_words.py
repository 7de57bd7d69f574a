"""What is said in words about a transform that cannot be applied, done: axes, sizes, parts and numbers as the hint counts them."""

import re

import numpy as np
import pytest

from transferpipe.planning.transforms import TransformError, apply_chain, infer, parse_merge, parse_transform

follows = pytest.mark.follows
RANDOM = np.random.default_rng(17)
X, Y = RANDOM.normal(size=(2, 4, 3)).astype("float32")
SMALL = np.arange(-6, 6, dtype="int8").reshape(4, 3)


def attempt(steps, *arrays, parse=parse_transform):
    parsed = [parse(step) for step in steps]
    infer(parsed, [a.shape for a in arrays], [a.dtype.name for a in arrays])
    return apply_chain(parsed, arrays)


def numbers(fix):
    return [int(n) for n in re.findall(r"-?\d+", fix)]


# The key of the hint, what is wrong, its inputs, what is written instead as the hint counts it, and the right result.
CASES = [
    ("Transpose.__post_init__: name each axis from", [{"transpose": [0, 0]}], [X],
     lambda fix: [{"transpose": [*range(numbers(fix)[0], numbers(fix)[1] + 1)][::-1]}], X.T),
    ("Transpose.shape: list … axes, or", [{"transpose": [0]}], [X],
     lambda fix: [{"transpose": [*range(numbers(fix)[0])][::-1]}], X.T),
    ("Reshape.__post_init__: use sizes from 0,", [{"reshape": [-2, 4]}], [X],
     lambda fix: [{"reshape": [numbers(fix)[1], 4]}], X.reshape(-1, 4)),
    ("Reshape.__post_init__: leave at most one", [{"reshape": [-1, -1]}], [X],
     lambda fix: [{"reshape": [-1, 4][: 1 + ("one" in fix)]}], X.reshape(-1, 4)),
    ("Reshape.shape: give sizes whose product", [{"reshape": [3, 5]}], [X],
     lambda fix: [{"reshape": [numbers(fix)[0], 6]}], X.reshape(2, 6)),
    ("Reshape.shape: give sizes whose product #2", [{"reshape": [-1, 5]}], [X],
     lambda fix: [{"reshape": [-1, max(n for n in range(1, 7) if numbers(fix)[0] % n == 0)]}], X.reshape(2, 6)),
    ("Slice.shape: give at most …", [{"slice": ["0:2", ":", ":"]}], [X],
     lambda fix: [{"slice": ["0:2", ":", ":"][: numbers(fix)[0]]}], X[:2]),
    ("Slice._count: use a stop from", [{"slice": ["0:9"]}], [X],
     lambda fix: [{"slice": [f"0:{numbers(fix)[1]}"]}], X),
    ("Slice._count: widen the range", [{"slice": ["2:2"]}], [X],
     lambda fix: [{"slice": ["2:3" if "widen" in fix else ""]}], X[2:3]),
    ("Range.__post_init__: use 1 or more,", [{"slice": ["::0"]}], [X],
     lambda fix: [{"slice": [f"::{numbers(fix)[1]}"]}], X[::-1]),
    ("find_axis: use an axis from", [{"concat": 5}], [X, Y],
     lambda fix: [{"concat": numbers(fix)[1]}], np.concatenate([X, Y], 1)),
    ("check_index: use an index from", [{"slice": [7]}], [X],
     lambda fix: [{"slice": [numbers(fix)[1]]}], X[3]),
    ("Stack.shape: use an axis from", [{"stack": 5}], [X, Y],
     lambda fix: [{"stack": numbers(fix)[1]}], np.stack([X, Y], 2)),
    ("Pad.__post_init__: use slice to cut", [{"pad": {"axis": 0, "before": -1, "after": 0}}], [X],
     lambda fix: [{fix.split()[1]: ["1:"]}], X[1:]),
    ("_check_holds: pad with another value,", [{"pad": {"axis": 0, "before": 0, "after": 1, "value": 1000}}], [SMALL],
     lambda fix: [{re.search("put a (cast)", fix)[1]: "int32"},
                  {"pad": {"axis": 0, "before": 0, "after": 1, "value": 1000}}],
     np.concatenate([SMALL, np.full((1, 3), 1000)])),
    ("Flip.shape: name every axis once", [{"flip": [0, 0]}], [X],
     lambda fix: [{"flip": [0] if fix.endswith("once") else []}], X[::-1]),
    ("Flip.__post_init__: list at least one", [{"flip": []}], [X],
     lambda fix: [{"flip": numbers(fix)}], X[::-1, ::-1]),
    ("WeightNorm.shape: name both, g first", ["weight_norm"], [np.ones((4, 1), "float32")],
     lambda fix: ["weight_norm"], None),
    ("WeightNorm.shape: give g the axes", ["weight_norm"], [np.ones((4,), "float32"), X],
     lambda fix: ["weight_norm"], None),
    ("Cast.dtype: cast to complex64 or", [{"cast": "float32"}], [X.astype("complex64")],
     lambda fix: [{"cast": fix.rpartition(" ")[2]}], X.astype("complex128")),
]  # fmt: skip


W, ONE, U = (np.ones(s, "int32") for s in ((1, 1), (1,), (1, 1)))
INTEGERS = [
    ("SpectralNorm.dtype: put a cast before", "spectral_norm", [W, ONE, ONE]),
    ("FoldBatchNorm.dtype: put a cast before", {"fold_batchnorm": {"of": ["kernel", "variance"], "epsilon": 0}}, [W, ONE]),
    ("MergeLora.dtype: put a cast before", {"merge_lora": {"alpha": 1}}, [W, 0 * U, U]),
]  # fmt: skip


@pytest.mark.parametrize(("step", "arrays"), [pytest.param(*c[1:], marks=follows(c[0]), id=c[0]) for c in INTEGERS])
def test_integers_are_cast_as_the_hint_says(step, arrays):
    """Each input before they are put together, as `from: [{name: ..., transform: ...}]` does."""
    with pytest.raises(TransformError) as caught:
        attempt([step], *arrays)
    (kind,) = re.findall(r"\{cast: (\w+)\}", caught.value.fix)
    found = attempt([step], *(attempt([{"cast": kind}], array) for array in arrays))
    assert np.array_equal(found, W)


@pytest.mark.parametrize(
    ("wrong", "arrays", "mend", "expected"),
    [pytest.param(*case, id=key, marks=follows(key)) for key, *case in CASES],
)
def test_what_is_written_instead(wrong, arrays, mend, expected):
    with pytest.raises(TransformError) as caught:
        attempt(wrong, *arrays)
    right = mend(caught.value.fix)
    if expected is None:  # the norm of the rows, by hand
        arrays, expected = [np.ones((4, 1), "float32"), X], X / np.sqrt((X**2).sum(1, keepdims=True))
    assert np.allclose(attempt(right, *arrays), expected)


@pytest.mark.parametrize(
    ("wrong", "key", "mend", "expected"),
    [
        pytest.param({"linear": [1.0]}, "linear", lambda fix: {"linear": [0.5] * numbers(fix)[0]}, (X + Y) / 2,
                     marks=follows("Linear.shape: give …")),
    ],
)  # fmt: skip
def test_as_many_weights_as_sources(wrong, key, mend, expected):
    with pytest.raises(TransformError) as caught:
        attempt([wrong], X, Y, parse=parse_merge)
    assert np.allclose(attempt([mend(caught.value.fix)], X, Y, parse=parse_merge), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("step", "others"),
    [
        pytest.param("sum", [X, Y[:2]], marks=follows("check_same_shape: give it sources of")),
        pytest.param("sum", [X, Y.astype("float64")], marks=follows("check_same_dtype: give it sources of")),
    ],
)
def test_sources_that_are_alike(step, others):
    with pytest.raises(TransformError) as caught:
        attempt([step], *others)
    assert caught.value.fix in ("give it sources of one shape", "give it sources of one dtype")
    assert np.allclose(attempt([step], X, Y), X + Y)


@follows("_check_count: begin with concat or")
def test_several_inputs_are_combined_first():
    with pytest.raises(TransformError) as caught:
        attempt(["transpose"], X, Y)
    for name, expected in (("concat", np.concatenate([X, Y], 0).T), ("stack", np.stack([X, Y], 0).T)):
        assert name in caught.value.fix
        assert np.array_equal(attempt([{name: 0}, "transpose"], X, Y), expected)
    assert np.array_equal(attempt(["transpose"], X), X.T)  # or one source


@follows("find_axis: use an axis from")
def test_a_scalar_has_no_axes():
    with pytest.raises(TransformError) as caught:
        attempt([{"flip": [0]}], np.float32(3).reshape(()))
    assert caught.value.fix.startswith("leave it out")
    assert attempt([], np.float32(3).reshape(())) == 3


@follows("FromCudnn.parse: parts are …; an", "FromCudnn.shape: give it to the")
def test_parts_of_cudnn():
    with pytest.raises(TransformError) as caught:
        parse_transform({"from_cudnn": {"part": "zzz", "gates": 4}})
    parts = re.search("parts are (.*?);", caught.value.fix)[1].split(", ")
    lstm, gru = numbers(caught.value.fix)
    for part in parts:
        assert parse_transform({"from_cudnn": {"part": part, "gates": lstm}})
    with pytest.raises(TransformError):
        attempt([{"from_cudnn": {"part": "bias", "gates": lstm}}], X)
    bias = RANDOM.normal(size=24).astype("float32")
    assert np.allclose(attempt([{"from_cudnn": {"part": "bias", "gates": lstm}}], bias), bias[:12] + bias[12:])
    assert attempt([{"from_cudnn": {"part": "bias", "gates": gru}}], bias).shape == (2, 12)
