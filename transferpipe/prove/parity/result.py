"""What a comparison of two models' outputs found, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from transferpipe.text.collapse import counted

PASS: Final = "pass"  # noqa: S105 (a verdict)
FAIL: Final = "fail"
INCONCLUSIVE: Final = "inconclusive"
FILE_ADVICE = "give inputs that the model accepts: verify: {parity: {..., inputs: x.npz}}"


@dataclass(frozen=True)
class Compared:
    """One output, or the output of one pair of layers.

    Attributes:
        name: the target's name of it.
        reference: the original's.
        difference: the largest absolute difference; infinite where shapes differ or one side is not finite.
        tolerance: how large it may be.
        scale: the largest absolute value expected.
        status: ``equal``, ``differs``, or ``not compared``.
        reason: why it was not compared, or what differs beside values.
    """

    name: str
    reference: str
    difference: float
    tolerance: float
    scale: float
    status: Literal["equal", "differs", "not compared"]
    reason: str = ""


@dataclass(frozen=True, repr=False)
class Parity:
    """Whether two models compute the same.

    Attributes:
        verdict: ``pass``, ``fail`` or ``inconclusive``.
        against: what the outputs were compared with, in words.
        inputs: what both were given, in words.
        entries: what was compared, in the order in which the network computes; outputs of the model last.
        first: the name of the first that differs.
        cause: the likely cause, in words; empty where none was found.
        reason: why the verdict is not ``pass``.
        details: the check as the recipe has it, and digests of its files, so that it can be repeated.
    """

    verdict: Literal["pass", "fail", "inconclusive"]
    against: str
    inputs: str
    entries: tuple[Compared, ...] = ()
    first: str | None = None
    cause: str = ""
    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def compared(self) -> int:
        """How many outputs were compared."""
        return sum(e.status != "not compared" for e in self.entries)

    @property
    def agreement(self) -> str:
        """What a pass rests on: how many outputs are equal, and what differs in between and is gone at the end."""
        differing = [e for e in self.entries if e.status == "differs"]
        equal = self.compared - len(differing)
        same = f"{counted(equal, 'output')} equal{'s' * (equal == 1)} those of {self.against}, {self.inputs}"
        if not differing:
            return same
        verb = "differ" if len(differing) > 1 else "differs"
        first = f"{differing[0].name} by {differing[0].difference:.2g}"
        return f"{same}; {len(differing)} in between {verb} and the end does not: {first}"

    @property
    def headline(self) -> str:
        """The verdict in one line."""
        if self.verdict == PASS:
            return f"pass: {self.agreement}"
        return f"{self.verdict}: {self.reason}"

    def to_data(self) -> dict[str, Any]:
        """Return it as mappings, lists, texts and numbers; numbers that JSON has not are texts."""
        data = asdict(self)
        # `v - v == 0` is false of NaN and infinity alone, which JSON cannot hold.
        data["entries"] = [
            {k: (v if not isinstance(v, float) or v - v == 0 else str(v)) for k, v in asdict(e).items()}
            for e in self.entries
        ]
        return data

    def __repr__(self) -> str:
        return f"<Parity {self.headline}>"

    def __str__(self) -> str:
        # Imported here: `show` reads results, and one is useful without it.
        from transferpipe.prove.parity.table import parity_text

        return parity_text(self)

    def _repr_html_(self) -> str:
        from transferpipe.prove.parity.table import parity_html

        return parity_html(self)
