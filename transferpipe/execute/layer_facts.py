"""What the settings of a target's layers tell the planner beside their names and weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from transferpipe.planning.structure import LayerState
from transferpipe.weights.keras_config import Config
from transferpipe.weights.keras_flatten import flattened_maps

SETTINGS = ("epsilon", "reset_after", "equation")


def with_settings(state: LayerState, settings: Mapping[str, Any], flattened: tuple[int, ...] | None) -> LayerState:
    """Return `state` with what `settings`, from anybody's file, say of it."""
    epsilon, reset_after, equation = (settings.get(key) for key in SETTINGS)
    return dataclasses.replace(
        state,
        epsilon=float(epsilon) if type(epsilon) is float else None,
        reset_after=reset_after if isinstance(reset_after, bool) else None,
        equation=equation if isinstance(equation, str) else None,
        flattened=flattened,
    )


def flattened_before(configs: Mapping[str, Config | None]) -> dict[str, tuple[int, ...]]:
    """Return the spatial maps that are flattened before layers, by the layers' readable names.

    Args:
        configs: the serialised layers by their readable names, the root's being empty.
    """
    root = configs.get("")
    maps = flattened_maps(root) if root is not None else {}
    return {name: maps[id(config)] for name, config in configs.items() if id(config) in maps}
