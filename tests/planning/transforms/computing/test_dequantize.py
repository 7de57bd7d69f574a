"""Quantized values as Keras stores them, turned back: what is left of the difference is less than half a step."""

import numpy as np
import pytest
import yaml

from transferpipe.errors import VerificationError
from transferpipe.planning.transforms import Goal, TransformError, apply_chain, infer, parse_transform

follows = pytest.mark.follows
RANDOM = np.random.default_rng(11)


def dequantize(step, *arrays, goal=None):
    """Return the numbers that quantized values stand for, having planned it."""
    parsed = parse_transform({"dequantize": step} if step else "dequantize")
    goal = Goal(goal, "w")
    shape, dtype = infer([parsed], [a.shape for a in arrays], [a.dtype.name for a in arrays], goal)
    found = apply_chain([parsed], arrays, goal)
    assert (found.shape, found.dtype.name) == (shape, dtype)
    return found


LAYERS = {
    "Dense": (lambda layers: layers.Dense(5), (6,), "kernel", [-1]),
    "EinsumDense": (lambda layers: layers.EinsumDense("abc,cde->abde", (None, 2, 3)), (2, 6), "kernel", [-2, -1]),
    "EinsumDense back": (lambda layers: layers.EinsumDense("abcd,cde->abe", (None, 5)), (2, 2, 3), "kernel", [-1]),
    "Embedding": (lambda layers: layers.Embedding(7, 5), (), "embeddings", [0]),
    "square Embedding": (lambda layers: layers.Embedding(6, 6), (), "embeddings", [0]),
}


@pytest.mark.parametrize("mode", ["int8", "int4", "int4 in blocks"])
@pytest.mark.parametrize("kind", LAYERS)
def test_the_numbers_are_those_that_were_quantized(kind, mode):
    keras = pytest.importorskip("keras")
    make, shape, own, axes = LAYERS[kind]
    layer = make(keras.layers)
    layer.build((None, *shape))
    before = np.asarray(getattr(layer, own))
    block = 3 if mode == "int4 in blocks" else None
    config = {} if mode == "int8" else {"config": keras.quantizers.Int4QuantizationConfig(block_size=block)}
    layer.quantize(mode.split()[0], **config)
    held = {w.name: np.asarray(w) for w in layer.weights}
    names = [own, f"{own}_scale", f"{own}_zero", "g_idx"]
    arrays = [held[name] for name in names if name in held]
    bits = 8 if mode == "int8" else 4
    step = {"bits": bits, "axes": axes if bits == 8 or kind.endswith("Embedding") else [-1]}
    found = dequantize(step, *arrays, goal=before.shape)
    if kind.endswith("Embedding"):
        x = RANDOM.integers(0, 5, size=(3,))
    else:
        x = RANDOM.normal(size=(3, *shape)).astype("float32")
    expected = np.asarray(layer(x))
    plain = make(keras.layers)
    plain.build((None, *shape))
    plain.weights[0].assign(found)
    # Of 8 bits, Keras rounds the inputs, too.
    np.testing.assert_allclose(plain(x), expected, atol=0.05 if bits == 8 else 1e-5)
    if mode != "int4 in blocks":  # whose zero points cannot hold every range
        assert np.abs(found - before).max() < 0.6 * np.abs(before).max() / (127 if bits == 8 else 7)


VALUES, SCALE = RANDOM.integers(-127, 128, (3, 4)).astype("int8"), np.array([1, 2, 4, 8], "float32")
PACKED = np.array([[0x21, 0x0F], [0x70, 0x08], [0x98, 0x03]], "uint8").view("int8")
UNPACKED = np.array([[1, 2, -1], [0, 7, -8], [-8, -7, 3]], "float32")
ONES = np.ones(3, "float32")
PAIR = np.ones((2, 3), "float32")
CASES = [
    ("Dequantize.shape: name the values first,", {}, [VALUES], None, lambda fix: ({}, [VALUES, SCALE]), VALUES / SCALE),
    ("Dequantize.dtype: name the quantized values", {}, [VALUES.astype("float32"), SCALE], None,
     lambda fix: ({}, [VALUES, SCALE] if "first" in fix else []), VALUES / SCALE),
    ("Dequantize.dtype: name the values first,", {}, [VALUES, SCALE.astype("int8")], None,
     lambda fix: ({}, [VALUES, SCALE]), VALUES / SCALE),
    ("Dequantize._find_scaled_axes: name the scale of", {"axes": [0]}, [VALUES, SCALE], None,
     lambda fix: ({"axes": [1]} if "the axes" in fix else {}, [VALUES, SCALE]), VALUES / SCALE),
    ("Dequantize._unpack_values: name the packed values", {"bits": 4}, [PACKED[0], ONES], (3, 3),
     lambda fix: ({"bits": 4, "sizes": [3, 3]}, [PACKED, ONES] if "packed values first" in fix else []), UNPACKED),
    ("Dequantize._matrix: take the values of", {"bits": 4}, [PACKED, ONES], (3, 7),
     lambda fix: ({"bits": 4, "sizes": [3, 3]}, [PACKED, ONES]), UNPACKED),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "inputs", "goal", "right", "expected"), [
    pytest.param(*case[1:], marks=follows(case[0]), id=case[0]) for case in CASES
])  # fmt: skip
def test_what_cannot_be_turned_back_is_refused_with_what_to_write(wrong, inputs, goal, right, expected):
    with pytest.raises(TransformError) as caught:
        dequantize(wrong, *inputs, goal=goal)
    step, arrays = right(caught.value.fix)
    np.testing.assert_array_equal(dequantize(step, *arrays), expected)


@follows("Dequantize.parse: write {dequantize: {bits: 8}}")
def test_other_bits_are_refused():
    with pytest.raises(TransformError) as caught:
        parse_transform({"dequantize": {"bits": 3}})
    written = yaml.safe_load(caught.value.fix.removeprefix("write "))["dequantize"]
    np.testing.assert_array_equal(dequantize(written, VALUES, SCALE), VALUES / SCALE)


@follows("Dequantize._blocks_of: the file is damaged:")
def test_blocks_that_are_none_are_found_in_the_values():
    zeros = np.zeros((2, 3), "int8")
    good = dequantize({"bits": 4}, PACKED, 2 * PAIR, zeros, np.array([0, 0, 1], "float32"), goal=(3, 3))
    np.testing.assert_array_equal(good, 2 * UNPACKED)
    with pytest.raises(VerificationError, match="the blocks of the quantized values run from 0 to 2; there are 2"):
        dequantize({"bits": 4}, PACKED, PAIR, zeros, np.array([0, 1, 2], "float32"), goal=(3, 3))
