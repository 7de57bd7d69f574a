"""Composing a recipe with Hydra: config groups, the user's own `recipes/` folder, overrides from the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from transferpipe.cli.override_errors import explain
from transferpipe.cli.recipe_folders import FolderSearch, RecipesFolder, conf_folder
from transferpipe.errors import Problem, RecipeError, UnsafeError

_SAVE_OVERRIDE = re.compile(r"\+{0,2}save(\.(path|also)|=)")


@dataclass(frozen=True)
class Composed:
    """A composed recipe.

    Attributes:
        data: the recipe as plain data, interpolations resolved.
        config: the composed configuration with Hydra's own part.
        overrides: the overrides as given.
    """

    data: Mapping[str, Any]
    config: DictConfig = field(repr=False)
    overrides: tuple[str, ...]

    @property
    def absolute_save(self) -> bool:
        """Whether the command line itself said where to save."""
        return any(_SAVE_OVERRIDE.match(o) for o in self.overrides)


def compose_recipe(overrides: Sequence[str], config_dir: str | None = None) -> Composed:
    """Return the recipe that the overrides select and change.

    Raises:
        RecipeError: an override is refused, names nothing, or an interpolation cannot be resolved.
    """
    with session(config_dir):
        try:
            config = compose("config", list(overrides), return_hydra_config=True)
        except Exception as error:
            raise explain(error, overrides) from error
        HydraConfig.instance().set_config(config)
        job = config.copy()
        with open_dict(job):
            del job["hydra"]
        return Composed(_plain(job), config, tuple(overrides))


def _plain(job: DictConfig) -> Mapping[str, Any]:
    def refuse(*_: str) -> str:
        raise UnsafeError(
            Problem("recipe", "reads the environment with ${oc.env:...}", "give the value as an override")
        )

    OmegaConf.register_new_resolver("oc.env", refuse, replace=True)
    try:
        data = OmegaConf.to_container(job, resolve=True)
    except OmegaConfBaseException as error:
        if isinstance(error.__cause__, UnsafeError):
            raise error.__cause__ from None
        where = str(getattr(error, "full_key", "") or "recipe")
        raise RecipeError(Problem(where, str(error).splitlines()[0], "mend the interpolation")) from error
    assert isinstance(data, dict)
    return {str(k): v for k, v in data.items()}


@contextmanager
def session(config_dir: str | None) -> Iterator[None]:
    """Initialise Hydra with our conf folder, the user's `./recipes` and `config_dir` on the search path."""
    FolderSearch.further = _further(config_dir)
    plugins = Plugins.instance()
    for plugin in (RecipesFolder, FolderSearch):
        plugins.register(plugin)
    with initialize_config_dir(str(conf_folder()), version_base="1.3", job_name="transferpipe"):
        yield


def _further(config_dir: str | None) -> str | None:
    if config_dir is None:
        return None
    folder = Path(config_dir).expanduser().resolve()
    if not folder.is_dir():
        raise RecipeError(Problem("--config-dir", f"there is no folder {config_dir!r}", "it should hold recipe/*.yaml"))
    return str(folder)
