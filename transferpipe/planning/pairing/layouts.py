"""Pairing with a source whose layout is not that of Keras: other names, other axes, weights kept in parts."""

from __future__ import annotations

from transferpipe.planning.claims import Unit
from transferpipe.planning.layouts import Counterpart, joined
from transferpipe.planning.layouts.adapter import Adapted
from transferpipe.planning.pairing.axes import arrange
from transferpipe.planning.pairing.parts import find_single, is_called, refuse_parts, take_part
from transferpipe.planning.pairing.taken import Pairing, Taken, WantedUnit, take_as_keras
from transferpipe.recipe.layouts import KERAS
from transferpipe.weights.name import WeightName


def module_of(wanted: WantedUnit, counterpart: Counterpart) -> str:
    """Return the source's layer that stands for the counterpart's target layer.

    Where the rule matched a part of that layer (the cell of an LSTM), the source layer it names is the whole module.
    """
    unit, layer = wanted.unit.name, counterpart.layer
    if unit and layer != unit and not layer.startswith(f"{unit}/"):
        return wanted.name
    inside = wanted.unit.relative(layer) if layer != unit else ""
    return "/".join(filter(None, (wanted.name, inside)))


def names_wanted(counterpart: Counterpart | None, module: str, name: str) -> list[str]:
    """Return all names under which a target weight may be in the source; `name` is Keras's."""
    if counterpart is None:
        return [name]
    choices = counterpart.choices
    return [name, *(n for choice in choices for names in counterpart.names_in(module, choice) for n in names)]


def describe_named(weight: str, counterpart: Counterpart) -> str:
    """Return what its layout would call the target weight if both had the same layers, and say so."""
    names = joined(counterpart.layer, counterpart.expected)
    return f"{names}, {counterpart.layout.name}'s name for {weight} of the {counterpart.layer_class}"


def take_module(source: str, weight: str, counterpart: Counterpart, module: str, pairing: Pairing) -> Taken | None:
    """Return what the target weight `weight` takes of the source's layer `module`, None if it is not there."""
    catalog = pairing.sources[source]
    for choice in counterpart.choices:
        for names in counterpart.names_in(module, choice):
            if all(name in catalog for name in names):
                return _take(source, names, choice, weight, pairing)
    return None


def take_named(source: str, weight: str, name: str, where: str, pairing: Pairing) -> Taken | None:
    """Return what the target weight `weight` takes if it takes the source weight `name`, whatever that is called.

    None, with the problem noted at `where`, if the layout makes up the target weight from several.
    """
    counterpart = pairing.counterpart(source, weight)
    if counterpart is None:
        return take_as_keras(source, name, pairing)
    single = find_single(counterpart, name)
    if single is not None:
        return _take(source, (name,), single, weight, pairing)
    if pairing.stated == KERAS:  # the rule's own transforms do all
        return Taken(source, (name,), adapted=True)
    if pairing.rule is not None and len(pairing.rule.froms) > 1:  # `join_listed` sees whether it lists all parts
        return take_part(source, name, counterpart, weight, pairing)
    refuse_parts(source, weight, [name], where, pairing)
    return None


def take_namesake(wanted: WantedUnit, pairing: Pairing) -> Taken | None:
    """Return what a single weight takes if the source weight is named as Keras would name it; None if it is not there.

    So a rule for weights may leave out its `from`, which then is the same name.
    """
    counterpart = pairing.counterpart(wanted.source, wanted.unit.name)
    module = _module_of_weight(wanted, counterpart)
    if counterpart is None or module is None:
        return None
    return take_module(wanted.source, wanted.unit.name, counterpart, module, pairing)


def find_source_name(wanted: WantedUnit, pairing: Pairing) -> str | None:
    """Return the name in the source's layout of a single weight that is named as Keras would name it."""
    counterpart = pairing.counterpart(wanted.source, wanted.unit.name)
    module = _module_of_weight(wanted, counterpart)
    return joined(module, counterpart.expected) if counterpart and module is not None else None


def _module_of_weight(wanted: WantedUnit, counterpart: Counterpart | None) -> str | None:
    """Return the layer in front of what Keras calls the weight inside of its layer; None if the name ends otherwise."""
    if counterpart is None:
        return None
    layer, name = counterpart.layer, f"/{wanted.name}"
    own = f"/{wanted.unit.name[len(layer) + 1 :] if layer else wanted.unit.name}"
    return name.removesuffix(own)[1:] if name.endswith(own) else None


def take_by_order(source: str, ours: Unit, other: Unit, pairing: Pairing) -> dict[str, Taken] | None:
    """Return what the weights of `ours` take from the layer `other`; None unless the layout knows all of them there."""
    if not (ours.is_layer and other.is_layer):
        return None
    wanted = WantedUnit("", ours, source, other.name, pairing.sources[source])
    found = {}
    for weight in ours.weights:
        counterpart = pairing.counterpart(source, weight)
        taken = (
            take_module(source, weight, counterpart, module_of(wanted, counterpart), pairing) if counterpart else None
        )
        if taken is None:
            return None
        found[weight] = taken
    return found


def vouched(source: str, weight: str, name: str, pairing: Pairing) -> bool:
    """Tell whether the source weight is called what the target weight is called in the source's layout."""
    counterpart = pairing.counterpart(source, weight)
    if counterpart is None:
        return WeightName(name).own == WeightName(weight).own
    return any(is_called(name, own) for choice in counterpart.choices for own in choice.names)


def _take(source: str, names: tuple[str, ...], choice: Adapted, weight: str, pairing: Pairing) -> Taken:
    catalog = pairing.sources[source]
    if len(names) == 1:
        return arrange(source, catalog[names[0]], choice, weight, pairing)
    steps = choice.steps_for([catalog[name].shape for name in names], pairing.target[weight].shape)
    return Taken(source, names, steps, adapted=True)
