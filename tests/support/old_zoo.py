"""Models of tf_keras, the Keras 2 that still runs: layers of all kinds, for comparing what the upgraded ones compute."""


def old_zoo(keras, tf):
    """Return builders by names; `keras` is tf_keras, and `tf` TensorFlow."""
    kl = keras.layers

    def chain(shape, *layers, dtype=None):
        x = inputs = keras.Input(shape, dtype=dtype)
        for layer in layers:
            x = layer(x)
        return keras.Model(inputs, x)

    def small(name):
        inputs = keras.Input((8,))
        return keras.Model(inputs, kl.Dense(4, name="b")(kl.Dense(4, name="a")(inputs)), name=name)

    def convolutions():
        layers = [kl.Conv2D(4, 3, activation="relu"), kl.BatchNormalization(), kl.DepthwiseConv2D(3)]
        layers += [kl.SeparableConv2D(3, 3, padding="same"), kl.Conv2DTranspose(3, 3, strides=2), kl.MaxPooling2D()]
        layers += [kl.UpSampling2D(interpolation="bilinear"), kl.ZeroPadding2D(), kl.Cropping2D(1), kl.Flatten()]
        return chain((9, 9, 3), *layers, kl.Dense(2, activation="softmax"))

    def other_ranks():
        layers = [kl.Conv3D(3, 3), kl.Conv3DTranspose(2, 2), kl.MaxPooling3D(), kl.Reshape((8, 2))]
        layers += [kl.Conv1D(4, 3, padding="causal"), kl.SeparableConv1D(3, 3), kl.AveragePooling1D()]
        return chain((6, 6, 6, 2), *layers, kl.GlobalMaxPooling1D())

    def activations():
        layers = [kl.Dense(4, activation="hard_sigmoid"), kl.Activation("hard_sigmoid"), kl.LeakyReLU(0.1), kl.ELU(0.5)]
        layers += [kl.ThresholdedReLU(0.3), kl.PReLU(), kl.ReLU(6.0), kl.Softmax(), kl.Activation("swish")]
        return chain((8,), *layers)

    def recurrent():
        layers = [kl.LSTM(4, recurrent_activation="hard_sigmoid", return_sequences=True)]
        layers += [kl.GRU(4, reset_after=False, recurrent_activation="hard_sigmoid", return_sequences=True)]
        layers += [kl.Bidirectional(kl.GRU(3, return_sequences=True)), kl.TimeDistributed(kl.Dense(4))]
        layers += [kl.Bidirectional(kl.LSTM(3, return_sequences=True, name="q"), merge_mode="sum"), kl.SimpleRNN(3)]
        return chain((5, 8), *layers)

    def wrapped():
        x = inner = keras.Input((6, 8))
        for layer in (kl.Conv1D(4, 3, activation="hard_sigmoid"), kl.Flatten(), kl.Dense(3)):
            x = layer(x)
        layers = [kl.TimeDistributed(keras.Model(inner, x)), kl.TimeDistributed(kl.Activation("hard_sigmoid"))]
        layers += [kl.TimeDistributed(kl.Dense(4, name="own"))]
        x, mask = keras.Input((2, 6, 8)), keras.Input((2,), dtype="int32")
        y = x
        for layer in layers:
            y = layer(y)
        return keras.Model([x, mask], kl.GlobalAveragePooling1D()(y, mask=mask > -1))

    def stacked():
        cells = [kl.LSTMCell(4), kl.GRUCell(3), kl.LSTMCell(2, name="own")]
        return chain((5, 8), kl.RNN(cells, return_sequences=True))

    def words():
        kept = {"return_sequences": True, "zero_output_for_mask": True}
        layers = [kl.LSTM(3, **kept), kl.GRU(3, **kept), kl.SimpleRNN(3, **kept), kl.RNN(kl.LSTMCell(3), **kept)]
        return chain((5,), kl.Embedding(10, 4, mask_zero=True), *layers, kl.Dense(2), dtype="int32")

    def sequential():
        layers = [kl.Dense(4, input_shape=(3,), kernel_regularizer="l2", kernel_constraint="max_norm")]
        return keras.Sequential([*layers, kl.LayerNormalization(), kl.Dropout(0.5), kl.GaussianNoise(0.1)])

    def nested():
        inputs, inner = keras.Input((8,)), small("one")
        first = keras.Sequential([kl.Dense(8, input_shape=(8,))], name="first")
        return keras.Model(inputs, [kl.Dense(2)(kl.Add()([inner(first(inputs)), inner(inputs)])), inner(inputs)])

    def several():
        a, b = keras.Input((8,)), keras.Input((5,))
        x, y = kl.Dense(4)(a), kl.Dense(4)(b)
        return keras.Model([a, b], [kl.Concatenate()([x, y]), kl.Dot(1, normalize=True)([x, y])])

    def operations():
        inputs = keras.Input((4, 6))
        x = kl.Dense(6)(inputs)
        joined = tf.concat([(1 - (tf.nn.relu(x) + 1.0)) * x / 2.0, x], axis=-1)
        turned = tf.transpose(x, [0, 2, 1])
        outputs = [tf.reduce_mean(joined, axis=1), x[:, 1:3, 0], x[:, -1], tf.reshape(x, [-1, 24])]
        outputs += [tf.matmul(x, turned), tf.clip_by_value(x, -0.5, 0.5), tf.nn.softmax(tf.expand_dims(x, 1))]
        outputs += [tf.nn.gelu(x, approximate=True), tf.nn.leaky_relu(x, 0.3), tf.nn.softmax(x, axis=1), x**2]
        numbers = tf.constant([1.0, 2, 3, 4, 5, 6])
        outputs += [numbers - x, tf.nn.bias_add(x, numbers), *tf.split(x, 2, axis=-1), *tf.split(x, [1, 2, 3], axis=2)]
        outputs += [tf.pad(x, [[0, 0], [1, 0], [2, 1]]), tf.pad(x, [[0, 0], [1, 0], [0, 1]], constant_values=3.0)]
        inside = tf.logical_and(x >= 0, x < 0.5)
        outputs += [tf.where(inside, x, tf.zeros_like(x)), tf.where(x > 0, x, -1.0), tf.math.reduce_std(x, axis=-1)]
        outputs += [tf.matmul(x, x, transpose_b=True), tf.matmul(x, x, transpose_a=True), tf.argmax(x, axis=-1)]
        outputs += [tf.one_hot(tf.argmin(x, axis=1), 7), tf.cumsum(x, axis=1), x % 0.3]
        outputs += [tf.gather(x, [1, 0], axis=-1), tf.gather(x, 2, axis=1), tf.math.divide_no_nan(x, tf.nn.relu(x))]
        outputs += [tf.reduce_logsumexp(x, 1, keepdims=True), tf.nn.log_softmax(x), tf.math.reciprocal(x), tf.tan(x)]
        outputs += [tf.cast(tf.reduce_any(x > 0, axis=1), "float32"), tf.cast(tf.reduce_all(x > 0, -1), "float32")]
        outputs += [
            tf.sinh(x),
            tf.cosh(x),
            x // 0.3,
            tf.norm(x, axis=-1),
            tf.norm(x, 1, axis=1, keepdims=True),
        ]
        outputs += [*tf.unstack(x, axis=1), *tf.math.top_k(x, 3), tf.norm(x, axis=[1, 2])]
        outputs += [tf.math.squared_difference(x, tf.nn.relu(x)), tf.math.squared_difference(x, numbers)]
        outputs += [tf.tile(x, [1, 2, 1]), tf.math.reduce_variance(x, 1, keepdims=True), tf.math.erf(x)]
        return keras.Model(inputs, outputs)

    def applications():
        # Layers that the modules of two architectures have beside what they give away.
        from tf_keras.src.applications import convnext
        from tf_keras.src.applications import inception_resnet_v2 as inception

        x = inputs = keras.Input((4, 4, 3))
        scale = inception.CustomScaleLayer(0.3)
        constant = tf.compat.v2.constant_initializer(0.0)
        x = scale([x, kl.Conv2D(3, 1, bias_initializer=constant)(convnext.LayerScale(0.5, 3)(x))])
        return keras.Model(inputs, kl.Dense(2)(kl.GlobalAveragePooling2D()(convnext.StochasticDepth(0.1)(x))))

    def attention():
        inputs = keras.Input((5, 8))
        x = kl.MultiHeadAttention(2, 4)(inputs, inputs)
        y = kl.Attention(use_scale=True)([x, kl.Dense(8)(inputs)])
        z = kl.EinsumDense("abc,cd->abd", output_shape=(None, 4), bias_axes="d")(y)
        return keras.Model(inputs, kl.Softmax(axis=1)(z))

    def states():
        inputs = keras.Input((5, 8))
        x, h, c = kl.LSTM(4, return_sequences=True, return_state=True)(inputs)
        return keras.Model(inputs, kl.LSTM(4)(x, initial_state=[h, c]))

    def slashes():
        inputs = keras.Input((8,))
        return keras.Model(inputs, kl.BatchNormalization(name="block/bn")(kl.Dense(4, name="block/a")(inputs)))

    def images():
        layers = [kl.Rescaling(1 / 255.0), kl.RandomCrop(7, 6), kl.Resizing(6, 6), kl.RandomFlip(), kl.CenterCrop(4, 4)]
        layers += [kl.Conv2D(2, 3), kl.MaxPooling2D(), kl.GlobalAveragePooling2D()]  # of a map that has one place
        return chain((8, 8, 3), *layers, kl.Dense(3))

    def convlstm():
        return chain((3, 6, 6, 2), kl.ConvLSTM2D(3, 3))

    def directions():
        back = kl.LSTM(4, go_backwards=True, return_sequences=True, name="back")
        both = kl.Bidirectional(kl.LSTM(4, return_sequences=True, name="there"), backward_layer=back, name="both")
        return chain((5, 8), both, kl.Bidirectional(kl.GRU(3, name="forward"), name="again"))

    found = [convolutions, other_ranks, activations, recurrent, words, sequential, nested, several, operations]
    found += [attention, states, slashes, images, convlstm, stacked, wrapped, directions, applications]
    return {f.__name__: f for f in found}


NAMES = (
    *("convolutions", "other_ranks", "activations", "recurrent", "words", "sequential", "nested", "several"),
    *("operations", "attention", "states", "slashes", "images", "convlstm", "stacked", "directions", "applications"),
)
