"""A run's steps: plan, apply, verify, save, report. All or nothing."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transferpipe.errors import FileError, Problem, RecipeError
from transferpipe.execute.atomic import flush, new_folders, publish, remove_stale, temporary_beside, write_text
from transferpipe.execute.manifest import MANIFEST, PLAN, sha256, versions, weight_entries
from transferpipe.execute.opening import Opened, open_recipe
from transferpipe.execute.save import save_file
from transferpipe.execute.value_warnings import value_warnings
from transferpipe.execute.values import Values
from transferpipe.execute.verify import Progress, Proof, verify_file
from transferpipe.plan.model import Plan, PlanWarning
from transferpipe.plan.planner import make_plan
from transferpipe.recipe.model import Recipe
from transferpipe.recipe.trust import resolve


@dataclass(frozen=True)
class Prepared:
    """A recipe with everything opened and planned; nothing has been written."""

    recipe: Recipe
    opened: Opened = field(repr=False)
    plan: Plan


@dataclass(frozen=True)
class Report:
    """What a run did.

    Attributes:
        plan: the plan that was carried out.
        verdict: ``pass``; a run that fails raises instead.
        folder: the run folder; None for a transfer into a live model without `save`.
        artifacts: the files written.
        manifest: the content of manifest.json.
        warnings: those of the plan, and those that only values can show.
    """

    plan: Plan
    verdict: str
    folder: Path | None = None
    artifacts: tuple[Path, ...] = ()
    manifest: dict[str, Any] = field(default_factory=dict, repr=False)
    warnings: tuple[PlanWarning, ...] = ()

    def __str__(self) -> str:
        counts = f"{len(self.plan.assignments)} weights assigned, {len(self.plan.kept)} kept"
        return f"{self.verdict}: {counts}, plan {self.plan.checksum}"


def prepare(recipe: Recipe, trusted: Collection[str] = ()) -> Prepared:
    """Open everything and plan.

    Raises:
        RecipeError: the plan cannot be made, or is not the expected one.
        FileError, UnsafeError: a source or the target cannot be opened.
    """
    if recipe.score:
        resolve(recipe.score.target, "score._target_", trusted)
    return prepare_opened(recipe, open_recipe(recipe, trusted))


def prepare_opened(recipe: Recipe, opened: Opened, saves: bool = True) -> Prepared:
    """Plan with everything opened already.

    Args:
        recipe: the checked recipe.
        opened: what it names.
        saves: whether the result is to be written, so that the target must have what its format needs.

    Raises:
        RecipeError: the plan cannot be made, or is not the expected one.
    """
    sources = {alias: source.catalog for alias, source in opened.sources.items()}
    plan = make_plan(recipe, sources, opened.target.structure, opened.labels)
    if recipe.expect and recipe.expect != plan.checksum:
        what = f"the recipe expects the plan {recipe.expect}, but this plan is {plan.checksum}"
        raise RecipeError(Problem("expect", what, "look at the plan; if it is right, expect its checksum"))
    if saves:
        _check_formats(recipe, opened)
    return Prepared(recipe, opened, plan)


def _check_formats(recipe: Recipe, opened: Opened) -> None:
    target = opened.target
    for path in (recipe.save.path, *recipe.save.also):
        if path.endswith((".keras", ".weights.h5")) and not target.groups:
            what = f"{opened.labels['target']} has no Keras layout, so {path} cannot be written"
            raise RecipeError(Problem("save", what, "save as .safetensors or .npz, or give a builder as the target"))
        if path.endswith(".keras") and target.config(()) is None:
            what = f"{opened.labels['target']} holds weights without an architecture, so {path} cannot be written"
            raise RecipeError(Problem("save", what, "save as .weights.h5, or give a builder as the target"))


def execute(prepared: Prepared, folder: Path, progress: Progress | None = None) -> Report:
    """Carry out the plan into `folder`.

    Raises:
        VerificationError: a value was refused, or a finished file is not what the plan says.
        FileError: something could not be read or written. In both cases nothing is left behind.
    """
    started = time.perf_counter()
    recipe, plan = prepared.recipe, prepared.plan
    paths = [folder / p for p in (recipe.save.path, *recipe.save.also)]
    _check_free(paths, recipe.save.overwrite)
    with new_folders(folder), contextlib.ExitStack() as stack:
        for path in paths:
            stack.enter_context(new_folders(path.parent))
            remove_stale(path.parent)
        temporaries = stack.enter_context(_temporaries(paths))
        values = _values(prepared)
        for temporary in temporaries:
            save_file(temporary, prepared.opened.target, plan, values, progress)
        timings = {"save": time.perf_counter() - started}
        with ThreadPoolExecutor(1) as pool:
            # Hashing and waiting for the disk take no part in the comparison: they go on beside it.
            seals = [pool.submit(_seal, t) for t in temporaries]
            proofs = [_prove(t, prepared, progress) for t in temporaries]
        _check_reload(temporaries, prepared)
        timings["verify"] = time.perf_counter() - started - timings["save"]
        artifacts = [
            {"path": str(p), "bytes": t.stat().st_size, "sha256": seal.result(), "freezing": proof.freezing}
            for p, t, seal, proof in zip(paths, temporaries, seals, proofs, strict=True)
        ]
        manifest = {**_manifest(prepared, proofs[0], values), "artifacts": artifacts}
        warnings = (*plan.warnings, *value_warnings(plan, _values(prepared)))
        manifest["warnings"] = [f"{w.where}: {w.text}" for w in warnings]
        manifest["seconds"] = {k: round(v, 3) for k, v in timings.items()}
        for temporary, path in zip(temporaries, paths, strict=True):
            publish(temporary, path)
        write_text(folder / PLAN, json.dumps({"checksum": plan.checksum, **plan.to_data()}, indent=1))
        write_text(folder / MANIFEST, json.dumps(manifest, indent=1))
    return Report(plan, "pass", folder, tuple(paths), manifest, warnings)


def _values(prepared: Prepared) -> Values:
    return Values(prepared.plan, prepared.opened.sources, prepared.opened.target, prepared.recipe.verify)


def _check_free(paths: list[Path], overwrite: bool) -> None:
    for path in paths:
        if path.is_dir():
            raise FileError(Problem(str(path), "is a folder", "choose another name"))
        if path.exists() and not overwrite:
            mend = "choose another name, or allow it with save.overwrite=true (it is replaced only by a proved file)"
            raise FileError(Problem(str(path), "exists already", mend))


@contextlib.contextmanager
def _temporaries(paths: list[Path]) -> Iterator[list[Path]]:
    """Yield a temporary name beside each path, and remove whatever is left of them."""
    temporaries = [temporary_beside(p) for p in paths]
    try:
        yield temporaries
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)


def _seal(path: Path) -> str:
    """Flush a finished file to the disk and return its SHA-256."""
    flush(path)
    return sha256(path)


def _prove(temporary: Path, prepared: Prepared, progress: Progress | None) -> Proof:
    # Everything is computed anew from the sources: nothing that the writer computed is believed.
    catalog = prepared.opened.target.structure.catalog
    return verify_file(temporary, catalog, prepared.plan, _values(prepared), progress)


def _check_reload(temporaries: list[Path], prepared: Prepared) -> None:
    if not prepared.recipe.verify.reload:
        return
    from transferpipe.execute.reload import verify_reload

    for temporary in temporaries:
        if temporary.name.endswith(".keras"):
            verify_reload(temporary, prepared.opened.target.structure.catalog, prepared.plan, _values(prepared).value)


def _manifest(prepared: Prepared, proof: Proof, values: Values) -> dict[str, Any]:
    plan = prepared.plan
    return {
        "recipe": plan.recipe,
        "checksum": plan.checksum,
        "verdict": "pass",
        "target": plan.target,
        "sources": {
            a: {"label": plan.sources[a], "format": s.format, "path": s.label}
            for a, s in prepared.opened.sources.items()
        },
        "target_file": getattr(getattr(prepared.opened.target, "source", None), "label", None),
        "verify": {
            "nonfinite": prepared.recipe.verify.nonfinite,
            "negative_variance": prepared.recipe.verify.negative_variance,
            "reload": prepared.recipe.verify.reload,
        },
        "weights": weight_entries(plan, prepared.opened.target.structure.catalog, proof.digests, values.casts),
        "versions": versions(),
    }
