"""What lookup layers learned, on its way from a source into the target: read, judged, given, verified."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from transferpipe.errors import Problem, Problems, RecipeError, VerificationError
from transferpipe.models.source import ModelSource
from transferpipe.models.state.lookups import (
    LearnedState,
    boundaries_of_summary,
    give_state,
    special_terms,
    state_of_config,
    state_of_layer,
    statistics_of,
)
from transferpipe.models.structure import configs_by_layer, names_by_path
from transferpipe.models.target import FileTarget, ModelTarget, Target
from transferpipe.planning.learned_state import KINDS, lookups_of, match_layer
from transferpipe.planning.model import PlanWarning, StateMove
from transferpipe.planning.plan import Plan
from transferpipe.recipe.model import Recipe
from transferpipe.recipe.outputs import output_of, outputs_of
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.network import Network, Node
from transferpipe.weights.spec import Source

# Between a lookup and an Embedding these pass the numbers of terms on as they are.
_PASSING = ("Dropout", "Reshape", "Flatten", "Identity", "ExpandDims", "Squeeze", "Activation")
_OF_TERMS = tuple(layer_class for layer_class, kind in KINDS.items() if kind == "vocabulary")


def read_state(origin: object, layer: str) -> LearnedState | None:
    """Return what the lookup layer called `layer` of a source learned; None where that is not known.

    Raises:
        FileError: the archive is damaged, or is not the one that was opened.
    """
    if isinstance(origin, ModelSource | ModelTarget):
        found = origin.walked.layers.get(layer)
        return state_of_layer(found) if found is not None else None
    if not isinstance(origin, FileSource):
        return None
    config = configs_by_layer(origin.groups, origin.config).get(layer)
    if adapted := _read_adapted(origin, layer):
        return adapted
    if config is None:  # files without such groups, as legacy .h5 ones, still describe the network
        node = lookups_of(origin.catalog).get(layer)
        if node is None:
            return None
        is_stated = any(node.settings.get(key) not in (None, []) for key in ("bin_boundaries", "vocabulary", "mean"))
        counted = _read_counted(origin, layer, node.layer_class, node.settings)
        return state_of_config(node.layer_class, node.settings, None) if is_stated else counted
    if counted := _read_counted(origin, layer, str(config["class_name"]), config["config"]):
        return counted
    from transferpipe.save.assets import archived

    # Keras lays assets of a layer where it lays its weights.
    place = {name: path for path, name in names_by_path(origin.groups).items()}[layer]
    # Lazily: the archive is read up to the vocabulary asked for, and no further.
    texts = (b"".join(c) for name, c in archived(origin) if name == f"assets/{place}/vocabulary.txt")
    asset = next((text.decode() for text in texts), None)
    return state_of_config(str(config["class_name"]), config["config"], asset)


def _read_counted(origin: FileSource, layer: str, layer_class: str, config: Mapping[str, Any]) -> LearnedState | None:
    """Return the boundaries of an adapted Discretization whose file holds what they are computed of, and not them."""
    bins = config.get("num_bins")
    if layer_class != "Discretization" or config.get("bin_boundaries") or not isinstance(bins, int) or bins < 1:
        return None
    counted = [spec for spec in origin.catalog if spec.layer == layer and len(spec.shape) == 2 and spec.shape[0] == 2]
    return boundaries_of_summary(origin.read_entry(counted[0]), bins) if len(counted) == 1 else None


def _read_adapted(origin: FileSource, layer: str) -> LearnedState | None:
    """Return the statistics of a Normalization that was adapted, which has them in weights."""
    parts = [origin.catalog.by_name.get(f"{layer}/{own}") for own in ("mean", "variance")]
    found = [spec for spec in parts if spec is not None and spec.layer_class == "Normalization"]
    return statistics_of(*map(origin.read_entry, found)) if len(found) == 2 else None


def plan_state(recipe: Recipe, plan: Plan, target: Target, sources: Mapping[str, Source]) -> Plan:
    """Return `plan` with how much the sources' lookup layers learned, and what is odd about it.

    Raises:
        RecipeError: a rule names a layer that learned nothing, or too much for the target's.
    """
    moves, warnings, problems = [], list(plan.warnings), Problems()
    ours = lookups_of(target.structure.catalog)
    named = {rule.name: rule for rule in recipe.rules}
    for move in plan.state:
        state, rule = read_state(sources[move.source], move.source_layer), named.get(move.rule)
        # Not an error: a source may well be a file of weights, of which nobody expects a vocabulary.
        if state is None and move.fate == "taken":
            text = f"the {move.kind} of {move.source_layer} cannot be read from {plan.sources[move.source]}"
            where = rule.where if rule else move.rule
            warnings.append(PlanWarning("state-unread", where, f"{text}; {move.target} keeps its own"))
        node = ours[move.target]
        size = state.size if state else 0
        if move.fate == "kept" or not size or _lacks_weights(move, node, plan):
            if move.fate == "taken" and state and not size and rule and rule.to.match(move.target):
                # Asked for by a rule, an empty vocabulary is an error: the target would know no term at all.
                what = f"{move.source_layer} of {plan.sources[move.source]} has no {move.kind}: {move.target} needs one"
                problems.add(f"{rule.where}.from", what, "adapt that layer, or keep the target's: state=keep")
            moves.append(replace(move, size=size, fate="kept"))
            continue
        # Terms such as [UNK] take the first numbers, and are counted in max_tokens.
        special = len(special_terms(node.layer_class, node.settings)) if move.kind == "vocabulary" else 0
        most = node.settings.get("max_tokens")
        where = rule.where if rule else move.rule
        if isinstance(most, int) and size + special > most:
            what = f"{move.target} takes at most {most} terms (max_tokens), {move.source_layer} has {size + special}"
            problems.add(where, what, "build the target with a larger max_tokens, or set state=keep")
        problems.found += _check_statistics(move, state, target, where)
        # Boundaries of bins number one more bin than they are.
        whole = size + (special if move.kind == "vocabulary" else 1)
        warnings += _too_many(move, whole, where, target.structure.catalog.network)
        moves.append(replace(move, size=size))
    problems.found += _lack_vocabulary(recipe, replace(plan, state=tuple(moves)), target, sources)
    problems.raise_as(RecipeError)
    # Of outputs, only those with an architecture hold what lookups learned: the others are warned of.
    taken = [m for m in moves if m.fate == "taken"]
    left = next((p for p in plan.save if output_of(p).streams and not output_of(p).is_model), None)
    if taken and left and not any(o.holds_architecture for o in outputs_of(plan.save)):
        for move in taken:
            origin = target.source if isinstance(target, FileTarget) else target
            if read_state(origin, move.target) == read_state(sources[move.source], move.source_layer):
                # Nothing is lost: both know the same.
                continue
            text = f"{left} holds weights only, not the {move.kind} that {move.target} takes from {move.source_layer}"
            warnings.append(PlanWarning("state-not-saved", "save", f"{text}; save a .keras file too"))
    return replace(plan, state=tuple(moves), warnings=tuple(warnings))


def _lack_vocabulary(recipe: Recipe, plan: Plan, target: Target, sources: Mapping[str, Source]) -> Iterator[Problem]:
    """Yield the lookup layers whose empty vocabulary Keras would save, and then not load (keras 3.15, index_lookup.py).

    Weights alone are loaded into layers that have theirs, and a SavedModel has no terms to be read.
    """
    saved = next((path for path in plan.save if output_of(path).holds_architecture), None)
    taken = {move.target for move in plan.state if move.fate == "taken"}
    origin = target.source if isinstance(target, FileTarget) else target
    ours = lookups_of(target.structure.catalog) if saved else {}
    for name, node in ours.items():
        state = read_state(origin, name) if node.layer_class in _OF_TERMS and name not in taken else None
        if state is None or state.size:  # None: nothing tells, and the check of loading sees it
            continue
        what = f"the {node.layer_class} {name} has an empty vocabulary: Keras saves {saved} with it and cannot load it"
        offered = None if _is_settled(recipe, name) else _find_terms(node.layer_class, sources)
        fix = "adapt the layer before, or give it `vocabulary=[...]`; or save weights alone, as .weights.h5"
        yield Problem(
            "target", what, f"add a rule that takes one: {{to: '{name}', from: '{offered}'}}" if offered else fix
        )


def _is_settled(recipe: Recipe, name: str) -> bool:
    """Tell whether the recipe says already what becomes of the lookup layer `name`."""
    return recipe.state == "keep" or any(match_layer(rule.to, name) for rule in recipe.rules)


def _find_terms(layer_class: str, sources: Mapping[str, Source]) -> str | None:
    """Return the first layer of a class in the sources that has a vocabulary, as a rule's `from` names it."""
    for alias, source in sources.items():
        for name, node in lookups_of(source.catalog).items():
            state = read_state(source, name) if node.layer_class == layer_class else None
            if state is not None and state.size:
                return f"{alias}:{name}" if len(sources) > 1 else name
    return None


def _check_statistics(move: StateMove, state: LearnedState | None, target: Target, where: str) -> Iterator[Problem]:
    """Yield that a Normalization cannot take statistics of another shape than its own; one number fits all."""
    if move.kind != "statistics":
        return
    own = read_state(target.source if isinstance(target, FileTarget) else target, move.target)
    shapes = [np.shape(each.values[0]) if each and each.values else () for each in (state, own)]
    if shapes[0] != shapes[1] and all(shapes):
        what = f"{move.source_layer} has statistics of shape {shapes[0]}, {move.target} of {shapes[1]}"
        yield Problem(where, what, "build the layers alike, or set state=keep")


def _lacks_weights(move: StateMove, node: Node, plan: Plan) -> bool:
    """Tell whether a layer in mode tf_idf keeps the weights of its own terms, which go with no others."""
    # One weight a term, in the order of the vocabulary.
    weights = f"{move.target}/idf_weights"
    return node.settings.get("output_mode") == "tf_idf" and all(a.target != weights for a in plan.assignments)


def _too_many(move: StateMove, size: int, where: str, network: Network | None) -> Iterator[PlanWarning]:
    """Yield a warning of every Embedding behind a lookup that has no rows for its last numbers."""
    # Numbers of terms pass through some layers unchanged: what matters is the Embedding that they reach.
    numbers = move.kind != "statistics"
    waiting = list(network.consumers.get(move.target, ())) if numbers and network and network.connected else []
    seen: set[str] = set()
    while waiting and network:
        node = network.by_name[waiting.pop()]
        # Networks may join again behind a branch.
        if node.name in seen:
            continue
        seen.add(node.name)
        rows = node.settings.get("input_dim")
        # What a number beyond the last row gives depends on backend and device: only some refuse it.
        if node.layer_class == "Embedding" and isinstance(rows, int) and rows < size:
            text = (
                f"{move.target} gives numbers up to {size - 1} with the {move.kind} of {move.source_layer} ({size} in "
                f"all), and the Embedding {node.name} that it feeds has input_dim {rows}"
            )
            yield PlanWarning("vocabulary-size", where, text)
        # Any other layer makes other numbers of them.
        if node.layer_class in _PASSING:
            waiting += network.consumers.get(node.name, ())


def states_taken(plan: Plan, sources: Mapping[str, Source]) -> dict[str, LearnedState]:
    """Return what the target's lookup layers take, by their names."""
    found = {m.target: read_state(sources[m.source], m.source_layer) for m in plan.state if m.fate == "taken"}
    return {name: state for name, state in found.items() if state is not None}


@contextmanager
def given_states(target: Target, states: Mapping[str, LearnedState]) -> Iterator[ExitStack]:
    """Give a model at hand what its lookup layers take, until the context ends; `pop_all` makes it last.

    Raises:
        VerificationError: Keras refuses it; the model is what it was.
    """
    with ExitStack() as undo:
        if isinstance(target, ModelTarget) and states:
            # First in, last out: the configuration is forgotten after the layers have their old terms back.
            undo.callback(target.forget_config)
            for name, state in states.items():
                try:
                    undo.callback(give_state(target.walked.layers[name], state))
                except (ValueError, RuntimeError) as error:
                    what = f"Keras refuses the {state.kind}: {str(error).strip().partition(chr(10))[0]}"
                    raise VerificationError(Problem(name, what, "build the layer alike, or set state=keep")) from error
            target.forget_config()
        yield undo


def check_states(layers: Mapping[str, Any], states: Mapping[str, LearnedState], problems: Problems) -> None:
    """Note the layers that have not what they take."""
    for name, state in states.items():
        layer = layers.get(name)
        found = state_of_layer(layer) if layer is not None else None
        if found != state:
            count = found.size if found else 0
            problems.add(name, f"has another {state.kind} than its source: {count} values, not the {state.size}")
