"""Keras's own layout, into which all others are adapted: every weight is taken as it is."""

from __future__ import annotations

from typing import ClassVar

from transferpipe.planning.layouts.layout import Layout


class Keras(Layout):
    """The layout of Keras; what Keras 2 converted on loading stands in ``keras_2.py``."""

    name: ClassVar[str] = "keras"
    tag: ClassVar[str | None] = "keras"
    separator: ClassVar[str] = "/"
    is_channels_last: ClassVar[bool] = True
