"""What is said of a transform that is written wrongly, followed: the printed hint is what is written instead."""

import ml_dtypes  # noqa: F401  (its dtypes are among those that are offered)
import numpy as np
import pytest
from advice import offered, written

from transferpipe.planning.transforms import TransformError, apply_chain, infer, parse_merge, parse_transform

follows = pytest.mark.follows
RANDOM = np.random.default_rng(7)


def drawn(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def hint_of(parse, data):
    with pytest.raises(TransformError) as caught:
        parse(data)
    return caught.value.fix


def result(step, *arrays):
    """Return what a step makes of arrays, having planned it."""
    shape, dtype = infer([step], [a.shape for a in arrays], [a.dtype.name for a in arrays])
    found = apply_chain([step], arrays)
    assert (found.shape, found.dtype.name) == (shape, dtype)
    return found


X, Y, CUBE, MAP = drawn(4, 3), drawn(4, 3), drawn(5, 4, 3), drawn(64 * 7 * 7, 2)
PADDED = np.concatenate([X, np.zeros((1, 3), "float32")])
JOINED = np.concatenate([X, Y], -1)
CASES = [
    ("parse_integer: write …", {"concat": "x"}, [X, Y], [JOINED]),
    ("parse_integer: write …", {"stack": None}, [X, Y], [np.stack([X, Y], -1)]),
    ("parse_integer: write … #2", {"concat": 2**80}, [X, Y], [JOINED]),
    ("parse_named: write … #2", {"concat": {}}, [X, Y], [JOINED]),
    ("parse_named: write …", {"take": 3}, [X], [X[:, ::-1]]),
    ("parse_list: write …", {"transpose": 3}, [X], [X.T]),
    ("parse_list: write …", {"reshape": "x"}, [X], [X.reshape(-1, 4)]),
    ("parse_number: write …", {"scale": "x"}, [X], [X * np.float32(0.5)]),
    ("parse_number: write … #3", {"scale": float("inf")}, [X], [X * np.float32(0.5)]),
    ("parse_number: write …", {"fill": "x"}, [X], [np.zeros_like(X)]),
    ("FlattenOrder.__post_init__: give the channels, then", {"flatten_order": [64]}, [MAP], [
        MAP.reshape(64, 7, 7, 2).transpose(1, 2, 0, 3).reshape(-1, 2)]),
    ("Take.__post_init__: list at least one", {"take": {"axis": 0, "indices": []}}, [X], [X[:, ::-1]]),
    ("Pad.__post_init__: write {pad: {widths: [[0,", {"pad": {"widths": []}}, [X], [PADDED]),
    ("_parse_pair: write {pad: {widths: [[0,", {"pad": {"widths": [[0, 1, 2]]}}, [X], [PADDED]),
    ("_parse_one_axis: write {pad: {axis: 0,", {"pad": {"axis": 0}}, [X], [PADDED]),
    ("parse_range: write …", {"slice": ["a"]}, [CUBE], [CUBE[:3, :, 2], CUBE[:3]]),
    ("_refuse_arguments: write …", {"weight_norm": 3}, [np.ones((4, 1), "float32"), X], [
        X / np.sqrt((X**2).sum(1, keepdims=True))]),
    ("Cast.__post_init__: did you mean …?", {"cast": 9}, [X], [X.astype(d) for d in ("float16", "float32", "float64", "bfloat16")]),
    ("_parse: write …", 3, [X], [X.T]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "arrays", "wanted"),
    [pytest.param(*case, id=f"{key} {case[0]}", marks=follows(key)) for key, *case in CASES],
)
def test_what_is_written_instead_computes_the_right_values(wrong, arrays, wanted):
    advised = written(hint_of(parse_transform, wrong))
    if isinstance(wrong, dict) and "cast" in wrong:
        advised = [{"cast": dtype} for dtype in advised]
    assert len(advised) == len(wanted)
    for data, expected in zip(advised, wanted, strict=True):
        assert np.allclose(result(parse_transform(data), *arrays).astype("float64"), expected.astype("float64"))


@pytest.mark.parametrize(
    ("wrong", "wanted"),
    [
        pytest.param({"mean": 3}, [(X + Y) / 2], marks=follows("Mean.parse: write mean")),
        pytest.param(3, [(X + Y) / 2, np.float32(0.3) * X + np.float32(0.7) * Y], marks=follows("_parse: write …")),
        pytest.param({"linear": 3}, [np.float32(0.3) * X + np.float32(0.7) * Y], marks=follows("parse_list: write …")),
    ],
)
def test_merges_that_are_written_instead(wrong, wanted):
    hint = hint_of(parse_merge, wrong)
    advised = written(hint)
    assert len(advised) >= 1
    for data, expected in zip(["mean", *advised] if hint.startswith("write mean or") else advised, wanted, strict=True):
        assert np.allclose(result(parse_merge(data), X, Y), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        pytest.param({"concatt": -1}, "concat", marks=follows("_parse: did you mean …?")),
        pytest.param({"concat": {"axs": -1}}, "axis", marks=follows("parse_named: did you mean …?")),
        pytest.param({"cast": "flot32"}, "float32", marks=follows("Cast.__post_init__: did you mean …?")),
    ],
)
def test_names_that_were_meant(wrong, right):
    assert offered(hint_of(parse_transform, wrong))[0] == right


@follows("_parse: write it under …:")
def test_transforms_and_merges_are_sent_where_they_belong():
    assert hint_of(parse_transform, {"linear": [0.5, 0.5]}) == "write it under merge:"
    assert np.allclose(result(parse_merge({"linear": [0.5, 0.5]}), X, Y), (X + Y) / 2, atol=1e-6)
    assert hint_of(parse_merge, {"concat": -1}) == "write it under transform:"
    assert np.array_equal(result(parse_transform({"concat": -1}), X, Y), JOINED)
