"""Keras 1, 2 and 3 legacy HDF5: whole models (`.h5`, `.hdf5`) and the weights-only files of Keras 1 and 2."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem
from transferpipe.files.segment import Segment
from transferpipe.files.stamp import check_unchanged, file_stamp
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.hdf5.file import (
    close_with,
    open_hdf5,
    read_dataset,
    read_strings,
    walk_datasets,
)
from transferpipe.weights.formats.hdf5.stored import StoredDataset
from transferpipe.weights.formats.keras_legacy.keras_1 import is_of_theano, name_sequentials
from transferpipe.weights.formats.keras_legacy.lora import find_lora
from transferpipe.weights.formats.keras_legacy.names import LegacyWeight, name_all
from transferpipe.weights.keras.network import keras_network
from transferpipe.weights.spec import Catalog, WeightSpec

_MODEL_WEIGHTS, _MODEL_CONFIG = "model_weights", "model_config"
_ROOT_WEIGHTS = "top_level_model_weights"
_DETAILS = ("keras_version", "backend")
# Configurations of the largest published models have a few megabytes.
_MOST_CONFIG = 1 << 26
_AGAIN = "the file is damaged: download or save it again"


def open_h5(path: Path) -> FileSource:
    """Open a legacy Keras HDF5 file. The model is not built and no code of it runs.

    Raises:
        FileError: not readable, damaged, or without the lists of layers and weights that Keras writes.
        UnsafeError: the file points outside of itself.
        RecipeError: two weights got one name.
    """
    # Before it is opened: what changes in between is noticed at the first value.
    stamp = file_stamp(path)
    h5 = open_hdf5(path, str(path))
    try:
        file = _H5File(path, h5, dict(walk_datasets(h5, str(path))))
        return _source(file, lambda: check_unchanged(path, stamp))
    except BaseException:
        # The library keeps a file locked as long as it is open.
        h5.close()
        raise


@dataclass(frozen=True)
class _H5File:
    path: Path
    h5: h5py.File
    datasets: Mapping[str, StoredDataset]

    @property
    def label(self) -> str:
        return str(self.path)

    @property
    def top(self) -> str:
        """The group that the layers lie in, with a slash; empty in a weights-only file."""
        return f"{_MODEL_WEIGHTS}/" if isinstance(self.h5.get(_MODEL_WEIGHTS), h5py.Group) else ""

    def group(self, path: str) -> h5py.Group:
        """Return a group. All links of the file were found to be harmless before."""
        found = self.h5.get(path) if path else self.h5
        if not isinstance(found, h5py.Group):
            raise FileError(Problem(f"{self.label}: {path}", "is listed, but there is no such group", _AGAIN))
        return found

    def listed(self, group: h5py.Group, name: str) -> list[str]:
        """Return the strings of an attribute, which Keras cuts into `name0`, `name1`... where it is long."""
        whole = read_strings(group.id, name, f"{self.label}: {group.name}")
        if whole is not None:
            return whole
        found: list[str] = []
        part = 0
        # HDF5 keeps at most 64 kB in the header of an object, so that Keras cuts longer lists.
        while (strings := read_strings(group.id, f"{name}{part}", f"{self.label}: {group.name}")) is not None:
            found.extend(strings)
            part += 1
        return found

    def text(self, group: h5py.Group, name: str) -> str | None:
        """Return a single string, or None if there is no such attribute."""
        strings = read_strings(group.id, name, f"{self.label}: {group.name}")
        return strings[0] if strings else None


def _source(file: _H5File, check: Callable[[], None]) -> FileSource:
    config = _config(file)
    layers, held = _layer_weights(file, config)
    lora, details = find_lora([*_root_weights(file, config), *layers], held), _details(file)
    version, backend = (details.get(key) for key in _DETAILS)
    network = keras_network(config, held, version, backend) if config or details else None
    if network is not None and backend is None and is_of_theano(network, layers):
        network = replace(network, backend="theano")
    used = {s.where for s in (*lora.specs, *lora.parts)}
    # Whatever no layer lists, such as the optimizer's, stays visible as something else.
    others = [
        WeightSpec(where, dataset.shape, dataset.dtype, None, where)
        for where, dataset in file.datasets.items()
        if where not in used
    ]

    def read_stored(spec: WeightSpec) -> NDArray[Any]:
        return read_dataset(file.datasets[spec.where], file.label)

    def read_entry(spec: WeightSpec) -> NDArray[Any]:
        check()
        value, factors = read_stored(spec), lora.factors.get(spec.where)
        return factors.add_to(value, read_stored) if factors else value

    def locate_entry(spec: WeightSpec) -> Segment | None:
        check()
        offset = file.datasets[spec.where].offset
        # A kernel with factors is computed, and lies nowhere as it is.
        if offset is None or spec.where in lora.factors:
            return None
        return Segment(file.path, offset, spec.nbytes, spec.dtype)

    close_with(read_entry, file.h5)
    return FileSource(
        path=file.path,
        format="h5",
        catalog=Catalog(lora.specs, file.label, network, lora.unreadable, in_loading_order=True, assumed=lora.assumed),
        read_entry=read_entry,
        locate_entry=locate_entry,
        others=(*lora.parts, *others),
        config=config,
        details=details,
    )


def _details(file: _H5File) -> dict[str, str]:
    # Whole models note the version at the root, weights alone in their group.
    places = [file.group(file.top), file.h5]
    return {key: text for key in _DETAILS for place in reversed(places) if (text := file.text(place, key))}


def _config(file: _H5File) -> dict[str, Any] | None:
    text = file.text(file.h5, _MODEL_CONFIG)
    if text is None:
        return None
    where = f"{file.label}: {_MODEL_CONFIG}"
    if len(text) > _MOST_CONFIG:
        raise FileError(Problem(where, f"is larger than {_MOST_CONFIG:,} characters", _AGAIN))
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileError(Problem(where, f"is not JSON: {error}", _AGAIN)) from error
    if not isinstance(config, dict):
        raise FileError(Problem(where, f"is a {type(config).__name__} where a mapping belongs", _AGAIN))
    return name_sequentials(config, file.listed(file.group(file.top), "layer_names"))


def _entries(file: _H5File, group: str) -> Iterator[tuple[str, str, StoredDataset]]:
    """Yield the stored name, the place and the dataset of every weight that a group lists."""
    for stored in file.listed(file.group(group), "weight_names"):
        where = f"{group}/{stored}"
        # A list that names what is not there: such a file was cut, or put together by hand.
        if where not in file.datasets:
            raise FileError(Problem(f"{file.label}: {where}", "is listed, but there is no such dataset", _AGAIN))
        yield stored, where, file.datasets[where]


def _root_weights(file: _H5File, config: Mapping[str, Any] | None) -> list[WeightSpec]:
    """Return the weights of the model itself, which only a subclassed model has."""
    if not isinstance(file.h5.get(f"{file.top}{_ROOT_WEIGHTS}"), h5py.Group):
        return []
    layer_class = (config or {}).get("class_name")
    specs = []
    for stored, where, dataset in _entries(file, f"{file.top}{_ROOT_WEIGHTS}"):
        own_name = LegacyWeight("", stored, dataset.shape).own_name
        layer_class = layer_class if isinstance(layer_class, str) else None
        specs.append(WeightSpec(own_name, dataset.shape, dataset.dtype, layer_class, where))
    return specs


def _layer_weights(
    file: _H5File, config: Mapping[str, Any] | None
) -> tuple[list[WeightSpec], Mapping[str, Mapping[str, Any]]]:
    """Return the weights of all layers, and the serialised layers by their readable names.

    The weights are in the order of the layers, and in a nested model in that of its configuration: the file itself
    lists a nested model's trainable weights first, so its order would change with what is frozen.
    """
    layers = file.listed(file.group(file.top), "layer_names")
    found = [(layer, *entry) for layer in layers for entry in _entries(file, f"{file.top}{layer}")]
    try:
        listed = [LegacyWeight(layer, stored, d.shape, d.dtype) for layer, stored, _, d in found]
        named, held = name_all(listed, config)
    except (ValueError, TypeError, RecursionError) as error:
        raise FileError(Problem(f"{file.label}: {_MODEL_CONFIG}", f"makes no sense: {error}", _AGAIN)) from error
    places = {layer: k for k, layer in enumerate(layers)}
    order = sorted(range(len(found)), key=lambda k: (places[found[k][0]], named[k].place))
    specs = [
        WeightSpec(named[k].name, found[k][3].shape, found[k][3].dtype, named[k].layer_class, found[k][2])
        for k in order
    ]
    return specs, held
