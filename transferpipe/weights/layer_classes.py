"""What the built-in Keras layer classes call their weights, so that a file's numbered weights get their names.

Keras 3 stores the weights of a layer as ``vars/0``, ``vars/1``...; the names exist only in code. The table below holds
them for the layers of Keras 3 that have weights (source: the ``add_weight`` calls of ``keras.layers``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

Shape = tuple[int, ...]

_WITHOUT_WEIGHTS = """
    Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D
    AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add AlphaDropout AugMix AutoContrast Average
    AveragePooling1D AveragePooling2D AveragePooling3D Bidirectional CategoryEncoding CenterCrop Concatenate
    ContrastLimitedAdaptiveHistogramEqualization Cropping1D Cropping2D Cropping3D CutMix Discretization Dot Dropout
    ELU Equalization Flatten FlaxLayer Functional GaussianDropout GaussianNoise GlobalAveragePooling1D
    GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
    GroupQueryAttention GRU HashedCrossing Hashing Identity InputLayer IntegerLookup JaxLayer LSTM Lambda
    LeakyReLU Masking MaxNumBoundingBoxes MaxPooling1D MaxPooling2D MaxPooling3D Maximum MelSpectrogram Minimum
    MixUp MultiHeadAttention Multiply Permute Pipeline RNN RandAugment RandomBrightness
    RandomColorDegeneration RandomColorJitter RandomContrast RandomCrop RandomElasticTransform RandomErasing
    RandomFlip RandomGaussianBlur RandomGrayscale RandomHue RandomInvert RandomPerspective RandomPosterization
    RandomRotation RandomSaturation RandomSharpness RandomShear RandomTranslation RandomZoom ReLU RepeatVector
    Rescaling Reshape Resizing STFTSpectrogram Sequential SimpleRNN Softmax Solarization SpatialDropout1D
    SpatialDropout2D SpatialDropout3D StackedRNNCells StringLookup Subtract TFSMLayer TextVectorization
    TimeDistributed TorchModuleWrapper UnitNormalization UpSampling1D UpSampling2D UpSampling3D
    ZeroPadding1D ZeroPadding2D ZeroPadding3D ConvLSTM1D ConvLSTM2D ConvLSTM3D
""".split()  # noqa: SIM905 -- a hundred quoted names would be harder to compare with Keras's own list

_KERNEL = ("kernel", "bias")
_SEPARABLE = ("depthwise_kernel", "pointwise_kernel", "bias")
_RECURRENT = ("kernel", "recurrent_kernel", "bias")

# The weights that a layer of the class has when every optional one is present; optional ones are left out from the end.
_WEIGHTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("Dense", "EinsumDense", "Conv1D", "Conv2D", "Conv3D"), _KERNEL),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), _KERNEL),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), _KERNEL),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), _SEPARABLE),
    **dict.fromkeys(("LSTMCell", "GRUCell", "SimpleRNNCell", "ConvLSTMCell"), _RECURRENT),
    "BatchNormalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "LayerNormalization": ("gamma", "beta"),
    "GroupNormalization": ("gamma", "beta"),
    "RMSNormalization": ("scale",),
    "Embedding": ("embeddings",),
    "ReversibleEmbedding": ("embeddings", "reverse_embeddings"),
    "PReLU": ("alpha",),
    "Normalization": ("mean", "variance", "count"),
    "SpectralNormalization": ("kernel", "vector_u"),
    "AdditiveAttention": ("scale",),
}

# Classes of the parts that composite layers make themselves, by the attribute under which Keras saves them.
_PARTS: dict[str, dict[str, str]] = {
    **dict.fromkeys(
        ("MultiHeadAttention", "GroupQueryAttention"),
        dict.fromkeys(("query_dense", "key_dense", "value_dense", "output_dense"), "EinsumDense"),
    ),
    "LSTM": {"cell": "LSTMCell"},
    "GRU": {"cell": "GRUCell"},
    "SimpleRNN": {"cell": "SimpleRNNCell"},
    **{name: {"cell": "ConvLSTMCell"} for name in ("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")},
}

# Which configuration switch a normalization's weight depends on; RMS scaling leaves only gamma.
_OPTIONAL = {"gamma": "scale", "beta": "center"}
_NORMALIZATIONS = ("BatchNormalization", "LayerNormalization", "GroupNormalization")


def snake_case(class_name: str) -> str:
    """Return the stem from which Keras makes up a layer's name.

    >>> snake_case("Conv2DTranspose"), snake_case("PReLU")
    ('conv2d_transpose', 'p_re_lu')
    """
    name = re.sub(r"\W+", "", class_name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


BUILT_IN: dict[str, str] = {snake_case(name): name for name in (*_WITHOUT_WEIGHTS, *_WEIGHTS)}
"""The built-in layer classes by the stem of their made-up names."""


def stem(segment: str) -> str:
    """Return `segment` without the counter that Keras appends: ``dense_12`` gives ``dense``."""
    return re.sub(r"_\d+$", "", segment)


def is_made_up(name: str) -> bool:
    """Tell whether `name` is one that Keras itself gives to a built-in layer without a name, such as ``conv2d_7``."""
    return name in BUILT_IN or stem(name) in BUILT_IN


def part_class(parent_class: str | None, attribute: str) -> str | None:
    """Return the class of the part that a layer of `parent_class` keeps in `attribute`, if that is known."""
    return _PARTS.get(parent_class or "", {}).get(attribute)


def weight_names(layer_class: str | None, config: Mapping[str, Any] | None, count: int) -> tuple[str, ...] | None:
    """Return the names of the `count` numbered weights of a layer, or None where they cannot be known.

    Args:
        layer_class: the layer's class, None if unknown.
        config: the layer's configuration, None if unknown.
        count: how many weights the file holds for the layer.

    >>> weight_names("Dense", None, 2)
    ('kernel', 'bias')
    >>> weight_names("BatchNormalization", None, 3) is None  # gamma or beta is missing: the file does not say which
    True
    """
    full = _WEIGHTS.get(layer_class or "")
    if full is None:
        return None
    if layer_class in _NORMALIZATIONS:
        return _normalization_names(full, config, count)
    return full[:count] if 0 < count <= len(full) else None


def _normalization_names(full: Sequence[str], config: Mapping[str, Any] | None, count: int) -> tuple[str, ...] | None:
    if count == len(full):
        return tuple(full)
    if count == len(full) - len(_OPTIONAL):
        return tuple(n for n in full if n not in _OPTIONAL)
    if not config:
        return None
    if config.get("rms_scaling"):
        return ("gamma",) if count == 1 else None
    present = tuple(n for n in full if n not in _OPTIONAL or config.get(_OPTIONAL[n], True))
    return present if len(present) == count else None
