"""resize, resize_patches and resize_positions against torch where it installs, and against its numbers where not."""

import numpy as np
import pytest

from transferpipe.planning.transforms import Goal, TransformError, infer, parse_transform
from transferpipe.planning.transforms.resizing.resize import resize_matrix

RANDOM = np.random.default_rng(3)
RAMP = np.array([1.0, -2.0, 4.0, 0.5, 3.0])
METHODS = [("bilinear", False), ("bilinear", True), ("bicubic", False), ("bicubic", True)]


def drawn(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def run(data, array, wanted):
    step = parse_transform(data).fit([array.shape], Goal(wanted, "weight"))
    assert infer([step], [array.shape], [array.dtype.name]) == (wanted, array.dtype.name)
    return step.apply([array])


@pytest.fixture(scope="module")
def interpolate():
    torch = pytest.importorskip("torch")

    def interpolate(images, size, method, antialias):
        """Interpolate (h, w, channels)."""
        tensor = torch.from_numpy(np.ascontiguousarray(images.transpose(2, 0, 1)))[None]
        keys = {} if method == "nearest" else {"align_corners": False, "antialias": antialias}
        return torch.nn.functional.interpolate(tensor, size, mode=method, **keys)[0].permute(1, 2, 0).numpy()

    return interpolate


@pytest.mark.parametrize(("method", "antialias"), [*METHODS, ("nearest", False)])
@pytest.mark.parametrize(
    ("old", "new"), [((4, 4), (7, 7)), ((14, 14), (24, 24)), ((7, 5), (3, 9)), ((1, 6), (4, 4)), ((9, 9), (2, 3))]
)
def test_two_axes_as_torch_interpolates_them(old, new, method, antialias, interpolate):
    array = drawn(*old, 3)
    expected = interpolate(array, new, method, antialias)
    data = {"resize": {"axes": [0, 1], "method": method, "antialias": antialias}}
    assert np.allclose(run(data, array, (*new, 3)), expected, atol=3e-6)


def slow_cubic(x, a):
    x = abs(x)
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def slow_weights(old, new, method, antialias):
    """Return the weights of the samples, place by place and tap by tap as ATen's loops go."""
    table = np.zeros((new, old))
    for i in range(new):
        centre = (i + 0.5) * old / new - 0.5
        if antialias:
            stretch = max(old / new, 1)
            for j in range(old):
                x = (j - centre) / stretch
                table[i, j] = slow_cubic(x, -0.5) if method == "bicubic" else max(0, 1 - abs(x))
            table[i] /= sum(table[i])
        elif method == "bicubic":
            low = int(np.floor(centre))
            for j in range(low - 1, low + 3):
                table[i, min(max(j, 0), old - 1)] += slow_cubic(centre - j, -0.75)
        else:
            centre = max(centre, 0)
            low = int(centre)
            table[i, low] += 1 - (centre - low)
            table[i, min(low + 1, old - 1)] += centre - low
    return table


@pytest.mark.parametrize(("method", "antialias"), METHODS)
@pytest.mark.parametrize(("old", "new"), [(5, 3), (5, 8), (4, 4), (1, 3), (6, 1), (14, 24)])
def test_the_matrix_against_loops_over_places_and_taps(old, new, method, antialias):
    matrix = resize_matrix(old, new, method, antialias)
    assert np.allclose(matrix, slow_weights(old, new, method, antialias), atol=1e-12)
    assert np.allclose(matrix.sum(1), 1)
    assert old != new or np.array_equal(matrix, np.eye(old))


# What torch 2.13 gave for these methods, antialiasing and sizes, within its rounding to float32.
STORED = {
    ("bilinear", False, 3): [0.0, 4.0, 2.1666667],
    ("bilinear", True, 3): [-0.2857143, 1.8888889, 1.9285714],
    ("bicubic", False, 3): [-0.2777778, 4.0, 2.0185185],
    ("bicubic", True, 3): [-0.3230769, 1.8069768, 2.0384615],
    ("bilinear", False, 8): [1.0, -0.3125, -1.625, 2.125, 2.90625, 0.71875, 1.90625, 3.0],
    ("bicubic", False, 8): [1.2785034, -0.7739258, -1.8158875, 2.4825134, 3.5155334, 0.5873718, 1.6428528, 3.2320862],
    ("bicubic", True, 8): [1.2158672, -0.4864711, -1.8547974, 2.5244751, 3.4064331, 0.5713501, 1.8367964, 3.1798892],
}


@pytest.mark.parametrize(("method", "antialias", "size"), STORED)
def test_numbers_that_torch_gave(method, antialias, size):
    result = run({"resize": {"axes": [0], "method": method, "antialias": antialias}}, RAMP, (size,))
    assert np.allclose(result, STORED[method, antialias, size], atol=1e-6)


@pytest.mark.parametrize("antialias", [False, True], ids=["hugging-face", "timm"])
@pytest.mark.parametrize(("grid", "to"), [((4, 4), (7, 7)), ((6, 6), (3, 3)), ((4, 3), (6, 5))])
@pytest.mark.parametrize("tokens", [0, 1, 2])
def test_positions_of_a_vision_transformer(tokens, grid, to, antialias, interpolate):
    old, new = grid[0] * grid[1], to[0] * to[1]
    table = drawn(1, tokens + old, 6)
    body = interpolate(table[0, tokens:].reshape(*grid, 6), to, "bicubic", antialias).reshape(new, 6)
    expected = np.concatenate([table[:, :tokens], body[None]], 1)
    sizes = {} if grid[0] == grid[1] else {"grid": list(grid), "to": list(to)}
    data = {"resize_positions": {"prefix": tokens, "antialias": antialias, **sizes}}
    result = run(data, table, (1, tokens + new, 6))
    assert np.allclose(result, expected, atol=3e-6)
    assert result[:, :tokens].tobytes() == table[:, :tokens].tobytes()


def test_positions_along_a_line(interpolate):
    table = drawn(12, 5)
    data = {"resize_positions": {"grid": "line", "method": "linear"}}
    expected = interpolate(table[:, None], (20, 1), "bilinear", False)[:, 0]
    assert np.allclose(run(data, table, (20, 5)), expected, atol=3e-6)


@pytest.mark.parametrize("extra", [0, 3], ids=["swin", "beit"])
def test_tables_of_relative_positions(extra, interpolate):
    """(2 * 4 - 1)^2 rows to (2 * 6 - 1)^2, and BEiT's three for the class token behind them."""
    table = drawn(49 + extra, 4)
    body = interpolate(table[:49].reshape(7, 7, 4), (11, 11), "bicubic", False).reshape(121, 4)
    result = run({"resize_positions": {"suffix": extra}}, table, (121 + extra, 4))
    assert np.allclose(result, np.concatenate([body, table[49:]]), atol=3e-6)


def test_tables_with_the_heads_first(interpolate):
    table = drawn(3, 7, 7)
    expected = interpolate(table.transpose(1, 2, 0), (11, 11), "bicubic", False).transpose(2, 0, 1)
    assert np.allclose(run({"resize": {"axes": [1, 2]}}, table, (3, 11, 11)), expected, atol=3e-6)


def test_positions_on_a_grid_of_three_axes():
    table = drawn(8, 2)
    result = run({"resize_positions": {"grid": [2, 2, 2], "to": [2, 4, 2], "method": "nearest"}}, table, (16, 2))
    assert np.array_equal(result, table.reshape(2, 2, 2, 2).repeat(2, 1).reshape(16, 2))


def test_tokens_that_the_target_has_not_are_left_out():
    table = drawn(1, 18, 3)
    result = run({"resize_positions": {"prefix": [2, 1]}}, table, (1, 17, 3))
    assert result.tobytes() == np.concatenate([table[:, :1], table[:, 2:]], 1).tobytes()


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_as_many_positions_stay_as_they_are(dtype):
    table = drawn(10, 3).astype(dtype)
    assert run({"resize_positions": {"prefix": 1, "antialias": True}}, table, (10, 3)).tobytes() == table.tobytes()


@pytest.mark.parametrize(("old", "new"), [(4, 8), (8, 16), (6, 9), (3, 5)])
@pytest.mark.parametrize(("method", "antialias"), METHODS)
def test_a_larger_patch_has_the_product_that_the_smaller_had(old, new, method, antialias):
    """<resize(x), w'> = <x, w>: what FlexiViT's resizing is for."""
    kernel, patch = drawn(old, old, 2, 5).astype("float64"), drawn(old, old, 2).astype("float64")
    data = {"resize_patches": {"method": method, "antialias": antialias}}
    result = run(data, kernel, (new, new, 2, 5))
    matrix = slow_weights(old, new, method, antialias)
    larger = np.einsum("ai,bj,ijc->abc", matrix, matrix, patch)
    assert np.allclose(np.einsum("abc,abco->o", larger, result), np.einsum("ijc,ijco->o", patch, kernel))


@pytest.mark.parametrize(("old", "new"), [((4, 4), (6, 6)), ((6, 6), (4, 4)), ((4, 4), (3, 5))])
def test_patches_against_the_pseudoinverse_of_the_whole_matrix(old, new, interpolate):
    """As timm's resample_patch_embed makes it: every patch of one 1 resized, and the pseudoinverse of that."""
    kernel = drawn(*old, 3, 4)
    ones = np.eye(old[0] * old[1], dtype="float32").reshape(*old, -1)
    matrix = interpolate(ones, new, "bicubic", True).reshape(new[0] * new[1], -1)
    expected = np.linalg.pinv(matrix.T.astype("float64"), rcond=1e-5) @ kernel.reshape(old[0] * old[1], -1)
    result = run({"resize_patches": None}, kernel, (*new, 3, 4))
    assert np.allclose(result, expected.reshape(*new, 3, 4), atol=1e-5)


def test_a_kernel_that_is_only_interpolated(interpolate):
    kernel = drawn(4, 4, 2, 3)
    expected = interpolate(kernel.reshape(4, 4, 6), (8, 8), "bilinear", False).reshape(8, 8, 2, 3)
    data = {"resize_patches": {"method": "bilinear", "antialias": False, "pseudoinverse": False}}
    assert np.allclose(run(data, kernel, (8, 8, 2, 3)), expected, atol=3e-6)


@pytest.mark.parametrize(
    ("data", "shape", "wanted", "what"),
    [
        ({"resize_positions": None}, (4, 3), (), "its result has 2 axes, where () is wanted"),
        ({"resize_positions": None}, (3,), (4,), "axis -2 does not exist in shape (3,)"),
        ({"resize_positions": None}, (), (), "axis -2 does not exist in shape ()"),
        ({"resize_positions": None}, (5, 3), (9, 3), "5 positions are no square grid"),
        ({"resize_positions": None}, (4, 3), (10, 3), "10 positions are no square grid"),
        ({"resize_positions": {"prefix": 4}}, (4, 3), (13, 3), "4 positions leave none beside 4 tokens"),
        ({"resize_positions": {"grid": [2, 3]}}, (7, 3), (16, 3), "the grid and 0 tokens are 6 positions, not 7"),
        ({"resize_positions": None}, (0, 3), (4, 3), "0 positions leave none beside 0 tokens"),
        ({"resize_positions": None}, (4, 3), (0, 3), "0 positions leave none beside 0 tokens"),
        ({"resize_positions": {"grid": [2, 2, 2]}}, (8, 3), (27, 3), "27 positions are no cube of 3 axes"),
        ({"resize": {"axes": [0]}}, (0, 3), (4, 3), "axis 0 of shape (0, 3) has no values"),
        ({"resize": {"axes": [0]}}, (2, 3), (0, 3), "[0] are not the sizes of 1 axes"),
        ({"resize": {"axes": [2]}}, (2, 3), (4, 3), "axis 2 does not exist in shape (2, 3)"),
        ({"resize": {"axes": [1, -1]}}, (2, 3), (2, 4), "[1, -1] are not different axes of shape (2, 3)"),
        ({"resize": {"axes": []}}, (2, 3), (2, 4), "[] are not different axes of shape (2, 3)"),
        ({"resize_patches": None}, (4,), (8,), "axis 1 does not exist in shape (4,)"),
    ],
)
def test_shapes_that_cannot_be(data, shape, wanted, what):
    with pytest.raises(TransformError) as error:
        step = parse_transform(data).fit([shape], Goal(wanted))
        step.shape([shape])
    assert what in error.value.what


@pytest.mark.parametrize("data", [{"resize": {"axes": [0]}}, {"resize_positions": None}, {"resize_patches": None}])
def test_whole_numbers_are_refused(data):
    with pytest.raises(TransformError, match="works on floating-point values, not on int32"):
        parse_transform(data).dtype(["int32"])


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ({"resize": None}, "resize takes named arguments, not None"),
        ({"resize": {}}, "resize needs the argument 'axes', but has []"),
        ({"resize": {"axes": [0], "sizes": [1, 2]}}, "resize(axes=(0,), bicubic, sizes=(1, 2)): [1, 2] are not the"),
        ({"resize": {"axes": [0], "method": "lanczos"}}, "method of resize is one of bicubic, bilinear, nearest, not"),
        ({"resize": {"axes": [0], "antialias": 1}}, "antialias of resize must be true or false, not 1"),
        ({"resize": {"axes": [0], "method": "nearest", "antialias": True}}, "resize(axes=(0,), nearest, antialias): "),
        ({"resize_patches": 2}, "resize_patches takes named arguments, not 2"),
        ({"resize_positions": {"grid": "round"}}, "grid of resize_positions must be a list, not 'round'"),
        ({"resize_positions": {"grid": []}}, "resize_positions(, bicubic, axis=-2): [] are not sizes of a grid"),
        ({"resize_positions": {"grid": [2, 0]}}, "resize_positions(2x0, bicubic, axis=-2): [2, 0] are not sizes of"),
        ({"resize_positions": {"to": [2]}}, "resize_positions(square, to=2, bicubic, axis=-2): [2] are not the sizes"),
        ({"resize_positions": {"prefix": [1, 2]}}, "resize_positions(square, prefix=(1, 2), bicubic, axis=-2): prefix"),
        ({"resize_positions": {"suffix": -1}}, "resize_positions(square, suffix=-1, bicubic, axis=-2): suffix keeps"),
        ({"resize_positions": {"prefix": [1]}}, "prefix of resize_positions takes the source's and the target's"),
    ],
)
def test_arguments_that_mean_nothing(data, what):
    with pytest.raises(TransformError) as error:
        parse_transform(data)
    assert error.value.what.startswith(what)
