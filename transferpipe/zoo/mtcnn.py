"""The three networks of MTCNN, which find faces: proposals, their refinement, and the output with five landmarks.

Source: Zhang, Zhang, Li, Qiao 2016, "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional
Networks", arXiv:1604.02878, figure 2. Activations are PReLU with one slope a channel. Pooling counts a last window that
is cut off at the border.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


def mtcnn_pnet() -> keras.Model:
    """Return the untrained proposal network, which slides a window of 12x12 over an image of any size.

    Layers with weights: ``conv1``, ``prelu1``, ..., ``prelu3``, and the heads ``face`` and ``box``.

    Returns:
        A model from images (n, height, width, 3), RGB scaled to -1..1, to a list of maps: probabilities of no face and
        of a face (n, h, w, 2), and the four corrections of the box (n, h, w, 4).
    """
    import keras
    from keras import layers

    images = layers.Input((None, None, 3), name="images")
    x = _convolution(images, 10, 3, 1)
    x = layers.MaxPooling2D(2, padding="same", name="pool1")(x)
    x = _convolution(x, 16, 3, 2)
    x = _convolution(x, 32, 3, 3)
    face = layers.Conv2D(2, 1, activation="softmax", name="face")(x)
    box = layers.Conv2D(4, 1, name="box")(x)
    return keras.Model(images, [face, box], name="pnet")


def mtcnn_rnet(by_columns: bool = True) -> keras.Model:
    """Return the untrained refinement network.

    Layers with weights: ``conv1``, ``prelu1``, ..., ``prelu3``, ``dense4``, ``prelu4``, and the heads ``face`` and
    ``box``.

    Args:
        by_columns: whether ``dense4`` sees its map of 3x3 column by column, as the published weights want it, or row by
            row, as a plain Flatten gives it.

    Returns:
        A model from images (n, 24, 24, 3), RGB scaled to -1..1, to a list: probabilities of no face and of a face
        (n, 2), and the four corrections of the box (n, 4).
    """
    from keras import layers

    images = layers.Input((24, 24, 3), name="images")
    x = _convolution(images, 28, 3, 1)
    x = layers.MaxPooling2D(3, 2, padding="same", name="pool1")(x)  # 22 to 11, the last window cut off
    x = _convolution(x, 48, 3, 2)
    x = layers.MaxPooling2D(3, 2, name="pool2")(x)  # 9 to 4
    x = _convolution(x, 64, 2, 3)
    return _with_heads(images, _dense(x, 128, 4, by_columns), {"face": 2, "box": 4}, "rnet")


def mtcnn_onet(by_columns: bool = True) -> keras.Model:
    """Return the untrained output network.

    Layers with weights: ``conv1``, ``prelu1``, ..., ``prelu4``, ``dense5``, ``prelu5``, and the heads ``face``, ``box``
    and ``landmarks``.

    Args:
        by_columns: as in `mtcnn_rnet`, for ``dense5``.

    Returns:
        A model from images (n, 48, 48, 3), RGB scaled to -1..1, to a list: probabilities of no face and of a face
        (n, 2), the four corrections of the box (n, 4), and the places of five landmarks (n, 10).
    """
    from keras import layers

    images = layers.Input((48, 48, 3), name="images")
    x = _convolution(images, 32, 3, 1)
    x = layers.MaxPooling2D(3, 2, padding="same", name="pool1")(x)  # 46 to 23, the last window cut off
    x = _convolution(x, 64, 3, 2)
    x = layers.MaxPooling2D(3, 2, name="pool2")(x)  # 21 to 10
    x = _convolution(x, 64, 3, 3)
    x = layers.MaxPooling2D(2, name="pool3")(x)  # 8 to 4
    x = _convolution(x, 128, 2, 4)
    return _with_heads(images, _dense(x, 256, 5, by_columns), {"face": 2, "box": 4, "landmarks": 10}, "onet")


def _convolution(x: Any, filters: int, size: int, number: int) -> Any:
    from keras import layers

    x = layers.Conv2D(filters, size, name=f"conv{number}")(x)
    return layers.PReLU(shared_axes=[1, 2], name=f"prelu{number}")(x)


def _dense(x: Any, units: int, number: int, by_columns: bool) -> Any:
    from keras import layers

    if by_columns:
        x = layers.Permute((2, 1, 3), name="by_columns")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(units, name=f"dense{number}")(x)
    return layers.PReLU(name=f"prelu{number}")(x)


def _with_heads(images: Any, x: Any, heads: dict[str, int], name: str) -> keras.Model:
    import keras
    from keras import layers

    outputs = [layers.Dense(n, activation="softmax" if h == "face" else None, name=h)(x) for h, n in heads.items()]
    return keras.Model(images, outputs, name=name)
