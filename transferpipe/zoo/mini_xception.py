"""mini-XCEPTION, a small face network, without its classifier.

Source: Arriaga, Valdenegro-Toro, Plöger 2017, arXiv:1710.07557.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

_FILTERS = (16, 32, 64, 128)


def mini_xception(input_shape: Sequence[int] = (64, 64, 1)) -> keras.Model:
    """Return the untrained trunk: two convolutions, then four modules of separable convolutions with a shortcut.

    Layers are named by their place: ``entry_conv1``, ``entry_bn1``, ..., ``module4_conv2``, ``module4_bn2``,
    ``module4_shortcut``, ``module4_shortcut_bn``. Convolutions have no bias.

    Args:
        input_shape: height, width, channels of an image; height and width at least 20.

    Returns:
        A model called ``backbone`` from images (n, *input_shape) to a map with 128 channels.
    """
    import keras
    from keras import layers

    images = layers.Input(tuple(input_shape), name="images")
    x: Any = images
    for k in (1, 2):
        x = layers.Conv2D(8, 3, use_bias=False, name=f"entry_conv{k}")(x)
        x = layers.BatchNormalization(name=f"entry_bn{k}")(x)
        x = layers.Activation("relu", name=f"entry_relu{k}")(x)
    for i, filters in enumerate(_FILTERS, 1):
        x = _module(x, filters, f"module{i}")
    return keras.Model(images, x, name="backbone")


def _module(x: Any, filters: int, name: str) -> Any:
    from keras import layers

    shortcut = layers.Conv2D(filters, 1, strides=2, padding="same", use_bias=False, name=f"{name}_shortcut")(x)
    shortcut = layers.BatchNormalization(name=f"{name}_shortcut_bn")(shortcut)
    for k in (1, 2):
        x = layers.SeparableConv2D(filters, 3, padding="same", use_bias=False, name=f"{name}_conv{k}")(x)
        x = layers.BatchNormalization(name=f"{name}_bn{k}")(x)
        if k == 1:
            x = layers.Activation("relu", name=f"{name}_relu")(x)
    x = layers.MaxPooling2D(3, strides=2, padding="same", name=f"{name}_pool")(x)
    return layers.Add(name=f"{name}_add")([x, shortcut])
