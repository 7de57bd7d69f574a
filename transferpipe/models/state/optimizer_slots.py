"""What an optimizer's arrays are: which slot of which weight each of them is, in the order in which Keras saves them.

Files number the arrays, and the order goes by `model.trainable_variables`, which another model of the same layers need
not share. So Keras builds the optimizer of the file's configuration on the file's model, and every array is known by
the list of the optimizer that it stands in: Keras keeps one list a slot (`_momentums`, `_velocities`), parallel to the
variables that it was built with (keras/src/optimizers/base_optimizer.py, `_get_variable_index`).
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from transferpipe.errors import Problem, RecipeError
from transferpipe.models.building.build import import_keras
from transferpipe.models.keras_private import chooser_of, variables_trained_by
from transferpipe.models.state.optimizer_paths import paths_before_saving, stand_in
from transferpipe.models.walk import record, to_numpy, walk
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.spec import Catalog, WeightSpec

if TYPE_CHECKING:
    import h5py

WHERE = "optimizer"
_ON_TORCH = "keras.src.backend.torch.optimizers."
_LISTS_OF_ITS_OWN = ("_variables", "_trainable_variables")
_CALLED = {"_model_variables_moving_average": "average", "_accumulated_gradients": "gradient_accumulator"}
_HEADS = (WHERE, "optimizer_weights")
_WEIGHTS_ALONE = ("weights_h5", "weights_json")
_KERAS_FORMATS = ("keras", "h5", *_WEIGHTS_ALONE)


@dataclass(frozen=True)
class Slot:
    """One array of an optimizer.

    Attributes:
        place: where it stands in a Keras file: ``optimizer/vars/2``.
        kind: what it is: ``momentum``, ``average``, ``iterations``.
        weight: the name of the weight that it belongs to; empty for what belongs to all of them.
        shape: its shape.
        dtype: its dtype.
        variable: the Keras variable.
        factor: what turns the file's number into Keras's.
        keeper: the optimizer that keeps it; None where Keras saves it, and `place` is then where.
    """

    place: str
    kind: str
    weight: str
    shape: tuple[int, ...]
    dtype: str
    variable: Any = field(repr=False, compare=False)
    factor: float = 1.0
    keeper: Any = field(default=None, repr=False, compare=False)

    def value(self) -> NDArray[Any]:
        """Return what the variable holds."""
        return to_numpy(self.variable)


@dataclass(frozen=True)
class Slots:
    """The arrays of one optimizer.

    Attributes:
        optimizer: its class, such as ``Adam``; those inside a LossScaleOptimizer or MultiOptimizer are behind slashes.
        slots: its arrays in Keras's order, and behind them those that Keras does not save.
        averages: whether it keeps moving averages of the weights.
    """

    optimizer: str
    slots: tuple[Slot, ...]
    averages: bool = False


def optimizer_of(source: FileSource) -> tuple[WeightSpec, ...]:
    """Return what a file of Keras's or TensorFlow's holds of an optimizer."""
    if source.optimizer is not None:
        held = {slot.where for slot in source.optimizer.slots}
        return tuple(s for s in source.others if s.where in held)
    is_keras = source.format in _KERAS_FORMATS
    return tuple(s for s in source.others if s.where.partition("/")[0] in _HEADS) if is_keras else ()


def read_slots(optimizer: Any, names: Mapping[int, str]) -> Slots:
    """Return the arrays of an optimizer that is built.

    Args:
        optimizer: the Keras optimizer.
        names: the names of weights by the identity of their variables.
    """
    labels = {id(kept.variable): kept for kept in _list_attributes(optimizer, names)}
    slots: list[Slot] = []
    for group in record(optimizer, WHERE):
        # Optimizers hand over the values of `variables` under their numbers.
        held = dict(zip((key for key, _ in group.entries), getattr(group.owner, "variables", ()), strict=False))
        for key, value in group.entries:
            variable = held.get(key, value)
            # A LossScaleOptimizer saves the arrays of the inner one with its own, and once more below itself.
            kept = labels.get(id(variable))
            kind, weight = (kept.kind, kept.weight) if kept else (key, "")
            slots.append(_slot(f"{group.path}/vars/{key}", kind, weight, variable))
    saved = {id(slot.variable) for slot in slots}
    others = [kept for kept in labels.values() if id(kept.variable) not in saved]
    slots += [_slot(kept.place, kept.kind, kept.weight, kept.variable, kept.keeper) for kept in others]
    whole = [type(part).__name__ for part in _parts(optimizer)]
    return Slots("/".join(whole), tuple(slots), any(getattr(part, "use_ema", False) for part in _parts(optimizer)))


def _slot(place: str, kind: str, weight: str, variable: Any, keeper: Any = None) -> Slot:
    import keras

    shape, dtype = tuple(int(n) for n in variable.shape), keras.backend.standardize_dtype(variable.dtype)
    return Slot(place, kind, weight, shape, str(dtype), variable, keeper=keeper)


def _parts(optimizer: Any) -> Iterator[Any]:
    yield from (part for _, part in _list_parts(optimizer))


def _list_parts(optimizer: Any) -> Iterator[tuple[str, Any]]:
    """Yield the optimizers that one consists of, itself first, with where each is held."""
    place = WHERE
    while optimizer is not None:
        yield place, optimizer
        for number, part in enumerate(getattr(optimizer, "optimizers", ())):  # of a MultiOptimizer
            yield f"{place}/optimizers[{number}]", part
        place, optimizer = f"{place}/inner_optimizer", getattr(optimizer, "inner_optimizer", None)


@dataclass(frozen=True)
class _Kept:
    """A variable of an optimizer: what it is, whose slot, and where in Python it is held."""

    variable: Any
    kind: str
    weight: str
    place: str
    keeper: Any


def _list_attributes(optimizer: Any, names: Mapping[int, str]) -> Iterator[_Kept]:
    """Yield what an optimizer and those inside of it keep in their attributes, whether Keras saves it or not."""
    import keras

    several = any(hasattr(part, "optimizers") for part in _parts(optimizer))
    for depth, (place, part) in enumerate(_list_parts(optimizer)):
        owners = variables_trained_by(part) if part.built else []
        # What one of several optimizers keeps of a weight is nothing to another class that a weight goes to.
        of = f"{type(part).__name__} " if several else ""
        for attribute, value in vars(part).items():
            if isinstance(value, keras.Variable):
                yield _Kept(value, "inner " * depth + attribute.strip("_"), "", f"{place}/{attribute}", part)
            elif isinstance(value, list) and attribute not in _LISTS_OF_ITS_OWN and len(value) == len(owners):
                for number, (owner, slot) in enumerate(zip(owners, value, strict=True)):
                    if isinstance(slot, keras.Variable):
                        kind, weight = of + _kind(slot, owner, attribute), names.get(id(owner), owner.path)
                        yield _Kept(slot, kind, weight, f"{place}/{attribute}[{number}]", part)


def _kind(slot: Any, owner: Any, attribute: str) -> str:
    prefix = f"{owner.path.replace('/', '_')}_"
    known = slot.name.removeprefix(prefix) if slot.name.startswith(prefix) else attribute.strip("_")
    return _CALLED.get(attribute, known)


def build_slots(optimizer: Any, variables: list[Any], names: Mapping[int, str]) -> Slots:
    """Return the arrays that an optimizer of this configuration has once it is built on `variables`; it stays as it is.

    Args:
        optimizer: the Keras optimizer, or its serialised configuration.
        variables: the trainable variables of the model.
        names: the names of weights by the identity of their variables.
    """
    fresh = _make_optimizer(optimizer, {}) if isinstance(optimizer, Mapping) else _make_like(optimizer, variables)
    fresh.build(variables)
    return read_slots(fresh, names)


def _make_like(optimizer: Any, variables: Collection[Any]) -> Any:
    """Return an optimizer of the same configuration that is not built."""
    keras = import_keras()
    inner = getattr(optimizer, "inner_optimizer", None)
    if inner is not None and _is_chosen_by_function(inner):
        settings = {name: getattr(optimizer, name) for name in ("initial_scale", "dynamic_growth_steps")}
        return type(optimizer)(_make_like(inner, variables), **settings)
    if not _is_chosen_by_function(optimizer):
        return _make_optimizer(keras.optimizers.serialize(optimizer), {type(optimizer).__name__: type(optimizer)})
    # A function has no configuration, so it is asked what it chooses, the same optimizers again or new ones at each
    # call, and those are made anew.
    known = {id(v): part for part in optimizer.optimizers if part.built for v in variables_trained_by(part)}
    chosen = {id(v): known.get(id(v)) or chooser_of(optimizer)(v) for v in variables}
    made = {id(part): _make_like(part, variables) for part in chosen.values()}
    return type(optimizer)(lambda variable: made[id(chosen[id(variable)])])


def _is_chosen_by_function(optimizer: Any) -> bool:
    """Tell whether a MultiOptimizer chooses by a function, which cannot be saved, rather than by a map."""
    chooser = chooser_of(optimizer)
    return chooser is not None and not hasattr(chooser, "get_config")


def _make_optimizer(config: Mapping[str, Any], own: Mapping[str, type]) -> Any:
    """Return the optimizer of a serialised configuration."""
    keras = import_keras()
    config = _of_any_backend(copy.deepcopy(dict(config)))  # which Keras empties
    # Keras 3.15 does not know all that it exports by a short name: Lamb is read by its module.
    if isinstance(getattr(keras.optimizers, str(config["class_name"]), None), type):
        config = {"module": "keras.optimizers", "registered_name": None, **config}
    read = keras.saving.deserialize_keras_object if config.get("module") else keras.optimizers.deserialize
    return read(config, custom_objects=dict(own))


def _of_any_backend(config: Any) -> Any:
    """Return a configuration with Keras's own classes where Keras on torch named those of its backend.

    They keep the same arrays, and cannot be imported without torch.
    """
    if isinstance(config, list | tuple):
        return type(config)(_of_any_backend(item) for item in config)
    if not isinstance(config, dict):
        return config
    found = {key: _of_any_backend(value) for key, value in config.items()}
    if str(found.get("module")).startswith(_ON_TORCH):
        found |= {"module": "keras.optimizers", "registered_name": None}
    return found


def slots_of_file(
    source: FileSource, frozen: Collection[str] = (), own: Mapping[str, type] | None = None, as_saved: bool = False
) -> Slots:
    """Return the arrays of the optimizer that a `.keras` or whole legacy `.h5` file is compiled with.

    Args:
        source: the file.
        frozen: names of layers that are to be switched off before.
        own: classes that are not Keras's, by their names.
        as_saved: whether they are to be those that the file holds, where Keras would look for others on loading.

    Raises:
        RecipeError: it has no optimizer, or Keras cannot load its model.
    """
    config = read_compiled_optimizer(source)
    if config is None:
        raise RecipeError(_unnamed(source))
    keras = import_keras()
    try:
        with warnings.catch_warnings():  # what Keras says on loading is for those who load
            warnings.simplefilter("ignore")
            model = keras.models.load_model(source.path, custom_objects=dict(own or {}), compile=False)
            walked = walk(model, source.label)
            names = _names_in_file(model, walked.catalog, {n: id(v) for n, v in walked.values.items()}, source)
            for name in frozen:  # outermost first
                walked.layers[name].trainable = False
            slots = build_slots(config, model.trainable_variables, names)
            if not as_saved or find_stored_places(source, slots) is not None:
                return slots
            return _slots_as_saved(source, config, model, names) or slots
    except RecipeError:
        raise
    except Exception as error:  # a file's configuration may hold anything
        first = str(error).strip().partition("\n")[0]
        what = (
            f"Keras cannot load {source.label} to distinguish its optimizer's arrays: {type(error).__name__}: {first}"
        )
        fix = "import the modules of its classes and use the live model, or set optimizer=drop"
        raise RecipeError(Problem(WHERE, what, fix)) from error


def _unnamed(source: FileSource) -> Problem:
    """Return what is wrong with a file that does not say of what class its optimizer is."""
    if source.format in _WEIGHTS_ALONE:
        what = f"{source.label} holds weights alone: it names no optimizer"
        return Problem(WHERE, what, "take the whole model, saved as .keras, or set optimizer=drop")
    if source.format == "keras" and (source.config or {}).get("compile_config") and optimizer_of(source):
        # `model_metadata` of legacy/saving/saving_utils.py takes it out of what the live model remembers (keras 3.15).
        what = f"{source.label} has an optimizer's arrays and does not name its class, as after a save as .h5"
        fix = "take that .h5 file, or compile the model with its own optimizer, save it again, or set optimizer=drop"
        return Problem(WHERE, what, fix)
    what = f"{source.label} is not compiled: it names no optimizer"
    return Problem(WHERE, what, "compile the model and save it again, or set optimizer=drop")


def _slots_as_saved(
    source: FileSource, config: Mapping[str, Any], model: Any, names: Mapping[int, str]
) -> Slots | None:
    """Return the arrays that a file holds by the paths of the model that wrote it; None where it holds others.

    On loading, its variables have other paths, and Keras loads nothing of the optimizer, with a warning.
    """
    variables = model.trainable_variables
    for paths in paths_before_saving(model):
        others = [stand_in(p, v.shape, str(v.dtype)) for p, v in zip(paths, variables, strict=True)]
        called = {id(o): names[id(v)] for o, v in zip(others, variables, strict=True) if id(v) in names}
        slots = build_slots(config, others, called)
        if find_stored_places(source, slots) is not None:
            return slots
    return None


def read_compiled_optimizer(source: FileSource) -> Mapping[str, Any] | None:
    """Return the serialised optimizer that a file's model is compiled with; None where there is none."""
    if source.format == "keras":
        compiled = (source.config or {}).get("compile_config") or {}
        found = compiled.get("optimizer")
        return _as_config(found)
    if source.format == "h5":
        import h5py

        with h5py.File(source.path) as file:
            text = file.attrs.get("training_config")
        found = json.loads(text).get("optimizer_config") if text is not None else None
        return _as_config(found)
    return None


def _as_config(found: Any) -> Mapping[str, Any] | None:
    """Return an optimizer's serialised form, also where only its name is saved, as in ``compile("adam")``."""
    if isinstance(found, str):
        return {"class_name": found, "config": {}}
    return found if isinstance(found, Mapping) else None


def _names_in_file(model: Any, walked: Catalog, ids: Mapping[str, int], source: FileSource) -> dict[int, str]:
    """Return the names that the file's weights have in its catalog, by the identity of the loaded variables."""
    if source.format == "h5":  # by the order of `layer.weights`, as Keras finds them again
        found: dict[int, str] = {}
        held: dict[str, list[str]] = {}
        for name in source.catalog.by_name:
            held.setdefault(name.partition("/")[0], []).append(name)
        for layer in model.layers:
            weights = [*layer.trainable_weights, *layer.non_trainable_weights]
            stored = held.get(layer.name, [])  # none of an input, a Flatten
            if len(weights) == len(stored):
                found.update((id(v), n) for v, n in zip(weights, stored, strict=True))
        return found
    places = {spec.where: source.catalog[spec.name].name for spec in source.catalog.expanded}
    return {ids[w.name]: places[w.where] for w in walked if w.where in places}


def find_stored_places(source: FileSource, slots: Slots) -> dict[str, WeightSpec] | None:
    """Return what the file holds of every array, by its place; None where it holds others than Keras would load."""
    specs = {spec.where: spec for spec in optimizer_of(source)}
    if source.format == "h5":
        import h5py

        with h5py.File(source.path) as file:
            order = [f"optimizer_weights/{n}" for n in read_stored_names(file["optimizer_weights"])]
        ordered = [specs[n] for n in order if n in specs]
        own = [slot for slot in slots.slots if slot.place.rpartition("/vars/")[0] == WHERE]
        pairs = dict(zip((s.place for s in own), ordered, strict=False)) if len(own) == len(ordered) else {}
    else:
        pairs = specs
        own = [slot for slot in slots.slots if slot.keeper is None]
    same = len(pairs) == len(own) and all(
        s.place in pairs and (pairs[s.place].shape, pairs[s.place].dtype) == (s.shape, s.dtype) for s in own
    )
    return pairs if same else None


def read_stored_names(group: h5py.Group, attribute: str = "weight_names") -> list[str]:
    """Return the names that Keras lists in an attribute of a group of a legacy `.h5` file."""
    attributes, parts = group.attrs, []
    if attribute in attributes:
        parts.append(attributes[attribute])
    while f"{attribute}{len(parts)}" in attributes:  # Keras cuts lists that are longer than HDF5's header
        parts.append(attributes[f"{attribute}{len(parts)}"])
    return [name.decode() if isinstance(name, bytes) else str(name) for part in parts for name in part]
