"""Composing a recipe with Hydra: config groups, the user's own `recipes/` folder, overrides from the command line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePath
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import GrammarParseError

from transferpipe.cli.compose.errors import GROUPS, MAPPING, SCORE, explain
from transferpipe.cli.compose.folders import LOADED, Loaded, conf_folder, further_places, name_recipes
from transferpipe.cli.compose.hydra_private import (
    FileConfigSource,
    apply_overrides,
    copy_of_keys,
    loader_of,
    source_types,
)
from transferpipe.cli.compose.observed import note_other, note_time
from transferpipe.cli.compose.process_state import hydra_lent, recipe_read
from transferpipe.cli.compose.recipe_file import find_hydra, find_unreadable
from transferpipe.cli.compose.resolving import find_cause, hide_copied, resolve, yaml_text
from transferpipe.cli.compose.shorthand import changes_part_of_text, write_out
from transferpipe.errors import Problem, RecipeError, UnsafeError
from transferpipe.recent import Recent
from transferpipe.recipe.model import UNMATCHED
from transferpipe.recipe.parsing.origins import OF_A_FILE
from transferpipe.recipe.trust import OUTSIDE, is_score
from transferpipe.text.listing import listed

_RECIPE = "recipe"
RUN_FOLDER = "hydra.run.dir="
"""How the override begins that names the run folder, in which the time may stand."""
_RULES_WRITTEN_OUT = ("mapping={", "+mapping={", "++mapping={")
_PLAIN_CHOICE = re.compile(r"[\w.+-]+")
MOST_CHOICES = 32  # choices of files of which is kept what they compose, and which files they are
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
        composer: what composed it.
        sweep: what a sweep over the recipe is to do, as plain data.
        variables: what stands under `vars`, computed.
    """

    data: Mapping[str, Any]
    config: DictConfig = field(repr=False)
    overrides: tuple[str, ...]
    composer: Composer = field(repr=False, compare=False)
    sweep: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)

    def value_of_hydra(self, key: str, **resolvers: Callable[[], str]) -> str:
        """Return a value of Hydra's own part, such as ``run.dir``.

        Args:
            key: its key below ``hydra``.
            **resolvers: what may stand in it in ``${...}`` and is known only now.
        """
        with hydra_lent(self.config, resolvers):
            return str(OmegaConf.select(self.config.hydra, key, throw_on_missing=True))

    @property
    def run_folder(self) -> str:
        """The name of the run folder as it is written, nothing resolved."""
        return str(OmegaConf.to_container(self.config.hydra.run, resolve=False)["dir"])  # type: ignore[index,call-overload]

    @property
    def texts(self) -> dict[str, str]:
        """The configuration in the files that Hydra itself leaves beside a result, by their paths."""
        job = self.config.copy()
        with open_dict(job):
            hydra = job.pop("hydra")
        hide_copied(hydra)
        contents = {"config": job, "hydra": {"hydra": hydra}, "overrides": list(self.overrides)}
        return {f".hydra/{name}.yaml": yaml_text(content) for name, content in contents.items()}

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


class Composer:
    """Composes recipes out of our configuration, the user's ``./recipes`` and ``--config-dir``.

    It owns its search path, and knows which files it has loaded and whether they may touch Hydra's own part. Several
    of them, in whatever threads, do not disturb each other, nor anybody else who uses Hydra in this process: what
    Hydra keeps for the whole process is put back after every call (see `process_state`).

    Attributes:
        loaded: the user's files that it has loaded.
    """

    def __init__(self, config_dir: str | None = None, folders: Sequence[Path] = ()) -> None:
        """Look where recipes lie at present.

        Args:
            config_dir: the folder of ``--config-dir``.
            folders: those of recipes that are chosen by their paths, looked into before any other.

        Raises:
            RecipeError: there is no folder `config_dir`.
        """
        places = further_places(config_dir, folders)
        with recipe_read():
            self._loader = loader_of(str(conf_folder()), places)
        self._options = cache(self._loader.get_group_options)
        self._words: list[str] | None = None  # of the last composition
        self._parts: Recent[Sequence[ResultDefault]] = Recent(MOST_CHOICES)
        self._chosen: Recent[DictConfig] = Recent(MOST_CHOICES)
        self.loaded = Loaded()

    @classmethod
    def of(cls, overrides: Sequence[str], config_dir: str | None = None) -> tuple[Composer, list[str]]:
        """Return what composes `overrides`, and these with the names of recipes in place of their paths.

        Raises:
            RecipeError: there is no such file, or no folder `config_dir`.
        """
        note_time(" ".join(o for o in overrides if not o.startswith(RUN_FOLDER)))
        words, folders = name_recipes(overrides)
        return cls(config_dir, folders), words

    @property
    def loader(self) -> ConfigLoader:
        """What Hydra's launchers and sweepers compose their jobs with."""
        return self._loader

    @property
    def providers(self) -> set[str]:
        """The names of those who give places of configuration, beside us."""
        found = {str(place.provider) for place in self._loader.get_search_path().get_path()}
        return {name for name in found if not name.startswith("transferpipe-")}

    def options(self, group: str) -> list[str]:
        """Return the files of a group."""
        return self._options(group)

    @contextmanager
    def lent(self, config: DictConfig) -> Iterator[None]:
        """Let a launcher or sweeper of Hydra's run with `config`."""
        with hydra_lent(config):
            # A worker is given these, and Hydra, which registers its own source for files there, refuses another.
            source_types()[FileConfigSource.scheme()] = FileConfigSource
            yield

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Let the loader read files, which are noted in `loaded`."""
        token = LOADED.set(self.loaded)
        try:
            with recipe_read(loads=True):
                yield
        finally:
            LOADED.reset(token)

    def words(self, overrides: Sequence[str]) -> list[str]:
        """Return the overrides as Hydra reads them as they are meant here."""
        none = {**dict.fromkeys(_NO_SCORE, f"{SCORE}=none"), **dict.fromkeys(_NO_RULES, f"{MAPPING}=none")}
        return [word for o in overrides for word in self._stand_for_preset(_as_text(none.get(o, o)))]

    def _stand_for_preset(self, override: str) -> tuple[str, ...]:
        """Return what stands for the choice of a score that has no preset, such as one of an installed package."""
        group, _, name = override.partition("=")
        if group != SCORE or not name.isidentifier() or (conf_folder() / SCORE / f"{name}.yaml").is_file():
            return (override,)
        note_other("what installed packages add")
        if name in self.options(SCORE) or not is_score(name):
            return (override,)
        target = f"transferpipe.score.{name}"
        if name in OUTSIDE.names():  # which may return a plain number, and then the preset's keys say what it means
            return f"{SCORE}=callable", f"{SCORE}._target_={target}"
        return (f"{SCORE}={{_target_: {target}}}",)

    def compose(self, overrides: Sequence[str]) -> Composed:
        """Return the recipe that the overrides select and change.

        Raises:
            RecipeError: an override is refused, names nothing, or an interpolation cannot be resolved.
        """
        config = self.configuration(overrides)
        try:
            data = dict(resolve(without_hydra(config), config))
        except RecipeError as error:
            unreadable = find_unreadable(self.loaded.files) if find_cause(error, GrammarParseError) else None
            raise (RecipeError(unreadable) if unreadable else error) from error
        sweep = data.pop("sweep", None)
        if isinstance(sweep, str):
            fix = "write its settings here, or choose their file on the command line, recipes/sweep/"
            fix += f"{sweep}.yaml: sweep={sweep}"
            raise RecipeError(Problem("sweep", f"there is no sweep called {sweep!r}", fix))
        settings, own = (part if isinstance(part, dict) else {} for part in (sweep, data.get("vars")))
        return Composed(recipe_of(data, overrides), config, tuple(overrides), self, settings, own)

    def parse(self, overrides: Sequence[str]) -> list[Override]:
        """Return overrides as Hydra reads them, which may name the files of a group by a pattern.

        Raises:
            RecipeError: one is refused.
        """
        try:
            return OverridesParser.create(config_loader=self._loader).parse_overrides([*overrides])
        except Exception as error:
            raise explain(error, overrides, self) from error

    def load(self, words: Sequence[str]) -> DictConfig:
        """Return what Hydra composes of `words`, without any check, as a configuration with Hydra's own part."""
        with self.reading():
            self._loader.keeps_files, self._loader.from_files = changes_part_of_text(words), None
            if not self._loader.keeps_files:
                return self._load(words)
            try:
                config = self._load(words)
            except Exception:
                written_out = self._write_out(words)
                if written_out == [*words]:
                    raise
                return self._load(written_out)
            written_out = self._write_out(words)
            return config if written_out == [*words] else self._load(written_out)

    def chosen(self, choices: Sequence[str]) -> DictConfig:
        """Return what choices of files compose, unchecked; it is not to be changed."""
        known = self._chosen.get(tuple(choices))
        return self._chosen.keep(tuple(choices), self.load(choices) if known is None else known)

    def _write_out(self, words: Sequence[str]) -> list[str]:
        return [*words] if self._loader.from_files is None else write_out(words, self._loader.from_files)

    def parts(self, overrides: Sequence[str]) -> Sequence[ResultDefault]:
        """Return the files that the overrides choose, in the order in which they are merged.

        To read a recipe of thousands of values once more takes seconds, and most are asked for what was just composed,
        or, of the faulty variants of a sweep, one by one. What only sets values chooses no file.
        """
        words = self.words(overrides)
        if self._loader.parts is not None and words == self._words:
            return self._loader.parts
        choices = tuple(str(o.input_line) for o in self.parse(words) if not self.sets_value(o))
        known = self._parts.get(choices)
        if known is None:
            with self.reading():
                known = self._loader.compute_defaults_list("config", [*choices], RunMode.RUN).defaults
        return self._parts.keep(choices, known)

    def sets_value(self, override: Override) -> bool:
        """Tell whether an override can only set a value of the recipe: choose no file, touch nothing of Hydra's own."""
        key = override.key_or_group
        if override.package is not None or "/" in key or key.startswith("hydra") or key == SCORE:
            return False
        return "." in key or not self.options(key)

    def _load(self, words: Sequence[str]) -> DictConfig:
        self._words, self._loader.parts = [*words], None
        return self._loader.load_configuration("config", [*words], run_mode=RunMode.RUN, from_shell=False)

    def configuration(self, overrides: Sequence[str]) -> DictConfig:
        """Return the composed configuration with Hydra's own part, checked, nothing resolved.

        Raises:
            RecipeError, UnsafeError: as `compose`.
        """
        self.loaded.may_touch_hydra = False
        try:
            config = self._with_score(overrides)
        except Exception as error:
            said = explain(error, overrides, self)
            if isinstance(error, HydraException) and (place := find_hydra(self.loaded.files)):
                fix = "set it on the command line: hydra.KEY=..."
                said = UnsafeError(Problem("recipe", "a recipe cannot set keys of hydra", fix, place))
            raise said from error
        if self.loaded.may_touch_hydra:
            self._check_hydra_is_ours(config, overrides)
        return config

    def _with_score(self, overrides: Sequence[str]) -> DictConfig:
        """Compose. A chosen score takes the place of the recipe's own, of whose arguments it knows nothing."""
        words = self.words(overrides)
        if any(o.startswith(_RULES_WRITTEN_OUT) for o in words):
            return self._with_rules(words)
        own = [o for o in words if o.lstrip("+~").startswith((f"{SCORE}=", f"{SCORE}.", f"{SCORE}/", f"{SCORE}@"))]
        if any(o.startswith(f"{SCORE}={{") for o in own):  # written out: Hydra would merge it with the recipe's
            words = [o for o in words if o not in own]
        elif not any(o.startswith(f"{SCORE}=") for o in own):
            return self.load(words)
        config, alone = self.load(words), self.load([f"~{_RECIPE}", *own])
        with open_dict(config):
            config[SCORE] = alone[SCORE] or None
        return config

    def _with_rules(self, words: Sequence[str]) -> DictConfig:
        """Compose with rules that the command line writes out: they take the place of the recipe's.

        Hydra knows ``mapping`` as a group of files only. What changes single rules is applied to those written out.
        """
        of_rules = [o for o in words if o.lstrip("+~").startswith(("mapping=", "mapping."))]
        config = self.load([o for o in words if o not in of_rules])
        with open_dict(config):
            config["mapping"] = {}
            for override in OverridesParser.create().parse_overrides(of_rules):
                if override.key_or_group == "mapping" and not override.is_delete():
                    config["mapping"] = override.value()
                else:
                    apply_overrides([override], config)
        return config

    def _check_hydra_is_ours(self, config: DictConfig, overrides: Sequence[str]) -> None:
        """Refuse a recipe that changes Hydra's own part, by whatever spelling: compose without it and compare."""
        # Packages, defaults and interpolations all reach Hydra's part: comparing what comes out catches every way.
        without = self.load([f"~{_RECIPE}", *_beside_recipe(overrides)])
        here, there = (dict(_leaves(OmegaConf.to_container(c.hydra), "hydra")) for c in (config, without))
        changed = sorted(k for k in here.keys() | there.keys() if here.get(k) != there.get(k))
        if changed:
            what = f"a recipe cannot set keys of hydra, but with this one {listed(changed)} would change"
            place = find_hydra(self.loaded.files)
            raise UnsafeError(Problem("recipe", what, f"set it on the command line: {changed[0]}=...", place))


def without_hydra(config: DictConfig) -> DictConfig:
    """Return a copy of a composed configuration without Hydra's own part, which is most of it and is not copied."""
    keys = [key for key in config if key != "hydra"]  # numbers too, so that they are refused by name
    job = copy_of_keys(config, keys)
    OmegaConf.set_struct(job, OmegaConf.is_struct(config))
    return job


def recipe_of(data: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return what of the resolved configuration is the recipe's.

    A file that the command line gives for a source or the target takes the place of the recipe's builder, a builder
    that of its file.
    """
    data.pop("vars", None)  # they have been filled in where the recipe names them
    name = data.get("mapping")
    if isinstance(name, str) and name not in UNMATCHED:  # no such group: Hydra took it for a value
        fix = f"write the rules themselves, or put them into recipes/mapping/{name}.yaml and choose them"
        fix += f" on the command line: mapping={name}"
        raise RecipeError(Problem("mapping", f"there is no file of rules called {name!r}", fix))
    given = {o.lstrip("+").partition("=")[0] for o in overrides}
    sources = data["sources"] if isinstance(data.get("sources"), dict) else {}
    origins = [("source", data), ("target", data), *((name, sources) for name in sources)]
    for name, holder in origins:
        where, origin = name if holder is data else f"sources.{name}", holder.get(name)
        if isinstance(origin, dict) and origin.get("path") and "_target_" in origin and f"{where}.path" in given:
            holder[name] = {k: v for k, v in origin.items() if k in OF_A_FILE or f"{where}.{k}" in given}
        elif isinstance(origin, dict) and origin.get("path") and f"{where}._target_" in given:
            holder[name] = {k: v for k, v in origin.items() if k not in OF_A_FILE or f"{where}.{k}" in given}
    return data


def _as_text(override: str) -> str:
    """Return a choice of a file whose name reads as a number or another value of YAML (2024, nan) in quotes."""
    group, equals, choice = override.partition("=")
    if not equals or group != _RECIPE or not _PLAIN_CHOICE.fullmatch(choice):
        return override
    value = OverridesParser.create().parse_override(f"x={choice}").value()
    return override if isinstance(value, str) else f'{group}="{choice}"'


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
