"""The classes of the user's own that a file's configuration names: which have load hooks, and which may be imported.

A file is copied without its classes. Keras loads the copy by their hooks, so that what it has afterwards need not be
what the file holds. Whether a class has hooks stands in the text of its module, which is read and not run; the module
itself is imported only where ``--trust`` names it, because the file, and not the recipe, says which one it is.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

from transferpipe.errors import TransferError
from transferpipe.models.class_texts import HAS, doubt_class
from transferpipe.models.loaded_flags import walk_configured
from transferpipe.models.source import ModelSource
from transferpipe.models.target import FileTarget, ModelTarget, Target
from transferpipe.models.walk import HOOKS, Walked, is_own_hook, own_classes
from transferpipe.packages import is_installed
from transferpipe.planning.pairing.places import UNNAMED_FORMATS
from transferpipe.recent import Recent
from transferpipe.recipe.trust import resolve
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.keras.allowed import LIBRARIES, mappings_in
from transferpipe.weights.spec import Double, Source


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


# By their numbers: what is kept keeps its configuration, so that no other has the same. A run asks some six times.
_FOUND: Recent[tuple[Any, frozenset[OwnClass]]] = Recent(8)


def find_own_classes(config: Any) -> frozenset[OwnClass]:
    """Return the classes in a configuration that are not those of Keras and KerasHub."""
    known = _FOUND.get(id(config))
    if known is not None and known[0] is config:
        return known[1]
    found = set()
    for inner, _ in mappings_in(config):
        module, name, registered = (inner.get(key) for key in ("module", "class_name", "registered_name"))
        if module is None and isinstance(registered, str):  # a class of a notebook, or of the script that runs
            module = ""
        if not (isinstance(module, str) and isinstance(name, str) and name.isidentifier()) or name == "function":
            continue
        if module.partition(".")[0] not in (*LIBRARIES, "builtins") and (module or registered):
            found.add(OwnClass(module, name, registered if isinstance(registered, str) else name))
    return _FOUND.keep(id(config), (config, frozenset(found)))[1]


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
    if not find_own_classes(source.config) or source.format != "keras":
        return source
    walked = _walk_configured(source, trusted)
    return source if walked is None else _named_by(source, walked)


def named_by_sources(file: FileSource, sources: Collection[Source], trusted: Collection[str]) -> FileSource:
    """Return a file of weights alone with what a source of the same places tells of the user's own classes in both."""
    like = find_like(file, sources)
    walked = None
    if isinstance(like, ModelSource) and own_classes(like.model.model):
        walked = like.walked
    elif isinstance(like, FileSource) and find_own_classes(like.config):
        walked = _walk_configured(like, trusted)
    if walked is None:
        return file
    values = {spec.where: spec for spec in file.catalog.expanded}
    for double in walked.catalog.doubles:  # copies that differ are no variable of this file
        one, other = (file.read_entry(values[p]) for p in (double.spec.where, walked.catalog[double.name].where))
        if one.tobytes() != other.tobytes():
            return file
    return _named_by(file, walked)


def find_like(file: FileSource, sources: Collection[Source]) -> FileSource | ModelSource | None:
    """Return the model, or file with a configuration, that has all the places of a file of weights alone, if any."""
    if file.config is not None or file.format not in UNNAMED_FORMATS:
        return None
    shapes = {spec.where: spec.shape for spec in file.catalog.expanded}
    for source in sources:
        if not isinstance(source, ModelSource) and (not isinstance(source, FileSource) or source.config is None):
            continue
        if {spec.where: spec.shape for spec in source.catalog.expanded} == shapes:
            return source
    return None


def _walk_configured(source: FileSource, trusted: Collection[str]) -> Walked | None:
    """Return the model that a file configures, as Keras would save it; None where its classes are not at hand."""
    classes = find_own_classes(source.config)
    if not is_installed("keras"):
        return None
    try:
        known = load_classes(classes, trusted)
    except TransferError:  # what needs the classes says so
        return None
    return walk_configured(source.config or {}, known) if {own.name for own in classes} <= known.keys() else None


def _named_by(source: FileSource, walked: Walked) -> FileSource:
    """Return a file with the names and the doubled variables of a model, if that is saved at the same places."""
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


def doubt_classes(classes: Collection[OwnClass]) -> Iterator[tuple[OwnClass, str]]:
    """Yield those of `classes` that save or load in a way of their own, or may, with what tells so.

    What this process knows of a class tells it, beside the text of its module, which may give each object a hook.
    """
    for own in sorted(classes):
        known = _find_known(own)
        text = doubt_class(own.module, own.name)
        if isinstance(known, type):
            text = HAS if text == HAS or any(is_own_hook(known, hook) for hook in HOOKS) else ""
        if text:
            yield own, text


def _find_known(own: OwnClass) -> Any:
    """Return the class where it has been imported already."""
    saving = getattr(sys.modules.get("keras"), "saving", None)
    registered = saving.get_registered_object(own.registered) if saving is not None else None
    return registered or getattr(sys.modules.get(own.module), own.name, None)
