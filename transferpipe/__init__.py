r"""Move weights between Keras models by a YAML recipe: planned, checked, verified, saved.

import transferpipe as tp

mapping = {"trunk": {"to": r"enc/(.*)", "from": r"\1"}}
report = tp.transfer("backbone.keras", model, mapping=mapping, freeze=["enc/.*"])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transferpipe.api import catalog, diff, inspect, parity, plan, rank_sweep, read_sweep, suggest, transfer, verify
    from transferpipe.differences.result import Diff
    from transferpipe.errors import (
        FileError,
        RecipeError,
        TransferError,
        TransferWarning,
        UnsafeError,
        VerificationError,
    )
    from transferpipe.execute.run import Report
    from transferpipe.planning.plan import Plan
    from transferpipe.planning.suggest.suggestion import Suggestion
    from transferpipe.prove.parity.result import Parity
    from transferpipe.prove.run_folder import RunProof
    from transferpipe.recipe.keywords import (
        EditKeys,
        KerasModel,
        OriginKeys,
        ParityKeys,
        RuleKeys,
        SaveKeys,
        SourceKeys,
        VerifyKeys,
    )
    from transferpipe.show.inspection import Inspection
    from transferpipe.show.sweeps.sweep_results import SweepResults
    from transferpipe.weights.spec import Catalog

__all__ = [
    "Catalog",
    "Diff",
    "EditKeys",
    "FileError",
    "Inspection",
    "KerasModel",
    "OriginKeys",
    "Parity",
    "ParityKeys",
    "Plan",
    "RecipeError",
    "Report",
    "RuleKeys",
    "RunProof",
    "SaveKeys",
    "SourceKeys",
    "Suggestion",
    "SweepResults",
    "TransferError",
    "TransferWarning",
    "UnsafeError",
    "VerificationError",
    "VerifyKeys",
    "catalog",
    "diff",
    "inspect",
    "parity",
    "plan",
    "rank_sweep",
    "read_sweep",
    "suggest",
    "transfer",
    "verify",
]
__version__ = "0.1.0"

if not TYPE_CHECKING:  # to a type checker this would mean that there is every name
    _ERRORS = ("FileError", "RecipeError", "TransferError", "TransferWarning", "UnsafeError", "VerificationError")
    _KEYWORDS = (
        *("EditKeys", "KerasModel", "OriginKeys", "ParityKeys", "RuleKeys", "SaveKeys", "SourceKeys", "VerifyKeys"),
    )
    _HOMES = {**dict.fromkeys(_ERRORS, "errors"), **dict.fromkeys(_KEYWORDS, "recipe.keywords")}

    def __getattr__(name):  # noqa: ANN001, ANN202 (nothing here is seen by a type checker)
        # Importing the package costs nothing until something of it is used.
        if name in __all__:
            return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'api')}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():  # noqa: ANN202
        return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
