"""Folders of Orbax, one step each, by hand; needs tensorstore."""

import json

import numpy as np
import pytest


def write(folder, values, *, config=None, ocdbt=True, types=None):
    """Write the folder of a step as Orbax lays it out. Keys have dots between the names of the tree."""
    store = pytest.importorskip("tensorstore")
    tree = folder / "pytree"
    tree.mkdir(parents=True)
    folder_of_all = {"driver": "file", "path": f"{tree}/"}
    base = {"driver": "ocdbt", "base": folder_of_all, "path": ""} if ocdbt else folder_of_all
    entries = {}
    for key, value in values.items():
        spec = {"driver": "zarr3", "kvstore": {**base, "path": f"{base['path']}{key}/"}}
        array = store.open(spec, create=True, dtype=value.dtype.name, shape=value.shape).result()
        array.write(value).result()
        names = [{"key": name, "key_type": 2} for name in key.split(".")]
        kind = (types or {}).get(key, "np.ndarray")
        entries[key] = {"key_metadata": names, "value_metadata": {"value_type": kind, "skip_deserialize": False}}
    (tree / "_METADATA").write_text(json.dumps({"tree_metadata": entries, "use_ocdbt": ocdbt, "use_zarr3": True}))
    (folder / "_CHECKPOINT_METADATA").write_text("{}")
    if config:
        (folder / "model_config").mkdir()
        (folder / "model_config" / "_strings.json").write_text(json.dumps({"config": json.dumps(config)}))
    return folder


VALUES = {
    "non_trainable_variables.inner.bn.moving_mean": np.full(4, 2.0),
    "non_trainable_variables.seed_generator.seed_generator_state": np.array([1, 2], "u4"),
    "optimizer_variables.adam.iteration": np.array(7),
    "trainable_variables.head.bias": np.full(2, 3, "f4"),
    "trainable_variables.head.kernel": np.full((4, 2), 4, "f4"),
    "trainable_variables.inner.a.kernel": np.full((3, 4), 5, "f4"),
}
