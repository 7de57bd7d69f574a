"""Builders of models that hold nested models, twins, recurrent layers, wrappers and attention."""

import keras
from keras import layers as kl


def small(name):
    inputs = keras.Input((8,))
    x = kl.BatchNormalization(name="bn")(kl.Dense(4, name="a")(inputs))
    return keras.Model(inputs, kl.Dense(4, name="b")(x), name=name)


def plain():
    inputs = x = keras.Input((8, 8, 3))
    for layer in (kl.Conv2D(4, 3), kl.BatchNormalization(), kl.DepthwiseConv2D(3), kl.SeparableConv2D(3, 3)):
        x = layer(x)
    for layer in (kl.Conv2DTranspose(3, 3), kl.Flatten(), kl.PReLU(), kl.LayerNormalization(), kl.Dense(2)):
        x = layer(x)
    return keras.Model(inputs, x)


def nested(last="c"):
    inputs = keras.Input((8,))
    middle = keras.Sequential([keras.Input((8,)), small("inner"), kl.Dense(3, name=last)], name="middle")
    return keras.Model(inputs, kl.Dense(2, name="head")(middle(inputs)))


def twins():
    inputs = keras.Input((8,))
    return keras.Model(inputs, kl.Dense(2)(kl.Add()([small("one")(inputs), small("two")(inputs)])))


def sequentials():
    inner = keras.Sequential([kl.Dense(4), kl.BatchNormalization()])
    return keras.Sequential([keras.Input((8,)), keras.Sequential([kl.Dense(4), kl.Dense(4)]), inner, kl.Dense(2)])


def frozen():
    model = nested()
    model.get_layer("middle").get_layer("inner").get_layer("a").trainable = False
    return model


def recurrent():
    inputs = keras.Input((5, 8))
    x = kl.LSTM(4, return_sequences=True, name="enc")(inputs)
    x = kl.GRU(4, return_sequences=True)(x)
    x = kl.Bidirectional(kl.LSTM(3, return_sequences=True))(x)
    x = kl.Bidirectional(kl.GRU(3, return_sequences=True, name="g"), name="bi")(x)
    backward = kl.GRU(3, return_sequences=True, go_backwards=True)
    x = kl.Bidirectional(kl.LSTM(3, return_sequences=True), backward_layer=backward)(x)
    x = kl.RNN([kl.LSTMCell(3), kl.LSTMCell(3), kl.GRUCell(4, name="mine")], return_sequences=True)(x)
    return keras.Model(inputs, kl.RNN(kl.LSTMCell(4))(x))


def distributed():
    inputs = keras.Input((5, 8))
    x = kl.TimeDistributed(kl.Dense(4))(inputs)
    x = kl.TimeDistributed(kl.Dense(8, name="proj"))(x)
    x = kl.TimeDistributed(small("sub"), name="tm")(x)
    return keras.Model(inputs, kl.TimeDistributed(kl.LSTM(3))(kl.Reshape((5, 2, 2))(x)))


def attention():
    inputs = keras.Input((5, 8))
    x = kl.MultiHeadAttention(2, 4)(inputs, inputs)
    return keras.Model(inputs, kl.MultiHeadAttention(2, 4, use_bias=False, name="att")(x, x))


BUILDERS = [plain, nested, twins, sequentials, frozen, recurrent, distributed, attention]
