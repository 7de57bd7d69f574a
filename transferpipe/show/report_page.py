"""The report of a run as one HTML page that needs no network, and shows everything without its script, too."""

from __future__ import annotations

import itertools
import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from transferpipe.codes import WARNINGS
from transferpipe.planning.advice.warned import group_by_code
from transferpipe.planning.model import PlanWarning
from transferpipe.planning.plan import Plan
from transferpipe.planning.reading.read_plan import warning_from_data
from transferpipe.planning.tables.plan_rows import plan_rows
from transferpipe.planning.tables.plan_table import summary_lines
from transferpipe.prove.verdict import Verdict, describe_compared, verdict_from_data
from transferpipe.show.network_picture import fates_of, network_picture
from transferpipe.show.pages import render, table_rows
from transferpipe.show.picture_markup import picture_markup
from transferpipe.show.sweeps.score_table import number_text, score_title

_FATES = ("assigned", "transformed", "kept", "made", "edited", "frozen")


def report_page(
    plan: Plan,
    manifest: Mapping[str, Any],
    score: Mapping[str, Any] | None = None,
    variant: tuple[str, str] | None = None,
) -> str:
    """Return the page: who asked, verdict, plan, warnings, every weight, files, score, recipe, versions.

    Args:
        plan: the plan that was carried out.
        manifest: the content of manifest.json.
        score: the content of score.json, if the run was scored.
        variant: of a sweep, what sets it apart from the others, and the address of the sweep's page.
    """
    becomes, recipe = fates_of(plan), manifest.get("recipe_text")
    weights = [_weight(w, becomes) for w in manifest["weights"]]
    fates = Counter(itertools.chain.from_iterable(row[1].split(", ") for row in weights))
    picture = network_picture(plan, [w["name"] for w in manifest["weights"]])
    return render(
        "report.html",
        title=f"{variant[0]}: {plan.recipe}" if variant else plan.recipe,
        plan=plan,
        variant=variant,
        verdict=[*_verdict(verdict_from_data(manifest["verdict"]), len(weights))],
        facts=[*_facts(plan, manifest)],
        summary=summary_lines(plan),
        picture=picture,
        drawing=picture_markup(picture),
        rows=[(r.rule, r.target, r.origin, f"{r.weights:,}", f"{r.parameters:,}", r.notes) for r in plan_rows(plan)],
        warnings=[*_warnings(plan, manifest)],
        weights=weights,
        weight_rows=table_rows(weights),
        fates=[(fate, fates[fate]) for fate in _FATES if fate in fates],
        files=[
            (quote(a["path"]), a["path"], f"{a['bytes']:,}", a["sha256"], a["freezing"]) for a in manifest["artifacts"]
        ],
        score=_score(score) if score else None,
        recipe_lines=recipe.rstrip().split("\n") if recipe else (),
        newline=Markup("\n"),
        versions=manifest["versions"].items(),
    )


def _facts(plan: Plan, manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what was done, for whom, and when; what earlier versions did not record is left out."""
    for name, label in plan.sources.items():
        yield (name if name.startswith("source") else f"source {name}"), label
    yield "target", plan.target
    if command := manifest.get("command"):
        yield "command", shlex.join(command)
    if time := manifest.get("time"):
        yield "started", time
    if git := manifest.get("git"):
        yield "git commit", f"{git['commit']}{', with changes to tracked files' if git.get('dirty') else ''}"
    yield "plan", plan.checksum


def _verdict(verdict: Verdict, weights: int) -> Iterator[dict[str, str]]:
    """Yield a line for the bits and one for what the model computes: green is only what was verified."""
    lines = verdict.lines(describe_compared(weights))
    for found, line in zip((verdict.weights, verdict.function), lines, strict=True):
        word, _, why = line.partition(", ")
        yield {"kind": found if found in ("pass", "fail") else "open", "word": word, "why": why}


def _warnings(plan: Plan, manifest: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield all warnings, those of the plan first, by their codes, with what is known of each code."""
    # Manifests of earlier versions hold texts, without codes.
    planned = {*plan.warnings, *(PlanWarning("", "", f"{w.where}: {w.text}") for w in plan.warnings)}
    later = [w for w in map(warning_from_data, manifest.get("warnings", ())) if w not in planned]
    for code, group in group_by_code([*plan.warnings, *later]).items():
        texts = [f"{w.where}: {w.text}" if w.where else w.text for w in group]
        yield {"code": code, "kind": WARNINGS.get(code), "texts": texts}


def _score(score: Mapping[str, Any]) -> dict[str, Any]:
    rows = [
        ("this model", score["value"], score.get("spread")),
        *((c["name"], c["value"], c["spread"]) for c in score.get("controls", ())),
    ]
    shown = [(n, number_text(v), "" if s is None else f"± {number_text(s)}") for n, v, s in rows]
    return {"title": score_title(score), "rows": shown, "notes": score.get("notes", ())}


def _weight(weight: Mapping[str, Any], fates: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return the cells of a weight; `fates` are those that the plan gives, which made no scales of quantization."""
    each = [
        f"source {k}: {step if isinstance(step, str) else json.dumps(step)}"
        for k, steps in enumerate(weight.get("adapted", ()), 1)
        for step in steps
    ]
    how = [*each, *weight.get("transforms", ())]
    if "cast" in weight:
        how.append(f"{weight['cast']['from']} -> {weight['dtype']}")
    how += [f"edit {name}" for name in weight.get("edits", ())]
    return (
        weight["name"],
        ", ".join(fates.get(weight["name"], (weight["status"],))),
        weight["rule"],
        ", ".join(weight.get("sources", ())),
        ", ".join(step if isinstance(step, str) else json.dumps(step) for step in how) or weight.get("reason", ""),
        f"({', '.join(map(str, weight['shape']))}{',' * (len(weight['shape']) == 1)})",
        weight["dtype"],
        weight["digest"],
    )
