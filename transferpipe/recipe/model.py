"""The recipe as checked values. Everything here is frozen and holds no model and no tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from transferpipe.recipe.patterns import Pattern
from transferpipe.recipe.templates import Template

Unmatched = Literal["error", "keep", "same_name", "same_name_or_keep"]
UNMATCHED: tuple[Unmatched, ...] = ("error", "keep", "same_name", "same_name_or_keep")
OptimizerChoice = Literal["auto", "keep", "drop", "transfer"]
OPTIMIZER: tuple[OptimizerChoice, ...] = ("auto", "keep", "drop", "transfer")
StateChoice = Literal["take", "keep"]
STATE: tuple[StateChoice, ...] = ("take", "keep")
TRANSFERRED, NOTHING = "transferred", "none"
"""What `freeze` may say beside patterns: every layer that came from a source as a whole; nothing at all."""
SINGLE = "source"
"""The name under which a recipe's only `source:` goes."""


@dataclass(frozen=True)
class Build:
    """A Python callable to call and its arguments, which may hold further `Build`s.

    Attributes:
        target: the dotted name.
        arguments: keyword arguments.
        where: the recipe key, for messages.
    """

    target: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""


def walk_builds(value: Any) -> Iterator[Build]:
    """Yield every call in `value`, a call or its arguments, however deep in lists and mappings; outer ones first."""
    if isinstance(value, Build):
        yield value
        value = value.arguments
    for inner in value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ():
        yield from walk_builds(inner)


UNNAMED = "recipe"
"""What a recipe is called that has no name, so that no command can choose it."""

LIVE = "live://"
"""Begins what stands for the path of a model of the user's own process."""


@dataclass(frozen=True)
class RepeatedLayers:
    """Which layers of a file follow one another in a target that is like it.

    Attributes:
        pattern: over the names of layers or weights; its group is the number of the layer.
        ranges: the layers by the numbers that the file gives them, both ends meant; no end is the last layer.
    """

    pattern: Pattern
    ranges: tuple[tuple[int, int | None], ...]

    @property
    def text(self) -> str:
        """The ranges as a recipe has them."""
        return ", ".join(str(a) if a == b else f"{a}-{'' if b is None else b}" for a, b in self.ranges)

    def __str__(self) -> str:
        return f"{self.pattern.text}: {self.text}"


@dataclass(frozen=True)
class Origin:
    """Where a model or its weights come from: a file or a builder, exactly one of them.

    Attributes:
        path: the file.
        build: the builder.
        format: name of the file's format; None tells it from the content.
        layout: how names and axes are arranged.
        select: keys on the way to the part of the file that is wanted.
        sha256: the digest that the file must have, in small letters.
        requires: of a source, what the config.json beside it must say where it says it.
        repeat: of a target, which layers of the file it has one after the other; empty for those of the file.
    """

    path: str | None = None
    build: Build | None = None
    format: str | None = None
    layout: str = "auto"
    select: str | None = None
    sha256: str | None = None
    repeat: tuple[RepeatedLayers, ...] = ()
    requires: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_built(self) -> bool:
        """Whether a process builds the model, so that the names that Keras counts up depend on what it built before."""
        return self.path is None or self.path.startswith(LIVE)

    @property
    def label(self) -> str:
        """The path, or the builder's dotted name."""
        return self.path or (self.build.target if self.build else "?")


Steps = tuple[Any, ...] | Mapping[str, tuple[Any, ...]]
"""Transforms as written: one list for all weights, or one for each by the weight's own name."""


def _steps_of(steps: Steps, own_name: str) -> tuple[Any, ...]:
    return steps.get(own_name, ()) if isinstance(steps, Mapping) else steps


@dataclass(frozen=True)
class From:
    """One entry of a rule's `from`: the source's name and a template, or a pattern under ``pair: order``.

    Attributes:
        source: the source's name.
        text: the template or pattern as written.
        template: what gives the name there.
        pattern: in its place under ``pair: order``.
        transform: the steps of this entry alone, before the merge, as written: one list, or one by own name.
    """

    source: str
    text: str
    template: Template | None = None
    pattern: Pattern | None = None
    transform: Steps = field(default=(), hash=False)

    def transforms_of(self, own_name: str) -> tuple[Any, ...]:
        """Return the entry's own steps, as written, for a target weight with this own name."""
        return _steps_of(self.transform, own_name)


def _lists_in(where: str, steps: Steps) -> Iterator[tuple[str, tuple[Any, ...], str]]:
    for own_name, found in steps.items() if isinstance(steps, Mapping) else (("", steps),):
        yield f"{where}{f'.{own_name}' * bool(own_name)}", found, own_name


@dataclass(frozen=True)
class RuleUnits:
    """How a rule chooses the units of layers that have another width in the target, or another order in the source.

    Attributes:
        method: ``widen`` repeats some, ``largest`` keeps those of the largest norms, ``indices`` those that are listed,
            ``align`` puts them into the order of another network.
        norm: of ``largest``, the norm of a unit's kernel.
        indices: of ``indices``, the units by layer.
        reference: of ``align``, the other network's weights.
    """

    method: Literal["widen", "largest", "indices", "align"]
    norm: Literal["l1", "l2"] = "l1"
    indices: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)
    reference: From | None = None


@dataclass(frozen=True)
class Rule:
    """One mapping rule.

    Attributes:
        name: its key in `mapping`.
        to: pattern over target names.
        froms: where values come from; empty with `keep`; one without text means "the same name".
        keep: ``from: null``, the weights keep their initial values.
        pair: by ``name`` or by ``order``.
        excepts: patterns taken out of `to`.
        transform: the steps of what the entries give together, as written.
        merge: how several sources become one, as written.
        fold: the source layers that are folded into what is taken, one for each of `froms`, and more for branches.
        fold_with: the settings of folding that are stated: ``epsilon``, ``alpha``, ``rank_stabilized``.
        on_mismatch: what a shape that differs after the transforms does.
        optional: the rule may match nothing.
        layout: how the axes of what it takes are arranged, where that is not as in the rest of the source.
        units: how the units of layers are chosen, in all weights that have them.
        written: the key in `mapping` where that is not the name: of one of the rules that a template stands for.
    """

    name: str
    to: Pattern
    froms: tuple[From, ...] = ()
    keep: bool = False
    pair: Literal["name", "order"] = "name"
    excepts: tuple[Pattern, ...] = ()
    transform: Steps = field(default=(), hash=False)
    merge: Any = field(default=None, hash=False)
    on_mismatch: Literal["error", "keep"] = "error"
    optional: bool = False
    layout: str | None = None
    fold: tuple[From, ...] = ()
    fold_with: Mapping[str, Any] = field(default_factory=dict, hash=False)
    units: RuleUnits | None = None
    written: str = ""

    @property
    def key(self) -> str:
        """The rule's key in `mapping`."""
        return self.written or self.name

    @property
    def own_excepts(self) -> tuple[Pattern, ...]:
        """What the recipe takes out of `to`; one of the rules that a template stands for has the others' layers too."""
        return self.excepts[:-1] if self.written else self.excepts

    @property
    def where(self) -> str:
        """The rule's place in the recipe."""
        return f"mapping.{self.key}"

    def transforms_of(self, own_name: str) -> tuple[Any, ...]:
        """Return the transforms, as written, for a weight with this own name."""
        return _steps_of(self.transform, own_name)

    @property
    def step_lists(self) -> Iterator[tuple[str, tuple[Any, ...], str]]:
        """Each list of transforms: where it stands in the recipe, what is in it, and the own name that it is for."""
        several = len(self.froms) > 1
        for k, origin in enumerate(self.froms):
            place = f"{self.where}.from{f'.{k}' * several}.transform"
            yield from _lists_in(place, origin.transform)
        yield from _lists_in(f"{self.where}.transform", self.transform)


Units = Literal["elements", "filters", "channels"]
UNITS: tuple[Units, ...] = ("elements", "filters", "channels")
Within = Literal["weight", "filter", "all"]
WITHIN: tuple[Within, ...] = ("weight", "filter", "all")


_MOST_SHOWN = 8  # numbers of an edit that fit a line


@dataclass(frozen=True)
class Choice:
    """Which elements an edit changes: some by number, by a mask, or those of smallest or largest magnitude.

    Attributes:
        units: what is chosen: single elements, filters (as a rule along the last axis), or channels (along the last but
            one).
        indices: which filters or channels, by number; in a recipe also slices as texts.
        count: how many, or which share of them, of the smallest or largest magnitude; of filters and channels that is
            the root of the sum of squares.
        largest: whether the largest are meant.
        within: what the count is of: each weight, each filter of it, or all weights of the edit together.
        mask: a file that is not zero where an element is meant.
        axis: the weight's axis of filters or channels, from the end; in a plan, where it is another one.
    """

    units: Units = "elements"
    indices: tuple[int | str, ...] = ()
    count: float | None = None
    largest: bool = False
    within: Within = "weight"
    mask: str | None = None
    axis: int | None = None

    @property
    def numbers(self) -> list[int]:
        """The filters or channels by number, in a plan all of them."""
        return [index for index in self.indices if isinstance(index, int)]

    def __str__(self) -> str:
        if self.mask is not None:
            return f"mask {self.mask}"
        if self.count is None:
            return f"{self.units} {', '.join(map(str, self.indices))}"
        among = {"weight": "", "filter": " of each filter", "all": " of all weights together"}[self.within]
        return f"{'largest' if self.largest else 'smallest'} {self.count} {self.units}{among}"


@dataclass(frozen=True)
class Edit:
    """A change of elements of one target weight, after the mapping.

    Attributes:
        name: its key in `edit`.
        at: the weight; in a recipe also a pattern over the names of several, each of which has an edit in the plan.
        index: which elements, an entry an axis; empty with a `choice`, or for all.
        operation: what is done to them.
        value: the operand: a number, one for each of the filters or channels, or the path of a file that holds the new
            values.
        choice: which elements, where an index does not say it.
        files: the files that it reads, as the recipe writes them, with their SHA-256; in a plan.
    """

    name: str
    at: str
    index: tuple[int | str | tuple[int, ...], ...]
    operation: Literal["set", "add", "multiply", "noise"]
    value: float | str | tuple[float, ...]
    choice: Choice | None = None
    files: tuple[tuple[str, str], ...] = ()

    @property
    def where(self) -> str:
        """The edit's place in the recipe."""
        return f"edit.{self.name}"

    @property
    def operand(self) -> str:
        """What is set, added or multiplied with, as a recipe has it; of many numbers, how many."""
        if not isinstance(self.value, tuple):
            return str(self.value)
        return str(list(self.value)) if len(self.value) <= _MOST_SHOWN else f"[{len(self.value)} numbers]"


@dataclass(frozen=True)
class Ignore:
    """A pattern of source names that are expected to stay unused; `source` None means any source."""

    source: str | None
    pattern: Pattern


@dataclass(frozen=True)
class Renaming:
    """What `save.names` calls a tensor, or all that lies below a layer, of a file of named tensors.

    Attributes:
        pattern: over the names of tensors, and of what they lie in, as the file would have them without it.
        template: the new name.
    """

    pattern: Pattern
    template: Template


@dataclass(frozen=True)
class Save:
    """Where the finished model goes, relative to the run folder unless absolute.

    Attributes:
        path: the main file.
        also: further ones.
        overwrite: whether files that are there may be replaced.
        layout: whose names and axes the files of named tensors have.
        shard: how many bytes of values a safetensors file may hold before it is cut into several.
        names: how the tensors of such files are renamed.
        like: a file of named tensors that such files are to be like: in names, axes and dtypes.
        card: whether a model card, README.md, is written beside the main file.
    """

    path: str = "model.keras"
    also: tuple[str, ...] = ()
    overwrite: bool = False
    layout: str = "keras"
    shard: int | None = None
    names: tuple[Renaming, ...] = ()
    like: Origin | None = None
    card: bool = False


@dataclass(frozen=True)
class ParityCheck:
    """What the finished model's outputs are compared with: arrays of a file, a source that is run, or a callable.

    Attributes:
        inputs: an npz file with one array an input; None draws them from the recipe's seed.
        expected: an npz file with the original's outputs, also of layers, under the target's names.
        source: the name of the source to run.
        reference: a callable that is given the inputs and returns the outputs.
        atol: the largest difference allowed, with `rtol` in place of the tolerances that are scaled by themselves.
        rtol: the same as a part of the expected value.
    """

    inputs: str | None = None
    expected: str | None = None
    source: str | None = None
    reference: Build | None = None
    atol: float | None = None
    rtol: float | None = None


@dataclass(frozen=True)
class Verify:
    """How strict the proof is."""

    reload: bool = False
    nonfinite: Literal["error", "allow"] = "error"
    negative_variance: Literal["error", "allow"] = "error"
    parity: ParityCheck | None = None


QuantizeChoice = Literal["int8", "int4", "float8"]
QUANTIZE: tuple[QuantizeChoice, ...] = ("int8", "int4", "float8")
"""How Keras quantizes a finished model without data to calibrate it on."""


@dataclass(frozen=True)
class Recipe:
    """A whole recipe. See `transferpipe.recipe.parsing.recipe.parse_recipe` for the keys."""

    target: Origin | None
    sources: Mapping[str, Origin] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    unmatched: Unmatched = "error"
    unused: Literal["report", "error"] = "report"
    ignore: tuple[Ignore, ...] = ()
    edits: tuple[Edit, ...] = ()
    freeze: tuple[Pattern, ...] = ()
    freeze_transferred: bool = False
    save: Save = field(default_factory=Save)
    verify: Verify = field(default_factory=Verify)
    score: Build | None = None
    seed: int = 0
    name: str = "recipe"
    expect: str | None = None
    strict: bool = False
    allow: tuple[str, ...] = ()
    quantize: str | None = None
    optimizer: OptimizerChoice = "auto"
    state: StateChoice = "take"
    reverse: bool = False

    @property
    def built(self) -> frozenset[str]:
        """Names of the sources that are built models, and ``target`` if the target is one."""
        origins = {**self.sources, "target": self.target}
        return frozenset(name for name, origin in origins.items() if origin and origin.is_built)
