"""Writes Keras 3 `.weights.h5`, group by group as Keras would."""

from __future__ import annotations

import os
from pathlib import Path

from transferpipe.execute.writers.content import Content
from transferpipe.execute.writers.fill import fill
from transferpipe.execute.writers.h5_layout import lay_out


def write_weights_h5(path: Path, content: Content) -> None:
    """Write the weights to `path`: first the layout, then the values into it."""
    places = lay_out(path, content)
    descriptor = os.open(path, os.O_RDWR)
    try:
        fill(descriptor, 0, places, content)
    finally:
        os.close(descriptor)
