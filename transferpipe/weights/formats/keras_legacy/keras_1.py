"""What Keras 1, and early versions of Keras in TensorFlow, called layers and weights that have other names now.

Keras 1 put the layer's name before the weight's, with an underscore, and its TensorFlow backend counted repeated names:
``block1_conv1_W_1:0``. What it called ``running_std`` is the variance: that is what its ``normalize_batch_in_training``
returned and what its ``batch_normalization`` took (keras 1.2.2, keras/backend/tensorflow_backend.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from transferpipe.weights.formats.keras_legacy.tree import LegacyLayer

_WEIGHTS = {
    "W": "kernel",
    "U": "recurrent_kernel",
    "b": "bias",
    "alphas": "alpha",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
}


def modern_name(stored: str, tree: Sequence[LegacyLayer]) -> str:
    """Return the stored name of a Keras 1 weight as Keras 2 would have stored it, and any other as it is.

    Args:
        stored: the name.
        tree: the layer that the file groups the weight under, and all layers inside it.
    """
    # TensorFlow's number of the output.
    own = re.sub(r":\d+$", "", stored)
    # Of every later version, and the quick way out: below, each weight is compared with all layers of its group.
    if "/" in own.removeprefix(tree[0].name or ""):
        return stored
    owners = [layer for layer in tree if layer.name and own.startswith(f"{layer.name}_")]
    if not owners:
        return stored
    # `conv_1` begins as `conv_1_2` does: the longest name is meant.
    layer = max(owners, key=lambda la: len(la.name or ""))
    own = re.sub(r"_\d+$", "", own.removeprefix(f"{layer.name}_"))
    modern = "embeddings" if (layer.layer_class, own) == ("Embedding", "W") else _WEIGHTS.get(own, own)
    return f"{layer.name}/{modern}"
