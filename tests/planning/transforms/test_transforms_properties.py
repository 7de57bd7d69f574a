"""Laws that hold for every transform: the plan tells the truth about the result, and inputs stay as they are."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from transferpipe.planning.transforms import TransformError, apply_chain, infer
from transferpipe.planning.transforms.arranging.axes import Reshape, Transpose
from transferpipe.planning.transforms.arranging.flatten import FlattenOrder
from transferpipe.planning.transforms.arranging.join import Concat, Stack
from transferpipe.planning.transforms.arranging.pad import Pad
from transferpipe.planning.transforms.arranging.select import Slice, Take
from transferpipe.planning.transforms.computing.combine import WeightNorm
from transferpipe.planning.transforms.computing.reduce import Sum
from transferpipe.planning.transforms.computing.values import DTYPES, Cast, Fill, Scale
from transferpipe.planning.transforms.merging.merge import Linear, Mean, Slerp
from transferpipe.planning.transforms.merging.random_drops import Dare, Della
from transferpipe.planning.transforms.merging.task_vectors import TaskArithmetic, Ties
from transferpipe.planning.transforms.ranges import Range
from transferpipe.weights.spec import numpy_dtype

# Timing says nothing here: the machine may be busy with other tests.
unhurried = settings(suppress_health_check=[HealthCheck.too_slow])

FLOATS = [name for name in DTYPES if "float" in name]
MANY = [
    Mean(), Linear((2.0, -1.0)), Sum(), WeightNorm(), Slerp(0.5), TaskArithmetic(0, scale=0.5), Ties(1, density=(0.5,)),
    Dare(0, density=(0.5,)), Della(0, density=(0.5,)),
]  # fmt: skip
MERGED = ["float64", "float32", "float16", "bfloat16"]

shapes = st.lists(st.integers(1, 4), min_size=0, max_size=4).map(tuple)
axes = st.integers(-5, 5)
numbers = st.integers(-8, 8)


def make_array(shape, dtype, seed=0):
    """Small integers, which every dtype holds, in an array that nobody may write into."""
    array = np.random.default_rng(seed).integers(0, 2, shape).astype(numpy_dtype(dtype))
    array.flags.writeable = False
    return array


def build(kind, *parts):
    """Strategy for transforms; arguments that the class itself refuses are left out."""

    def construct(arguments):
        try:
            return kind(*arguments)
        except TransformError:
            return None

    return st.tuples(*parts).map(construct).filter(lambda transform: transform is not None)


widths = st.tuples(st.integers(0, 2), st.integers(0, 2))
maps = st.lists(st.integers(1, 2), min_size=2, max_size=3).map(tuple)
# Whatever the shape: refused more often than not.
rearranging = st.one_of(
    build(Transpose, st.none() | st.integers(0, 4).flatmap(lambda n: st.permutations(range(n)).map(tuple))),
    build(Reshape, st.lists(st.integers(-1, 8), max_size=3).map(tuple)),
    build(Take, st.lists(st.integers(-4, 4), min_size=1, max_size=5).map(tuple), axes),
    build(FlattenOrder, st.tuples(maps) | st.tuples(maps, st.integers(1, 3)) | st.tuples(st.integers(1, 3), maps)),
)


def part(size):
    """Strategy for what Slice takes for one axis of `size`."""
    start, stop = st.none() | st.integers(-size, size - 1), st.none() | st.integers(-size, size)
    return st.integers(-size, size - 1) | build(Range, start, stop, st.none() | st.integers(-2, 2))


def along(shape, axis):
    """Strategy for transforms that work along one axis of `shape`."""
    size, at = shape[axis], st.just(axis)
    indices = st.lists(st.integers(-size, size - 1), min_size=1, max_size=5).map(tuple)
    return st.one_of(
        build(Take, indices, at), build(Slice, st.tuples(part(size)), at), build(Pad, st.tuples(widths), numbers, at)
    )


def fitting(shape):
    """Strategy for transforms most of which fit `shape`."""
    anywhere = st.one_of(
        build(Transpose, st.none() | st.permutations(range(len(shape))).map(tuple)),
        build(Reshape, st.sampled_from([shape[::-1], (-1,), (1, math.prod(shape)), (*shape, -1)])),
        build(Cast, st.sampled_from(DTYPES)),
        build(Scale, numbers.map(float)),
        build(Fill, numbers.map(float)),
    )
    if not shape:
        return anywhere
    every_axis = build(Slice, st.tuples(*map(part, shape))) | build(Pad, st.tuples(*(widths for _ in shape)), numbers)
    one_axis = st.integers(-len(shape), len(shape) - 1).flatmap(lambda axis: along(shape, axis))
    return st.one_of(anywhere, every_axis, one_axis, rearranging)


@st.composite
def chains(draw, shape, dtype):
    """Chains that mostly fit: each transform is drawn for the shape that the ones before it give."""
    chain = []
    for _ in range(draw(st.integers(1, 4))):
        chain.append(draw(fitting(shape)))
        try:
            shape, dtype = infer(chain[-1:], [shape], [dtype])
        except TransformError:
            break
    return chain


joins = st.one_of(build(Concat, axes), build(Stack, axes), st.sampled_from(MANY))


def check_truth(transforms, shapes, dtypes):
    arrays = [make_array(shape, dtype, seed) for seed, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True))]
    before = [array.tobytes() for array in arrays]
    try:
        planned = infer(transforms, shapes, dtypes)
    except TransformError as error:
        assert error.what and error.fix
        return
    result = apply_chain(transforms, arrays)
    assert isinstance(result, np.ndarray)
    assert (result.shape, result.dtype.name) == planned
    assert [array.tobytes() for array in arrays] == before


@unhurried
@given(st.data(), shapes, st.sampled_from(DTYPES))
def test_the_plan_tells_the_result_of_one_transform(data, shape, dtype):
    check_truth([data.draw(fitting(shape))], [shape], [dtype])


@unhurried
@given(st.data(), shapes, st.sampled_from(DTYPES))
def test_the_plan_tells_the_result_of_a_chain(data, shape, dtype):
    check_truth(data.draw(chains(shape, dtype)), [shape], [dtype])


@unhurried
@given(joins, shapes, st.integers(0, 4), st.sampled_from(DTYPES))
def test_the_plan_tells_the_result_of_a_join(join, shape, size, dtype):
    other = (*shape[:-1], size) if shape else ()
    check_truth([join, Transpose()], [shape, shape], [dtype, dtype])
    check_truth([join, Transpose()], [shape, other], [dtype, dtype])


@unhurried
@given(shapes.flatmap(lambda shape: st.tuples(st.just(shape), fitting(shape))))
def test_what_is_reversed_comes_back(case):
    shape, transform = case
    array = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    try:
        transform.shape([shape])
    except TransformError:
        return
    back = transform.reverse(shape)
    if back is not None:
        assert np.array_equal(apply_chain([transform, *back], [array]), array)


@unhurried
@given(shapes.flatmap(lambda shape: st.tuples(st.just(shape), fitting(shape))))
def test_what_does_not_compute_invents_nothing_and_what_keeps_rows_keeps_them(case):
    shape, transform = case
    array = np.arange(1, math.prod(shape) + 1, dtype=np.float32).reshape(shape)
    try:
        transform.shape([shape])
        dtype = transform.dtype(["float32"])
    except TransformError:
        return
    result = transform.apply([array])
    if not transform.computes and not transform.fills and dtype == "float32":
        assert set(result.ravel().tolist()) <= set(array.ravel().tolist())
        if transform.keeps_rows and shape:
            assert np.array_equal(result, array)


@unhurried
@given(rearranging, shapes.filter(len))
def test_a_refused_shape_is_one_that_numpy_refuses(transform, shape):
    array = make_array(shape, "float32")
    try:
        transform.shape([shape])
    except TransformError:
        with pytest.raises((ValueError, IndexError)):
            transform.apply([array])


@unhurried
@given(st.permutations(range(4)), st.lists(st.integers(1, 4), min_size=4, max_size=4))
def test_the_inverse_permutation_undoes_a_transpose(axes, shape):
    array = make_array(shape, "float32")
    inverse = tuple(int(axis) for axis in np.argsort(axes))
    result = apply_chain([Transpose(tuple(axes)), Transpose(inverse)], [array])
    np.testing.assert_array_equal(result, array)


@unhurried
@given(st.data(), st.integers(2, 6), st.integers(0, 2), st.sampled_from(DTYPES))
def test_slices_joined_again_are_the_whole(data, size, axis, dtype):
    shape = tuple(size if i == axis else 2 for i in range(3))
    array = make_array(shape, dtype)
    cut = data.draw(st.integers(1, size - 1))
    pieces = [Slice((part,), axis).apply([array]) for part in (Range(0, cut), Range(cut, size))]
    np.testing.assert_array_equal(Concat(axis).apply(pieces), array)


@unhurried
@given(shapes.filter(len), st.data(), st.sampled_from(DTYPES))
def test_what_pad_adds_a_slice_takes_away(shape, data, dtype):
    array = make_array(shape, dtype)
    axis = data.draw(st.integers(0, len(shape) - 1))
    before, after = data.draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    cut = Slice((Range(before, before + shape[axis]),), axis)
    np.testing.assert_array_equal(apply_chain([Pad(((before, after),), 1, axis), cut], [array]), array)


@unhurried
@given(st.integers(0, 2**32), st.integers(1, 6), st.sampled_from(MERGED))
def test_the_mean_of_equal_arrays_is_the_array(seed, count, dtype):
    array = np.random.default_rng(seed).normal(size=(3, 4)).astype(numpy_dtype(dtype))
    array.flags.writeable = False
    result = Mean().apply([array] * count)
    if dtype == "float64":  # no wider type is left to add in: the last bit may differ
        np.testing.assert_array_max_ulp(result, array, maxulp=1)
    else:
        np.testing.assert_array_equal(result, array)


@unhurried
@given(st.integers(0, 2**32), st.sampled_from(MERGED))
def test_linear_1_0_is_the_first(seed, dtype):
    first, second = np.random.default_rng(seed).normal(size=(2, 3, 4)).astype(numpy_dtype(dtype))
    first.flags.writeable = second.flags.writeable = False
    np.testing.assert_array_equal(Linear((1.0, 0.0)).apply([first, second]), first)
    np.testing.assert_array_equal(Linear((0.0, 1.0)).apply([first, second]), second)
