"""What KerasHub's own layer classes call their weights and keep in their attributes, read off small built models.

`python -m tests.kerashub_suite.run --write-classes` writes it to `transferpipe/weights/keras/hub_layers.json`, where it serves to
name the numbered weights in files that were written without anybody's keras_hub at hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TABLE = Path(__file__).parents[2] / "transferpipe" / "weights" / "keras" / "hub_layers.json"


def read_classes(models: Iterable[Any]) -> dict[str, dict[str, Any]]:
    """Return for each class of KerasHub its `weights`, one list for each way to hold them, and its `parts`.

    A weight is written as its name, a colon and the number of its axes. Parts are the classes of the layers that the
    class keeps in its attributes, whose leading underscores are left out.
    """
    from transferpipe.models.walk import walk

    found: dict[str, dict[str, Any]] = {}
    for model in models:
        walked = walk(model, "")
        specs = {spec.name: spec for spec in (*walked.catalog, *(d.spec for d in walked.catalog.doubles))}
        for group in walked.groups:
            owner = walked.owners[group.path]
            parent, _, attribute = group.path.rpartition("/")
            holder = walked.owners.get(parent)
            if holder is not None and attribute and type(holder).__module__.startswith("keras_hub."):
                parts = found.setdefault(type(holder).__name__, {"weights": [], "parts": {}})["parts"]
                kinds = parts.setdefault(attribute.lstrip("_"), [])
                kinds += [label] if (label := _label(owner, group, specs)) not in kinds else []
            if type(owner).__module__.startswith("keras_hub.") and (group.path or group.entries):
                entry = found.setdefault(type(owner).__name__, {"weights": [], "parts": {}})
                names = [f"{specs[name].own_name}:{len(specs[name].shape)}" for _, name in group.entries]
                if all(key.isdigit() for key, _ in group.entries) and names not in entry["weights"]:
                    entry["weights"].append(names)
    for entry in found.values():
        entry["weights"].sort()
        entry["parts"] = {a: sorted(k) for a, k in sorted(entry["parts"].items())}
    return dict(sorted(found.items()))


def _label(owner: Any, group: Any, specs: dict[str, Any]) -> str:
    """Return the class of a part, with its weights where the class and the shapes leave those open."""
    from transferpipe.weights.keras.layer_classes import BUILT_IN, weight_names

    name = type(owner).__name__
    names = tuple(specs[n].own_name for _, n in group.entries)
    shapes = [specs[n].shape for _, n in group.entries]
    known = name not in BUILT_IN.values() or not names or weight_names(name, None, shapes) == names
    return name if known else f"{name}:{','.join(names)}"


def write_table(found: dict[str, dict[str, Any]]) -> None:
    """Write the table, a class a line."""
    lines = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in found.items()]
    TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
