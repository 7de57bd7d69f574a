"""Small models for the recipes that show surgery: normalizations to fold, tokens to add, integers to turn back."""

from __future__ import annotations

import importlib.resources
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import keras

NORMED = "digits_normed.keras"
"""A trained `normed_digits_cnn` in this package's ``data``."""


def normed_digits_cnn(classes: int = 10, folded: bool = False) -> keras.Model:
    """Return a classifier of 8x8 digits whose three convolutions each have a BatchNormalization behind them.

    ``conv1`` is a convolution, ``conv2`` a depthwise one, ``conv3`` one of size 1; behind each of them stand ``bn1`` to
    ``bn3`` and a ReLU, then ``head``, a Dense with softmax.

    Args:
        classes: how many classes ``head`` tells apart.
        folded: whether the normalizations are left out, and the convolutions have a bias in their place.

    Returns:
        A model from images of shape (n, 8, 8, 1), values 0 to 1, to probabilities of shape (n, classes).
    """
    import keras
    from keras import layers

    def behind(x: Any, number: int) -> Any:
        x = x if folded else layers.BatchNormalization(name=f"bn{number}")(x)
        return layers.ReLU(name=f"relu{number}")(x)

    images = layers.Input((8, 8, 1), name="images")
    x = behind(layers.Conv2D(16, 3, padding="same", use_bias=folded, name="conv1")(images), 1)
    x = behind(layers.DepthwiseConv2D(3, strides=2, padding="same", use_bias=folded, name="conv2")(x), 2)
    x = behind(layers.Conv2D(24, 1, use_bias=folded, name="conv3")(x), 3)
    x = layers.Flatten(name="flatten")(x)
    return keras.Model(images, layers.Dense(classes, activation="softmax", name="head")(x), name="normed_digits")


def quantized_digits(mode: Literal["int8", "int4"] = "int8") -> keras.Model:
    """Return the trained `normed_digits_cnn` of this package with its ``head`` quantized by Keras."""
    import warnings

    import keras

    data = importlib.resources.files("transferpipe.zoo") / "data" / NORMED
    with importlib.resources.as_file(data) as path:
        model = keras.models.load_model(path, compile=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns of each layer that it leaves as it is
        model.quantize(mode)
    return model


def token_model(tokens: int, tied: bool = True) -> keras.Model:
    """Return a small language model: an embedding, a Dense, and scores for the next token.

    Args:
        tokens: how many tokens there are.
        tied: whether the scores are computed with the embedding itself; otherwise ``tokens`` has a matrix of its own.

    Returns:
        A model from token numbers of shape (n, 6) to scores of shape (n, 6, tokens).
    """
    import keras
    from keras import layers

    numbers = layers.Input((6,), dtype="int32", name="numbers")
    embedding = layers.ReversibleEmbedding(tokens, 8, tie_weights=tied, name="tokens")
    x = layers.Dense(8, activation="tanh", use_bias=False, name="mixer")(embedding(numbers))
    return keras.Model(numbers, embedding(x, reverse=True), name="token_model")
