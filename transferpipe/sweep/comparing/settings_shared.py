"""The settings of two sweeps next to each other: which are the same, which only one has, and what is fixed in each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.comparing.leaderboard import varying_keys
from transferpipe.sweep.record import SweepRecord

Place = tuple[str | None, tuple[tuple[str, str], ...]]
"""The control that it is, if it is one, and what sets it apart."""
Settings = tuple[Mapping[str, str], ...]


def present_in(record: SweepRecord) -> list[Entry]:
    """Return the entries but for results of an earlier recipe, and settings that were stopped before the last rung."""
    return [e for e in record.entries if not e.stale and (e.rung is None or e.rung.is_last)]


def varying_in(sweeps: Sequence[Sequence[Entry]]) -> list[str]:
    """Return every key that varies within any of the sweeps."""
    return list(
        dict.fromkeys(k for entries in sweeps for k in varying_keys([e.overrides for e in entries if not e.control]))
    )


def place_of(entry: Entry, keys: Sequence[str]) -> Place:
    """Return where an entry stands, by those `keys` that its command named."""
    return entry.control, tuple((k, entry.overrides[k]) for k in keys if k in entry.overrides)


def only_in(one: Collection[Place], other: Collection[Place]) -> tuple[Settings, Settings]:
    """Return the settings that only the first, and only the second has."""
    mine, theirs = (
        tuple({**dict(place[1]), **({"control": place[0]} if place[0] else {})} for place in group if place not in rest)
        for group, rest in ((one, other), (other, one))
    )
    return mine, theirs


def find_changed_settings(
    one: Sequence[Entry], other: Sequence[Entry], varying: Sequence[str]
) -> dict[str, tuple[str, str]]:
    """Return what is fixed within each sweep and differs between them: by key, the two values."""
    fixed = [_find_fixed(entries) for entries in (one, other)]
    keys = [key for key in dict.fromkeys([*fixed[0], *fixed[1]]) if key not in varying and key != "seed"]
    pairs = {key: (fixed[0].get(key, ""), fixed[1].get(key, "")) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _find_fixed(entries: Sequence[Entry]) -> dict[str, str]:
    """Return what all variants have in common."""
    own = [e.overrides for e in entries if not e.control]
    return {k: v for k, v in own[0].items() if all(o.get(k) == v for o in own)} if own else {}
