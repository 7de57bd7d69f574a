"""What a plan says of each weight, layer and array: the records that `plan.py` puts together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from transferpipe.weights.name import layer_of, own_of

UNMATCHED_RULE = "unmatched"
"""The rule name under which weights stand that no rule of the recipe claimed."""


def place_of_rule(rule: str) -> str:
    """Return the place in a recipe where the rule of an assignment is written, as messages name it."""
    return UNMATCHED_RULE if rule == UNMATCHED_RULE else f"mapping.{rule}"


class _OfWeight:
    """What belongs to one weight, which `name` names."""

    __slots__ = ()
    name: str

    @property
    def layer(self) -> str:
        """The name of the layer that has the weight."""
        return layer_of(self.name)

    @property
    def own(self) -> str:
        """The own name of the weight inside its layer, such as ``kernel``."""
        return own_of(self.name)


class _OfTarget:
    """The same, named by `target`."""

    __slots__ = ()
    target: str

    @property
    def layer(self) -> str:
        """The name of the layer that has the weight."""
        return layer_of(self.target)

    @property
    def own(self) -> str:
        """The own name of the weight inside its layer, such as ``kernel``."""
        return own_of(self.target)


@dataclass(frozen=True, slots=True)
class SourceRef(_OfWeight):
    """One weight of one source."""

    source: str
    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Adaptation:
    """How one entry of a rule's `from` is put into Keras's layout before it is merged, or joined, with the others.

    Attributes:
        count: how many source weights it takes, one below the other in the assignment's `sources`.
        transforms: what makes one weight of these, as it would be written.
    """

    count: int
    transforms: tuple[Any, ...] = ()


@dataclass(frozen=True)
class AssignedEntry:
    """The source weights that one entry of a rule's `from` takes, and the steps that make one value of them.

    Attributes:
        sources: the source weights.
        steps: the transforms as written, those of the source's layout first.
    """

    sources: tuple[SourceRef, ...]
    steps: tuple[Any, ...]


def entries_of(
    sources: Sequence[SourceRef], adapter: Sequence[Adaptation], items: Sequence[Sequence[Any]]
) -> Iterator[AssignedEntry]:
    """Yield the entries that an assignment's fields stand for: both `adapter` and `items` may be empty."""
    start = 0
    for k, adaptation in enumerate(adapter or [Adaptation(1)] * len(sources)):
        taken = tuple(sources[start : start + adaptation.count])
        yield AssignedEntry(taken, (*adaptation.transforms, *(items[k] if items else ())))
        start += adaptation.count


@dataclass(frozen=True, slots=True)
class Assignment(_OfTarget):
    """A target weight and where its value comes from.

    Attributes:
        target: the target weight's name.
        rule: the rule behind it.
        sources: the source weights, more than one only with `merge` or a transform that takes several.
        merge: the merge method as written, or None.
        transforms: the user's transforms as written, in order, behind those of `adapter` and `merge`.
        shape: shape of the target weight.
        dtype: dtype of the target weight.
        cast_from: the dtype that the value has before it is cast to `dtype`; equal where nothing is cast.
        adapter: how each entry of the rule's `from` is put into Keras's layout, in their order; empty where the layout
            of the source does not know the weight, so that its name and axes are the user's word.
        pair: how the sources were found: by the templates of the rule, by position, or by `same_name`.
        items: the user's transforms of each entry alone, as written, behind its `adapter` and before the merge; empty
            where no entry has any.
    """

    target: str
    rule: str
    sources: tuple[SourceRef, ...]
    shape: tuple[int, ...]
    dtype: str
    cast_from: str
    merge: Any = None
    transforms: tuple[Any, ...] = ()
    adapter: tuple[Adaptation, ...] = ()
    pair: Literal["name", "order", "same_name"] = "name"
    items: tuple[tuple[Any, ...], ...] = ()

    @property
    def steps(self) -> tuple[Any, ...]:
        """All transforms, those of single entries first."""
        if not (self.adapter or self.items):  # most have neither, and are asked often
            return self.transforms
        return (*(t for entry in self.entries for t in entry.steps), *self.transforms)

    @property
    def own_steps(self) -> tuple[Any, ...]:
        """The transforms that the user wrote, those of single entries first."""
        return (*(t for item in self.items for t in item), *self.transforms)

    @property
    def entries(self) -> tuple[AssignedEntry, ...]:
        """What stands for the entries of the rule's `from`, in their order."""
        return tuple(entries_of(self.sources, self.adapter, self.items))

    @property
    def is_copy(self) -> bool:
        """Whether the value is that of one source weight, apart from a cast."""
        return self.merge is None and len(self.sources) == 1 and not self.steps


@dataclass(frozen=True, slots=True)
class Kept(_OfTarget):
    """A target weight that stays as it was built or saved, and why."""

    target: str
    rule: str
    reason: Literal["from: null", "no rule", "shape differs", "state: keep"]
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class SourceWeight(_OfWeight):
    """A source weight and what becomes of it."""

    source: str
    name: str
    fate: Literal["used", "unused", "ignored", "unreadable"]


@dataclass(frozen=True)
class TensorPart:
    """A weight of the target, and the transforms, as written, that lead from it to a tensor or its part."""

    weight: str
    steps: tuple[Any, ...]


@dataclass(frozen=True)
class Exported:
    """One tensor of a file of named tensors.

    Attributes:
        name: its name in the layout of the file, with slashes.
        shape: its shape.
        dtype: the NumPy name of its dtype.
        parts: what it is made of, one below the other along its first axis.
        key: what the file calls it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    parts: tuple[TensorPart, ...]
    key: str


@dataclass(frozen=True)
class Freezing:
    """What will be trainable, seen from the root as Keras sees it.

    Attributes:
        layers: layers whose own flag the plan switches off, outermost first.
        frozen_weights: names of all weights that training will not change because a layer or one above it is frozen.
        trainable_parameters: elements that training will change.
        parameters: elements of all weights.
        batch_norms: BatchNormalization layers, and of them those that are frozen (using moving averages).
        stored_statistics: those of `batch_norms` that neither use nor update batch statistics during training.
    """

    layers: tuple[str, ...] = ()
    frozen_weights: tuple[str, ...] = ()
    trainable_parameters: int = 0
    parameters: int = 0
    batch_norms: tuple[str, ...] = ()
    stored_statistics: tuple[str, ...] = ()


@dataclass(frozen=True)
class OptimizerArray:
    """One array of the optimizer that the finished model has, and where its value comes from.

    Attributes:
        place: where it stands in a Keras file, such as ``optimizer/vars/2``; of what Keras does not save, where Python
            holds it: ``optimizer/inner_optimizer/_u_product``.
        kind: what it is: ``momentum``, ``velocity``, ``iterations``.
        weight: the target weight that it belongs to; empty for what belongs to all of them.
        shape: its shape.
        dtype: its dtype.
        origin: its place in the source; empty where it starts anew.
        transforms: what the value of its weight goes through, as written: permutations alone.
        fill: the value of all its elements where it starts anew; None where it starts from the value of its weight.
    """

    place: str
    kind: str
    weight: str
    shape: tuple[int, ...]
    dtype: str
    origin: str = ""
    transforms: tuple[Any, ...] = ()
    fill: float | None = None

    @property
    def is_saved(self) -> bool:
        """Whether a Keras file holds it."""
        return "/vars/" in self.place


@dataclass(frozen=True)
class Optimizer:
    """What becomes of an optimizer's state.

    Attributes:
        fate: ``kept`` byte for byte in the files that can hold it, ``transferred`` slot by slot along the mapping,
            ``dropped``, or ``none`` where there is no state.
        arrays: how many arrays it has; of those transferred, how many are taken.
        reason: whose it is, or why it is dropped.
        source: the name of the source that transferred state comes from.
        slots: all arrays of the finished model's optimizer, where state is transferred.
    """

    fate: Literal["none", "kept", "transferred", "dropped"] = "none"
    arrays: int = 0
    reason: str = ""
    source: str = ""
    slots: tuple[OptimizerArray, ...] = ()

    def __str__(self) -> str:
        arrays = "array" if self.arrays == 1 else "arrays"
        return f"optimizer state {self.fate} ({self.arrays} {arrays}): {self.reason}"


@dataclass(frozen=True)
class StateMove:
    """What a preprocessing layer learned beside weights, and whether the target's takes it.

    Attributes:
        target: the target's layer.
        source: the source's name.
        source_layer: the layer there.
        rule: the rule that pairs them.
        kind: what it is.
        size: how many terms, without those for masks and unknown words, or how many boundaries or means.
        fate: ``taken`` from the source, or ``kept`` as the target has it.
    """

    target: str
    source: str
    source_layer: str
    rule: str
    kind: Literal["vocabulary", "boundaries", "statistics"]
    size: int
    fate: Literal["taken", "kept"]


@dataclass(frozen=True)
class PlanWarning:
    """Something legal that is probably not meant.

    Attributes:
        code: its kind, one of `transferpipe.codes.WARNINGS`; empty in records of earlier versions.
        where: the place the user would look at: a recipe key, a layer, a file.
        text: what is found there.
    """

    code: str
    where: str
    text: str

    def __str__(self) -> str:
        code = f"[{self.code}]" if self.code else ""
        # What concerns the whole plan is placed under its own code, which is not said twice.
        if code and self.where == self.code:
            return f"{code} {self.text}"
        place = " ".join(filter(None, [self.where, code]))
        return f"{place}: {self.text}" if place else self.text

    def to_data(self) -> dict[str, str]:
        """Return the warning as in plan.json and manifest.json."""
        return {"code": self.code, "where": self.where, "text": self.text}


@dataclass(frozen=True)
class SettingDifference:
    """One setting in which a layer of the target differs from a layer that it takes weights from.

    Attributes:
        rule: the rule that pairs them.
        source: the source's name.
        source_layer: the layer of the source; of what stands between layers, the one behind it.
        target_layer: that of the target.
        setting: the setting, such as ``strides``; ``class``; or ``between`` for what stands before the layer.
        source_value: its value in the source, in words.
        target_value: that in the target.
    """

    rule: str
    source: str
    source_layer: str
    target_layer: str
    setting: str
    source_value: str
    target_value: str


@dataclass(frozen=True)
class SettingsCompared:
    """What was found of the settings of layers that the plan pairs.

    Attributes:
        compared: how many pairs of layers had theirs compared.
        differing: how many of these compute something else.
        not_compared: how many were not compared, by the reason.
        differences: what differs.
    """

    compared: int = 0
    differing: int = 0
    not_compared: Mapping[str, int] = field(default_factory=dict)
    differences: tuple[SettingDifference, ...] = ()


UnitMethod = Literal["widen", "largest", "indices", "align"]


@dataclass(frozen=True)
class ChosenUse:
    """One axis of one target weight that goes along chosen units.

    Attributes:
        weight: the target weight.
        axis: the axis, from the end.
        side: whether the weight makes the units, takes them, or has a number for each of them.
        entry: what it takes of the source, in Keras's layout, before the units are chosen.
        reference: the same of the network that the units are aligned with.
        before: how many numbers of other units the source has before them along the axis.
        after: the same behind them.
        behind: how many the target has there.
        times: how often each unit stands between those, where there are any.
        each: how many neighbouring numbers along the axis a unit has.
        groups: of a grouped convolution, whose kernel has its inputs for one group, how many groups there are.
    """

    weight: str
    axis: int
    side: Literal["out", "in", "along"]
    entry: AssignedEntry
    reference: AssignedEntry | None = None
    before: int = 0
    after: int = 0
    behind: int = 0
    times: int = 1
    each: int = 1
    groups: int = 1


@dataclass(frozen=True)
class UnitChoice:
    """Which of a source's units the units of a target's layer are: what the steps called ``units`` name.

    Attributes:
        name: what they call it.
        group: the choices that are found together.
        layer: the layer; of several that share their units the first.
        method: ``widen`` repeats units that are drawn, ``largest`` keeps those whose kernels have the largest norms,
            ``indices`` those that are listed, ``align`` puts them into the order of another network's.
        size: how many units the source has.
        count: how many the target has.
        uses: the axes that go along them.
        place: which entry of the rule's `from` it is of.
        norm: of ``largest``, which norm: ``l1`` or ``l2``.
        indices: of ``indices``, the numbers.
        bands: how many groups of neighbouring units a normalization has in the source, and in the target: where these
            are as many, every group stays where it is and has its own units, else groups go as a whole; none where
            nothing holds neighbours together, and (1, 1) where all units are compared.
        copies: of ``widen``, what there may be of each unit: ``any`` number of copies, an ``even`` number of all, or
            any, each of them divided by the root of that number.
    """

    name: str
    group: str
    layer: str
    method: UnitMethod
    size: int
    count: int
    uses: tuple[ChosenUse, ...]
    place: int = 0
    norm: Literal["l1", "l2"] = "l1"
    indices: tuple[int, ...] = ()
    bands: tuple[int, ...] = ()
    copies: Literal["any", "even", "root"] = "any"
