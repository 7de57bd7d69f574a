"""Names of weights: a path of layers, and the weight's own name in the last of them."""

from __future__ import annotations


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
        return self.rpartition("/")[0]

    @property
    def own(self) -> str:
        """The weight's own name inside its layer, such as ``kernel``."""
        return self.rpartition("/")[2]

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
