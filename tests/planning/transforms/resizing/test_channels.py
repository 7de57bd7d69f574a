"""channels, crop_or_pad, inflate and deflate by what they are for: convolutions that compute what they computed."""

import numpy as np
import pytest

from transferpipe.planning.transforms import Goal, TransformError, infer, parse_transform

RANDOM = np.random.default_rng(11)


def drawn(*shape):
    return RANDOM.normal(size=shape)


def run(data, array, wanted):
    step = parse_transform(data).fit([array.shape], Goal(wanted, "weight"))
    assert infer([step], [array.shape], [array.dtype.name]) == (wanted, array.dtype.name)
    return step.apply([array])


def convolve(x, kernel, pad="valid"):
    """Return what Keras's convolution (of any number of axes) computes of x (places..., in), from the definition."""
    *sizes, _, filters = kernel.shape
    if pad == "same":
        x = np.pad(x, [*(((n - 1) // 2, n - 1 - (n - 1) // 2) for n in sizes), (0, 0)])
    places = [n - k + 1 for n, k in zip(x.shape, sizes, strict=False)]
    result = np.zeros((*places, filters))
    for at in np.ndindex(*sizes):
        window = x[tuple(slice(i, i + n) for i, n in zip(at, places, strict=True))]
        result += window @ kernel[at]
    return result


def test_the_convolution_of_these_tests_is_that_of_keras():
    keras = pytest.importorskip("keras")
    x, kernel = drawn(6, 7, 3), drawn(4, 3, 3, 5)
    layer = keras.layers.Conv2D(5, (4, 3), padding="same", use_bias=False, dtype="float64")
    layer.build((None, 6, 7, 3))
    layer.set_weights([kernel])
    assert np.allclose(layer(x[None])[0], convolve(x, kernel, "same"))


# Channels -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [{"channels": None}, {"channels": "sum"}])
def test_rgb_to_grey_computes_on_grey_what_rgb_computed_on_it(data):
    kernel, grey = drawn(3, 3, 3, 4), drawn(6, 6, 1)
    result = run(data, kernel, (3, 3, 1, 4))
    assert np.allclose(convolve(grey, result), convolve(grey.repeat(3, -1), kernel))


def test_grey_to_rgb_computes_on_grey_what_it_computed():
    kernel, grey = drawn(3, 3, 1, 4), drawn(6, 6, 1)
    result = run({"channels": None}, kernel, (3, 3, 3, 4))
    assert np.allclose(convolve(grey.repeat(3, -1), result), convolve(grey, kernel))
    assert np.allclose(run({"channels": None}, result, kernel.shape), kernel)


@pytest.mark.parametrize("bands", [2, 4, 5, 7, 13])
def test_bands_as_timm_adapts_the_first_convolution(bands):
    """adapt_input_conv: repeat ceil(n / 3) times, cut, times 3 / n."""
    kernel = drawn(3, 3, 3, 4).astype("float32")
    expected = np.concatenate([kernel] * 5, axis=2)[:, :, :bands] * (3 / bands)
    assert np.allclose(run({"channels": "repeat"}, kernel, (3, 3, bands, 4)), expected, rtol=1e-6)
    plain = run({"channels": {"how": "repeat", "rescale": False}}, kernel, (3, 3, bands, 4))
    assert plain[:, :, : min(bands, 3)].tobytes() == kernel[:, :, :bands].tobytes()


def test_new_bands_of_zeros_change_nothing_whatever_they_hold():
    kernel, image = drawn(3, 3, 3, 4), drawn(6, 6, 5)
    result = run({"channels": "zero"}, kernel, (3, 3, 5, 4))
    assert np.allclose(convolve(image, result), convolve(image[..., :3], kernel))
    back = run({"channels": {"how": "repeat", "rescale": False}}, result, kernel.shape)
    assert back.tobytes() == kernel.tobytes()


def test_new_bands_of_the_mean_leave_the_others_alone():
    kernel = drawn(3, 3, 3, 4)
    result = run({"channels": "mean"}, kernel, (3, 3, 5, 4))
    assert result[:, :, :3].tobytes() == kernel.tobytes()
    assert np.allclose(result[:, :, 3], kernel.sum(2) / 3)
    assert np.array_equal(result[:, :, 3], result[:, :, 4])


def test_flow_channels_are_the_mean_of_rgb():
    """Wang et al. 2016: twenty channels of optical flow, each the mean over RGB."""
    kernel = drawn(3, 3, 3, 4)
    result = run({"channels": {"how": "spread", "rescale": False}}, kernel, (3, 3, 20, 4))
    assert np.allclose(result, np.stack([kernel.mean(2)] * 20, 2))
    assert np.allclose(run({"channels": "spread"}, kernel, (3, 3, 20, 4)), result * 3 / 20)


def test_stacked_frames_are_added_to_one():
    kernel, frame = drawn(3, 3, 6, 4), drawn(6, 6, 3)
    result = run({"channels": "sum"}, kernel, (3, 3, 3, 4))
    assert np.allclose(convolve(frame, result), convolve(np.concatenate([frame, frame], -1), kernel))


@pytest.mark.parametrize(
    ("data", "shape", "wanted", "what"),
    [
        ({"channels": None}, (3,), (1,), "channels(auto, axis=-2): axis -2 does not exist in shape (3,)"),
        ({"channels": None}, (), (), "channels(auto, axis=-2): axis -2 does not exist in shape ()"),
        ({"channels": None}, (3, 0, 4), (3, 1, 4), "channels(auto, axis=-2, size=1): axis 1 of shape (3, 0, 4) has no"),
        ({"channels": "sum"}, (4, 2), (3, 2), "channels(sum, axis=-2, size=3): 4 channels cannot be added up to 3"),
        ({"channels": "sum"}, (2, 2), (3, 2), "channels(sum, axis=-2, size=3): 2 channels cannot be added up to 3"),
        ({"channels": "zero"}, (3, 2), (1, 2), "channels(zero, axis=-2, size=1): 1 channels are fewer than the 3 that"),
        (
            {"channels": None},
            (3, 2),
            (3, 3, 3, 2),
            "channels(auto, axis=-2): its result has 2 axes, where (3, 3, 3, 2)",
        ),
        ({"inflate": None}, (3, 3, 4), (3, 3, 4), "inflate(mean, axis=0): its result has 4 axes, where (3, 3, 4) is"),
        ({"inflate": {"axis": 5}}, (3, 4), (3, 3, 4), "inflate(mean, axis=5): axis 5 does not exist in a result of 3"),
        ({"deflate": None}, (), (), "deflate(sum, axis=0): axis 0 does not exist in shape ()"),
        ({"deflate": None}, (0, 3), (3,), "deflate(sum, axis=0): axis 0 of shape (0, 3) has no values"),
        ({"crop_or_pad": {"axes": [2]}}, (3, 3), (5, 5), "crop_or_pad(centre, axes=(2,), value=0): axis 2 does not"),
        (
            {"crop_or_pad": {"axes": [1, -1]}},
            (3, 3),
            (3, 5),
            "crop_or_pad(centre, axes=(1, -1), value=0): [1, -1] are not",
        ),
        (
            {"crop_or_pad": {"sizes": [1]}},
            (3, 3),
            (3, 5),
            "crop_or_pad(centre, sizes=(1,), value=0): there are 1 sizes",
        ),
        (
            {"crop_or_pad": {"axes": [0], "sizes": [1, 2]}},
            (3, 3),
            (1, 3),
            "crop_or_pad(centre, axes=(0,), sizes=(1, 2), ",
        ),
        ({"crop_or_pad": {"axes": []}}, (3, 3), (3, 3), "crop_or_pad(centre, axes=(), value=0): [] are not different"),
        ({"crop_or_pad": None}, (3,), (3, 5), "crop_or_pad(centre, value=0): its result has 1 axes, where (3, 5) is"),
    ],
)
def test_shapes_that_cannot_be(data, shape, wanted, what):
    with pytest.raises(TransformError) as error:
        step = parse_transform(data).fit([shape], Goal(wanted))
        step.shape([shape])
    assert error.value.what.startswith(what)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ({"channels": "max"}, "how of channels is one of auto, sum, repeat, mean, spread, zero, not 'max'"),
        ({"channels": 3}, "how of channels is one of auto, sum, repeat, mean, spread, zero, not 3"),
        ({"channels": {"size": 0}}, "channels(auto, axis=-2, size=0): 0 is not a number of channels"),
        ({"channels": {"how": "sum", "rescale": True}}, "channels(sum, rescale=True, axis=-2): sum keeps what the"),
        ({"channels": {"rescale": "no"}}, "rescale of channels must be true or false, not 'no'"),
        ({"inflate": {"size": 0}}, "inflate(mean, axis=0, size=0): 0 is not a size"),
        ({"inflate": "sum"}, "how of inflate is one of mean, centre, not 'sum'"),
        ({"deflate": {"size": 1}}, "deflate has no argument 'size'"),
        ({"crop_or_pad": "middle"}, "at of crop_or_pad is one of centre, corner, not 'middle'"),
        ({"crop_or_pad": {"sizes": [-1]}}, "crop_or_pad(centre, sizes=(-1,), value=0): -1 is not a size"),
    ],
)
def test_arguments_that_mean_nothing(data, what):
    with pytest.raises(TransformError) as error:
        parse_transform(data)
    assert error.value.what.startswith(what)


# Crop and pad ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "new"), [(3, 5), (3, 4), (4, 5), (2, 7), (1, 2), (5, 5)])
def test_a_padded_kernel_computes_what_it_did(old, new):
    kernel, image = drawn(old, old, 2, 3), drawn(8, 9, 2)
    result = run({"crop_or_pad": {"axes": [0, 1]}}, kernel, (new, new, 2, 3))
    assert np.allclose(convolve(image, result, "same"), convolve(image, kernel, "same"))
    assert run({"crop_or_pad": "centre"}, result, kernel.shape).tobytes() == kernel.tobytes()


def test_the_corner_keeps_the_first_elements():
    kernel = drawn(4, 4)
    assert np.array_equal(run({"crop_or_pad": "corner"}, kernel, (3, 6))[:, :4], kernel[:3])
    assert not run({"crop_or_pad": "corner"}, kernel, (3, 6))[:, 4:].any()


@pytest.mark.parametrize("dtype", ["int8", "bool", "float16"])
def test_crop_or_pad_keeps_the_dtype(dtype):
    assert run({"crop_or_pad": {"value": 1}}, np.zeros(1, dtype), (3,)).astype(int).tolist() == [1, 0, 1]


def test_crop_or_pad_refuses_a_value_that_the_dtype_cannot_hold():
    with pytest.raises(TransformError, match="int8 cannot hold the value 300"):
        parse_transform({"crop_or_pad": {"value": 300}}).dtype(["int8"])


# Dimensions -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 2, 3, 5])
def test_a_still_video_gives_what_the_image_gave(frames):
    kernel, image = drawn(3, 3, 2, 4), drawn(6, 6, 2)
    result = run({"inflate": "mean"}, kernel, (frames, 3, 3, 2, 4))
    video = np.stack([image] * (frames + 2))
    assert np.allclose(convolve(video, result), convolve(image, kernel))
    assert np.allclose(run({"deflate": "sum"}, result, kernel.shape), kernel)


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_the_centre_gives_for_every_frame_what_the_image_gave(frames):
    kernel, video = drawn(3, 3, 2, 4), drawn(5, 6, 6, 2)
    result = run({"inflate": "centre"}, kernel, (frames, 3, 3, 2, 4))
    expected = [convolve(frame, kernel, "same") for frame in video]
    assert np.allclose(convolve(video, result, "same"), expected)
    assert run({"deflate": "centre"}, result, kernel.shape).tobytes() == kernel.tobytes()


def test_rows_to_images_and_images_to_rows():
    kernel, row = drawn(3, 2, 4), drawn(8, 2)
    flat = run({"inflate": {"axis": 0}}, kernel, (3, 3, 2, 4))
    image = np.stack([row] * 3)
    assert np.allclose(convolve(image, flat), convolve(row, kernel))
    assert np.allclose(run({"deflate": {"axis": 0}}, drawn(3, 3, 2, 4), (3, 2, 4)).shape, kernel.shape)
    kernel = drawn(3, 3, 2, 4)
    assert np.allclose(convolve(row, run({"deflate": {"axis": 0}}, kernel, (3, 2, 4))), convolve(image, kernel)[0])


def test_the_mean_along_an_axis():
    kernel = drawn(4, 3, 2, 5)
    assert np.allclose(run({"deflate": {"how": "mean", "axis": 1}}, kernel, (4, 2, 5)), kernel.sum(1) / 3)
