"""Laws for plug-ins: one class a kind, whose tests hold for everything of that kind, ours and that of packages.

To use one: subclass it in a test module, under a name that begins with ``Test``, and give it what its docstring asks
for.
Needs pytest, which nothing else in the package does.

>>> from transferpipe.testing import TransformLaws
>>> from transferpipe.planning.transforms.computing.values import Scale
>>> class TestScale(TransformLaws):
...     kind = Scale
...     cases = ((0.5, ((3, 4),)),)

To add a law: 1. write a method ``test_...`` whose name says what holds; 2. break something of ours on purpose and see
that it fails; 3. let the laws pass on everything of ours, and on the package in ``tests/plugin_package``.
"""

import pytest

_KINDS = ("formats", "layouts", "loggers", "scores", "transforms", "writers")
pytest.register_assert_rewrite(*(f"{__name__}.{kind}" for kind in _KINDS))

from transferpipe.testing.formats import FormatLaws  # noqa: E402  # only now are their assertions explained
from transferpipe.testing.layouts import LayoutLaws  # noqa: E402
from transferpipe.testing.loggers import LoggerLaws  # noqa: E402
from transferpipe.testing.scores import ScoreLaws  # noqa: E402
from transferpipe.testing.transforms import TransformLaws  # noqa: E402
from transferpipe.testing.writers import WriterLaws  # noqa: E402

__all__ = ["FormatLaws", "LayoutLaws", "LoggerLaws", "ScoreLaws", "TransformLaws", "WriterLaws"]
