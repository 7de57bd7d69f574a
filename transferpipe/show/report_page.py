"""The report of a run as one HTML page that needs nothing else: no network, no script."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from transferpipe.planning.model import Plan, PlanWarning, warning_from_data
from transferpipe.planning.plan_table import plan_html, warnings_html
from transferpipe.prove.verdict import Verdict, describe_compared, verdict_from_data
from transferpipe.show.score_table import number_text, score_title
from transferpipe.text.visible import visible

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2024; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: 0 } h2 { font-size: 1.1rem; margin-top: 2rem }
.verdict { display: inline-block; padding: .1rem .7rem; border-radius: 1rem; background: #eceef0; color: #3c4147 }
.verdict.pass { background: #d8f3dc; color: #14532d } .verdict.fail { background: #fde2e1; color: #7f1d1d }
.muted { color: #60646c } .scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: .87rem } th { text-align: left; color: #60646c; font-weight: 500 }
th, td { padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #e6e8eb; vertical-align: top }
td { font-family: ui-monospace, monospace; font-size: .82rem } li { margin: .2rem 0 }
@media (prefers-color-scheme: dark) {
  body { background: #16181b; color: #e6e8eb } th, td { border-color: #2f3338 }
  .verdict { background: #2f3338; color: #e6e8eb } .verdict.pass { background: #14532d; color: #d8f3dc }
  .verdict.fail { background: #7f1d1d; color: #fde2e1 } }
"""


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
    later = _value_warnings(plan, manifest)
    sections = [
        f"<h1>{_text(plan.recipe)}</h1>",
        _variant(*variant) if variant else "",
        _verdict(verdict_from_data(manifest["verdict"]), len(manifest["weights"])),
        f"<p class=muted>plan {_text(plan.checksum)}</p>",
        f"<h2>Plan</h2><div class=scroll>{plan_html(plan)}</div>",
        f"<h2>Warnings about values</h2><ul>{warnings_html(later)}</ul>" if later else "",
        _files(manifest["artifacts"]),
        _score(score) if score else "",
        _weights(manifest["weights"]),
        _table("Environment", ("package", "version"), manifest["versions"].items()),
    ]
    title = f"{variant[0]}: {plan.recipe}" if variant else plan.recipe
    head = f"<meta charset=utf-8><meta name=viewport content='width=device-width'><title>{_text(title)}</title>"
    body = "".join(sections)
    return f"<!doctype html><html lang=en><head>{head}<style>{STYLE}</style></head><body>{body}</body></html>"


def _verdict(verdict: Verdict, weights: int) -> str:
    """Return a line for the bits and one for what the model computes: green is only what was proved."""
    lines = verdict.lines(describe_compared(weights))
    parts = []
    for found, line in zip((verdict.weights, verdict.function), lines, strict=True):
        word, _, why = line.partition(", ")
        kind = found if found in ("pass", "fail") else "open"
        parts.append(f"<p><span class='verdict {kind}'>{_text(word)}</span> <span class=muted>{_text(why)}</span></p>")
    return "".join(parts)


def _variant(label: str, page: str) -> str:
    return f"<p>The variant <code>{_text(label)}</code> of <a href='{_text(page)}'>this sweep</a></p>"


def _value_warnings(plan: Plan, manifest: Mapping[str, Any]) -> list[PlanWarning]:
    # Manifests of earlier versions hold texts, without codes.
    planned = {*plan.warnings, *(PlanWarning("", "", f"{w.where}: {w.text}") for w in plan.warnings)}
    return [w for w in map(warning_from_data, manifest.get("warnings", ())) if w not in planned]


def _text(value: Any) -> str:
    return html.escape(visible(str(value)))


def _list(title: str, items: Iterable[str]) -> str:
    entries = "".join(f"<li>{_text(i)}</li>" for i in items)
    return f"<h2>{title}</h2><ul>{entries}</ul>" if entries else ""


def _table(title: str, header: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    head = "".join(f"<th>{_text(h)}</th>" for h in header)
    body = "".join("<tr>" + "".join(f"<td>{_text(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f"<h2>{title}</h2><div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _files(artifacts: Iterable[Mapping[str, Any]]) -> str:
    rows = [(a["path"], f"{a['bytes']:,}", a["sha256"], a["freezing"]) for a in artifacts]
    return _table("Files", ("path", "bytes", "sha256", "freezing"), rows)


def _score(score: Mapping[str, Any]) -> str:
    rows = [
        ("this model", score["value"], score.get("spread")),
        *((c["name"], c["value"], c["spread"]) for c in score.get("controls", ())),
    ]
    shown = [(n, number_text(v), "" if s is None else f"± {number_text(s)}") for n, v, s in rows]
    return _table(f"Score: {_text(score_title(score))}", ("", "value", "spread"), shown) + _list(
        "How to read this", score.get("notes", ())
    )


def _weights(weights: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        (
            w["name"],
            w["status"],
            w["rule"],
            ", ".join(w.get("sources", ())),
            "×".join(map(str, w["shape"])),
            w["dtype"],
            w["digest"],
        )
        for w in weights
    ]
    return _table("Weights", ("name", "status", "rule", "from", "shape", "dtype", "digest"), rows)
