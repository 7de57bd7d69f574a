"""One variant of a sweep: a composed recipe, what sets it apart, and the identity of its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from transferpipe.errors import FileError, Problem
from transferpipe.files.os_errors import cannot_be_written
from transferpipe.files.publishing.atomic import write_text
from transferpipe.models.opened import Prepared
from transferpipe.planning.advice.warned import shorten_warnings
from transferpipe.prove.manifest import read_json
from transferpipe.prove.provenance import yaml_dumper
from transferpipe.sweep.identity.digests import digest_of
from transferpipe.sweep.identity.inputs import inputs_of, versions_of
from transferpipe.sweep.identity.state import State
from transferpipe.sweep.running.rung import Rung, rung_from_data, to_data
from transferpipe.weights.file_source import FileSource

VARIANT = "variant.json"
FORMAT_VERSION = 2
"""Of sweep.json, and of variant.json and result.json in the folders of variants; earlier ones have no version."""
SEED = "seed"
NAMED = "variant"
"""The key under which the name of a named variant stands."""


@dataclass(frozen=True)
class Variant:
    """What is to be run.

    Attributes:
        recipe: the composed recipe as plain data.
        overrides: what sets it apart from the other variants of its command, by key, as written.
        control: the name of the control that it is; None for an ordinary variant.
        fixed: what the command says of all its variants: it may set them apart from those of another command.
        own: a network trained on the target's own task, as a source; None if the sweep names none.
        words: the overrides that compose its recipe, or that of the variant of which it is a control.
        state: what that came to when it was planned; empty where nobody looked.
        rung: how far its score trains, where the sweep goes on with the better ones only.
    """

    recipe: Mapping[str, Any] = field(repr=False)
    overrides: Mapping[str, str] = field(default_factory=dict)
    control: str | None = None
    fixed: Mapping[str, str] = field(default_factory=dict)
    own: Mapping[str, Any] | None = field(default=None, repr=False)
    words: tuple[str, ...] = field(default=(), repr=False)
    state: State = field(default_factory=dict, repr=False)
    rung: Rung | None = None

    @property
    def settings(self) -> dict[str, str]:
        """What is fixed and what sets it apart."""
        return {**self.fixed, **self.overrides}

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
        warnings: what is legal in its plan and probably not meant.
    """

    variant: Variant
    checksum: str
    key: str
    size: tuple[int, int]
    warnings: tuple[str, ...] = ()

    def to_data(self) -> dict[str, Any]:
        """Return it as plain data."""
        assigned, kept = self.size
        said = {"overrides": dict(self.variant.settings), "control": self.variant.control, "label": self.variant.label}
        counts = {"assigned": assigned, "kept": kept, "warnings": list(self.warnings)}
        return {**said, "checksum": self.checksum, "key": self.key, **counts}


def planned(variant: Variant, prepared: Prepared, written: Collection[str] = ()) -> Planned:
    """Return `variant` with what its plan says.

    Args:
        variant: the variant.
        prepared: its plan, with everything opened.
        written: texts in it that name files which its score writes.
    """
    plan = prepared.plan
    decisive = {
        "plan": plan.checksum,  # the files to save and the seed are part of it
        "score": variant.recipe.get("score"),
        "verify": _write_verify(variant.recipe.get("verify")),
        "inputs": [*_inputs(prepared), *inputs_of(variant.recipe, written)],
        "versions": versions_of(variant.recipe),
    }
    if prepared.recipe.strict:  # a result that came with warnings is none of a run that refuses them
        decisive["strict"] = sorted(prepared.recipe.allow)
    text = json.dumps(decisive, sort_keys=True, default=str)
    # Named by what it is made of: the same variant of any later command finds its own folder.
    key = hashlib.sha256(text.encode()).hexdigest()[:10]
    warnings = tuple(shorten_warnings(plan.warnings))
    return Planned(variant, plan.checksum, f"v{key}", (len(plan.assignments), len(plan.kept)), warnings)


def _write_verify(verify: Any) -> Any:
    """Return `verify` as recipes of earlier versions have it, which write no null for what is not asked for."""
    return {k: v for k, v in verify.items() if v is not None} if isinstance(verify, Mapping) else verify


def _inputs(prepared: Prepared) -> list[Any]:
    """Return what tells that a file is still the one that a finished variant was made of: what it contains."""
    target = getattr(prepared.opened.target, "source", None)
    found = [*prepared.opened.sources.values(), *([target] if target is not None else [])]
    return [
        [s.label, *([s.sha256] if s.sha256 else map(digest_of, s.files))] for s in found if isinstance(s, FileSource)
    ]


def write_variant(folder: Path, planned: Planned) -> None:
    """Leave in `folder` what a process that runs the variant needs to know.

    Raises:
        FileError: it cannot be written.
    """
    variant = planned.variant
    data = {
        "format_version": FORMAT_VERSION,
        "overrides": dict(variant.overrides),
        "fixed": dict(variant.fixed),
        "control": variant.control,
        "checksum": planned.checksum,
        "words": variant.words,
        "state": variant.state,
        **({"rung": to_data(variant.rung)} if variant.rung else {}),
        "recipe": variant.recipe,
    }
    # As Hydra itself leaves them beside a result.
    hydra = {"config": variant.recipe, "overrides": [f"{k}={v}" for k, v in variant.settings.items()]}
    try:
        (folder / ".hydra").mkdir(exist_ok=True, parents=True)
    except OSError as error:
        raise cannot_be_written(folder, error) from error
    for name, content in hydra.items():
        write_text(
            folder / ".hydra" / f"{name}.yaml", yaml.dump(content, Dumper=yaml_dumper(), sort_keys=False), lasting=False
        )
    write_text(folder / VARIANT, json.dumps(data, indent=1), lasting=False)


def read_variant(folder: Path) -> tuple[Variant, str]:
    """Return the variant that `write_variant` left, and the checksum of its plan.

    Raises:
        FileError: there is none, or it is damaged.
    """
    data = read_json(folder / VARIANT, FORMAT_VERSION)
    try:
        variant = Variant(dict(data["recipe"]), dict(data["overrides"]), data["control"], dict(data["fixed"]))
        words, state = tuple(data.get("words", ())), dict(data.get("state", {}))
        rung = rung_from_data(data.get("rung"))
        return replace(variant, words=words, state=state, rung=rung), str(data["checksum"])
    except (KeyError, TypeError, ValueError) as error:
        what = f"is not what this version of transferpipe writes: {error}"
        raise FileError(Problem(str(folder / VARIANT), what, "run the sweep again")) from error
