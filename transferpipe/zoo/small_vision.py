"""Two small networks for digits, and what they become for other inputs: more channels, larger images, videos.

They are the material of the recipes that change shapes; `train_vision` made the weights that lie in ``data``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.digits import DATA

if TYPE_CHECKING:
    import keras


def small_cnn(
    channels: int = 3, classes: int = 10, filters: Sequence[int] = (12, 16), deeper: bool = False
) -> keras.Model:
    """Return a classifier of 8x8 images: the convolutions ``conv1`` and ``conv2``, each pooled, and the head ``head``.

    Args:
        channels: channels of an image; 3 for the weights in ``data/colour_digits.keras``.
        classes: how many classes ``head`` tells apart.
        filters: filters of ``conv1`` and ``conv2``; 12 and 16 for those weights.
        deeper: whether each convolution is followed by another, ``conv1_more`` and ``conv2_more``.

    Returns:
        A model from images of shape (n, 8, 8, channels) to probabilities of shape (n, classes).
    """
    import keras
    from keras import layers

    images = layers.Input((8, 8, channels), name="images")
    x = images
    for number, count in enumerate(filters, 1):
        for name in (f"conv{number}", *([f"conv{number}_more"] if deeper else [])):
            x = layers.Conv2D(count, 3, padding="same", activation="relu", name=name)(x)
        x = layers.MaxPooling2D(name=f"pool{number}")(x)
    x = layers.Flatten(name="flatten")(x)
    return keras.Model(images, layers.Dense(classes, activation="softmax", name="head")(x), name="small_cnn")


def small_cnn_3d(classes: int = 10) -> keras.Model:
    """Return `small_cnn` for videos of 5 frames: the same layers under the same names, with kernels of 3x3x3.

    Frames are not padded in time, so that two convolutions leave one of them: on a video whose frames are all the same,
    a network with inflated weights computes what the one in two dimensions computes of a frame.

    Args:
        classes: how many classes ``head`` tells apart.

    Returns:
        A model from videos of shape (n, 5, 8, 8, 3) to probabilities of shape (n, classes).
    """
    import keras
    from keras import layers

    videos = layers.Input((5, 8, 8, 3), name="videos")
    x = videos
    for number, filters in enumerate((12, 16), 1):
        x = layers.ZeroPadding3D((0, 1, 1), name=f"border{number}")(x)
        x = layers.Conv3D(filters, 3, activation="relu", name=f"conv{number}")(x)
        x = layers.MaxPooling3D((1, 2, 2), name=f"pool{number}")(x)
    x = layers.Flatten(name="flatten")(x)
    return keras.Model(videos, layers.Dense(classes, activation="softmax", name="head")(x), name="small_cnn_3d")


def small_vit(image: int = 8, patch: int = 2, classes: int = 10, depth: int = 2) -> keras.Model:
    """Return a vision transformer of two blocks: ``patches``, ``positions``, ``block1_...``, ``block2_...``, ``head``.

    The first position is the class token's: its embedding stands for the token itself, as every image has the same.
    Source: Dosovitskiy et al. 2020, arXiv:2010.11929.

    Args:
        image: height and width of an image, a multiple of `patch`.
        patch: height and width of a patch.
        classes: how many classes ``head`` tells apart.
        depth: how many blocks.

    Returns:
        A model from images of shape (n, image, image, 1) to probabilities of shape (n, classes).
    """
    import keras
    from keras import layers, ops

    width, grid = 24, image // patch
    images = layers.Input((image, image, 1), name="images")
    x = layers.Conv2D(width, patch, patch, name="patches")(images)
    x = layers.ZeroPadding1D((1, 0), name="class_token")(layers.Reshape((-1, width), name="tokens")(x))
    places = ops.cumsum(ops.ones_like(x[:, :, 0], dtype="int32"), axis=1) - 1
    x = layers.Add(name="placed")([x, layers.Embedding(1 + grid * grid, width, name="positions")(places)])
    for number in range(1, depth + 1):
        x = _block(x, width, f"block{number}")
    x = layers.LayerNormalization(epsilon=1e-6, name="norm")(x)[:, 0]
    return keras.Model(images, layers.Dense(classes, activation="softmax", name="head")(x), name="small_vit")


def _block(x: Any, width: int, name: str) -> Any:
    from keras import layers

    y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm1")(x)
    y = layers.MultiHeadAttention(2, width // 2, name=f"{name}_attention")(y, y)
    x = layers.Add(name=f"{name}_add1")([x, y])
    y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm2")(x)
    y = layers.Dense(2 * width, activation="gelu", name=f"{name}_dense1")(y)
    return layers.Add(name=f"{name}_add2")([x, layers.Dense(width, name=f"{name}_dense2")(y)])


# What the recipes compare with: the networks they start from, given what is the same to them -------------------------


def colour_digits_on_grey(images: NDArray[Any]) -> NDArray[Any]:
    """Return what the network of ``data/colour_digits.keras`` answers to grey images (n, 8, 8, 1), given as RGB."""
    return _answer("colour_digits", np.repeat(images, 3, axis=-1))


def colour_digits_on_three_bands(images: NDArray[Any]) -> NDArray[Any]:
    """Return what it answers to the first three bands of images (n, 8, 8, bands)."""
    return _answer("colour_digits", images[..., :3])


def colour_digits_on_a_frame(videos: NDArray[Any]) -> NDArray[Any]:
    """Return what it answers to the middle frame of videos (n, frames, 8, 8, 3)."""
    return _answer("colour_digits", videos[:, videos.shape[1] // 2])


def vit_digits_on_half_the_size(images: NDArray[Any]) -> NDArray[Any]:
    """Return what ``data/vit_digits.keras`` answers to the means of 2x2 pixels of images (n, 16, 16, 1)."""
    return _answer("vit_digits", images.reshape(-1, 8, 2, 8, 2, 1).mean((2, 4)))


def vit_digits_without_block2(images: NDArray[Any]) -> NDArray[Any]:
    """Return what ``data/vit_digits.keras`` answers to images (n, 8, 8, 1) where its second block adds nothing."""
    import keras

    model = keras.models.load_model(DATA / "vit_digits.keras", compile=False)
    for name in ("block2_attention", "block2_dense2"):  # the last before each addition
        layer = model.get_layer(name)
        layer.set_weights([np.zeros_like(weight) for weight in layer.get_weights()])
    return np.asarray(model.predict(images, verbose=0))


def _answer(name: str, images: NDArray[Any]) -> NDArray[Any]:
    import keras

    model = keras.models.load_model(DATA / f"{name}.keras", compile=False)
    return np.asarray(model.predict(images, verbose=0))
