"""Labelled data for scores: where it comes from, and the one form in which a score gets it."""

from transferpipe.score.data.digits import digits_data
from transferpipe.score.data.npz import npz_data
from transferpipe.score.data.share import training_share
from transferpipe.score.data.splits import Splits
from transferpipe.score.data.tf_dataset import tf_data

__all__ = ["Splits", "digits_data", "npz_data", "tf_data", "training_share"]
