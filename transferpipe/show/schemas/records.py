"""The JSON Schemas of what a run and a sweep leave, and of errors.

Each describes what this version writes: earlier records have no `format_version`, and are still read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from transferpipe.execute import score_run
from transferpipe.planning.layouts.export import Held
from transferpipe.planning.model import PlanWarning
from transferpipe.planning.plan import FORMAT_VERSION, Plan
from transferpipe.prove import manifest
from transferpipe.prove.parity.result import Parity
from transferpipe.prove.verdict import Function, Weights
from transferpipe.score.result import Part
from transferpipe.score.training.convergence import CURVES, DOUBTS, Ended
from transferpipe.show.schemas.types import Schema, schema_of
from transferpipe.sweep import variant
from transferpipe.sweep.running.job import DONE, FAILED, PRUNED
from transferpipe.sweep.running.rung import OVER

_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_NUMBER: Schema = {"type": "number"}
_TRUTH: Schema = {"type": "boolean"}
_SHA256: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_COMMIT: Schema = {"type": "string", "pattern": "^[0-9a-f]{40,64}$"}
_CHECKSUM: Schema = {"type": "string", "pattern": "^p[0-9a-f]{11}$"}
_TEXTS_BY_KEY: Schema = {"type": "object", "additionalProperties": _TEXT}
_STEPS: Schema = {"type": "array", "items": {"type": ["string", "object"]}}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _by_name(value: Schema) -> Schema:
    return {"type": "object", "additionalProperties": value}


def _object(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    properties = {**required, **(optional or {})}
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _add_version(version: int, required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    return _object({"format_version": {"const": version}, **required}, optional)


def plan_schema() -> Schema:
    """Return the schema of plan.json, and of what ``plan --json`` prints."""
    definitions: dict[str, Schema] = {}
    schema_of(Plan, definitions)
    plan = definitions.pop("Plan")
    own = {"checksum": _CHECKSUM, "format_version": {"const": FORMAT_VERSION}}
    definitions["Optimizer"]["required"] = ["fate", "arrays", "reason"]
    whole = {**plan, "properties": {**own, **plan["properties"]}, "required": [*own, *plan["required"]]}
    return {**whole, "definitions": definitions}


def manifest_schema() -> Schema:
    """Return the schema of manifest.json."""
    definitions: dict[str, Schema] = {}
    parity, warning = schema_of(Parity, definitions), schema_of(PlanWarning, definitions)
    entry = definitions["Compared"]["properties"]
    for name, value in entry.items():  # numbers that JSON has not are texts
        entry[name] = _or_text(value)
    required = {
        "recipe": _TEXT,
        "checksum": _CHECKSUM,
        "verdict": verdict_schema(),
        "target": _TEXT,
        "sources": _by_name(_place({"label": _TEXT})),
        "target_file": _or_null(_place({})),
        "verify": _object({"nonfinite": _TEXT, "negative_variance": _TEXT, "reload": _TRUTH}),
        "weights": _list(_weight()),
        "versions": _TEXTS_BY_KEY,
        "artifacts": _list(_artifact()),
        "warnings": _list(warning),
        "seconds": _object({"save": _NUMBER, "verify": _NUMBER}),
        "time": {"type": "string", "description": "when the run began, UTC, as ISO 8601 has it"},
        "command": {**_or_null(_list(_TEXT)), "description": "a command line that does the same; null from Python"},
        "recipe_text": {**_or_null(_TEXT), "description": "the recipe as YAML, put together and filled in"},
        "git": {
            **_or_null(
                _object({"commit": {"type": "string", "pattern": "^[0-9a-f]{40,64}$"}, "dirty": _or_null(_TRUTH)})
            ),
            "description": "of the working directory's repository; null where there is none, or no git to ask",
        },
        "plan_sha256": _SHA256,
        "seal": {**_SHA256, "description": "of everything else here"},
    }
    optional = {"parity": parity, "edits": _list(_edit()), "fetched": _by_name(_list(_describe_fetched()))}
    optional["inputs"] = _by_name(_object({"path": _TEXT, "sha256": _SHA256}))
    return {**_add_version(manifest.FORMAT_VERSION, required, optional), "definitions": definitions}


def _or_text(schema: Schema) -> Schema:
    kinds = schema.get("anyOf", [schema])
    return {**schema, "anyOf": [*kinds, _TEXT]} if _NUMBER in kinds else schema


def verdict_schema() -> Schema:
    """Return the schema of a verdict, as manifest.json and ``verify --json`` have it."""
    settings = _object({"compared": _COUNT, "differing": _COUNT}, {"not_compared": _COUNT})
    parts = {"weights": {"enum": list(get_args(Weights))}, "function": {"enum": list(get_args(Function))}}
    return _object({**parts, "settings": settings}, {"reason": _TEXT})


def _place(more: Mapping[str, Schema]) -> Schema:
    kept = {"select": _or_null(_TEXT), "url": _TEXT, "sha256": _SHA256, "requires": {"type": "object"}}
    return _object({**more, "format": _TEXT, "path": _or_null(_TEXT)}, kept)


def _weight() -> Schema:
    required = {
        "name": _TEXT,
        "status": {"enum": ["assigned", "kept", "made"]},
        "rule": _TEXT,
        "shape": _list(_COUNT),
        "dtype": _TEXT,
        "where": _TEXT,
        "digest": {"type": "string", "pattern": "^xxh3:[0-9a-f]+$"},
    }
    optional = {
        "reason": _TEXT,
        "sources": _list(_TEXT),
        "adapted": _list(_STEPS),
        "transforms": _STEPS,
        "cast": _object({"from": _TEXT, "largest_relative_error": _NUMBER}),
        "quantized": _or_null(_TEXT),
        "edits": _list(_TEXT),
        "also": _list(_TEXT),
    }
    return _object(required, optional)


def _edit() -> Schema:
    ends: Schema = {"type": "array", "items": {"type": ["number", "boolean", "string"]}, "minItems": 2, "maxItems": 2}
    texts = dict.fromkeys(("name", "at", "index", "operation"), _TEXT)
    return _object({**texts, "elements": _COUNT, "changed": _COUNT, "before": ends, "after": ends})


def _describe_fetched() -> Schema:
    return _object({"url": _TEXT, "path": _TEXT, "sha256": _SHA256}, {"checked": _TEXT})


def _artifact() -> Schema:
    definitions: dict[str, Schema] = {}
    schema_of(Held, definitions)
    required = {"path": _TEXT, "bytes": _COUNT, "sha256": _SHA256, "freezing": _TEXT, "writer": _TEXT}
    optional = {"files": _by_name(_SHA256), "places": _TEXTS_BY_KEY, "tensors": _by_name(definitions["Held"])}
    return _object(required, optional)


def _training() -> Schema:
    curve = _list(_or_null(_NUMBER))
    required = {
        "seed": _or_null(_COUNT),
        "epochs": _COUNT,
        "best_epoch": _COUNT,
        "steps_per_epoch": _COUNT,
        "ended": {"enum": list(get_args(Ended))},
        "settled_epoch": _or_null(_COUNT),
        "converged": _TRUTH,
        "doubts": _list({"enum": list(DOUBTS)}),
    }
    return _object(required, dict.fromkeys(CURVES, curve))


def _score(more: Mapping[str, Schema]) -> Schema:
    required = {"value": _NUMBER, "name": _TEXT, "higher_is_better": _TRUTH, "kind": _TEXT, "seconds": _NUMBER}
    control = _object({"name": _TEXT, "value": _NUMBER, "spread": _or_null(_NUMBER)})
    optional = {
        "spread": _or_null(_NUMBER),
        "needs": _TEXT,
        "controls": _list(control),
        "notes": _list(_TEXT),
        "part": {"enum": list(get_args(Part))},
        "test": {**_or_null(_NUMBER), "description": "of the test part, where `value` is of the validation part"},
        "test_spread": _or_null(_NUMBER),
        "worst": {**_or_null(_NUMBER), "description": "the worst value that there can be"},
        "seeds": {**_list(_COUNT), "description": "of the repetitions: NumPy's SeedSequence([seed, i])"},
        "tested_on": {**_TEXT, "description": "a digest of the test part; empty where nobody said"},
        "converged": {
            **_or_null(_TRUTH),
            "description": "of all that was fitted; null where nothing was, or nobody said",
        },
        "trainings": _list(_training()),
    }
    return _object({**more, **required}, optional)


def score_schema() -> Schema:
    """Return the schema of score.json."""
    return _score({"format_version": {"const": score_run.FORMAT_VERSION}})


def _rung() -> Schema:
    return _object({"over": {"enum": list(OVER)}, "at": _NUMBER, "number": _COUNT, "of": _COUNT})


def _state() -> Schema:
    return _object({}, {"recipe": _TEXT, "score": _TEXT, "inputs": _TEXTS_BY_KEY, "versions": _TEXT})


def _files() -> Schema:
    return _list(_object({"path": _TEXT, "sha256": _SHA256}))


def sweep_schema() -> Schema:
    """Return the schema of sweep.json."""
    counts = dict.fromkeys(("compared", "went_on", "seeds"), _COUNT)
    means = dict.fromkeys(("mean", "last"), _or_null(_NUMBER))
    entry = {
        "overrides": _TEXTS_BY_KEY,
        "inner": {**_TEXTS_BY_KEY, "description": "the keys that the named variant sets"},
        "control": _or_null(_TEXT),
        "key": _TEXT,
        "checksum": {"anyOf": [_CHECKSUM, {"const": ""}]},  # empty where it cannot be planned
        "trainable_parameters": _or_null(_COUNT),
        "status": {"enum": ["open", DONE, FAILED, PRUNED]},
        "verdict": _or_null(verdict_schema()),
        "score": _or_null(_score({})),
        "problems": _list(_TEXT),
        "seconds": _or_null(_NUMBER),
        "artifacts": _files(),
        "warnings": _list(_TEXT),
        "words": _list(_TEXT),
        "state": _state(),
        "stale": _list(_TEXT),
        "rung": _or_null(_rung()),
        "stop": _or_null(_object({**counts, "place": _or_null(_COUNT), **means, "tied": _or_null(_TRUTH)})),
    }
    left_out = _object({"overrides": _TEXTS_BY_KEY, "control": _or_null(_TEXT), "reasons": _list(_TEXT)})
    shown = {key: _or_null(_TEXT) for key in ("x", "title", "against", "failed")}
    settings = _object({}, {**shown, "about": _by_name(_list(_TEXT))})
    required = {"name": _TEXT, "settings": settings, "variants": _list(_object(entry)), "left_out": _list(left_out)}
    return _add_version(variant.FORMAT_VERSION, required)


def variant_schema() -> Schema:
    """Return the schema of variant.json, which says a process of a sweep what to run."""
    required: Mapping[str, Schema] = {
        "overrides": _TEXTS_BY_KEY,
        "fixed": _TEXTS_BY_KEY,
        "control": _or_null(_TEXT),
        "checksum": {"anyOf": [_CHECKSUM, {"const": ""}]},  # empty where it cannot be planned
        "words": _list(_TEXT),
        "state": _state(),
        "recipe": {"type": "object"},
    }
    return _add_version(variant.FORMAT_VERSION, required, {"rung": _rung()})


def result_schema() -> Schema:
    """Return the schema of result.json, which says what a variant of a sweep came to."""
    version, seconds = {"const": variant.FORMAT_VERSION}, {"seconds": _NUMBER}
    done = {"checksum": _CHECKSUM, "verdict": verdict_schema(), "score": _or_null(_score({})), "artifacts": _files()}
    failed: Mapping[str, Schema] = {"problems": _list(_TEXT), "exit": _COUNT}
    report = _object({"epoch": _COUNT, "value": _or_null(_NUMBER), "higher_is_better": _TRUTH})
    judged = {"epochs": _list(report), "by": _TEXT}
    wrote = {"wrote": _list(_TEXT), "seal": {**_SHA256, "description": "of everything else here"}}
    both: list[Any] = [
        _object({"format_version": version, "status": {"const": status}, **seconds, **more}, {**wrote, **optional})
        for status, more, optional in (
            (DONE, done, {"trainable_parameters": _COUNT, **judged}),
            (FAILED, failed, judged),
            (PRUNED, judged, {}),
        )
    ]
    return {"oneOf": both}


def errors_schema() -> Schema:
    """Return the schema of what a command with ``--json`` prints where it fails."""
    problem = _object({"where": _TEXT, "what": _TEXT, "fix": _TEXT, "place": _TEXT})
    return _add_version(1, {"error": _TEXT, "status": _COUNT, "problems": _list(problem)})
