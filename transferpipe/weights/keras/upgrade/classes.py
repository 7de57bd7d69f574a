"""The layers that an upgraded model may consist of, with their arguments in Keras 3, and what older Keras called both.

A class that is not here is not built: an old file may name anything, and only what is known to compute the same is
taken over. The arguments are those of Keras 3.12; the older names are from the sources of Keras 1.2.2
(`keras/layers`, `keras/legacy/layers.py`), Keras 2.3.1 (`keras/legacy/interfaces.py`, which lists what Keras 2
renamed), and TensorFlow 1.15 to 2.15 (`tensorflow/python/keras`, `tf_keras`).
"""

from __future__ import annotations

from transferpipe.weights.keras.layer_classes import RENAMED


def _of(*names: str) -> str:
    """Return the arguments that concern weights: how they begin, and what training keeps them to."""
    return " ".join(f"{n}_initializer {n}_regularizer {n}_constraint" for n in names)


_DENSE = f"activation use_bias activity_regularizer {_of('kernel', 'bias')}"
_CONV = f"filters kernel_size strides padding data_format dilation_rate groups {_DENSE}"
_TRANSPOSED = _CONV.replace(" groups", "") + " output_padding"
_DEPTHWISE = (
    "kernel_size strides padding depth_multiplier data_format dilation_rate activation use_bias activity_regularizer "
    + _of("depthwise", "bias")
)
_SEPARABLE = f"filters {_DEPTHWISE} {_of('pointwise')}"
_CELL = f"units dropout recurrent_dropout seed {_DENSE} {_of('recurrent')}"
_LOOP = "return_sequences return_state go_backwards stateful unroll zero_output_for_mask"
_CONV_LSTM = (
    "recurrent_activation unit_forget_bias dropout recurrent_dropout seed return_sequences return_state go_backwards "
    f"stateful {_of('recurrent')} " + _CONV.replace(" groups", "")
)
_NORM = f"axis epsilon center scale {_of('beta', 'gamma')}"
_BATCH_NORM = f"{_NORM} momentum synchronized moving_mean_initializer moving_variance_initializer"
_ATTENTION = (
    "num_heads key_dim value_dim dropout use_bias output_shape attention_axes seed activity_regularizer "
    + _of("kernel", "bias")
)
_LOOKUP = (
    "max_tokens num_oov_indices mask_token oov_token vocabulary idf_weights invert output_mode sparse pad_to_max_tokens"
)
_IMAGE = "seed data_format"

_ARGUMENTS = {
    "Activation": "activation",
    "ActivityRegularization": "l1 l2",
    **{f"Adaptive{kind}Pooling{n}D": "output_size data_format" for kind in ("Average", "Max") for n in (1, 2, 3)},
    "Add": "",
    "AdditiveAttention": "use_scale dropout",
    "AlphaDropout": "rate noise_shape seed",
    "Attention": "use_scale score_mode dropout seed",
    "AugMix": f"value_range num_chains chain_depth factor alpha all_ops interpolation {_IMAGE}",
    "AutoContrast": "value_range",
    "Average": "",
    **{f"{kind}Pooling{n}D": "pool_size strides padding data_format" for kind in ("Average", "Max") for n in (1, 2, 3)},
    "BatchNormalization": _BATCH_NORM,
    "Bidirectional": "layer merge_mode backward_layer",
    "CategoryEncoding": "num_tokens output_mode sparse",
    "CenterCrop": "height width data_format",
    "Concatenate": "axis",
    "ContrastLimitedAdaptiveHistogramEqualization": "value_range clip_limit tile_grid_size data_format",
    **{f"Conv{n}D": _CONV for n in (1, 2, 3)},
    **{f"Conv{n}DTranspose": _TRANSPOSED for n in (1, 2, 3)},
    **{f"ConvLSTM{n}D": _CONV_LSTM for n in (1, 2, 3)},
    "CustomScaleLayer": "scale",
    "CutMix": f"factor {_IMAGE}",
    "Cropping1D": "cropping",
    **{f"Cropping{n}D": "cropping data_format" for n in (2, 3)},
    "Dense": f"units {_DENSE}",
    **{f"DepthwiseConv{n}D": _DEPTHWISE for n in (1, 2)},
    "Discretization": "bin_boundaries num_bins epsilon output_mode sparse",
    "Dot": "axes normalize",
    "Dropout": "rate noise_shape seed",
    "EinsumDense": f"equation output_shape activation bias_axes activity_regularizer {_of('kernel', 'bias')}",
    "ELU": "alpha",
    "Embedding": f"input_dim output_dim mask_zero {_of('embeddings')}",
    "Equalization": "value_range bins data_format",
    "Flatten": "data_format",
    "GaussianDropout": "rate seed",
    "GaussianNoise": "stddev seed",
    **{f"Global{kind}Pooling{n}D": "data_format keepdims" for kind in ("Average", "Max") for n in (1, 2, 3)},
    "GroupNormalization": f"groups {_NORM}",
    "GroupQueryAttention": (
        "head_dim num_query_heads num_key_value_heads dropout use_bias sliding_window flash_attention use_gate seed "
        f"activity_regularizer {_of('kernel', 'bias')}"
    ),
    "GRU": f"recurrent_activation reset_after {_CELL} {_LOOP}",
    "GRUCell": f"recurrent_activation reset_after {_CELL}",
    "HashedCrossing": "num_bins output_mode sparse",
    "Hashing": "num_bins mask_value salt output_mode sparse",
    "Identity": "",
    "InputLayer": "batch_shape sparse ragged optional",
    "IntegerLookup": f"{_LOOKUP} vocabulary_dtype",
    "LayerNormalization": _NORM,
    "LayerScale": "init_values projection_dim",
    "LeakyReLU": "negative_slope",
    "LSTM": f"recurrent_activation unit_forget_bias {_CELL} {_LOOP}",
    "LSTMCell": f"recurrent_activation unit_forget_bias {_CELL}",
    "Masking": "mask_value",
    "MaxNumBoundingBoxes": "max_number fill_value",
    "Maximum": "",
    "MelSpectrogram": (
        "fft_length sequence_stride sequence_length window sampling_rate num_mel_bins min_freq max_freq power_to_db "
        "top_db mag_exp min_power ref_power"
    ),
    "Minimum": "",
    "MixUp": f"alpha {_IMAGE}",
    "MultiHeadAttention": _ATTENTION,
    "Multiply": "",
    "Normalization": "axis mean variance invert",
    "Permute": "dims",
    "PReLU": f"shared_axes {_of('alpha')}",
    "RandAugment": f"value_range num_ops factor interpolation {_IMAGE}",
    "RandomBrightness": "factor value_range seed",
    **{
        f"Random{what}": f"factor value_range {_IMAGE}"
        for what in ("ColorDegeneration", "Hue", "Invert", "Posterization", "Saturation", "Sharpness")
    },
    "RandomColorJitter": (f"value_range brightness_factor contrast_factor saturation_factor hue_factor {_IMAGE}"),
    "RandomContrast": "factor value_range seed",
    "RandomCrop": f"height width {_IMAGE}",
    "RandomElasticTransform": f"factor scale interpolation fill_mode fill_value value_range {_IMAGE}",
    "RandomErasing": f"factor scale fill_value value_range {_IMAGE}",
    "RandomFlip": f"mode {_IMAGE}",
    "RandomGaussianBlur": f"factor kernel_size sigma value_range {_IMAGE}",
    "RandomGrayscale": f"factor {_IMAGE}",
    "RandomPerspective": f"factor scale interpolation fill_value {_IMAGE}",
    "RandomRotation": f"factor fill_mode interpolation fill_value {_IMAGE}",
    "RandomShear": f"x_factor y_factor interpolation fill_mode fill_value {_IMAGE}",
    "RandomTranslation": f"height_factor width_factor fill_mode interpolation fill_value {_IMAGE}",
    "RandomZoom": f"height_factor width_factor fill_mode interpolation fill_value {_IMAGE}",
    "ReLU": "max_value negative_slope threshold",
    "RepeatVector": "n",
    "Rescaling": "scale offset",
    "Reshape": "target_shape",
    "Resizing": "height width interpolation crop_to_aspect_ratio data_format",
    "ReversibleEmbedding": (
        f"input_dim output_dim mask_zero tie_weights reverse_dtype logit_soft_cap {_of('embeddings')}"
    ),
    "RMSNormalization": "axis epsilon",
    "RNN": f"cell {_LOOP}",
    **{f"SeparableConv{n}D": _SEPARABLE for n in (1, 2)},
    "SimpleRNN": f"{_CELL} {_LOOP}",
    "SimpleRNNCell": _CELL,
    "Solarization": "addition_factor threshold_factor value_range seed",
    "Softmax": "axis",
    "SpatialDropout1D": "rate seed",
    **{f"SpatialDropout{n}D": "rate data_format seed" for n in (2, 3)},
    "SpectralNormalization": "layer power_iterations",
    "StackedRNNCells": "cells",
    "STFTSpectrogram": (
        "mode frame_length frame_step fft_length window periodic scaling padding expand_dims data_format"
    ),
    "StochasticDepth": "drop_path_rate",
    "StringLookup": f"{_LOOKUP} encoding",
    "Subtract": "",
    "TextVectorization": (
        "max_tokens standardize split ngrams output_mode output_sequence_length pad_to_max_tokens vocabulary "
        "idf_weights sparse ragged encoding"
    ),
    "TimeDistributed": "layer",
    "UnitNormalization": "axis",
    "UpSampling1D": "size",
    "UpSampling2D": "size data_format interpolation",
    "UpSampling3D": "size data_format",
    "ZeroPadding1D": "padding data_format",
    **{f"ZeroPadding{n}D": "padding data_format" for n in (2, 3)},
}
_NOT_SWITCHED = frozenset(["Discretization", *(f"SpatialDropout{n}D" for n in (1, 2, 3))])  # take no `trainable`
ARGUMENTS = {
    name: frozenset((*text.split(), "name", "dtype", *(() if name in _NOT_SWITCHED else ("trainable",))))
    for name, text in _ARGUMENTS.items()
} | {"Pipeline": frozenset(("layers", "name"))}  # and nothing that other layers take
"""What each class takes."""

MODULES = {
    "CustomScaleLayer": "keras.src.applications.inception_resnet_v2",
    "LayerScale": "keras.src.applications.convnext",
    "StochasticDepth": "keras.src.applications.convnext",
}
"""Where classes lie that `keras.layers` does not have."""

FOR_TRAINING_ALONE = ("AddLoss", "AddMetric")
"""Layers that `add_loss` and `add_metric` put into a model, which give what they take."""

CLASSES = {
    **RENAMED,
    **dict.fromkeys(FOR_TRAINING_ALONE, "Identity"),
    **{f"{kind}Pool{n}D": f"{kind}Pooling{n}D" for kind in ("Max", "GlobalMax") for n in (1, 2, 3)},
    **{f"{g}AvgPool{n}D": f"{g}AveragePooling{n}D" for g in ("", "Global") for n in (1, 2, 3)},
    **{f"Convolution{n}DTranspose": f"Conv{n}DTranspose" for n in (1, 2, 3)},
    "GroupedQueryAttention": "GroupQueryAttention",
    "SeparableConvolution1D": "SeparableConv1D",
    "CuDNNGRU": "GRU",
    "CuDNNLSTM": "LSTM",
    "SyncBatchNormalization": "BatchNormalization",
    "ThresholdedReLU": "ReLU",
    "TimeDistributedDense": "Dense",
}
"""Classes by names that they no longer have."""

MERGES = {
    "sum": "Add",
    "mul": "Multiply",
    "ave": "Average",
    "max": "Maximum",
    "concat": "Concatenate",
    "dot": "Dot",
    "cos": "Dot",
}
"""What the `mode` of a Merge of Keras 1 is today."""

OLDER_NAMES: dict[str, tuple[str, ...]] = {
    "init": ("kernel_initializer", "embeddings_initializer", "alpha_initializer"),
    "inner_init": ("recurrent_initializer",),
    "gamma_init": ("gamma_initializer",),
    "beta_init": ("beta_initializer",),
    "depthwise_init": ("depthwise_initializer",),
    "pointwise_init": ("pointwise_initializer",),
    "W_regularizer": ("kernel_regularizer", "embeddings_regularizer"),
    "U_regularizer": ("recurrent_regularizer",),
    "b_regularizer": ("bias_regularizer",),
    "W_constraint": ("kernel_constraint", "embeddings_constraint"),
    "b_constraint": ("bias_constraint",),
    "inner_activation": ("recurrent_activation",),
    "bias": ("use_bias",),
    "output_dim": ("units",),
    "dropout_W": ("dropout",),
    "dropout_U": ("recurrent_dropout",),
    "nb_filter": ("filters",),
    "filter_length": ("kernel_size",),
    "border_mode": ("padding",),
    "subsample": ("strides",),
    "subsample_length": ("strides",),
    "stride": ("strides",),
    "atrous_rate": ("dilation_rate",),
    "dim_ordering": ("data_format",),
    "pool_length": ("pool_size",),
    "length": ("size",),
    "p": ("rate",),
    "sigma": ("stddev",),
    "alpha": ("negative_slope",),
    "theta": ("threshold",),
    "concat_axis": ("axis",),
    "dot_axes": ("axes",),
    "bins": ("bin_boundaries",),
    "max_tokens": ("num_tokens",),
    "max_values": ("max_tokens",),
    "mask_value": ("mask_token",),
    "oov_value": ("oov_token",),
    "batch_input_shape": ("batch_shape",),
}
"""What arguments were called: the first of these that a class takes is meant."""

FOR_TRAINING = frozenset(
    ["b_initializer", "forget_bias_init", "renorm", "renorm_clipping", "renorm_momentum", "dropout"]
)
"""Arguments that Keras 3 does not have in this form, and that change nothing once a model is trained."""

LEFT_OUT = frozenset([
    *FOR_TRAINING, "input_shape", "input_dim", "input_length", "input_dtype", "batch_size", "batch_input_shape",
    "implementation", "consume_less", "dynamic", "autocast", "fused", "input_spec", "query_shape", "key_shape",
    "value_shape", "build_input_shape", "experimental_autocast", "experimental_run_tf_function", "unroll", "legacy",
    "noise_shape", "vocabulary_size", "has_static_table", "has_input_vocabulary", "W_learning_rate", "b_learning_rate",
    "flash_attention", "lora_rank", "lora_alpha", "weights", "rng_type", "trainable", "causal", "force_generator",
])  # fmt: skip
"""Arguments of old configurations that say nothing of what a layer computes."""

ONLY_IF: dict[str, tuple[object, ...]] = {
    "time_major": (False, None),
    "mode": (0, None),
    "num_constants": (0, None),
    "groups": (1, None),
    "virtual_batch_size": (None,),
    "adjustment": (None,),
    "use_gate": (False, None),
    "sliding_window": (None,),
    "quantization_config": (None,),
}
"""Arguments that Keras 3 does not have, and the values of them that make no difference."""

GONE = {
    "LocallyConnected1D": "Keras 3 has no such layer",
    "LocallyConnected2D": "Keras 3 has no such layer",
    "MaxoutDense": "Keras 2 and 3 have no such layer",
    "Highway": "Keras 2 and 3 have no such layer",
    "SReLU": "Keras 2 and 3 have no such layer",
    "ParametricSoftplus": "Keras 2 and 3 have no such layer",
    "RandomFourierFeatures": "Keras 3 has no such layer",
    "DenseFeatures": "Keras 3 has no feature columns",
    "Lambda": "what it computes is Python code, which is not run from a file",
}
"""Why a class cannot be built, where more can be said than that it is unknown."""
