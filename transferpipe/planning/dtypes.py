"""What a number of a dtype is."""

from __future__ import annotations

from functools import cache

import numpy as np

from transferpipe.weights.spec import numpy_dtype


@cache  # there are few dtypes, and each is asked for with every weight
def kind_of(dtype: str) -> str:
    """Return what a number of this dtype is: a float, an integer, a truth value or something else."""
    kind = numpy_dtype(dtype)
    if kind.kind in "iu" or kind.name.startswith(("int", "uint")):
        return "integer"
    if kind.kind == "f" or np.issubdtype(kind, np.floating) or kind.name.startswith(("bfloat", "float")):
        return "float"
    return kind.kind
