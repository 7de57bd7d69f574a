"""Whole models as Keras 1 and 2 wrote them, laid out by hand from their sources, for tests without these versions."""

import json

import h5py
import numpy as np


def old_layer(class_name, name, **config):
    return {"class_name": class_name, "config": {"name": name, "trainable": True, **config}}


def old_sequential(*layers):
    """Return a Sequential as Keras 1 and 2.0 to 2.2 had it: its configuration is a list."""
    return {"class_name": "Sequential", "config": list(layers)}


def old_graph(layers, inputs, outputs, class_name="Model"):
    """Return a functional model; `layers` are pairs of a serialised layer and the names of the layers it is called on.

    Further arguments of a call stand in a pair with the name.
    """
    calls = [[[*n[:1], 0, 0, n[1]] if isinstance(n, tuple) else [n, 0, 0, {}] for n in before] for _, before in layers]
    listed = [
        {**layer, "name": layer["config"]["name"], "inbound_nodes": [call] if call else []}
        for (layer, _), call in zip(layers, calls, strict=True)
    ]
    ends = {key: [[name, 0, 0] for name in names] for key, names in (("input", inputs), ("output", outputs))}
    config = {"name": "m", "layers": listed, "input_layers": ends["input"], "output_layers": ends["output"]}
    return {"class_name": class_name, "config": config}


def write_old_file(path, config, weights, version="2.1.6", backend="tensorflow"):
    """Write a whole model; `weights` are, by the names of the layers, values by the names they are stored under."""
    with h5py.File(path, "w") as file:
        top = file.create_group("model_weights")
        for place in (file, top):
            if version:
                place.attrs["keras_version"] = version.encode()
            if backend:
                place.attrs["backend"] = backend.encode()
        file.attrs["model_config"] = json.dumps(config).encode()
        top.attrs["layer_names"] = [name.encode() for name in weights]
        for layer, values in weights.items():
            group = top.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in values]
            for name, value in values.items():
                group.create_dataset(name, data=np.asarray(value, "float32"))
    return str(path)
