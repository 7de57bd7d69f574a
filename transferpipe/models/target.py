"""The target of a run: a model that was built, or a file whose architecture and weights are the starting point."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from numpy.typing import NDArray

from transferpipe.errors import Problem, RecipeError
from transferpipe.files.segment import Segment
from transferpipe.models.building.fetched import Fetched
from transferpipe.models.keras_private import get_flag, has_value, own_variables, set_flag
from transferpipe.models.loading import load_values
from transferpipe.models.state.lookups import LearnedState, put_into_config, special_terms
from transferpipe.models.structure import (
    SETTINGS,
    configs_by_layer,
    file_structure,
    find_shared_layers,
    is_recorded,
    names_by_path,
    with_settings,
)
from transferpipe.models.walk import (
    Recorded,
    Walked,
    has_assets,
    has_own_hooks,
    keras_version,
    loading_order,
    model_config,
    walk,
)
from transferpipe.planning.structure import LayerState, TargetStructure
from transferpipe.recipe.model import RepeatedLayers
from transferpipe.weights.file_source import FileSource, SavedGroup
from transferpipe.weights.keras.config import Config
from transferpipe.weights.name import WeightName
from transferpipe.weights.spec import Catalog


class Target(Protocol):
    """What a run starts from."""

    @property
    def structure(self) -> TargetStructure:
        """What the planner needs to know."""

    @property
    def groups(self) -> tuple[SavedGroup, ...]:
        """The Keras layout of its weights; empty if it has none."""

    @property
    def keras_version(self) -> str:
        """The version of Keras that the saved model will name."""

    @property
    def shared_layers(self) -> tuple[str, ...]:
        """The names of layers that several of its models have."""

    def read(self, name: str) -> NDArray[Any]:
        """Return the value that a kept weight has."""

    def locate(self, name: str) -> Segment | None:
        """Return where that value lies in a file as it is in memory; None if it does not."""

    def config(self, frozen: Collection[str]) -> str | None:
        """Return config.json with the layers called `frozen` switched off, or None if there is no architecture."""


@dataclass(frozen=True)
class FileTarget:
    """A file as the target. Keras is not needed.

    Attributes:
        source: the file.
        learned: what its lookup layers take from elsewhere, by their names.
        dtypes: the weights that are to have another dtype than in the file.
        repeats: which layers of the file on the disk follow one another in it; empty where it is that file.
        no_model: why the repeated layers are not a model, where the file on the disk is one.
        off: layers that Keras loads switched off and whose flags the configuration does not record.
    """

    source: FileSource
    learned: Mapping[str, LearnedState] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)
    repeats: tuple[RepeatedLayers, ...] = ()
    no_model: str = ""
    off: frozenset[str] = frozenset()

    @property
    def groups(self) -> tuple[SavedGroup, ...]:
        """The layout of the file itself."""
        return self.source.groups

    @property
    def keras_version(self) -> str:
        """The version that wrote the file."""
        return self.source.details.get("keras_version", "3")

    @cached_property
    def shared_layers(self) -> tuple[str, ...]:
        """The names of layers that several of its models have."""
        return find_shared_layers(self.source.config)

    @cached_property
    def structure(self) -> TargetStructure:
        """What the file tells of its weights and layers."""
        return _recast(file_structure(self.source).switched(self.off), self.dtypes)

    def read(self, name: str) -> NDArray[Any]:
        """Return the value in the file."""
        return self.source.read(name)

    def locate(self, name: str) -> Segment | None:
        """Return where the value lies in the file."""
        return self.source.locate(name)

    def config(self, frozen: Collection[str]) -> str | None:
        """Return the file's configuration with the flags of `frozen` layers switched off."""
        if self.source.config is None:
            return None
        if not frozen and not self.learned:
            return json.dumps(self.source.config)
        return json.dumps(self._find_changed(frozen)[0])

    @property
    def learned_assets(self) -> dict[str, bytes | None]:
        """The members of the archive that hold what lookup layers take; None where there is none any more."""
        if not self.learned or self.source.config is None:
            return {}
        return self._find_changed(())[1]

    def _find_changed(self, frozen: Collection[str]) -> tuple[Config, dict[str, bytes | None]]:
        assert self.source.config is not None
        config = copy.deepcopy(dict(self.source.config))
        for name, found in configs_by_layer(self.source.groups, config).items():
            if name in frozen and found is not None:
                found["config"]["trainable"] = False
        assets: dict[str, bytes | None] = {}
        places = {name: path for path, name in names_by_path(self.groups).items()}
        paths = {group.path for group in self.groups}
        for name, found in configs_by_layer(self.source.groups, config).items():
            if name not in self.learned or found is None:
                continue
            state, layer_class = self.learned[name], str(found["class_name"])
            inside = put_into_config(state, layer_class, found["config"])
            lines = (*special_terms(layer_class, found["config"]), *state.values)
            text = "\n".join(str(term) for term in lines).encode() if inside else None
            own = places[name]  # Keras lets a TextVectorization write its vocabulary twice
            for place in (own, *(p for p in (f"{own}/_lookup_layer",) if p in paths)):
                assets[f"assets/{place}/vocabulary.txt"] = text
        return config, assets


def _recast(structure: TargetStructure, dtypes: Mapping[str, str]) -> TargetStructure:
    if not dtypes:
        return structure
    weights = (dataclasses.replace(w, dtype=dtypes.get(w.name, w.dtype)) for w in structure.catalog)
    return dataclasses.replace(structure, catalog=dataclasses.replace(structure.catalog, weights=tuple(weights)))


def is_worth_loading(target: Target) -> bool:
    """Tell whether what Keras loads need not be what the file holds.

    That is so where a variable stands in several places, where a class has hooks of its own, and where layers keep
    files beside their weights: lookups, whose vocabularies Keras checks only on loading. A configuration of other
    layers than its file's has never been built. That of a layer made of others, such as an attention, does not say that
    these are quantized; and that of a layer of several models is often made twice.
    """
    if target.shared_layers:
        return True
    if isinstance(target, FileTarget):
        is_deeper = bool(target.repeats and target.groups)
        return is_deeper or bool(target.source.catalog.doubles or target.source.assets or target.learned)
    assert isinstance(target, ModelTarget)
    return bool(target.structure.catalog.doubles) or target.keeps_files or target.loads_otherwise or target.is_quantized


@dataclass
class ModelTarget:
    """A built model as the target.

    Attributes:
        model: the `keras.Model`.
        label: what messages call it.
        keras_version: the version of Keras that made it.
        baked: the variables that it computes with and does not hold.
        fetched: the files that Keras fetched for it.
        dtypes: the weights that are to be written with another dtype than theirs.
        recorded: what was recorded of it while it was built.
    """

    model: Any = field(repr=False)
    label: str
    keras_version: str = field(default_factory=keras_version)
    baked: tuple[str, ...] = ()
    fetched: tuple[Fetched, ...] = ()
    dtypes: Mapping[str, str] = field(default_factory=dict)
    recorded: Sequence[Recorded] | None = field(default=None, repr=False)
    _written: dict[frozenset[str], str] = field(default_factory=dict, repr=False)

    @property
    def is_light(self) -> bool:
        """Whether its weights are still to be drawn; an export draws them all."""
        return not all(has_value(variable) for variable in self.model.variables)

    @property
    def origin(self) -> FileSource | None:
        """The file of whose configuration it was built; None where a builder made it."""
        return None

    @property
    def optimizer(self) -> Any:
        """The optimizer that it is compiled with; None if it is not."""
        return getattr(self.model, "optimizer", None)

    @property
    def keeps_files(self) -> bool:
        """Whether a layer saves files beside its weights, such as a vocabulary."""
        return has_assets(self.model)

    @property
    def loads_otherwise(self) -> bool:
        """Whether a layer saves or loads in a way that is not Keras's own."""
        return has_own_hooks(self.model)

    @property
    def is_quantized(self) -> bool:
        """Whether Keras quantized a layer."""
        return any(getattr(layer, "quantization_mode", None) for layer in self.walked.layers.values())

    @property
    def lookups(self) -> tuple[Any, ...]:
        """The layers that have a vocabulary."""
        return tuple(layer for layer in self.walked.layers.values() if hasattr(layer, "get_vocabulary"))

    @cached_property
    def shared_layers(self) -> tuple[str, ...]:
        """The names of layers that several of its models have."""
        return find_shared_layers(self._recorded)

    @cached_property
    def walked(self) -> Walked:
        """The model as Keras would save it."""
        return walk(self.model, self.label, self.recorded)

    @property
    def groups(self) -> tuple[SavedGroup, ...]:
        """The layout that Keras would give the file."""
        return self.walked.groups

    @cached_property
    def catalog(self) -> Catalog:
        """Its weights, with what it tells of its layers."""
        from transferpipe.models.network import live_network

        layers = {name: layer for name, layer in self.walked.layers.items() if name}
        network = live_network(self._recorded, configs_by_layer(self.groups, self._recorded), layers)
        return dataclasses.replace(self.walked.catalog, network=network)

    @cached_property
    def structure(self) -> TargetStructure:
        """The model's weights and layers."""
        import keras

        recorded = configs_by_layer(self.groups, self._recorded)
        layers = []
        for name, layer in sorted(self.walked.layers.items(), key=lambda item: (item[0] != "", item[0].count("/"))):
            is_norm = isinstance(layer, keras.layers.BatchNormalization)
            layer_class = "BatchNormalization" if is_norm else type(layer).__name__
            state = LayerState(name, layer_class, bool(layer.trainable), is_recorded(recorded.get(name)))
            settings = {key: getattr(layer, key, None) for key in SETTINGS}
            layers.append(with_settings(state, settings))
        walked = self.walked
        order = loading_order(self.model, walked)
        off = {state.name for state in layers if not state.trainable}
        # What several layers hold, one of which is off.
        doubled = {
            double.name
            for double in walked.catalog.doubles
            if any(WeightName(name).layer in off for name in walked.catalog.names_of(double.name))
        }
        structure = TargetStructure(
            self.label,
            self.catalog,
            tuple(layers),
            walked.trainable,
            walked.fixed,
            walked.switched_off,
            frozenset(n for n in walked.trainable if n in doubled and getattr(walked.values[n], "trainable", False)),
            loadable=walked.loadable,
            trained_beside=frozenset(n for n, layer in walked.layers.items() if getattr(layer, "lora_enabled", False)),
            loading_order=order,
            loading_names={name: walked.layers[name].name for name in order},
        )
        return _recast(structure, self.dtypes)

    @cached_property
    def _recorded(self) -> Config | None:
        try:
            return dict(json.loads(self.config(())))
        except RecipeError:  # a user's own get_config may fail in any way; then no flag is recorded
            return None

    def read(self, name: str) -> NDArray[Any]:
        """Return the variable's value."""
        return self.walked.read(name)

    def locate(self, _: str) -> None:
        """Return None: the values lie in memory."""

    def config(self, frozen: Collection[str]) -> str:
        """Return the configuration that the model has while the layers called `frozen` are switched off."""
        key = frozenset(frozen)
        if key not in self._written:
            self._written[key] = self._write_config(key)
        return self._written[key]

    def _write_config(self, frozen: Collection[str]) -> str:
        try:
            with self.frozen(frozen):
                return model_config(self.model)
        except Exception as error:
            what = f"its configuration cannot be written: {type(error).__name__}: {error}"
            fix = "save weights only (.weights.h5, .safetensors, .npz)"
            if isinstance(error, NotImplementedError):  # a class whose __init__ takes arguments that nothing records
                fix = f"give its classes a get_config, or {fix}"
            raise RecipeError(Problem(self.label, what, fix)) from error

    def forget_config(self) -> None:
        """Write the configuration anew when it is asked for next: the model has changed."""
        self._written.clear()

    def frozen(self, names: Collection[str]) -> _Frozen:
        """Return a context in which the layers called `names` are switched off; `commit` makes it last."""
        return _Frozen(self.walked.layers, names)

    def assign(self, values: Mapping[str, NDArray[Any]]) -> Callable[[], None]:
        """Give the weights called so these `values`, as Keras would on loading them, and return what undoes it.

        If anything fails, all is undone before the error goes on.
        """
        return load_values(self.walked, values)


class _Frozen:
    """Switches layers off, outermost first, and puts every flag back on leaving, unless `commit` was called."""

    def __init__(self, layers: Mapping[str, Any], names: Collection[str]) -> None:
        self._layers, self._names, self._keep = layers, names, False
        self._flags: list[tuple[Any, bool]] = []
        self._variables: list[tuple[Any, bool]] = []

    def commit(self) -> None:
        """Keep the layers switched off after leaving."""
        self._keep = True

    def __enter__(self) -> _Frozen:
        for layer in self._layers.values():
            self._flags.append((layer, get_flag(layer)))
            self._variables += [(v, v.trainable) for v in itertools.chain(*own_variables(layer))]
        for name in self._names:
            self._layers[name].trainable = False
        return self

    def __exit__(self, *_: object) -> None:
        if self._keep:
            return
        # Setting `layer.trainable` reaches everything below, so the flags are put back one by one, without recursion.
        for layer, flag in self._flags:
            set_flag(layer, flag)
        for variable, flag in self._variables:
            variable.trainable = flag
