"""Which preprocessing layers a recipe pairs, so that what they learned comes along.

These layers hold no weights (but for those of `tf_idf`, which go as weights do), so no weight is claimed with them. A
Normalization that was adapted has its statistics in weights; one to which they were given takes them from either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from transferpipe.errors import Problems
from transferpipe.planning.advice.taking_out import advise_choosing, advise_keeping
from transferpipe.planning.claims import Unit
from transferpipe.planning.model import UNMATCHED_RULE, StateMove
from transferpipe.recipe.model import From, Recipe, Rule
from transferpipe.recipe.patterns import NameMatch, Pattern
from transferpipe.weights.name import ancestors
from transferpipe.weights.network import Node
from transferpipe.weights.spec import Catalog

NORMALIZATION = "Normalization"
KINDS: Mapping[str, str] = {
    "StringLookup": "vocabulary",
    "IntegerLookup": "vocabulary",
    "TextVectorization": "vocabulary",
    "Discretization": "boundaries",
    NORMALIZATION: "statistics",
}
"""What the classes of Keras learn that learn something beside weights."""
LEARNED_SETTINGS = frozenset({"vocabulary", "vocabulary_size", "idf_weights", "bin_boundaries", "mean", "variance"})
"""Where their configurations hold it."""


def lookups_of(catalog: Catalog) -> dict[str, Node]:
    """Return the layers that a file or model tells of which keep what they learned beside weights, by their names.

    Not those that they hold themselves, nor a Normalization whose statistics are weights.
    """
    found = _list_learning(catalog)
    return {name: node for name, node in found.items() if not _has_weights(node, catalog)}


def _list_learning(catalog: Catalog) -> dict[str, Node]:
    """Return the same with those whose statistics are weights."""
    nodes = catalog.network.nodes if catalog.network and catalog.network.has_layers else ()
    found = {node.name: node for node in nodes if node.layer_class in KINDS}
    return {name: node for name, node in found.items() if not any(a in found for a in ancestors(name))}


def _has_weights(node: Node, catalog: Catalog) -> bool:
    return node.layer_class == NORMALIZATION and (node.settings.get("mean") is None or node.name in catalog.layers)


def is_adapted(weight: str, catalog: Catalog) -> bool:
    """Tell whether a weight is one of the statistics of a Normalization that was, or can be, adapted."""
    return catalog[weight].layer_class == NORMALIZATION


def split_statistics(units: Sequence[Unit], target: Catalog) -> tuple[list[Unit], list[str]]:
    """Return the units without the adapted statistics that they bring with a layer, and the names of these.

    ``state: keep`` leaves them as the target has them; a rule that names such a weight itself means it.
    """
    held = [w for unit in units if unit.is_layer for w in unit.weights if is_adapted(w, target)]
    if not held:
        return list(units), []
    out = set(held)
    rest = (replace(unit, weights=tuple(w for w in unit.weights if w not in out)) for unit in units)
    return [unit for unit in rest if unit.weights], held


def names_lookup(pattern: Pattern, catalog: Catalog) -> bool:
    """Tell whether a pattern matches a lookup layer, by its own name or by that of a layer above it."""
    return any(match_layer(pattern, name) for name in lookups_of(catalog))


def pair_states(
    recipe: Recipe, target: Catalog, sources: Mapping[str, Catalog], problems: Problems
) -> tuple[StateMove, ...]:
    """Return the lookup layers that the recipe pairs, in the target's order; how much they learned is not known here.

    A rule pairs them as it pairs layers with weights. Under ``unmatched: same_name`` those without a rule take from the
    one source that has a layer of their name.
    """
    ours = lookups_of(target)
    theirs = {alias: _list_learning(catalog) for alias, catalog in sources.items()}
    moves: dict[str, StateMove] = {}
    claimed: dict[str, Rule] = {}
    for rule in recipe.rules:
        matches = {
            n: m for n in ours if (m := match_layer(rule.to, n)) and not any(match_layer(x, n) for x in rule.excepts)
        }
        for name in matches:
            _note_several(name, claimed, rule, target, problems)
            claimed[name] = rule
        if rule.keep or len(rule.froms) != 1 or not matches:
            continue
        origin = rule.froms[0]
        known = theirs[origin.source]
        by_order = rule.pair == "order"
        pairs = _by_order(origin, matches, ours, known) if by_order else _by_name(origin, matches, tuple(known))
        for name in matches:
            node = known.get(pairs.get(name, ""))
            if node is not None and node.layer_class == ours[name].layer_class:
                moves[name] = _move(recipe, ours[name], origin.source, node.name, rule.name)
            elif ours[name].layer_class == NORMALIZATION and rule.to.text != name:
                continue  # given numbers may be part of how a model is built, which a pattern need not mean
            elif matches[name].name == name and not target.layers.get(name):  # the rule names this layer, which has
                keeping = "from=null" if rule.to.text == name else advise_keeping(rule, [name], target)
                found = f"{pairs.get(name) or origin.text} of {sources[origin.source].label}"
                what = f"is no {ours[name].layer_class} whose {KINDS[ours[name].layer_class]} {name} could take"
                problems.add(
                    f"{rule.where}.from",
                    f"{found} {what}",
                    f"name one, or keep the target's: {keeping}",
                )
    if recipe.unmatched in ("same_name", "same_name_or_keep"):
        left = [node for name, node in ours.items() if name not in claimed]
        moves.update((move.target, move) for move in _namesakes(recipe, left, theirs))
    return tuple(moves[name] for name in ours if name in moves)


def counted_weights(moves: Sequence[StateMove], sources: Mapping[str, Catalog]) -> set[tuple[str, str]]:
    """Return the weights of layers that boundaries of before Keras 3, and statistics, are made of which are taken."""
    kinds = ("boundaries", "statistics")
    layers = {(m.source, m.source_layer) for m in moves if m.kind in kinds and m.fate == "taken"}
    return {(alias, spec.name) for alias, layer in layers for spec in sources[alias] if spec.layer == layer}


def _namesakes(recipe: Recipe, left: Sequence[Node], theirs: Mapping[str, Mapping[str, Node]]) -> Iterator[StateMove]:
    for node in left:
        found = {alias: known[node.name] for alias, known in theirs.items() if node.name in known}
        holders = [alias for alias, other in found.items() if other.layer_class == node.layer_class]
        if len(holders) == 1:
            yield _move(recipe, node, holders[0], node.name, UNMATCHED_RULE)


def _note_several(name: str, claimed: Mapping[str, Rule], rule: Rule, target: Catalog, problems: Problems) -> None:
    if name in claimed:
        where = f"mapping.{claimed[name].name}, {rule.where}"
        problems.add(where, f"both claim {name}", advise_choosing((claimed[name], rule), ([name], [name]), target))


def match_layer(pattern: Pattern, name: str) -> NameMatch | None:
    """Return what a pattern matches of a layer and those above it, the outermost first as with weights."""
    return next((m for n in (*ancestors(name)[-2::-1], name) if n and (m := pattern.match(n))), None)


def _by_name(origin: From, matches: Mapping[str, NameMatch], theirs: Sequence[str]) -> dict[str, str]:
    found = {}
    for name, match in matches.items():
        try:
            layer = origin.template.fill(match, lambda n: n in theirs) if origin.template else match.name
        except ValueError:  # which is said where weights are paired, or below: there is no such layer
            continue
        found[name] = f"{layer}{name[len(match.name) :]}".lstrip("/")
    return found


def _by_order(
    origin: From, matches: Mapping[str, NameMatch], ours: Mapping[str, Node], theirs: Mapping[str, Node]
) -> dict[str, str]:
    found: dict[str, str] = {}
    for normal in (False, True):  # what is normalized may be so by weights on one side, and is counted by itself
        asked = [n for n in matches if (ours[n].layer_class == NORMALIZATION) == normal]
        offered = [n for n, node in theirs.items() if (node.layer_class == NORMALIZATION) == normal]
        offered = [n for n in offered if origin.pattern is None or match_layer(origin.pattern, n)]
        if len(offered) == len(asked):
            found.update(zip(asked, offered, strict=True))
    return found


def _move(recipe: Recipe, node: Node, source: str, layer: str, rule: str) -> StateMove:
    fate = "kept" if recipe.state == "keep" else "taken"
    return StateMove(node.name, source, layer, rule, KINDS[node.layer_class], 0, fate)  # type: ignore[arg-type]
