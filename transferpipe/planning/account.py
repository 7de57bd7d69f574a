"""What becomes of every weight that the sources hold: used, ignored, or left over."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from transferpipe.errors import Problems
from transferpipe.planning.claims import find_units
from transferpipe.planning.fates import Fates
from transferpipe.planning.model import PlanWarning, SourceRef, SourceWeight
from transferpipe.recipe.model import Recipe
from transferpipe.recipe.patterns import Pattern
from transferpipe.text.listing import listed
from transferpipe.weights.name import ancestors
from transferpipe.weights.spec import Catalog

_MOST_NAMED = 4  # weights that a hint names one by one
_Place = tuple[str, str]
"""The name of a source, and of a weight or a layer in it."""


def account_for_sources(
    recipe: Recipe, sources: Mapping[str, Catalog], fates: Fates, problems: Problems, beside: Collection[_Place]
) -> tuple[SourceWeight, ...]:
    """Return what becomes of each source weight, and note it where a recipe wants all of them used and some are not.

    Args:
        recipe: the recipe.
        sources: the catalogs of the sources by their names.
        fates: what the target's weights take.
        problems: takes what is wrong.
        beside: weights that are used although no target weight takes them, by their source and name.
    """
    references = _read_for_units(fates)
    used = {*beside, *_places(ref for a in fates.assignments.values() for ref in a.sources), *_places(references)}
    # What else lies in the layers that units are aligned with (the bias of an output) says nothing of their order.
    aligned = {(ref.source, ref.layer) for ref in references}
    ignored = _ignored(recipe, sources)
    account = []
    for alias, catalog in sorted(sources.items()):
        for weight in catalog:
            key = (alias, weight.name)
            is_expected = key in ignored or weight.name in catalog.operands or (alias, weight.layer) in aligned
            account.append(SourceWeight(*key, "used" if key in used else "ignored" if is_expected else "unused"))
        for unread in catalog.unreadable:
            expected = any(i.source in (None, alias) and _reaches(i.pattern, unread.name) for i in recipe.ignore)
            account.append(SourceWeight(alias, unread.name, "ignored" if expected else "unreadable"))
    if recipe.unused == "error" and not problems.found:
        unused = [f"{w.source}:{w.name}" if len(sources) > 1 else w.name for w in account if w.fate == "unused"]
        _refuse_unused(recipe, unused, problems)
    return tuple(account)


def warn_of_unreadable(sources: Mapping[str, Catalog], account: Sequence[SourceWeight]) -> Iterator[PlanWarning]:
    """Yield one warning a source of what it holds and nobody can read."""
    for alias, catalog in sources.items():
        left = [catalog.unread[w.name] for w in account if (w.source, w.fate) == (alias, "unreadable")]
        if left:
            count = (
                f"{len(left)} weights of {catalog.label} cannot"
                if len(left) > 1
                else f"a weight of {catalog.label} cannot"
            )
            text = f"{count} be read: {listed([u.name for u in left], 3)}; {left[0].name} {left[0].reason}"
            yield PlanWarning("unreadable", alias, f"{text}: {left[0].fix}, or `ignore` it")


def _places(refs: Iterable[SourceRef]) -> set[_Place]:
    return {(ref.source, ref.name) for ref in refs}


def _read_for_units(fates: Fates) -> set[SourceRef]:
    """Return the weights that are read to choose or to align units."""
    entries = (use.reference for choice in fates.units for use in choice.uses if use.reference is not None)
    return {ref for entry in entries for ref in entry.sources}


def _ignored(recipe: Recipe, sources: Mapping[str, Catalog]) -> set[_Place]:
    """Return the weights that the recipe says to ignore."""
    return {
        (alias, catalog[weight].name)
        for ignore in recipe.ignore
        for alias, catalog in sources.items()
        if ignore.source in (None, alias)
        for unit in find_units(ignore.pattern, catalog.expanded)
        for weight in unit.weights
    }


def _refuse_unused(recipe: Recipe, unused: Sequence[str], problems: Problems) -> None:
    if unused:
        what = f"nothing uses {len(unused)} source weight{'s' * (len(unused) != 1)}: {listed(unused)}"
        problems.add("unused", what, _advise_ignoring(recipe, unused))


def _advise_ignoring(recipe: Recipe, unused: Sequence[str]) -> str:
    if len(unused) > _MOST_NAMED:
        return "add a rule for them, or list them under `ignore`"
    known = [f"{i.source}:{i.pattern.text}" if i.source else i.pattern.text for i in recipe.ignore]
    return f"add a rule for them, or ignore them: ignore=[{','.join([*known, *unused])}]"


def _reaches(pattern: Pattern, name: str) -> bool:
    """Tell whether a pattern means a weight that is in no catalog, or a layer above it."""
    return any(pattern.match(n) for n in (name, *ancestors(name)) if n)
