"""Writes Keras 3 `.weights.h5`, group by group as Keras would."""

from __future__ import annotations

from transferpipe.save.writers.content import Content
from transferpipe.save.writers.fill import fill
from transferpipe.save.writers.h5_layout import lay_out


def write_weights_h5(descriptor: int, content: Content) -> None:
    """Write the weights: first the layout, then the values into it."""
    places, _ = lay_out(descriptor, 0, content)
    fill(descriptor, places, content)
