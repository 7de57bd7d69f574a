"""What is said of a change of shape that is written wrongly, done: the words of the hint are what is written instead."""

import re

import numpy as np
import pytest
from advice import braces, offered

from transferpipe.planning.transforms import Goal, TransformError, apply_chain, infer, parse_transforms

follows = pytest.mark.follows
RANDOM = np.random.default_rng(23)
X = RANDOM.normal(size=(4, 3)).astype("float32")
RGB = RANDOM.normal(size=(3, 3, 3, 2)).astype("float32")
GREY = RGB.sum(2, keepdims=True)
TABLE = RANDOM.normal(size=(5, 2)).astype("float32")
GROWN = np.concatenate([TABLE[:1], TABLE[1:].reshape(2, 2, 2).repeat(2, 0).repeat(2, 1).reshape(16, 2)])


def attempt(steps, array, wanted):
    parsed = parse_transforms(steps)
    shape, _ = infer(parsed, [array.shape], [array.dtype.name], Goal(wanted))
    result = apply_chain(parsed, [array], Goal(wanted))
    assert result.shape == shape == wanted
    return result


def numbers(text):
    return [int(n) for n in re.findall(r"-?\d+", text)]


def positions(fix, **keys):
    return {"resize_positions": {"method": "nearest", **keys}}


# The key of the hint, what is wrong, the input, the target's shape, what is written instead, and the right result.
CASES = [
    ("parse_choice: did you mean …?", {"channels": "summ"}, RGB, GREY.shape,
     lambda fix: {"channels": offered(fix)[0]}, GREY),
    ("parse_choice: did you mean …?", {"channels": 3}, RGB, GREY.shape,
     lambda fix: braces(fix)[0], GREY / 3 * 0 + RGB[:, :, :1] * 3),
    ("parse_flag: write true or false", {"resize": {"axes": [0], "antialias": 1}}, X, (4, 3),
     lambda fix: {"resize": {"axes": [0], "antialias": fix.split()[1] == "true"}}, X),
    ("Channels.__post_init__: use 1 or more", {"channels": {"how": "sum", "size": 0}}, RGB, GREY.shape,
     lambda fix: {"channels": {"how": "sum", "size": numbers(fix)[0]}}, GREY),
    ("Channels.__post_init__: leave rescale out", {"channels": {"how": "sum", "rescale": True}}, RGB, GREY.shape,
     lambda fix: {"channels": {"how": "sum"}}, GREY),
    ("Channels.shape: name the axis that", {"channels": {"axis": 1, "size": 1}}, np.zeros((3, 0, 2), "float32"), (1, 0, 2),
     lambda fix: {"channels": {"axis": 0}}, np.zeros((1, 0, 2))),
    ("Channels.shape: write {channels: repeat}, which", {"channels": "sum"}, X, (5, 3),
     lambda fix: braces(fix)[0], X[[0, 1, 2, 3, 0]] * 0.8),
    ("Channels.shape: write {channels: sum} or", {"channels": "zero"}, RGB, GREY.shape,
     lambda fix: braces(fix)[0], GREY),
    ("Channels.shape: write {channels: sum} or", {"channels": "mean"}, RGB, GREY.shape,
     lambda fix: braces(fix)[1], RGB[:, :, :1] * 3),
    ("Inflate.__post_init__: use 1 or more", {"inflate": {"size": 0}}, X, (1, 4, 3),
     lambda fix: {"inflate": {"size": numbers(fix)[0]}}, X[None]),
    ("Inflate._find_axis: use an axis from", {"inflate": {"axis": 5}}, X, (4, 3, 2),
     lambda fix: {"inflate": {"axis": numbers(fix)[1]}}, np.stack([X, X], -1) / 2),
    ("Deflate.shape: name an axis that", {"deflate": {"axis": 0}}, np.zeros((0, 3), "float32"), (0,),
     lambda fix: {"deflate": {"axis": 1}}, np.zeros(0)),
    ("find_axes: name each axis once", {"resize": {"axes": [0, -2], "method": "nearest"}}, X, (8, 3),
     lambda fix: {"resize": {"axes": [0], "method": "nearest"}}, X.repeat(2, 0)),
    ("CropOrPad.__post_init__: use sizes from 0,", {"crop_or_pad": {"at": "corner", "sizes": [-1, 3]}}, X, (2, 3),
     lambda fix: {"crop_or_pad": {"at": "corner"}}, X[:2]),
    ("CropOrPad.shape: give one size for", {"crop_or_pad": {"at": "corner", "sizes": [2]}}, X, (2, 3),
     lambda fix: {"crop_or_pad": {"at": "corner", "sizes": [2, 3]}}, X[:2]),
    ("Resize.__post_init__: give one size from", {"resize": {"axes": [0], "sizes": [4, 4]}}, X, (4, 3),
     lambda fix: {"resize": {"axes": [0], "sizes": [4]}}, X),
    ("Resize.shape: name axes that have", {"resize": {"axes": [0], "sizes": [2]}}, np.zeros((0, 2), "float32"), (0, 4),
     lambda fix: {"resize": {"axes": [1]}}, np.zeros((0, 4))),
    ("check_antialias: use method: bilinear, or", {"resize": {"axes": [0], "method": "nearest", "antialias": True}}, X, (8, 3),
     lambda fix: {"resize": {"axes": [0], "method": "nearest", "antialias": "false" not in fix}}, X.repeat(2, 0)),
    ("ResizePositions.__post_init__: give the source's number,", {"resize_positions": {"prefix": [0, 1]}}, TABLE, (5, 2),
     lambda fix: {"resize_positions": {"prefix": [1, 1]}}, TABLE),
    ("ResizePositions.__post_init__: write {resize_positions: {grid: [14,", {"resize_positions": {"grid": [14, 0]}},
     np.ones((196, 2), "float32"), (196, 2), lambda fix: braces(fix)[0], np.ones((196, 2))),
    ("ResizePositions.__post_init__: give as many sizes", positions("", prefix=1, to=[4]), TABLE, (17, 2),
     lambda fix: positions(fix, prefix=1, to=[4, 4]), GROWN),
    ("ResizePositions._sizes: give fewer tokens: prefix", positions("", prefix=5), TABLE, (5, 2),
     lambda fix: positions(fix, prefix=1), TABLE),
    ("ResizePositions._sizes: give its sizes: …:", positions(""), TABLE, (17, 2),
     lambda fix: positions(fix, prefix=int(re.search(r"add prefix: (\d+)", fix)[1])), GROWN),
    ("ResizePositions._sizes: give its sizes: …:", positions("", to=[2, 3]), X.repeat(2, 1)[:3].reshape(6, 3), (6, 3),
     lambda fix: positions(fix, to=[2, 3], grid=numbers(fix.rpartition("grid:")[2])), X.repeat(2, 1)[:3].reshape(6, 3)),
    ("ResizePositions._sizes: give its sizes: …:", positions("", grid=[1, 1, 2]), X[:2], (4, 3),
     lambda fix: positions(fix, grid=[1, 1, 2], to=[*numbers(fix.rpartition("to:")[2])[:1], 1, 4]), X[:2].repeat(2, 0)),
    ("ResizePositions._sizes: give its sizes: …:", positions("", prefix=[0, 0], to=[6, 10]), np.ones((61, 2), "float32"), (61, 2),
     lambda fix: positions(fix, prefix=int(re.search(r"sizes: prefix: (\d+)", fix)[1]), to=[6, 10],
                           grid=numbers(fix.rpartition("grid:")[2])), np.ones((61, 2))),
    ("ResizePositions._source_grid: give the source's grid,", positions("", grid=[2, 2], to=[4, 4]), TABLE, (17, 2),
     lambda fix: positions(fix, prefix=1, grid=[2, 2], to=[4, 4]), GROWN),
    ("_parse_tokens: write {resize_positions: {prefix: 1,", {"resize_positions": {"prefix": [1]}}, TABLE, (5, 2),
     lambda fix: braces(fix)[0], TABLE),
]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "array", "wanted", "mend", "expected"),
    [pytest.param(*case, id=f"{key} {case[0]}", marks=follows(key)) for key, *case in CASES],
)
def test_what_is_written_instead(wrong, array, wanted, mend, expected):
    with pytest.raises(TransformError) as caught:
        attempt(wrong, array, wanted)
    assert np.allclose(attempt(mend(caught.value.fix), array, wanted), expected, atol=1e-6)


@pytest.mark.parametrize("data", ["channels", "inflate", "deflate", {"resize": {"axes": [0]}}, "resize_positions"])
def test_whole_numbers_are_cast_first(data):
    whole = np.arange(8).reshape(4, 2)
    wanted = {"inflate": (2, 4, 2), "deflate": (2,)}.get(data, (4, 2)) if isinstance(data, str) else (4, 2)
    with pytest.raises(TransformError) as caught:
        attempt([data], whole, wanted)
    expected = attempt([data], whole.astype("float32"), wanted)
    assert np.array_equal(attempt([*braces(caught.value.fix), data], whole, wanted), expected)


@follows("Goal.size: write the size, or")
def test_a_size_that_the_steps_behind_hide_is_written_or_the_step_is_the_last():
    hidden = [{"resize": {"axes": [0], "method": "nearest"}}, {"slice": ["0:6"]}]
    with pytest.raises(TransformError) as caught:
        attempt(hidden, X, (6, 3))
    assert caught.value.fix == "write the size, or make it the last step"
    written = [{"resize": {"axes": [0], "method": "nearest", "sizes": [8]}}, {"slice": ["0:6"]}]
    assert np.array_equal(attempt(written, X, (6, 3)), X.repeat(2, 0)[:6])
    assert np.array_equal(attempt(hidden[:1], X, (8, 3)), X.repeat(2, 0))


@follows("TakeUnits.parse: write {units: {axis: -1,", "TakeUnits.apply: write {units: {axis: -1,")
@follows("TakeUnits.shape: write how many units")
def test_units_are_taken_by_numbers_below_their_count():
    array = np.arange(8, dtype="float32").reshape(2, 4)
    wrong = [{"axis": -1, "size": 4, "indices": [4]}, {"axis": -1, "size": 4, "of": "a/b", "count": 2}]
    wrong += [{"axis": -1, "size": 4, "of": "a/b", "count": 2, "times": 0}]
    wrong += [{"axis": -1, "size": 4, "of": "a/b", "count": 0}, {"axis": -1, "size": 0, "of": "a/b", "count": 2}]
    for data in wrong:
        with pytest.raises(TransformError) as caught:
            attempt({"units": data}, array, (2, 2))
        assert np.array_equal(attempt(braces(caught.value.fix)[0], array, (2, 2)), array[:, [2, 0]])
    with pytest.raises(TransformError) as caught:
        attempt({"units": {"axis": -1, "size": 3, "indices": [1]}}, array, (2, 1))
    assert caught.value.fix == "write how many units the axis has"
    assert np.array_equal(attempt({"units": {"axis": -1, "size": 4, "indices": [1]}}, array, (2, 1)), array[:, 1:2])


@follows("Identity.shape: use it for the", "Identity.dtype: put a cast before")
def test_the_identity_is_for_a_kernel_and_its_bias_is_zero():
    with pytest.raises(TransformError) as caught:
        attempt("identity", X[0], (3,))
    assert caught.value.fix.endswith("and zero for its bias")
    assert not attempt("zero", X[0], (3,)).any()
    assert np.array_equal(attempt("identity", X, (4, 4)), np.eye(4))
    with pytest.raises(TransformError) as caught:
        attempt("identity", np.ones((2, 2), "int32"), (2, 2))
    assert np.array_equal(attempt([*braces(caught.value.fix), "identity"], np.ones((2, 2), "int32"), (2, 2)), np.eye(2))


@follows("Goal.size: change the number of")
def test_a_result_of_other_axes_has_its_axes_changed_before():
    with pytest.raises(TransformError) as caught:
        attempt("channels", X, (1, 1, 3))
    assert caught.value.fix.startswith("change the number of axes before it")
    assert np.allclose(attempt([{"reshape": [1, 4, 3]}, "channels"], X, (1, 1, 3)), X.sum(0, keepdims=True)[None])
