"""Where recipes lie: in the package's conf folder, in ``./recipes`` of the user, and in ``--config-dir``."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult
from hydra.plugins.search_path_plugin import SearchPathPlugin

import transferpipe
from transferpipe.errors import FileError, Problem

_GROUP = "recipe"


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


class RecipesFolder(FileConfigSource):
    """A folder whose files are the members of the group `recipe`, so that ``recipes/mine.yaml`` is ``recipe=mine``."""

    @staticmethod
    def scheme() -> str:
        """Return the scheme under which the folder stands in Hydra's search path."""
        return "recipes"

    def load_config(self, config_path: str) -> ConfigResult:
        """Load ``recipe/NAME``; a file without a package header counts as a whole recipe."""
        result = super().load_config(self._inner(config_path))
        result.header.setdefault("package", "_global_")
        if result.header["package"] is None:
            result.header["package"] = "_global_"
        return result

    def is_group(self, config_path: str) -> bool:
        """Tell whether `config_path` is the group of recipes."""
        return config_path in ("", _GROUP)

    def is_config(self, config_path: str) -> bool:
        """Tell whether there is such a recipe."""
        return config_path.startswith(f"{_GROUP}/") and super().is_config(self._inner(config_path))

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """List the recipes."""
        if config_path == _GROUP and results_filter in (None, ObjectType.CONFIG):
            return sorted(p.stem for p in Path(self.path).glob("*.yaml"))
        return []

    @staticmethod
    def _inner(config_path: str) -> str:
        return config_path.removeprefix(f"{_GROUP}/")


class FolderSearch(SearchPathPlugin):
    """Puts the user's folders on Hydra's search path, before ours, so that a user's recipe of the same name wins."""

    further: ClassVar[str | None] = None

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add the folders that exist."""
        folder = user_folder()
        if folder.is_dir():
            search_path.prepend("transferpipe-user", f"recipes://{folder}")
            search_path.prepend("transferpipe-user-groups", f"file://{folder}")
        if self.further:
            search_path.prepend("transferpipe-config-dir", f"file://{self.further}")
