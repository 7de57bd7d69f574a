"""Builders of Keras models, for the `_target_` of a recipe. Every layer with weights is named here, none by Keras."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transferpipe.errors import Problem, RecipeError

if TYPE_CHECKING:
    import keras


def digits_cnn(classes: int = 5) -> keras.Model:
    """Return an untrained classifier of 8x8 digits: the nested model ``trunk`` under the Dense layer ``head``.

    The trunk holds ``conv1``, ``bn1``, ``conv2`` and ``conv3``, pooled to 128 features. Its batch normalization shows
    what freezing does to moving statistics.

    Args:
        classes: how many classes ``head`` tells apart.

    Returns:
        A model from images of shape (n, 8, 8, 1), values 0 to 1, to probabilities of shape (n, classes).
    """
    import keras
    from keras import layers

    trunk = keras.Sequential(
        [
            layers.Input((8, 8, 1), name="trunk_images"),
            layers.Conv2D(16, 3, padding="same", activation="relu", name="conv1"),
            layers.BatchNormalization(name="bn1"),
            layers.Conv2D(32, 3, padding="same", activation="relu", name="conv2"),
            layers.Conv2D(32, 3, padding="same", activation="relu", name="conv3"),
            layers.MaxPooling2D(4, name="pool"),
            layers.Flatten(name="flatten"),
        ],
        name="trunk",
    )
    images = layers.Input((8, 8, 1), name="images")
    outputs = layers.Dense(classes, activation="softmax", name="head")(trunk(images))
    return keras.Model(images, outputs, name="digits_cnn")


def nested_classifier(backbone: keras.Model, classes: int, name: str = "nested_classifier") -> keras.Model:
    """Return `backbone` as one layer, under its own name, with a fresh classifier on top.

    The backbone's output is flattened by ``flatten`` unless it is flat already, and goes into ``predictions``, a Dense
    layer with softmax. With ``keras.applications.VGG16(include_top=False, ...)`` the weights are called
    ``vgg16/block1_conv1/kernel``, ..., ``predictions/bias``.

    Args:
        backbone: a built model with one input and one output, whose shape is known except for the batch.
        classes: how many classes ``predictions`` tells apart.
        name: the name of the new model; it is not part of any weight's name.

    Returns:
        A model from the backbone's input to probabilities of shape (n, classes).

    Raises:
        RecipeError: the backbone has several inputs or outputs, or an output size that is not known.
    """
    import keras
    from keras import layers

    _check_backbone(backbone)
    entry = backbone.inputs[0]
    inputs = layers.Input(entry.shape[1:], dtype=entry.dtype, name="inputs")
    features = backbone(inputs)
    if len(features.shape) > 2:
        features = layers.Flatten(name="flatten")(features)
    outputs = layers.Dense(classes, activation="softmax", name="predictions")(features)
    return keras.Model(inputs, outputs, name=name)


def _check_backbone(backbone: keras.Model) -> None:
    """Raise what keeps `backbone` from standing under a flatten and a Dense layer."""
    where = f"backbone {backbone.name!r}"
    if len(backbone.inputs) != 1 or len(backbone.outputs) != 1:
        counts = f"it has {len(backbone.inputs)} inputs and {len(backbone.outputs)} outputs"
        raise RecipeError(Problem(where, counts, "use a model with one of each"))
    shape = backbone.outputs[0].shape
    if None in shape[1:]:
        fix = "build it with a fixed input_shape, or with pooling"
        raise RecipeError(Problem(where, f"its output has the shape {shape}, which a Dense layer cannot take", fix))


def small_mlp(inputs: int = 8, hidden: int = 6, classes: int = 3, prefix: str = "") -> keras.Model:
    """Return a classifier of two Dense layers, ``hidden`` and ``classes``, each name after `prefix`.

    Args:
        inputs: length of an input vector.
        hidden: units of the layer ``hidden``.
        classes: units of the layer ``classes``.
        prefix: put before both layer names, such as ``"old_"``; two models that differ only in it have the same shapes.

    Returns:
        A model from vectors of shape (n, inputs) to probabilities of shape (n, classes).
    """
    import keras
    from keras import layers

    return keras.Sequential(
        [
            layers.Input((inputs,), name="inputs"),
            layers.Dense(hidden, activation="relu", name=f"{prefix}hidden"),
            layers.Dense(classes, activation="softmax", name=f"{prefix}classes"),
        ],
        name="small_mlp",
    )
