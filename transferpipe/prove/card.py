"""A model card: README.md with the Hub's front matter, written beside the weights by `save.card`.

Its readers are strangers: where the model lies on the machine that made it is nobody's business, so files go by their
names and addresses alone. The keys of the front matter: https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import yaml

from transferpipe.errors import FileError, Problem
from transferpipe.planning.plan import Plan
from transferpipe.recipe.outputs import output_of
from transferpipe.text.collapse import collapse, counted
from transferpipe.text.listing import listed_clauses
from transferpipe.text.visible import visible

CARD = "README.md"
MARK = "<!-- Written by transferpipe: remove this line before you edit, and no run writes over the page. -->"
_HUB = re.compile(r"hf://([^/@]+/[^/@]+)")
_MOST_SERIES = 6  # series of weights a row of the table: a card is read by people, the manifest has every weight


def check_card_free(folder: Path, overwrite: bool) -> None:
    """Refuse to write over a README.md that somebody wrote.

    Raises:
        FileError: there is one without the line that ours begin with, and `overwrite` does not allow it.
    """
    path = folder / CARD
    if overwrite or not path.exists():
        return
    if path.is_file() and MARK in path.read_text(encoding="utf-8", errors="replace"):
        return
    fix = "move it, or allow it with save.overwrite=true"
    raise FileError(Problem(str(path), "exists already, and was not written by transferpipe", fix))


def card_text(plan: Plan, manifest: Mapping[str, Any]) -> str:
    """Return the card of a finished run.

    Args:
        plan: what was carried out.
        manifest: what manifest.json says of it.
    """
    artifacts: Sequence[Mapping[str, Any]] = manifest["artifacts"]
    name = PurePath(artifacts[0]["path"]).name
    head = yaml.safe_dump(_front_matter(plan, manifest, name), sort_keys=False, allow_unicode=False)
    lines = ["---", head.rstrip(), "---", "", MARK, "", f"# {_plain(plan.recipe or name)}", ""]
    lines += [_origin(plan, manifest), "", *_use(artifacts)]
    lines += ["## What was transferred", "", *_table(plan), "", *_changes(plan), "## What was checked", ""]
    lines += [*_describe_checks(manifest), "", "## Files", "", "| file | bytes | SHA-256 |", "|---|---|---|"]
    lines += [f"| {_code(PurePath(a['path']).name)} | {a['bytes']:,} | {_code(a['sha256'])} |" for a in artifacts]
    versions = ", ".join(f"{package} {version}" for package, version in manifest["versions"].items())
    lines += ["", f"Environment: {_plain(versions)}. Plan {_code(plan.checksum)}, seed {plan.seed}.", ""]
    return "\n".join(lines)


def _front_matter(plan: Plan, manifest: Mapping[str, Any], name: str) -> dict[str, Any]:
    output = output_of(name)
    keras = output.holds_architecture or output.has_groups
    bases = [found[1] for text in _addresses(manifest) if (found := _HUB.match(text))]
    merged = any(a.merge is not None for a in plan.assignments)
    relation = "quantized" if plan.quantize else "merge" if merged else None  # else the Hub tells by the base alone
    return {
        **({"library_name": "keras"} if keras else {}),
        **({"base_model": list(dict.fromkeys(bases))} if bases else {}),
        **({"base_model_relation": relation} if bases and relation else {}),
        "tags": ["transferpipe", *(["keras"] if keras else []), *(["merge"] if merged else [])],
    }


def _addresses(manifest: Mapping[str, Any]) -> Iterator[str]:
    for source in (*manifest["sources"].values(), manifest.get("target_file") or {}):
        yield str(source.get("url") or "")


def _origin(plan: Plan, manifest: Mapping[str, Any]) -> str:
    sources = [_place(entry, entry["label"]) for entry in manifest["sources"].values()]
    taken = f"weights of {listed_clauses(sources, 8)}" if sources else "no weights of another model"
    target = _place(manifest["target_file"], plan.target) if manifest["target_file"] else _code(_public(plan.target))
    return f"This model is {target}, with {taken}, put together by transferpipe."


def _place(entry: Mapping[str, Any], label: str) -> str:
    digest = f" (SHA-256 {_code(entry['sha256'])})" if entry.get("sha256") else ""
    return f"{_code(_public(str(entry.get('url') or label)))}{digest}"


def _public(label: str) -> str:
    """Return what may be said of a file or a builder to others: no folder of this machine."""
    if "://" in label:
        return label
    return re.sub(r"(?<![\w.:])(?:~|\.{0,2}|[A-Za-z]:)[/\\][^\s'\",()]*[/\\]([^\s'\",()/\\]+)", r"\1", label)


def _use(artifacts: Sequence[Mapping[str, Any]]) -> list[str]:
    names = [PurePath(a["path"]).name for a in artifacts]
    outputs = [output_of(name) for name in names]
    imports = dict.fromkeys(output.imported for output in outputs if output.imported)
    pairs = [(output, visible(n).replace('"', "")) for output, n in zip(outputs, names, strict=True)]
    loads = [output.loaded.replace("{name}", name) for output, name in pairs if output.loaded]
    return ["```python", *imports, "", *loads, "```", ""] if loads else []


def _table(plan: Plan) -> Iterator[str]:
    if not plan.assignments:
        yield "No weight was assigned."
    else:
        yield "| weights of this model | how many | from |"
        yield "|---|---|---|"
    for rule in dict.fromkeys(a.rule for a in plan.assignments):
        pairs = [a for a in plan.assignments if a.rule == rule]
        sources = dict.fromkeys(f"{r.source}:{r.name}" for a in pairs for r in a.sources)
        merged = f", merged by {_code(str(pairs[0].merge))}" if pairs[0].merge is not None else ""
        yield f"| {_series(a.target for a in pairs)} | {len(pairs):,} | {_series(sources)}{merged} |"


def _series(names: Iterable[str]) -> str:
    return listed_clauses([_code(text) for text in collapse(names).split(", ")], _MOST_SERIES)


def _changes(plan: Plan) -> Iterator[str]:
    if plan.kept:
        yield f"- {counted(len(plan.kept), 'weight')} kept: {_series(k.target for k in plan.kept)}"
    if plan.edits:
        yield f"- edited afterwards: {_series(dict.fromkeys(e.at for e in plan.edits))}"
    if plan.quantize:
        yield f"- quantized afterwards: {_code(plan.quantize)}"
    if plan.freezing.layers:
        yield f"- frozen: {_series(plan.freezing.layers)}"
    if plan.kept or plan.edits or plan.quantize or plan.freezing.layers:
        yield ""


def _describe_checks(manifest: Mapping[str, Any]) -> Iterator[str]:
    verdict = manifest["verdict"]
    count = counted(len(manifest["weights"]), "weight")
    yield f"- weights: {verdict['weights']}; {count} of the finished file read back and compared bit for bit"
    reason = f"; {_plain(verdict['reason'])}" if verdict.get("reason") else ""
    yield f"- function: {verdict['function']}{reason}"
    if verdict["function"] == "not checked":
        yield "  (whether the model computes what its sources computed, only running both can tell)"
    codes = dict.fromkeys(w["code"] for w in manifest.get("warnings", ()))
    if codes:
        yield f"- warnings: {', '.join(map(_code, codes))}"


def _code(text: str) -> str:
    """Return `text` as code in a table of Markdown, whatever it holds."""
    ticks = "``" if "`" in text else "`"
    pad = " " if "`" in text else ""
    return f"{ticks}{pad}{visible(text).replace('|', chr(92) + '|')}{pad}{ticks}"


def _plain(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", visible(text))
