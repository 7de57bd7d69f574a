"""A file with more, fewer or other layers than the file that it is like: `target.repeat`.

Layers are stacked so by mergekit's passthrough (https://github.com/arcee-ai/mergekit), and models scaled up in depth:
Kim et al., "SOLAR 10.7B: Scaling Large Language Models with Simple yet Effective Depth Up-Scaling", arXiv:2312.15166,
section 3. Only names change: a value is read, or copied as it lies there, from the layer that it comes from. Of a Keras
model the configuration changes with them, as data (`transferpipe.weights.keras.deeper`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from transferpipe.errors import Problems, RecipeError, TransferError
from transferpipe.files.json_text import read_mapping
from transferpipe.planning.claims import find_units
from transferpipe.planning.model import PlanWarning
from transferpipe.recipe.model import RepeatedLayers
from transferpipe.text.listing import listed
from transferpipe.text.numbers import is_number
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.keras.deeper.file import deeper_file
from transferpipe.weights.keras.deeper.graph import RepeatError
from transferpipe.weights.keras.deeper.model import deepen
from transferpipe.weights.keras.deeper.rows import Numbered
from transferpipe.weights.spec import Catalog, WeightSpec

WHERE = "target.repeat"
_MOST_LAYERS = 10_000  # no network has as many; a recipe from anybody may ask for any number
_CONFIG, _MOST_BYTES = "config.json", 1 << 20  # as the reader of these configurations
_COUNTS = (
    *("num_hidden_layers", "num_layers", "n_layers", "n_layer", "encoder_layers", "decoder_layers"),
    *("num_encoder_layers", "num_decoder_layers"),
)
"""What configurations of Hugging Face's transformers call the number of layers."""


@dataclass
class _Stack:
    """Numbered layers whose names are the same up to the number.

    Attributes:
        repeat: what is said of them.
        layers: by number, each weight with where the number begins and ends in its name.
    """

    repeat: RepeatedLayers
    layers: dict[int, list[tuple[WeightSpec, int, int]]] = field(default_factory=dict)

    def order(self, beginning: str, problems: Problems) -> tuple[int, ...]:
        """Return the layers that follow one another; empty where that cannot be, with the problems noted."""
        where = f"{WHERE}.{self.repeat.pattern.text}"
        numbers = sorted(self.layers)
        first, last = numbers[0], numbers[-1]
        if len(numbers) <= last - first:
            gaps = [n for n in range(first, last) if n not in self.layers][:4]
            what = f"the layers {beginning}{first} to {beginning}{last} have gaps: there is no {beginning}{gaps[0]}"
            problems.add(where, what)
            return ()
        result: list[int] = []
        for start, stop in self.repeat.ranges:
            stop = last if stop is None else stop
            if not first <= start <= stop <= last:
                text = str(start) if start == stop else f"{start}-{stop}"
                problems.add(where, f"{text} is not within the layers {first} to {last} of the file")
                return ()
            if len(result) + stop - start >= _MOST_LAYERS:
                problems.add(where, f"gives more than {_MOST_LAYERS:,} layers")
                return ()
            result += range(start, stop + 1)
        return tuple(result)


@dataclass(frozen=True)
class Repeated:
    """A file in which layers follow one another otherwise.

    Attributes:
        source: the file.
        no_model: why it is not a model, though the file that it is like is one; empty where it is, or nobody asked.
    """

    source: FileSource
    no_model: str = ""


def repeat_layers(source: FileSource, repeats: Sequence[RepeatedLayers], as_model: bool = False) -> Repeated:
    """Return a file like `source` in which layers follow one another as `repeats` say, numbered anew from its first.

    Args:
        source: the file.
        repeats: what is repeated.
        as_model: whether its configuration is to have these layers, too; otherwise only the weights are kept.

    Raises:
        RecipeError: a pattern matches nothing, layers that are not there, or numbers that are none.
    """
    problems = Problems()
    catalog = source.catalog.expanded
    stacks, owner = _find_stacks(catalog, repeats, problems)
    orders = {beginning: stack.order(beginning, problems) for beginning, stack in stacks.items()}
    problems.raise_as(RecipeError)
    no_model = ""
    if as_model and source.config is not None and source.groups:
        numbered = [
            Numbered(
                stack.repeat.pattern,
                beginning,
                {number: [spec.name for spec, *_ in found] for number, found in stack.layers.items()},
                orders[beginning],
            )
            for beginning, stack in stacks.items()
        ]
        try:
            return Repeated(deeper_file(source, deepen(source.config, source.groups, numbered)))
        except RepeatError as error:
            no_model = str(error)
    return Repeated(_repeat_weights(source, stacks, orders, owner), no_model)


def _repeat_weights(
    source: FileSource,
    stacks: Mapping[str, _Stack],
    orders: Mapping[str, Sequence[int]],
    owner: Mapping[str, str],
) -> FileSource:
    """Return a file of the weights alone, named anew."""
    problems, catalog = Problems(), source.catalog.expanded
    weights: list[WeightSpec] = []
    origins: dict[str, WeightSpec] = {}
    done: set[str] = set()
    for spec in catalog.weights:
        beginning = owner.get(spec.name)
        if beginning is None:
            found = [(spec, spec)]
        elif beginning in done:
            continue
        else:
            done.add(beginning)
            found = list(_number_weights(stacks[beginning], orders[beginning]))
        for new, origin in found:
            if new.name in origins:
                what = f"{origins[new.name].name} and {origin.name} would both be called {new.name}"
                problems.add(WHERE, what, r"let the pattern match all layers of that name: the number is (\d+)")
            origins[new.name] = origin
            weights.append(new)
    problems.raise_as(RecipeError)
    names = {called: name for called, name in catalog.file_names.items() if name not in owner}
    whole = dataclasses.replace(catalog, weights=tuple(weights), network=None, file_names=names)
    read, locate = source.read_entry, source.locate_entry
    return dataclasses.replace(
        source,
        catalog=whole,
        read_entry=lambda spec: read(origins[spec.name]),
        locate_entry=lambda spec: locate(origins[spec.name]),
        config=None,
        groups=(),
        assets=(),
    )


def _find_stacks(
    catalog: Catalog, repeats: Sequence[RepeatedLayers], problems: Problems
) -> tuple[dict[str, _Stack], dict[str, str]]:
    """Return the numbered layers by how their names begin, and for each of their weights how its name does."""
    stacks: dict[str, _Stack] = {}
    owner: dict[str, str] = {}
    for repeat in repeats:
        where, units = f"{WHERE}.{repeat.pattern.text}", find_units(repeat.pattern, catalog)
        if not units:
            tops = list(dict.fromkeys(w.name.rpartition("/")[0] or w.name for w in catalog))
            problems.add(where, f"matches nothing in {catalog.label or 'the file'}, which has {listed(tops, 4)}")
        for unit in units:
            place = repeat.pattern.place_of_group(unit.name)
            number = unit.name[slice(*place)] if place else ""
            if place is None or not (is_number(number)):
                problems.add(where, f"its group is {number!r} in {unit.name!r}, not a number", r"use (\d+)")
                break
            beginning = unit.name[: place[0]]
            stack = stacks.setdefault(beginning, _Stack(repeat))
            for name in unit.weights:
                if owner.setdefault(name, beginning) != beginning or stack.repeat is not repeat:
                    problems.add(where, f"{name} is matched by another pattern too, and must be by one")
                    return stacks, owner
                stack.layers.setdefault(int(number), []).append((catalog[name], *place))
    return stacks, owner


def _number_weights(stack: _Stack, order: Sequence[int]) -> Iterator[tuple[WeightSpec, WeightSpec]]:
    """Yield each weight of the layers in their new order, with the one that it comes from."""
    first = min(stack.layers)
    for number, origin in enumerate(order, first):
        for spec, start, stop in stack.layers[origin]:
            name = f"{spec.name[:start]}{number}{spec.name[stop:]}"
            is_key = spec.where[: len(spec.name)].replace(".", "/") == spec.name.replace(".", "/")
            where = f"{spec.where[:start]}{number}{spec.where[stop:]}" if is_key else name  # not a place in HDF5
            yield dataclasses.replace(spec, name=name, where=where), spec


def warn_of_counts(source: FileSource, repeats: Sequence[RepeatedLayers]) -> Iterator[PlanWarning]:
    """Yield a warning where a ``config.json`` beside the file says how many layers it has, not how many are written."""
    stacks, _ = _find_stacks(source.catalog.expanded, repeats, Problems())
    folder = source.path if source.path.is_dir() else source.path.parent
    config = _read_config(folder / _CONFIG) if stacks and (folder / _CONFIG).is_file() else {}
    for beginning, stack in stacks.items():
        count = len(stack.order(beginning, Problems()))
        for key in _COUNTS:
            if config.get(key) == len(stack.layers) != count:
                said = f"config.json beside {source.label} says {key}={config[key]}"
                text = f"{said}, and what is written has {count} layers"
                fix = f"give the config.json that goes with the result {key}={count}"
                yield PlanWarning("layer-count", WHERE, f"{text}: {fix}")


def advise_building(catalog: Catalog, repeats: Sequence[RepeatedLayers]) -> str:
    """Return how a model of the repeated layers is made, of which the file has the weights alone.

    Args:
        catalog: what the repeated file holds.
        repeats: what is repeated in it.
    """
    rules: dict[str, None] = {}
    for repeat in repeats:
        numbers: dict[str, set[int]] = {}
        for unit in find_units(repeat.pattern, catalog):
            if place := repeat.pattern.place_of_group(unit.name):
                numbers.setdefault(unit.name[: place[0]], set()).add(int(unit.name[slice(*place)]))
        for beginning, found in numbers.items():
            at, end = min(found), max(found)
            for first, last in repeat.ranges:
                count = end - at + 1 if last is None else last - first + 1
                which = "|".join(str(number) for number in range(at, at + count))
                rule = f"{{to: '{beginning}(?P<i>{which})', from: '{beginning}{{i{first - at:+}}}'}}"
                rules |= {rule: None} if at != first else {}
                at += count
    build = "build the deeper model as the target and take the file as the source, with unmatched=same_name"
    return f"{build} and the rules {', '.join(rules)}" if rules else build


def _read_config(path: Path) -> Mapping[str, object]:
    try:
        return read_mapping(path, _MOST_BYTES)
    except TransferError:
        return {}


def repeats_to_data(repeats: Sequence[RepeatedLayers]) -> dict[str, str]:
    """Return what is repeated as a recipe has it."""
    return {repeat.pattern.text: repeat.text for repeat in repeats}
