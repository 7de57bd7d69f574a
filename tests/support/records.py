"""Everything that a run or a sweep leaves, against the JSON Schemas that we print."""

import functools
import json

import jsonschema

from transferpipe.show.schemas import SCHEMAS, read_schema

FILES = {f"{kind}.json": kind for kind in SCHEMAS if kind not in ("recipe", "errors")}


@functools.cache
def validator(kind):
    """Return what tells whether data is of a kind."""
    return jsonschema.Draft7Validator(read_schema(kind))


def faults(kind, data):
    """Return what is wrong with data that should be of a kind."""
    return [f"{'/'.join(map(str, e.absolute_path))}: {e.message[:300]}" for e in validator(kind).iter_errors(data)]


def records_in(folder, since=0):
    """Yield the records below a folder that were written after a time in nanoseconds: path, kind, content."""
    for path in sorted(folder.rglob("*.json")):
        if path.name in FILES and path.stat().st_mtime_ns >= since:
            yield path, FILES[path.name], json.loads(path.read_text(encoding="utf-8"))


def check_records(folder, since=0):
    """Check all of them, and return of which kinds they are."""
    kinds = set()
    for path, kind, data in records_in(folder, since):
        assert faults(kind, data) == [], path
        kinds.add(kind)
    return kinds
