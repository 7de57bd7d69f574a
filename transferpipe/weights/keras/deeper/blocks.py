"""Where the blocks of a stack begin and end: their layers, the one tensor that each takes, the one that it gives.

A pattern names the layers of each block by a number, and need not name those without weights: an addition or an
activation with a name of Keras's own belongs to the block too. Between two blocks there is a layer through which all
that the second block gets has to pass; what stands before it is the first block's, what stands behind it the second's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from transferpipe.text.listing import listed
from transferpipe.weights.keras.config import layer_class
from transferpipe.weights.keras.deeper.graph import ModelGraph, RepeatError, Shape, Tensor


@dataclass(frozen=True)
class LayerBlock:
    """One block of a stack.

    Attributes:
        number: its number.
        layers: the names of its layers, as the model lists them.
        entry: what it takes from the block before it.
        exit: what it gives to the block behind it.
    """

    number: int
    layers: tuple[str, ...]
    entry: Tensor
    exit: Tensor


def find_blocks(graph: ModelGraph, named: Mapping[int, Mapping[str, str]]) -> list[LayerBlock]:
    """Return the blocks of a stack, in their order.

    Args:
        graph: the model.
        named: by number the layers that a pattern names, all of them in `graph`, each by its name without the number.

    Raises:
        RepeatError: the layers are not a row of blocks, each of which takes one output of the one before it.
    """
    numbers = sorted(named)
    inside = [_between(graph, named[number].values()) for number in numbers]
    row = [inside[0]]  # of each block what depends on the one before: a layer in it may take something else alone
    for k, two in enumerate(inside[1:], 1):
        row.append(two & graph.behind(row[-1]))
        # Layers that lie between those of two blocks belong to neither: such blocks run side by side, not in a row.
        if inside[k - 1] & two or not row[-1]:
            names = [_list_names(graph, named[number].values()) for number in numbers[k - 1 : k + 1]]
            raise RepeatError(f"its layers are not a row of blocks: {names[1]} does not lie behind {names[0]}")
    cuts = [list(_cuts(graph, row, k)) for k in range(1, len(row))]
    for k, found in enumerate(cuts):
        if not found:
            raise RepeatError(_several_entries(graph, row, numbers, k))
    # Which layer parts two blocks is often open (an addition, or the activation behind it): what makes blocks of all of
    # them is taken.
    problem = None
    for chosen in _alike(graph, cuts):
        made = _Series(graph, named, [set(found) for found in inside], chosen)
        try:
            return made.blocks()
        except RepeatError as error:
            problem = error
    assert problem is not None
    raise problem


def _list_names(graph: ModelGraph, names: Collection[str]) -> str:
    return listed(sorted(names, key=graph.places.__getitem__), 2)


def _between(graph: ModelGraph, names: Collection[str]) -> set[str]:
    """Return these layers and those that lie between any two of them."""
    # What a pattern does not name, such as activations, is found by where it lies.
    return graph.behind(names) & graph.before(names)


def _cuts(graph: ModelGraph, inside: Sequence[set[str]], k: int) -> Iterator[str]:
    """Yield the layers that part the first `k` blocks from the others, the first of them first."""
    first = set().union(*inside[:k])
    later = set().union(*inside[k:])
    whole = graph.behind(inside[0]) & graph.before(inside[-1])
    for name in sorted(graph.behind(inside[k - 1]) & graph.before(inside[k]), key=graph.places.__getitem__):
        # Everything of the later blocks must come from here, and nothing of the first ones behind it.
        behind = graph.behind([name]) - {name}
        if name in later or not later <= behind or first & behind:
            continue
        # One output of this one layer is all that passes: a skip connection around it would be a second one.
        taken = {t for v in whole & behind for t in graph.taken(v) if t.layer in whole and t.layer not in behind}
        if len(taken) == 1 and next(iter(taken)).layer == name:
            yield name


def _alike(graph: ModelGraph, cuts: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return the ways to choose a layer of one class for each of the cuts, what stands farthest behind its block first.

    Of a block's layers those without names are not known yet: a cut may be one of what goes around it.
    """
    # Blocks are alike, so that the same kind of layer parts each two of them.
    classes = [[layer_class(graph.layers[name]) for name in names] for names in cuts]
    fewest = min(classes, key=len, default=[])
    found = [
        [next(name for name in reversed(names) if layer_class(graph.layers[name]) == kind) for names in cuts]
        # Farthest behind first: an activation after an addition belongs to the block that it ends.
        for kind in dict.fromkeys(reversed(fewest))
        if all(kind in names for names in classes)
    ]
    return found or [[names[-1] for names in cuts]]


def _several_entries(graph: ModelGraph, inside: Sequence[set[str]], numbers: Sequence[int], k: int) -> str:
    """Return the sentence that says what a block takes from the ones before it."""
    later = graph.behind(inside[k + 1]) | (graph.before(inside[k + 1]) & graph.behind(inside[k])) - inside[k]
    entries = {t.layer for v in later for t in graph.taken(v) if t.layer in inside[k]}
    of = f" (the outputs of {_list_names(graph, entries)})" if len(entries) > 1 else ""
    return f"block {numbers[k + 1]} takes more than one output of block {numbers[k]} and those before it{of}"


@dataclass
class _Series:
    """The blocks while they are put together.

    Attributes:
        graph: the model.
        named: by number the layers that are named, each by its name without the number.
        parts: the layers of each, at first those that are named and those between them.
        cuts: the layer that ends each block but the last.
    """

    graph: ModelGraph
    named: Mapping[int, Mapping[str, str]]
    parts: list[set[str]]
    cuts: Sequence[str]

    def __post_init__(self) -> None:
        self.numbers = sorted(self.named)

    def blocks(self) -> list[LayerBlock]:
        """Return them.

        Raises:
            RepeatError: one takes or gives more than one output.
        """
        # What is named, before more is added: the others are counted from there.
        cores = [set(part) for part in self.parts]
        whole = self.graph.behind(cores[0]) & self.graph.before(cores[-1])
        ends = [self.graph.behind([cut]) - {cut} for cut in self.cuts]
        for k, part in enumerate(self.parts):
            behind = ends[k - 1] if k else whole
            part |= (whole & behind) - (ends[k] if k < len(ends) else set())
        # No cut lies before the first block and behind the last: what belongs to them there is seen by their
        # neighbours.
        if len(self.parts) > 1:
            self._complete_first(cores)
            self._complete_last(cores)
        sides = [self._entries(k) for k in range(len(self.parts))]
        return [self._block(k, sides) for k in range(len(self.parts))]

    def _complete_first(self, cores: Sequence[set[str]]) -> None:
        """Add to the first block what stands before its named layers, where the second has such layers too."""
        head = self.parts[1] - self.graph.behind(cores[1])
        twins = self._twins(cores, 1, 0)
        # Backwards from the named layers: each is found as what a known one takes.
        for name in sorted(head, key=self.graph.places.__getitem__, reverse=True):
            pairs = [
                (ours, theirs)
                for taker in self.graph.takers[name]
                if taker in twins
                for ours, theirs in zip(self.graph.taken(taker), self.graph.taken(twins[taker]), strict=False)
            ]
            found = {theirs.layer for ours, theirs in pairs if ours.layer == name}
            if len(found) != 1 or not self._are_alike(name, twin := found.pop()):
                raise RepeatError(self._missing(name, 0, "before"))
            twins[name] = twin
            self.parts[0].add(twin)

    def _complete_last(self, cores: Sequence[set[str]]) -> None:
        """Add to the last block what stands behind its named layers, where the one before has such layers too."""
        last = len(self.parts) - 1
        tail = self.parts[last - 1] - self.graph.before(cores[last - 1]) - cores[last - 1]
        if not tail:
            return
        # What the first of two blocks takes from elsewhere besides is not known before the second is complete.
        entries = [self._entry_of(last - 1)] if last > 1 else sorted(self._entries(0), reverse=True)
        problem = None
        for entry in entries:
            # What both take from elsewhere is the same layer.
            twins = {t.layer: t.layer for t in self._entries(last - 1)} | self._twins(cores, last - 1, last)
            try:
                self.parts[last] |= self._behind(sorted(tail, key=self.graph.places.__getitem__), entry, twins)
                return
            except RepeatError as error:
                problem = error
        assert problem is not None
        raise problem

    def _behind(self, tail: Sequence[str], entry: Tensor, twins: dict[str, str]) -> set[str]:
        """Return the layers behind the last block's named ones that are like `tail` in the block before it."""
        last = len(self.parts) - 1
        twins[entry.layer] = self.cuts[-1]
        known = self.parts[last] | {self.cuts[-1]}
        added: set[str] = set()
        for name in tail:
            before = [twins[t.layer] for t in self.graph.taken(name) if t.layer in twins]
            found = {
                taker
                for twin in before
                for taker in self.graph.takers[twin]
                if taker not in known and self._are_alike(name, taker)
                if all(b in {t.layer for t in self.graph.taken(taker)} for b in before)
            }
            if len(found) != 1:
                raise RepeatError(self._missing(name, last, "behind"))
            twins[name] = found.pop()
            known.add(twins[name])
            added.add(twins[name])
        return added

    def _twins(self, cores: Sequence[set[str]], k: int, other: int) -> dict[str, str]:
        """Return layers of one block with those of another: by name, else by the place among those of the class."""
        theirs = self.named[self.numbers[other]]
        found = {name: theirs[rest] for rest, name in self.named[self.numbers[k]].items() if rest in theirs}
        rows = [self._by_class(cores[place]) for place in (k, other)]
        for kind, names in rows[0].items():
            if len(names) == len(rows[1].get(kind, ())):
                # Names say more than places.
                found = dict(zip(names, rows[1][kind], strict=True)) | found
        return found

    def _by_class(self, names: Collection[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in sorted(names, key=self.graph.places.__getitem__):
            found.setdefault(layer_class(self.graph.layers[name]), []).append(name)
        return found

    def _are_alike(self, one: str, other: str) -> bool:
        first, second = (self.graph.layers[name] for name in (one, other))
        return layer_class(first) == layer_class(second)

    def _missing(self, name: str, k: int, where: str) -> str:
        other = self.numbers[1] if k == 0 else self.numbers[k - 1]
        what = f"{layer_class(self.graph.layers[name])} {name!r}"
        return (
            f"block {other} has {what} {where} its named layers, and block {self.numbers[k]} has nothing like it there"
        )

    def _entry_of(self, k: int) -> Tensor:
        """Return what a block takes of the one before it; of the first, what the others do not take."""
        if k:
            taken = self._entries(k)
            return next(tensor for tensor in taken if tensor.layer == self.cuts[k - 1])
        others = self._entries(1) if len(self.parts) > 1 else set()
        # What every block takes besides, such as a mask, is not what goes from one to the next.
        entries = self._entries(0) - others
        if len(entries) != 1:
            names = _list_names(self.graph, {t.layer for t in self._entries(0)}) if self._entries(0) else "nothing"
            raise RepeatError(f"block {self.numbers[0]} takes the outputs of {names}, and must take one")
        return next(iter(entries))

    def _entries(self, k: int) -> set[Tensor]:
        part = self.parts[k]
        return {tensor for name in part for tensor in self.graph.taken(name) if tensor.layer not in part}

    def _block(self, k: int, entries: Sequence[set[Tensor]]) -> LayerBlock:
        graph, part, number = self.graph, self.parts[k], self.numbers[k]
        for name in sorted(part, key=graph.places.__getitem__):
            # A copy would have weights of its own where one layer was used twice.
            if len(graph.calls[name]) > 1:
                raise RepeatError(f"{name} is called {len(graph.calls[name])} times: its weights are shared")
        entry = self._entry_of(k)
        sides = entries[k] - {entry}
        # A block that is put elsewhere must find there whatever it takes.
        if sides != entries[0] - {self._entry_of(0)}:
            odd = _list_names(graph, {t.layer for t in sides} or {t.layer for t in entries[0]})
            raise RepeatError(f"block {number} takes the output of {odd} besides, which the other blocks do not take")
        given = {
            tensor
            for taker in graph.layers
            if taker not in part
            for tensor in graph.taken(taker)
            if tensor.layer in part
        } | {tensor for tensor in graph.outputs if tensor.layer in part}
        if len(given) != 1:
            names = _list_names(graph, {t.layer for t in given}) if given else "nothing"
            raise RepeatError(f"block {number} gives the outputs of {names} to layers outside of it, and must give one")
        exit_ = next(iter(given))
        following = self.parts[k + 1] if k + 1 < len(self.parts) else None
        takers = {taker for taker in graph.takers[exit_.layer] if taker not in part}
        # A block in between would be bypassed there.
        if following is not None and (not takers <= following or exit_ in graph.outputs):
            where = _list_names(graph, takers - following) if takers - following else "the outputs of the model"
            raise RepeatError(f"the output of block {number} goes into {where} too, which is not of the next block")
        if len(self.parts) == 1 and (around := (set(graph.takers[entry.layer]) - part) & graph.behind([exit_.layer])):
            raise RepeatError(f"what block {number} takes goes around it, into {_list_names(graph, around)}")
        return LayerBlock(number, tuple(sorted(part, key=graph.places.__getitem__)), entry, exit_)


def check_order(graph: ModelGraph, blocks: Sequence[LayerBlock], order: Sequence[int]) -> None:
    """Refuse an order in which a block gets another shape than it takes.

    Raises:
        RepeatError: it does, with both shapes.
    """
    known = {block.number: block for block in blocks}
    entry = blocks[0].entry
    # Shapes that are not recorded are not guessed at: Keras then says what does not fit.
    before: Shape | None = graph.shapes.get(entry)
    what = f"what comes before block {blocks[0].number}"
    for number in order:
        block = known[number]
        taken = graph.shapes.get(block.entry)
        if before is not None and taken is not None and not _fit(before, taken):
            raise RepeatError(f"block {number} takes shape {taken}, and {what} has shape {before}")
        before, what = graph.shapes.get(block.exit), f"the output of block {number}"
    after = graph.shapes.get(blocks[-1].exit)
    if before is not None and after is not None and not _fit(before, after):
        raise RepeatError(
            f"the layers behind block {blocks[-1].number} take shape {after}, and {what} has shape {before}"
        )


def _fit(one: Shape, other: Shape) -> bool:
    return len(one) == len(other) and all(a is None or b is None or a == b for a, b in zip(one, other, strict=True))
