"""Files in another framework's layout: what is written into them, and how they are read back for the proof."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import Problem, Problems, VerificationError
from transferpipe.files.publishing.atomic import final_name
from transferpipe.files.segment import Segment
from transferpipe.planning.layouts import layout_by_names, layout_called
from transferpipe.planning.layouts.export import Held, plan_export, plan_import
from transferpipe.planning.layouts.like import LIKE
from transferpipe.planning.model import Exported
from transferpipe.planning.plan import Plan
from transferpipe.planning.reading.read_recipe import chain_of
from transferpipe.planning.structure import TargetStructure
from transferpipe.planning.transforms import TransformError, apply_chain, infer
from transferpipe.recipe.outputs import output_of
from transferpipe.values.compare import same_bits
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.spec import Catalog, WeightSpec, catalog_of

if TYPE_CHECKING:
    from transferpipe.values.compute import Values

KERAS = "keras"
NAMED = ("safetensors", "safetensors_index", "npz", "torch")  # formats without layers, whose keys are names


def is_arranged(plan: Plan, path: str) -> bool:
    """Tell whether `path` has names or axes that are not those of Keras."""
    return output_of(path).names_tensors and (plan.save_layout != KERAS or bool(plan.save_tensors))


def _tensors_of(plan: Plan, target: TargetStructure) -> dict[str, Exported]:
    """Return what a file of named tensors holds, by what it calls it."""
    return {e.key: e for e in plan.save_tensors or plan_export(plan.save_layout, target)}


@dataclass(frozen=True)
class WrittenModel:
    """The finished model as a file in some layout holds it.

    Attributes:
        catalog: names, shapes and dtypes.
        value: returns the value of the tensor called so.
        segment: returns where that value lies in a file as it is, or None if it must be computed.
        format: what a safetensors file says of its names and axes.
        parts: yields that value in stretches, as one row of numbers; None where it is computed as a whole.
    """

    catalog: Catalog
    value: Callable[[str], NDArray[Any]]
    segment: Callable[[str], Segment | None]
    format: str
    parts: Callable[[str], Iterator[NDArray[Any]] | None] = lambda _: None


def arranged(path: str, target: TargetStructure, values: Values) -> WrittenModel:
    """Return what the file `path` holds of the target.

    Raises:
        RecipeError: the layout cannot hold it.
    """
    # In Keras's layout nothing is renamed, and stretches and segments stay what they are.
    if not is_arranged(values.plan, path):
        return WrittenModel(target.catalog, values.value, values.segment, "keras", values.parts)
    table, tag = _tensors_of(values.plan, target), layout_called(values.plan.save_layout).tag
    catalog = Catalog(tuple(WeightSpec(n, e.shape, e.dtype, None, n) for n, e in table.items()), target.label)

    def segment(name: str) -> Segment | None:
        parts = table[name].parts
        # Only what is neither joined nor turned lies in a source as it is to be written.
        return values.segment(parts[0].weight) if len(parts) == 1 and not parts[0].steps else None

    return WrittenModel(catalog, lambda name: _value(table[name], values), segment, tag or KERAS)


def as_in_file(written: WrittenModel, source: FileSource) -> WrittenModel:
    """Return the same under the names that the file `source`, whose weights these are, has for them itself.

    A file of torch's names, which the catalog shows with slashes, so stays one that torch loads: its names are joined
    by dots, and it says that its format is ``pt`` as long as it did not say another.
    """
    if not has_dots(source):
        return written
    # A file that does not say its format is judged by its names.
    layout = layout_by_names([_key(spec, source) for spec in source.catalog])
    format = source.details.get("format") or (layout.tag if layout and layout.tag else written.format)
    if any(weight.name not in source.catalog for weight in written.catalog):  # `save.names` has given them names
        return dataclasses.replace(written, format=format)
    keys = {spec.name: spec.name.replace("/", ".") for spec in source.catalog}
    names = {key: name for name, key in keys.items()}
    weights = tuple(dataclasses.replace(w, name=keys[w.name]) for w in written.catalog)
    return WrittenModel(
        dataclasses.replace(written.catalog, weights=weights),
        lambda key: written.value(names[key]),
        lambda key: written.segment(names[key]),
        format,
        lambda key: written.parts(names[key]),
    )


def has_dots(source: FileSource) -> bool:
    """Tell whether the names of a file of named tensors have dots where its catalog shows slashes, as torch's have."""
    places = [_key(spec, source) for spec in source.catalog]
    # Two tensors of one place could not be told apart under it.
    if not places or source.groups or source.format not in NAMED or len(set(places)) < len(places):
        return False
    names = [spec.name.replace("/", ".") for spec in source.catalog]
    # What stands before all names is no part of them, such as the `module.` of a model trained on several devices.
    before = places[0].removesuffix(names[0])
    return (not before or before.endswith(".")) and places == [f"{before}{name}" for name in names]


def _key(spec: WeightSpec, source: FileSource) -> str:
    """Return what the file calls a tensor, inside of what was selected of it, such as a checkpoint's state dict."""
    above = source.details.get("selected", "")
    # The members of an npz archive have the suffix, and names in it do not.
    return spec.where.removesuffix(".npy").removeprefix(f"{above.replace('/', '.')}." if above else "")


def _value(exported: Exported, values: Values) -> NDArray[Any]:
    arrays = [apply_chain(chain_of(None, part.steps), [values.value(part.weight)]) for part in exported.parts]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=0)


def places_in(source: FileSource, plan: Plan, target: TargetStructure) -> Mapping[str, Held]:
    """Return where the file has each weight of the target, by the rules that adapt such a file when it is a source.

    These rules know the names of the layout: what the file calls otherwise is first called so again.
    """
    names = {key: tensor.name for key, tensor in _tensors_of(plan, target).items()}
    copies = {key: names[first] for first, key in _copies_in(plan)}
    names = {key: name for key, name in names.items() if key not in copies}
    there = {names[_key(spec, source)]: spec for spec in source.catalog if _key(spec, source) in names}
    specs = (dataclasses.replace(spec, name=name) for name, spec in there.items())
    # The same rules as for a source: what is read for the proof is read as others will read it.
    held = plan_import(plan.save_layout, target, catalog_of(specs, source.catalog.label))
    places = {
        weight: dataclasses.replace(found, names=tuple(there[name].name for name in found.names))
        for weight, found in held.items()
    }
    written = Counter(part.weight for tensor in plan.save_tensors for part in tensor.parts)
    for tensor in plan.save_tensors:  # a matrix that the reference of `save.like` keeps as Keras does
        is_whole = [part.steps for part in tensor.parts] == [()] and written[tensor.parts[0].weight] == 1
        if tensor.name in there and is_whole:
            places[tensor.parts[0].weight] = Held((there[tensor.name].name,), ())
    by_key = {_key(spec, source): spec.name for spec in source.catalog if copies}
    doubled = [(there[name].name, by_key.get(key, key)) for key, name in copies.items() if name in there]
    return {
        weight: dataclasses.replace(held, copies=tuple(pair for pair in doubled if pair[0] in held.names))
        for weight, held in places.items()
    }


def _copies_in(plan: Plan) -> list[tuple[str, str]]:
    """Return each tensor that is written as a copy, behind the one whose weights it has."""
    by_key = {tensor.key: tensor for tensor in plan.save_tensors}
    found = []
    for names in plan.save_tied:
        firsts = dict[str, str]()
        for key in names:
            first = firsts.setdefault(by_key[key].name, key)
            if first != key:
                found.append((first, key))
    return found


def check_tied(values: Values) -> None:
    """Refuse two values for one tensor: torch gives a tied one the value of the last of its names.

    Raises:
        VerificationError: the reference of `save.like` has one tensor where the weights have several values.
    """
    plan, problems = values.plan, Problems()
    by_key = {tensor.key: tensor for tensor in plan.save_tensors}
    for keys in plan.save_tied:
        first, *others = {by_key[key].name: by_key[key] for key in keys}.values()
        for other in others:
            one, two = _value(first, values), _value(other, values)
            if one.astype(first.dtype).tobytes() != two.astype(other.dtype).tobytes():
                weights = " and ".join(part.weight for tensor in (first, other) for part in tensor.parts)
                what = f"the reference has one tensor for {first.key} and {other.key}, and {weights} have other values"
                problems.add(LIKE, what, "give a reference in which they are not tied, or tie the weights")
    problems.raise_as(VerificationError)


def as_keras(source: FileSource, places: Mapping[str, Held]) -> FileSource:
    """Return the file as if Keras's names and axes were in it; what it has beside that keeps its own.

    Args:
        source: the opened file.
        places: where it has each weight. One that is not there, or has another shape, is left out.
    """
    found = {name: spec for name, held in places.items() if (spec := _spec(name, held, source.catalog))}
    used = {name for weight in found for name in (*places[weight].names, *sum(places[weight].copies, ()))}
    # What the plan does not know of stays visible, so that the proof can say that it is too much.
    rest = [w for w in source.catalog if w.name not in used]

    def read(spec: WeightSpec) -> NDArray[Any]:
        if spec.name not in found:
            return source.read(spec.name)
        held = places[spec.name]
        for name, copy in held.copies:
            if copy not in source.catalog or not same_bits(source.read(name), source.read(copy)):
                what = f"{copy} is not in the file with the value of {name}, which is the same tensor"
                raise VerificationError(Problem(f"{final_name(source.path)}: {spec.name}", what))
        return apply_chain(chain_of(None, held.steps), [source.read(name) for name in held.names])

    def locate(spec: WeightSpec) -> Segment | None:
        held = places.get(spec.name)
        if held is None or held.steps or held.copies or len(held.names) > 1:
            return None
        return source.locate(held.names[0])

    catalog = dataclasses.replace(source.catalog, weights=(*found.values(), *rest))
    return dataclasses.replace(source, catalog=catalog, read_entry=read, locate_entry=locate)


def _spec(weight: str, held: Held, catalog: Catalog) -> WeightSpec | None:
    """Return the weight that the transforms make of what the file holds, None if they cannot."""
    specs = [catalog[name] for name in held.names if name in catalog]
    if len(specs) < len(held.names):
        return None
    try:
        shape, dtype = infer(chain_of(None, held.steps), [w.shape for w in specs], [w.dtype for w in specs])
    except TransformError:
        return None
    return WeightSpec(weight, shape, dtype, None, " + ".join(held.names))
