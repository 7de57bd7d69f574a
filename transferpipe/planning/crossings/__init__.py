"""Pairings that cross: a layer takes the weights of another layer's counterpart, which have the same shapes.

Names and shapes pair any two layers; what tells a crossing is evidence of which source layer a target layer should
take, its *counterpart*. Each module knows one kind:

* `names`: the source holds a layer of the same name, or of the same part in a name (``query``, ``forward_layer``, 3);
* `branches`: both sides tell how their layers are connected, and the counterpart has the same layers before it;
* `siblings`: a normalization belongs to the convolution before it, and so does what both take.

A crossing is a cycle: a takes b's counterpart, b takes c's, and c takes a's, all of the same shapes, so that
exchanging what they take repairs every one of them. A shift (``{i+1}``), every second layer of a deeper source, or a
source that several targets take leave chains and no cycles, and are not warned of.
"""

from __future__ import annotations

from transferpipe.planning.crossings.lint import lint_crossings
from transferpipe.planning.crossings.order import order_agrees

__all__ = ["lint_crossings", "order_agrees"]
