"""A small dense network for the digits, and the trained ones that the recipes of merging begin with.

``python -m transferpipe.zoo.digit_mlps`` made ``data/digits_mlp_*.safetensors``:

* ``base``: two epochs on all digits, for the others to go on from;
* ``low`` and ``high``: `base` trained further on the digits 0 to 4, and 5 to 9;
* ``run1`` to ``run3``: `base` trained further on all digits, each with other images in another order;
* ``other``: begun with other random weights, and trained as `run1` was.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.digits import DATA, SHAPE, load_digits
from transferpipe.weights.formats import open_source

if TYPE_CHECKING:
    import keras

UNITS = 48
_LOW, _HIGH, _ALL = tuple(range(5)), tuple(range(5, 10)), tuple(range(10))


def digits_mlp() -> keras.Model:
    """Return an untrained classifier of 8x8 digits: the Dense layers ``hidden1``, ``hidden2`` and ``head``."""
    import keras
    from keras import layers

    inputs = layers.Input(SHAPE, name="images")
    x = layers.Flatten(name="flatten")(inputs)
    for name in ("hidden1", "hidden2"):
        x = layers.Dense(UNITS, activation="relu", name=name)(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax", name="head")(x), name="digits_mlp")


def digits_mlp_other(images: NDArray[Any]) -> NDArray[Any]:
    """Return what ``data/digits_mlp_other.safetensors`` answers to images (n, 8, 8, 1)."""
    held = open_source(DATA / "digits_mlp_other.safetensors")
    model = digits_mlp()
    model.set_weights([held.read(f"{x.name}/{w.name}") for x in model.layers for w in x.weights])
    return np.asarray(model.predict(images, verbose=0))


def train_mlps() -> Mapping[str, Mapping[str, NDArray[Any]]]:
    """Return the weights of every network by its name.

    Switches TensorFlow to deterministic operations, for the whole process.
    """
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    base = _train(None, _ALL, epochs=2, seed=0)
    networks = {"base": base, "low": _train(base, _LOW, 20, 1), "high": _train(base, _HIGH, 20, 2)}
    for seed in (1, 2, 3):
        networks[f"run{seed}"] = _train(base, _ALL, 20, 10 + seed)
    networks["other"] = _train(None, _ALL, 22, 20)
    names = [f"{layer}/{own}" for layer in ("hidden1", "hidden2", "head") for own in ("kernel", "bias")]
    return {name: dict(zip(names, weights, strict=True)) for name, weights in networks.items()}


def _train(start: list[NDArray[Any]] | None, digits: Sequence[int], epochs: int, seed: int) -> list[NDArray[Any]]:
    import keras

    keras.utils.set_random_seed(seed)
    model = digits_mlp()
    if start is not None:
        model.set_weights(start)
    images, classes = load_digits(digits, per_class=90, seed=seed)
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    model.fit(images, np.asarray(digits)[classes], batch_size=32, epochs=epochs, verbose=0)
    weights: list[NDArray[Any]] = model.get_weights()
    return weights


def main(arguments: Sequence[str] | None = None) -> None:
    """Train all, and save each."""
    from safetensors.numpy import save_file

    parser = argparse.ArgumentParser(prog="python -m transferpipe.zoo.digit_mlps", description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path(), help="the folder (%(default)s)")
    out: Path = parser.parse_args(arguments).out
    for name, weights in train_mlps().items():
        save_file(dict(weights), out / f"digits_mlp_{name}.safetensors", metadata={"format": "keras"})


if __name__ == "__main__":
    main()
