"""Train the networks of `small_vision` on the digits: ``python -m transferpipe.zoo.train_vision``.

It made ``data/colour_digits.keras``, which sees the digits in coloured ink on coloured paper,
``data/vit_digits.keras``, which sees them as they are, and ``data/still_digits.npz``: each digit in colour, as a
video of five frames that are all the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.digits import load_digits
from transferpipe.zoo.small_vision import small_cnn, small_vit

if TYPE_CHECKING:
    import keras

_FRAMES = 5  # what `small_cnn_3d` takes


def colour_digits(images: NDArray[np.float32], seed: int = 0) -> NDArray[np.float32]:
    """Return grey digits of shape (n, 8, 8, 1) in colours of their own, dark on light: shape (n, 8, 8, 3), 0 to 1."""
    random = np.random.default_rng(seed)
    paper = random.uniform(0.7, 1.0, (len(images), 1, 1, 3))
    ink = random.uniform(0.0, 0.5, (len(images), 1, 1, 3))
    return (paper + (ink - paper) * images).astype(np.float32)


def train(model: keras.Model, images: NDArray[Any], classes: NDArray[Any], epochs: int) -> None:
    """Train `model` in place, in batches of 32, with Adam."""
    import keras

    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy")
    model.fit(images, classes, batch_size=32, epochs=epochs, verbose=0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train both, print the test accuracies, save."""
    import keras
    import tensorflow as tf

    parser = argparse.ArgumentParser(prog="python -m transferpipe.zoo.train_vision", description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path(), help="the folder for the .keras files (%(default)s)")
    parser.add_argument("--epochs", type=int, default=60, help="passes over the images (%(default)s)")
    given = parser.parse_args(arguments)
    stills = colour_digits(load_digits(split="test", per_class=1)[0])
    np.savez_compressed(given.out / "still_digits.npz", videos=np.repeat(stills[:, None], _FRAMES, axis=1))
    tf.config.experimental.enable_op_determinism()
    (images, classes), (unseen, wanted) = load_digits(), load_digits(split="test")
    for name, build, learned, asked in (
        ("colour_digits", small_cnn, colour_digits(images), colour_digits(unseen, seed=1)),
        ("vit_digits", small_vit, images, unseen),
    ):
        keras.utils.set_random_seed(0)
        model = build()
        train(model, learned, classes, given.epochs)
        accuracy = float(np.mean(np.argmax(model.predict(asked, verbose=0), 1) == wanted))
        # A fresh copy leaves the optimizer behind, whose state would triple the file.
        uncompiled = build()
        uncompiled.set_weights(model.get_weights())
        uncompiled.save(given.out / f"{name}.keras")
        print(f"{name}: test accuracy {accuracy:.4f}")  # noqa: T201 - a script


if __name__ == "__main__":
    main()
