"""TensorFlow.js: `model.json` with the model's topology and a manifest of the files that hold its weights."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem
from transferpipe.files.inside import file_inside
from transferpipe.files.json_text import read_mapping
from transferpipe.files.segment import Segment
from transferpipe.text.listing import listed
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.keras_legacy.ungrouped import UngroupedWeight, name_ungrouped
from transferpipe.weights.formats.tfjs.manifest import ManifestEntry, read_manifest, unpack
from transferpipe.weights.keras.config import Config, is_layer_config
from transferpipe.weights.keras.network import keras_network
from transferpipe.weights.spec import Catalog, WeightSpec, numpy_dtype

MODEL = "model.json"
_MOST_LISTED = 10  # vocabularies, mostly: enough to see what kind they are
_DETAILS = ("format", "generatedBy", "convertedBy")


def open_tfjs(path: Path) -> FileSource:
    """Open a TensorFlow.js layers or graph model by its `model.json` or by the folder that holds it.

    Weights of a layers model get the names that they have in the Keras model; those of a graph model keep theirs.

    Raises:
        FileError: a file is missing or damaged, or the manifest does not describe the files.
        RecipeError: two weights got one name.
        UnsafeError: a file outside of the folder is named, or a key stands twice.
    """
    model = file_inside(path, MODEL, str(path)) if path.is_dir() else path
    data = read_mapping(model)
    entries = read_manifest(model, data.get("weightsManifest"))
    texts = [e.name for e in entries if e.dtype == "string"]
    kept = [e for e in entries if e.dtype != "string"]
    config = _config(data.get("modelTopology"))
    is_graph = config is None and isinstance(data.get("modelTopology"), dict)
    by_place = {f"{number}:{entry.name}": entry for number, entry in enumerate(kept)}
    weights = {place: entry for place, entry in by_place.items() if not entry.is_state}
    try:
        specs = list(_as_they_are(weights) if is_graph else _as_in_keras(weights, config))
    except (ValueError, TypeError, RecursionError) as error:
        raise FileError(Problem(f"{model}: modelTopology", f"makes no sense: {error}", "convert it again")) from error
    details = _details(data, texts)
    version, backend = (_text(data.get("modelTopology"), key) for key in ("keras_version", "backend"))
    network = keras_network(config, {}, version, backend) if config else None
    return FileSource(
        path=path,
        format="tfjs",
        catalog=Catalog(tuple(specs), str(path), network),
        read_entry=lambda spec: _read(by_place[spec.where]),
        locate_entry=lambda spec: _locate(by_place[spec.where]),
        others=tuple(_spec(e.name, e, None, place) for place, e in by_place.items() if e.is_state),
        config=config,
        details=details,
        parts=(model, *dict.fromkeys(file for e in entries for file in e.files.paths)),
    )


def _config(topology: object) -> Config | None:
    """Return the Keras configuration of a layers model; None for a graph model, which has none."""
    inner = topology.get("model_config", topology) if isinstance(topology, dict) else None
    if not isinstance(inner, dict) or "class_name" not in inner:
        return None
    if isinstance(inner.get("config"), list):  # a Sequential, as Keras 1 and TensorFlow.js itself write it
        return {**inner, "config": {"layers": inner["config"]}}
    return inner if is_layer_config(inner) else None


def _text(topology: object, key: str) -> str | None:
    value = topology.get(key) if isinstance(topology, dict) else None
    return value if isinstance(value, str) else None


def _as_they_are(weights: Mapping[str, ManifestEntry]) -> Iterator[WeightSpec]:
    for place, entry in weights.items():
        yield _spec(entry.name, entry, None, place)


def _as_in_keras(weights: Mapping[str, ManifestEntry], config: Config | None) -> Iterator[WeightSpec]:
    """Yield the weights in the order of the model. The manifest has the names with which the variables were born."""
    entries = list(weights.items())
    for k, name, layer_class in name_ungrouped([UngroupedWeight(e.name, e.shape) for e in weights.values()], config):
        yield _spec(name, entries[k][1], layer_class, entries[k][0])


def _spec(name: str, entry: ManifestEntry, layer_class: str | None, place: str) -> WeightSpec:
    return WeightSpec(name, entry.shape, entry.dtype, layer_class, place)


def _details(data: Mapping[str, Any], texts: Sequence[str]) -> dict[str, str]:
    found = {key: str(data[key])[:80] for key in _DETAILS if data.get(key)}
    return found | ({"texts, so not read": listed(texts, _MOST_LISTED)} if texts else {})


def _read(entry: ManifestEntry) -> NDArray[Any]:
    stored = numpy_dtype(entry.packing.dtype if entry.packing else "uint8" if entry.dtype == "bool" else entry.dtype)
    values = np.frombuffer(entry.files.read(entry.offset, entry.nbytes), stored.newbyteorder("<"))
    return unpack(values, entry.packing, entry.dtype).reshape(entry.shape)


def _locate(entry: ManifestEntry) -> Segment | None:
    if entry.packing or entry.dtype == "bool" or sys.byteorder != "little":
        return None
    piece = entry.files.piece(entry.offset, entry.nbytes)
    return Segment(piece[0], piece[1], entry.nbytes, entry.dtype) if piece else None
