"""Names of weights: a path of layers, and the weight's own name in the last of them."""

from __future__ import annotations


def layer_of(name: str) -> str:
    """Return the name of the layer that has the weight called `name`; empty for one of the root itself."""
    return name.rpartition("/")[0]


def own_of(name: str) -> str:
    """Return the own name of the weight called `name` inside its layer."""
    return name.rpartition("/")[2]


class WeightName(str):
    """The name of a weight, such as ``encoder/block_1/dense/kernel``. It is a text, and as fixed as one.

    >>> name = WeightName("encoder/dense/kernel")
    >>> name.layer, name.own, name.ancestors
    ('encoder/dense', 'kernel', ['encoder/dense', 'encoder', ''])
    """

    __slots__ = ()

    @property
    def layer(self) -> str:
        """The name of the layer that has the weight; empty for one of the root itself."""
        return layer_of(self)

    @property
    def own(self) -> str:
        """The weight's own name inside its layer, such as ``kernel``."""
        return own_of(self)

    @property
    def ancestors(self) -> list[str]:
        """The names of all nodes above it, the nearest first and the root (empty) last."""
        return ancestors(self)


def ancestors(path: str) -> list[str]:
    """Return the names of all nodes above that of a weight or layer, the nearest first and the root (empty) last.

    >>> ancestors("a/b/kernel")
    ['a/b', 'a', '']
    """
    found = []
    while path:
        path = path.rpartition("/")[0]
        found.append(path)
    return found
