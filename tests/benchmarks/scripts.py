"""The scripts that transferpipe is measured against, written as a competent Keras user would write them.

Run as ``python scripts.py two-files SOURCE TARGET OUT``, ``python scripts.py builder SOURCE NAME OUT`` or
``python scripts.py torch CHECKPOINT TARGET OUT``.
"""

import sys


def two_files(source_path, target_path, out):
    """Copy every layer but the head from one saved model into another, by name."""
    import keras

    source = keras.models.load_model(source_path, compile=False)
    target = keras.models.load_model(target_path, compile=False)
    for layer in target.layers:
        if layer.weights and layer.name != "predictions":
            layer.set_weights(source.get_layer(layer.name).get_weights())
    target.save(out)


def builder(source_path, name, out):
    """Copy every layer but the head from a saved model into a new one with ten classes, by name."""
    import keras

    source = keras.models.load_model(source_path, compile=False)
    target = getattr(keras.applications, name)(weights=None, classes=10)
    for layer in target.layers:
        if layer.weights and layer.name != "predictions":
            layer.set_weights(source.get_layer(layer.name).get_weights())
    target.save(out)


def torch(source_path, target_path, out):
    """Copy the Dense layers of a PyTorch checkpoint into a saved model, by name."""
    import keras
    import torch

    state = torch.load(source_path, map_location="cpu", weights_only=True)["state_dict"]
    target = keras.models.load_model(target_path, compile=False)
    for layer in target.layers:
        layer.set_weights([state[f"{layer.name}.weight"].numpy().T, state[f"{layer.name}.bias"].numpy()])
    target.save(out)


if __name__ == "__main__":
    {"two-files": two_files, "builder": builder, "torch": torch}[sys.argv[1]](*sys.argv[2:])
