"""Proving a finished file: read again by the readers, every value computed again, compared bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from transferpipe.errors import Problems, VerificationError
from transferpipe.models.structure import file_structure
from transferpipe.planning.dtypes import kind_of
from transferpipe.planning.freezing import effective
from transferpipe.planning.layouts.export import Held
from transferpipe.planning.model import Assignment, Plan
from transferpipe.planning.structure import TargetStructure
from transferpipe.progress import Progress
from transferpipe.values.compare import compare_segments, digest, same_bits
from transferpipe.values.compute import Values
from transferpipe.values.layout import KERAS, as_keras, layout_of_file, places_in
from transferpipe.values.seen import Seen
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats import open_source
from transferpipe.weights.spec import Catalog, WeightSpec

_PLACED = ("saved_model", "tf_checkpoint")  # formats that may call a weight by another name than the target does

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
    """

    digests: Mapping[str, str]
    freezing: str
    source: FileSource
    tensors: Mapping[str, Held] = field(default_factory=dict)
    seen: Mapping[str, Seen] = field(default_factory=dict)


def worth_seeing(plan: Plan) -> list[Assignment]:
    """Return the assignments whose numbers tell something of their source: floats that no edit changes."""
    edited = {e.at for e in plan.edits}
    return [a for a in plan.assignments if a.target not in edited and kind_of(a.dtype) == "float"]


def verify_file(
    path: Path, target: TargetStructure, plan: Plan, values: Values, progress: Progress | None = None
) -> Proof:
    """Prove that the file at `path` holds exactly what `plan` says.

    Args:
        path: the finished file.
        target: the target; its weights' names, shapes, dtypes and places must be found again.
        plan: the plan.
        values: computes the values anew, and finds those that lie unchanged in a source.
        progress: told how far the proof is.

    Raises:
        VerificationError: with everything that differs.
    """
    problems = Problems()
    source, places = _opened(path, target, plan)
    catalog = target.catalog
    found = _match(catalog, source, problems)
    digests, seen, done = {}, {a.target: Seen() for a in worth_seeing(plan)}, 0
    for weight in catalog:
        for there in found[weight.name]:
            look = seen[weight.name].look if weight.name in seen else _ignore
            same, digests[weight.name] = _compare(source, there, values, weight.name, look)
            if not same:
                problems.add(f"{path.name}: {weight.name}", "the value in the file is not the one that the plan gives")
        done += weight.nbytes
        if progress:
            progress("verify", done, catalog.nbytes)
    freezing = _prove_freezing(source, plan, problems)
    problems.raise_as(VerificationError)
    return Proof(digests, freezing, source, places, seen)


def _opened(path: Path, target: TargetStructure, plan: Plan) -> tuple[FileSource, Mapping[str, Held]]:
    """Open the file; one in another layout is adapted as a source of that layout is, which undoes what wrote it."""
    source, layout = open_source(path), layout_of_file(plan, path.name)
    if layout == KERAS:
        return source, {}
    places = places_in(source, layout, target)
    return as_keras(source, places), places


def _ignore(_: NDArray[Any]) -> None:
    pass


def _compare(
    source: FileSource, there: WeightSpec, values: Values, name: str, look: Callable[[NDArray[Any]], None]
) -> tuple[bool, str]:
    """Tell whether the weight `there` of the file is what the plan gives `name`, and return its digest.

    All of its numbers pass `look`.
    """
    written, wanted = source.locate_entry(there), values.segment(name)
    if written is not None and wanted is not None:
        check = values.checks(name)

        def check_and_look(part: NDArray[Any]) -> None:
            check(part)
            look(part)

        return compare_segments(written, wanted, check_and_look)
    value = source.read_entry(there)
    look(value)
    return same_bits(value, values.value(name)), digest(value)


def _match(catalog: Catalog, source: FileSource, problems: Problems) -> dict[str, list[WeightSpec]]:
    """Return what the file has of each of the target's weights, by their places where files number their weights.

    That is one weight, or, of a variable that Keras saves in several places, one a place.
    """
    theirs = source.catalog.expanded
    by_place = {w.where: w for w in theirs}
    is_placed = bool(source.groups) or source.format in _PLACED
    found: dict[str, list[WeightSpec]] = {}
    claimed = set()
    for weight in catalog:
        here = found.setdefault(weight.name, [])
        for wanted in catalog.places_of(weight.name) if is_placed else (weight,):
            there = by_place.get(wanted.where) if is_placed else theirs.by_name.get(weight.name)
            if there is None:
                problems.add(f"{source.path.name}: {wanted.name}", "is missing from the file")
            elif (there.shape, there.dtype) != (weight.shape, weight.dtype):
                found_there, planned = f"{there.dtype} {there.shape}", f"{weight.dtype} {weight.shape}"
                what = f"is {found_there} in the file, {planned} in the plan"
                problems.add(f"{source.path.name}: {wanted.name}", what)
            else:
                here.append(there)
            claimed.add(there.name if there else None)
    for extra in theirs:
        if extra.name not in claimed:
            problems.add(f"{source.path.name}: {extra.name}", "is in the file but not in the plan")
    return found


def _prove_freezing(source: FileSource, plan: Plan, problems: Problems) -> str:
    """Check what the file's own configuration makes trainable against the plan."""
    if source.config is None:
        return "not recorded: the format holds no configuration"
    structure = file_structure(source)
    flags = {layer.name: layer.trainable for layer in structure.layers}
    unrecorded = [n for n in plan.freezing.layers if n and not structure.keeps_flag(n)]
    if unrecorded:
        return f"{UNRECORDED} {len(unrecorded)} layers inside others, the first {unrecorded[0]}"
    seen = effective(structure, flags, ())
    by_place = {w.name: w.where for w in source.catalog}
    frozen_there = {by_place[n] for n in seen.frozen_weights}
    planned = set(plan.freezing.frozen_weights)
    for weight, there in ((w, by_place.get(w)) for w in planned):
        if there is not None and there not in frozen_there:
            problems.add(f"{source.path.name}: {weight}", "is to be frozen, but its configuration makes it trainable")
    for name in seen.frozen_weights:
        if name not in planned and name in {a.target for a in plan.assignments} | {k.target for k in plan.kept}:
            problems.add(f"{source.path.name}: {name}", "is to be trainable, but its configuration freezes it")
    return "verified"
