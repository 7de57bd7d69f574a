"""Plans from their data, such as that of plan.json: the way back from `Plan.to_data`, also of earlier formats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transferpipe.planning.model import (
    Adaptation,
    AssignedEntry,
    Assignment,
    ChosenUse,
    Exported,
    Freezing,
    Kept,
    Optimizer,
    OptimizerArray,
    PlanWarning,
    SettingDifference,
    SettingsCompared,
    SourceRef,
    SourceWeight,
    StateMove,
    TensorPart,
    UnitChoice,
)
from transferpipe.planning.plan import FORMAT_VERSION, Plan
from transferpipe.recipe.model import Choice, Edit


def plan_from_data(data: Mapping[str, Any]) -> Plan:
    """Return the plan that `Plan.to_data` wrote.

    Plans of format 1 have no `format_version`; what adapts a source's layout is among their transforms.

    Raises:
        KeyError, TypeError, ValueError: the data is not that of a plan, or of a newer version's.
    """
    version = data.get("format_version", 1)
    if version not in range(1, FORMAT_VERSION + 1):
        raise ValueError(f"format_version is {version!r}; this version of transferpipe reads 1 to {FORMAT_VERSION}")
    whole = {k: v for k, v in data.items() if k not in ("checksum", "format_version")}
    whole["assignments"] = tuple(_assignment(a) for a in data["assignments"])
    whole["kept"] = tuple(Kept(**{**k, "shape": tuple(k["shape"])}) for k in data["kept"])
    whole["source_weights"] = tuple(SourceWeight(**w) for w in data["source_weights"])
    whole["edits"] = tuple(_edit(e) for e in data["edits"])
    freezing: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in dict(data["freezing"]).items()}
    whole["freezing"] = Freezing(**freezing)
    whole["save"] = tuple(data["save"])
    whole["save_tensors"] = tuple(_tensor(t) for t in data.get("save_tensors", ()))
    whole["save_tied"] = tuple(map(tuple, data.get("save_tied", ())))
    whole["upgraded"] = tuple(data.get("upgraded", ()))
    whole["state"] = tuple(StateMove(**m) for m in data.get("state", ()))
    whole["units"] = tuple(_unit_choice(c) for c in data.get("units", ()))
    whole["optimizer"] = _optimizer(data.get("optimizer", {}))
    whole["warnings"] = tuple(warning_from_data(w) for w in data["warnings"])
    if "settings" in data:  # plans of earlier versions have none
        differences = tuple(SettingDifference(**d) for d in data["settings"]["differences"])
        whole["settings"] = SettingsCompared(**{**data["settings"], "differences": differences})
    return Plan(**whole)


def warning_from_data(data: Any) -> PlanWarning:
    """Return the warning that `PlanWarning.to_data` wrote, or the text that earlier versions wrote into manifests.

    Raises:
        TypeError: the data is not that of a warning.
    """
    if isinstance(data, str):
        return PlanWarning("", "", data)
    return PlanWarning(**data)


def _optimizer(data: Mapping[str, Any]) -> Optimizer:
    slots = tuple(
        OptimizerArray(**{**s, "shape": tuple(s["shape"]), "transforms": tuple(s["transforms"])})
        for s in data.get("slots", ())
    )
    return Optimizer(**{**data, "slots": slots})


def _tensor(data: Mapping[str, Any]) -> Exported:
    parts = tuple(TensorPart(part["weight"], tuple(part["steps"])) for part in data["parts"])
    return Exported(**{**data, "shape": tuple(data["shape"]), "parts": parts})


def _unit_choice(data: Mapping[str, Any]) -> UnitChoice:
    def entry(held: Mapping[str, Any]) -> AssignedEntry:
        return AssignedEntry(tuple(_source_ref(s) for s in held["sources"]), tuple(held["steps"]))

    uses = []
    for use in data["uses"]:
        reference = use["reference"]
        other = entry(reference) if reference is not None else None
        uses.append(ChosenUse(**{**use, "entry": entry(use["entry"]), "reference": other}))
    numbers = {key: tuple(data.get(key, ())) for key in ("indices", "bands")}
    return UnitChoice(**{**data, "uses": tuple(uses), **numbers})


def _source_ref(data: Mapping[str, Any]) -> SourceRef:
    return SourceRef(**{**data, "shape": tuple(data["shape"])})


def _edit(data: Mapping[str, Any]) -> Edit:
    index = tuple(tuple(entry) if isinstance(entry, list) else entry for entry in data["index"])
    choice = data.get("choice")
    if choice is not None:
        choice = Choice(**{**choice, "indices": tuple(choice["indices"])})
    value = tuple(data["value"]) if isinstance(data["value"], list) else data["value"]
    files = tuple((path, digest) for path, digest in data.get("files", ()))
    return Edit(**{**data, "index": index, "choice": choice, "value": value, "files": files})


def _assignment(data: Mapping[str, Any]) -> Assignment:
    sources = tuple(_source_ref(s) for s in data["sources"])
    adapter = tuple(Adaptation(a["count"], tuple(a["transforms"])) for a in data.get("adapter", ()))
    given = {"sources": sources, "shape": tuple(data["shape"]), "adapter": adapter}
    given["items"] = tuple(tuple(item) for item in data.get("items", ()))
    return Assignment(**{**data, **given, "transforms": tuple(data["transforms"])})
