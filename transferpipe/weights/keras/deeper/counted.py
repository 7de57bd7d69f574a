"""Models that say how many layers they have, and do not list them: those of KerasHub, whose classes make them.

Such a class has an argument with the number of its layers. It is changed where names and weights prove which argument
that is: it says as many as the file has, it is called as they are, and nothing else of the model is so many. Arguments
with one entry for each layer follow the layers. What a class makes by the place of a layer alone must stay the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transferpipe.text.listing import listed
from transferpipe.weights.keras.config import Config, class_of
from transferpipe.weights.keras.deeper.graph import RepeatError
from transferpipe.weights.keras.deeper.rows import Child, NumberedRow
from transferpipe.weights.keras.layer_classes import counter, stem

_COUNTED = frozenset(("layers", "blocks"))
_NOT_LAYERS = frozenset(("shared", "multiplier"))  # `num_kv_shared_layers`: some of the layers, not how many there are
_GENERAL = _COUNTED | {"num", "n", "hidden", "depth", "transformer", "res", "per", "block", "layer", "types", "list"}
"""Words of an argument that do not say which of several rows of layers it counts; `encoder` and `enc` do."""

_TURNS = {
    "GemmaBackbone": ("use_sliding_window_attention", 2),
    "PaliGemmaBackbone": ("use_sliding_window_attention", 2),
    "Gemma3Backbone": ("use_sliding_window_attention", 6),
    "GptOssBackbone": ("sliding_window", 2),
}
"""Classes whose layers differ in turn by their place, where an argument is set: every so many are alike again."""

_PERIODS = ("decoder_sparse_step", "cross_attention_frequency", "sliding_window_pattern")
"""Arguments that say after how many layers they are alike again."""

_FOR_EACH = ("intermediate_size", "activation_sparsity_pattern")
"""Arguments with an entry for each layer, beside those that have `layer` in their names."""


@dataclass(frozen=True)
class Family:
    """Numbered layers of one name that are not repeated: `path` with its words, and how many there are."""

    path: str
    count: int


def recount(config: Config, rows: Sequence[NumberedRow], others: Sequence[Family]) -> Config:
    """Return a serialised model whose arguments say how many layers it is to have.

    Args:
        config: the model.
        rows: its numbered layers that are repeated.
        others: those that are not.

    Raises:
        RepeatError: none of its arguments says it, layers that it counts too are not repeated as often, or a layer
            would be another one at its new place.
    """
    name, given = class_of(config).rpartition(">")[2], dict(config["config"])
    by_key: dict[str, list[NumberedRow]] = {}
    for row in rows:
        by_key.setdefault(_argument(name, given, row), []).append(row)
    changed: dict[str, Any] = {}
    for key, counted in by_key.items():
        orders = {row.stack.order for row in counted}
        wanted = {len(order) for order in orders}
        if len(wanted) > 1:
            raise RepeatError(
                f"{name} makes layers of one number ({key}), and {listed(sorted(map(str, wanted)))} are asked for"
            )
        count = int(given[key])
        for family in others:
            # One argument counts all of them, but those that have one of their own.
            if family.count == count > 1 and key in _candidates(given, family.path, count):
                what = f"{family.path} and those behind it are as many, and would become more with them"
                raise RepeatError(f"{what} ({name} counts both by {key})")
        changed[key] = wanted.pop()
        for row in counted:
            lists = _move_lists(given, key, row)
            _check_turns(name, given, row, lists)
            if not lists:
                _check_alike(name, row)
            # Two rows of one argument that are put in two orders have no list in common.
            if any(changed.get(k, v) != v for k, v in lists.items()):
                raise RepeatError(f"{name} has one {listed(sorted(lists))} for layers that are put in several orders")
            changed |= lists
    return {**config, "config": given | changed}


def _argument(name: str, given: Config, row: NumberedRow) -> str:
    """Return the argument that says how many layers of a row there are."""
    count = len(row.stack.weights)
    keys = _candidates(given, row.stack.beginning, count)
    # Two arguments that say as many could each be the one: none is changed by guess.
    if len(keys) != 1:
        has = {key: value for key, value in given.items() if _counts_layers(key, value)}
        said = listed([f"{key}={value}" for key, value in has.items()]) if has else "no number of layers"
        it = f"{listed(keys)} could each count" if keys else "none of them counts"
        layers = f"the {count} layers {row.stack.beginning}{min(row.stack.weights)} and those behind it"
        raise RepeatError(f"{name} makes its layers itself, its configuration says {said}, and {it} {layers}")
    return keys[0]


def _candidates(given: Config, path: str, count: int) -> list[str]:
    """Return the arguments that may say how many layers of this name there are, by the surest sign that there is."""
    keys = [key for key, value in given.items() if _counts_layers(key, value) and value == count]
    named = [key for key in keys if _names(key, path)]
    general = [key for key in keys if not set(key.split("_")) - _GENERAL]
    return named or general or keys


def _counts_layers(key: str, value: object) -> bool:
    words = set(key.split("_"))
    counts = key == "depth" or (words & _COUNTED and not words & _NOT_LAYERS)
    return bool(counts) and isinstance(value, int) and not isinstance(value, bool)


def _names(key: str, path: str) -> bool:
    """Tell whether an argument has a word of a layer's path in its name: `num_layers_enc` that of `encoder_layer_0`."""
    words = [word for word in re.split(r"[/_\d]+", path) if len(word) > 2]
    special = set(key.split("_")) - _GENERAL
    return any(one.startswith(word) or word.startswith(one) for one in special if len(one) > 2 for word in words)


def _move_lists(given: Config, key: str, row: NumberedRow) -> dict[str, list[Any]]:
    """Return the arguments that say something of each layer, in the new order."""
    numbers = sorted(row.stack.weights)
    places = [numbers.index(origin) for origin in row.stack.order]
    found: dict[str, list[Any]] = {}
    for argument, value in given.items():
        if not isinstance(value, list) or not value or _belongs_elsewhere(given, argument, key, row):
            continue
        words = argument.split("_")
        if words[-1] in ("indices", "indexes") or argument == "mlp_only_layers":
            # The places of some layers: those at which they stand now.
            if all(isinstance(v, int) and v < len(numbers) for v in value):
                found[argument] = [new for new, old in enumerate(places) if old in value]
        elif len(value) == len(numbers) and (argument in _FOR_EACH or {"layer", "layers"} & set(words)):
            found[argument] = [value[old] for old in places]
    return found


def _belongs_elsewhere(given: Config, argument: str, key: str, row: NumberedRow) -> bool:
    """Tell whether an argument is named after other layers that the class counts: `decoder_layer_types`."""
    special = set(argument.split("_")) - _GENERAL
    others = {
        word for k, v in given.items() if k != key and _counts_layers(k, v) for word in set(k.split("_")) - _GENERAL
    }
    return bool(special & others) and not _names(argument, row.stack.beginning)


def _check_turns(name: str, given: Config, row: NumberedRow, lists: Mapping[str, object]) -> None:
    """Refuse an order in which a layer gets another place in the turns by which its class makes layers."""
    turns = dict([_TURNS[name]]) if name in _TURNS else {}
    found = [(key, period) for key, period in turns.items() if given.get(key)]
    if not any("layer_types" in key for key in lists):
        found += [(key, given[key]) for key in _PERIODS if isinstance(given.get(key), int) and given[key] > 1]
    numbers = sorted(row.stack.weights)
    for key, period in found:
        for place, origin in enumerate(row.stack.order):
            if (numbers.index(origin) - place) % period:
                what = f"{name} makes every {period} layers differ by their place ({key}={given[key]})"
                here = f"{row.stack.beginning}{origin} would become {row.stack.beginning}{numbers[0] + place}"
                raise RepeatError(f"{what}, and {here}: repeat whole groups of {period} layers")
    if given.get("num_kv_shared_layers"):
        raise RepeatError(
            f"the last {given['num_kv_shared_layers']} layers of {name} use keys and values of those before"
        )


def _check_alike(name: str, row: NumberedRow) -> None:
    """Refuse an order in which a layer stands where its class makes one of other weights."""
    start = len(row.stack.beginning)
    numbers = sorted(row.stack.weights)
    kinds = {n: {re.sub(r"^\d+", "", w[start:]) for w in row.stack.weights[n]} for n in numbers}
    for place, origin in enumerate(row.stack.order):
        # Behind the last one the class makes what it makes there.
        there = numbers[min(place, len(numbers) - 1)]
        if odd := sorted(kinds[origin] ^ kinds[there]):
            here = f"{row.stack.beginning}{origin} would become {row.stack.beginning}{numbers[0] + place}"
            raise RepeatError(f"{here}, and {name} makes only one of the two with {odd[0].lstrip('/')}")


def renumber(rows: Sequence[NumberedRow], places: Sequence[tuple[str, str | None]]) -> list[Child]:
    """Return the layers that a layer holds, in their new order.

    Args:
        rows: the numbered layers.
        places: where the groups of all its layers lie, seen from the holder's, with their own names.

    Raises:
        RepeatError: the file numbers layers otherwise than one after the other.
    """
    numbers = {name: (row, number) for row in rows for number, names in row.named.items() for name in names.values()}
    by_name = {name: place for place, name in places if name}
    listed_layers: list[tuple[str, str]] = []
    done: set[int] = set()
    for place, name in places:
        if name not in numbers:
            listed_layers.append((place, name or ""))
            continue
        row = numbers[name][0]
        if id(row) in done:
            continue
        done.add(id(row))
        # Numbers go on from where they began: some classes count from 1.
        first = min(row.named)
        for number, origin in enumerate(row.stack.order, first):
            for old in row.named[origin].values():
                start, stop = row.places[old]
                listed_layers.append((by_name[old], f"{old[:start]}{number}{old[stop:]}"))
    # The file must be numbered as is assumed here, or nothing that follows would be where Keras looks.
    if _count_places(place for place, _ in places) != [place for place, _ in places]:
        raise RepeatError("its file does not number its layers one after the other")
    segments = _count_places(place for place, _ in listed_layers)
    return [Child(segment, place, name) for segment, (place, name) in zip(segments, listed_layers, strict=True)]


def _count_places(places: Iterable[str]) -> list[str]:
    """Return the places that Keras gives to layers in this order: counted for each class, in each list."""
    counts: dict[str, int] = {}
    found = []
    for place in places:
        base = stem(place)
        count = counts[base] = counts.get(base, -1) + 1
        found.append(f"{base}_{count}" if count else base)
    return found


def families(paths: Iterable[str]) -> Iterator[Family]:
    """Yield layers that are numbered one after the other, of all that have these names."""
    found: dict[str, set[int]] = {}
    for path in paths:
        if stem(path) != path:
            found.setdefault(stem(path), set()).add(counter(path))
    for base, numbers in found.items():
        if max(numbers) - min(numbers) == len(numbers) - 1:
            yield Family(f"{base}_{min(numbers)}", len(numbers))
