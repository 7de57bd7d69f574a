"""Two sweeps without scores against each other: which variants both have, and whether plans and files are the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.comparing.settings_shared import (
    Place,
    find_changed_settings,
    only_in,
    place_of,
    present_in,
    varying_in,
)
from transferpipe.sweep.record import SweepRecord
from transferpipe.sweep.running.job import DONE
from transferpipe.sweep.variant import SEED


@dataclass(frozen=True)
class SharedVariant:
    """One variant in both sweeps.

    Attributes:
        setting: what sets it apart, by key, its seed among them.
        control: the name of the control that it is, if it is one.
        keys: the folders in which it lies in the two.
        statuses: what became of it in the two.
        same_plan: whether the checksums of the two plans agree.
        same_files: whether both saved the same bytes under the same names; None where one of them is not done.
    """

    setting: Mapping[str, str]
    control: str | None
    keys: tuple[str, str]
    statuses: tuple[str, str]
    same_plan: bool
    same_files: bool | None


@dataclass(frozen=True)
class TwoUnscored:
    """What two sweeps have in common, and what not.

    Attributes:
        names: what they are called.
        scored: the name of the one that has scores, where one has.
        shared: the variants in both.
        only: the settings that only the first, and only the second has.
        changed: what is fixed within each sweep and differs between them: by key, the two values.
    """

    names: tuple[str, str]
    scored: str | None
    shared: tuple[SharedVariant, ...]
    only: tuple[tuple[Mapping[str, str], ...], tuple[Mapping[str, str], ...]]
    changed: Mapping[str, tuple[str, str]]

    def to_data(self) -> dict[str, Any]:
        """Return it as mappings, lists, texts and numbers."""
        rows = [
            {"setting": dict(s.setting), "control": s.control, "a": s.keys[0], "b": s.keys[1],
             "status": list(s.statuses), "same_plan": s.same_plan, "same_files": s.same_files}
            for s in self.shared
        ]  # fmt: skip
        only = {name: [dict(s) for s in settings] for name, settings in zip("ab", self.only, strict=True)}
        head = {"a": self.names[0], "b": self.names[1], "score": None}
        return {**head, "changed": {k: list(v) for k, v in self.changed.items()}, "shared": rows, "only": only}


def compare_unscored(a: SweepRecord, b: SweepRecord) -> TwoUnscored:
    """Return how sweep `b` differs from sweep `a`, variant by variant, by their plans and what they saved."""
    present = [present_in(record) for record in (a, b)]
    keys = [*varying_in(present), SEED]
    one, other = ({place_of(entry, keys): entry for entry in entries} for entries in present)
    shared = tuple(_find_shared(place, one[place], other[place]) for place in one if place in other)
    scores = [any(e.value is not None for e in entries) for entries in present]
    scored = next((r.name for r, has in zip((a, b), scores, strict=True) if has), None)
    changed = find_changed_settings(present[0], present[1], keys)
    return TwoUnscored((a.name, b.name), scored, shared, only_in(one, other), changed)


def _find_shared(place: Place, one: Entry, other: Entry) -> SharedVariant:
    statuses = [str((e.result or {}).get("status", "pending")) for e in (one, other)]
    files = [{a["path"]: a["sha256"] for a in (e.result or {}).get("artifacts", ())} for e in (one, other)]
    same_files = files[0] == files[1] if statuses == [DONE, DONE] else None
    control, setting = place
    same_plan = one.checksum == other.checksum
    return SharedVariant(
        dict(setting), control, (one.key, other.key), (statuses[0], statuses[1]), same_plan, same_files
    )
