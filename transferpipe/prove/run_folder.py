"""Proving a finished run again, from its manifest and its sources. Keras is not needed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem, Problems, TransferError, UnsafeError, VerificationError
from transferpipe.fetch.cache import kept_copy
from transferpipe.fetch.name_list import NameFile
from transferpipe.files.hashing import sha256
from transferpipe.files.os_errors import refusal_of
from transferpipe.files.publishing.publish import settle
from transferpipe.files.segment import Segment
from transferpipe.models.repeated import repeat_layers
from transferpipe.models.state.averages import AVERAGES, KERAS_FORMATS, take_averages_of_file
from transferpipe.planning.layouts.export import Held
from transferpipe.planning.model import Assignment
from transferpipe.planning.plan import Plan
from transferpipe.planning.reading.check_plan import check_plan
from transferpipe.planning.reading.read_plan import plan_from_data
from transferpipe.progress import Progress
from transferpipe.prove.compare import ExpectedWeight, comparison_of, digest_weight, is_placed, match_weights
from transferpipe.prove.manifest import FORMAT_VERSION, MANIFEST, PLAN, is_sealed, read_json
from transferpipe.prove.verdict import Verdict, Weights, verdict_from_data, with_parity
from transferpipe.recipe.model import Verify
from transferpipe.recipe.parsing.repeats import parse_repeats
from transferpipe.save.artifacts import digest_again
from transferpipe.values.choices import with_files_at
from transferpipe.values.compare import ReadingBack
from transferpipe.values.compute import Values
from transferpipe.values.layout import as_keras
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats import open_source
from transferpipe.weights.formats.hdf5.guarded import open_guarded
from transferpipe.weights.spec import Source, WeightSpec

_BACK = "put it back as the run wrote it, or run again"
_SOURCE_BACK = "put the sources back as they were, or run again"


@dataclass(frozen=True, repr=False)
class RunProof:
    """What proving a run again gave.

    Attributes:
        verdict: of the weights, ``inconclusive`` where nothing was compared or something that is needed is no longer
            there; of the function, what running the models once more gave, or else what the run recorded. A failure
            raises.
        checked: what was compared, in words.
        notes: what could not be.
    """

    verdict: Verdict
    checked: str
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<RunProof {self.verdict}; {self.checked}>"

    def __str__(self) -> str:
        return "\n".join([*self.verdict.lines(self.checked), *(f"note     {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        from transferpipe.text.notebook import html_fragment, html_lines

        return html_fragment(html_lines(str(self).splitlines()))


@dataclass
class _Again:
    """The state of one proof.

    `lost` has the digests of what transforms read and is not there any more, `lost_edits` the weights whose edits do,
    and `outside` is whether artifacts may lie elsewhere.
    """

    plan: Plan
    manifest: Mapping[str, Any]
    recorded: Verdict
    sources: dict[str, Source] = field(default_factory=dict)
    target: Source | None = None
    notes: list[str] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    lost_edits: set[str] = field(default_factory=set)
    problems: Problems = field(default_factory=Problems)
    outside: bool = False
    recomputed: int = 0
    by_digest: int = 0

    @cached_property
    def assigned(self) -> dict[str, Assignment]:
        """The plan's assignments by the weights that they give a value."""
        return {a.target: a for a in self.plan.assignments}


def verify_run(folder: Path, on_progress: Progress | None = None, *, outside: bool = False) -> RunProof:
    """Prove the run in `folder` again.

    The records must be as the run left them; every artifact must have its recorded SHA-256; every weight in it its
    recorded digest; and every weight whose sources are files that still lie there is computed again and compared bit
    for bit.

    Args:
        folder: that of the run.
        on_progress: called with how far it is.
        outside: whether artifacts are read that the command line of the run put elsewhere.

    Raises:
        FileError: the folder is not that of a run, or an artifact is missing.
        UnsafeError: an artifact lies elsewhere, and nobody said that it may.
        VerificationError: something differs.
    """
    settle(folder)
    again = _load(folder)
    again.outside = outside
    try:
        return _prove(folder, again, on_progress)
    except (
        KeyError,
        TypeError,
        AttributeError,
        ValueError,
        IndexError,
    ) as error:  # anybody can make a seal: it is against accidents
        raise _not_ours(folder / MANIFEST, error) from error


def _prove(folder: Path, again: _Again, on_progress: Progress | None) -> RunProof:
    _open_sources(again)
    _read_inputs(again)
    _read_edit_files(again)
    for artifact in again.manifest["artifacts"]:
        _verify_artifact(folder, artifact, again, on_progress)
    again.problems.raise_as(VerificationError)
    checked = (
        f"{again.recomputed} weights computed again from their sources, {again.by_digest} compared with their digests"
    )
    if not again.recomputed + again.by_digest:
        again.notes.append("no weight was compared")
    weights: Weights = "inconclusive" if again.notes else "pass"
    verdict, notes = _function_again(folder, again)
    return RunProof(replace(verdict, weights=weights), checked, (*again.notes, *notes))


def _function_again(folder: Path, again: _Again) -> tuple[Verdict, tuple[str, ...]]:
    """Return the verdict on the function: the run's, or that of its comparison made once more.

    Raises:
        VerificationError: the outputs differ now.
    """
    if not again.manifest.get("parity"):
        return _of_the_run(again.recorded), ()
    from transferpipe.prove.parity.finished import check_again, require_parity

    artifacts = [_path_of(folder, artifact, again.outside) for artifact in again.manifest["artifacts"]]
    found = check_again(again.manifest["parity"], artifacts, again.plan, again.sources)
    if isinstance(found, str):
        return _of_the_run(again.recorded), (f"the outputs were not compared again: {found}",)
    return with_parity(again.recorded, require_parity(found)), ()


def _of_the_run(verdict: Verdict) -> Verdict:
    """Return what a run found of the function, marked as such: no model runs when it is verified again."""
    if verdict.function == "not checked":
        return verdict
    return replace(verdict, reason=": ".join(filter(None, ["recorded by the run", verdict.reason])))


def _load(folder: Path) -> _Again:
    data, manifest = read_json(folder / PLAN), read_json(folder / MANIFEST, FORMAT_VERSION)
    # The text is compared before it is understood: what was changed may hold anything.
    same = {MANIFEST: is_sealed(manifest), PLAN: manifest.get("plan_sha256") == sha256(folder / PLAN)}
    if changed := [name for name in same if not same[name]]:
        what = "is not as the run wrote it: its digest differs"
        raise VerificationError([Problem(str(folder / name), what, _BACK) for name in changed])
    try:
        plan = plan_from_data(data)
        check_plan(plan)
        return _Again(plan, manifest, verdict_from_data(manifest["verdict"]))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise _not_ours(folder / PLAN, error) from error


def _not_ours(path: Path, error: Exception) -> FileError:
    """Return what to say of a record whose seal is right and whose content is not what any run writes."""
    what = f"is not what this version of transferpipe writes: {type(error).__name__} {error}"
    return FileError(Problem(str(path), what, "run again"))


def _open_sources(again: _Again) -> None:
    for alias, entry in again.manifest["sources"].items():
        if entry["format"] == "model":
            again.notes.append(
                f"{alias} was built by {entry['label']}: its weights are compared with their digests only"
            )
            continue
        source = _try_open(entry, alias, again)
        if source:
            again.sources[alias] = source
    if again.manifest["target_file"]:
        again.target = _try_open(again.manifest["target_file"], "target", again)


def _read_inputs(again: _Again) -> None:
    """Read the files that transforms read, wherever they lie; what is read again is known by its digest."""
    for written, entry in again.manifest.get("inputs", {}).items():
        try:
            NameFile(entry["path"], entry["sha256"]).names()
        except TransferError as error:
            again.lost.add(entry["sha256"])
            again.notes.append(f"{written} cannot be read any more: {error}")


def _read_edit_files(again: _Again) -> None:
    """Look for the files that edits read, wherever they lie; weights whose edits need one that is gone are noted."""
    places = {}
    for written, entry in again.manifest.get("edit_files", {}).items():
        path = Path(entry["path"])
        if not path.is_file():
            again.lost_edits |= {e.at for e in again.plan.edits if written in dict(e.files)}
            again.notes.append(f"{written} cannot be read any more: there is no such file")
        elif (found := sha256(path)) != entry["sha256"]:
            what = f"its SHA-256 is {found}, the run read {entry['sha256']}"
            again.problems.add(written, what, "put the file back as it was, or run again")
            again.lost_edits |= {e.at for e in again.plan.edits if written in dict(e.files)}
        places[written] = str(path)
    again.plan = with_files_at(again.plan, places)


def _try_open(entry: Mapping[str, Any], alias: str, again: _Again) -> FileSource | None:
    try:
        path = _copy_of(entry)
        if entry["select"] in AVERAGES and entry["format"] in KERAS_FORMATS:
            return take_averages_of_file(open_guarded(path, lambda: open_source(path, entry["format"])))
        source = open_guarded(path, lambda: open_source(path, entry["format"], entry["select"]))
        repeats = parse_repeats(entry.get("repeat", {}), alias, again.problems)
        return repeat_layers(source, repeats, as_model=True).source if repeats else source
    except TransferError as error:
        again.notes.append(f"{alias} cannot be read any more: {error}")
        return None


def _copy_of(entry: Mapping[str, Any]) -> Path:
    """Return where the file lies; the cached copy of a file elsewhere must still be the one that was read."""
    path, url, digest = Path(entry["path"]), entry.get("url"), entry.get("sha256")
    if not url or not digest:
        return path
    copies = [copy for copy in (path, kept_copy(url, digest)) if copy.is_file()]
    if not copies:
        raise FileError(Problem(url, "is no longer in the cache", f"fetch it again: transferpipe inspect {url}"))
    if not any(sha256(copy) == digest for copy in copies):
        fix = f"delete {copies[0]}, and fetch it again: transferpipe inspect {url}"
        raise FileError(Problem(url, "its copy in the cache was changed since", fix))
    return next(copy for copy in copies if sha256(copy) == digest)


def _verify_artifact(folder: Path, artifact: Mapping[str, Any], again: _Again, on_progress: Progress | None) -> None:
    path = _path_of(folder, artifact, again.outside)
    found = digest_again(path, artifact)
    if found is None:
        raise FileError(Problem(str(path), "the artifact, or a part of it, is missing", "put it back, or run again"))
    if found != artifact["sha256"]:
        what = f"its SHA-256 is {found}, the manifest says {artifact['sha256']}"
        again.problems.add(str(path), what, _BACK)
    try:
        source = _as_planned(open_guarded(path, lambda: open_source(path)), artifact)
        _compare_weights(source, artifact.get("places", {}), again, on_progress)
    except (FileError, UnsafeError):
        if found == artifact["sha256"]:
            raise


def _path_of(folder: Path, artifact: Mapping[str, Any], outside: bool) -> Path:
    """Return where an artifact lies: in the folder of the run, or `outside` of it, where its command line put it.

    Raises:
        UnsafeError: it leads out of the folder.
    """
    name = str(artifact["path"])
    path, home = folder / name, Path(os.path.realpath(folder))
    if Path(os.path.realpath(path)).is_relative_to(home):
        return path
    if not Path(name).is_absolute():
        what = f"names the artifact {name!r}, which leads out of the folder"
        raise UnsafeError(Problem(str(folder / MANIFEST), what, "the run folder is damaged: run again"))
    if not outside:
        what = f"names the artifact {name!r}, which lies outside of the folder"
        raise UnsafeError(Problem(str(folder / MANIFEST), what, "if you put it there, add --outside"))
    return path


def _as_planned(source: FileSource, artifact: Mapping[str, Any]) -> FileSource:
    """Return the file with Keras's names and axes, whatever its own."""
    if "tensors" not in artifact:
        return source
    places = {
        name: Held(tuple(kept["names"]), tuple(kept["steps"]), tuple(map(tuple, kept.get("copies", ()))))
        for name, kept in artifact["tensors"].items()
    }
    return as_keras(source, places)


def _compare_weights(
    source: FileSource, places: Mapping[str, str], again: _Again, on_progress: Progress | None
) -> None:
    values = Values(again.plan, again.sources, _KeptWeight(again.target), Verify(**again.manifest["verify"]))
    entries = again.manifest["weights"]
    by_place = is_placed(source) and all("where" in entry for entry in entries)  # early manifests have names alone
    matched = match_weights((_find_expected(e, places) for e in entries), source.catalog, by_place)
    matched.note(source.path.name, "manifest", again.problems)
    done, total = 0, source.catalog.nbytes
    for entry in entries:
        for there in matched.found[entry["name"]]:
            _compare(source, there, entry, values, again)
            done += there.nbytes
            if on_progress:
                on_progress("verify", done, total)


def _find_expected(entry: Mapping[str, Any], places: Mapping[str, str]) -> ExpectedWeight:
    """Return what an entry of the manifest makes one expect; `places` are those of an output that names its own."""
    name = entry["name"]
    where = [places[name]] if name in places else [entry.get("where", name), *entry.get("also", ())]
    return ExpectedWeight(name, dict.fromkeys(where, name), tuple(entry["shape"]), entry["dtype"])


def _compare(source: FileSource, there: WeightSpec, entry: Mapping[str, Any], values: Values, again: _Again) -> None:
    """Compare the weight `there` of an artifact with its digest, and with what its sources give now."""
    name, where = entry["name"], f"{source.path.name}: {entry['name']}"
    if f"xxh3:{digest_weight(source, there)}" != entry["digest"]:
        again.problems.add(where, "its digest is not the one in the manifest", _BACK)
        return
    needed = {s.partition(":")[0] for s in entry.get("sources", ())}
    inputs = (digest for digest in again.lost if digest in json.dumps(entry))
    lost = not needed <= again.sources.keys() or (entry["status"] == "kept" and again.target is None)
    lost = lost or any(inputs) or name in again.lost_edits
    if lost or "quantized" in entry:  # what Keras quantized, only Keras can compute again
        again.by_digest += 1
        return
    again.recomputed += 1
    if different := _other_source(name, again):
        again.problems.add(where, f"cannot be computed again: {different}", _SOURCE_BACK)
        return
    try:
        same = comparison_of(source, there, values, name).run(lambda _: None, ReadingBack()).same
    except TransferError as error:
        if isinstance(error, FileError) and refusal_of(error):  # says nothing of the values
            raise
        again.problems.add(where, f"cannot be computed again: {error}", _SOURCE_BACK)
        return
    if not same:
        again.problems.add(where, "differs from what its sources give now", _SOURCE_BACK)


def _other_source(name: str, again: _Again) -> str:
    """Say what the plan takes for `name` and its sources no longer hold; empty if they do."""
    assignment = again.assigned.get(name)
    for ref in assignment.sources if assignment else ():
        catalog = again.sources[ref.source].catalog
        there = catalog.by_name.get(ref.name)
        if there is None or (there.shape, there.dtype) != (ref.shape, ref.dtype):
            now = f"{there.dtype} {tuple(there.shape)}" if there else "missing"
            return f"{ref.source}:{ref.name} was {ref.dtype} {tuple(ref.shape)} and is {now}"
    if assignment is None and again.target is not None and name not in again.target.catalog:
        return f"{name} is missing from the target"
    return ""


@dataclass(frozen=True)
class _KeptWeight:
    target: Source | None

    def read(self, name: str) -> NDArray[Any]:
        assert self.target is not None
        return self.target.read(name)

    def locate(self, name: str) -> Segment | None:
        return self.target.locate(name) if self.target else None
