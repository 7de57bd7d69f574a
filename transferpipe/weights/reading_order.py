"""The order of a Bidirectional's two layers: forward, then backward, whoever lists them.

Keras lists the variables so, and so do Keras 2 files and torch; Keras 3 saves attributes by letters, which turns them
round. A catalog has one order, or `pair: order` would cross the two between a file of one kind and one of the other.
"""

from __future__ import annotations

from collections.abc import Sequence

_FORWARD, _BACKWARD = "forward_", "backward_"


def forward_first(names: Sequence[str]) -> list[int]:
    """Return the places of the weights called `names` in an order that has forward layers before backward ones.

    >>> forward_first(["b/backward_layer/k", "b/forward_layer/k", "d/k"])
    [1, 0, 2]
    """
    if not any(_FORWARD in name for name in names):  # as in nearly all files
        return list(range(len(names)))
    places: dict[str, list[int]] = {}  # of the weights in the two layers, by what comes before these
    parts: dict[str, set[str]] = {}
    for i, name in enumerate(names):
        at = 0
        for part in name.split("/")[:-1]:
            if part.startswith((_FORWARD, _BACKWARD)):
                places.setdefault(name[:at], []).append(i)
                parts.setdefault(name[:at], set()).add(part)
            at += len(part) + 1
    order = list(range(len(names)))
    for both in sorted(places, key=len, reverse=True):  # the innermost first: what moves stays within the outer ones
        if sorted(p.partition("_")[0] for p in parts[both]) == ["backward", "forward"]:
            now = [order[place] for place in places[both]]
            moved = sorted(now, key=lambda i: not names[i].startswith(_FORWARD, len(both)))
            for place, i in zip(places[both], moved, strict=True):
                order[place] = i
    return order
