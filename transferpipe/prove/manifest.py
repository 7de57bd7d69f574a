"""The manifest: what a run did, to the last weight, as JSON beside the model."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from transferpipe.errors import FileError, Problem
from transferpipe.files.os_errors import cannot_be_read
from transferpipe.planning.model import Assignment
from transferpipe.planning.plan import Plan
from transferpipe.planning.reading.check_plan import check_plan
from transferpipe.planning.reading.read_plan import plan_from_data
from transferpipe.weights.spec import Catalog

MANIFEST, PLAN = "manifest.json", "plan.json"
_PACKAGES = ("transferpipe", "keras", "tensorflow", "numpy", "h5py", "hydra-core")
SEAL = "seal"
FORMAT_VERSION = 2
"""Of manifest.json: 2 says who asked for the run and when; earlier ones have no version."""


def json_lines(data: Mapping[str, Any]) -> str:
    """Return `data` as JSON with a line for every entry of its lists and mappings: to be read, compared and searched.

    >>> print(json_lines({"name": "a", "weights": [{"w": 1}, {"w": 2}], "none": []}))
    {
     "name": "a",
     "weights": [
      {"w": 1},
      {"w": 2}
     ],
     "none": []
    }
    """
    return "{\n" + ",\n".join(f" {json.dumps(key)}: {_lines(value)}" for key, value in data.items()) + "\n}"


def _lines(value: Any) -> str:
    if value and isinstance(value, list):
        return f"[\n  {_entries(value)}\n ]"
    if value and isinstance(value, Mapping):
        return "{\n" + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items()) + "\n }"
    return json.dumps(value)


_BETWEEN = "\0 the next line"


def _entries(values: list[Any]) -> str:
    """Return the values of a list with a line for each: of thousands, encoding them one by one is most of the time."""
    between = json.dumps(_BETWEEN)
    lined = [_BETWEEN] * (2 * len(values) - 1)
    lined[::2] = values
    text = json.dumps(lined)[1:-1]
    if text.count(f", {between}, ") == len(values) - 1:
        return text.replace(f", {between}, ", ",\n  ")
    return ",\n  ".join(map(json.dumps, values))  # somebody else writes this very text


def seal(manifest: Mapping[str, Any], plan_text: str) -> dict[str, Any]:
    """Return `manifest` with the digest of the text of plan.json, and with its own."""
    return with_seal({**manifest, "plan_sha256": hashlib.sha256(plan_text.encode()).hexdigest()})


def with_seal(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with its own digest, so that what is changed in it later is noticed."""
    return {**record, SEAL: _digest(record)}


def is_sealed(record: Mapping[str, Any]) -> bool:
    """Tell whether nothing in a record has changed since it was sealed."""
    return record.get(SEAL) == _digest({k: v for k, v in record.items() if k != SEAL})


def _digest(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a run's result."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    from importlib import metadata  # with what reads mail; a plan records nothing

    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _transforms(a: Assignment) -> dict[str, Any]:
    """Return what is done to the values: to those of each source before the merge, and to all."""
    several = bool(a.items) or (len(a.adapter) > 1 and any(adaptation.transforms for adaptation in a.adapter))
    after = [*([a.merge] if a.merge is not None else []), *(a.transforms if several else a.steps)]
    each = {"adapted": [list(entry.steps) for entry in a.entries]} if several else {}
    return {**each, **({"transforms": after} if after else {})}


def weight_entries(
    plan: Plan, catalog: Catalog, digests: Mapping[str, str], casts: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Return one entry a target weight, in the order of the network.

    Each has name, place, status, rule, sources, transforms, shape, dtype, digest.
    """
    entries: list[dict[str, Any]] = []
    for a in plan.assignments:
        entry: dict[str, Any] = {
            "name": a.target,
            "status": "assigned",
            "rule": a.rule,
            "shape": list(a.shape),
            "dtype": a.dtype,
        }
        entry["sources"] = [f"{r.source}:{r.name}" for r in a.sources]
        entry |= _transforms(a)
        if a.target in casts:
            entry["cast"] = {"from": a.sources[0].dtype, "largest_relative_error": casts[a.target]}
        entries.append(entry)
    for k in plan.kept:
        kept = {"name": k.target, "status": "kept", "rule": k.rule, "reason": k.reason}
        entries.append({**kept, "shape": list(k.shape), "dtype": k.dtype})
    for entry in entries if plan.quantize else ():
        weight = catalog[entry["name"]]
        if (list(weight.shape), weight.dtype) != (entry["shape"], entry["dtype"]):
            entry |= {"quantized": plan.quantize, "shape": list(weight.shape), "dtype": weight.dtype}
    ours = {entry["name"] for entry in entries}
    for weight in (w for w in catalog if w.name not in ours):  # scales
        made = {"name": weight.name, "status": "made", "rule": "quantize", "quantized": plan.quantize}
        entries.append({**made, "shape": list(weight.shape), "dtype": weight.dtype})
    for entry in entries:
        if edits := plan.edits_of.get(entry["name"]):
            entry["edits"] = [e.name for e in edits]
        where = catalog[entry["name"]].where
        others = [place.where for place in catalog.places_of(entry["name"]) if place.where != where]
        entry |= {"where": where, **({"also": others} if others else {})}
        entry["digest"] = f"xxh3:{digests[entry['name']]}"
    order = {weight.name: place for place, weight in enumerate(catalog)}
    return sorted(entries, key=lambda entry: order.get(entry["name"], len(order)))


def read_plan(path: Path) -> Plan:
    """Return the plan in the file at `path`, or in that of the run folder at `path`.

    Raises:
        FileError: there is none, or it is not one that this version reads.
    """
    file = path / PLAN if path.is_dir() else path
    data = read_json(file)
    try:
        plan = plan_from_data(data)
        check_plan(plan)
        return plan
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        what = f"is not a plan: {type(error).__name__}: {error}"
        fix = "give what `transferpipe plan --json` prints, the plan.json of a run, or its folder"
        raise FileError(Problem(str(file), what, fix)) from error


def read_json(path: Path, newest: int | None = None) -> dict[str, Any]:
    """Return the JSON mapping in a run folder's file.

    Args:
        path: the file.
        newest: the last `format_version` that can be read, where the caller does not look itself; the first had none.

    Raises:
        FileError: it is missing or damaged, or of a newer version.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise FileError(Problem(str(path), "is not an ordinary file", "the run folder is damaged: run again"))
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        fix = "give the folder of a finished run: it holds plan.json and manifest.json"
        if not path.parent.is_dir():
            raise FileError(Problem(str(path.parent), "there is no such folder", fix)) from error
        raise FileError(Problem(str(path), "there is no such file", fix)) from error
    except OSError as error:
        raise cannot_be_read(path, error) from error
    except (ValueError, RecursionError) as error:
        raise FileError(
            Problem(str(path), f"cannot be read: {error}", "the run folder is damaged: run again")
        ) from error
    if not isinstance(data, dict):
        raise FileError(Problem(str(path), "does not hold a mapping", "the run folder is damaged: run again"))
    version = data.get("format_version", 1)
    if newest is not None and version not in range(1, newest + 1):
        what = f"has format_version {version!r}; this version of transferpipe reads 1 to {newest}"
        raise FileError(Problem(str(path), what, "pip install --upgrade transferpipe"))
    return data
