"""A quantized model is compared by what Keras's own quantizing changes: no more is allowed."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers as kl

import transferpipe as tp


def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((16,)),
            kl.Dense(32, "relu", name="a"),
            kl.Dense(32, "relu", name="b"),
            kl.Dense(5, name="c"),
        ]
    )


def quantized(source):
    copy = keras.models.clone_model(source)
    copy.set_weights(source.get_weights())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of every layer that is left as it is
        copy.quantize("int8")
    return copy


def test_a_right_one_passes(tmp_path):
    source = model()
    source.save(tmp_path / "s.keras")
    assert tp.parity(str(tmp_path / "s.keras"), quantized(source)).verdict == "pass"


def scale(layers):
    layers[1].kernel_scale.assign(layers[1].kernel_scale * 1.15)


def swap(layers):
    layers[1]._kernel.assign(np.asarray(layers[1]._kernel)[::-1])


@pytest.mark.parametrize("fault", [scale, swap])
def test_a_wrong_one_fails(fault):
    source = model()
    target = quantized(source)
    fault(target.layers)
    assert tp.parity(source, target).verdict == "fail"
