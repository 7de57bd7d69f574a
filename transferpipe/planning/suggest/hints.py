"""Pairs that the user gives: they are taken as they are, and everything else goes around them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from transferpipe.errors import Problems, RecipeError, did_you_mean
from transferpipe.planning.claims import Unit, find_units
from transferpipe.planning.suggest.pieces import Fits, Piece
from transferpipe.planning.suggest.sides import Sides
from transferpipe.planning.suggest.templates import escape
from transferpipe.recipe.model import SINGLE
from transferpipe.recipe.patterns import Pattern
from transferpipe.recipe.templates import Template
from transferpipe.weights.spec import Catalog

_MOST_SHOWN = 4
"""Weights of a layer that a message lists; more are those of a container."""


def read_hints(hints: Mapping[str, str | None], fits: Fits) -> dict[int, int | None]:
    """Return by target piece the source piece that a hint gives it; None where it keeps what it has.

    Raises:
        RecipeError: a hint names what is not there, or pairs layers of different shapes.
    """
    problems = Problems()
    fixed: dict[int, int | None] = {}
    number = {(p.name, p.is_layer): j for j, p in enumerate(fits.sources)}
    target = fits.pairing.target
    for to, source in hints.items():
        try:
            units = find_units(Pattern(str(to)), target)
            template = Template(str(source)) if source is not None else None
            names = [template.fill(u.match) if template else None for u in units]
        except ValueError as error:
            problems.add(f"hints.{to}", str(error))
            continue
        if not units:
            near = did_you_mean(str(to), [*target.layers, *target.by_name])
            problems.add(f"hints.{to}", "the target has nothing of that name", near)
        for unit, name in zip(units, names, strict=True):
            for i, inside in _pieces_in(unit, fits):
                wanted = f"{name}{inside}".lstrip("/")
                j = number.get((wanted, fits.targets[i].is_layer))
                if name is None or j in fits.of[i]:
                    fixed[i] = None if name is None else j
                else:
                    _refuse(f"hints.{to}", (fits.targets[i], wanted), fits, problems)
    problems.raise_as(RecipeError)
    return fixed


def turn_hints(hints: Mapping[str, str | None], sides: Sides) -> tuple[list[str], dict[str, str]]:
    """Return hints that pair tensors of the source with weights of the target, as such of the target and the source.

    Args:
        hints: a name of the source, or a pattern, and the target's name, or a template; None leaves the tensor alone.
        sides: where weights of the target are to go into tensors of the source.

    Returns:
        The tensors that are left alone, and the pairs that are given, by names of the target.

    Raises:
        RecipeError: a hint names what is not there.
    """
    problems, kept, pairs = Problems(), list[str](), dict[str, str]()
    catalog, target = sides.source.expanded, sides.target.catalog.expanded
    for tensor, weight in hints.items():
        try:
            units = find_units(Pattern(str(tensor)), catalog)
            template = Template(str(weight)) if weight is not None else None
            names = [template.fill(u.match) if template else None for u in units]
        except ValueError as error:
            problems.add(f"hints.{tensor}", str(error))
            continue
        if not units:
            near = did_you_mean(str(tensor), [*catalog.layers, *catalog.by_name])
            problems.add(f"hints.{tensor}", f"{sides.labels[SINGLE]} has nothing of that name", near)
        for unit, name in zip(units, names, strict=True):
            if name is None:
                kept += unit.weights
            elif name in target.layers or name in target:
                # The pair is turned round: the target's name becomes the pattern, and the tensor's the template.
                pairs[escape(name)] = unit.name.replace("\\", "\\\\").replace("{", "{{").replace("}", "}}")
            else:
                what = f"{sides.labels['target']} has nothing called {name!r}"
                problems.add(f"hints.{tensor}", what, did_you_mean(name, [*target.layers, *target.by_name]))
    problems.raise_as(RecipeError)
    return kept, pairs


def without(catalog: Catalog, names: Collection[str]) -> Catalog:
    """Return the catalog without the weights of these names."""
    left = tuple(w for w in catalog if w.name not in names)
    return replace(catalog, weights=left) if names else catalog


def _pieces_in(unit: Unit, fits: Fits) -> Iterator[tuple[int, str]]:
    """Yield the pieces that a hint is about, each with its name as seen from there."""
    for i, piece in enumerate(fits.targets):
        if set(piece.weights) <= set(unit.weights):
            yield i, piece.name[len(unit.name) :]
        elif not piece.is_layer and unit.name in piece.weights:
            yield i, ""


def _refuse(where: str, pair: tuple[Piece, str], fits: Fits, problems: Problems) -> None:
    """Note what is wrong with a hint, and what the source has instead."""
    piece, wanted = pair
    catalog = fits.pairing.sources[SINGLE]
    there = wanted in catalog.layers or wanted in catalog
    weights = [catalog[w] for w in catalog.layers.get(wanted, (wanted,))] if there else []
    theirs = ", ".join(f"{w.own_name} {w.shape}" for w in weights[:_MOST_SHOWN])
    ours = ", ".join(
        f"{w.own_name} {w.shape}" for w in map(fits.pairing.target.__getitem__, piece.weights[:_MOST_SHOWN])
    )
    what = f"{piece.name} ({ours}) cannot take {wanted}"
    what += f" ({theirs}): their shapes or weights differ" if there else ": the source has nothing of that name"
    problems.add(where, what, "" if there else did_you_mean(wanted, [*catalog.layers, *catalog.by_name]))
