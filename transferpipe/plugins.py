"""What installed packages add to transferpipe: formats, transforms, layouts, writers, scores and loggers.

A package names an object under one of our groups of entry points
(https://packaging.python.org/en/latest/specifications/entry-points/), and a recipe then knows it by that name::

    [project.entry-points."transferpipe.transforms"]
    power = "my_package:Power"

* Entry points are looked up late: only where a recipe says a name, or a file has a content, that is not ours. A run
  that needs nothing from outside neither searches for packages nor imports one, and a broken one cannot disturb it.
* Ours always win. A package that offers one of our names is not asked, and is listed as a clash; of two packages that
  offer one name neither is taken.
* **Installed is trusted.** Whoever installs a package runs its code anyway, so what it offers here may do what any
  Python code may do: read files, write them, use the network. That is more than a recipe may do, so the working
  directory does not count as a place of installed packages, wherever Python itself would look for them: a folder that
  somebody downloads with a recipe in it brings no plug-ins. See `transferpipe.recipe.trust`.
* ``transferpipe --version --plugins`` lists them: kind, name, package and version, and what is wrong with any.

To add a kind:

1. make a `PlugInPoint` beside the table of ours, with a check of what is loaded;
2. ask it where the table has no answer;
3. write its laws in `transferpipe.testing`, and let ours pass them;
4. name it in `transferpipe.cli.commands.plugins`, and in ``transferpipe help plugins``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from transferpipe.errors import Problem, RecipeError

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

PREFIX = "transferpipe."
Thing = TypeVar("Thing")


@dataclass(frozen=True)
class PlugIn:
    """One entry point of an installed package.

    Attributes:
        kind: what it adds, such as ``format``.
        name: what a recipe, or a suffix, calls it.
        value: where the object is, as ``module:name``.
        package: the name of the package.
        version: the package's version.
    """

    kind: str
    name: str
    value: str
    package: str
    version: str

    @property
    def label(self) -> str:
        """Kind, name and package, as messages say them."""
        return f"the {self.kind} {self.name} of the package {self.package} {self.version}"

    def load(self) -> Any:
        """Return the object; whatever its module raises on import comes through."""
        from importlib.metadata import EntryPoint  # as below: it takes long to import, and most runs ask no package

        return EntryPoint(self.name, self.value, f"{PREFIX}{self.kind}s").load()


class PlugInPoint(Generic[Thing]):
    """A kind of things that packages may add to.

    It is used in this order: whoever has a table of ours looks there first; `load` then gives the thing that a recipe
    names, and `each` all things where none is named and a file must be recognized.
    """

    def __init__(self, kind: str, ours: Callable[[], Collection[str]], check: Callable[[Any], str]) -> None:
        """Make the point of a kind.

        Args:
            kind: such as ``format``; its group is ``transferpipe.formats``.
            ours: returns the names of ours, which no package can take.
            check: returns what keeps a loaded object from being one of the kind; nothing if it is one.
        """
        self.kind, self._ours, self._check = kind, ours, check

    @property
    def group(self) -> str:
        """The group of entry points."""
        return f"{PREFIX}{self.kind}s"

    def offered(self) -> tuple[PlugIn, ...]:
        """Return everything that packages offer, whether it can be used or not, by name and package."""
        return tuple(found for found in _find_installed() if found.kind == self.kind)

    def names(self) -> tuple[str, ...]:
        """Return the names that packages add."""
        return tuple(dict.fromkeys(p.name for p in self.offered() if p.name not in self._ours()))

    def load(self, name: str, where: str) -> Thing | None:
        """Return what packages offer under `name`; None if nothing does, or the name is one of ours.

        Args:
            name: the name.
            where: the recipe key that names it, for messages.

        Raises:
            RecipeError: it cannot be loaded, it is not of the kind, or two packages offer it.
        """
        found = [p for p in self.offered() if p.name == name]
        if not found or name in self._ours():
            return None
        if len(found) > 1:
            packages = " and ".join(p.package for p in found)
            what = f"the {self.kind} {name} is offered by the packages {packages}, so it is not clear which is meant"
            raise RecipeError(Problem(where, what, f"uninstall one of them: pip uninstall {found[-1].package}"))
        loaded, fault = self._try(found[0])
        if loaded is None:
            fix = f"update or repair that package: pip install --upgrade {found[0].package}"
            raise RecipeError(Problem(where, f"{found[0].label} {fault}", fix))
        return loaded

    def each(self) -> Iterator[tuple[PlugIn, Thing]]:
        """Yield everything that can be used; what cannot be loaded is left out, for nobody has named it."""
        for plugin in self.offered():
            loaded = None if self.clash(plugin) else self._try(plugin)[0]
            if loaded is not None:
                yield plugin, loaded

    def clash(self, plugin: PlugIn) -> str:
        """Return why the name of a plug-in keeps it from being used; nothing if it does not."""
        if plugin.name in self._ours():
            return f"is not used: {plugin.name} is a {self.kind} of transferpipe's own"
        others = [p.package for p in self.offered() if p.name == plugin.name and p.package != plugin.package]
        return f"is not used: {', '.join(others)} offers the same name" if others else ""

    def fault(self, plugin: PlugIn) -> str:
        """Return what keeps a plug-in from being used, a clash or an error while it is loaded; nothing if it can be."""
        return self.clash(plugin) or self._try(plugin)[1]

    def _try(self, plugin: PlugIn) -> tuple[Thing | None, str]:
        """Return the object, or what is wrong with it."""
        try:
            loaded: Thing = plugin.load()
        except (Exception, SystemExit) as error:  # code of others may raise anything while it is imported
            return None, f"cannot be loaded from {plugin.value}: {type(error).__name__}: {error}"
        wrong = self._check(loaded)
        return (None, f"is not one: {plugin.value} {wrong}") if wrong else (loaded, "")


def _find_installed() -> tuple[PlugIn, ...]:
    here = str(Path.cwd())
    return _scan(tuple(place for place in sys.path if os.path.realpath(place or ".") != here))


@lru_cache(maxsize=4)
def _scan(places: tuple[str, ...]) -> tuple[PlugIn, ...]:
    """Return the entry points under our groups of the packages in `places`; an earlier place hides a later one."""
    from importlib.metadata import distributions

    found: dict[tuple[str, str, str], PlugIn] = {}
    for distribution in distributions(path=list(places)):
        entries = _entries(distribution)
        if not entries:
            continue
        package, version = _identity(distribution)
        for entry in entries:
            kind = entry.group.removeprefix(PREFIX).removesuffix("s")
            found.setdefault((kind, entry.name, package), PlugIn(kind, entry.name, entry.value, package, version))
    return tuple(found[key] for key in sorted(found))


def _entries(distribution: Distribution) -> list[EntryPoint]:
    try:
        return [entry for entry in distribution.entry_points if entry.group.startswith(PREFIX)]
    except Exception:  # a list that cannot be read names nothing
        return []


def _identity(distribution: Distribution) -> tuple[str, str]:
    """Return name and version; a folder without metadata, as one made by hand may be, still has a place."""
    try:
        return str(distribution.metadata["Name"]), str(distribution.version)
    except (KeyError, TypeError):
        return f"in {distribution.locate_file('')}", "of unknown version"
