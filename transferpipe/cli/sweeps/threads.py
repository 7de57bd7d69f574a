"""How many threads the libraries of a worker take: as many as here, for the last bits of a number depend on it.

Where a sum is cut into parts for several threads, its rounding goes by how many there are: that of LAPACK, and of the
gradients of convolutions. joblib and Ray would give every worker one thread of OpenBLAS, PyTorch and others.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping

_OPENMP = "OMP_NUM_THREADS"
# Those that joblib sets (`ParallelBackendBase.MAX_NUM_THREADS_VARS`), but for Numba's, which must not exceed the cores.
_NUMERIC = (
    "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS",
)  # fmt: skip


@contextlib.contextmanager
def threads_as_here() -> Iterator[None]:
    """Let processes that are started in the body use as many threads for one sum as this one; what is set stays."""
    added = {name: value for name, value in _threads().items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _threads() -> Mapping[str, str]:
    """Return by variable what the libraries of this process have chosen."""
    own = os.environ.get(_OPENMP, str(_count_cores()))
    return dict.fromkeys((_OPENMP, *_NUMERIC), own)


def _count_cores() -> int:
    """Return of how many cores this process may use, which is what the libraries count as well."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
