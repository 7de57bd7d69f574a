"""Models that say how many layers they have, and do not list them: those of KerasHub, whose classes make them.

Such a class has an argument with the number of its layers. It is changed where the weights prove which argument that
is: it says as many as the file has, and nothing else of the model is so many.
"""

from __future__ import annotations

from collections.abc import Sequence

from transferpipe.text.listing import listed
from transferpipe.weights.keras.config import Config
from transferpipe.weights.keras.deeper.graph import RepeatError
from transferpipe.weights.keras.deeper.rows import Child, NumberedRow
from transferpipe.weights.keras.layer_classes import counter, stem

_COUNTS = (
    *("num_layers", "num_hidden_layers", "num_blocks", "depth", "num_encoder_layers", "num_decoder_layers"),
    *("hidden_layers", "num_transformer_layers", "num_res_blocks", "num_layers_per_block"),
)
"""What classes call the number of their layers."""


def recounted(config: Config, rows: Sequence[NumberedRow]) -> Config:
    """Return a serialised model whose argument says how many layers it is to have.

    Raises:
        RepeatError: none of its arguments says it, or layers that it counts too are not repeated as often.
    """
    name, given = str(config["class_name"]), config["config"]
    # One argument counts all of them.
    counts = {len(row.stack.weights) for row in rows}
    orders = {len(row.stack.order) for row in rows}
    if len(counts) > 1 or len(orders) > 1:
        raise RepeatError(f"{name} makes layers of one number, and {listed(sorted(map(str, orders)))} are asked for")
    count, wanted = counts.pop(), orders.pop()
    # Two arguments that say as many could each be the one: none is changed by guess.
    keys = [key for key in _COUNTS if given.get(key) == count]
    if len(keys) != 1:
        has = {key: given[key] for key in _COUNTS if isinstance(given.get(key), int)}
        said = listed([f"{key}={value}" for key, value in has.items()]) if has else "no number of layers"
        raise RepeatError(f"{name} makes its layers itself, and its configuration says {said}, not {count}")
    return {**config, "config": {**given, keys[0]: wanted}}


def renumbered(rows: Sequence[NumberedRow], places: Sequence[tuple[str, str | None]]) -> list[Child]:
    """Return the layers of a model in their new order.

    Args:
        rows: the numbered layers.
        places: where the groups of all its layers lie, seen from the model's, with their own names.

    Raises:
        RepeatError: the file numbers layers otherwise than one after the other, or others are as many.
    """
    numbers = {name: (row, number) for row in rows for number, names in row.named.items() for name in names.values()}
    _check_whole(rows, [name for _, name in places if name and name not in numbers])
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
    if _counted([place for place, _ in places]) != [place for place, _ in places]:
        raise RepeatError("its file does not number its layers one after the other")
    segments = _counted([place for place, _ in listed_layers])
    return [Child(segment, place, name) for segment, (place, name) in zip(segments, listed_layers, strict=True)]


def _counted(places: Sequence[str]) -> list[str]:
    """Return the places that Keras gives to layers in this order: counted for each class, in each list."""
    counts: dict[str, int] = {}
    found = []
    for place in places:
        base = stem(place)
        count = counts[base] = counts.get(base, -1) + 1
        found.append(f"{base}_{count}" if count else base)
    return found


def _check_whole(rows: Sequence[NumberedRow], others: Sequence[str]) -> None:
    """Refuse layers beside the rows that are as many and numbered: the class counts them by the same argument."""
    count = len(rows[0].stack.weights)
    families: dict[str, set[int]] = {}
    for name in others:
        if stem(name) != name:
            families.setdefault(stem(name), set()).add(counter(name))
    for base, numbers in families.items():
        if len(numbers) == count > 1 and max(numbers) - min(numbers) == count - 1:
            raise RepeatError(f"{base}_{min(numbers)} and those behind it are as many, and would become more with them")
