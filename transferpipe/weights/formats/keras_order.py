"""The order in which Keras walked a model when it saved it, recovered from a file that lists its groups by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from transferpipe.weights.layer_classes import stem
from transferpipe.weights.naming import MODEL_LAYERS


def walk_order(addresses: Mapping[str, int], listed: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return the saved paths in Keras's order: a layer before its parts, attributes by name, private ones last.

    Inside a list the order is that of the list. Where a configuration lists the layers, it decides; else the numbers
    that Keras counts per class do, and between classes the place in the file.

    Args:
        addresses: the highest address that anything of each saved path's group has in the file. HDF5 hands out growing
            addresses but fills gaps, so of a layer's several parts the highest tells best when it was written.
        listed: for a model whose configuration lists its layers, its saved path and their segments in that order.
    """
    children: dict[str, dict[str, int]] = {}
    for path, address in addresses.items():
        parts = path.split("/") if path else []
        for i, segment in enumerate(parts):
            known = children.setdefault("/".join(parts[:i]), {})
            known[segment] = max(address, known.get(segment, address))
    order: list[str] = []

    def visit(path: str, is_list: bool) -> None:
        if path in addresses:
            order.append(path)
        inner = children.get(path, {})
        segments = _list_order(inner, listed.get(path, ())) if is_list else sorted(inner, key=_attribute_key)
        for segment in segments:
            below = f"{path}/{segment}" if path else segment
            visit(below, is_list=segment in MODEL_LAYERS or below not in addresses)

    visit("", is_list=False)
    return order


def _attribute_key(segment: str) -> str:
    return f"~{segment}" if segment.startswith("_") else segment


def _list_order(addresses: Mapping[str, int], listed: Iterable[str]) -> list[str]:
    known = [s for s in listed if s in addresses]
    if len(known) == len(addresses):
        return known
    by_class: dict[str, list[str]] = {}
    for segment in sorted(addresses, key=_count):
        by_class.setdefault(stem(segment), []).append(segment)
    queues = {base: iter(segments) for base, segments in by_class.items()}
    return [next(queues[stem(s)]) for s in sorted(addresses, key=lambda s: addresses[s])]


def _count(segment: str) -> int:
    match = re.search(r"_(\d+)$", segment)
    return int(match[1]) if match else 0
