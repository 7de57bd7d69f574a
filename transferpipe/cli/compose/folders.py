"""Where recipes lie: in the package's conf folder, in ``./recipes`` of the user, and in ``--config-dir``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import yaml
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult

import transferpipe
from transferpipe.cli.compose.hydra_private import FileConfigSource, read_config
from transferpipe.cli.compose.observed import note_path, note_time
from transferpipe.cli.compose.recipe_file import check_recipe_file, shown, yaml_problem
from transferpipe.errors import FileError, Problem, RecipeError, UnsafeError, did_you_mean
from transferpipe.files.os_errors import check_folder_readable
from transferpipe.recipe.locate import expand_home

_GROUP, _RULES = "recipe", "mapping"
RECIPE_FILES = (".yaml", ".yml")


@dataclass
class Loaded:
    """What a composer has loaded of the user's files.

    Attributes:
        files: their paths.
        may_touch_hydra: whether one of them may, since that was last asked.
    """

    files: list[Path] = field(default_factory=list)
    may_touch_hydra: bool = False


LOADED: ContextVar[Loaded | None] = ContextVar("loaded", default=None)
"""Where whoever composes at present, in this thread, notes what is loaded."""


def conf_folder() -> Path:
    """Return the folder of shipped configuration: inside an installed package, or at the top of a checkout."""
    package = Path(transferpipe.__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise FileError(Problem(str(package), "the conf folder of transferpipe is missing", "install transferpipe again"))


def user_folder() -> Path:
    """Return the user's own recipe folder, which need not exist."""
    return Path.cwd() / "recipes"


class WatchedFolder(FileConfigSource):
    """A folder of configuration, such as ours: as Hydra reads it, with a note of what it was asked."""

    def load_config(self, config_path: str) -> ConfigResult:
        """Load one file."""
        path = self._place(self._normalize_file_name(config_path))
        note_path("digest", path)
        result = super().load_config(config_path)
        note_path("digest", path)  # again: it must not have changed between
        return result

    def is_group(self, config_path: str) -> bool:
        """Tell whether there are files for the group `config_path`."""
        note_path("is_folder", self._place(config_path))
        return super().is_group(config_path)

    def is_config(self, config_path: str) -> bool:
        """Tell whether there is such a file."""
        note_path("is_file", self._place(self._normalize_file_name(config_path)))
        return super().is_config(config_path)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """List the members of a group."""
        note_path("names", self._place(config_path))
        return super().list(config_path, results_filter)

    def _place(self, config_path: str) -> Path:
        return Path(self.path, config_path)


class UserFolder(WatchedFolder):
    """A folder of the user's: ``NAME.yaml`` and ``recipe/NAME.yaml`` are recipes, ``mapping/NAME.yaml`` holds rules.

    Recipes come from anybody, so nothing here takes the place of the primary configuration or of Hydra's own.
    """

    recipes_at_top: ClassVar[bool] = True
    closed: ClassVar[tuple[str, ...]] = ("hydra",)

    @staticmethod
    def scheme() -> str:
        """Return the scheme under which the folder stands in Hydra's search path."""
        return "recipes"

    def load_config(self, config_path: str) -> ConfigResult:
        """Load one file, after a look at whether it is what a recipe may be."""
        path = self.path_of(config_path)
        note_path("digest", path)  # before it is looked at for the first time
        checked = check_recipe_file(path)
        if loaded := LOADED.get():
            may_touch = checked.may_touch_hydra or config_path.startswith("hydra")
            loaded.may_touch_hydra = loaded.may_touch_hydra or may_touch
            loaded.files.append(path)
        note_time(checked.text)
        try:
            header, config = read_config(checked.text, checked.events)
        except yaml.YAMLError as error:
            raise RecipeError(yaml_problem(error, path)) from error
        result = ConfigResult(self.provider, f"{self.scheme()}://{self.path}", config, header)
        note_path("digest", path)  # again: it must not have changed between
        package = header.get("package")
        if config_path.startswith(f"{_GROUP}/"):  # a recipe without a header is a whole recipe
            rules = config_path.startswith(f"{_GROUP}/{_RULES}/")  # which a recipe chooses in its defaults
            result.header["package"] = package = package or (_RULES if rules else "_global_")
        _check_package(package, config_path, path)
        return result

    def path_of(self, config_path: str) -> Path:
        """Return where the file lies that Hydra calls `config_path`."""
        return Path(self.path, self._normalize_file_name(self._inner(config_path)))

    def is_group(self, config_path: str) -> bool:
        """Tell whether there are files for the group `config_path`."""
        return self._is_open(config_path) and (config_path == _GROUP or super().is_group(config_path))

    def is_config(self, config_path: str) -> bool:
        """Tell whether there is such a file in a group."""
        inside = "/" in config_path and self._is_open(config_path)
        return inside and super().is_config(self._inner(config_path))

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """List the members of a group."""
        if not self._is_open(config_path):
            return []
        names = set(super().list(config_path, results_filter)) if super().is_group(config_path) else set()
        if config_path == _GROUP and self.recipes_at_top and results_filter in (None, ObjectType.CONFIG):
            note_path("names", self.path)
            names.update(p.stem for p in Path(self.path).glob("*.yaml"))
        return sorted(names)

    def _is_open(self, config_path: str) -> bool:
        return config_path.partition("/")[0] not in self.closed

    def _inner(self, config_path: str) -> str:
        """Return where the file lies in the folder."""
        if self.recipes_at_top and config_path.startswith(f"{_GROUP}/") and not super().is_config(config_path):
            return config_path.removeprefix(f"{_GROUP}/")
        return config_path


class ConfigDir(UserFolder):
    """The folder of ``--config-dir``, laid out like our own; who names it may choose Hydra's launchers in it."""

    recipes_at_top: ClassVar[bool] = False
    closed: ClassVar[tuple[str, ...]] = ()

    @staticmethod
    def scheme() -> str:
        """Return the scheme under which the folder stands in Hydra's search path."""
        return "configs"


def _check_package(package: str | None, config_path: str, path: Path) -> None:
    """Refuse a header that puts a recipe's content elsewhere."""
    if config_path.startswith("hydra/") or not package:
        return
    header = f"its header says `# @package {package}`"
    if package.removeprefix("_global_.").partition(".")[0] == "hydra":
        fix = "set it on the command line: hydra.KEY=..."
        raise UnsafeError(Problem(shown(path), f"{header}: a recipe cannot set keys of hydra", fix))
    place = _RULES if config_path.startswith(f"{_GROUP}/{_RULES}/") else "_global_"
    if config_path.startswith(f"{_GROUP}/") and package != place:
        raise RecipeError(
            Problem(shown(path), f"{header}, but a recipe stands at the top", f"write `# @package {place}`")
        )


SOURCES = (WatchedFolder, UserFolder, ConfigDir)
"""What reads our folder, and those of the user."""


def name_recipes(overrides: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Return the overrides with recipes' names in place of their paths, and the folders in which these lie.

    A recipe is chosen by its path where that ends in ``.yaml`` or ``.yml``; a sweep may choose several.

    Raises:
        RecipeError: there is no such file, or two have one name.
    """
    words, found = [], dict[str, Path]()
    for override in overrides:
        key, _, value = override.partition("=")
        parts = [part.strip("'\"") for part in value.split(",")]
        if key.lstrip("+") != _GROUP or not all(part.endswith(RECIPE_FILES) for part in parts):
            words.append(override)
            continue
        paths = [expand_home(part, _GROUP) for part in parts]
        for path in paths:
            note_path("is_file", path)
            note_path("real", path.parent)
            if not path.is_file():
                near = did_you_mean(path.name, [p.name for p in path.parent.glob("*.yaml")])
                raise RecipeError(Problem(_GROUP, f"there is no file {path}", near))
            if found.setdefault(path.stem, path.parent.resolve()) != path.parent.resolve():
                what = f"{path.stem} is the name of two recipes, in {found[path.stem]} and in {path.parent}"
                raise RecipeError(Problem(_GROUP, what, "rename one"))
        words.append(f"{key}={','.join(path.stem for path in paths)}")
    return words, list(dict.fromkeys(found.values()))


def further_places(config_dir: str | None, folders: Sequence[Path] = ()) -> list[tuple[str, str]]:
    """Return the user's folders that exist, as Hydra's search path names them: before ours, so that they win.

    Args:
        config_dir: the folder of ``--config-dir``.
        folders: further ones, which win over all others.

    Raises:
        RecipeError: there is no folder `config_dir`.
        FileError: the user's own folder cannot be read.
    """
    places = []
    note_path("is_folder", user_folder())
    if (folder := user_folder()).is_dir():
        check_folder_readable(folder)  # else shipped recipes of the same names would be taken
        places.append(("transferpipe-user", f"{UserFolder.scheme()}://{folder}"))
    if config_dir is not None:
        given = expand_home(config_dir, "--config-dir")
        note_path("real", given)
        further = Path(os.path.realpath(given))  # links that lead in a circle are no folder either
        note_path("is_folder", further)
        if not further.is_dir():
            fix = "it should hold recipe/*.yaml"
            raise RecipeError(Problem("--config-dir", f"there is no folder {config_dir!r}", fix))
        places.append(("transferpipe-config-dir", f"{ConfigDir.scheme()}://{further}"))
    return [*places, *(("transferpipe-path", f"{UserFolder.scheme()}://{folder}") for folder in folders)]
