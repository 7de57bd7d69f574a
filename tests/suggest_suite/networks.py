"""Keras networks that take the weights of `torch_files`, as people name their layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import layers, ops


def conv(x: Any, filters: int, size: int, stride: int, name: str, bias: bool = False) -> Any:
    """Convolve as torch pads."""
    x = layers.ZeroPadding2D(size // 2)(x) if size > 1 else x
    return layers.Conv2D(filters, size, stride, use_bias=bias, name=name)(x)


def norm(x: Any, name: str) -> Any:
    return layers.BatchNormalization(epsilon=1e-5, name=name)(x)


def resnet18(classes: int = 1000, width: int = 64) -> keras.Model:
    inputs = keras.Input((64, 64, 3))
    x = layers.MaxPooling2D(2)(layers.ReLU()(norm(conv(inputs, width, 7, 2, "stem_conv"), "stem_bn")))
    before = width
    for stage in range(4):
        for block in range(2):
            name, stride, channels = f"s{stage}b{block}", 2 if stage and not block else 1, width << stage
            y = layers.ReLU()(norm(conv(x, channels, 3, stride, f"{name}_conv0"), f"{name}_bn0"))
            y = norm(conv(y, channels, 3, 1, f"{name}_conv1"), f"{name}_bn1")
            if before != channels:
                x = norm(conv(x, channels, 1, stride, f"{name}_sc_conv"), f"{name}_sc_bn")
            x, before = layers.ReLU()(layers.Add()([x, y])), channels
    return keras.Model(inputs, layers.Dense(classes, name="fc")(layers.GlobalAveragePooling2D()(x)))


class ClassToken(layers.Layer):
    """Puts a token before a sequence and adds the positions."""

    def build(self, shape: Sequence[int]) -> None:
        self.cls = self.add_weight(shape=(1, 1, shape[-1]), name="cls")
        self.pos = self.add_weight(shape=(1, shape[1] + 1, shape[-1]), name="pos")

    def call(self, x: Any) -> Any:
        first = ops.broadcast_to(self.cls, (ops.shape(x)[0], 1, x.shape[-1]))
        return ops.concatenate([first, x], 1) + self.pos

    def compute_output_shape(self, shape: Sequence[int]) -> tuple[Any, ...]:
        return (shape[0], shape[1] + 1, shape[2])


def vit(width: int = 64, depth: int = 4, size: int = 32, patch: int = 8, classes: int = 10) -> keras.Model:
    inputs = keras.Input((size, size, 3))
    x = layers.Reshape((-1, width))(layers.Conv2D(width, patch, patch, name="patch")(inputs))
    x = ClassToken(name="clspos")(x)
    for k in range(depth):
        name = f"block{k}_"
        y = layers.LayerNormalization(name=f"{name}ln1")(x)
        x = layers.Add()([x, layers.MultiHeadAttention(4, width // 4, name=f"{name}mha")(y, y)])
        y = layers.LayerNormalization(name=f"{name}ln2")(x)
        y = layers.Dense(width, name=f"{name}fc2")(layers.Dense(4 * width, activation="gelu", name=f"{name}fc1")(y))
        x = layers.Add()([x, y])
    x = layers.LayerNormalization(name="norm")(x)[:, 0]
    return keras.Model(inputs, layers.Dense(classes, name="head")(x))


class Positions(layers.Layer):
    """Adds one row of a table for each place."""

    def __init__(self, count: int, **more: Any) -> None:
        super().__init__(**more)
        self.count = count

    def build(self, shape: Sequence[int]) -> None:
        self.embeddings = self.add_weight(shape=(self.count, shape[-1]), name="embeddings")

    def call(self, x: Any) -> Any:
        return x + self.embeddings[: x.shape[1]]


class WordBias(layers.Layer):
    """Adds one number for each word."""

    def build(self, shape: Sequence[int]) -> None:
        self.bias = self.add_weight(shape=(shape[-1],), name="bias")

    def call(self, x: Any) -> Any:
        return x + self.bias


def bert(width: int = 64, depth: int = 4, words: int = 100, places: int = 32, whole: bool = False) -> keras.Model:
    """Return an encoder with three projections of its own, or with `whole` a MultiHeadAttention, in each layer."""
    inputs = keras.Input((16,), dtype="int32")
    table = layers.Embedding(words, width, name="tok")
    kinds = layers.Embedding(2, width, name="type")(ops.zeros_like(inputs))
    x = layers.Add()([Positions(places, name="pos")(table(inputs)), kinds])
    x = layers.LayerNormalization(name="emb_ln")(x)
    for k in range(depth):
        x = _encoder_layer(x, f"l{k}_", width, whole)
    y = layers.LayerNormalization(name="mlm_ln")(layers.Dense(width, activation="gelu", name="mlm_dense")(x))
    y = WordBias(name="mlm_bias")(layers.Dense(words, use_bias=False, name="untied")(y))
    return keras.Model(inputs, y)


def _encoder_layer(x: Any, name: str, width: int, whole: bool) -> Any:
    heads, inner = 4, width // 4
    if whole:
        out = layers.MultiHeadAttention(heads, inner, name=f"{name}attention")(x, x)
    else:
        q, k, v = (
            layers.EinsumDense("abc,cde->abde", (None, heads, inner), bias_axes="de", name=f"{name}{part}")(x)
            for part in "qkv"
        )
        scores = layers.Softmax()(ops.einsum("bnhd,bmhd->bhnm", q, k))
        out = ops.einsum("bhnm,bmhd->bnhd", scores, v)
        out = layers.EinsumDense("abcd,cde->abe", (None, width), bias_axes="e", name=f"{name}o")(out)
    x = layers.LayerNormalization(name=f"{name}ln1")(layers.Add()([x, out]))
    y = layers.Dense(width, name=f"{name}ff2")(layers.Dense(2 * width, activation="gelu", name=f"{name}ff1")(x))
    return layers.LayerNormalization(name=f"{name}ln2")(layers.Add()([x, y]))


def decoder(width: int = 32, depth: int = 3, words: int = 50, places: int = 16) -> keras.Model:
    inputs = keras.Input((16,), dtype="int32")
    x = Positions(places, name="position_table")(layers.Embedding(words, width, name="word_table")(inputs))
    for k in range(1, depth + 1):
        name = f"layer{k}_"
        y = layers.LayerNormalization(name=f"{name}norm1")(x)
        x = layers.Add()([x, layers.MultiHeadAttention(4, width // 4, name=f"{name}attn")(y, y)])
        y = layers.LayerNormalization(name=f"{name}norm2")(x)
        y = layers.Dense(width, name=f"{name}down")(layers.Dense(4 * width, name=f"{name}up")(y))
        x = layers.Add()([x, y])
    return keras.Model(inputs, layers.LayerNormalization(name="final_norm")(x))


def tagger(words: int = 60, width: int = 12, units: int = 16, tags: int = 5) -> keras.Model:
    inputs = keras.Input((9,), dtype="int32")
    x = layers.Embedding(words, width, name="words")(inputs)
    for k in (1, 2):
        x = layers.Bidirectional(layers.LSTM(units, return_sequences=True), name=f"bilstm_{k}")(x)
    return keras.Model(inputs, layers.Dense(tags, name="tags")(x))


def mixed_rnn() -> keras.Model:
    inputs = keras.Input((9, 12))
    x: Any = inputs
    for k in range(2):
        x = layers.Bidirectional(layers.LSTM(16, return_sequences=True), name=f"bi{k}")(x)
    x = layers.GRU(20, return_sequences=True, name="gru0")(x)
    return keras.Model(inputs, layers.Dense(3, name="head")(layers.GRU(20, name="gru1")(x)))


def unet(width: int = 8, classes: int = 2) -> keras.Model:
    inputs = keras.Input((32, 32, 3))

    def double(x: Any, filters: int, name: str) -> Any:
        for letter in "ab":
            x = layers.ReLU()(norm(conv(x, filters, 3, 1, f"{name}_conv_{letter}"), f"{name}_bn_{letter}"))
        return x

    skips = [double(inputs, width, "enc0")]
    for k in range(1, 4):
        skips.append(double(layers.MaxPooling2D(2)(skips[-1]), width << k, f"enc{k}"))
    x = skips.pop()
    for k in range(1, 4):
        filters = width << (3 - k)
        x = layers.Conv2DTranspose(filters, 2, 2, name=f"dec{k}_up")(x)
        x = double(layers.Concatenate()([skips.pop(), x]), filters, f"dec{k}")
    return keras.Model(inputs, layers.Conv2D(classes, 1, name="mask")(x))


def alexnet(classes: int = 10) -> keras.Model:
    inputs = keras.Input((16, 16, 3))
    x: Any = inputs
    for k, (filters, size) in enumerate(((16, 5), (24, 3), (32, 3), (32, 3), (32, 3)), 1):
        x = layers.ReLU()(conv(x, filters, size, 1, f"conv{k}", bias=True))
        x = layers.MaxPooling2D(2)(x) if k in (1, 2, 5) else x
    x = layers.Flatten()(x)
    for k, units in enumerate((48, 48, classes), 6):
        x = layers.Dense(units, name=f"fc{k}")(x)
    return keras.Model(inputs, x)


def vgg_norm(plan: Iterable[int | str], hidden: int, classes: int) -> keras.Model:
    inputs = keras.Input((32, 32, 3))
    x, block, number = inputs, 1, 1
    for step in plan:
        if step == "M":
            x, block, number = layers.MaxPooling2D(2)(x), block + 1, 1
            continue
        name = f"block{block}_{{}}{number}"
        x = layers.ReLU()(norm(conv(x, int(step), 3, 1, name.format("conv"), bias=True), name.format("bn")))
        number += 1
    x = layers.Flatten()(x)
    for name, units in (("fc1", hidden), ("fc2", hidden), ("logits", classes)):
        x = layers.Dense(units, name=name)(x)
    return keras.Model(inputs, x)


def perceptron(sizes: Sequence[int], names: Sequence[str]) -> keras.Model:
    inputs = keras.Input((sizes[0],))
    x: Any = inputs
    for units, name in zip(sizes[1:], names, strict=True):
        x = layers.Dense(units, activation="relu", name=name)(x)
    return keras.Model(inputs, x)


def towers(left: str, right: str, width: int = 16) -> keras.Model:
    """Return two encoders of their own for two inputs, and one projection of both."""

    def tower(name: str) -> keras.Model:
        parts = [layers.Dense(width, name="d1"), layers.BatchNormalization(name="bn"), layers.Dense(width, name="d2")]
        return keras.Sequential([keras.Input((32,)), *parts], name=name)

    a, b = keras.Input((32,)), keras.Input((32,))
    project = layers.Dense(8, name="project")
    return keras.Model([a, b], layers.Dot(1)([project(tower(left)(a)), project(tower(right)(b))]))


def residual_rows(depth: int, width: int = 16, names: tuple[str, str] = ("up", "down")) -> keras.Model:
    inputs = keras.Input((8, width))
    x: Any = inputs
    for k in range(depth):
        y = layers.Dense(2 * width, activation="relu", name=f"h{k}_{names[0]}")(x)
        x = layers.Add()([x, layers.Dense(width, name=f"h{k}_{names[1]}")(y)])
    return keras.Model(inputs, layers.Dense(5, name="out")(layers.GlobalAveragePooling1D()(x)))
