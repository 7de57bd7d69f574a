"""Small Keras models of every shape that names and catalogs must survive, and one table of them: `ZOO`."""

from __future__ import annotations

import warnings

import keras
import numpy as np
from keras import layers as kl

register = keras.saving.register_keras_serializable("zoo")


# Custom layers -------------------------------------------------------------------------------------------------------


@register
class Scaled(kl.Layer):
    """A leaf with weights that look like those of no built-in layer."""

    def build(self, shape):
        self.factor = self.add_weight(shape=(1, shape[-1], 1), name="factor")
        self.offset = self.add_weight(shape=(2,), name="offset")

    def call(self, x):
        return x * self.factor[0, :, 0] + keras.ops.sum(self.offset)


@register
class Linear(kl.Layer):
    """A leaf with weights that look exactly like those of Dense."""

    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], self.units), name="w")
        self.b = self.add_weight(shape=(self.units,), name="b")

    def call(self, x):
        return x @ self.w + self.b

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@register
class Nameless(kl.Layer):
    """A leaf that gives its weights no names."""

    def build(self, shape):
        self.first = self.add_weight(shape=(1, shape[-1]), initializer="ones")
        self.second = self.add_weight(shape=(1,), initializer="ones")

    def call(self, x):
        return x * self.first + self.second


@register
class TwoScalars(kl.Layer):
    """A leaf whose weights look like the state of a metric."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")
        self.shift = self.add_weight(shape=(), initializer="zeros", name="shift")

    def call(self, x):
        return x * self.scale + self.shift


@register
class Counting(kl.Layer):
    """A leaf whose weights are out of order: the file lists trainable ones first."""

    def build(self, shape):
        self.seen = self.add_weight(shape=(), dtype="int32", initializer="zeros", name="seen", trainable=False)
        self.gain = self.add_weight(shape=(shape[-1],), initializer="ones", name="gain")

    def call(self, x):
        return x * self.gain


@register
class Block(kl.Layer):
    """A composite layer."""

    def __init__(self, width=3, **kwargs):
        super().__init__(**kwargs)
        self.inner = kl.Dense(width)
        self.norm = kl.LayerNormalization()

    def build(self, shape):
        self.inner.build(shape)
        self.norm.build((*shape[:-1], self.inner.units))
        self.built = True

    def call(self, x):
        return self.norm(self.inner(x))

    def get_config(self):
        return {**super().get_config(), "width": self.inner.units}


@register
class Tower(kl.Layer):
    """A composite of composites, one of them in a list, with a weight of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.entry = Block(3)
        self.steps = [Block(3), Block(3, name="last")]

    def build(self, shape):
        self.alpha = self.add_weight(shape=(1,), name="alpha")
        for block in (self.entry, *self.steps):
            block.build(shape)
            shape = (*shape[:-1], 3)
        self.built = True

    def call(self, x):
        for block in (self.entry, *self.steps):
            x = block(x)
        return x * self.alpha


@register
class Stack(kl.Layer):
    """A layer that calls a list of others as a model calls its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.layers = [kl.Dense(4), kl.Dense(4, name="final")]

    def build(self, shape):
        for layer in self.layers:
            layer.build(shape)
        self.built = True

    def call(self, x):
        return self.layers[1](self.layers[0](x))


@register
class Container(kl.Layer):
    """A layer whose class is called as Keras calls a list inside a list."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = kl.Dense(3)

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)


@register
class UserCell(kl.Layer):
    """A recurrent cell of the user's own."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = units

    def build(self, shape):
        self.mix = self.add_weight(shape=(shape[-1], self.units), name="mix")
        self.keep = self.add_weight(shape=(self.units,), name="keep")

    def call(self, x, states):
        state = x @ self.mix + states[0] * self.keep
        return state, [state]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


# Subclassed models ----------------------------------------------------------------------------------------------------


class Held(keras.Model):
    """A model whose layers `hold` sets as attributes; `chain` gives the order in which they are called."""

    def __init__(self, name="held", **parts):
        super().__init__(name=name)
        for key, part in parts.items():
            setattr(self, key, part)
        self.chain_of = tuple(parts)

    def call(self, x):
        for key in self.chain_of:
            x = _run(getattr(self, key), x)
        return x

    def get_config(self):
        raise NotImplementedError("the parts are not recorded")


def _run(part, x):
    if isinstance(part, kl.Layer):
        return part(x)
    if isinstance(part, list | tuple | dict):
        for inner in part.values() if isinstance(part, dict) else part:
            x = _run(inner, x)
    return x


def held(**parts):
    """Return a function that builds a `Held` model of what the functions in `parts` make."""

    def build():
        model = Held(**{key: make() for key, make in parts.items()})
        model(np.zeros((2, 4), "float32"))
        return model

    return build


@register
class Recorded(keras.Model):
    """A subclassed model that Keras can load again: attributes before and after "layers", private ones, containers."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention = kl.Dense(4)
        self.blocks = [kl.Dense(4), kl.Dense(4), kl.Dense(4, name="tail")]
        self.block3 = keras.Sequential([kl.Dense(4), kl.Dense(4)])
        self.head = {"a": kl.Dense(4), "b": (kl.Dense(4), kl.Dense(4))}
        self.stem = kl.Dense(4, name="entry")
        self.tail = Block(4)
        self.zeta = [kl.Dense(4)]
        self._hidden = kl.Dense(4)

    def build(self, shape):
        self.total = self.add_weight(shape=(1, 1, 4), name="total")
        self.call(keras.ops.zeros((1, *shape[1:])))
        self.built = True

    def call(self, x):
        for part in (self.attention, self.blocks, self.block3, self.head, self.stem, self.tail, self.zeta):
            x = _run(part, x)
        return self._hidden(x) * self.total[0]


def recorded():
    model = Recorded(name="recorded")
    model.build((None, 4))
    return model


class Tracked(keras.Model):
    """A model with metrics and optimizers among its attributes."""

    def __init__(self):
        super().__init__(name="tracked")
        self.acc = keras.metrics.Mean(name="loss")
        self.dense = kl.Dense(3)
        self.loss_tracker = keras.metrics.Mean()
        self.auc = keras.metrics.AUC(name="roc")
        self.d_optimizer = keras.optimizers.Adam()
        self.more = [keras.metrics.Mean(), keras.metrics.CategoricalAccuracy()]
        self.small = TwoScalars()
        self.also_small = TwoScalars()

    def call(self, x):
        return self.small(self.also_small(self.dense(x)))


def tracked():
    model = Tracked()
    model(np.zeros((2, 4), "float32"))
    model.compile("adam", "mse", metrics=["accuracy"])
    model.fit(np.zeros((4, 4)), np.zeros((4, 3)), verbose=0)
    model.d_optimizer.build(model.trainable_variables)
    return model


class Moody(keras.Model):
    """A model with properties that fail, that make new containers, and that lead to what is held elsewhere."""

    def __init__(self):
        super().__init__(name="moody")
        self._parts = {"one": [kl.Dense(3), (kl.Dense(3), [kl.Dense(3)])], "two": kl.Dense(3)}

    @property
    def broken(self):
        raise RuntimeError("not today")

    @property
    def fresh(self):
        return [dict(self._parts), tuple(self._parts["one"])]

    def call(self, x):
        return _run(self._parts, x)


def moody():
    model = Moody()
    model(np.zeros((2, 4), "float32"))
    return model


class Fickle(keras.Model):
    """A model with a property that gives a layer once, and then no more."""

    def __init__(self):
        super().__init__(name="fickle")
        self._layer = kl.Dense(3)
        self.asked = 0

    @property
    def dense(self):
        self.asked += 1
        if self.asked > 1:
            raise RuntimeError("once is enough")
        return self._layer

    def call(self, x):
        return self._layer(x)


class Diamond(keras.Model):
    """One layer and one nested model, each held twice."""

    def __init__(self):
        super().__init__(name="diamond")
        self.alpha = kl.Dense(4)
        self.beta = self.alpha
        self.net = dense_net("net")
        self.pair = [self.net, self.alpha]

    def call(self, x):
        return self.net(self.alpha(x)) + self.pair[0](self.beta(x))


def diamond():
    model = Diamond()
    model(np.zeros((2, 4), "float32"))
    return model


class Bare(keras.Model):
    """Weights directly on the model, one of them beside a layer."""

    def __init__(self):
        super().__init__(name="bare")
        self.kernel = self.add_weight(shape=(4, 3), name="kernel")
        self.steps = self.add_weight(shape=(), name="steps", trainable=False)
        self.out = kl.Dense(2)

    def call(self, x):
        return self.out(x @ self.kernel)


def bare():
    model = Bare()
    model(np.zeros((2, 4), "float32"))
    return model


@register
class Extended(keras.Model):
    """A Functional model by inheritance, with layers in attributes beyond its graph."""

    def __init__(self, **kwargs):
        inputs = keras.Input((4,))
        graph = kl.Dense(3, name="graph")
        super().__init__(inputs, graph(inputs), name="extended")
        self.before = kl.Dense(2)
        self.zafter = kl.Dense(2)
        self.graph = graph
        self.before.build((None, 3))
        self.zafter.build((None, 3))

    def get_config(self):
        return {}


def _quietly(make):
    """Return what `make` returns, without Keras's warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


# Functional and Sequential --------------------------------------------------------------------------------------------


def stack(shape, *parts, name=None):
    """Return a Functional model of `parts` in a row."""
    inputs = x = keras.Input(shape)
    for part in parts:
        x = part(x)
    return keras.Model(inputs, x, name=name)


def dense_net(name=None):
    return stack((4,), kl.Dense(4, name="first"), kl.BatchNormalization(name="norm"), kl.Dense(4), name=name)


def nested_twice():
    middle = keras.Sequential([keras.Input((4,)), dense_net("inner"), kl.Dense(4, name="first")], name="middle")
    return stack((4,), middle, kl.Dense(2, name="head"))


def twins():
    inputs = keras.Input((4,))
    return keras.Model(inputs, kl.Dense(2)(kl.Add()([dense_net("one")(inputs), dense_net("two")(inputs)])))


def shared():
    first, second = keras.Input((4,)), keras.Input((4,))
    dense, net = kl.Dense(4, name="both"), dense_net("net")
    return keras.Model([first, second], kl.Concatenate()([net(dense(first)), net(dense(second))]))


def unnamed():
    inner = keras.Sequential([kl.Dense(4), kl.BatchNormalization()])
    return keras.Sequential([keras.Input((4,)), keras.Sequential([kl.Dense(4), kl.Dense(4)]), inner, kl.Dense(2)])


def many():
    """More than ten layers of each of two classes, in turns: `conv2d_10` stands after `conv2d_2`."""
    parts = [part for _ in range(13) for part in (kl.Conv2D(2, 1), kl.BatchNormalization())]
    return stack((4, 4, 2), *parts, kl.Flatten(), *(kl.Dense(2) for _ in range(12)))


def operators():
    """Plain operations between layers; some are called as layers are."""
    inputs = keras.Input((4,))
    x = kl.Dense(4)(inputs) + inputs
    x = keras.ops.softmax(kl.Add()([x, keras.ops.relu(x)]))
    return keras.Model(inputs, kl.Dense(2)(keras.ops.concatenate([x, x * 2.0])))


def branches():
    """Two inputs and two outputs, held in a dict; the depth of a layer differs from its place in the code."""
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    late, early = kl.Dense(3, name="late"), kl.Dense(4, name="early")
    x = early(b)
    return keras.Model({"a": a, "b": b}, {"one": late(x), "two": kl.Dense(2)(kl.Add()([a, kl.Dense(4)(x)]))})


def recurrent():
    cells = [kl.LSTMCell(3), kl.GRUCell(3), kl.SimpleRNNCell(3, name="mine")]
    return stack(
        (5, 4),
        kl.LSTM(3, return_sequences=True, name="enc"),
        kl.GRU(3, return_sequences=True),
        kl.SimpleRNN(3, return_sequences=True, use_bias=False),
        kl.Bidirectional(kl.LSTM(3, return_sequences=True)),
        kl.Bidirectional(kl.GRU(3, return_sequences=True, name="g"), name="bi"),
        kl.Bidirectional(
            kl.LSTM(2, return_sequences=True), backward_layer=kl.GRU(2, return_sequences=True, go_backwards=True)
        ),
        kl.RNN(kl.LSTMCell(3), return_sequences=True),
        kl.RNN(kl.GRUCell(3, name="given"), return_sequences=True),
        kl.RNN(cells, return_sequences=True),
        kl.RNN(kl.StackedRNNCells([kl.LSTMCell(2), kl.LSTMCell(2)], name="pile"), return_sequences=True),
        kl.RNN(UserCell(3), return_sequences=True),
        kl.RNN(UserCell(3, name="own"), name="loop"),
    )


def conv_lstm():
    return stack((3, 4, 4, 1), kl.ConvLSTM2D(2, 2, return_sequences=True), kl.ConvLSTM2D(2, 2, name="mem"))


def attention():
    inputs = keras.Input((5, 4))
    x = kl.MultiHeadAttention(2, 3)(inputs, inputs)
    x = kl.MultiHeadAttention(2, 3, name="cross", use_bias=False)(x, inputs)
    x = kl.GroupQueryAttention(4, 4, 2)(x, x)
    x = kl.Attention(use_scale=True)([x, inputs])
    x = kl.AdditiveAttention()([x, inputs])
    return keras.Model(inputs, kl.Attention(use_scale=True, name="pick")([x, inputs]))


def wrappers():
    return stack(
        (5, 4),
        kl.TimeDistributed(kl.Dense(4)),
        kl.TimeDistributed(kl.Dense(4, name="inner"), name="outer"),
        kl.TimeDistributed(dense_net("net")),
        kl.SpectralNormalization(kl.Dense(4)),
        kl.SpectralNormalization(kl.Dense(4, name="tight"), name="spectral"),
    )


def norms():
    return stack(
        (4, 4, 4),
        kl.BatchNormalization(),
        kl.BatchNormalization(scale=False),
        kl.BatchNormalization(center=False, name="bn"),
        kl.BatchNormalization(center=False, scale=False),
        kl.LayerNormalization(),
        kl.LayerNormalization(center=False),
        kl.LayerNormalization(scale=False, name="ln"),
        _quietly(lambda: kl.LayerNormalization(rms_scaling=True)),
        kl.RMSNormalization(),
        kl.GroupNormalization(2),
        kl.GroupNormalization(2, scale=False),
        kl.UnitNormalization(),
    )


def kernels():
    return stack(
        (8, 8, 4),
        kl.Conv2D(4, 3, padding="same"),
        kl.Conv2D(4, 1, use_bias=False),
        kl.DepthwiseConv2D(3, padding="same", depth_multiplier=2),
        kl.SeparableConv2D(4, 3, padding="same"),
        kl.SeparableConv2D(4, 3, padding="same", use_bias=False),
        kl.Conv2DTranspose(3, 2),
        kl.PReLU(),
        kl.PReLU(shared_axes=[1, 2]),
        kl.Reshape((81, 3)),
        kl.Conv1D(4, 3),
        kl.Conv1DTranspose(4, 3),
        kl.SeparableConv1D(4, 3),
        kl.DepthwiseConv1D(3),
        kl.EinsumDense("abc,cd->abd", output_shape=(None, 5), bias_axes="d"),
        kl.EinsumDense("abc,cd->abd", output_shape=(None, 5)),
        kl.Reshape((-1, 1, 1, 5)),
        kl.Conv3D(2, 1),
        kl.Conv3DTranspose(2, 1),
    )


def embeddings():
    tokens = keras.Input((5,), dtype="int32")
    x = kl.Embedding(7, 4)(tokens)
    tied = kl.ReversibleEmbedding(7, 4, tie_weights=False, name="tied")
    return keras.Model(tokens, tied(kl.Add()([x, tied(tokens)]), reverse=True))


def normalization():
    layer = kl.Normalization(name="adapted")
    layer.adapt(np.arange(12.0).reshape(3, 4))
    return stack((4,), layer, kl.Normalization(mean=1.0, variance=2.0), kl.Dense(2))


def dropouts():
    return stack((4,), kl.Dropout(0.5, seed=1), kl.Dense(4), kl.GaussianNoise(0.1), kl.AlphaDropout(0.1), kl.Dense(2))


def preprocessing():
    return stack((8, 8, 3), kl.RandomFlip(), kl.RandomRotation(0.1), kl.Rescaling(1 / 255), kl.Conv2D(2, 3))


def lookup():
    words = keras.Input((3,), dtype="string")
    index = kl.StringLookup(vocabulary=["a", "b", "c"], name="words")(words)
    return keras.Model(words, kl.Dense(2)(kl.Flatten()(kl.Embedding(5, 2)(index))))


def customs():
    """Custom layers in a graph: unnamed, several of one class, named."""
    return stack(
        (4,),
        Scaled(),
        Linear(4),
        Linear(4),
        Linear(4, name="mine"),
        Nameless(),
        TwoScalars(),
        Counting(),
        Block(4),
        Block(4),
        Block(4, name="deep"),
        Tower(name="main"),
        Tower(),
    )


def fitted():
    model = stack((4,), dense_net("net"), kl.Dropout(0.1), kl.Dense(2))
    model.compile("adam", "mse", metrics=["accuracy", keras.metrics.AUC()])
    model.fit(np.zeros((4, 4)), np.zeros((4, 2)), verbose=0)
    return model


def fitted_inside():
    """A model that holds one that was fitted: its optimizer lies inside."""
    return stack((4,), fitted(), kl.Dense(2))


def with_dtype(dtype):
    def build():
        kwargs = {"dtype": dtype}
        return stack((4,), kl.Dense(4, **kwargs), kl.BatchNormalization(**kwargs), kl.Dense(2, **kwargs))

    return build


def quantized():
    model = stack((4,), kl.Dense(4), kl.Dense(3, use_bias=False), kl.EinsumDense("ab,bc->ac", output_shape=(2,)))
    _quietly(lambda: model.quantize("int8"))
    return model


def frozen():
    model = nested_twice()
    model.trainable = False
    return model


def partly_frozen():
    model = nested_twice()
    model.get_layer("middle").get_layer("inner").get_layer("first").trainable = False
    return model


def sequential_held():
    return keras.Sequential([kl.Dense(4), kl.Dense(4)])


ZOO = {
    "dense_net": dense_net,
    "nested_twice": nested_twice,
    "twins": twins,
    "shared": shared,
    "unnamed": unnamed,
    "many": many,
    "operators": operators,
    "branches": branches,
    "recurrent": recurrent,
    "conv_lstm": conv_lstm,
    "attention": attention,
    "wrappers": wrappers,
    "norms": norms,
    "kernels": kernels,
    "embeddings": embeddings,
    "normalization": normalization,
    "dropouts": dropouts,
    "preprocessing": preprocessing,
    "lookup": lookup,
    "customs": customs,
    "fitted": fitted,
    "fitted_inside": fitted_inside,
    "float16": with_dtype("float16"),
    "bfloat16": with_dtype("bfloat16"),
    "mixed_float16": with_dtype("mixed_float16"),
    "quantized": quantized,
    "frozen": frozen,
    "partly_frozen": partly_frozen,
    "recorded": recorded,
    "tracked": tracked,
    "moody": moody,
    "diamond": diamond,
    "bare": bare,
    "extended": Extended,
    "lists": held(blocks=lambda: [kl.Dense(4), kl.Dense(4)], zs=lambda: [kl.Dense(4), Linear(4), Linear(4)]),
    "nested_lists": held(grid=lambda: [[kl.Dense(4)], [kl.Dense(4), [Container()]], Container()]),
    "dicts": held(arms=lambda: {"x": kl.Dense(4), "y": [kl.Dense(4, name="given")]}, tuples=lambda: (kl.Dense(4),)),
    "attributes": held(
        a=lambda: kl.Dense(4), block3=sequential_held, m=sequential_held, z=lambda: kl.Dense(4), _p=lambda: kl.Dense(4)
    ),
    "named": held(
        a=lambda: kl.Dense(4, name="entry"), b=lambda: kl.Dense(4, name="dense_9"), net=lambda: dense_net("n")
    ),
    "custom_attributes": held(
        a=lambda: Scaled(),
        b=lambda: Linear(4),
        c=lambda: Linear(4),
        d=lambda: Linear(4, name="mine"),
        e=lambda: Nameless(),
        f=lambda: Block(4),
        g=lambda: Block(4, name="deep"),
        h=lambda: Tower(),
        k=lambda: TwoScalars(),
        z=lambda: Block(4),
    ),
    "one_custom": held(core=lambda: Linear(4)),
    "layers_in_layers": held(deep=lambda: Stack(), tail=lambda: Stack(name="given")),
    "held_composites": held(
        bi=lambda: kl.Reshape((1, 4)),
        direction=lambda: kl.Bidirectional(kl.LSTM(2, return_sequences=True)),
        each=lambda: kl.TimeDistributed(kl.Dense(4)),
        gru=lambda: kl.GRU(4, name="memory"),
    ),
}
