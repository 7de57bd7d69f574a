"""``flatten_order``: from a flattened (C, H, W) to a flattened (H, W, C)."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transferpipe.planning.transforms import TransformError, apply_chain, infer, parse_transform

sizes = st.lists(st.integers(1, 5), min_size=2, max_size=4)
rest = st.lists(st.integers(1, 3), max_size=2)


@given(sizes, rest)
def test_a_dense_after_it_sees_what_it_saw_before(sizes, rest):
    random = np.random.default_rng(0)
    image = random.integers(-9, 9, sizes)
    kernel = random.integers(-9, 9, (math.prod(sizes), *rest))
    step = parse_transform({"flatten_order": sizes})
    ours = apply_chain([step], [kernel])
    assert infer([step], [kernel.shape], ["int64"]) == (ours.shape, "int64")
    expected = np.tensordot(image.reshape(-1), kernel, 1)
    np.testing.assert_array_equal(np.tensordot(np.moveaxis(image, 0, -1).reshape(-1), ours, 1), expected)


@given(sizes)
def test_no_row_is_lost(sizes):
    rows = np.arange(math.prod(sizes))
    assert sorted(apply_chain([parse_transform({"flatten_order": sizes})], [rows])) == list(rows)


def test_its_text():
    assert str(parse_transform({"flatten_order": [64, 7, 7]})) == "flatten_order(64, 7, 7)"


@pytest.mark.parametrize("shape", [(5, 2), ()])
def test_another_number_of_rows_is_refused(shape):
    with pytest.raises(TransformError, match=r"flatten_order\(2, 3, 3\) reorders 18 rows, but the shape"):
        infer([parse_transform({"flatten_order": [2, 3, 3]})], [shape], ["float32"])


@pytest.mark.parametrize("data", [[3], [2, 0], [2, -1], 3, [], None, [2, "a"]])
def test_wrong_sizes(data):
    with pytest.raises(TransformError, match="flatten_order") as caught:
        parse_transform({"flatten_order": data})
    assert "[64, 7, 7]" in caught.value.fix
