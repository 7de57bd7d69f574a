"""What speaks for pairs of pieces, and how much each kind of it counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transferpipe.planning.suggest.assignment import NO_FIT, Scores

# How much each kind of evidence counts in the sum for a pair: more, the less often it is wrong. Chosen by hand; what
# they get right of pairs whose truth is known, `python -m tests.suggest_suite.run` counts.
SAME, LAW, GRAPH, WORDS, ORDER, WHOLE, SETTINGS, NEAR, VALUES, AROUND = 3.0, 2.0, 1.5, 1.0, 0.8, 0.3, 0.4, 0.8, 0.5, 0.6

Flags = NDArray[np.bool_]


@dataclass
class Evidence:
    """What speaks for each pair, from 0 to 1.

    Attributes:
        fits: which pairs fit at all.
        kinds: of the pieces of the target and of the source; pieces of different kinds never fit.
        same: the names are the same, but for scopes around one of them.
        words: what the names have in common.
        law: how many others obey the law that their numbers obey.
        graph: the same pieces come before and behind.
        around: the same layers, with and without weights, stand around both: near, and less near.
        order: both stand at the same place in their order.
        whole: neither side has a weight that the other lacks.
        settings: how many settings differ.
        near: what is paired next to both stands in containers as near to each other.
        values: the statistics of the values are the same, and those of others are not.
        is_odd: which targets fit something though most of their kind, of names of the same words, fit nothing.
        in_line: for each side, whether of two pieces one comes before the other, so that an order means anything.
    """

    fits: Flags
    kinds: tuple[list[int], list[int]]
    same: Scores
    words: Scores
    law: Scores
    graph: Scores
    around: Scores
    order: Scores
    whole: Scores
    settings: Scores
    near: Scores
    values: Scores
    is_odd: list[bool]
    in_line: tuple[Flags, Flags]

    def is_supported(self, i: int, j: int) -> bool:
        """Tell whether names, all of the graph, or values speak for a pair: a part of the graph only counts up layers.

        Where one network is deeper, what comes first in both may be any of several.
        """
        # 0.9 is only reached by what comes before and what comes behind together: see `compare_graphs`.
        named = self.same[i, j] > 0 or max(self.law[i, j], self.words[i, j]) > 0.25
        return bool(named or self.graph[i, j] > 0.9 or self.values[i, j] > 0)

    @property
    def without_order(self) -> Scores:
        """The scores of all pairs, the order left out."""
        total = SAME * self.same + LAW * self.law + GRAPH * self.graph + WORDS * self.words + WHOLE * self.whole
        total += NEAR * self.near + VALUES * self.values + AROUND * self.around
        # Above 0 wherever it fits: `assign_best` leaves alone only what fits nothing that is free.
        return np.where(self.fits, np.maximum(total - SETTINGS * self.settings, 0) + 1e-3, NO_FIT)

    @property
    def scores(self) -> Scores:
        """The scores of all pairs."""
        return self.without_order + ORDER * self.order
