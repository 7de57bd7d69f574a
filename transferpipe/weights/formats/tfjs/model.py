"""TensorFlow.js: `model.json` with the model's topology and a manifest of the files that hold its weights."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem
from transferpipe.files.inside import file_inside
from transferpipe.files.json_text import read_list, read_mapping
from transferpipe.files.segment import Segment
from transferpipe.text.listing import listed
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.format import HEAD, Names
from transferpipe.weights.formats.keras_legacy.ungrouped import UngroupedWeight, name_ungrouped
from transferpipe.weights.formats.tensorflow.constant_names import name_constants, weights_among
from transferpipe.weights.formats.tensorflow.constant_roles import GraphOperation
from transferpipe.weights.formats.tfjs.manifest import ManifestEntry, read_manifest, unpack
from transferpipe.weights.keras.config import Config, is_layer_config
from transferpipe.weights.keras.network import keras_network
from transferpipe.weights.spec import Catalog, WeightSpec, numpy_dtype

MODEL, MANIFEST = "model.json", "weights_manifest.json"
_MOST_LISTED = 10  # vocabularies, mostly: enough to see what kind they are
_DETAILS = ("format", "generatedBy", "convertedBy")


def open_tfjs(path: Path) -> FileSource:
    """Open a TensorFlow.js layers or graph model by its `model.json`, its weights manifest alone, or its folder.

    Weights of a layers model get the names that they have in the Keras model; those of a graph model go by the layer
    and the role that its operations tell, and their own names stay second ones. A manifest alone tells neither: what
    its names say counts.

    Raises:
        FileError: a file is missing or damaged, or the manifest does not describe the files.
        RecipeError: two weights got one name.
        UnsafeError: a file outside of the folder is named, or a key stands twice.
    """
    model = _model_file(path) if path.is_dir() else path
    with model.open("rb") as file:
        is_alone = file.read(HEAD).lstrip()[:1] == b"["
    data = {"weightsManifest": read_list(model)} if is_alone else read_mapping(model)
    entries = read_manifest(model, data.get("weightsManifest"))
    texts = [e.name for e in entries if e.dtype == "string"]
    kept = [e for e in entries if e.dtype != "string"]
    config = _config(data.get("modelTopology"))
    graph = data.get("modelTopology") if config is None else None
    operations, shapes = _operations(graph), {e.name: e.shape for e in kept if not e.is_state}
    called = name_constants(shapes, operations)
    is_graph = isinstance(graph, dict) or (is_alone and any(file != name for file, name in called.items()))
    by_place = {f"{number}:{entry.name}": entry for number, entry in enumerate(kept)}
    weights = {place: entry for place, entry in by_place.items() if not entry.is_state}
    try:
        specs = list(_as_called(weights, called) if is_graph else _as_in_keras(weights, config))
    except (ValueError, TypeError, RecursionError) as error:
        raise FileError(Problem(f"{model}: modelTopology", f"makes no sense: {error}", "convert it again")) from error
    details = _details(data, texts)
    version, backend = (_text(data.get("modelTopology"), key) for key in ("keras_version", "backend"))
    network = keras_network(config, {}, version, backend) if config else None
    return FileSource(
        path=path,
        format="tfjs",
        catalog=Catalog(
            tuple(specs),
            str(path),
            network,
            operands=frozenset(called[n] for n in _operands(weights.values(), operations)) if is_graph else frozenset(),
            file_names=_second_names(called) if is_graph else {},
        ),
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


def is_model_folder(_: Path, names: Names) -> bool:
    """Tell whether a folder holds a model, or the manifest of one."""
    return MODEL in names or sum(name.endswith(MANIFEST) for name in names) == 1


def _model_file(folder: Path) -> Path:
    manifests = [entry.name for entry in folder.iterdir() if entry.name.endswith(MANIFEST)]
    is_alone = not (folder / MODEL).exists() and len(manifests) == 1
    return file_inside(folder, manifests[0] if is_alone else MODEL, str(folder))


def _operations(topology: object) -> list[GraphOperation]:
    """Return the nodes of a graph model; none where they are not written as such."""
    found: list[GraphOperation] = []
    nodes = topology.get("node") if isinstance(topology, dict) else None
    for node in nodes if isinstance(nodes, list) else ():
        name, op, inputs = (node.get(k) for k in ("name", "op", "input")) if isinstance(node, dict) else (None,) * 3
        if isinstance(name, str) and isinstance(op, str):
            taken = inputs if isinstance(inputs, list) else []
            found.append(GraphOperation(name, op, tuple(text for text in taken if isinstance(text, str))))
    return found


def _as_called(weights: Mapping[str, ManifestEntry], called: Mapping[str, str]) -> Iterator[WeightSpec]:
    for place, entry in weights.items():
        yield _spec(called[entry.name], entry, None, place)


def _operands(entries: Iterable[ManifestEntry], operations: Sequence[GraphOperation]) -> Iterator[str]:
    """Yield the names of whole numbers and single ones that no operation takes as a weight: shapes, axes, factors."""
    entries = list(entries)
    taken = weights_among({e.name: e.shape for e in entries}, operations) if operations else {e.name for e in entries}
    for entry in entries:
        if entry.name not in taken and (entry.dtype == "int32" or math.prod(entry.shape) <= 1):
            yield entry.name


def _second_names(called: Mapping[str, str]) -> dict[str, str]:
    taken = set(called.values())
    return {file: name for file, name in called.items() if file != name and file not in taken}


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
    # A truth value takes a byte (`decodeWeights` in tfjs-core/src/io/io_utils.ts).
    stored = numpy_dtype(entry.packing.dtype if entry.packing else "uint8" if entry.dtype == "bool" else entry.dtype)
    values = np.frombuffer(entry.files.read(entry.offset, entry.nbytes), stored.newbyteorder("<"))
    return unpack(values, entry.packing, entry.dtype).reshape(entry.shape)


def _locate(entry: ManifestEntry) -> Segment | None:
    if entry.packing or entry.dtype == "bool" or sys.byteorder != "little":
        return None
    piece = entry.files.piece(entry.offset, entry.nbytes)
    return Segment(piece[0], piece[1], entry.nbytes, entry.dtype) if piece else None
