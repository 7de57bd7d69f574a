"""One variant of a sweep: a composed recipe, what sets it apart, and the identity of its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from transferpipe.errors import FileError, Problem
from transferpipe.execute.atomic import write_text
from transferpipe.execute.manifest import read_json
from transferpipe.execute.prepare import Prepared
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.stamp import stamps_of

VARIANT = "variant.json"
SEED = "seed"


@dataclass(frozen=True)
class Variant:
    """What is to be run.

    Attributes:
        recipe: the composed recipe as plain data.
        overrides: what sets it apart from the other variants, by key, as written; the seed is among them.
        control: the name of the control that it is; None for an ordinary variant.
    """

    recipe: Mapping[str, Any] = field(repr=False)
    overrides: Mapping[str, str] = field(default_factory=dict)
    control: str | None = None

    @property
    def label(self) -> str:
        """The variant as a command line would write it."""
        words = [f"control={self.control}"] if self.control else []
        return " ".join([*words, *(f"{k}={v}" for k, v in self.overrides.items())]) or "(as it is)"


@dataclass(frozen=True)
class Planned:
    """A variant with its plan made and thrown away again.

    Attributes:
        variant: the variant.
        checksum: its plan's.
        key: names its folder. Variants with one key would write the same and get the same number, so they share a run.
        size: how many weights are assigned, and how many are kept.
    """

    variant: Variant
    checksum: str
    key: str
    size: tuple[int, int]


def planned(variant: Variant, prepared: Prepared) -> Planned:
    """Return `variant` with what its plan says."""
    plan = prepared.plan
    decisive = {
        "plan": plan.checksum,
        "score": variant.recipe.get("score"),
        "verify": variant.recipe.get("verify"),
        "inputs": _inputs(prepared),
    }
    text = json.dumps(decisive, sort_keys=True, default=str)
    key = hashlib.sha256(text.encode()).hexdigest()[:10]
    return Planned(variant, plan.checksum, f"v{key}", (len(plan.assignments), len(plan.kept)))


def _inputs(prepared: Prepared) -> list[Any]:
    """Return what tells that a file is still the one that a finished variant was made of: its size and its time."""
    target = getattr(prepared.opened.target, "source", None)
    found = [*prepared.opened.sources.values(), *([target] if target is not None else [])]
    return [[s.label, *(stamp[1:] for stamp in stamps_of(s.files))] for s in found if isinstance(s, FileSource)]


def write_variant(folder: Path, planned: Planned) -> None:
    """Leave in `folder` what a process that runs the variant needs to know.

    Raises:
        FileError: it cannot be written.
    """
    data = {
        "overrides": dict(planned.variant.overrides),
        "control": planned.variant.control,
        "checksum": planned.checksum,
        "recipe": planned.variant.recipe,
    }
    write_text(folder / VARIANT, json.dumps(data, indent=1))
    # As Hydra itself leaves them beside a result.
    hydra = {"config": planned.variant.recipe, "overrides": [f"{k}={v}" for k, v in planned.variant.overrides.items()]}
    (folder / ".hydra").mkdir(exist_ok=True)
    for name, content in hydra.items():
        (folder / ".hydra" / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def read_variant(folder: Path) -> tuple[Variant, str]:
    """Return the variant that `write_variant` left, and the checksum of its plan.

    Raises:
        FileError: there is none, or it is damaged.
    """
    data = read_json(folder / VARIANT)
    try:
        return Variant(dict(data["recipe"]), dict(data["overrides"]), data["control"]), str(data["checksum"])
    except (KeyError, TypeError, ValueError) as error:
        what = f"is not what this version of transferpipe writes: {error}"
        raise FileError(Problem(str(folder / VARIANT), what, "run the sweep again")) from error
