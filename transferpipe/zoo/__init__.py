"""Small models, and the data behind them, for recipes that show something and for trying things out."""

from transferpipe.zoo.builders import digits_cnn, nested_classifier, small_mlp

__all__ = ["digits_cnn", "nested_classifier", "small_mlp"]
