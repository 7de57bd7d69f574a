"""Writes safetensors: 8 bytes of header length, a JSON header, then all values without gaps.

Layout: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import os
from typing import Any

from transferpipe.errors import FileError, Problem
from transferpipe.files.archives.stored_zip import write_at
from transferpipe.save.writers.content import Content
from transferpipe.save.writers.fill import FilePlace, fill
from transferpipe.weights.spec import WeightSpec, numpy_dtype

# Written out, not turned around from the reader's: the proof reads what is written with it.
_DTYPES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "uint32": "U32", "int32": "I32",
    "uint64": "U64", "int64": "I64", "float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64",
    "complex64": "C64", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ",
}  # fmt: skip


def write_safetensors(descriptor: int, content: Content) -> None:
    """Write the weights under their names, in the catalog's order but for this: larger elements come first.

    That is the rule by which the safetensors library keeps every value at a multiple of its element's size, which
    readers that map the file rely on.

    Raises:
        FileError: the format knows no such dtype.
    """
    # Sorting is stable: within one size, the catalog's order stays.
    weights = sorted(content.catalog, key=lambda w: -numpy_dtype(w.dtype).itemsize)
    # transformers looks for "format" here, and has refused files without it.
    header: dict[str, Any] = {"__metadata__": {**content.metadata, "format": content.format}}
    at = 0
    offsets = []
    for weight in weights:
        header[weight.name] = _entry(weight, at)
        offsets.append(at)
        at += weight.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    # The format lets spaces follow the header, so that the values begin at a multiple of 8.
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    write_at(descriptor, len(text).to_bytes(8, "little") + text, 0)
    os.ftruncate(descriptor, start + at)
    # Weights of no bytes stand in the header alone.
    places = [FilePlace(w.name, start + o, w.nbytes) for w, o in zip(weights, offsets, strict=True) if w.nbytes]
    fill(descriptor, places, content)


def _entry(weight: WeightSpec, begin: int) -> dict[str, Any]:
    dtype = _DTYPES.get(weight.dtype)
    if dtype is None:
        fix = f"save as .npz, or cast it; safetensors knows {', '.join(_DTYPES)}"
        raise FileError(Problem(weight.name, f"is {weight.dtype}, which a safetensors file cannot hold", fix))
    return {"dtype": dtype, "shape": list(weight.shape), "data_offsets": [begin, begin + weight.nbytes]}
