"""What the built-in Keras layer classes call their weights, so that a file's numbered weights get their names.

Keras 3 stores the weights of a layer as ``vars/0``, ``vars/1``...; the names exist only in code. The table below holds
them for the layers of Keras 3 that have weights (source: the ``add_weight`` calls of ``keras.layers``).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from transferpipe.text.numbers import is_number

Shape = tuple[int, ...]
Names = tuple[str, ...]

_WITHOUT_WEIGHTS = """
    Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D
    AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add AlphaDropout AugMix AutoContrast Average
    AveragePooling1D AveragePooling2D AveragePooling3D Bidirectional CategoryEncoding CenterCrop Concatenate
    ContrastLimitedAdaptiveHistogramEqualization Cropping1D Cropping2D Cropping3D CutMix Discretization Dot Dropout
    ELU Equalization Flatten FlaxLayer Functional GaussianDropout GaussianNoise GlobalAveragePooling1D
    GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
    GroupedQueryAttention GRU HashedCrossing Hashing Identity InputLayer IntegerLookup JaxLayer LSTM Lambda
    LeakyReLU Masking MaxNumBoundingBoxes MaxPooling1D MaxPooling2D MaxPooling3D Maximum MelSpectrogram Minimum
    MixUp MultiHeadAttention Multiply Permute Pipeline RNN RandAugment RandomBrightness
    RandomColorDegeneration RandomColorJitter RandomContrast RandomCrop RandomElasticTransform RandomErasing
    RandomFlip RandomGaussianBlur RandomGrayscale RandomHue RandomInvert RandomPerspective RandomPosterization
    RandomRotation RandomSaturation RandomSharpness RandomShear RandomTranslation RandomZoom ReLU RepeatVector
    Rescaling Reshape Resizing Sequential SimpleRNN Softmax Solarization SpatialDropout1D
    SpatialDropout2D SpatialDropout3D StackedRNNCells StringLookup Subtract TFSMLayer TextVectorization
    TimeDistributed TorchModuleWrapper UnitNormalization UpSampling1D UpSampling2D UpSampling3D
    ZeroPadding1D ZeroPadding2D ZeroPadding3D ConvLSTM1D ConvLSTM2D ConvLSTM3D
""".split()  # noqa: SIM905 -- a hundred quoted names would be harder to compare with Keras's own list

_KERNEL = ("kernel", "bias")
_SEPARABLE = ("depthwise_kernel", "pointwise_kernel", "bias")
_RECURRENT = ("kernel", "recurrent_kernel", "bias")

# The weights that a layer of the class has when every optional one is present; optional ones are left out from the end.
_WEIGHTS: dict[str, Names] = {
    **dict.fromkeys(("Dense", "EinsumDense", "Conv1D", "Conv2D", "Conv3D"), _KERNEL),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), _KERNEL),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), _KERNEL),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), _SEPARABLE),
    **dict.fromkeys(("LSTMCell", "GRUCell", "SimpleRNNCell", "ConvLSTMCell"), _RECURRENT),
    "BatchNormalization": (
        *("gamma", "beta", "moving_mean", "moving_variance"),
        *("moving_stddev", "renorm_mean", "renorm_stddev"),
    ),
    "LayerNormalization": ("gamma", "beta"),
    "GroupNormalization": ("gamma", "beta"),
    "RMSNormalization": ("scale",),
    "Embedding": ("embeddings",),
    "ReversibleEmbedding": ("embeddings", "reverse_embeddings"),
    "PReLU": ("alpha",),
    "Normalization": ("mean", "variance", "count"),
    "SpectralNormalization": ("kernel", "vector_u"),
    "Attention": ("scale", "concat_score_weight"),
    "AdditiveAttention": ("scale",),
    "STFTSpectrogram": ("real_kernel", "imag_kernel"),
}

_FLOAT8 = ("scale", "amax_history")  # for the values, their weights and the gradients

# What quantised layers save instead, in this order; a weight with a question mark is not there in every layer
# (source: `variable_serialization_spec` of the classes and their `_int4_build`, Keras 3.15).
_KERNELS: tuple[Names, ...] = (
    ("kernel", "?bias", "kernel_scale"),
    ("kernel", "?bias", "kernel_scale", "kernel_zero", "g_idx"),
    ("kernel", "?bias", *(f"{of}_{what}" for of in ("inputs", "kernel", "outputs_grad") for what in _FLOAT8)),
    ("?bias", "kernel", "kernel_scale", "kernel_zero", "g_idx"),
    ("?bias", "kernel", "kernel_scale", "kernel_zero", "awq_scales", "g_idx"),
    # As Keras 3.15 saves these two: `Dense.save_own_variables` leaves the zero points out of all modes but int4.
    ("?bias", "kernel", "kernel_scale", "g_idx"),
    ("?bias", "kernel", "kernel_scale", "awq_scales", "g_idx"),
)
_TABLES: tuple[Names, ...] = (
    ("embeddings", "embeddings_scale"),
    ("embeddings", "embeddings_scale", "embeddings_zero", "g_idx"),
)
_REVERSE: tuple[Names, ...] = (
    ("reverse_embeddings", "reverse_embeddings_scale"),
    ("reverse_embeddings", "reverse_embeddings_scale", "reverse_embeddings_zero"),
)
_VALUES = ("kernel", "embeddings", "reverse_embeddings")
_QUANTIZED: dict[str, tuple[Names, ...]] = {
    "Dense": _KERNELS,
    "EinsumDense": _KERNELS,
    "Embedding": _TABLES,
    "ReversibleEmbedding": (*_TABLES, *((*a, *b) for a, b in zip(_TABLES, _REVERSE, strict=True))),
}


class _Switch(NamedTuple):
    """The setting on which a weight depends, its value where none is given, and the values with which there is one."""

    setting: str
    default: Any = True
    on: tuple[Any, ...] = (True,)


_SCALE_AND_CENTER = {"gamma": _Switch("scale"), "beta": _Switch("center")}
_BOTH_PARTS = ("log", "magnitude", "psd", "stft", "angle")  # of the complex numbers of a Fourier transform
_SWITCHES: dict[str, dict[str, _Switch]] = {
    "BatchNormalization": {
        **_SCALE_AND_CENTER,
        **dict.fromkeys(("moving_stddev", "renorm_mean", "renorm_stddev"), _Switch("renorm", False)),
    },
    "LayerNormalization": _SCALE_AND_CENTER,
    "GroupNormalization": _SCALE_AND_CENTER,
    "Attention": {
        "scale": _Switch("use_scale", False),
        "concat_score_weight": _Switch("score_mode", "dot", ("concat",)),
    },
    "STFTSpectrogram": {
        "real_kernel": _Switch("mode", "log", (*_BOTH_PARTS, "real")),
        "imag_kernel": _Switch("mode", "log", (*_BOTH_PARTS, "imag")),
    },
}

# How many axes the weights have, for classes whose names users also give to classes of their own.
_AXES: dict[str, tuple[int, ...]] = {
    "Dense": (2, 1),
    "Embedding": (2,),
    "Attention": (0, 0),
    "AdditiveAttention": (1,),
    "BatchNormalization": (1,) * 7,
    "STFTSpectrogram": (3, 3),
}

# Classes of the parts that composite layers make themselves, by the attribute under which Keras saves them, whose
# leading underscore differs between versions.
_HEADS = {
    "query_dense": "query",
    "key_dense": "key",
    "value_dense": "value",
    "gate_dense": "gate",  # with `use_gate`
    "output_dense": "attention_output",
}
_PARTS: dict[str, dict[str, str]] = {
    **dict.fromkeys(("MultiHeadAttention", "GroupedQueryAttention"), dict.fromkeys(_HEADS, "EinsumDense")),
    "LSTM": {"cell": "LSTMCell"},
    "GRU": {"cell": "GRUCell"},
    "SimpleRNN": {"cell": "SimpleRNNCell"},
    **{name: {"cell": "ConvLSTMCell"} for name in ("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")},
    "TextVectorization": {"lookup_layer": "StringLookup"},
}


GATES: Mapping[str, int] = {"SimpleRNN": 1, "GRU": 3, "LSTM": 4}
"""The gates of recurrent layers: their kernels have them one behind the other, each with all units."""
LOWEST_RANK_OF_KERNELS = 3
"""Of a convolution: one axis of space, inputs and outputs."""

NEVER_TRAINED = (
    *("moving_mean", "moving_variance", "moving_stddev", "renorm_mean", "renorm_stddev"),
    *("mean", "variance", "count", "vector_u"),
)
"""Weights that no optimizer changes, whatever the flags of their layer; three of them stand in Keras 2 alone."""
# Classes that Keras 1, and TensorFlow 1, called otherwise.
RENAMED = {
    **{f"{kind}Convolution{n}D": f"Conv{n}D" for kind in ("", "Atrous") for n in (1, 2, 3)},
    "Deconvolution2D": "Conv2DTranspose",
    "SeparableConvolution2D": "SeparableConv2D",
    **dict.fromkeys(("BatchNormalizationV1", "BatchNormalizationV2"), "BatchNormalization"),
    "UnifiedGRU": "GRU",
    "UnifiedLSTM": "LSTM",
}
"""What the classes of Keras 1 and TensorFlow 1 are called today."""


_NAMES = 4096  # of classes and layers, each of which a file says many times
# Configurations call this class by the name under which Keras exports it.
_ALIASES = {"GroupQueryAttention": "GroupedQueryAttention"}


@lru_cache(_NAMES)
def snake_case(class_name: str) -> str:
    """Return the stem from which Keras makes up a layer's name.

    >>> snake_case("Conv2DTranspose"), snake_case("PReLU")
    ('conv2d_transpose', 'p_re_lu')
    """
    # Expression by expression that of `to_snake_case` in keras/src/utils/naming.py: names in files came from it.
    name = re.sub(r"\W+", "", class_name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


BUILT_IN: dict[str, str] = {snake_case(name): name for name in (*_WITHOUT_WEIGHTS, *_WEIGHTS)}
"""The built-in layer classes by the stem of their auto-generated names."""


@lru_cache(_NAMES)
def stem(segment: str) -> str:
    """Return `segment` without the counter that Keras appends: ``dense_12`` gives ``dense``."""
    return re.sub(r"_\d+$", "", segment)


def counter(segment: str) -> int:
    """Return the counter that Keras appended to `segment`, 0 if there is none."""
    number = segment.rpartition("_")[2] if "_" in segment else ""
    return int(number) if is_number(number) else 0


def class_label(name: str, module: str) -> str:
    """Return what a catalog calls the layer class `name`: a user's own class never passes for a built-in one.

    >>> class_label("Dense", "keras.layers"), class_label("Block", "my.nets"), class_label("Attention", "my.nets")
    ('Dense', 'Block', 'my.nets.Attention')
    """
    name = _ALIASES.get(name, name)
    package = module.partition(".")[0]
    of_keras = package.startswith("keras") or package == "tf_keras"
    return name if of_keras or name not in BUILT_IN.values() else f"{module}.{name}"


def is_made_up(name: str) -> bool:
    """Tell whether `name` is one that Keras itself gives to a built-in layer without a name, such as ``conv2d_7``."""
    return name in BUILT_IN or stem(name) in BUILT_IN


def part_class(parent_class: str | None, attribute: str) -> str | None:
    """Return the class of the part that a layer of `parent_class` keeps in `attribute`, if that is known."""
    return _PARTS.get(parent_class or "", {}).get(attribute.lstrip("_"))


def makes_parts(layer_class: str) -> bool:
    """Tell whether layers of the class make all the layers that they hold, of their own settings.

    >>> makes_parts("LSTM"), makes_parts("Bidirectional")
    (True, False)
    """
    return layer_class in _PARTS


def part_name(parent_class: str | None, attribute: str) -> str | None:
    """Return the name that every layer of `parent_class` gives to the part in `attribute`, if there is one."""
    attention = parent_class in ("MultiHeadAttention", "GroupedQueryAttention")
    return _HEADS.get(attribute.lstrip("_")) if attention else None


def can_hold(layer_class: str, shapes: Sequence[Shape], dtypes: Sequence[str] = ()) -> bool:
    """Tell whether a layer of a built-in class can hold weights of these shapes and dtypes.

    >>> can_hold("Attention", [()]), can_hold("Attention", [(4, 3), (3,)]), can_hold("Dropout", [(3,)])
    (True, False, False)
    """
    if dtypes and name_quantized(layer_class, shapes, dtypes):
        return True
    axes = _AXES.get(layer_class)
    if axes and any(len(s) != n for s, n in zip(shapes, axes, strict=False)):
        return False
    return len(shapes) <= len(_WEIGHTS.get(layer_class, ()))


def weight_names(
    layer_class: str | None,
    config: Mapping[str, Any] | None,
    shapes: Sequence[Shape],
    dtypes: Sequence[str] = (),
) -> Names | None:
    """Return the names of the numbered weights of a layer, or None where they cannot be known.

    Args:
        layer_class: the layer's class, None if unknown.
        config: the layer's configuration, None if unknown.
        shapes: the shapes of the weights that the file holds for the layer.
        dtypes: their dtypes, which tell a quantised layer; none are taken for those of a float layer.

    >>> weight_names("Dense", None, [(4, 3), (3,)])
    ('kernel', 'bias')
    >>> weight_names("Dense", None, [(4, 3), (3,)], ["int8", "float32"])
    ('kernel', 'kernel_scale')
    >>> weight_names("BatchNormalization", None, [(3,), (3,), (3,)])  # without gamma, or beta? The file does not say.
    """
    if layer_class is None or not shapes:
        return None
    if quantized := name_quantized(layer_class, shapes, dtypes):
        return quantized
    if layer_class == "SpectralNormalization" and len(shapes) == 1:
        # Around a layer that is built with LoRA, whose kernel is computed: there is no variable to hold it by.
        return ("vector_u",)
    if not can_hold(layer_class, shapes):
        return None
    full, switches = _WEIGHTS[layer_class], _SWITCHES.get(layer_class)
    if switches is None:
        names = full[: len(shapes)]
    else:
        # Without a configuration the number of weights decides, if all settings that give so many give the same ones.
        possible = [_present(full, switches, config)] if config else _all_present(full, switches)
        fitting = {names for names in possible if len(names) == len(shapes)}
        if len(fitting) != 1:
            return None
        names = fitting.pop()
    # Whole numbers where a float layer has none: quantised in a way that is not known here.
    whole = {n for n, dtype in zip(names, dtypes, strict=False) if dtype.startswith(("int", "uint"))}
    return names if whole <= {"count"} else None


def _present(full: Sequence[str], switches: Mapping[str, _Switch], config: Mapping[str, Any]) -> Names:
    """Return those of the weights `full` that a layer with `config` has."""
    # LayerNormalization then makes no beta, and its gamma even with scale=False.
    if config.get("rms_scaling"):
        return ("gamma",)
    return tuple(n for n in full if n not in switches or _is_on(switches[n], config))


def _is_on(switch: _Switch, config: Mapping[str, Any]) -> bool:
    return config.get(switch.setting, switch.default) in switch.on


def _all_present(full: Sequence[str], switches: Mapping[str, _Switch]) -> list[Names]:
    """Return what the layer may have, whatever its configuration."""
    choices = {key: {False: None} for key in sorted({s.setting for s in switches.values()})}
    for switch in switches.values():
        choices[switch.setting].update(dict.fromkeys(switch.on))
    settings = itertools.product(*choices.values())
    return [_present(full, switches, dict(zip(choices, setting, strict=True))) for setting in settings]


def name_quantized(layer_class: str, shapes: Sequence[Shape], dtypes: Sequence[str]) -> Names | None:
    """Return the names of the weights of a quantised layer; None where they are not those of one mode of the class.

    >>> name_quantized("Dense", [(4, 3), (3,), (3,)], ["int8", "float32", "float32"])
    ('kernel', 'bias', 'kernel_scale')
    """
    found = set()
    for mode in _QUANTIZED.get(layer_class, ()):
        for names in (tuple(n.lstrip("?") for n in mode), tuple(n for n in mode if not n.startswith("?"))):
            if len(names) == len(shapes) == len(dtypes) and _agree(names, shapes, dtypes):
                found.add(names)
    return found.pop() if len(found) == 1 else None


def may_be_quantized(layer_class: str, count: int) -> bool:
    """Tell whether a layer of the class holds so many weights in one of its quantisation modes."""
    modes = _QUANTIZED.get(layer_class, ())
    return any(count in (len(mode), len(mode) - sum(n.startswith("?") for n in mode)) for mode in modes)


def _agree(names: Names, shapes: Sequence[Shape], dtypes: Sequence[str]) -> bool:
    """Tell whether quantised weights can have these shapes and dtypes.

    Values are whole numbers, zero points may be, and have the shape of their scale; for float8 the values stay as they
    are, and each scale is one number with a history of maxima.
    """
    shape = dict(zip(names, shapes, strict=True))
    of_float8 = "inputs_scale" in shape
    by_groups = "g_idx" in shape and "kernel_zero" not in shape and "embeddings" not in shape
    is_unsigned = dict(zip(names, dtypes, strict=True)).get("kernel") == "uint8"  # of GPTQ and AWQ alone
    if (by_groups and not is_unsigned) or (is_unsigned and "g_idx" not in shape):
        return False
    for name, dtype in zip(names, dtypes, strict=True):
        base, _, what = name.rpartition("_")
        whole = name in _VALUES and not of_float8
        if what != "zero" and dtype.startswith(("int", "uint")) != whole:
            return False
        if what == "zero" and shape[name] != shape[f"{base}_scale"]:
            return False
        if of_float8 and what in ("scale", "history") and len(shape[name]) != (what == "history"):
            return False
    table, back = shape.get("embeddings"), shape.get("reverse_embeddings")
    if table and back and back[-1:] != table[:1]:  # both have one of the vocabulary's size, (n, d) and (d, n)
        return False
    return of_float8 or all(len(shape[n]) > 1 for n in _VALUES if n in shape)
