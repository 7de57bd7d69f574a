"""A file of which nothing can be read: an empty catalog would look like one whose weights were read."""

import json
import pickle

import numpy as np
import pytest
from other_files import extension, packed

from transferpipe.errors import FileError
from transferpipe.weights.formats import open_source


def safetensors():
    header = json.dumps({"a": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(2)


WRITTEN = {
    "safetensors": (safetensors, "'a' is F4, which NumPy does not have"),
    "flax": (lambda: b"\x81" + packed("a") + extension(1, packed(((2,), "V8", bytes(16)))), "'a' is V8"),
    "pickle": (lambda: pickle.dumps({"a": np.zeros(3, [("x", "f4")])}), "'a' is of the dtype V4"),
}


@pytest.mark.parametrize("format", WRITTEN)
def test_it_is_refused_with_the_reasons(tmp_path, format):
    write, reason = WRITTEN[format]
    (tmp_path / "m").write_bytes(write())
    with pytest.raises(FileError, match=f"holds no weights that can be read: {reason}"):
        open_source(tmp_path / "m")
