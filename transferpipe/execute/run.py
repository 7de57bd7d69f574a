"""Carrying out a plan: write, prove, publish, report. All or nothing."""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transferpipe.errors import FileError, Problem, VerificationError
from transferpipe.execute.loaded import check_loaded, list_open
from transferpipe.execute.upgrade import FileModelTarget
from transferpipe.execute.warnings import value_warnings
from transferpipe.fetch.name_list import NameFile
from transferpipe.files.os_errors import cannot_be_read, refusal_of
from transferpipe.files.publishing.atomic import final_name
from transferpipe.files.publishing.staging import Staging
from transferpipe.models.building.kept import keep_asked
from transferpipe.models.file_classes import classes_of
from transferpipe.models.keras_private import closing_name_scopes
from transferpipe.models.loaded_flags import prove_freezing
from transferpipe.models.opened import Prepared
from transferpipe.models.repeated import repeats_to_data
from transferpipe.models.source import ModelSource
from transferpipe.models.target import FileTarget, ModelTarget, Target
from transferpipe.planning.advice.warned import describe_warnings, refuse_warnings
from transferpipe.planning.model import PlanWarning
from transferpipe.planning.plan import Plan
from transferpipe.planning.reading.inputs import inputs_of
from transferpipe.progress import Progress
from transferpipe.prove.archive import verify_archive
from transferpipe.prove.card import CARD, card_text, check_card_free
from transferpipe.prove.file import UNRECORDED, Proof, verify_file
from transferpipe.prove.learned_state import verify_states
from transferpipe.prove.manifest import FORMAT_VERSION, MANIFEST, PLAN, json_lines, seal, versions, weight_entries
from transferpipe.prove.outcome import EditedWeight, Line, outcome_lines
from transferpipe.prove.parity.result import Parity
from transferpipe.prove.provenance import Request, now
from transferpipe.prove.source_hooks import check_sources
from transferpipe.prove.verdict import Verdict, describe_compared, verdict_of, with_parity
from transferpipe.recipe.model import Origin, Save
from transferpipe.recipe.outputs import output_of
from transferpipe.save.artifacts import (
    artifact_name,
    final_names,
    flush_output,
    is_exported,
    output_digest,
    part_digests,
    placed,
    taken_names,
)
from transferpipe.save.learned_state import given_states, states_taken
from transferpipe.save.output import WrittenOutput, save_file
from transferpipe.text.collapse import counted
from transferpipe.values.choices import files_of_edits
from transferpipe.values.compute import Values
from transferpipe.values.layout import check_tied
from transferpipe.values.suspicious import Noticed
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.spec import Catalog, Source

if TYPE_CHECKING:
    from transferpipe.execute.quantize import Finished

_NOBODY = Request()


@dataclass(frozen=True, repr=False)
class Report:
    """What a run did.

    Attributes:
        plan: the plan that was carried out.
        verdict: what was found of the weights, and of what the model computes; a run that fails raises instead.
        folder: the run folder; None for a transfer into a live model without `save`.
        artifacts: the files written.
        manifest: the content of manifest.json.
        warnings: those of the plan, and those that only values can show.
        compared: how many weights were read back and compared bit for bit.
        parity: what comparing the model's outputs with those of its original gave; None where nobody asked.
        outcome: what was found of the result, at a glance: labels and texts.
    """

    plan: Plan
    verdict: Verdict
    folder: Path | None = None
    artifacts: tuple[Path, ...] = ()
    manifest: dict[str, Any] = field(default_factory=dict, repr=False)
    warnings: tuple[PlanWarning, ...] = ()
    compared: int = 0
    parity: Parity | None = None
    outcome: tuple[Line, ...] = ()

    @property
    def checked(self) -> str:
        """What the weights' part of the verdict rests on."""
        nothing = "; none of them was transferred" if self.plan.sources and not self.plan.assignments else ""
        return f"{describe_compared(self.compared)}{nothing}"

    def __str__(self) -> str:
        warned = [
            f"{'' if place else 'warning':<8} {line}"
            for entry in describe_warnings(self.warnings)
            for place, line in enumerate(entry)
        ]
        state = [str(self.plan.optimizer)] if self.plan.optimizer.fate != "none" else []
        found = [f"{label:<8} {text}" for label, text in self.outcome]
        return "\n".join([*self.verdict.lines(self.checked), *found, self._counts, *state, *warned])

    def _repr_html_(self) -> str:
        from transferpipe.planning.tables.plan_table import plan_html, warnings_html
        from transferpipe.text.notebook import html_details, html_fragment, html_lines

        state = [str(self.plan.optimizer)] if self.plan.optimizer.fate != "none" else []
        saved = [f"saved {path}" for path in self.artifacts]
        found = [f"{label} {text}".strip() for label, text in self.outcome]
        lines = html_lines([*self.verdict.lines(self.checked), *found, self._counts, *state, *saved])
        warned = f"<div>warnings</div><ul>{warnings_html(self.warnings)}</ul>" if self.warnings else ""
        return html_fragment(lines, warned, html_details("plan", plan_html(self.plan)))

    def __repr__(self) -> str:
        return f"<Report {self.verdict}; {self._counts}>"

    @property
    def _counts(self) -> str:
        counts = f"{counted(len(self.plan.assignments), 'weight')} assigned, {len(self.plan.kept):,} kept"
        return f"{counts}, plan {self.plan.checksum}"


@closing_name_scopes()
def execute(
    prepared: Prepared,
    folder: Path,
    on_progress: Progress | None = None,
    request: Request = _NOBODY,
    on_warnings: Callable[[Sequence[PlanWarning]], None] = lambda _: None,
) -> Report:
    """Carry out the plan into `folder`.

    Args:
        prepared: what to do.
        folder: the run folder; it need not exist.
        on_progress: called with how far each step is.
        request: who asks, which the manifest says.
        on_warnings: called with what the values show, before anything is published; what it raises leaves nothing.

    Raises:
        VerificationError: a value was refused, or a finished file is not what the plan says.
        FileError: something could not be read or written. In both cases nothing is left behind.
    """
    recipe, plan, started = prepared.recipe, prepared.plan, now()
    names = (recipe.save.path, *recipe.save.also)
    paths = tuple(folder / name for name in names)
    _check_free(paths, recipe.save)
    if recipe.save.card:
        check_card_free(paths[0].parent, recipe.save.overwrite)
    _check_parity_early(prepared)
    if plan.save_tied:
        check_tied(_values(prepared))
    states = states_taken(plan, prepared.opened.sources)
    with given_states(prepared.opened.target, states), Staging(folder) as staging:
        temporaries = [
            staging.place(path, recipe.save.overwrite and not _is_several(path, recipe.save)) for path in paths
        ]
        finished = _quantize(prepared) if recipe.quantize else None
        made = _make(finished.prepared if finished else prepared, temporaries, on_progress)
        if finished:
            made = replace(made, casts=finished.casts)
        noticed = finished.warnings if finished else value_warnings(plan, _values(prepared), made.found)
        later = (*noticed, *made.notes)
        refuse_warnings(recipe, later, VerificationError)
        on_warnings(later)
        warnings = (*plan.warnings, *later)
        planned = json_lines({"checksum": plan.checksum, **plan.to_data()})
        called = [artifact_name(name, temporary) for name, temporary in zip(names, temporaries, strict=True)]
        artifacts = [{"path": name, **entry} for name, entry in zip(called, made.artifacts, strict=True)]
        told = {"warnings": [w.to_data() for w in warnings], "seconds": made.seconds, **request.to_data(started)}
        verdict = with_parity(verdict_of(len(made.found.digests), plan.settings), made.parity)
        manifest = seal({**_manifest(prepared, made, verdict), "artifacts": artifacts, **told}, planned)
        for name, text in {**request.texts, PLAN: planned, MANIFEST: json_lines(manifest)}.items():
            staging.write(folder / name, text)
        if recipe.save.card:
            staging.write(paths[0].parent / CARD, card_text(plan, manifest))
        digests: dict[Path, str] = {}
        for temporary, path, artifact in zip(temporaries, paths, made.artifacts, strict=True):
            staging.rename(temporary, final_names(temporary, path))
            digests |= part_digests(temporary, artifact)
        staging.publish(folder, digests)
    keep_asked(prepared.opened.target)
    files = tuple(folder / name for name in called)
    outcome = tuple(outcome_lines(plan, made.found.digests, made.edited)) if finished is None else ()
    outcome += tuple(list_open(prepared, paths))
    return Report(plan, verdict, folder, files, manifest, warnings, len(made.found.digests), made.parity, outcome)


def _quantize(prepared: Prepared) -> Finished:
    from transferpipe.execute.quantize import quantize  # which few recipes need

    return quantize(prepared)


@dataclass(frozen=True)
class _Made:
    """The finished files, verified but not yet published."""

    artifacts: tuple[Mapping[str, Any], ...]
    found: Noticed
    casts: Mapping[str, float]
    seconds: Mapping[str, float]
    notes: tuple[PlanWarning, ...]
    catalog: Catalog
    parity: Parity | None = None
    edited: tuple[EditedWeight, ...] = ()


def _check_parity_early(prepared: Prepared) -> None:
    if prepared.recipe.verify.parity is not None:
        from transferpipe.prove.parity.finished import check_before  # which few runs need

        check_before(prepared)


def _make(prepared: Prepared, temporaries: Sequence[Path], on_progress: Progress | None) -> _Made:
    """Write every output and prove it."""
    started = time.perf_counter()
    values = _values(prepared)
    # Waiting for the disk takes no part in writing and comparing: it goes on beside it.
    with ThreadPoolExecutor(2 * len(temporaries)) as pool:
        written, flushed = [], []
        for temporary in temporaries:
            written.append(save_file(temporary, prepared.opened.target, values, on_progress, pool))
            flushed.append(pool.submit(flush_output, temporary))
        saved = time.perf_counter()
        folders = {t: pool.submit(output_digest, t) for t in temporaries if t.is_dir()}
        proofs = [_prove(t, prepared, on_progress, w.places) for t, w in zip(temporaries, written, strict=True)]
        for done in flushed:
            done.result()
        entries = [proof.entry or folders[t].result() for t, proof in zip(temporaries, proofs, strict=True)]
    notes = [*check_loaded(temporaries, prepared, _values(prepared))]
    catalog = prepared.opened.target.structure.catalog
    notes += check_sources(prepared.plan, prepared.opened.sources, catalog, prepared.trusted)
    states = states_taken(prepared.plan, prepared.opened.sources)  # read anew: what was written is not the measure
    for temporary in temporaries:
        if states and output_of(temporary.name).holds_architecture:
            own = classes_of(prepared.opened.target, prepared.trusted).known
            notes += verify_states(temporary, prepared.opened.target, states, own)
    parity, open_questions = _check_parity(prepared, temporaries, values)
    artifacts = tuple(
        {**entry, "freezing": proof.freezing, "writer": w.how, **_places(w, proof)}
        for entry, proof, w in zip(entries, proofs, written, strict=True)
    )
    seconds = {"save": round(saved - started, 3), "verify": round(time.perf_counter() - saved, 3)}
    found = Noticed(proofs[0].digests, proofs[0].seen, values.felt)
    return _Made(artifacts, found, values.casts, seconds, (*notes, *open_questions), catalog, parity, proofs[0].edited)


def _check_parity(
    prepared: Prepared, temporaries: Sequence[Path], values: Values
) -> tuple[Parity | None, tuple[PlanWarning, ...]]:
    """Compare the finished model with its original, if that is asked for; return also what is left open."""
    if prepared.recipe.verify.parity is None:
        return None, ()
    from transferpipe.prove.parity.finished import check_finished, parity_notes

    target = prepared.opened.target
    parity = check_finished(prepared, temporaries, values, lambda path: save_file(path, target, values))
    return parity, parity_notes(parity)


def _values(prepared: Prepared) -> Values:
    return Values(prepared.plan, prepared.opened.sources, prepared.opened.target, prepared.recipe.verify)


def _places(written: WrittenOutput, proof: Proof) -> dict[str, Any]:
    """Return where an output that names or arranges weights in its own way has each of them."""
    tensors = {name: asdict(held) for name, held in proof.tensors.items()}
    return {**({"places": written.places} if written.places else {}), **({"tensors": tensors} if tensors else {})}


def _is_several(path: Path, save: Save) -> bool:
    """Tell whether an output is, or may be, more than one file."""
    return is_exported(path.name) or bool(save.shard and output_of(path.name).splits)


def _check_free(paths: Sequence[Path], save: Save) -> None:
    for path in paths:
        several = _is_several(path, save)
        taken = next((name for name in taken_names(path, save.shard) if os.path.lexists(name)), None)
        if taken is None or (save.overwrite and not several and not taken.is_dir()):
            continue
        if several:  # several files, or a folder, cannot be replaced in one step
            raise FileError(Problem(str(taken), "exists already", "remove it first, or choose another name"))
        if taken.is_dir():
            raise FileError(Problem(str(taken), "is a folder", "choose another name"))
        fix = "choose another name, or allow it with save.overwrite=true (it is replaced only by a verified file)"
        raise FileError(Problem(str(taken), "exists already", fix))


def _prove(temporary: Path, prepared: Prepared, on_progress: Progress | None, places: Mapping[str, str]) -> Proof:
    # Everything is computed anew from the sources: nothing that the writer computed is believed.
    structure = prepared.opened.target.structure
    target = replace(structure, catalog=placed(structure.catalog, places))
    try:
        proof = verify_file(temporary, target, prepared.plan, _values(prepared), on_progress)
        verify_archive(proof.source, prepared.opened.target, _values(prepared))
        if proof.freezing.startswith(UNRECORDED) and proof.source.config:
            judged = prove_freezing(proof.source.config, prepared.plan, prepared.opened.target)
            proof = replace(proof, freezing=judged or proof.freezing)
    except (FileError, zipfile.BadZipFile) as error:
        problems = error.problems if isinstance(error, FileError) else (Problem(str(temporary), str(error)),)
        if not any(str(temporary) in p.where for p in problems):
            raise  # it is a source that cannot be read
        name, fix = final_name(temporary), "run again; if it happens again, check the disk"
        if refusal := refusal_of(error):  # says nothing of what was written
            raise cannot_be_read(name, refusal) from error
        raise VerificationError([Problem(name, f"as it was written: {p.what}", fix) for p in problems]) from error
    return proof


def _manifest(prepared: Prepared, made: _Made, verdict: Verdict) -> dict[str, Any]:
    plan, target = prepared.plan, prepared.opened.target
    return {
        "format_version": FORMAT_VERSION,
        "recipe": plan.recipe,
        "checksum": plan.checksum,
        "verdict": verdict.to_data(),
        "target": plan.target,
        "sources": {
            a: {"label": plan.sources[a], "format": s.format, **_place(s), **_required(prepared.recipe.sources[a])}
            for a, s in prepared.opened.sources.items()
        },
        "target_file": (
            {"format": target.source.format, **_place(target.source), **_repeats(target)}
            if isinstance(target, FileTarget | FileModelTarget) and target.source
            else None
        ),
        **_record_fetched(prepared),
        **_inputs(plan),
        "verify": {
            "nonfinite": prepared.recipe.verify.nonfinite,
            "negative_variance": prepared.recipe.verify.negative_variance,
            "reload": prepared.recipe.verify.reload,
        },
        **({"parity": made.parity.to_data()} if made.parity else {}),
        **({"edits": [e.to_data() for w in made.edited for e in w.edits]} if made.edited else {}),
        "weights": weight_entries(plan, made.catalog, made.found.digests, made.casts),
        "versions": versions(),
    }


def _record_fetched(prepared: Prepared) -> dict[str, Any]:
    """Return which files Keras fetched for built models, with their digests; nothing where it fetched none."""
    opened = prepared.opened
    built = {alias: source.model for alias, source in opened.sources.items() if isinstance(source, ModelSource)}
    models = {**built, "target": opened.target}
    files = {a: [f.to_data() for f in m.fetched] for a, m in models.items() if isinstance(m, ModelTarget) and m.fetched}
    return {"fetched": files} if files else {}


def _inputs(plan: Plan) -> dict[str, Any]:
    """Return the files that transforms and edits read, with their digests, by how the recipe writes them."""
    found = inputs_of(plan)
    places = {path: NameFile(path, digest).locate().absolute() for path, digest in found.items()}
    given = {"inputs": {path: {"path": str(places[path]), "sha256": found[path]} for path in found}} if found else {}
    edited = {path: {"path": str(Path(path).absolute()), "sha256": d} for path, d in files_of_edits(plan).items()}
    return {**given, **({"edit_files": edited} if edited else {})}


def _repeats(target: Target) -> dict[str, Any]:
    """Return which layers of the file follow one another in a target that is like it; nothing where it is the file."""
    repeats = target.repeats if isinstance(target, FileTarget) else ()
    return {"repeat": repeats_to_data(repeats)} if repeats else {}


def _required(origin: Origin) -> dict[str, Any]:
    """Return what the recipe required of the configuration beside a source; nothing where that is nothing."""
    return {"requires": dict(origin.requires)} if origin.requires else {}


def _place(source: Source) -> dict[str, str | None]:
    """Return where a file lies, and came from, so that it is found from anywhere; of a built model, nothing."""
    if not isinstance(source, FileSource):
        return {"path": None}
    place = {"path": str(source.path.absolute()), "select": source.select}
    proved = {"url": source.url, "sha256": source.sha256}
    return {**place, **{key: value for key, value in proved.items() if value is not None}}
