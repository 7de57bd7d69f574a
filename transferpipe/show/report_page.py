"""The report of a run as one HTML page that needs nothing else: no network, no script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from markupsafe import Markup

from transferpipe.planning.model import Plan, PlanWarning, warning_from_data
from transferpipe.planning.plan_table import plan_html, warnings_html
from transferpipe.prove.verdict import Verdict, describe_compared, verdict_from_data
from transferpipe.show.pages import render
from transferpipe.show.score_table import number_text, score_title


def report_page(
    plan: Plan,
    manifest: Mapping[str, Any],
    score: Mapping[str, Any] | None = None,
    variant: tuple[str, str] | None = None,
) -> str:
    """Return the page: verdict, plan, warnings, files, score, every weight.

    Args:
        plan: the plan that was carried out.
        manifest: the content of manifest.json.
        score: the content of score.json, if the run was scored.
        variant: of a sweep, what sets it apart from the others, and the address of the sweep's page.
    """
    weights = manifest["weights"]
    later = _value_warnings(plan, manifest)
    return render(
        "report.html",
        title=f"{variant[0]}: {plan.recipe}" if variant else plan.recipe,
        plan=plan,
        variant=variant,
        verdict=[*_verdict(verdict_from_data(manifest["verdict"]), len(weights))],
        plan_fragment=Markup(plan_html(plan)),  # noqa: S704 - escaped where it is made
        later=Markup(warnings_html(later)) if later else "",  # noqa: S704 - the same
        files=[(a["path"], f"{a['bytes']:,}", a["sha256"], a["freezing"]) for a in manifest["artifacts"]],
        score=_score(score) if score else None,
        weights=map(_weight, weights),
        versions=manifest["versions"].items(),
    )


def _verdict(verdict: Verdict, weights: int) -> Iterator[dict[str, str]]:
    """Yield a line for the bits and one for what the model computes: green is only what was proved."""
    lines = verdict.lines(describe_compared(weights))
    for found, line in zip((verdict.weights, verdict.function), lines, strict=True):
        word, _, why = line.partition(", ")
        yield {"kind": found if found in ("pass", "fail") else "open", "word": word, "why": why}


def _value_warnings(plan: Plan, manifest: Mapping[str, Any]) -> list[PlanWarning]:
    # Manifests of earlier versions hold texts, without codes.
    planned = {*plan.warnings, *(PlanWarning("", "", f"{w.where}: {w.text}") for w in plan.warnings)}
    return [w for w in map(warning_from_data, manifest.get("warnings", ())) if w not in planned]


def _score(score: Mapping[str, Any]) -> dict[str, Any]:
    rows = [
        ("this model", score["value"], score.get("spread")),
        *((c["name"], c["value"], c["spread"]) for c in score.get("controls", ())),
    ]
    shown = [(n, number_text(v), "" if s is None else f"± {number_text(s)}") for n, v, s in rows]
    return {"title": score_title(score), "rows": shown, "notes": score.get("notes", ())}


def _weight(weight: Mapping[str, Any]) -> tuple[str, ...]:
    sources, shape = ", ".join(weight.get("sources", ())), "×".join(map(str, weight["shape"]))
    return (weight["name"], weight["status"], weight["rule"], sources, shape, weight["dtype"], weight["digest"])
