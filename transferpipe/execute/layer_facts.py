"""What the settings of a target's layers tell the planner beside their names and weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from transferpipe.planning.structure import LayerState

SETTINGS = ("epsilon", "reset_after", "equation")


def with_settings(state: LayerState, settings: Mapping[str, Any]) -> LayerState:
    """Return `state` with what `settings`, from anybody's file, say of it."""
    epsilon, reset_after, equation = (settings.get(key) for key in SETTINGS)
    return dataclasses.replace(
        state,
        epsilon=float(epsilon) if type(epsilon) is float else None,
        reset_after=reset_after if isinstance(reset_after, bool) else None,
        equation=equation if isinstance(equation, str) else None,
    )
