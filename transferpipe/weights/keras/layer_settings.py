"""What a layer computes beside its weights: one table of the settings that change it.

Layers of different versions and frameworks are compared by their `LayerFunction`: a class in Keras's name of today, and
those settings that change what it computes. A setting that is not stored is left out, and what is left out is not
compared.

To add a framework:

1. Write a function `(node, network) -> LayerFunction` that translates a `Node` of it: `kind` is the class that the
   layer would have in Keras (``Conv2D`` for ``nn.Conv2d``), `settings` has the keys and the values of this module's
   tables (strides as tuples of one number an axis, ``padding`` as ``valid``, ``same`` or pairs of numbers),
   `activation` what is applied to the output of the layer itself, as `spell_activation` spells it.
2. It must not raise, whatever the node holds: nodes come from anybody's file.
3. Enter it in `transferpipe.weights.translations` under the framework's name, the one in `Network.framework`.
4. A layer that changes nothing at inference has the kind `NEUTRAL`; one that only applies a function to each value has
   the kind `ACTIVATION` and says in `activation` which; a class that nobody knows has ``known=False``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from transferpipe.weights.keras.setting_values import (
    LAST_AXIS,
    LINEAR,
    OF_THEANO,
    is_storable_number,
    spell_activation,
    spell_axis,
    spell_per_axis,
    spell_value,
    version_of,
)
from transferpipe.weights.network import Network, Node

NEUTRAL, ACTIVATION = "", "Activation"


@dataclass(frozen=True)
class LayerFunction:
    """What a layer computes beside its weights.

    Attributes:
        kind: its class in Keras's name of today; `NEUTRAL` and `ACTIVATION` stand for many.
        settings: the settings that change what it computes, in one spelling; what is not stored is left out.
        activation: what is applied to its output; None where that is not stored, or cannot be compared.
        known: whether the class is one whose settings are known.
        guessed: whether another class may stand for the same, so that only settings of that class are compared.
        more: what else it computes that Keras's class has no setting for, such as the peepholes of an LSTM.
    """

    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    activation: str | None = LINEAR
    known: bool = True
    guessed: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)


@cache  # there are few classes, and each is asked for with every weight
def class_function(layer_class: str | None) -> LayerFunction:
    """Return what can be said of a layer of which nothing but Keras's class is known."""
    kind, _ = _kind(layer_class or "")
    return LayerFunction(_TO_DENSE.get(kind, kind), activation=None, known=kind in _TABLE)


_NO_DEFAULT = object()  # a setting without a default that holds in every version

_NEUTRAL_CLASSES = frozenset([
    "ActivityRegularization", "AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise", "Identity", "InputLayer",
    "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "MixUp", "CutMix", "AugMix", "RandAugment",
    "RandomBrightness", "RandomColorDegeneration", "RandomColorJitter", "RandomContrast",
    "RandomElasticTransform", "RandomErasing", "RandomFlip", "RandomGaussianBlur", "RandomGrayscale", "RandomHue",
    "RandomInvert", "RandomPerspective", "RandomPosterization", "RandomRotation", "RandomSaturation",
    "RandomSharpness", "RandomShear", "RandomTranslation", "RandomZoom", "StopGradient", "Dropout1D",
])  # fmt: skip
"""Layers that change nothing at inference."""

_SPATIAL = {"strides": 1, "dilation_rate": 1}  # one number an axis
_PLACED = {"padding": "valid", "data_format": _NO_DEFAULT}
_CONV = {**_SPATIAL, **_PLACED, "use_bias": True}
_NORM = {"axis": -1, "epsilon": 1e-3, "center": True, "scale": True}
_LOOP = {"go_backwards": False, "time_major": False, "return_sequences": False, "zero_output_for_mask": False}
_RNN = {**_LOOP, "activation": "tanh", "use_bias": True}
# Settings of the layer around a cell.
_OF_LOOP = ("go_backwards", "time_major", "return_sequences", "zero_output_for_mask")
_GATED = {**_RNN, "recurrent_activation": _NO_DEFAULT}
_POOL = {"pool_size": 2, "strides": None, **_PLACED}
_LOOKUP = {"num_oov_indices": 1, "mask_token": None, "invert": False, "output_mode": "int", "vocabulary": None}
_SIZES = {"height": _NO_DEFAULT, "width": _NO_DEFAULT}
_CALLED = {"use_causal_mask": _NO_DEFAULT}  # an argument of the call, which the graph tells
# Axes of a map: sequences, images, volumes. Keras has no layers of more.
_RANKS = (1, 2, 3)

_TABLE: dict[str, dict[str, Any]] = {
    "Dense": {"use_bias": True, "equation": LAST_AXIS},
    "EinsumDense": {"equation": _NO_DEFAULT},
    **{f"Conv{n}D": {**_CONV, "groups": 1} for n in _RANKS},
    **{f"Conv{n}DTranspose": {**_CONV, "output_padding": None} for n in _RANKS},
    **{f"DepthwiseConv{n}D": _CONV for n in _RANKS},
    **{f"SeparableConv{n}D": _CONV for n in _RANKS},
    "BatchNormalization": {**_NORM, "renorm": False, "momentum": 0.99},
    "LayerNormalization": {**_NORM, "rms_scaling": False},
    "GroupNormalization": {**_NORM, "groups": 32},
    "RMSNormalization": {"axis": -1, "epsilon": 1e-6},
    "UnitNormalization": {"axis": -1, "order": 2},
    "SpectralNormalization": {},
    "Embedding": {"mask_zero": False, "logit_soft_cap": None},
    "PReLU": {},
    "LSTM": _GATED,
    "GRU": {**_GATED, "reset_after": _NO_DEFAULT},
    "SimpleRNN": _RNN,
    "RNN": _LOOP,
    **{f"ConvLSTM{n}D": {**_GATED, **_SPATIAL, **_PLACED} for n in _RANKS},
    "Bidirectional": {"merge_mode": "concat"},
    "TimeDistributed": {},
    "MultiHeadAttention": {
        **_CALLED,
        "num_heads": _NO_DEFAULT,
        "key_dim": _NO_DEFAULT,
        "value_dim": None,
        "attention_axes": None,
        "use_gate": False,
        "sliding_window": None,
    },
    "GroupedQueryAttention": {
        **_CALLED,
        "head_dim": _NO_DEFAULT,
        "num_query_heads": _NO_DEFAULT,
        "num_key_value_heads": _NO_DEFAULT,
        "use_gate": False,
        "sliding_window": None,
    },
    "Attention": {**_CALLED, "use_scale": False, "score_mode": "dot"},
    "AdditiveAttention": {**_CALLED, "use_scale": True},
    # Without weights.
    **{f"{kind}Pooling{n}D": _POOL for n in _RANKS for kind in ("Max", "Average")},
    **{
        f"Global{kind}Pooling{n}D": {"data_format": _NO_DEFAULT, "keepdims": False}
        for n in _RANKS
        for kind in ("Max", "Average")
    },
    **{
        f"Adaptive{kind}Pooling{n}D": {"output_size": _NO_DEFAULT, "data_format": _NO_DEFAULT}
        for n in _RANKS
        for kind in ("Max", "Average")
    },
    **{f"ZeroPadding{n}D": {"padding": 1, "data_format": _NO_DEFAULT} for n in _RANKS},
    **{f"Cropping{n}D": {"cropping": _NO_DEFAULT, "data_format": _NO_DEFAULT} for n in _RANKS},
    **{f"UpSampling{n}D": {"size": 2, "interpolation": "nearest", "data_format": _NO_DEFAULT} for n in _RANKS},
    "Rescaling": {"scale": 1.0, "offset": 0.0},
    "Normalization": {"axis": -1, "mean": None, "variance": None, "invert": False},
    "Discretization": {"bin_boundaries": None, "output_mode": "int"},
    "CategoryEncoding": {"output_mode": "multi_hot", "num_tokens": _NO_DEFAULT},
    "Hashing": {"num_bins": _NO_DEFAULT, "salt": None, "output_mode": "int"},
    "IntegerLookup": _LOOKUP,
    "StringLookup": {**_LOOKUP, "oov_token": "[UNK]"},
    "TextVectorization": {
        "standardize": "lower_and_strip_punctuation",
        "split": "whitespace",
        "ngrams": None,
        "output_mode": "int",
        "output_sequence_length": None,
        "vocabulary": None,
    },
    "Resizing": {
        "height": _NO_DEFAULT,
        "width": _NO_DEFAULT,
        "interpolation": "bilinear",
        "crop_to_aspect_ratio": False,
        "pad_to_aspect_ratio": False,
        "antialias": False,
    },
    "CenterCrop": _SIZES,
    "RandomCrop": _SIZES,  # which crops the middle out of an image at inference
    "Masking": {"mask_value": 0.0},
    "Flatten": {"data_format": _NO_DEFAULT},
    "Reshape": {"target_shape": _NO_DEFAULT},
    "Permute": {"dims": _NO_DEFAULT},
    "RepeatVector": {"n": _NO_DEFAULT},
    "Concatenate": {"axis": -1},
    "Dot": {"axes": _NO_DEFAULT, "normalize": False},
    **{name: {} for name in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")},
}

# What is the same class as far as its weights and settings go.
_SAME_KIND = {
    "SyncBatchNormalization": "BatchNormalization",
    "ReversibleEmbedding": "Embedding",
    "LSTMCell": "LSTM",
    "GRUCell": "GRU",
    "SimpleRNNCell": "SimpleRNN",
    "CuDNNLSTM": "LSTM",
    "CuDNNGRU": "GRU",
    "GroupQueryAttention": "GroupedQueryAttention",
}
# The names of Keras 1.
_KERAS_1 = {
    "subsample": "strides",
    "border_mode": "padding",
    "dim_ordering": "data_format",
    "atrous_rate": "dilation_rate",
    "inner_activation": "recurrent_activation",
    "bias": "use_bias",
    "pool_length": "pool_size",
    "length": "size",
    "subsample_length": "strides",
    "stride": "strides",
}
# Layers whose setting `activation` is a function of their output, not of what happens inside.
_OUTPUT_ACTIVATION = re.compile(r"Dense|EinsumDense|(Depthwise|Separable)?Conv\dD(Transpose)?")
# Layers that are the same as the activation of this name.
_ACTIVATION_LAYERS = frozenset(["Activation", "ReLU", "LeakyReLU", "ELU", "Softmax", "ThresholdedReLU"])


def keras_function(node: Node, network: Network) -> LayerFunction:
    """Return what a Keras layer computes beside its weights."""
    version = version_of(network.keras_version)
    node = _resize_middle(node, version)
    kind, of_user = _kind(node.layer_class)
    settings = {_KERAS_1.get(key, key): value for key, value in node.settings.items()}
    if kind in _NEUTRAL_CLASSES:
        return LayerFunction(NEUTRAL)
    if kind in _ACTIVATION_LAYERS:
        if kind == "Softmax" and "axis" in settings:
            settings["axis"] = spell_axis(settings["axis"], _with_shapes(node, network))
        function = settings.get("activation") if kind == "Activation" else {"class_name": kind, "config": settings}
        return LayerFunction(ACTIVATION, activation=spell_activation(function, version))
    if kind not in _TABLE:
        return LayerFunction(node.layer_class, _of_any_class(settings, version), activation=None, known=False)
    found = _settings_of(node, settings, network.keras_version)
    if network.backend == "theano":
        found |= _as_theano(kind, found, settings)
    activation: str | None = LINEAR
    if _OUTPUT_ACTIVATION.fullmatch(kind):
        told = not of_user or "activation" in settings
        activation = spell_activation(settings.get("activation"), version) if told else None
    if re.fullmatch(r"(Depthwise|Separable)?Conv\dD", kind) and (sizes := _sizes(kind, settings)):
        found["kernel_size"] = sizes
        if isinstance(dilation := found.get("dilation_rate"), tuple) and len(dilation) == len(sizes):
            # There is nothing to be dilated in a window of one place.
            found["dilation_rate"] = tuple(d if k > 1 else 1 for d, k in zip(dilation, sizes, strict=True))
    if re.fullmatch(r"Conv\dDTranspose", kind):
        _count_output_padding(found, _sizes(kind, settings))
    return LayerFunction(_TO_DENSE.get(kind, kind), found, activation)


def _with_shapes(node: Node, network: Network) -> Node:
    """Return a layer that keeps shapes with that of its input, where only what takes its output records it."""
    behind = [network.by_name[name] for name in network.consumers.get(node.name, ())]
    shapes = {shape for other in behind if len(other.inputs) == 1 for shape in other.input_shapes}
    return replace(node, input_shapes=tuple(shapes)) if shapes and not node.input_shapes else node


def _resize_middle(node: Node, version: tuple[int, ...] | None) -> Node:
    """Return a RandomCrop of before Keras 3 as the Resizing that it was outside of training."""
    if node.layer_class != "RandomCrop" or version is None or version >= (3,):
        return node
    return replace(node, layer_class="Resizing", settings={**node.settings, "crop_to_aspect_ratio": True})


def _count_output_padding(found: dict[str, Any], sizes: tuple[int, ...] | None) -> None:
    """Replace an ``output_padding`` of None by the numbers that give the same size of output, where they are known.

    With None it is ``size * stride``, or with ``valid`` what the last kernel reaches; no number gives the first where
    the kernel is even, as it would have to be the stride, which Keras refuses:
    https://github.com/keras-team/keras/blob/master/keras/src/backend/common/backend_utils.py
    """
    strides: Any = found.get("strides")
    dilation: Any = found.get("dilation_rate")
    padding = found.get("padding")
    if "output_padding" in found or padding not in ("same", "valid") or not sizes:
        return
    if not all(isinstance(x, tuple) and len(x) == len(sizes) for x in (strides, dilation)):
        return
    wide = [(k - 1) * d + 1 for k, d in zip(sizes, dilation, strict=True)]
    if padding == "same" and not all(k % 2 for k in wide):
        found["output_padding"] = "None"
        return
    found["output_padding"] = tuple(
        s - 1 if padding == "same" else max(s - k, 0) for k, s in zip(wide, strides, strict=True)
    )


_MEANINGLESS = frozenset(["name", "dtype", "trainable", "seed", "batch_input_shape", "batch_shape", "input_dtype"])
"""Settings that every class of Keras has, or that change nothing at inference."""


def plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those settings of a class of Keras's without a row in the table that say what it computes."""
    told = {k: _plain_setting(v) for k, v in settings.items() if k not in _MEANINGLESS}
    return {k: v for k, v in told.items() if v is not None}


def _plain_setting(value: Any) -> Any:
    if isinstance(value, bool | str) or is_storable_number(value):
        return value
    if not isinstance(value, list | tuple) or len(value) > _MOST_NUMBERS:
        return None
    found = tuple(_plain_setting(v) for v in value)
    return None if None in found else found


# A setting of more numbers is no setting but data, such as a table.
_MOST_NUMBERS = 100


def _of_any_class(settings: Mapping[str, Any], version: tuple[int, ...] | None) -> dict[str, Any]:
    """Return those settings of a class without a row in the table that may change what it computes.

    They are compared with those of the same class alone.
    """
    found = {k: v for k, v in plain_settings(settings).items() if not _OF_TRAINING.search(k)}
    for key in ("activation", "recurrent_activation"):
        if key in settings and (spelled := spell_activation(settings[key], version)) is not None:
            found[key] = spelled
    return found


def _settings_of(node: Node, settings: Mapping[str, Any], keras_version: str | None) -> dict[str, Any]:
    """Return the settings of a known class as far as they, or the defaults of that version of Keras, are known."""
    kind, of_user = _kind(node.layer_class)
    version = version_of(keras_version)
    if node.layer_class in ("CuDNNLSTM", "CuDNNGRU"):  # they have no such settings; cuDNN computes these
        settings = {**settings, "activation": "tanh", "recurrent_activation": "sigmoid", "reset_after": True}
    found = {}
    for key, default in _TABLE[kind].items():
        if node.layer_class.endswith("Cell") and key in _OF_LOOP:
            continue
        value = settings.get(key, _NO_DEFAULT if of_user else default)
        value = _of_version(kind, key, keras_version) if value is _NO_DEFAULT and not of_user else value
        if value is not _NO_DEFAULT and (value := spell_value(kind, key, value, node, version)) is not None:
            found[key] = value
    return found


# Settings of anybody's classes that say how a layer is trained, or how large what goes into it is: the first change
# nothing at inference, and of the second the shapes of weights tell all that matters.
_OF_TRAINING = re.compile(
    r"drop|(^|_)(rate|prob|p|seed|noise|std(dev)?|init\w*|regulariz\w*|constraint|momentum|decay|verbose|debug|training|"
    r"autocast|implementation|unroll|stateful)(_|$)|image_size|img_size|(input|image)_(shape|size|dim|resolution)|"
    r"resolution|max_(len|pos|seq|tok)|(sequence|seq)_len|num_classes|classes|vocab|batch"
)
_TO_DENSE = {"EinsumDense": "Dense"}


def _as_theano(kind: str, found: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those settings that mean another thing to the Theano backend: `conv2d`, `pool2d`, `resize_images`.

    Padding was half a kernel on both sides, whatever the strides (keras/backend/theano_backend.py of Keras 1 and 2).
    """
    # What recurs in a ConvLSTM is always padded.
    changed = ["padding"] if found.get("padding") == "same" or kind.startswith("ConvLSTM") else []
    if changed and kind.startswith(("ConvLSTM", *(f"Conv{n}DT" for n in _RANKS))):  # whose pads nobody else computes
        sizes = _sizes(kind, settings) or ()
        changed = [] if all(s % 2 for s in sizes) and set(found.get("strides", (1,))) == {1} else changed
    if found.get("interpolation") == "bilinear":
        changed.append("interpolation")
    return {key: f"{found[key]}{OF_THEANO}" for key in changed if key in found}


def _kind(layer_class: str) -> tuple[str, bool]:
    """Return a class in its name of today, and whether it is a user's own of that name."""
    package, _, name = layer_class.rpartition(".")
    return _SAME_KIND.get(name, name), bool(package)


def _sizes(kind: str, settings: Mapping[str, Any]) -> tuple[int, ...] | None:
    size = settings.get("kernel_size")
    rank = int(re.sub(r"\D", "", kind))
    if size is None:  # Keras 1
        keys = ("filter_length",), ("nb_row", "nb_col"), ("kernel_dim1", "kernel_dim2", "kernel_dim3")
        size = [settings.get(key) for key in keys[rank - 1]]
    spelled = spell_per_axis(size, rank)
    return spelled if isinstance(spelled, tuple) and all(type(n) is int for n in spelled) else None


def _of_version(kind: str, key: str, text: str | None) -> Any:
    """Return the default of a setting whose default differs between versions of Keras.

    LSTM, GRU and ConvLSTM had ``hard_sigmoid`` before Keras 2.3. A version that ends with ``-tf`` is TensorFlow's own
    Keras, where it depends on whether version 1 or 2 of the layers was used, and the same number stands for both.
    """
    version = version_of(text)
    if version is None or (text or "").endswith("-tf"):
        return _NO_DEFAULT
    if key == "recurrent_activation":
        return "hard_sigmoid" if version < (2, 3) else "sigmoid"
    if key == "reset_after":
        # Keras 2 standalone: False; TensorFlow 2 (whose Keras is 2.4 and later) and Keras 3: True.
        return version >= (2, 4)
    return _NO_DEFAULT
