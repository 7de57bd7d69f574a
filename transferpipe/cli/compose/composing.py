"""Composing a recipe with Hydra: config groups, the user's own `recipes/` folder, overrides from the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePath
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf, open_dict

from transferpipe.cli.compose.errors import GROUPS, MAPPING, SCORE, explain
from transferpipe.cli.compose.folders import ConfigDir, FolderSearch, UserFolder, conf_folder
from transferpipe.cli.compose.hydra_private import apply_overrides
from transferpipe.cli.compose.resolving import no_environment, resolve
from transferpipe.errors import Problem, RecipeError, TransferError, UnsafeError
from transferpipe.recent import Recent
from transferpipe.recipe.trust import OUTSIDE
from transferpipe.text.listing import listed

_RECIPE = "recipe"
_RULES_WRITTEN_OUT = ("mapping={", "+mapping={", "++mapping={")
_PLAIN_CHOICE = re.compile(r"[\w.+-]+")
_MOST_BASES = 32  # choices of files whose composition is kept
_NO_SCORE = (f"~{SCORE}", f"{SCORE}=null", f"{SCORE}=")
_NO_RULES = (f"{MAPPING}=null", f"{MAPPING}=")  # beside those of the recipe
_OF_THE_COMPOSITION = ("hydra.runtime", "hydra.overrides", "hydra.job.override_dirname")


@dataclass(frozen=True)
class Composed:
    """A composed recipe.

    Attributes:
        data: the recipe as plain data, interpolations resolved.
        config: the composed configuration with Hydra's own part.
        overrides: the overrides as given.
        sweep: what a sweep over the recipe is to do, as plain data.
    """

    data: Mapping[str, Any]
    config: DictConfig = field(repr=False)
    overrides: tuple[str, ...]
    sweep: Mapping[str, Any] = field(default_factory=dict)

    @property
    def absolute_save(self) -> bool:
        """Whether every absolute path under `save` was given on the command line, and none by the recipe."""
        given = {o.lstrip("+").partition("=")[0] for o in self.overrides}
        save = self.data.get("save")
        if "save" in given or not isinstance(save, Mapping):
            return "save" in given
        return all(f"save.{key}" in given or not _has_absolute(value) for key, value in save.items())


def _has_absolute(value: Any) -> bool:
    return any(
        isinstance(v, str) and PurePath(v).is_absolute() for v in (value if isinstance(value, list) else [value])
    )


def compose_recipe(overrides: Sequence[str], config_dir: str | None = None) -> Composed:
    """Return the recipe that the overrides select and change.

    Raises:
        RecipeError: an override is refused, names nothing, or an interpolation cannot be resolved.
    """
    with session(config_dir):
        return compose_here(overrides)


def compose_here(overrides: Sequence[str]) -> Composed:
    """Return the same within a `session` that is open already.

    Raises:
        RecipeError: as `compose_recipe`.
    """
    with no_environment():
        config = _composed(overrides)
        HydraConfig.instance().set_config(config)
        data = dict(resolve(_without_hydra(config)))
    sweep = data.pop("sweep", None)
    if isinstance(sweep, str):
        fix = f"put it into recipes/sweep/{sweep}.yaml"
        raise RecipeError(Problem("sweep", f"there is no sweep called {sweep!r}", fix))
    return Composed(_recipe_of(data), config, tuple(overrides), sweep if isinstance(sweep, dict) else {})


class Variants:
    """Composes many variants of one recipe, within a `session` that is open already.

    Hydra composes every choice of files once; what only sets values is set in a copy of that, as Hydra itself does it
    after composing, at a twentieth of the cost.
    """

    def __init__(self, fixed: Sequence[str]) -> None:
        self._fixed, self._bases = tuple(fixed), Recent[DictConfig](_MOST_BASES)
        self._options = cache(GlobalHydra.instance().config_loader().get_group_options)

    def compose(self, choices: Sequence[str]) -> tuple[dict[str, Any], Mapping[str, Any]]:
        """Return the recipe that `choices` make of what is fixed, and the settings of its sweep, as plain data.

        Raises:
            RecipeError: as `compose_recipe`.
        """
        words = [*self._fixed, *choices]
        with no_environment():
            try:
                parsed = OverridesParser.create().parse_overrides([*choices])
                values = [override for override in parsed if self._sets_value(override)]
                files = tuple(str(override.input_line) for override in parsed if not self._sets_value(override))
                job = self._bases.get(files)
                if job is None:
                    job = self._bases.keep(files, _without_hydra(_composed([*self._fixed, *files])))
                job = job.copy()
                apply_overrides(values, job)
            except TransferError:
                raise
            except Exception as error:
                raise explain(error, words) from error
            data = dict(resolve(job))
        sweep = data.pop("sweep", None)
        return _recipe_of(data), sweep if isinstance(sweep, dict) else {}

    def _sets_value(self, override: Override) -> bool:
        """Tell whether an override can only set a value of the recipe: choose no file, touch nothing of Hydra's own."""
        key = override.key_or_group
        if override.package is not None or "/" in key or key.startswith(("hydra", SCORE)):
            return False
        return "." in key or not self._options(key)


def _composed(overrides: Sequence[str]) -> DictConfig:
    try:
        config = _compose(overrides)
    except Exception as error:
        raise explain(error, overrides) from error
    _check_hydra_is_ours(config, overrides)
    return config


def _without_hydra(config: DictConfig) -> DictConfig:
    job = config.copy()
    with open_dict(job):
        del job["hydra"]
    return job


def _recipe_of(data: dict[str, Any]) -> dict[str, Any]:
    """Return what of the resolved configuration is the recipe's."""
    data.pop("vars", None)  # they have been filled in where the recipe names them
    if isinstance(name := data.get("mapping"), str):  # no such group: Hydra took it for a value
        fix = f"put rules into recipes/mapping/{name}.yaml, or change one: mapping.RULE.to=..."
        raise RecipeError(Problem("mapping", f"there is no file of rules called {name!r}", fix))
    return data


def _compose(overrides: Sequence[str]) -> DictConfig:
    """Compose the recipe. A chosen score takes the place of the recipe's own, of whose arguments it knows nothing."""
    words = words_for_hydra(overrides)
    if any(o.startswith(_RULES_WRITTEN_OUT) for o in words):
        return _with_rules(words)
    own = [o for o in words if o.lstrip("+~").startswith((f"{SCORE}=", f"{SCORE}.", f"{SCORE}/", f"{SCORE}@"))]
    if any(o.startswith(f"{SCORE}={{") for o in own):  # written out: Hydra would merge it with the recipe's
        words = [o for o in words if o not in own]
    elif not any(o.startswith(f"{SCORE}=") for o in own):
        return compose("config", words, return_hydra_config=True)
    config = compose("config", words, return_hydra_config=True)
    alone = compose("config", [f"~{_RECIPE}", *own])
    with open_dict(config):
        config[SCORE] = alone[SCORE] or None
    return config


def words_for_hydra(overrides: Sequence[str]) -> list[str]:
    """Return the overrides as Hydra reads them as they are meant here."""
    none = {**dict.fromkeys(_NO_SCORE, f"{SCORE}=none"), **dict.fromkeys(_NO_RULES, f"{MAPPING}=none")}
    return [word for o in overrides for word in _plugged(_as_text(none.get(o, o)))]


def _plugged(override: str) -> tuple[str, ...]:
    """Return what stands for the choice of a score that an installed package adds."""
    group, _, name = override.partition("=")
    if group != SCORE or not name.isidentifier() or (conf_folder() / SCORE / f"{name}.yaml").is_file():
        return (override,)
    if name not in OUTSIDE.names() or name in GlobalHydra.instance().config_loader().get_group_options(SCORE):
        return (override,)
    return f"{SCORE}=callable", f"{SCORE}._target_=transferpipe.score.{name}"


def _as_text(override: str) -> str:
    """Return a choice of a file whose name reads as a number or another value of YAML (2024, nan) in quotes."""
    group, equals, choice = override.partition("=")
    if not equals or group != _RECIPE or not _PLAIN_CHOICE.fullmatch(choice):
        return override
    value = OverridesParser.create().parse_override(f"x={choice}").value()
    return override if isinstance(value, str) else f'{group}="{choice}"'


def _with_rules(words: Sequence[str]) -> DictConfig:
    """Compose with rules that the command line writes out: they take the place of the recipe's.

    Hydra knows ``mapping`` as a group of files only. What changes single rules is applied to those written out.
    """
    of_rules = [o for o in words if o.lstrip("+~").startswith(("mapping=", "mapping."))]
    config = compose("config", [o for o in words if o not in of_rules], return_hydra_config=True)
    with open_dict(config):
        config["mapping"] = {}
        for override in OverridesParser.create().parse_overrides(of_rules):
            if override.key_or_group == "mapping" and not override.is_delete():
                config["mapping"] = override.value()
            else:
                apply_overrides([override], config)
    return config


def _check_hydra_is_ours(config: DictConfig, overrides: Sequence[str]) -> None:
    """Refuse a recipe that changes Hydra's own part, by whatever spelling: compose once more without it and compare."""
    if not UserFolder.may_touch_hydra:
        return
    without = compose("config", [f"~{_RECIPE}", *_beside_recipe(overrides)], return_hydra_config=True)
    here, there = (dict(_leaves(OmegaConf.to_container(c.hydra), "hydra")) for c in (config, without))
    changed = sorted(k for k in here.keys() | there.keys() if here.get(k) != there.get(k))
    if changed:
        what = f"a recipe cannot set keys of hydra, but {listed(changed)} would be another with it"
        raise UnsafeError(Problem("recipe", what, f"say it on the command line: {changed[0]}=..."))


def _beside_recipe(overrides: Sequence[str]) -> list[str]:
    """Return the overrides that choose neither recipe nor rules and change nothing inside of them."""
    keys = {o: o.lstrip("+~").partition("=")[0].partition("@")[0] for o in overrides}
    return [o for o, k in keys.items() if k.startswith("hydra") or ("." not in k and k.partition("/")[0] not in GROUPS)]


def _leaves(data: Any, where: str) -> Iterator[tuple[str, str]]:
    """Yield the values of Hydra's part by their keys, without those that tell of the composition itself."""
    if where in _OF_THE_COMPOSITION:
        return
    if isinstance(data, dict):
        for key, inner in data.items():
            yield from _leaves(inner, f"{where}.{key}")
    else:
        yield where, repr(data)


@contextmanager
def session(config_dir: str | None) -> Iterator[None]:
    """Initialise Hydra with our conf folder, the user's `./recipes` and `config_dir` on the search path."""
    FolderSearch.further, UserFolder.may_touch_hydra, UserFolder.loaded = _further(config_dir), False, []
    plugins = Plugins.instance()
    for plugin in (UserFolder, ConfigDir, FolderSearch):
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
