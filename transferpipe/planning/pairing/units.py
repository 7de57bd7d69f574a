"""A rule's `units`: which units of each layer are taken, and the step that does it in every weight that has them.

The target's network says which weights those are (`unit_spaces`), its shapes say how many; the values that decide are
read by the run (`transferpipe.values.units`), from what the plan lists here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transferpipe.errors import did_you_mean
from transferpipe.planning.claims import Unit
from transferpipe.planning.model import AssignedEntry, ChosenUse, SourceRef, UnitChoice
from transferpipe.planning.pairing.rules import pair_rule
from transferpipe.planning.pairing.taken import Pairing, Taken
from transferpipe.planning.pairing.unit_joins import Grouping, UnitSpace
from transferpipe.planning.pairing.unit_settings import conv_groups
from transferpipe.planning.pairing.unit_spaces import CONVOLUTIONS, find_unit_spaces
from transferpipe.planning.reading.read_recipe import chain_of
from transferpipe.planning.transforms import TransformError, infer
from transferpipe.recipe.model import Rule, RuleUnits
from transferpipe.text.listing import listed
from transferpipe.weights.name import WeightName
from transferpipe.weights.network import Network

Found = Mapping[str, Sequence[Taken]]
_GRAPH = "give the target as a Sequential or Functional model, or as a file with its configuration"


def choose_units(
    rule: Rule, units: Sequence[Unit], found: Found, pairing: Pairing
) -> tuple[dict[str, list[Taken]], tuple[UnitChoice, ...]] | None:
    """Return what each weight takes, with the steps that take the units, and the choices that these steps name.

    None where problems are noted.
    """
    plain = {weight: list(taken) for weight, taken in found.items()}
    network = pairing.target.network
    if rule.units is None or not found:
        return plain, ()
    if network is None or not network.connected:
        what = f"{pairing.structure.label} does not tell which layer takes the output of which"
        pairing.problems.add(f"{rule.where}.units", what, _GRAPH)
        return None
    chooser = _Chooser(rule, rule.units, found, pairing)
    before = len(pairing.problems.found)
    inner = chooser.inner(network)
    if len(pairing.problems.found) > before:
        return None
    spaces = find_unit_spaces(pairing.target, network, inner)
    choices = tuple(chooser.align(spaces, units) if rule.units.method == "align" else chooser.resize(spaces))
    if len(pairing.problems.found) > before:
        return None
    return {weight: _with_steps(weight, taken, choices) for weight, taken in plain.items()}, choices


def _with_steps(weight: str, taken: Sequence[Taken], choices: Sequence[UnitChoice]) -> list[Taken]:
    """Return what a weight takes, with a step for each of its axes that goes along chosen units."""
    result = []
    for place, item in enumerate(taken):
        here = [(c, use) for c in choices if c.place == place for use in c.uses if use.weight == weight]
        steps = []
        # What stands last along an axis comes first: what is before it is then still as in the source.
        for choice, use in sorted(here, key=lambda found: -found[1].before):
            step: dict[str, Any] = {"of": choice.name, "axis": use.axis, "size": choice.size, "count": choice.count}
            # Copies of a unit share what it gave on, so that the sum behind them stays (Net2Net, arXiv:1511.05641,
            # section 2.2).
            if choice.copies == "root" and choice.method == "widen" and use.side != "along":
                step["root"] = True
            elif use.side == "in" and choice.method == "widen":
                step["share"] = True
            if use.before or use.behind:
                step |= {"before": use.before, "after": use.behind, "times": use.times}
            if use.each > 1:
                step["each"] = use.each
            if use.groups > 1:
                step["groups"] = use.groups
            steps.append({"units": step})
        result.append(dataclasses.replace(item, own=tuple(steps)))
    return result


@dataclass
class _Chooser:
    """One rule's choices.

    Attributes:
        rule: the rule.
        units: what it says of units.
        found: what each weight that it claims takes.
        pairing: what is found so far; takes the problems.
    """

    rule: Rule
    units: RuleUnits
    found: Found
    pairing: Pairing

    def _note(self, what: str, fix: str) -> None:
        self.pairing.problems.add(f"{self.rule.where}.units", what, fix)

    def _entry(self, taken: Taken) -> AssignedEntry:
        catalog = self.pairing.sources[taken.source]
        specs = [catalog[name] for name in taken.names]
        return AssignedEntry(tuple(SourceRef(taken.source, s.name, s.shape, s.dtype) for s in specs), taken.steps)

    def _shape(self, entry: AssignedEntry) -> tuple[int, ...]:
        """Return the shape that an entry has in Keras's layout; none where its steps do not work, as is said later."""
        shapes, dtypes = [ref.shape for ref in entry.sources], [ref.dtype for ref in entry.sources]
        try:
            return infer(chain_of(None, entry.steps), shapes, dtypes)[0]
        except TransformError:
            return ()

    def inner(self, network: Network) -> set[str]:
        """Return the grouped convolutions whose groups are as many in the source, and of other sizes."""
        found = set()
        for node in network.nodes:
            name, groups = f"{node.name}/kernel", conv_groups(node)
            if node.layer_class not in CONVOLUTIONS or name not in self.found:
                continue
            shape, target = self._shape(self._entry(self.found[name][0])), self.pairing.target[name].shape
            here = self._conv_groups_in_source(name, groups)
            if len(shape) != len(target) or max(groups, here) < 2:
                continue
            taken, made = (shape[-2], target[-2]), (shape[-1] / here, target[-1] / groups)
            if here == groups and (taken[0] != taken[1] or made[0] != made[1]):
                found.add(node.name)
            elif here != groups and taken[0] != taken[1]:
                counts = f"{node.name} has {here} groups of {taken[0]} channels in the source"
                what = f"{counts} and {groups} of {taken[1]} in the target, and what a group takes cannot be parted"
                self._note(what, f"give it groups of {taken[0]} channels, or {here} groups")
        return found

    def _conv_groups_in_source(self, weight: str, groups: int) -> int:
        """Return how many groups a convolution has in the source; as many as in the target where that is not known."""
        taken = self.found[weight][0]
        network = self.pairing.sources[taken.source].network
        here = network.by_name.get(WeightName(taken.names[0]).layer) if network else None
        return conv_groups(here) if here is not None and here.layer_class in CONVOLUTIONS else groups

    def _widths(self, space: UnitSpace, place: int) -> tuple[set[int], set[int]]:
        """Return how many units the layers of a space have in an entry's source, and in the target."""
        here, there = set(), set()
        for use in space.uses:
            if use.side == "out" and use.weight in self.found:
                shape = self._shape(self._entry(self.found[use.weight][place]))
                each = use.each * use.gates
                here |= {shape[use.axis] // each} if len(shape) >= -use.axis else set()
                there.add(self.pairing.target[use.weight].shape[use.axis] // each)
        return here, there

    def resize(self, spaces: Sequence[UnitSpace]) -> Iterator[UnitChoice]:
        """Yield a choice for each layer, or group of layers, that has another width in the target."""
        known = {layer: space for space in spaces for layer in space.layers}
        for layer in self.units.indices:
            if layer not in known:
                fix = did_you_mean(layer, known) or f"the layers are {listed(list(known), 4)}"
                self._note(f"{layer!r} is not a layer of the target whose units could be chosen", fix)
        self._note_unknown(spaces)
        # All sizes before the first choice: what is concatenated shifts by those of the other spaces.
        sizes: dict[int, tuple[int, int]] = {}
        for place, space in enumerate(spaces):
            here, there = self._widths(space, 0)
            if self._differs_inside(space, here) or here == there or len(there) != 1:
                continue
            if len(here) == 1 and self._can_resize(space, max(here), max(there)):
                sizes[place] = max(here), max(there)
        for place in sizes:
            if self.units.method != "widen" or self._is_even(spaces, place, sizes):
                yield self._choice(spaces[place], 0, sizes[place], sizes)

    def _note_unknown(self, spaces: Sequence[UnitSpace]) -> None:
        """Note the layers of other shapes in the source whose units nothing here can choose."""
        chosen = {use.weight for space in spaces for use in space.uses}
        network = self.pairing.target.network
        for node in network.nodes if network is not None else ():
            # Of a layer that is known, every weight along its units is in a space.
            below = [w for w in self.pairing.target.layers.get(node.name, ()) if w in self.found and w not in chosen]
            for weight in below:
                here, there = self._shape(self._entry(self.found[weight][0])), self.pairing.target[weight].shape
                if len(here) != len(there) or here == there or chosen & set(self.pairing.target.layers[node.name]):
                    continue
                what = f"{weight} has shape {here} in the source and {there} in the target, and {node.name} is a "
                what += f"{node.layer_class}, whose units are not chosen by `units`"
                self._note(what, f"give {node.name} and what takes its output rules of their own, {self._by_hand()}")
                break

    def _by_hand(self) -> str:
        """Return the steps that do what the rule's method does, in words."""
        if self.units.method == "widen":
            return "with {repeat: {axis: ..., times: target}}, and {scale: 0.5} where two copies are taken"
        return "with {take: {axis: ..., indices: [...]}}, or give it the source's width"

    def _is_even(self, spaces: Sequence[UnitSpace], place: int, sizes: Mapping[int, tuple[int, int]]) -> bool:
        """Tell whether all units that are normalized together get as many copies."""
        for layer, together in spaces[place].tied:
            shares = {sizes[at][1] / sizes[at][0] if at in sizes else 1.0 for at in together}
            if len(shares) == 1 and shares.pop() % 1 == 0:
                continue
            made = [" + ".join(spaces[at].layers) if at >= 0 else "" for at in dict.fromkeys(together)]
            size, count = sizes[place]
            widths = f"{' + '.join(spaces[place].layers)} has {size} units in the source and {count} in the target"
            if all(made):
                fix = f"give all that it normalizes ({listed(made, 4)}) the same multiple of their units"
                self._note(f"{widths}, and {layer} normalizes them with others", fix)
            else:
                what = f"{widths}, and {layer} normalizes them with what cannot be made more"
                self._note(what, "give it the source's width")
            return False
        return True

    def _differs_inside(self, space: UnitSpace, here: set[int]) -> bool:
        """Tell whether the source has other numbers in a unit than the target, which nothing here can change."""
        differ = len(here) > 1 and any(use.each > 1 for use in space.uses)
        if differ:
            what = f"the source has {listed(sorted(map(str, here)), 3)} of them, counted in groups of the target's size"
            self._note(f"{' + '.join(space.layers)}: {what}", "give the target groups of the source's size")
        for weight, axis in space.wholes:
            layer, target = WeightName(weight).layer, self.pairing.target[weight].shape
            shape = self._shape(self._entry(self.found[weight][0])) if weight in self.found else ()
            if len(shape) == len(target) and shape[axis] != target[axis]:
                differ, counts = True, f"{shape[axis]} channels of each channel in the source and {target[axis]}"
                what = f"{layer} makes {counts} in the target, which cannot be changed: they go as a whole"
                self._note(what, f"give it depth_multiplier={shape[axis]}")
        return differ

    def _bands(self, space: UnitSpace, place: int, size: int) -> tuple[int, ...] | Grouping:
        """Return how many groups of neighbours that go together a space has in the source, and in the target.

        The groups of a normalization are as many on both sides, or as large; returned is the one whose are neither.

        Args:
            space: the space.
            place: the entry of `from`.
            size: how many units the source has.
        """
        found: set[tuple[int, ...]] = set()
        for grouping in space.groupings:
            each = grouping.each
            here = self._groups_in_source(grouping, place, size * each)
            width, rest = divmod(size * each, max(here, 1))
            as_large = width == grouping.width
            if as_large and each % width == 0:
                continue  # a unit has whole groups
            if not here or rest or width % each or grouping.width % each or not (as_large or here == grouping.groups):
                return grouping
            found.add((here, grouping.groups))
        # All units stay compared with all others where there is the same of each, or where none has a copy.
        if len(found) > 1 and (self.units.method != "widen" or all(a == b for a, b in found)):
            found.discard((1, 1))
        return space.groupings[-1] if len(found) > 1 else found.pop() if found else ()

    def _groups_in_source(self, grouping: Grouping, place: int, count: int) -> int:
        """Return how many groups a layer has in an entry's source; as many as here where that is not known.

        Args:
            grouping: the layer.
            place: the entry of `from`.
            count: how many numbers these groups have.
        """
        names = [f"{grouping.layer}/{own}" for own in ("gamma", "beta", "kernel")]
        taken = next((self.found[name][place] for name in names if name in self.found), None)
        network = self.pairing.sources[taken.source].network if taken else None
        node = network.by_name.get(WeightName(taken.names[0]).layer) if taken and network else None
        default = 32 if grouping.layer_class == "GroupNormalization" else None
        is_same = node is not None and node.layer_class == grouping.layer_class
        stated = node.settings.get("groups", default) if node and is_same else None
        if not isinstance(stated, int) or stated < 1 or taken is None:
            return grouping.groups
        if grouping.part:  # of all that it has groups of
            whole = self._shape(self._entry(taken))[-1]
            return count * stated // whole if count * stated % whole == 0 else 0
        return stated

    def _can_resize(self, space: UnitSpace, size: int, count: int) -> bool:
        name = " + ".join(space.layers)
        widths = f"{name} has {size} units in the source and {count} in the target"
        missing = [use.weight for use in space.uses if use.weight not in self.found]
        found = self._bands(space, 0, size)
        bands = () if isinstance(found, Grouping) else found
        reason = space.fixed or (space.single if self.units.method == "widen" else space.ordered)
        if self.units.method == "widen" and space.normed and space.bent:
            reason = reason or f"{space.normed} divides them by their norm, which copies change, and {space.bent}"
        if isinstance(found, Grouping):
            reason = reason or f"{found.layer} has groups of another number and size, or others than its neighbours"
        if reason:
            self._note(f"{widths}, which cannot be changed: {reason}", "give it the source's width")
        elif missing:
            what = f"{widths}, but the rule does not claim {listed(missing, 2)}, which has to change with it"
            self._note(what, f"let `to` match {listed(sorted({WeightName(m).layer for m in missing}), 2)} too")
        elif self.units.method == "widen" and count < size:
            self._note(f"{widths}: widen makes it no narrower", "write units: {keep: largest}")
        elif self.units.method != "widen" and count > size:
            self._note(f"{widths}: choosing makes it no wider", "write units: {widen: copies}")
        elif self.units.method == "widen" and bands and len(set(bands)) == 1 and count % size and _compares(space):
            layer = next(grouping for grouping in space.groupings if grouping.compares)
            what = f"{layer.layer} is a {layer.layer_class}, which computes the same of as many copies of each unit"
            self._note(f"{widths}: {what}", f"give it a multiple of {size} units, such as {2 * size}")
        else:
            return self.units.method != "indices" or self._has_indices(space, (size, count), widths, bands)
        return False

    def _has_indices(self, space: UnitSpace, sizes: tuple[int, int], widths: str, bands: Sequence[int]) -> bool:
        named = [layer for layer in space.layers if layer in self.units.indices]
        indices, (size, count) = self.units.indices[named[0]] if named else (), sizes
        wrong = [index for index in indices if not 0 <= index < size]
        if not named:
            self._note(f"{widths}, and `indices` does not name it", f"add {space.layers[0]}: [...], {count} numbers")
        elif len(indices) != count:
            self._note(f"{widths}, and `indices` has {len(indices)} for it", f"give {count} numbers")
        elif wrong:
            self._note(f"{widths}, and `indices` has {wrong[0]} for it", f"use numbers from 0 to {size - 1}")
        elif bands and (mixed := _find_mixed_group(indices, size // bands[0], count // bands[1])):
            what = f"{mixed[0]} and {mixed[1]} are of two groups of the source, and one of the target"
            self._note(f"{widths}: {what}", f"give each {count // bands[1]} numbers of one group of {size // bands[0]}")
        else:
            return True
        return False

    def align(self, spaces: Sequence[UnitSpace], units: Sequence[Unit]) -> Iterator[UnitChoice]:
        """Yield a choice for each layer, or group of layers, and each entry whose units are to be put in order."""
        reference = self.units.reference
        assert reference is not None
        rule = dataclasses.replace(self.rule, froms=(reference,), units=None)
        others = {weight: taken[0] for weight, taken in pair_rule(rule, units, self.pairing).items()}
        count = 0
        for place, origin in enumerate(self.rule.froms):
            # The reference keeps its own order; the others are put in that.
            if (origin.source, origin.text) == (reference.source, reference.text):
                continue
            for space in spaces:
                here, there = self._widths(space, place)
                claimed = all(use.weight in self.found and use.weight in others for use in space.uses)
                # Unlike resizing, this may leave a space alone: its width is the same on both sides.
                if space.fixed or space.ordered or not claimed or len(here) != 1 or here != there:
                    continue
                if not isinstance(self._bands(space, place, max(here)), Grouping):
                    count += 1
                    yield self._choice(space, place, (max(here), max(there)), {}, others)
        if not count:
            reasons = [f"{' + '.join(s.layers)}: {s.fixed or s.ordered}" for s in spaces if s.layers]
            reasons = [reason for reason in reasons if not reason.endswith(": ")]
            what = f"there are no units that could be put in the order of {reference.text!r}"
            what += f" ({listed(reasons, 2)})" * bool(reasons)
            self._note(what, "claim a layer together with those that take its output, or leave `units` out")

    def _choice(
        self,
        space: UnitSpace,
        place: int,
        widths: tuple[int, int],
        resized: Mapping[int, tuple[int, int]],
        others: Mapping[str, Taken] | None = None,
    ) -> UnitChoice:
        """Return the choice of a space's units.

        Args:
            space: the space.
            place: the entry of `from`.
            widths: how many units the source has, and the target.
            resized: the same of all spaces whose width changes, by their places.
            others: what each weight takes of the network that the units are aligned with.
        """
        uses = []
        for use in space.uses:
            other = self._entry(others[use.weight]) if others else None
            entry = self._entry(self.found[use.weight][place])
            sizes = [(_in_source(width, resized.get(at)), width) for at, width in use.parts]
            uses.append(
                ChosenUse(
                    use.weight,
                    use.axis,
                    use.side,
                    entry,
                    other,
                    before=sum(source for source, _ in sizes[: use.at]),
                    after=sum(source for source, _ in sizes[use.at + 1 :]),
                    behind=sum(target for _, target in sizes[use.at + 1 :]),
                    times=use.parts[use.at][1] // (widths[1] * use.each) if use.parts else 1,
                    each=use.each,
                    groups=use.groups,
                )
            )
        bands = self._bands(space, place, widths[0])
        layer = space.layers[0]
        group = self.rule.name if len(self.rule.froms) < 2 else f"{self.rule.name}.{place}"
        named = next((self.units.indices[name] for name in space.layers if name in self.units.indices), ())
        return UnitChoice(
            name=f"{group}/{layer}",
            group=group,
            layer=layer,
            method=self.units.method,
            size=widths[0],
            count=widths[1],
            uses=tuple(uses),
            place=place,
            norm=self.units.norm,
            indices=tuple(named) if self.units.method == "indices" else (),
            bands=() if isinstance(bands, Grouping) else bands,
            copies="root" if space.normed else "even" if space.tied or (bands and _compares(space)) else "any",
        )


def _in_source(width: int, resized: tuple[int, int] | None) -> int:
    """Return how many numbers the source has where the target has `width`, of units of which these have so many."""
    # A whole multiple: behind a Flatten every place of the map has all units once.
    return width // resized[1] * resized[0] if resized else width


def _compares(space: UnitSpace) -> bool:
    return any(grouping.compares for grouping in space.groupings)


def _find_mixed_group(indices: Sequence[int], here: int, there: int) -> tuple[int, int] | None:
    """Return two numbers that would be neighbours in a group of `there`, but are of two groups of `here`."""
    for start in range(0, len(indices), there):
        group = indices[start : start + there]
        other = [index for index in group if index // here != group[0] // here]
        if other:
            return group[0], other[0]
    return None
