"""Names of weights in files without layers: safetensors and npz."""

from __future__ import annotations

from collections.abc import Iterable

# The counter of training steps that a torch BatchNorm carries along.
NOT_WEIGHTS = ("num_batches_tracked",)


def flat_names(keys: Iterable[str]) -> dict[str, str]:
    """Return the catalog's name of every key.

    If any key holds a ``/``, keys are names already; otherwise they are torch's attribute paths: dots become slashes.

    >>> flat_names(["layer1.0.conv1.weight", "fc.bias"])
    {'layer1.0.conv1.weight': 'layer1/0/conv1/weight', 'fc.bias': 'fc/bias'}
    >>> flat_names(["block.1/kernel", "block.2"])
    {'block.1/kernel': 'block.1/kernel', 'block.2': 'block.2'}
    """
    # Keras's names have slashes, and may have dots within a part; in torch's the dots stand between parts.
    keys = list(keys)
    if any("/" in key for key in keys):
        return {key: key for key in keys}
    return {key: key.replace(".", "/") for key in keys}


def is_weight(name: str) -> bool:
    """Tell whether the entry called `name` is a weight, and not a counter that lies beside the weights."""
    return name.rpartition("/")[2] not in NOT_WEIGHTS
