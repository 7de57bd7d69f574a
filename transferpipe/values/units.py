"""Which units a plan's choices take, where values say it: the largest, or those that are alike in another network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.planning.model import AssignedEntry, ChosenUse, UnitChoice
from transferpipe.planning.plan import Plan
from transferpipe.planning.suggest.assignment import assign_best
from transferpipe.weights.name import WeightName

Array = NDArray[Any]
Order = NDArray[np.int64]
_MOST_ROUNDS = 100  # the paper's; a handful is enough as a rule


@dataclass
class ChosenUnits:
    """The units that a plan's choices take, each found once.

    Attributes:
        plan: the plan.
        read: gives what an entry of an assignment holds, in Keras's layout, for the target weight of a name.
    """

    plan: Plan
    read: Callable[[AssignedEntry, str], Array]
    _found: dict[str, Order] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._choices = {choice.name: choice for choice in self.plan.units}

    def resolve(self, steps: Sequence[Any]) -> Sequence[Any]:
        """Return steps, as written, with the numbers of the units in the place of the name of their choice."""
        return [self._resolve(step) for step in steps] if self._choices else steps

    def _resolve(self, step: Any) -> Any:
        given = step.get("units") if isinstance(step, Mapping) else None
        if not given or given.get("of") not in self._choices:
            return step
        # The same step with numbers: what follows knows nothing of choices.
        kept = {key: value for key, value in given.items() if key not in ("of", "count")}
        return {"units": {**kept, "indices": [int(i) for i in self.indices(given["of"])]}}

    def indices(self, name: str) -> Order:
        """Return the source's units that the target's units are, by the name of their choice."""
        if name not in self._found:
            choice = self._choices[name]
            if choice.method == "align":
                # Units of one group are permuted together: the best order of one layer depends on that of its
                # neighbours.
                together = [c for c in self.plan.units if c.group == choice.group]
                self._found |= _Alignment(together, self.read, self.plan.seed).match()
            else:
                self._found[name] = self._choose(choice)
        return self._found[name]

    def _choose(self, choice: UnitChoice) -> Order:
        if choice.method == "indices":
            return np.array(choice.indices, np.int64)
        here, there = choice.bands or (1, 1)
        # Bands of other sizes on both sides, such as heads, are taken or left as a whole.
        together = choice.size // here if here != there else 1  # units that go as a whole
        if choice.method == "widen" and choice.copies == "even" and here == there:
            # Every unit of a band as often as the others, in place, so that bands stay bands.
            return np.repeat(np.arange(choice.size), choice.count // choice.size)
        if choice.method == "widen" and here == there > 1:  # each group gets copies of its own
            apart = np.arange(choice.size).reshape(here, -1)
            more = _generator(self.plan.seed, choice.layer).integers(
                0, apart.shape[1], (here, choice.count // here - apart.shape[1])
            )
            return np.concatenate([apart, np.take_along_axis(apart, more, 1)], 1).ravel()
        size, count = choice.size // together, choice.count // together
        if choice.method == "widen":
            # Net2Wider draws the units that are doubled (Chen et al., arXiv:1511.05641).
            more = _generator(self.plan.seed, choice.layer).integers(0, size, count - size)
            chosen = np.concatenate([np.arange(size), more])
        else:
            bands = here if here == there else 1
            norms = self._norms(choice).reshape(bands, size // bands, together).sum(2)
            # The strongest, in their old order: what is not permuted needs no other weight to follow.
            kept = np.sort(np.argsort(-norms, axis=1, kind="stable")[:, : count // bands], axis=1)
            chosen = (kept + np.arange(bands)[:, None] * (size // bands)).ravel()
        return (chosen[:, None] * together + np.arange(together)).ravel()

    def _norms(self, choice: UnitChoice) -> NDArray[np.float64]:
        """Return the norm of each unit's part of the kernels that make it."""
        sizes = np.zeros(choice.size)
        for use in choice.uses:
            # The kernels that make a unit, not those that read it; a bias says little of a unit's use.
            if use.side == "out" and WeightName(use.weight).own != "bias":
                rows = _rows(self.read(use.entry, use.weight), use, choice.size)
                # Squares need no root to be put in order.
                sizes += np.abs(rows).sum(1) if choice.norm == "l1" else (rows**2).sum(1)
        return sizes


def _generator(seed: int, name: str) -> np.random.Generator:
    """Return what draws for one layer: the numbers depend on nothing but the seed and its name."""
    key = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key))


def _apart(value: Array, use: ChosenUse, size: int) -> tuple[Array, int]:
    """Return a view of the units that a use means, with an axis of `size` for them, and which axis that is."""
    axis = use.axis % value.ndim
    head, tail = value.shape[:axis], value.shape[axis + 1 :]
    width = use.before + use.times * use.each * size + use.after
    # What stands before and behind belongs to other layers that were concatenated.
    inside = np.split(value.reshape(*head, -1, width, *tail), [use.before, width - use.after], axis + 1)[1]
    return inside.reshape(*inside.shape[: axis + 1], use.times, size, use.each, *tail), axis + 2


def _rows(value: Array, use: ChosenUse, size: int) -> NDArray[np.float64]:
    """Return a row of numbers for each of `size` units along an axis, which it has once or several times."""
    apart, axis = _apart(value, use, size)
    return np.moveaxis(apart, axis, 0).reshape(size, -1).astype(np.float64)


def _take(value: Array, use: ChosenUse, order: Order) -> Array:
    axis, width = use.axis % value.ndim, use.before + use.times * use.each * len(order) + use.after
    # What lies around the units stays as it is.
    result = value.copy()
    whole = result.reshape(*value.shape[:axis], -1, width, *value.shape[axis + 1 :])
    apart, along = _apart(value, use, len(order))
    place = (*[slice(None)] * (axis + 1), slice(use.before, width - use.after))
    whole[place] = apart.take(order, along).reshape(whole[place].shape)
    return result


@dataclass
class _Alignment:
    """The orders of units, of all layers together, in which one network's weights are most like another's.

    Weight matching: one order after the other is the best for the orders that all the others have, until none gets
    better. Source: algorithm 1 of Ainsworth, Hayase, Srinivasa, "Git Re-Basin: Merging Models modulo Permutation
    Symmetries", arXiv:2209.04836.
    """

    choices: Sequence[UnitChoice]
    read: Callable[[AssignedEntry, str], Array]
    seed: int

    def __post_init__(self) -> None:
        self.orders = {choice.name: np.arange(choice.size) for choice in self.choices}
        self.own: dict[str, Array] = {}
        self.other: dict[str, Array] = {}
        self.along: dict[str, list[tuple[ChosenUse, str]]] = {}
        for choice in self.choices:
            for use in choice.uses:
                self.along.setdefault(use.weight, []).append((use, choice.name))
                if use.weight not in self.own and use.reference is not None:
                    # Each weight once, however many layers' units it has on its axes.
                    self.own[use.weight] = self.read(use.entry, use.weight)
                    self.other[use.weight] = self.read(use.reference, use.weight)

    def match(self) -> dict[str, Order]:
        """Return the order of each choice, by its name."""
        # The order of layers decides which of several good solutions is found: drawn, but always alike.
        generator = _generator(self.seed, self.choices[0].group)
        for _ in range(_MOST_ROUNDS):
            better = [self._improve(self.choices[k]) for k in generator.permutation(len(self.choices))]
            if not any(better):
                break
        return self.orders

    def _improve(self, choice: UnitChoice) -> bool:
        """Find the best order of one layer's units; tell whether it is better than the one before."""
        likeness = np.zeros((choice.size, choice.size))
        for use in choice.uses:
            value = self.own[use.weight]
            for other, name in self.along[use.weight]:
                # All other axes are in the orders known so far; its own is what is looked for.
                if (other.axis, name) != (use.axis, choice.name):
                    value = _take(value, other, self.orders[name])
            likeness += _rows(self.other[use.weight], use, choice.size) @ _rows(value, use, choice.size).T
        places = np.arange(choice.size)
        order = _best_order(likeness, (choice.bands or (1,))[0])
        gain = likeness[places, order].sum() - likeness[places, self.orders[choice.name]].sum()
        if gain <= 1e-9 * np.abs(likeness).max():  # what rounding gives
            return False
        self.orders[choice.name] = order
        return True


def _best_order(likeness: NDArray[np.float64], bands: int) -> Order:
    """Return the order with the largest sum that leaves groups of neighbours together.

    Every group is compared with every other in the best order of its units, then the groups are put in order.
    """
    # The best assignment stays the same when one number is added to all; `assign_best` takes numbers above zero.
    positive = likeness - likeness.min() + 1
    if bands in (1, len(likeness)):
        return assign_best(positive)
    size = len(likeness) // bands
    blocks = positive.reshape(bands, size, bands, size).swapaxes(1, 2)
    orders = np.array([[assign_best(block) for block in row] for row in blocks])
    sums = np.take_along_axis(blocks, orders[..., None], 3).sum((2, 3))
    groups = assign_best(sums)
    order: Order = groups[:, None] * size + orders[np.arange(bands), groups]
    return order.ravel()
