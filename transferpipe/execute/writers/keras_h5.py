"""Writes Keras 3 `.weights.h5`, group by group as Keras would."""

from __future__ import annotations

from pathlib import Path

import h5py

from transferpipe.execute.writers.content import Content


def write_weights_h5(path: Path, content: Content) -> None:
    """Write the weights to `path`. No times are stored, so that equal content gives equal bytes."""
    with h5py.File(path, "w") as file:
        for group in content.groups:
            place = file.create_group(f"{group.path}/vars" if group.path else "vars")
            if group.name is not None:
                place.attrs["name"] = group.name
            for key, name in group.entries:
                value = content.value(name)
                dataset = place.create_dataset(key, data=value)
                if value.dtype.name == "bfloat16":  # HDF5 knows no bfloat16; this is how Keras marks it
                    dataset.attrs["dtype"] = "bfloat16"
