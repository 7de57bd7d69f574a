"""Small models, and the data behind them, for recipes that show something and for trying things out."""

from transferpipe.zoo.builders import digits_cnn, nested_classifier, small_mlp
from transferpipe.zoo.mini_xception import mini_xception

__all__ = ["digits_cnn", "mini_xception", "nested_classifier", "small_mlp"]
