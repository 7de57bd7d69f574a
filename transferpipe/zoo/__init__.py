"""Small models, and the data behind them, for recipes that show something and for trying things out."""

from transferpipe.zoo.builders import digits_cnn, nested_classifier, small_mlp
from transferpipe.zoo.digit_halves import digits_net, half_data, trained_on_half
from transferpipe.zoo.digit_mlps import digits_mlp
from transferpipe.zoo.mini_xception import mini_xception
from transferpipe.zoo.mtcnn import mtcnn_onet, mtcnn_pnet, mtcnn_rnet

__all__ = [
    "digits_cnn",
    "digits_mlp",
    "digits_net",
    "half_data",
    "mini_xception",
    "mtcnn_onet",
    "mtcnn_pnet",
    "mtcnn_rnet",
    "nested_classifier",
    "small_mlp",
    "trained_on_half",
]
