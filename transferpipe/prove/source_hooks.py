"""What Keras would load of a source whose classes have hooks of their own, where another class takes its weights."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping

from transferpipe.models.building.build import import_keras
from transferpipe.models.file_classes import OwnClass, doubt_classes, find_own_classes, load_classes
from transferpipe.models.structure import configs_by_layer
from transferpipe.models.walk import walk
from transferpipe.packages import is_installed
from transferpipe.planning.model import PlanWarning
from transferpipe.planning.plan import Plan
from transferpipe.text.listing import listed
from transferpipe.values.compare import same_bits
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.spec import Catalog, Source


def warn_of_hooks(
    plan: Plan, sources: Mapping[str, Source], target: Catalog, trusted: Collection[str]
) -> Iterator[PlanWarning]:
    """Yield of which weights that are taken Keras may have other values than the file, as classes are not at hand.

    It reads no values: `check_sources` compares them where the classes are at hand.

    Args:
        plan: what is taken.
        sources: by their names.
        target: the weights that take it.
        trusted: packages that the command line vouched for.

    Raises:
        RecipeError: the user vouches for a module that has no such class, or cannot be imported.
    """
    for alias, source, own, (text, names) in _find_hooked(plan, sources, target):
        if not _is_at_hand(own, trusted):
            called = ".".join(filter(None, (own.module, own.name)))
            advice = f": its module is not imported without --trust {own.package}" if own.module else ""
            what = f"Keras may load another value than {source.path.name} holds of {listed(names)}"
            yield PlanWarning("loads-otherwise", alias, f"{what}: {called} {text}{advice}")


def check_sources(
    plan: Plan, sources: Mapping[str, Source], target: Catalog, trusted: Collection[str]
) -> Iterator[PlanWarning]:
    """Yield of which weights that are taken Keras has other values than the file, where their classes are at hand.

    A layer of the same class takes what the file holds, and makes of it on loading what the source's makes. The
    arguments are those of `warn_of_hooks`.
    """
    for alias, source, own, (_, names) in _find_hooked(plan, sources, target):
        if _is_at_hand(own, trusted) and (differing := _list_differing(source, names, trusted)):
            called = ".".join(filter(None, (own.module, own.name)))
            what = f"Keras loads another value than {source.path.name} holds of {listed(differing)}"
            yield PlanWarning("loads-otherwise", alias, f"{what}, by the load hook of {called}: the file's is taken")


def _is_at_hand(own: OwnClass, trusted: Collection[str]) -> bool:
    return is_installed("keras") and bool(load_classes([own], trusted))


def _find_hooked(
    plan: Plan, sources: Mapping[str, Source], target: Catalog
) -> Iterator[tuple[str, FileSource, OwnClass, tuple[str, list[str]]]]:
    """Yield what layers of other classes take of the user's own classes with hooks: of each source, class by class."""
    for alias, source in sources.items():
        if isinstance(source, FileSource) and source.format == "keras":
            for own, taken in _list_taken(plan, alias, source, target).items():
                yield alias, source, own, taken


def _list_taken(plan: Plan, alias: str, source: FileSource, target: Catalog) -> dict[OwnClass, tuple[str, list[str]]]:
    """Return by class, with what makes it doubtful, the weights of its layers that layers of other classes take."""
    doubts = {own.name: (own, text) for own, text in doubt_classes(find_own_classes(source.config))}
    found: dict[OwnClass, tuple[str, list[str]]] = {}
    layers = configs_by_layer(source.groups, source.config) if doubts else {}
    for a in plan.assignments if doubts else ():
        for ref in a.sources:
            config = layers.get(source.catalog[ref.name].layer) if ref.source == alias else None
            own, text = doubts.get(str(config["class_name"]) if config else "", (None, ""))
            if own is not None and source.catalog[ref.name].layer_class != target[a.target].layer_class:
                found.setdefault(own, (text, []))[1].append(ref.name)
    return found


def _list_differing(source: FileSource, names: list[str], trusted: Collection[str]) -> list[str]:
    """Return those of `names` of which Keras has another value after loading the file; all if it does not load."""
    known = load_classes(find_own_classes(source.config), trusted)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = import_keras().models.load_model(source.path, custom_objects=known, compile=False)
    except (Exception, SystemExit):  # a user's own code may raise anything
        return names
    walked = walk(model, source.label)
    there = {spec.where: spec.name for spec in walked.catalog.expanded}
    places = {name: there.get(source.catalog[name].where, "") for name in names}
    return [n for n, p in places.items() if not p or not same_bits(source.read(n), walked.read(p))]
