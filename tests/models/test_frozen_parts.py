"""What is said to be frozen in a saved file is frozen when Keras loads it: every kind of layer that has parts."""

import keras
import numpy as np
import pytest
from keras import layers

import transferpipe as tp


@keras.saving.register_keras_serializable("frozen_parts")
class Held(keras.layers.Layer):
    """A layer of the user's own that makes its parts itself."""

    def __init__(self, **options):
        super().__init__(**options)
        self.dense = layers.Dense(3)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, inputs):
        return self.dense(inputs)


def twice(layer):
    inputs = keras.Input((4, 6))
    return keras.Model(inputs, layer(inputs, inputs))


def once(layer, *shape):
    inputs = keras.Input(shape)
    return keras.Model(inputs, layer(inputs))


def sequential():
    return keras.Sequential(
        [keras.Input((5,)), layers.Dense(2, name="a"), layers.BatchNormalization(name="b")], name="m"
    )


CASES = {
    "attention": lambda: twice(layers.MultiHeadAttention(2, 3, name="m")),
    "grouped attention": lambda: twice(layers.GroupQueryAttention(3, 2, 1, name="m")),
    "own layer": lambda: once(Held(name="m"), 5),
    "lstm": lambda: once(layers.LSTM(3, name="m"), 4, 5),
    "gru": lambda: once(layers.GRU(3, name="m"), 4, 5),
    "simple rnn": lambda: once(layers.SimpleRNN(3, name="m"), 4, 5),
    "convlstm": lambda: once(layers.ConvLSTM1D(2, 2, name="m"), 3, 4, 2),
    "bidirectional": lambda: once(layers.Bidirectional(layers.LSTM(3), name="m"), 4, 5),
    "bidirectional convlstm": lambda: once(layers.Bidirectional(layers.ConvLSTM1D(2, 2), name="m"), 3, 4, 2),
    "cells": lambda: once(layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)], name="m"), 4, 5),
    "cell": lambda: once(layers.RNN(layers.LSTMCell(3), name="m"), 4, 5),
    "time distributed": lambda: once(layers.TimeDistributed(layers.Dense(3), name="m"), 4, 5),
    "spectral": lambda: once(layers.SpectralNormalization(layers.Conv2D(3, 2), name="m"), 5, 5, 2),
    "separable": lambda: once(layers.SeparableConv2D(3, 2, name="m"), 5, 5, 2),
    "model": lambda: once(sequential(), 5),
}


@pytest.mark.parametrize("name", CASES)
def test_proved_means_frozen_after_loading(name, tmp_path):
    keras.utils.clear_session()
    model = CASES[name]()
    model.save(tmp_path / "source.keras")
    report = tp.transfer(
        tmp_path / "source.keras", model, folder=tmp_path, mapping={"all": {"to": ".*"}}, freeze=["m"],
        save={"path": "out.keras"},
    )  # fmt: skip
    loaded = keras.models.load_model(tmp_path / "out.keras")
    trainable = sum(int(np.prod(v.shape)) for v in loaded.trainable_variables)
    proved = report.manifest["artifacts"][0]["freezing"] == "verified"
    warned = any(w.code == "freeze-not-saved" for w in report.plan.warnings)
    assert proved == (trainable == report.plan.freezing.trainable_parameters)
    assert warned == (not proved)


def frozen_when_built(name):
    model = CASES[name]()
    model.get_layer("m").trainable = False
    return model


def off_without_its_part():
    """Keras hands nobody the flag that a wrapper is made with: the variable that both hold trains."""
    return once(layers.SpectralNormalization(layers.Dense(3), trainable=False, name="m"), 5)


def sequence(*kinds):
    return keras.Sequential([keras.Input((4, 6)), *kinds, layers.Dense(2, name="m")])


ALREADY = {
    "attention": (lambda: frozen_when_built("attention"), [], True),
    "attention, named": (lambda: frozen_when_built("attention"), ["m/.*"], True),
    "convlstm": (lambda: frozen_when_built("convlstm"), [], True),
    "lstm": (lambda: frozen_when_built("lstm"), [], False),
    "spectral": (off_without_its_part, [], False),
    "spectral, named": (off_without_its_part, ["m"], False),
    "a sequence": (lambda: sequence(layers.Bidirectional(layers.LSTM(3))), [""], False),
    "a sequence of own layers": (lambda: sequence(Held()), [""], True),
}


@pytest.mark.parametrize("case", ALREADY)
def test_what_was_off_before_is_judged_as_keras_loads_it(case, tmp_path):
    keras.utils.clear_session()
    make, freeze, lost = ALREADY[case]
    model = make()
    model.save(tmp_path / "source.keras")
    for target in (model, tmp_path / "source.keras"):
        report = tp.transfer(
            tmp_path / "source.keras", target, folder=tmp_path, unmatched="same_name", freeze=freeze,
            save={"path": "out.keras", "overwrite": True},
        )  # fmt: skip
        loaded = keras.models.load_model(tmp_path / "out.keras")
        trainable = sum(int(np.prod(v.shape)) for v in loaded.trainable_variables)
        warned = any(w.code == "freeze-not-saved" for w in report.warnings)
        # In a file that is the target it is lost already, and nothing more is unless it is asked for again.
        assert warned == (lost and (target is model or bool(freeze)))
        assert (trainable == report.plan.freezing.trainable_parameters) == (not warned)


@pytest.mark.parametrize("name", CASES)
def test_a_file_as_the_target_tells_what_keras_makes_trainable(name, tmp_path):
    keras.utils.clear_session()
    model = CASES[name]()
    model.get_layer("m").trainable = False
    model.save(tmp_path / "frozen.keras")
    plan = tp.plan(tmp_path / "frozen.keras", tmp_path / "frozen.keras", mapping={"all": {"to": ".*"}})
    loaded = keras.models.load_model(tmp_path / "frozen.keras")
    assert plan.freezing.trainable_parameters == sum(int(np.prod(v.shape)) for v in loaded.trainable_variables)


def test_statistics_of_renormalization_in_a_file_are_not_trained(tmp_path):
    model = once(layers.BatchNormalization(renorm=True, name="m"), 3)
    model.save(tmp_path / "norm.keras")
    plan = tp.plan(tmp_path / "norm.keras", tmp_path / "norm.keras", mapping={"all": {"to": ".*"}})
    assert plan.freezing.trainable_parameters == 2 * 3  # gamma and beta


@pytest.mark.parametrize("trainable", [True, False])
def test_kernels_of_a_spectrogram_in_a_file_are_trained_where_their_layer_is(trainable, tmp_path):
    pytest.importorskip("scipy")  # Keras takes its windows from there
    layer = layers.STFTSpectrogram(frame_length=4, frame_step=2, fft_length=4, trainable=trainable, name="m")
    once(layer, 16, 1).save(tmp_path / "m.keras")
    plan = tp.plan(tmp_path / "m.keras", tmp_path / "m.keras", mapping={"all": {"to": ".*"}})
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert plan.freezing.trainable_parameters == sum(int(np.prod(v.shape)) for v in loaded.trainable_variables)


@keras.saving.register_keras_serializable("frozen_parts")
class Backbone(keras.Model):
    """A model of a class of its own that is Functional inside, as KerasHub's are: its configuration lists no layers."""

    def __init__(self, units=3, trainable=True, **options):
        inputs = keras.Input((5,))
        outputs = layers.BatchNormalization(name="bn")(layers.Dense(units, name="d")(inputs))
        super().__init__(inputs=inputs, outputs=outputs, trainable=trainable, **options)
        self.units = units

    def get_config(self):
        return {"name": self.name, "trainable": self.trainable, "units": self.units}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)


@keras.saving.register_keras_serializable("frozen_parts")
class Forgetful(Backbone):
    """The same, but it does not pass its flag on."""

    def __init__(self, units=3, trainable=True, **options):
        super().__init__(units, **options)


@keras.saving.register_keras_serializable("frozen_parts")
class Subclassed(keras.Model):
    """A model that makes its parts itself, so that its flag reaches none of them when it is loaded."""

    def __init__(self, **options):
        super().__init__(**options)
        self.dense, self.bn = layers.Dense(3), layers.BatchNormalization()

    def build(self, shape):
        self.dense.build(shape)
        self.bn.build((None, 3))

    def call(self, inputs):
        return self.bn(self.dense(inputs))


@keras.saving.register_keras_serializable("frozen_parts")
class Keeping(Backbone):
    """The same, but it sets its flag once its parts are there, so that they have it when it is loaded."""

    def __init__(self, units=3, trainable=True, **options):
        super().__init__(units, **options)
        self.trainable = trainable


CLASSES = {"functional": Backbone, "forgetful": Forgetful, "subclassed": Subclassed, "keeping": Keeping}


@pytest.mark.parametrize(
    ("name", "kind"), [*((name, "live") for name in CLASSES), ("keeping", "file"), ("forgetful", "file")]
)
def test_a_frozen_model_of_a_class_of_its_own_is_judged_as_keras_loads_it(name, kind, tmp_path):
    keras.utils.clear_session()
    inputs = keras.Input((5,))
    model = keras.Model(inputs, layers.Dense(2, name="head")(CLASSES[name](name="m")(inputs)))
    model.save(tmp_path / "source.keras")
    report = tp.transfer(
        tmp_path / "source.keras", model if kind == "live" else tmp_path / "source.keras", folder=tmp_path,
        mapping={"all": {"to": ".*"}}, freeze=["m"], save={"path": "out.keras"},
    )  # fmt: skip
    loaded = keras.models.load_model(tmp_path / "out.keras")
    x = np.random.default_rng(0).normal(size=(8, 5))
    before = loaded.layers[1].get_weights()
    loaded.compile("sgd", "mse")
    loaded.fit(x, np.ones((8, 2)), verbose=0)
    kept = all(map(np.array_equal, before, loaded.layers[1].get_weights()))
    warned = [w for w in report.plan.warnings if w.code == "freeze-not-saved"]
    assert kept == (not warned)
    assert kept == (report.manifest["artifacts"][0]["freezing"] == "verified")


@keras.saving.register_keras_serializable("frozen_parts")
class Quantizing(keras.Model):
    """A model with a part that is off when it is built, and whose policies are all that it records, as KerasHub's do."""

    def __init__(self, dtype=None, **options):
        dtype, inputs = keras.dtype_policies.get(dtype or "float32"), keras.Input((4, 6))
        x = layers.Dense(6, trainable=False, dtype=dtype, name="off")(inputs)
        attended = layers.MultiHeadAttention(2, 3, dtype=dtype, name="mha")(x, x)
        super().__init__(inputs, attended, dtype=dtype, **options)

    def get_config(self):
        policies = keras.dtype_policies.DTypePolicyMap()
        for layer in self._flatten_layers():
            if getattr(layer, "quantization_mode", None) is not None:
                policies[layer.path] = layer.dtype_policy
        return {"name": self.name, "dtype": keras.dtype_policies.serialize(policies)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`:UserWarning")
def test_a_part_that_is_off_when_it_is_built_is_not_said_to_train_in_a_quantized_model(tmp_path):
    keras.utils.clear_session()
    model = Quantizing()
    model.quantize("int8")
    model.save(tmp_path / "q.keras")
    assert not keras.saving.load_model(tmp_path / "q.keras").get_layer("off").trainable_variables
    model.save_weights(tmp_path / "q.weights.h5")
    plan = tp.plan(tmp_path / "q.weights.h5", model, mapping={"all": {"to": ".*"}})
    assert not [w for w in plan.warnings if w.code == "freeze-not-saved"]


def test_a_frozen_part_says_that_its_moving_statistics_are_updated(tmp_path):
    inputs = keras.Input((5,))
    model = keras.Model(inputs, layers.Dense(2, name="head")(Subclassed(name="m")(inputs)))
    model.save(tmp_path / "source.keras")
    plan = tp.plan(
        tmp_path / "source.keras", model, mapping={"all": {"to": ".*"}}, freeze=["m"], save={"path": "o.keras"}
    )
    assert any("moving statistics of m/bn" in w.text for w in plan.warnings)


def test_the_root_is_frozen_by_its_empty_name(tmp_path):
    model = sequential()
    model.save(tmp_path / "source.keras")
    report = tp.transfer(
        tmp_path / "source.keras", model, folder=tmp_path, mapping={"all": {"to": ".*"}}, freeze=[""],
        save={"path": "out.keras"},
    )  # fmt: skip
    assert not model.trainable
    assert report.plan.freezing.trainable_parameters == 0
    assert not keras.models.load_model(tmp_path / "out.keras").trainable_variables


@keras.saving.register_keras_serializable("frozen_parts")
class CompilesItself(keras.Model):
    """A model around another, which makes an optimizer when it is made, as KerasHub's tasks do."""

    def __init__(self, base, **options):
        super().__init__(base.inputs, layers.Dense(1, name="head")(base(base.inputs)), **options)
        self.base = base
        self.compile(keras.optimizers.Adam(0.1), "mse")

    def get_config(self):
        return {"base": keras.saving.serialize_keras_object(self.base), "name": self.name, "trainable": self.trainable}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "base": keras.saving.deserialize_keras_object(config["base"])})


@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")  # Keras says that it starts anew
def test_a_model_that_compiles_itself_keeps_its_freezing_and_nothing_else_is_said(tmp_path):
    keras.utils.clear_session()
    inputs = keras.Input((5,))
    model = CompilesItself(keras.Model(inputs, layers.Dense(2, name="a")(inputs), name="m"))
    report = tp.transfer(
        None, model, folder=tmp_path, unmatched="keep", freeze=["m"], save={"path": "out.keras", "overwrite": True}
    )
    loaded = keras.saving.load_model(tmp_path / "out.keras", compile=False)
    assert [v.path for v in loaded.trainable_variables] == ["head/kernel", "head/bias"]
    assert "freeze-not-saved" not in {w.code for w in report.warnings}
    assert keras.Variable(1.0).value == 1.0


@keras.saving.register_keras_serializable("frozen_parts")
class Trunk(keras.Model):
    """A Functional model whose configuration is its arguments; tasks of KerasHub hand their flag down, as `hands` does."""

    def __init__(self, hands=True, trainable=True, **options):
        inputs = keras.Input((5,))
        outputs = layers.BatchNormalization(name="b")(layers.Dense(4, name="a")(inputs))
        super().__init__(inputs, outputs, **options)
        self.hands = hands
        if hands:  # the flag that is given to Keras's own `__init__` would be that of the model alone
            self.trainable = trainable

    def get_config(self):
        return {"hands": self.hands, "name": self.name, "trainable": self.trainable}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@pytest.mark.parametrize("hands", [True, False])
@pytest.mark.parametrize("freeze", [[], ["out"]])
def test_a_target_that_is_frozen_already_is_what_keras_loads(hands, freeze, tmp_path):
    trunk = Trunk(hands, name="m")
    trunk.trainable = False
    inputs = keras.Input((5,))
    model = keras.Model(inputs, layers.Dense(2, name="out")(trunk(inputs)))
    model.save(tmp_path / "t.keras")
    recipe = {"mapping": {"all": {"to": ".*"}}, "freeze": freeze, "folder": tmp_path}
    report = tp.transfer(model, tmp_path / "t.keras", save={"path": "out.keras"}, **recipe)
    loaded = keras.models.load_model(tmp_path / "out.keras")
    trainable = sum(int(np.prod(v.shape)) for v in loaded.trainable_variables)
    assert report.plan.freezing.trainable_parameters == trainable == 10 * (not freeze) + 32 * (not hands)
    assert report.plan.freezing.stored_statistics == (("m/b",) if hands else ())
    assert report.manifest["artifacts"][0]["freezing"] == "verified"
