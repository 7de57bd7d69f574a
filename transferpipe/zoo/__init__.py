"""Small models, and the data behind them, for recipes that show something and for trying things out."""

from transferpipe.zoo.builders import digits_cnn, nested_classifier, small_mlp
from transferpipe.zoo.digit_halves import digits_net, half_data, trained_on_half
from transferpipe.zoo.digit_mlps import digits_mlp, digits_mlp_other
from transferpipe.zoo.mini_xception import mini_xception
from transferpipe.zoo.mtcnn import mtcnn_onet, mtcnn_pnet, mtcnn_rnet
from transferpipe.zoo.signals import signals_data, signals_net, trained_on_signals
from transferpipe.zoo.small_vision import (
    colour_digits_on_a_frame,
    colour_digits_on_grey,
    colour_digits_on_three_bands,
    small_cnn,
    small_cnn_3d,
    small_vit,
    vit_digits_on_half_the_size,
    vit_digits_without_block2,
)
from transferpipe.zoo.surgery import normed_digits_cnn, quantized_digits, token_model

__all__ = [
    "colour_digits_on_a_frame",
    "colour_digits_on_grey",
    "colour_digits_on_three_bands",
    "digits_cnn",
    "digits_mlp",
    "digits_mlp_other",
    "digits_net",
    "half_data",
    "mini_xception",
    "mtcnn_onet",
    "mtcnn_pnet",
    "mtcnn_rnet",
    "nested_classifier",
    "normed_digits_cnn",
    "quantized_digits",
    "signals_data",
    "signals_net",
    "small_cnn",
    "small_cnn_3d",
    "small_mlp",
    "small_vit",
    "token_model",
    "trained_on_half",
    "trained_on_signals",
    "vit_digits_on_half_the_size",
    "vit_digits_without_block2",
]
