"""Weights that a layout keeps in parts, and rules that take one such weight by its own name, or list the parts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from transferpipe.planning.advice.taking_out import advise_keeping
from transferpipe.planning.layouts import Counterpart, joined
from transferpipe.planning.layouts.adapter import Adapted
from transferpipe.planning.pairing.taken import Pairing, Taken
from transferpipe.recipe.layouts import KERAS
from transferpipe.recipe.model import Rule
from transferpipe.weights.name import WeightName
from transferpipe.weights.spec import Catalog

_STACKED = re.compile(r"_l(\d+)")
# The names in front of a weight's own, and the numbers of stacked layers in it.
_Home = tuple[str, tuple[str, ...]]


def is_called(name: str, own: str) -> bool:
    """Tell whether the weight `name` is called `own` in its layer; the number of a stacked layer does not count.

    >>> is_called("rnn/weight_ih_l3", "weight_ih_l0"), is_called("rnn/weight_ih_l3", "weight_hh_l0")
    (True, False)
    """
    return f"/{_STACKED.sub('_l0', name)}".endswith(f"/{own}")


def find_single(counterpart: Counterpart, name: str) -> Adapted | None:
    """Return the form in which the source weight `name` alone is the target weight; None if it is a part of it.

    The form that the name ends with; of a name that says nothing, one that is not cut out of a fused tensor.
    """
    single = [choice for choice in counterpart.choices if len(choice.names) == 1]
    ending = (c for c in single if is_called(name, c.names[0]))
    return next(ending, None) or next((c for c in single if c.third is None and not c.half), None)


def take_part(source: str, name: str, counterpart: Counterpart, weight: str, pairing: Pairing) -> Taken:
    """Return the source weight `name` with the transforms that put this part of `weight` alone in Keras's order."""
    shapes, target = [pairing.sources[source][name].shape], pairing.target[weight].shape
    forms = [choice for choice in counterpart.choices if len(choice.names) > 1]
    form = next((f for f in forms if any(is_called(name, own) for own in f.names)), forms[0])
    return Taken(source, (name,), form.part_steps_for(shapes, target), adapted=True)


def join_listed(rule: Rule, pairs: Mapping[str, list[Taken]], pairing: Pairing) -> dict[str, list[Taken]]:
    """Return `pairs` with the parts that the rule's `from` lists put together as their layout has it.

    A rule that says how they become one (by `merge`, or by a transform) gets each part in Keras's order, and does so
    itself. What lacks a part, or has one too many, is a problem: it would be another weight than the layer computes
    with. A merge of several layers lists the parts of each.
    """
    if pairing.stated == KERAS:
        return dict(pairs)
    found = {weight: _join_weight(rule, weight, taken, pairing) for weight, taken in pairs.items()}
    return {weight: taken for weight, taken in found.items() if taken is not None}


def _join_weight(rule: Rule, weight: str, taken: list[Taken], pairing: Pairing) -> list[Taken] | None:
    own_name = WeightName(weight).own
    is_joined = rule.merge is not None or any(o.transforms_of(own_name) for o in rule.froms)
    is_joined = is_joined or bool(rule.transforms_of(own_name))
    by_source: dict[str, list[str]] = {}
    for one in taken:
        by_source.setdefault(one.source, []).extend(one.names if len(one.names) == 1 else ())
    found = taken
    for source, names in by_source.items():
        counterpart = pairing.counterpart(source, weight) if names else None
        if counterpart is None or (is_joined and not _are_parts(names, counterpart)):
            continue
        forms = _find_forms(counterpart, names)
        obstacle = counterpart.layout.find_obstacle(weight, names, pairing.sources[source], pairing.structure)
        if forms and obstacle:
            keeping = advise_keeping(rule, [weight], pairing.target)
            pairing.problems.add(f"{rule.where}.from", obstacle, keeping)
            return None
        if len(forms) == 1 and not is_joined and len(by_source) == 1:
            found = [_take_whole(source, *forms[0], weight, pairing)]
        elif not forms and _are_parts(names, counterpart):
            refuse_parts(source, weight, names, f"{rule.where}.from", pairing)
            return None
    return found


def _are_parts(names: Sequence[str], counterpart: Counterpart) -> bool:
    return all(find_single(counterpart, name) is None for name in names)


def _take_whole(source: str, form: Adapted, names: Sequence[str], weight: str, pairing: Pairing) -> Taken:
    shapes = [pairing.sources[source][name].shape for name in names]
    return Taken(source, tuple(names), form.steps_for(shapes, pairing.target[weight].shape), adapted=True)


def _find_forms(counterpart: Counterpart, names: Sequence[str]) -> list[tuple[Adapted, list[str]]]:
    """Return the forms that the listed source weights make up, each with its weights in its own order.

    One for each module whose parts are all there. Empty where some part is missing, or is there twice; names that the
    layout does not know at all are those of one form, in the order in which they are listed.
    """
    forms, found = [choice for choice in counterpart.choices if len(choice.names) > 1], []
    left = list(names)
    for form in forms:
        homes: dict[_Home, dict[str, str]] = {}
        for name, own in ((name, own) for name in left for own in form.names if is_called(name, own)):
            homes.setdefault(_home_of(name, own), {}).setdefault(own, name)
        for parts in homes.values():
            if len(parts) == len(form.names):
                found.append((form, [parts[own] for own in form.names]))
                for name in parts.values():
                    left.remove(name)
    is_foreign = not any(is_called(name, own) for form in forms for own in form.names for name in names)
    if is_foreign and _are_parts(names, counterpart):
        return [(form, left) for form in forms if len(form.names) == len(left)][:1]
    return [] if left else found


def _home_of(name: str, own: str) -> _Home:
    """Return what tells the module of a source weight: the names in front of `own`, and the numbers of stacked layers.

    >>> _home_of("rnn/bias_ih_l3", "bias_ih_l0")
    ('rnn/', ('3',))
    """
    return _STACKED.sub("_l0", name)[: -len(own)], tuple(_STACKED.findall(name))


def refuse_parts(source: str, weight: str, names: Sequence[str], where: str, pairing: Pairing) -> None:
    """Note that `weight` consists of more than the source weights `names`, or of others."""
    counterpart = pairing.counterpart(source, weight)
    assert counterpart is not None
    what = f"{weight} of the {counterpart.layer_class} consists of {counterpart.expected}, but gets "
    what += ", ".join(names) + " alone" * (len(names) == 1)
    beside = next(_find_beside(counterpart, names, pairing.sources[source]), ())
    otherwise = "end both sides with the layer's name, or set the rule's `layout: keras` and write the transforms"
    if not beside:
        pairing.problems.add(where, what, otherwise)
        return
    alias = f"{source}:" if len(pairing.sources) > 1 else ""
    pairing.problems.add(where, what, f"list all of them in `from`: [{', '.join(alias + name for name in beside)}]")


def _find_beside(counterpart: Counterpart, names: Sequence[str], catalog: Catalog) -> Iterator[tuple[str, ...]]:
    """Yield the weights of a source that are all parts of one of which `names` has some."""
    for form in counterpart.choices:
        for name, own in ((n, o) for n in names for o in form.names if len(form.names) > 1 and is_called(n, o)):
            module, numbers = _home_of(name, own)
            parts = (joined(module.rstrip("/"), part) for part in form.names)
            numbered = tuple(_STACKED.sub(f"_l{numbers[-1]}", part) if numbers else part for part in parts)
            if all(part in catalog for part in numbered):
                yield numbered
