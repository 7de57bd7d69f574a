"""Train the model of a Keras of old that the recipe `modernise` starts from: ``python -m transferpipe.zoo.train_old``.

It made ``data/digits_keras_2.h5``: a recurrent network over the rows of the digits, as Keras 2.1.6 would have written
it, with what old files have and Keras 3 has not: its hard_sigmoid, its layers' arguments, the state of an optimizer.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from transferpipe.digits import load_digits
from transferpipe.weights.keras.upgrade.model import upgrade_model

VERSION = "2.1.6"
_LSTM = {
    "name": "rows",
    "trainable": True,
    "batch_input_shape": [None, 8, 8],
    "dtype": "float32",
    "units": 12,
    "activation": "tanh",
    "recurrent_activation": "hard_sigmoid",
    "use_bias": True,
    "unit_forget_bias": True,
    "kernel_initializer": {"class_name": "VarianceScaling", "config": {"scale": 1.0, "mode": "fan_avg"}},
    "implementation": 1,
    "return_sequences": False,
    "go_backwards": False,
    "stateful": False,
    "unroll": False,
}
_DENSE = {"name": "digit", "trainable": True, "units": 10, "activation": "softmax", "use_bias": True}
CONFIG: dict[str, Any] = {
    "class_name": "Sequential",
    "config": [{"class_name": "LSTM", "config": _LSTM}, {"class_name": "Dense", "config": _DENSE}],
}
_STORED = {
    "rows": ("rows/kernel:0", "rows/recurrent_kernel:0", "rows/bias:0"),
    "digit": ("digit/kernel:0", "digit/bias:0"),
}


def train_old(epochs: int = 60, seed: int = 0) -> list[Any]:
    """Return the trained weights, in the order of the layers."""
    import keras

    keras.utils.set_random_seed(seed)
    model = keras.saving.deserialize_keras_object(upgrade_model(CONFIG, "digits", VERSION).config)
    model.compile("adam", "sparse_categorical_crossentropy")
    images, labels = load_digits()
    model.fit(images[..., 0], labels, epochs=epochs, batch_size=32, verbose=0)
    return list(model.get_weights())


def write_old(path: Path, weights: list[Any]) -> None:
    """Write the weights as Keras 2.1.6 would have, with the state of an optimizer."""
    left = iter(weights)
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"], file.attrs["backend"] = VERSION.encode(), b"tensorflow"
        file.attrs["model_config"] = json.dumps(CONFIG).encode()
        top = file.create_group("model_weights")
        top.attrs["keras_version"], top.attrs["backend"] = VERSION.encode(), b"tensorflow"
        top.attrs["layer_names"] = [layer.encode() for layer in _STORED]
        for layer, names in _STORED.items():
            group = top.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name in names:
                group.create_dataset(name, data=next(left), track_times=False)
        state = file.create_group("optimizer_weights")
        state.attrs["weight_names"] = [b"Adam/iterations:0"]
        state.create_dataset("Adam/iterations:0", data=np.int64(0), track_times=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, nargs="?", default=Path(__file__).parent / "data" / "digits_keras_2.h5")
    write_old(parser.parse_args().path, train_old())
