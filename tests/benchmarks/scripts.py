"""The scripts that transferpipe is measured against, written as a competent Keras user would write them.

Run as ``python scripts.py two-files SOURCE TARGET OUT``, ``python scripts.py builder SOURCE NAME OUT``,
``python scripts.py torch CHECKPOINT TARGET OUT`` or ``python scripts.py merge METHOD FOLDER OUT``.
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


def merge(method, folder, out):
    """Merge base.safetensors, one.safetensors and two.safetensors with NumPy, in float32."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    base, *models = (load_file(f"{folder}/{name}.safetensors") for name in ("base", "one", "two"))
    merged = {}
    for key, start in base.items():
        one, two = (model[key] for model in models)
        if method == "mean":
            merged[key] = (start + one + two) / np.float32(3)
            continue
        if method == "linear":
            merged[key] = np.float32(0.2) * start + np.float32(0.5) * one + np.float32(0.3) * two
            continue
        deltas = [one - start, two - start]
        if method == "task_arithmetic":
            merged[key] = start + np.float32(0.6) * deltas[0] + np.float32(0.4) * deltas[1]
            continue
        for delta in deltas:
            dropped = delta.size - delta.size // 2
            delta[np.abs(delta) < np.partition(np.abs(delta).ravel(), dropped)[dropped]] = 0
        sign = np.where(deltas[0] + deltas[1] >= 0, np.float32(1), np.float32(-1))
        agree = [np.where(np.sign(delta) == sign, delta, np.float32(0)) for delta in deltas]
        count = np.maximum((agree[0] != 0).astype("float32") + (agree[1] != 0), 1)
        merged[key] = start + (agree[0] + agree[1]) / count
    save_file(merged, out)


if __name__ == "__main__":
    {"two-files": two_files, "builder": builder, "torch": torch, "merge": merge}[sys.argv[1]](*sys.argv[2:])
