"""The one door to what Hydra and OmegaConf do not publish: a release that moves something breaks this module alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from hydra.types import HydraContext
from omegaconf import DictConfig, Node

__all__ = ["FileConfigSource", "apply_overrides", "context_of", "is_basic_launcher", "is_basic_sweeper", "value_in"]


def apply_overrides(overrides: Sequence[Override], config: DictConfig) -> None:
    """Change a composed configuration as Hydra does after composing."""
    ConfigLoaderImpl._apply_overrides_to_config([*overrides], config)


def context_of(loader: ConfigLoader) -> HydraContext:
    """Return what a launcher or sweeper is made with, without callbacks."""
    return HydraContext(config_loader=loader, callbacks=Callbacks())


def is_basic_launcher(config: DictConfig) -> bool:
    """Tell whether a composed configuration chooses the launcher that Hydra has when none is chosen."""
    return str(config.hydra.launcher._target_) == f"{BasicLauncher.__module__}.{BasicLauncher.__qualname__}"


def is_basic_sweeper(config: DictConfig) -> bool:
    """Tell whether a composed configuration chooses the sweeper that Hydra has when none is chosen."""
    return str(config.hydra.sweeper._target_) == f"{BasicSweeper.__module__}.{BasicSweeper.__qualname__}"


def value_in(node: Node) -> Any:
    """Return what a node holds, nothing resolved."""
    return node._value()
