"""What belongs together where names alone do not say it: below one more layer, and by position inside of one layer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from transferpipe.planning.model import UNMATCHED_RULE, Assignment, SourceRef
from transferpipe.recipe.model import From, Rule
from transferpipe.recipe.patterns import Pattern
from transferpipe.recipe.templates import Template
from transferpipe.weights.spec import Catalog, WeightSpec


def rule_for_root(here: Catalog, there: Catalog, alias: str) -> tuple[Rule, str, str] | None:
    """Return the rule that pairs by name where all of one side lies under one layer that the other has not, and which.

    So do the weights of a checkpoint of an object that holds the model, and those of a model inside of another.
    """
    # Either side may be the one with a layer more; that of B is tried first.
    for root, to, names, others in (
        (root_of(there), r"{}/(.*)", there, here),
        (root_of(here), "(.*)", here, there),
    ):
        # One name that fits below is enough: the rest is judged pair by pair.
        if root and any(name[len(root) + 1 :] in others for name in names.by_name):
            pattern = Pattern(to.format(re.escape(root)))
            written = re.sub(r"([\\{}])", r"\1\1", root)  # as a template has these characters
            template = r"\1" if names is there else rf"{written}/\1"
            return Rule("root", pattern, (From(alias, template, Template(template)),)), root, names.label
    return None


def root_of(catalog: Catalog) -> str:
    """Return the one outermost layer that holds all weights; empty where there are several."""
    # A weight without a layer is at the root itself, so that no one layer holds all.
    roots = {name.partition("/")[0] if "/" in name else "" for name in catalog.by_name}
    return roots.pop() if len(roots) == 1 else ""


def pair_rest(
    here: Sequence[WeightSpec], there: Sequence[WeightSpec], alias: str, roots: tuple[str, ...]
) -> Iterator[Assignment]:
    """Pair weights that no name has paired, where they are the same ones of the same layers.

    Args:
        here: what is left of the source.
        there: what is left of the target.
        alias: the source's name.
        roots: the outermost layers, with a slash, that hold all of one side, that of `here` first.
    """
    found = dict(_by_end(here, there))
    # Names before positions: they say more.
    taken = set(found.values())
    found |= _by_position([w for w in here if w not in taken], [w for w in there if w not in found], roots)
    for b, a in found.items():
        ref = SourceRef(alias, a.name, a.shape, a.dtype)
        # As the planner pairs by name, so that all that follows treats both alike.
        yield Assignment(b.name, UNMATCHED_RULE, (ref,), b.shape, b.dtype, a.dtype, pair="same_name")


def _by_end(here: Sequence[WeightSpec], there: Sequence[WeightSpec]) -> Iterator[tuple[WeightSpec, WeightSpec]]:
    """Yield pairs of which one name ends as the other is: some formats name further layers around a layer.

    Of several that end so, none is taken; nor is one of another shape.
    """
    ends: list[dict[str, list[WeightSpec]]] = [{}, {}]
    for side, weights in zip(ends, (here, there), strict=True):
        for weight in weights:
            for end in _ends(weight.name):
                side.setdefault(end, []).append(weight)
    names = [{w.name: w for w in weights} for weights in (here, there)]
    for weight in there:
        # Either one's name may be the longer.
        longer, shorter = ends[0].get(weight.name, []), names[0]
        # Where another weight of this side ends so as well, it is open which of them is meant.
        # Every end of every name once, so that looking for a match is no loop over all weights.
        shorter_ones = [shorter[end] for end in _ends(weight.name) if end in shorter and len(ends[1].get(end, [])) == 1]
        found = [w for w in (*longer, *shorter_ones) if w.shape == weight.shape]
        # A second one that ends so, whatever its shape, leaves open which is meant.
        if len(found) == 1 and len(longer) + len(shorter_ones) == 1:
            yield weight, found[0]


def _ends(name: str) -> Iterator[str]:
    """Yield the name without its outermost layers, as long as a layer and a weight are left."""
    # The whole name is not among them: equal names have been paired before.
    _, _, end = name.partition("/")
    while "/" in end:
        yield end
        _, _, end = end.partition("/")


def _by_position(
    here: Sequence[WeightSpec], there: Sequence[WeightSpec], roots: tuple[str, ...]
) -> dict[WeightSpec, WeightSpec]:
    """Return pairs of the same place in the same outermost layer.

    Formats call the parts of a layer by other names (the cell of an LSTM, the layer inside of a wrapper), or number its
    weights. They keep their order; so what is left of a layer is paired if there is equally much of it on both sides
    and all shapes agree, and the own names as far as both sides have names.
    """
    found: dict[WeightSpec, WeightSpec] = {}
    theirs, ours = (_by_layer(side, root) for side, root in zip((here, there), roots, strict=True))
    # In the order of the file, and not of a set: that of texts is another in every process.
    for layer in (name for name in ours if name and name in theirs):
        pairs = list(zip(ours[layer], theirs[layer], strict=False))
        # One more or one less, and every place behind it would be another weight's.
        if len(ours[layer]) == len(theirs[layer]) and all(_may_be_same(b, a) for b, a in pairs):
            found |= dict(pairs)
    return found


def _by_layer(weights: Iterable[WeightSpec], root: str) -> dict[str, list[WeightSpec]]:
    found: dict[str, list[WeightSpec]] = {}
    for weight in weights:
        below = weight.name.removeprefix(root)
        found.setdefault(below.partition("/")[0] if "/" in below else "", []).append(weight)
    return found


def _may_be_same(one: WeightSpec, other: WeightSpec) -> bool:
    names = one.own_name, other.own_name
    # A number says only where a weight stands; a word that differs says that it is another.
    return one.shape == other.shape and (names[0] == names[1] or any(name.isdigit() for name in names))
