"""The order in which Keras walked a model when it saved it, recovered from a file that lists its groups by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from transferpipe.weights.keras.layer_classes import counter, stem
from transferpipe.weights.keras.naming import MODEL_LAYERS


def walk_order(
    addresses: Mapping[str, int],
    listed: Mapping[str, Sequence[str]] | None = None,
    links: Mapping[str, Sequence[str]] | None = None,
) -> list[str]:
    """Return the saved paths in Keras's order: a layer before its parts.

    Where a configuration lists the layers of a model, it decides. Else the order in which the members of a group were
    made does. Where that is unknown too, attributes go by name, private ones last, as Keras visits them; and in a list
    the numbers that Keras counts for each class decide, and between classes the place in the file.

    >>> walk_order({"": 9, "head/dense_10": 4, "head/dense_9": 5, "head/conv": 3, "a": 8, "_b": 7})
    ['', 'a', 'head/conv', 'head/dense_9', 'head/dense_10', '_b']

    Args:
        addresses: the highest address that anything of each saved path's group has in the file. HDF5 hands out growing
            addresses but fills gaps, so of a layer's several parts the highest tells best when it was written.
        listed: for a model whose configuration lists its layers, its saved path and their segments in that order.
        links: for groups of the file, their members in the order in which they were made, as far as that is known.
    """
    children: dict[str, dict[str, int]] = {}
    for path, address in addresses.items():
        parts = path.split("/") if path else []
        for i, segment in enumerate(parts):
            known = children.setdefault("/".join(parts[:i]), {})
            known[segment] = max(address, known.get(segment, address))
    order: list[str] = []
    waiting = [("", False)]
    while waiting:
        path, is_list = waiting.pop()
        if path in addresses:
            order.append(path)
        inner = children.get(path, {})
        segments = (
            _complete((listed or {}).get(path, ()), inner)
            or _complete((links or {}).get(path, ()), inner, in_turn=is_list)
            or (_list_order(inner) if is_list else sorted(inner, key=_attribute_key))
        )
        # Pushed last to first, so that the first is taken first.
        for segment in reversed(segments):
            below = f"{path}/{segment}" if path else segment
            waiting.append((below, segment in MODEL_LAYERS or below not in addresses))
    return order


def _complete(known: Iterable[str], inner: Mapping[str, int], in_turn: bool = False) -> list[str]:
    """Return those of `known` that there are, if they are all, and (if asked) counted up as Keras counts them."""
    found = [s for s in dict.fromkeys(known) if s in inner]
    if len(found) < len(inner):
        return []
    last: dict[str, int] = {}
    for segment in found if in_turn else ():
        if counter(segment) < last.get(stem(segment), 0):
            return []  # somebody copied the file, name by name
        last[stem(segment)] = counter(segment)
    return found


def _attribute_key(segment: str) -> str:
    return f"~{segment}" if segment.startswith("_") else segment


def _list_order(addresses: Mapping[str, int]) -> list[str]:
    by_class: dict[str, list[str]] = {}
    for segment in sorted(addresses, key=counter):
        by_class.setdefault(stem(segment), []).append(segment)
    queues = {base: iter(segments) for base, segments in by_class.items()}
    return [next(queues[stem(s)]) for s in sorted(addresses, key=lambda s: addresses[s])]
