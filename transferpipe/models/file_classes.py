"""The classes of the user's own that a file's configuration names: which have load hooks, and which may be imported.

A file is copied without its classes. Keras loads the copy by their hooks, so that what it has afterwards need not be
what the file holds. Whether a class has hooks stands in the text of its module, which is read and not run; the module
itself is imported only where ``--trust`` names it, because the file, and not the recipe, says which one it is.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from transferpipe.errors import TransferError
from transferpipe.models.loaded_flags import walk_configured
from transferpipe.models.target import FileTarget, ModelTarget, Target
from transferpipe.models.walk import HOOKS, is_own_hook, own_classes
from transferpipe.packages import is_installed
from transferpipe.recipe.trust import resolve
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.keras.allowed import LIBRARIES, mappings_in
from transferpipe.weights.spec import Double

_DEEPEST = 20  # bases of bases; a module may name itself among its imports


class OwnClass(NamedTuple):
    """A class that a configuration names and that is not Keras's: its module, its name, and how it is registered."""

    module: str
    name: str
    registered: str

    @property
    def package(self) -> str:
        """What ``--trust`` takes."""
        return self.module.partition(".")[0]


class FileClasses(NamedTuple):
    """The user's own classes: those at hand, by the names that a configuration calls them, and those that are not."""

    known: Mapping[str, type]
    unknown: tuple[OwnClass, ...]


NO_CLASSES = FileClasses(MappingProxyType({}), ())


def find_own_classes(config: Any) -> frozenset[OwnClass]:
    """Return the classes in a configuration that are not those of Keras and KerasHub."""
    found = set()
    for inner, _ in mappings_in(config):
        module, name, registered = (inner.get(key) for key in ("module", "class_name", "registered_name"))
        if not (isinstance(module, str) and isinstance(name, str) and name.isidentifier()) or name == "function":
            continue
        if module.partition(".")[0] not in (*LIBRARIES, "builtins", ""):
            found.add(OwnClass(module, name, registered if isinstance(registered, str) else name))
    return frozenset(found)


def load_classes(classes: Collection[OwnClass], trusted: Collection[str]) -> dict[str, type]:
    """Return those of `classes` that this process knows or may import; see `classes_of`."""
    found: dict[str, type] = {}
    for own in sorted(classes):
        known = _find_known(own)
        if known is None and own.package in trusted:
            known = resolve(f"{own.module}.{own.name}", "--trust", trusted)
        if isinstance(known, type):
            found |= {own.name: known, own.registered: known}
    return found


def classes_of(target: Target, trusted: Collection[str]) -> FileClasses:
    """Return the classes of a target that are not Keras's, as far as this process knows or may import them.

    Raises:
        RecipeError: the user vouches for a module that has no such class, or cannot be imported.
    """
    if isinstance(target, ModelTarget):
        return FileClasses(own_classes(target.model), ())
    assert isinstance(target, FileTarget)
    named = sorted(find_own_classes(target.source.config))
    known = load_classes(named, trusted)
    return FileClasses(known, tuple(own for own in named if own.name not in known))


def named_by_classes(source: FileSource, trusted: Collection[str]) -> FileSource:
    """Return a file with what only the user's own classes tell of it, where they are at hand: else the file itself.

    They tell which variables stand in two places, and what the weights are called that the file numbers.
    """
    classes = find_own_classes(source.config)
    if not classes or source.format != "keras" or not is_installed("keras"):
        return source
    try:
        known = load_classes(classes, trusted)
    except TransferError:  # what needs the classes says so
        return source
    walked = walk_configured(source.config or {}, known) if {own.name for own in classes} <= known.keys() else None
    if walked is None:
        return source
    catalog = source.catalog
    ours = {spec.where: spec for spec in walked.catalog.expanded}
    theirs = {spec.where: spec for spec in catalog.expanded}
    if {place: spec.shape for place, spec in ours.items()} != {place: spec.shape for place, spec in theirs.items()}:
        return source
    first = {double.spec.where: walked.catalog[double.name].where for double in walked.catalog.doubles}
    doubles = tuple(
        Double(spec, theirs[first[place]].name, at) for at, (place, spec) in enumerate(theirs.items()) if place in first
    )
    weights = tuple(spec for place, spec in theirs.items() if place not in first)
    known_names = {spec.name for spec in theirs.values()}
    others = {s.name: theirs[first.get(place, place)].name for place, s in ours.items() if s.name not in known_names}
    return replace(source, catalog=replace(catalog, weights=weights, doubles=doubles, file_names=others))


def find_hooked(classes: Collection[OwnClass]) -> list[OwnClass]:
    """Return those of `classes` that save or load in a way of their own, as far as this process or their text tells."""
    return [own for own in sorted(classes) if _has_hooks(own)]


def _find_known(own: OwnClass) -> Any:
    """Return the class where it has been imported already."""
    saving = getattr(sys.modules.get("keras"), "saving", None)
    registered = saving.get_registered_object(own.registered) if saving is not None else None
    return registered or getattr(sys.modules.get(own.module), own.name, None)


def _has_hooks(own: OwnClass) -> bool:
    known = _find_known(own)
    if isinstance(known, type):
        return any(is_own_hook(known, hook) for hook in HOOKS)
    return not _list_methods(own.module, own.name, _DEEPEST).isdisjoint(HOOKS)


def _list_methods(module: str, name: str, deepest: int) -> set[str]:
    """Return the methods that a class and its bases define, as far as the texts of their modules show them."""
    place = _find_text(module)
    try:
        tree = _parse_text(place, place.stat().st_mtime_ns) if place and deepest else ast.Module([], [])
    except (OSError, ValueError, SyntaxError, RecursionError):  # it cannot be imported either
        return set()
    package = module if place and place.name == "__init__.py" else module.rpartition(".")[0]
    written = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name]
    found = {inner.name for node in written for inner in node.body if isinstance(inner, ast.FunctionDef)}
    origins = [] if written else [*_find_origins(tree, package, "", name)]  # a package may bring it from inside
    for base in (base for node in written for base in node.bases):
        holder, _, last = ast.unparse(base).rpartition(".")
        origins += [*([] if holder else [(module, last)]), *_find_origins(tree, package, holder, last)]
    return found.union(*(_list_methods(*origin, deepest - 1) for origin in origins))


@lru_cache(16)  # a configuration may name thousands of classes of one module
def _parse_text(place: Path, _changed: int) -> ast.Module:
    return ast.parse(place.read_bytes())


def _find_origins(tree: ast.Module, package: str, holder: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield where a text of `package` may have ``holder.name`` from: the module, and the name in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, name) for alias in node.names if holder == (alias.asname or alias.name))
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".") if node.level else []
            source = ".".join([*parts[: len(parts) + 1 - node.level], *([node.module] if node.module else [])])
            for alias in node.names:
                called = alias.asname or alias.name
                if not holder and called == name:
                    yield source, alias.name
                elif holder == called:
                    yield f"{source}.{alias.name}", name


def _find_text(module: str) -> Path | None:
    """Return where the text of a module lies, which is not imported for it; None where it cannot be found."""
    top, *inner = module.split(".")
    if top in LIBRARIES or not all(part.isidentifier() for part in (top, *inner)):
        return None
    folders = [Path.cwd()]
    if top not in sys.modules:
        try:
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            spec = None
        folders += [Path(p).parent for p in (spec.submodule_search_locations or ())] if spec else []
        folders += [Path(spec.origin).parent] if spec and spec.has_location and spec.origin else []
    for folder in folders:
        path = folder.joinpath(top, *inner)
        for place in (path.with_suffix(".py"), path / "__init__.py"):
            if place.is_file():
                return place
    return None
