"""Writes `.npz`: one `.npy` a weight, with fixed times."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np

from transferpipe.execute.writers.content import Content

_DATE = (1980, 1, 1, 0, 0, 0)
# NumPy's format has no names for the extended floats: their bytes are stored, and this member tells what they are.
_DTYPES = "transferpipe.json"


def write_npz(path: Path, content: Content) -> None:
    """Write the weights to `path`."""
    extended: dict[str, str] = {}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for weight in content.catalog:
            value = content.value(weight.name)
            if value.dtype.kind == "V" or value.dtype.isbuiltin == 2:
                extended[weight.name] = value.dtype.name
                value = value.view(f"u{value.dtype.itemsize}")
            info = zipfile.ZipInfo(f"{weight.name}.npy", _DATE)
            with archive.open(info, "w", force_zip64=value.nbytes > 1 << 31) as member:
                np.lib.format.write_array(member, np.asarray(value), allow_pickle=False)
        if extended:
            archive.writestr(zipfile.ZipInfo(_DTYPES, _DATE), json.dumps({"dtypes": extended}))
