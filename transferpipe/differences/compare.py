"""Comparing two files, builders or live models weight by weight, by name or through the rules of a recipe."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from numpy.typing import NDArray

from transferpipe.differences.learned import compare_learned
from transferpipe.differences.pairing import pair_rest, root_of, rule_for_root
from transferpipe.differences.result import (
    BY_MAPPING,
    BY_NAME,
    CHANGED,
    DTYPE,
    EQUAL,
    LEFT_OUT,
    ONLY_A,
    ONLY_B,
    SHAPE,
    UNREADABLE,
    ComparedSide,
    Diff,
    WeightDifference,
)
from transferpipe.errors import Problem, Problems, TransferError
from transferpipe.execute.open_recipe import builds_of, describe_origin, layout_of, open_origin
from transferpipe.models.building.build import check_names
from transferpipe.models.source import ModelSource, live_model
from transferpipe.models.structure import file_structure
from transferpipe.planning.claims import find_units
from transferpipe.planning.fates import Fates
from transferpipe.planning.learned_state import pair_states
from transferpipe.planning.lint.settings import compare_settings
from transferpipe.planning.model import UNMATCHED_RULE, Assignment, SettingDifference, SettingsCompared
from transferpipe.planning.plan import Plan
from transferpipe.planning.planner import pair_weights
from transferpipe.planning.reading.groups import fill_groups
from transferpipe.planning.reading.read_recipe import chain_of
from transferpipe.planning.structure import TargetStructure
from transferpipe.planning.transforms import Goal, apply_chain, goal_before
from transferpipe.progress import Progress
from transferpipe.recipe.model import Origin, Recipe
from transferpipe.values.difference import Comparer
from transferpipe.values.stored import StoredValue
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.spec import Source, WeightSpec

TARGET = "target"
_KERAS = "keras"
T = TypeVar("T")


@dataclass(frozen=True)
class _Side:
    """One of the two, opened."""

    source: Source
    label: str
    layout: str

    @property
    def structure(self) -> TargetStructure:
        """What the planner needs to know of it as a target."""
        if isinstance(self.source, FileSource):
            return file_structure(self.source)
        assert isinstance(self.source, ModelSource)
        return self.source.model.structure

    @property
    def about(self) -> ComparedSide:
        """What the result says of it."""
        catalog = self.source.catalog
        others = len(self.source.others) if isinstance(self.source, FileSource) else 0
        return ComparedSide(self.label, self.source.format, len(catalog), catalog.parameters, others)


@dataclass(frozen=True)
class _Two:
    """Both: `there`, whose weights are as a target's, and `here`, which gives what they are compared with.

    Attributes:
        alias: what rules call `here`.
        here: A, unless they are swapped.
        there: B, unless they are swapped.
        swapped: whether `here` is B and `there` is A.
    """

    alias: str
    here: _Side
    there: _Side
    swapped: bool


def compare(
    recipe: Recipe,
    trusted: Collection[str] = (),
    live: Mapping[str, Any] | None = None,
    on_progress: Progress | None = None,
) -> Diff:
    """Return how the target of `recipe` differs from its only source, A, as the rules pair their weights.

    Of the recipe counts what pairs weights: mapping, unmatched and ignore; and the seed of builders. What `from: null`,
    ``unmatched: keep`` or `ignore` leave alone is left out.

    Args:
        recipe: the checked recipe.
        trusted: packages the command line vouched for.
        live: models of the user's own process that stand for ``source`` or ``target``.
        on_progress: called with how many bytes have been compared.

    Raises:
        RecipeError: a builder raises, or a rule matches nothing, or finds nothing.
        FileError, UnsafeError: one of the two cannot be read.
    """
    assert recipe.target is not None
    # The recipe that a comparison is made of has one source, A, and the target is B.
    ((alias, origin),) = recipe.sources.items()
    try:
        # Names are checked for both before either is opened: opening builds models, which may take minutes.
        check_names(builds_of(recipe), trusted)
        here = _open(origin, alias, recipe, trusted, live or {})
        there = _open(recipe.target, TARGET, recipe, trusted, live or {})
    except TransferError as error:
        letters = {alias: "A", f"sources.{alias}": "A", TARGET: "B"}
        raise type(error)([_rename_sides(p, letters) for p in error.problems]) from error
    swapped = _leads_back(recipe, here, there)
    if swapped:
        here, there = there, here
    two = _Two(alias, here, there, swapped)
    found = _WeightsComparison(recipe, two)
    # Readers see from where to where the rules were read; names have no direction.
    by_rules = f"{BY_MAPPING} (which leads from B to A)" if swapped else BY_MAPPING
    paired, catalogs = by_rules if recipe.rules else BY_NAME, (here.source.catalog, there.source.catalog)
    # Only where no name is on both sides: one more layer around everything must not be guessed beside names that agree.
    if not recipe.rules and not found.pairs_any and (below := rule_for_root(*catalogs, alias)):
        rule, root, label = below
        found = _WeightsComparison(replace(recipe, rules=(rule,)), two, root)
        paired = f"{BY_NAME} below {label}: {root}/"
    return replace(found.run(on_progress), paired=paired)


def _leads_back(recipe: Recipe, here: _Side, there: _Side) -> bool:
    """Tell whether what pairs the two leads from `there`, which is B, to `here`.

    Layouts are adapted to that of Keras. By name, either side may be the one that is adapted; rules tell by what they
    claim, so that a recipe compares its source and its target also where its target comes first.
    """
    is_foreign = here.layout == _KERAS != there.layout
    if not recipe.rules or not _claims_any(recipe, here):
        # Rules claim what is the target's: those that claim nothing of A lead to B.
        return is_foreign and not recipe.rules
    return not _claims_any(recipe, there) or (is_foreign and not any(rule.transform for rule in recipe.rules))


def _claims_any(recipe: Recipe, side: _Side) -> bool:
    """Tell whether any rule claims something of `side`."""
    catalog = side.structure.catalog.expanded
    return any(find_units(rule.to, catalog, rule.excepts) for rule in recipe.rules)


def _open(origin: Origin, name: str, recipe: Recipe, trusted: Collection[str], live: Mapping[str, Any]) -> _Side:
    # A model at hand is asked about as it is: nothing is built, and no file is read.
    if name in live:
        model = ModelSource(live_model(live[name], "B" if name == TARGET else "A"))
        return _Side(model, model.label, _KERAS)
    source = open_origin(origin, name, recipe.seed, trusted)
    return _Side(source, describe_origin(origin), layout_of(origin, source))


def _rename_sides(problem: Problem, letters: Mapping[str, str]) -> Problem:
    """Return the problem under the names that the user knows the two sides by."""
    # The command has no recipe that its user wrote: "source" and "target" would mean nothing there.
    for place, letter in letters.items():
        if problem.where in (place, f"{place}.path"):
            return replace(problem, where=letter)
        if problem.where.startswith(f"{place}."):
            return replace(problem, where=f"{letter}{problem.where[len(place) :]}")
    return problem


class _WeightsComparison:
    """The comparison of two sets of weights, paired by the rules of `recipe`; `root` is one more layer of one.

    Attributes:
        pairs_any: whether rules or names pair any weight.
    """

    def __init__(self, recipe: Recipe, two: _Two, root: str = "") -> None:
        recipe = fill_groups(recipe, two.there.structure.catalog.expanded)
        self._recipe, self._alias, self._here, self._there = recipe, two.alias, two.here, two.there
        self._swapped, here, there, alias = two.swapped, two.here, two.there, two.alias
        self._structure = there.structure
        self._catalogs = {alias: here.source.catalog}
        layout = here.layout if here.layout != there.layout else _KERAS  # of one layout both are as they are
        # By the planner itself: a comparison pairs what a transfer would fill.
        self._fates: Fates = pair_weights(recipe, self._catalogs, self._structure, {alias: layout})
        self.pairs_any = bool(self._fates.assignments)
        # In an adapted layout, names are made to match; what is left there belongs to nothing.
        if layout == _KERAS and recipe.unmatched != "keep":
            self._pair_rest(root)
        self._comparer = Comparer()

    def _pair_rest(self, root: str) -> None:
        here, there = self._here.source.catalog, self._there.source.catalog
        # Only of the side that has it: below it, names are the other's.
        roots = tuple(f"{root}/" if root and root == root_of(catalog) else "" for catalog in (here, there))
        used = {ref.name for a in self._fates.assignments.values() for ref in a.sources}
        free = [w for w in there if w.name not in self._fates.assignments]
        # What a rule keeps (`from: null`) is left alone; what only nothing was found for may still be paired.
        free = [w for w in free if (kept := self._fates.kept.get(w.name)) is None or kept.rule == UNMATCHED_RULE]
        left = [w for w in here if w.name not in used], free
        for found in pair_rest(*left, self._alias, roots):
            self._fates.assignments[found.target] = found
            self._fates.given[found.target] = found.sources[0].shape

    def run(self, on_progress: Progress | None) -> Diff:
        # In B's order; then what only A has, then what cannot be read.
        rows = [*self._pair(on_progress), *self._find_unpaired(), *self._unreadable()]
        a, b = self._a_and_b(self._here.about, self._there.about)
        return Diff(a, b, tuple(rows), self._settings())

    def _a_and_b(self, here: T, there: T) -> tuple[T, T]:
        return (there, here) if self._swapped else (here, there)

    def _row(self, here: tuple[str, ...], there: tuple[str, ...], **fields: Any) -> WeightDifference:
        a, b = self._a_and_b(here, there)
        return WeightDifference(a=a, b=b, **fields)

    # Weights that are on both sides -----------------------------------------------------------------------------------

    def _pair(self, on_progress: Progress | None) -> Iterator[WeightDifference]:
        catalog, done = self._there.source.catalog, 0
        unread = self._here.source.catalog.unread
        for weight in catalog:
            assignment = self._fates.assignments.get(weight.name)
            if assignment is not None:
                yield self._compare(assignment, weight)
            elif weight.name in unread:
                # The name is on both sides, but one of them cannot be read: that is another thing than being absent.
                yield self._row((weight.name,), (weight.name,), status=UNREADABLE, note=unread[weight.name].reason)
            else:
                yield self._only_there(weight)
            done += weight.nbytes
            if on_progress:
                on_progress("compare", done, catalog.nbytes)

    def _compare(self, assignment: Assignment, weight: WeightSpec) -> WeightDifference:
        names = tuple(ref.name for ref in assignment.sources)
        called = self._there.source.catalog.names_of(weight.name)  # by any of its names, of which the last one counts
        given = next(self._fates.given[name] for name in reversed(called) if name in self._fates.given)
        shapes, dtypes = (given, weight.shape), (assignment.cast_from, weight.dtype)
        (shape_a, shape_b), (dtype_a, dtype_b) = tuple(
            pair[::-1] if self._swapped else pair for pair in (shapes, dtypes)
        )
        note, difference = self._fates.unfit.get(assignment.target, ""), None
        # The shapes first: values of unlike shapes are not read at all.
        if shape_a != shape_b or note:
            status = SHAPE
        else:
            sides = (
                self._find_counterpart(assignment, given),
                self._make_stored(self._there.source, weight.name, weight),
            )
            # Even of another dtype, values are compared: a cast that changed nothing is worth knowing.
            difference = self._comparer.compare(*self._a_and_b(*sides))
            status = DTYPE if dtype_a != dtype_b else CHANGED if difference else EQUAL
        return self._row(
            names,
            (weight.name,),
            status=status,
            shape_a=shape_a,
            shape_b=shape_b,
            dtype_a=dtype_a,
            dtype_b=dtype_b,
            values=difference,
            note=note,
        )

    def _make_stored(self, source: Source, name: str, spec: WeightSpec) -> StoredValue:
        return StoredValue(spec.shape, spec.dtype, lambda: source.read(name), source.locate(name))

    def _find_counterpart(self, assignment: Assignment, shape: tuple[int, ...]) -> StoredValue:
        """Return what a weight of the other side is to be compared with: one of this side, or what is made of it."""
        source = self._here.source
        # Read as it lies in its file, a stretch at a time: nothing is computed of it.
        if assignment.is_copy:
            name = assignment.sources[0].name
            return self._make_stored(source, name, source.catalog[name])

        def read() -> NDArray[Any]:
            whole = chain_of(assignment.merge, assignment.transforms)
            # The seed, because a merge may draw what it adds, and must draw what the transfer drew.
            goal = Goal(assignment.shape, assignment.target, self._recipe.seed)
            before, arrays = goal_before(whole, goal), []
            for entry in assignment.entries:
                values = [source.read(ref.name) for ref in entry.sources]
                arrays.append(apply_chain(chain_of(None, entry.steps), values, before))
            return apply_chain(whole, arrays, goal)

        return StoredValue(shape, assignment.cast_from, read)

    # Weights that are on one side -------------------------------------------------------------------------------------

    def _only_there(self, weight: WeightSpec) -> WeightDifference:
        kept = self._fates.kept.get(weight.name)
        by_rule = kept is not None and kept.rule != UNMATCHED_RULE
        # Only what somebody wrote down is left out; all else that has no counterpart is a difference.
        note = "from: null" if by_rule else "unmatched: keep" if kept and self._recipe.unmatched == "keep" else ""
        status = LEFT_OUT if note else ONLY_A if self._swapped else ONLY_B
        return self._on_one_side(weight, there=True, status=status, note=note)

    def _on_one_side(self, weight: WeightSpec, *, there: bool, **fields: Any) -> WeightDifference:
        letter, name = "a" if there == self._swapped else "b", (weight.name,)
        fields |= {f"shape_{letter}": weight.shape, f"dtype_{letter}": weight.dtype}
        return self._row((), name, **fields) if there else self._row(name, (), **fields)

    def _find_unpaired(self) -> Iterator[WeightDifference]:
        """Yield the weights of `here` that nothing was compared with."""
        catalog = self._here.source.catalog
        # A weight that several rules read is paired once it is read by one.
        used = {ref.name for a in self._fates.assignments.values() for ref in a.sources}
        ignored = {
            catalog[name].name
            # Patterns may claim groups of weights: a unit is what one match takes.
            for ignore in self._recipe.ignore
            for unit in find_units(ignore.pattern, catalog.expanded)
            for name in unit.weights
        }
        for weight in catalog:
            if weight.name in used:
                continue
            note = "ignore" if weight.name in ignored else ""
            # Operands such as an ONNX graph's shapes stand among the weights, and no model has them.
            note = note or ("no weight: says how something is computed" if weight.name in catalog.operands else "")
            status = LEFT_OUT if note else ONLY_B if self._swapped else ONLY_A
            yield self._on_one_side(weight, there=False, status=status, note=note)

    def _unreadable(self) -> Iterator[WeightDifference]:
        """Yield what cannot be read, where the other side has nothing that is called so, or cannot read it either."""
        here, there = self._here.source.catalog.unread, self._there.source.catalog.unread
        # A name that is unreadable on both sides is one row.
        for name in dict.fromkeys((*here, *there)):
            # `_pair` has said that already.
            if name in here and name in self._there.source.catalog:
                continue
            sides = (name,) if name in here else (), (name,) if name in there else ()
            yield self._row(*sides, status=UNREADABLE, note=(here.get(name) or there[name]).reason)

    # Settings ---------------------------------------------------------------------------------------------------------

    def _settings(self) -> SettingsCompared:
        moves = pair_states(self._recipe, self._structure.catalog, self._catalogs, Problems())
        # The comparison of settings is the planner's, which asks a plan for what goes where.
        plan = Plan(
            recipe="",
            target=self._there.label,
            sources={self._alias: self._here.label},
            assignments=tuple(self._fates.assignments.values()),
            kept=(),
            source_weights=(),
            state=moves,  # what they learned is compared apart, below
        )
        found, _ = compare_settings(plan, self._catalogs, self._structure)
        learned = list(compare_learned(moves, self._here.source, self._there.source))
        differences = (*found.differences, *(d for d in learned if d))
        here, there = self._a_and_b("A", "B")
        # It speaks of source and target, and here there are A and B.
        reasons = {
            "not stored in the source": f"not stored in {here}",
            "unknown for the target": f"not stored in {there}",
        }
        return replace(
            found,
            compared=found.compared + len(learned),
            differing=found.differing + len([d for d in learned if d]),
            not_compared={reasons.get(reason, reason): count for reason, count in found.not_compared.items()},
            differences=tuple(map(_turn, differences)) if self._swapped else differences,
        )


def _turn(d: SettingDifference) -> SettingDifference:
    return replace(
        d,
        source_layer=d.target_layer,
        target_layer=d.source_layer,
        source_value=d.target_value,
        target_value=d.source_value,
    )
