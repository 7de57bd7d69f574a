"""Train the digits classifier that the shipped recipes start from: ``python -m transferpipe.zoo.train_digits``.

It made ``data/digits_0_4.keras`` and, the weights alone, ``data/digits_0_4.weights.h5``: digits 0 to 4 only, from the
training part of `transferpipe.digits`, so that a recipe can move its trunk to a model for the digits 5 to 9, which
it has never seen.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from transferpipe.digits import load_digits
from transferpipe.zoo.builders import digits_cnn
from transferpipe.zoo.surgery import normed_digits_cnn

if TYPE_CHECKING:
    import keras

LABELS = (0, 1, 2, 3, 4)


def train_digits(epochs: int = 30, seed: int = 0) -> tuple[keras.Model, float]:
    """Train `transferpipe.zoo.digits_cnn` on the digits 0 to 4.

    Sets Keras's global seeds and switches TensorFlow to deterministic operations, for the whole process.

    Args:
        epochs: passes over the 600 training images, in batches of 32.
        seed: fixes the first weights and the order of the images.

    Returns:
        The trained model, uncompiled, and its accuracy (0 to 1) on the test part.
    """
    import keras
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(seed)
    model = digits_cnn(len(LABELS))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*load_digits(LABELS), batch_size=32, epochs=epochs, verbose=0)
    _, accuracy = model.evaluate(*load_digits(LABELS, split="test"), verbose=0)
    # A fresh copy leaves the optimizer behind, whose state would triple the file.
    uncompiled = digits_cnn(len(LABELS))
    uncompiled.set_weights(model.get_weights())
    return uncompiled, float(accuracy)


def train_normed(epochs: int = 12, seed: int = 0) -> tuple[keras.Model, float]:
    """Train `transferpipe.zoo.normed_digits_cnn` on all digits, which made ``data/digits_normed.keras``.

    See `train_digits`.
    """
    import keras
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(seed)
    model = normed_digits_cnn()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*load_digits(), batch_size=32, epochs=epochs, verbose=0)
    _, accuracy = model.evaluate(*load_digits(split="test"), verbose=0)
    uncompiled = normed_digits_cnn()
    uncompiled.set_weights(model.get_weights())
    return uncompiled, float(accuracy)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, print the test accuracy, save."""
    parser = argparse.ArgumentParser(prog="python -m transferpipe.zoo.train_digits", description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("digits_0_4.keras"), help="the .keras file (%(default)s)")
    parser.add_argument("--normed", action="store_true", help="train the network with normalizations, on all digits")
    given = parser.parse_args(arguments)
    out: Path = given.out
    if given.normed:
        model, accuracy = train_normed()
        model.save(out)
        print(f"all digits: test accuracy {accuracy:.4f}, saved in {out}")  # noqa: T201 - a script
        return
    model, accuracy = train_digits()
    model.save(out)
    model.save_weights(out.with_suffix(".weights.h5"))
    print(f"digits {LABELS[0]} to {LABELS[-1]}: test accuracy {accuracy:.4f}, saved in {out}")  # noqa: T201 - a script


if __name__ == "__main__":
    main()
