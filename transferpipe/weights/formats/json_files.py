"""Telling the format of a JSON file that lists the files of a model, or describes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transferpipe.errors import FileError, Problem
from transferpipe.weights.formats.json_text import read_mapping
from transferpipe.weights.formats.keras_shards import is_shard_list

Data = Mapping[str, Any]


def _is_index_of(suffix: str) -> Callable[[Data], bool]:
    def fits(data: Data) -> bool:
        places = data.get("weight_map")
        return isinstance(places, dict) and all(str(file).endswith(suffix) for file in places.values())

    return fits


# Name of the format: what the mapping in the file is like. The first that fits is taken.
JSON_FILES: Mapping[str, Callable[[Data], bool]] = {
    "tfjs": lambda data: "weightsManifest" in data,
    "weights_json": is_shard_list,
    "safetensors_index": _is_index_of(".safetensors"),
    "torch_index": _is_index_of(".bin"),
}


def detect_json(path: Path, listed: str) -> str:
    """Return the name of the format of the JSON file at `path`.

    Args:
        path: the file.
        listed: the formats there are, for the message.

    Raises:
        FileError: not JSON, or a file of settings or the like, which holds no weights.
        UnsafeError: a key stands there twice.
    """
    data = read_mapping(path)
    for format, fits in JSON_FILES.items():
        if fits(data):
            return format
    raise FileError(
        Problem(str(path), "is JSON that lists no weights", f"name the file or folder of the weights; {listed}")
    )
