"""A layer in the three ways in which models hold layers: in a Functional model, in a nested one, in attributes and lists."""

import keras
from keras.src import tree

FORMS = ("functional", "nested", "held")


class Holder(keras.Model):
    """A model of a user's own: one layer in an attribute, another in a list, both in its configuration."""

    def __init__(self, one, more, **kwargs):
        super().__init__(**kwargs)
        self.one, self.more = one, more
        self.arguments = {}

    def call(self, inputs):
        return [_apply(layer, inputs, self.arguments) for layer in (self.one, *self.more)]

    def get_config(self):
        parts = keras.saving.serialize_keras_object([self.one, self.more])
        return {"name": self.name, "trainable": self.trainable, "parts": parts}

    @classmethod
    def from_config(cls, config):
        one, more = keras.saving.deserialize_keras_object(config.pop("parts"))
        return cls(one, more, **config)


def _apply(layer, inputs, call):
    return layer(**inputs, **call) if isinstance(inputs, dict) else layer(inputs, **call)


def build(configuration, form):
    """Return a model with the layer of a configuration in it, and what loading that model needs."""
    keras.utils.clear_session()
    custom = {**configuration.custom, "Holder": Holder}
    with keras.saving.custom_object_scope(custom):
        if form == "held":
            layers = [configuration.make(name) for name in ("lay", "other")]
            model = Holder(layers[0], [layers[1]], name="holder")
            model.arguments = configuration.call
            model(sample(configuration, 0))
            return model, custom
        model = _functional(configuration, configuration.make("lay"), "inner")
        if form == "nested":
            inputs = _inputs(configuration)
            model = keras.Model(inputs, model(inputs), name="outer")
        return model, custom


def _functional(configuration, layer, name):
    inputs = _inputs(configuration)
    return keras.Model(inputs, _apply(layer, inputs, configuration.call), name=name)


def _names(configuration):
    """Return the inputs' shapes and dtypes by the names of the call's arguments where they go by name."""
    shapes, dtypes = configuration.shapes, configuration.dtypes
    if isinstance(shapes, dict):
        shapes = {k.removesuffix("_shape"): v for k, v in shapes.items()}
        dtypes = {k.removesuffix("_shape"): v for k, v in dtypes.items()}
    return shapes, dtypes


def _map(make, configuration):
    shapes, dtypes = _names(configuration)
    shapes = tree.map_shape_structure(lambda s: _Shape(s), shapes)
    return tree.map_structure(make, shapes, dtypes)


class _Shape:
    """A shape that a walk over nested inputs takes for a leaf."""

    def __init__(self, shape):
        self.shape = tuple(shape)


def _inputs(configuration):
    return _map(lambda s, d: keras.Input(batch_shape=s.shape, dtype=d), configuration)


def sample(configuration, seed):
    """Return inputs of the configured shapes: small integers where integers are asked for."""
    import numpy as np

    random = np.random.default_rng(seed)

    def make(shape, dtype):
        if "float" in dtype or "complex" in dtype:
            return keras.ops.convert_to_tensor(random.random(shape.shape), dtype=dtype)
        if dtype == "string":
            import tensorflow as tf

            return tf.constant(np.full(shape.shape, "a"))
        return keras.ops.convert_to_tensor(random.integers(0, 2, shape.shape), dtype=dtype)

    return _map(make, configuration)
