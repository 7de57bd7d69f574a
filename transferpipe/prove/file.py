"""Proving a finished file: read again by the readers, every value computed again, compared bit for bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from transferpipe.errors import Problems, VerificationError
from transferpipe.files.crc import Promise, SummedSegment, noting_promises, settle_promises
from transferpipe.files.hashing import HashedRead
from transferpipe.files.publishing.atomic import final_name
from transferpipe.files.segment import Segment, held_open
from transferpipe.models.loaded_flags import find_loaded_off
from transferpipe.models.structure import file_structure
from transferpipe.models.target import FileTarget
from transferpipe.planning.dtypes import kind_of
from transferpipe.planning.freezing import effective
from transferpipe.planning.layouts.export import Held
from transferpipe.planning.model import Assignment
from transferpipe.planning.plan import Plan
from transferpipe.planning.structure import TargetStructure
from transferpipe.progress import Progress
from transferpipe.prove.compare import Comparison, comparison_of, expect_weights, in_turn, is_placed, match_weights
from transferpipe.prove.outcome import EditedWeight, find_edits
from transferpipe.text.collapse import counted
from transferpipe.values.compare import ComparedBits
from transferpipe.values.compute import Values
from transferpipe.values.layout import as_keras, is_arranged, places_in
from transferpipe.values.seen import SeenNumbers
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats import open_source
from transferpipe.weights.name import WeightName
from transferpipe.weights.spec import WeightSpec

UNRECORDED = "not recorded for"
"""How `Proof.freezing` begins where the configuration alone leaves open what Keras makes of it."""


@dataclass(frozen=True)
class Proof:
    """What a verification found.

    Attributes:
        digests: xxh3-128 of every weight's bytes, by name, as read from the finished file.
        freezing: ``proved``, or why there was nothing to prove.
        tensors: where a file in another layout has each weight; empty for one in that of Keras.
        source: the finished file, opened.
        seen: what was noticed of the numbers of the assigned weights, by name.
        edited: what edits changed, as the file has it.
        entry: size and SHA-256 of the file, of the bytes that were compared; None of a folder.
    """

    digests: Mapping[str, str]
    freezing: str
    source: FileSource
    tensors: Mapping[str, Held] = field(default_factory=dict)
    seen: Mapping[str, SeenNumbers] = field(default_factory=dict)
    edited: tuple[EditedWeight, ...] = ()
    entry: Mapping[str, Any] | None = None


def worth_seeing(plan: Plan) -> list[Assignment]:
    """Return the assignments whose numbers tell something of their source: floats that no edit changes."""
    edited = {e.at for e in plan.edits}
    return [a for a in plan.assignments if a.target not in edited and kind_of(a.dtype) == "float"]


@held_open()
def verify_file(
    path: Path, target: TargetStructure, plan: Plan, values: Values, on_progress: Progress | None = None
) -> Proof:
    """Prove that the file at `path` holds exactly what `plan` says.

    Args:
        path: the finished file.
        target: the target; its weights' names, shapes, dtypes and places must be found again.
        plan: the plan.
        values: computes the values anew, and finds those that lie unchanged in a source.
        on_progress: called with how far the proof is.

    Raises:
        VerificationError: with everything that differs.
    """
    problems = Problems()
    with noting_promises() as promises:
        source, places = _open_adapted(path, target, plan)
        catalog = target.catalog
        matched = match_weights(expect_weights(catalog), source.catalog, is_placed(source))
        matched.note(final_name(source.path), "plan", problems)
        seen = {a.target: SeenNumbers() for a in worth_seeing(plan)}
        rows = [
            _Row(weight, there, comparison_of(source, there, values, weight.name), seen.get(weight.name))
            for weight in catalog
            for there in matched.found[weight.name]
        ]
        found, entry = _compare(path, rows, promises, on_progress)
    digests, summed = {}, list[SummedSegment]()
    for row, result in zip(rows, found, strict=True):
        digests[row.weight.name] = result.digest
        if not result.same:
            what = "the value in the file is not the one that the plan gives"
            problems.add(f"{final_name(path)}: {row.weight.name}", what)
        if row.comparison.segment is not None and result.crc is not None:
            summed.append((row.comparison.segment, result.crc))
    settle_promises(promises, summed)
    edited = _find_edits(source, {row.weight.name: row.there for row in reversed(rows)}, values)
    freezing = _prove_freezing(source, plan, problems)
    problems.raise_as(VerificationError)
    return Proof(digests, freezing, source, places, seen, edited, entry)


class _Row(NamedTuple):
    """A weight of the target, as it is in the file, with how it is compared and what takes note of its numbers."""

    weight: WeightSpec
    there: WeightSpec
    comparison: Comparison
    seen: SeenNumbers | None


def _compare(
    path: Path, rows: Sequence[_Row], promises: Sequence[Promise], on_progress: Progress | None
) -> tuple[list[ComparedBits], dict[str, Any] | None]:
    """Return what comparing each row finds, and size and SHA-256 of a single file, of the bytes that were compared."""

    def is_promised(path: Path) -> bool:
        return any(promise.path == path for promise in promises)

    found, done, total = dict[int, ComparedBits](), 0, sum(row.weight.nbytes for row in rows)

    def compare(order: Sequence[int], hashed: HashedRead | None = None) -> None:
        nonlocal done
        results = in_turn([(rows[k].comparison, rows[k].seen) for k in order], is_promised, hashed)
        for k, result in zip(order, results, strict=True):
            found[k] = result
            done += rows[k].weight.nbytes
            if on_progress:
                on_progress("verify", done, total)

    entry, places = None, {k: row.comparison.segment for k, row in enumerate(rows)}
    if not path.is_dir():
        with HashedRead(path) as hashed:
            compare(sorted((k for k in places if places[k] is not None), key=lambda k: _offset(places[k])), hashed)
            entry = hashed.entry()
    # What does not lie there as it is in memory is read by other ways, and after it was hashed: no change is missed.
    compare([k for k in places if k not in found])
    return [found[k] for k in places], entry


def _offset(place: Segment | None) -> int:
    return 0 if place is None else place.offset


def _find_edits(source: FileSource, places: Mapping[str, WeightSpec], values: Values) -> tuple[EditedWeight, ...]:
    names = {edit.at for edit in values.plan.edits}
    return tuple(
        find_edits(values, name, values.before_edits(name), source.read_entry(there))
        for name, there in places.items()
        if name in names
    )


def _open_adapted(path: Path, target: TargetStructure, plan: Plan) -> tuple[FileSource, Mapping[str, Held]]:
    """Open the file; one in another layout is adapted as a source of that layout is, which undoes what wrote it."""
    source = open_source(path)
    if not is_arranged(plan, path.name):
        return source, {}
    places = places_in(source, plan, target)
    return as_keras(source, places), places


def _layer(weight: str) -> str:
    return WeightName(weight).layer


def _prove_freezing(source: FileSource, plan: Plan, problems: Problems) -> str:
    """Check what the file's own configuration makes trainable against the plan."""
    if source.config is None:
        return "not recorded: the format holds no configuration"
    structure = file_structure(source)
    # Those that were frozen when they were built count, too, but for what a frozen root holds.
    root = structure.by_name.get("")
    before = () if root is not None and not root.trainable else map(_layer, plan.freezing.frozen_weights)
    unrecorded = [n for n in dict.fromkeys((*plan.freezing.layers, *before)) if n and not structure.keeps_flag(n)]
    if unrecorded:
        return f"{UNRECORDED} {counted(len(unrecorded), 'layer')} inside others, the first {unrecorded[0]}"
    structure = structure.switched(find_loaded_off(source.config, structure, FileTarget(source)))
    seen = effective(structure, {layer.name: layer.trainable for layer in structure.layers}, ())
    by_place = {w.name: w.where for w in source.catalog}
    frozen_there = {by_place[n] for n in seen.frozen_weights}
    planned, name = set(plan.freezing.frozen_weights), final_name(source.path)
    for weight, there in ((w, by_place.get(w)) for w in planned):
        if there is not None and there not in frozen_there:
            problems.add(f"{name}: {weight}", "is to be frozen, but its configuration makes it trainable")
    ours = {a.target for a in plan.assignments} | {k.target for k in plan.kept}
    for weight in seen.frozen_weights:
        if weight not in planned and weight in ours:
            problems.add(f"{name}: {weight}", "is to be trainable, but its configuration freezes it")
    return "verified"
