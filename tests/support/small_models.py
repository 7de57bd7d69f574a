"""Small models with known weights, and ways to look at them, for the tests of silent failures."""

import contextlib
import warnings

import keras
import numpy as np
from keras import layers

SIZE = 8


def fill(model, seed):
    """Give every weight values of its own between 0.1 and 1, so that no two weights are equal and none looks fresh."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(random.uniform(0.1, 1, weight.shape))
    return model


def stack(*parts, seed=0, inputs=SIZE, name=None):
    """Return a Sequential of `parts`, filled from `seed`."""
    return fill(keras.Sequential([keras.Input((inputs,)), *parts], name=name), seed)


def dense(*names, seed=0, **options):
    """Return a stack of Dense layers with these names, all of one shape."""
    return stack(*(layers.Dense(SIZE, name=n, **options) for n in names), seed=seed)


def values(model):
    """Return copies of all weights."""
    return [w.copy() for w in model.get_weights()]


def changed(before, model):
    """Tell for each weight whether it differs from `before`."""
    return [not np.array_equal(a, b, equal_nan=True) for a, b in zip(before, model.get_weights(), strict=True)]


def equal(one, other):
    """Tell whether two layers, models or lists of arrays hold the same values."""
    pair = [x if isinstance(x, list) else x.get_weights() for x in (one, other)]
    return len(pair[0]) == len(pair[1]) and all(np.array_equal(a, b) for a, b in zip(*pair, strict=True))


def codes(planned):
    """Return the codes of the warnings of a plan or report."""
    return {warning.code for warning in planned.warnings}


@contextlib.contextmanager
def heard(category=UserWarning):
    """Yield a list that holds, after the block, the texts of its warnings of this category; others are not raised."""
    texts = []
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield texts
    texts += [str(w.message) for w in found if w.category is category]
