"""What `freeze` means for the whole model, seen from the root as Keras sees it.

Freezing a layer freezes everything below it. A layer that was switched on again below a frozen one does train (the
idiom ``base.trainable = False; base.layers[-1].trainable = True``), unless it is the root that is frozen (Keras 3:
`Layer.trainable` sets the flags below, `trainable_variables` asks the root's flag and each variable's own).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from transferpipe.errors import Problems, did_you_mean
from transferpipe.planning.model import Freezing, PlanWarning
from transferpipe.planning.structure import BATCH_NORMALIZATION, LayerState, TargetStructure
from transferpipe.recipe.model import Recipe
from transferpipe.text.listing import listed
from transferpipe.weights.name import WeightName, ancestors


def plan_freezing(
    recipe: Recipe, target: TargetStructure, transferred: Collection[str], problems: Problems
) -> Freezing:
    """Return which layers to freeze and what that makes of the model.

    Args:
        recipe: gives the patterns and the word ``transferred``.
        target: the target's structure.
        transferred: names of the weights that come from a source.
        problems: takes a pattern that matches nothing.
    """
    chosen: set[str] = set()
    named = target.catalog.expanded
    nodes = {layer.name for layer in target.layers if layer.name} | set(named.layers)
    for pattern in recipe.freeze:
        # Only the empty pattern names the root: `.*` has always meant all layers in it.
        matched = {n for n in nodes if pattern.match(n)} if pattern.text else {""} & target.by_name.keys()
        chosen |= matched
        if not matched:
            weights = [w.name for w in target.catalog if pattern.match(w.name)]
            what = f"{pattern.text!r} matches no layer of the target"
            fix = did_you_mean(pattern.text.replace("\\", ""), sorted(nodes))
            if weights:
                what += f"; it matches the weight {weights[0]}, and freezing is set on layers"
                layer = WeightName(weights[0]).layer
                fix = f"name its layer: {layer}" if layer else "'' freezes the whole model"
            problems.add("freeze", what, fix)
    if recipe.freeze_transferred:
        whole = {n for n, below in named.layers.items() if all(target.catalog[w].name in transferred for w in below)}
        chosen |= {n for n in whole if not whole.intersection(ancestors(n))}
        if not whole and not problems.found:  # rules that failed leave nothing transferred: they are the problem
            problems.add("freeze", "'transferred' matches nothing: no layer gets all of its weights from a source")
    # A cell holds all that its recurrent layer holds, and only the layer's own flag is recorded.
    chosen |= {holder.name for name in chosen if (holder := target.flag_keeper(name)) is not None}
    flags = frozen_flags(target, chosen)
    # A layer that is off need not keep all that it holds from training: it is switched off again.
    idle = {owner.name for weight in target.held_on for owner in _owners(weight, target) if not owner.trainable}
    again = {n for n in idle if chosen.intersection((n, *ancestors(n)))}
    return effective(target, flags, tuple(n for n in flags if n in again or flags[n] != target.by_name[n].trainable))


def frozen_flags(target: TargetStructure, chosen: Collection[str]) -> dict[str, bool]:
    """Return the own flag of every layer after freezing `chosen` and, as Keras does, everything below."""
    return {
        layer.name: layer.trainable and not any(n in chosen for n in (layer.name, *ancestors(layer.name)))
        for layer in target.layers
    }


def _owners(weight: str, target: TargetStructure) -> list[LayerState]:
    """Return the layers that hold a weight, by any of its names."""
    return [owner for name in target.catalog.names_of(weight) if (owner := target.holder(name)) is not None]


def _is_on(weight: str, target: TargetStructure, flags: Mapping[str, bool], switched_off: Collection[str]) -> bool:
    if not target.layers or not flags.get("", True):
        return flags.get("", True)
    owners = [owner.name for owner in _owners(weight, target)]
    if weight in target.held_on:
        return not any(name in switched_off for name in owners)
    return all(flags[name] for name in owners)  # one that is off takes it along


def effective(target: TargetStructure, flags: Mapping[str, bool], switched_off: tuple[str, ...]) -> Freezing:
    """Return what the layers' own `flags` make of the model, seen from the root."""
    frozen, trainable, parameters = [], 0, 0
    for weight in target.catalog:
        parameters += weight.size
        if not _is_on(weight.name, target, flags, switched_off):
            frozen.append(weight.name)
        elif weight.name in target.trainable_weights:
            trainable += weight.size
    norms = tuple(x.name for x in target.layers if x.layer_class == BATCH_NORMALIZATION)
    stored = tuple(n for n in norms if not flags[n])
    return Freezing(switched_off, tuple(frozen), trainable, parameters, norms, stored)


def warn_of_loading(trained: Sequence[str], updating: Sequence[str]) -> Iterator[PlanWarning]:
    """Yield what is lost of a freezing when Keras loads the saved model.

    Args:
        trained: frozen weights that are trainable again then.
        updating: frozen BatchNormalization layers whose moving statistics change again then.
    """
    if trained:
        count = f"{len(trained)} frozen weights are" if len(trained) > 1 else "1 frozen weight is"
        text = (
            f"{count} trainable again after load_model, because the configuration does not record their layers' flags"
        )
        yield PlanWarning(
            "freeze-not-saved", "freeze", f"{text}: {listed(trained, 3)}; set `trainable = False` on them after loading"
        )
    if updating:
        text = f"moving statistics of {listed(updating, 3)} are updated again by training after load_model"
        yield PlanWarning(
            "freeze-not-saved", "freeze", f"{text}; set `trainable = False` on these layers after loading"
        )
