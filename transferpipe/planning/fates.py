"""Giving each target weight its fate, with shapes and dtypes checked through merges and transforms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal, NamedTuple

from transferpipe.errors import Problems
from transferpipe.planning.advice.shapes import advise_dtype, advise_shape
from transferpipe.planning.advice.taking_out import advise_keeping
from transferpipe.planning.dtypes import kind_of
from transferpipe.planning.model import (
    UNMATCHED_RULE,
    Adaptation,
    AssignedEntry,
    Assignment,
    Kept,
    SourceRef,
    UnitChoice,
    entries_of,
)
from transferpipe.planning.pairing.taken import Taken
from transferpipe.planning.reading.read_recipe import chain_of
from transferpipe.planning.structure import TargetStructure
from transferpipe.planning.transforms import Goal, TransformError, goal_before, infer
from transferpipe.recipe.model import Rule
from transferpipe.weights.spec import Catalog, WeightSpec

Reason = Literal["from: null", "no rule", "shape differs", "state: keep"]


@dataclass
class Fates:
    """What has been settled so far.

    Attributes:
        target: the target's structure.
        sources: the sources' catalogs by their names.
        problems: what is wrong.
        assignments: weights that get a value, by name.
        kept: weights that keep theirs, by name.
        compares: whether values are to be compared, not moved: then shapes and kinds of numbers may differ, and a
            weight may be assigned that nothing can be written into.
        seed: the recipe's seed.
        given: where values are compared, the shape of what each assigned weight would take, after the transforms.
        units: which units of the sources are taken, where rules choose.
        unfit: where values are compared, why transforms cannot be applied to what a weight would take.
    """

    target: TargetStructure
    sources: Mapping[str, Catalog]
    problems: Problems
    assignments: dict[str, Assignment] = field(default_factory=dict)
    kept: dict[str, Kept] = field(default_factory=dict)
    compares: bool = False
    seed: int = 0
    given: dict[str, tuple[int, ...]] = field(default_factory=dict)
    unfit: dict[str, str] = field(default_factory=dict)
    units: list[UnitChoice] = field(default_factory=list)

    def keep(self, names: Iterable[str], rule: str, reason: Reason) -> None:
        """Keep the weights called `names` as they are."""
        for name in names:
            spec = self.target.catalog[name]
            self.kept[name] = Kept(name, rule, reason, spec.shape, spec.dtype)


def assign(fates: Fates, rule: Rule | None, name: str, found: Sequence[Taken], folded: tuple[Any, ...] = ()) -> None:
    """Assign the source weights `found` to the target weight `name`, or note why that cannot be.

    Args:
        fates: takes the assignment, or the problem.
        rule: the rule behind it; None under ``unmatched: same_name``.
        name: the target weight.
        found: what it takes of each source, in the order of the rule's `from`.
        folded: the step, as written, that folds what the rule says into it, before the rule's own transforms.
    """
    spec = fates.target.catalog[name]
    if not folded and len(found) == 1 and _assign_copy(fates, rule, spec, name, found[0]):
        return
    where = rule.where if rule else UNMATCHED_RULE
    given = ((t.source, fates.sources[t.source][name]) for t in found for name in t.names)
    refs = tuple(SourceRef(source, w.name, w.shape, w.dtype) for source, w in given)
    steps = _steps_of(rule, spec, found, folded)
    if name in fates.target.closed and not fates.compares:
        what = f"{name} is saved by its layer in a way of its own and cannot be assigned"
        fates.problems.add(where, what, advise_keeping(rule, [name], fates.target.catalog))
        return
    try:
        shape, dtype = _infer(refs, steps, Goal(spec.shape, name, fates.seed))
    except TransformError as error:
        if not fates.compares:
            fates.problems.add(where, f"{name} from {_name_sources(refs)}: {error.what}", error.fix)
            return
        # Where values are compared, this is a difference to be shown, and the shape of the source is what there is to
        # show.
        fates.unfit[name], shape, dtype = error.what, refs[0].shape, refs[0].dtype
    fates.given[name] = tuple(shape)
    if shape != spec.shape and not fates.compares:
        if rule and rule.on_mismatch == "keep" and rule.pair == "name":
            fates.keep([name], rule.name, "shape differs")
        else:
            what = f"{name} has shape {tuple(spec.shape)}, {_name_sources(refs)} gives {tuple(shape)}"
            what += " after the transforms" * steps.may_reshape
            fates.problems.add(where, what, _advise_shape(rule, spec, shape, refs, found))
        return
    if kind_of(dtype) != kind_of(spec.dtype) and not fates.compares:
        theirs = f"{_name_sources(refs)} gives {dtype}"
        what = f"{name} is {spec.dtype}, {theirs}: a cast between kinds changes what a number means"
        fates.problems.add(where, what, advise_dtype(spec, dtype))
        return
    fates.assignments[name] = Assignment(
        name,
        rule.name if rule else UNMATCHED_RULE,
        refs,
        spec.shape,
        spec.dtype,
        dtype,
        steps.merge,
        steps.transforms,
        steps.adapter,
        rule.pair if rule else "same_name",
        steps.items,
    )


class _Steps(NamedTuple):
    """What is done to the source weights that a target weight takes.

    Attributes:
        adapter: how each source's weights are put into Keras's layout first; empty where they are in it.
        items: the steps of each entry of the rule's `from`; empty where none has its own.
        merge: how entries become one; None of a single one.
        transforms: the steps of the whole.
    """

    adapter: tuple[Adaptation, ...]
    items: tuple[tuple[Any, ...], ...]
    merge: Any
    transforms: tuple[Any, ...]

    @property
    def may_reshape(self) -> bool:
        return bool(self.transforms or self.items or any(a.transforms for a in self.adapter))


def _steps_of(rule: Rule | None, spec: WeightSpec, found: Sequence[Taken], folded: tuple[Any, ...]) -> _Steps:
    merge = rule.merge if rule else None
    transforms = (*folded, *(rule.transforms_of(spec.own_name) if rule else ()))
    items: tuple[tuple[Any, ...], ...] = tuple(o.transforms_of(spec.own_name) for o in (rule.froms if rule else ()))
    if any(t.own for t in found):  # only with as many entries
        items = tuple((*t.own, *item) for t, item in zip(found, items, strict=True))
    if len(found) == 1 and merge is None:  # all steps are those of the whole
        transforms, items = (*chain.from_iterable(items), *transforms), ()
    return _Steps(_adapter(found), items if any(items) else (), merge, transforms)


def _infer(refs: tuple[SourceRef, ...], steps: _Steps, goal: Goal) -> tuple[tuple[int, ...], str]:
    """Return the shape and the dtype that the steps make of the source weights.

    Raises:
        TransformError: a step cannot be applied.
    """
    whole = chain_of(steps.merge, steps.transforms)
    entries = tuple(entries_of(refs, steps.adapter, steps.items))
    return infer(whole, *_infer_entries(entries, goal_before(whole, goal)), goal)


def _assign_copy(fates: Fates, rule: Rule | None, spec: WeightSpec, name: str, taken: Taken) -> bool:
    """Assign one source weight as it is, where nothing is to be done or said; return whether that was so.

    So are most of thousands, which are then not led through what transforms need.
    """
    if taken.steps or taken.own or len(taken.names) > 1 or name in fates.target.closed:
        return False
    if rule and (rule.merge is not None or rule.transform or any(origin.transform for origin in rule.froms)):
        return False
    weight = fates.sources[taken.source][taken.names[0]]
    if weight.shape != spec.shape or kind_of(weight.dtype) != kind_of(spec.dtype):
        return False
    fates.given[name] = spec.shape
    fates.assignments[name] = Assignment(
        name,
        rule.name if rule else UNMATCHED_RULE,
        (SourceRef(taken.source, weight.name, spec.shape, weight.dtype),),
        spec.shape,
        spec.dtype,
        weight.dtype,
        adapter=_ADAPTED if taken.adapted else (),
        pair=rule.pair if rule else "same_name",
    )
    return True


_ADAPTED = (Adaptation(1),)


def _adapter(found: Sequence[Taken]) -> tuple[Adaptation, ...]:
    """Return how what each source gives is put into Keras's layout; empty where no layout has a say."""
    if not any(t.adapted or t.steps or len(t.names) > 1 for t in found):
        return ()
    return tuple(Adaptation(len(t.names), t.steps) for t in found)


def _infer_entries(entries: Sequence[AssignedEntry], goal: Goal) -> tuple[list[tuple[int, ...]], list[str]]:
    """Return the shapes and dtypes that the merge gets, each of which works towards `goal`.

    Raises:
        TransformError: the steps of an entry cannot be applied to what its source holds.
    """
    found = []
    for entry in entries:
        shapes, dtypes = [r.shape for r in entry.sources], [r.dtype for r in entry.sources]
        try:
            found.append(infer(chain_of(None, entry.steps), shapes, dtypes, goal))
        except TransformError as error:
            if len(entries) < 2:
                raise
            raise TransformError(f"{_name_sources(entry.sources)}: {error.what}", error.fix) from error
    return [shape for shape, _ in found], [dtype for _, dtype in found]


def _advise_shape(
    rule: Rule | None, spec: WeightSpec, shape: tuple[int, ...], refs: Sequence[SourceRef], found: Sequence[Taken]
) -> str:
    if rule and not rule.transform and found[0].steps and all(r.shape == spec.shape for r in refs):
        return "its axes fit as they are: set the rule's `layout: keras`"
    return advise_shape(rule, spec, shape, [r.name for r in refs])


def _name_sources(refs: Sequence[SourceRef]) -> str:
    several = len({r.source for r in refs}) > 1
    return ", ".join(f"{r.source}:{r.name}" if several else r.name for r in refs)
