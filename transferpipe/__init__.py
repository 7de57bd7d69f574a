r"""Move weights between Keras models by a YAML recipe: planned, checked, proved, saved.

import transferpipe as tp

mapping = {"trunk": {"to": r"enc/(.*)", "from": r"\1"}}
report = tp.transfer("backbone.keras", model, mapping=mapping, freeze=["enc/.*"])
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "FileError",
    "RecipeError",
    "TransferError",
    "UnsafeError",
    "VerificationError",
    "catalog",
    "diff",
    "parity",
    "plan",
    "suggest",
    "transfer",
]
__version__ = "0.1.0"

_ERRORS = ("FileError", "RecipeError", "TransferError", "UnsafeError", "VerificationError")


def __getattr__(name: str) -> Any:
    # Importing the package costs nothing until something of it is used.
    if name in _ERRORS:
        from transferpipe import errors

        return getattr(errors, name)
    if name in __all__:
        from transferpipe import api

        return getattr(api, name)
    raise AttributeError(f"module 'transferpipe' has no attribute {name!r}")
