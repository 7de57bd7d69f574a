"""The plan: an explicit account of every weight on both sides, with its form in plan.json and its checksum."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from itertools import islice
from typing import Any, Literal

from transferpipe.planning.model import (
    Assignment,
    Exported,
    Freezing,
    Kept,
    Optimizer,
    PlanWarning,
    SettingsCompared,
    SourceWeight,
    StateMove,
    UnitChoice,
)
from transferpipe.recipe.model import Choice, Edit
from transferpipe.text.collapse import counted

FORMAT_VERSION = 3
"""Of plan.json: 2 tells a layout's transforms from the user's, and how sources were found; 3 has steps of single
sources before the merge, and edits of more than one place."""
_NOT_DECISIVE = ("recipe", "warnings", "settings", "kept_values", "upgraded", "checksum", "format_version")
_AT_ONCE = 1024  # entries of a long list that are text at a time
_DEFAULT_FIELDS: Mapping[str, Any] = {"adapter": (), "pair": "name", "items": ()}
"""What plan.json leaves out of an assignment, because most have it."""
_OF_EDITS: Mapping[str, Any] = {"choice": None, "files": ()}
"""The same of an edit."""
_OF_CHOICES: Mapping[str, Any] = {"axis": None}
"""The same of what it chooses."""
_LEFT_OUT: Mapping[type, Mapping[str, Any]] = {Assignment: _DEFAULT_FIELDS, Edit: _OF_EDITS, Choice: _OF_CHOICES}


@dataclass(frozen=True, repr=False)
class Plan:
    """What a run will do, to the last weight. Print it, compare it, pin it by its checksum.

    Attributes:
        recipe: name of the recipe.
        target: what the target is: its path or builder with arguments.
        sources: the same for each source by its name.
        assignments: target weights that get a value, in the target's order.
        kept: target weights that keep theirs, in the target's order.
        edits: changes of single elements after that.
        source_weights: the fate of every source weight.
        freezing: what will be trainable.
        seed: the seed of all fresh weights.
        save: the files to write.
        save_layout: whose names and axes those have that hold named tensors and nothing else.
        save_shard: how many bytes of values one safetensors file may hold.
        save_tensors: what those files hold, where the recipe says what they call it; empty where the layout alone does.
        save_tied: the names of each tensor that the reference of `save.like` keeps under several: all get one value.
        quantize: how the finished model is quantized; None where it is not.
        optimizer: what becomes of the state of an optimizer that the target, or a source, holds.
        state: what lookup layers learned beside weights, and whether it is taken.
        warnings: legal but probably wrong.
        settings: how the settings of the layers compare that it pairs.
        units: which units of the sources are taken, where a rule chooses.
        kept_values: what kept weights have: initial values of a target that was built, those of the file that is the
            target, or those of a model of the user's own process.
        upgraded: what the target has otherwise than the file of an older Keras that it was built of.
    """

    recipe: str
    target: str
    sources: Mapping[str, str]
    assignments: tuple[Assignment, ...]
    kept: tuple[Kept, ...]
    source_weights: tuple[SourceWeight, ...]
    edits: tuple[Edit, ...] = ()
    freezing: Freezing = field(default_factory=Freezing)
    seed: int = 0
    save: tuple[str, ...] = ()
    save_layout: str = "keras"
    save_shard: int | None = None
    save_tensors: tuple[Exported, ...] = ()
    save_tied: tuple[tuple[str, ...], ...] = ()
    quantize: str | None = None
    optimizer: Optimizer = field(default_factory=Optimizer)
    state: tuple[StateMove, ...] = ()
    warnings: tuple[PlanWarning, ...] = ()
    settings: SettingsCompared = field(default_factory=SettingsCompared)
    kept_values: Literal["initial", "file", "model"] = "initial"
    units: tuple[UnitChoice, ...] = ()
    upgraded: tuple[str, ...] = ()

    @property
    def unused(self) -> tuple[SourceWeight, ...]:
        """Source weights that nothing used and nobody expected to stay unused."""
        return tuple(w for w in self.source_weights if w.fate == "unused")

    @cached_property
    def edits_of(self) -> dict[str, list[Edit]]:
        """The edits of each weight that has any, by its name."""
        found: dict[str, list[Edit]] = {}
        for edit in self.edits:
            found.setdefault(edit.at, []).append(edit)
        return found

    @cached_property
    def checksum(self) -> str:
        """A short digest of everything that decides what will be written; warnings and the recipe's name do not."""
        digest = hashlib.sha256()
        for text in self._decisive_texts():
            digest.update(text.encode())
        # 44 bits: plans do not meet by chance; against somebody who makes two alike they are no defence.
        # The letter keeps a digest such as 12e45 from being read as a number on a command line.
        return "p" + digest.hexdigest()[:11]

    def _decisive_texts(self) -> Iterator[str]:
        """Yield the JSON that the checksum is of, sorted by keys, in parts: of a hundred thousand weights, 40 MB."""
        lists = {
            "assignments": (_decisive(_assignment_data(a)) for a in self.assignments),
            "source_weights": map(_source_weight_data, self.source_weights),
        }
        head = {key: value for key, value in self._head.items() if key not in _NOT_DECISIVE}
        for place, key in enumerate(sorted((*head, *lists))):
            yield f"{',' if place else '{'}{json.dumps(key)}:"
            if key not in lists:
                yield _compact(head[key])
                continue
            between = "["
            while values := list(islice(lists[key], _AT_ONCE)):
                yield between + _compact(values)[1:-1]
                between = ","
            yield "[]" if between == "[" else "]"
        yield "}"

    def to_data(self) -> dict[str, Any]:
        """Return the plan as mappings, lists, texts and numbers, as in plan.json (without the checksum)."""
        lists = {
            "assignments": [_assignment_data(a) for a in self.assignments],
            "source_weights": [*map(_source_weight_data, self.source_weights)],
        }
        head = self._head
        known = ("format_version", *_names_of(Plan))
        return {key: lists[key] if key in lists else head[key] for key in known if key in lists or key in head}

    @property
    def _head(self) -> dict[str, Any]:
        """All of the data but the longest two lists."""
        left_out = ("assignments", "source_weights")
        data = {"format_version": FORMAT_VERSION, **{k: v for k, v in _fields_of(self).items() if k not in left_out}}
        if self.save_layout == "keras":  # most plans, and all those of earlier versions
            del data["save_layout"]
        for key in ("save_shard", "quantize"):
            if data[key] is None:
                del data[key]
        for key in ("state", "save_tensors", "save_tied", "units"):
            if not data[key]:
                del data[key]
        if self.kept_values == "initial":
            del data["kept_values"]
        if not self.upgraded:
            del data["upgraded"]
        if self.optimizer.fate == "none":
            del data["optimizer"]
        elif not self.optimizer.slots:
            data["optimizer"] = {key: getattr(self.optimizer, key) for key in ("fate", "arrays", "reason")}
        plain: dict[str, Any] = _plain(data)
        return plain

    def __str__(self) -> str:
        # Imported here: `show` reads plans, and a plan is useful without it.
        from transferpipe.planning.tables.plan_table import plan_text

        return plan_text(self)

    def __repr__(self) -> str:
        counts = f"{len(self.assignments):,} assigned, {len(self.kept):,} kept"
        return f"<Plan {self.checksum}: {counts}, {counted(len(self.warnings), 'warning')}>"

    def _repr_html_(self) -> str:
        from transferpipe.planning.tables.plan_table import plan_html
        from transferpipe.text.notebook import html_fragment, html_lines

        labels = {"recipe": self.recipe, **self.sources, "target": self.target}
        return html_fragment(html_lines(f"{name}: {label}" for name, label in labels.items()), plan_html(self))


def _plain(value: Any) -> Any:
    """Return a value as it is read again from JSON."""
    return json.loads(json.dumps(value, default=_fields_of))


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), check_circular=False)


def _source_weight_data(weight: SourceWeight) -> dict[str, str]:
    return {"source": weight.source, "name": weight.name, "fate": weight.fate}


def _assignment_data(a: Assignment) -> dict[str, Any]:
    """Return an assignment as in plan.json: of thousands, by their fields is most of a plan's text."""
    data = {
        "target": a.target,
        "rule": a.rule,
        "sources": [{"source": r.source, "name": r.name, "shape": [*r.shape], "dtype": r.dtype} for r in a.sources],
        "shape": [*a.shape],
        "dtype": a.dtype,
        "cast_from": a.cast_from,
        "merge": a.merge if a.merge is None else _plain(a.merge),
        "transforms": _plain(a.transforms) if a.transforms else [],
    }
    for key, usual in _DEFAULT_FIELDS.items():
        if (value := getattr(a, key)) != usual:
            data[key] = _plain(value)
    return data


def _fields_of(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass, or the content of a mapping, without copying what is in them."""
    if isinstance(value, Mapping):
        return dict(value)
    found = {name: getattr(value, name) for name in _names_of(value.__class__)}
    left_out = _LEFT_OUT.get(type(value), {})
    for name, usual in left_out.items():
        if found[name] == usual:
            del found[name]
    return found


@cache
def _names_of(kind: type) -> tuple[str, ...]:
    return tuple(f.name for f in fields(kind))


def _decisive(assignment: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an assignment as plans of format 1 have it, with one list of transforms: checksums stay what they were."""
    if "adapter" not in assignment and "pair" not in assignment:
        return assignment
    found = {k: v for k, v in assignment.items() if k not in ("pair", "adapter")}
    adapter = assignment.get("adapter", [])
    if len(adapter) == 1:
        found["transforms"] = [*adapter[0]["transforms"], *found["transforms"]]
    elif any(a["transforms"] or a["count"] > 1 for a in adapter):
        found["adapter"] = adapter
    return found
