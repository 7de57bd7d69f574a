"""Legacy HDF5 files and their configurations, laid out by hand."""

import json

import h5py
import numpy as np


def layer(class_name, name, **config):
    return {"class_name": class_name, "config": {"name": name, **config}, "name": name}


def model(name, *layers, class_name="Functional"):
    return layer(class_name, name, layers=list(layers))


def write(path, groups, config=None, whole=True):
    """Write a legacy file. The k-th weight has the value k."""
    with h5py.File(path, "w") as file:
        if config is not None:
            file.attrs["model_config"] = config if isinstance(config, bytes) else json.dumps(config).encode()
        root = file.create_group("model_weights") if whole else file
        root.attrs["layer_names"] = [group.encode() for group in groups]
        root.attrs["keras_version"], root.attrs["backend"] = b"2.2.4", b"tensorflow"
        count = 0
        for group, listed in groups.items():
            inner = root.create_group(group)
            inner.attrs["weight_names"] = [stored.encode() for stored in listed]
            for stored in listed:
                inner.create_dataset(stored, data=np.full((2, 3), count, "f4"))
                count += 1
