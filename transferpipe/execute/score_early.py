"""What of a score can be checked before anything runs: its own arguments, and the names it expects in the target.

A score of ours, or data of ours, may have beside it in its module ``check_early(given, target)``, which is called with
all its arguments as the recipe gives them or by default, and the target's structure. It reads no weight and trains
nothing.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any

from transferpipe.execute.score_label import OURS
from transferpipe.planning.structure import TargetStructure
from transferpipe.recipe.model import Build
from transferpipe.recipe.trust import resolve

Given = Mapping[str, Any]


def check_early(call: Build, target: TargetStructure, trusted: Collection[str]) -> None:
    """Carry out the checks of a score, and of the calls among its arguments.

    Raises:
        TransferError: what they find.
    """
    for argument in call.arguments.values():
        if isinstance(argument, Build):
            check_early(argument, target, trusted)
    if call.target.startswith(OURS):
        function = resolve(call.target, f"{call.where}._target_", trusted)
        check = getattr(sys.modules[function.__module__], "check_early", None)
        if check:
            check({**_defaults(function), **call.arguments}, target)


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
