"""What a comparison of two sets of weights found, as plain data."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from transferpipe.planning.model import SettingsCompared
from transferpipe.text.collapse import counted
from transferpipe.values.difference import ValueDifference
from transferpipe.weights.name import WeightName

# Raised when a reader of the JSON would misread what it knew; keys that are only added leave it as it is.
FORMAT_VERSION = 1
Status = Literal["equal", "changed", "dtype", "shape", "only in A", "only in B", "unreadable", "left out"]
EQUAL: Status = "equal"
CHANGED: Status = "changed"
DTYPE: Status = "dtype"
SHAPE: Status = "shape"
ONLY_A: Status = "only in A"
ONLY_B: Status = "only in B"
UNREADABLE: Status = "unreadable"
LEFT_OUT: Status = "left out"
BY_NAME, BY_MAPPING = "by name", "by the mapping"
_NO_DIFFERENCE = (EQUAL, LEFT_OUT)


@dataclass(frozen=True)
class WeightDifference:
    """One weight of A, of B, or of both.

    Attributes:
        status: ``equal`` bit for bit, ``changed``, another ``dtype`` or ``shape``, ``only in A``, ``only in B``,
            ``unreadable`` on one side, or ``left out`` because the mapping says so.
        a: its name in A; several where a mapping makes one weight of them; empty where A has none.
        b: its name in B; several in the same way.
        shape_a: the shape of A's value, after a mapping's transforms; None where A has none.
        shape_b: that of B's.
        dtype_a: the dtype of A's value, after a mapping's transforms; empty where A has none.
        dtype_b: that of B's.
        values: how the values differ; None where they do not, or cannot be compared.
        note: why something could not be compared, or was left out.
    """

    status: Status
    a: tuple[str, ...] = ()
    b: tuple[str, ...] = ()
    shape_a: tuple[int, ...] | None = None
    shape_b: tuple[int, ...] | None = None
    dtype_a: str = ""
    dtype_b: str = ""
    values: ValueDifference | None = None
    note: str = ""

    @property
    def name(self) -> str:
        """The name in B, or that in A where B has none."""
        return " + ".join(self.b or self.a)

    @property
    def layer(self) -> str:
        """The layer that holds the weight; empty for the root."""
        return WeightName((self.b or self.a)[0]).layer

    def to_data(self) -> dict[str, Any]:
        """Return it as mappings, lists, texts and numbers."""
        # What is empty says nothing, and of thousands of weights would be most of the text.
        data: dict[str, Any] = {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
        return {k: v for k, v in data.items() if v not in (None, "", [])}


@dataclass(frozen=True)
class ComparedSide:
    """One of the two sides.

    Attributes:
        label: its path, or the builder's call.
        format: the format of the file; ``model`` for a built model.
        weights: how many weights it has.
        parameters: how many numbers these have together.
        others: how many entries beside weights it has (optimizer slots, counters), which are not compared.
    """

    label: str
    format: str
    weights: int
    parameters: int
    others: int = 0


@dataclass(frozen=True, repr=False)
class Diff:
    """How B differs from A. Print it, ask `if diff:` whether both are equal, or look at its rows.

    Attributes:
        a: what A is.
        b: what B is.
        rows: every weight, in B's order; what only A has comes last.
        settings: how the settings of the layers compare that have weights in common.
        paired: how it was found what belongs together: `BY_NAME`, by name below a layer that holds all of one side, or
            `BY_MAPPING`.
    """

    a: ComparedSide
    b: ComparedSide
    rows: tuple[WeightDifference, ...] = field(repr=False)
    settings: SettingsCompared = field(default_factory=SettingsCompared, repr=False)
    paired: str = BY_NAME

    @property
    def equal(self) -> bool:
        """Whether all weights are equal, bit for bit, and no setting differs."""
        return self.weights_equal and not self.settings.differences

    @property
    def weights_equal(self) -> bool:
        """Whether both have the same weights and all are equal, bit for bit."""
        return all(row.status in _NO_DIFFERENCE for row in self.rows)

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """How many weights there are of each status."""
        return dict(Counter(row.status for row in self.rows))

    def __bool__(self) -> bool:
        return self.equal

    def __repr__(self) -> str:
        counts = ", ".join(f"{count:,} {status}" for status, count in self.counts.items()) or "no weights"
        differing = len(self.settings.differences)
        settings = f"; settings: {counted(differing, 'difference')}" if differing else ""
        return f"<Diff {self.a.label}, {self.b.label}: {counts}{settings}>"

    def __str__(self) -> str:
        # Imported here: the table reads this module.
        from transferpipe.differences.table import diff_text

        return diff_text(self)

    def _repr_html_(self) -> str:
        from transferpipe.differences.table import diff_html

        return diff_html(self)

    def to_data(self) -> dict[str, Any]:
        """Return everything as mappings, lists, texts and numbers; numbers that JSON has not are texts."""
        return {
            "format_version": FORMAT_VERSION,
            "equal": self.equal,
            "a": dataclasses.asdict(self.a),
            "b": dataclasses.asdict(self.b),
            "paired": self.paired,
            "counts": dict(self.counts),
            "weights": [row.to_data() for row in self.rows],
            "settings": {
                "compared": self.settings.compared,
                "differing": self.settings.differing,
                "not_compared": dict(self.settings.not_compared),
                "differences": [dataclasses.asdict(d) for d in self.settings.differences],
            },
        }

    def to_json(self) -> str:
        """Return `to_data` as JSON."""
        # NaN is no JSON: strict readers refuse it, and `_plain` has made a text of it.
        return json.dumps(self.to_data(), indent=1, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, ValueDifference):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return (
        str(value) if isinstance(value, complex) or (isinstance(value, float) and not math.isfinite(value)) else value
    )
