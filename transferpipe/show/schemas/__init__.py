"""JSON Schemas of what users write and of what transferpipe writes: `transferpipe schema KIND` prints one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from transferpipe.show.schemas import records
from transferpipe.show.schemas.recipe import recipe_schema

DRAFT = "http://json-schema.org/draft-07/schema#"  # the newest that editors of YAML know as a whole
SCHEMAS: Mapping[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "recipe": ("a recipe file", recipe_schema),
    "plan": ("plan.json, and what plan --json prints", records.plan_schema),
    "manifest": ("manifest.json", records.manifest_schema),
    "score": ("score.json", records.score_schema),
    "sweep": ("sweep.json", records.sweep_schema),
    "variant": ("variant.json in the folder of a sweep's variant", records.variant_schema),
    "result": ("result.json in the folder of a sweep's variant", records.result_schema),
    "errors": ("what a command with --json prints where it fails", records.errors_schema),
}
"""By kind, what the schema is of and what makes it."""


def read_schema(kind: str) -> dict[str, Any]:
    """Return the JSON Schema of one `kind` of file, a key of `SCHEMAS`."""
    about, make = SCHEMAS[kind]
    return {"$schema": DRAFT, "title": f"transferpipe: {about}", **make()}
