"""A small network in two copies, one of which may be built or filled in another way."""

import numpy as np

SIZE = 12


def filled(model, seed=0):
    """Return the model with random weights whose statistics look trained."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        if "seed" in weight.name:
            continue
        value = random.normal(size=weight.shape) * 0.4
        if weight.name in ("moving_variance", "moving_mean"):
            value = np.abs(value) + 0.05
        weight.assign(value + (weight.name == "gamma"))
    return model


def image_net(activation="relu", epsilon=1e-3, pool="max", pad="same", scale=None, between=None, gelu="gelu"):
    """Return a network of convolutions with a Flatten before its dense layers."""
    import keras
    from keras import layers

    x = inputs = keras.Input((SIZE, SIZE, 3), name="image")
    if scale:
        x = layers.Rescaling(scale, name="scaled")(x)
    x = layers.Conv2D(6, 3, name="c1", padding="same", activation=activation)(x)
    x = layers.BatchNormalization(name="b1", epsilon=epsilon)(x)
    if pad == "torch":
        x = layers.Conv2D(6, 3, 2, name="c2")(layers.ZeroPadding2D(1, name="z")(x))
    else:
        x = layers.Conv2D(6, 3, 2, name="c2", padding="same")(x)
    x = layers.Activation("relu", name="a2")(x)
    x = {"max": layers.MaxPooling2D, "avg": layers.AveragePooling2D}[pool](2, name="p")(x)
    x = layers.Conv2D(6, 3, name="c3", padding="same")(x)
    x = layers.Activation(gelu, name="a3")(x)
    if between:
        x = layers.Activation(between, name="more")(x)
    x = layers.Dense(8, name="d1", activation="relu")(layers.Flatten(name="f")(x))
    return keras.Model(inputs, layers.Dense(3, name="out")(layers.Dense(8, name="d2")(x)))


def recurrent_net(recurrent_activation="sigmoid", go_backwards=False):
    """Return a network with an LSTM."""
    import keras
    from keras import layers

    lstm = layers.LSTM(5, name="l", recurrent_activation=recurrent_activation, go_backwards=go_backwards)
    return keras.Sequential([keras.Input((6, 4)), lstm, layers.Dense(3, name="d")])


def change(layer, function):
    """Return what changes the weights of one layer of a model."""

    def apply(model):
        found = model.get_layer(layer)
        found.set_weights(function(found.get_weights()))

    return apply


def crossed(one, other):
    """Return what exchanges the weights of two layers of a model."""

    def apply(model):
        here, there = model.get_layer(one), model.get_layer(other)
        first, second = here.get_weights(), there.get_weights()
        here.set_weights(second)
        there.set_weights(first)

    return apply
