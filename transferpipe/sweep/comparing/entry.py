"""One variant of a sweep as its table of contents keeps it: what was asked, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from transferpipe.execute.epoch_reports import EpochReport
from transferpipe.prove.verdict import Verdict, verdict_from_data
from transferpipe.sweep.identity.state import State
from transferpipe.sweep.running.job import PRUNED, Result, read_reported_epochs
from transferpipe.sweep.running.rung import Rung, Stop
from transferpipe.sweep.variant import SEED


@dataclass(frozen=True)
class Entry:
    """One variant of the sweep as its table of contents keeps it.

    Attributes:
        overrides: what its command said of it, by key.
        control: the name of the control that it is, if it is one.
        key: names its folder.
        checksum: its plan's.
        result: what it came to; None while it is not finished.
        words: the overrides that compose its recipe; empty where nobody knows.
        state: what that came to when it was planned.
        stale: what of that is not the same any more; such a result is not compared with those of today.
        warnings: what is legal and probably not meant, in its plan or in its values.
        rung: how far its score trained, where the sweep goes on with the better ones only.
        stop: why it goes no further than that.
    """

    overrides: Mapping[str, str]
    control: str | None
    key: str
    checksum: str
    result: Result | None = None
    words: tuple[str, ...] = field(default=(), repr=False)
    state: State = field(default_factory=dict, repr=False)
    stale: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=(), repr=False)
    rung: Rung | None = None
    stop: Stop | None = None

    def as_of(self, changed: Iterable[str]) -> Entry:
        """Return the entry with what is not the same any more."""
        return replace(self, stale=tuple(changed))

    @property
    def value(self) -> float | None:
        """Its score, if it has one."""
        score = (self.result or {}).get("score")
        return float(score["value"]) if score else None

    @property
    def test(self) -> float | None:
        """What its score reports of the test part, where another part ranks."""
        found = ((self.result or {}).get("score") or {}).get("test")
        return None if found is None else float(found)

    @property
    def reported(self) -> float | None:
        """Its number of the part that is reported: the same as its score where no other part ranks."""
        return self.value if self.test is None else self.test

    @property
    def ranked_by_test(self) -> bool:
        """Whether its score says that the part that is reported ranks, too."""
        return ((self.result or {}).get("score") or {}).get("part") == "test"

    @property
    def tested_on(self) -> str:
        """What tells the test part of its score from others; empty where nobody said."""
        return str(((self.result or {}).get("score") or {}).get("tested_on") or "")

    @property
    def verdict(self) -> Verdict | None:
        """What its run found; None where it is not done, or was done by a version that left none in the result."""
        try:
            return verdict_from_data((self.result or {})["verdict"])
        except (KeyError, TypeError, ValueError):
            return None

    @property
    def score_name(self) -> str | None:
        """What its score measures, if it has one."""
        score = (self.result or {}).get("score")
        return str(score.get("name", "score")) if score else None

    @property
    def trainable_parameters(self) -> int | None:
        """How many numbers of its model a training changes; None where it is not done, or nobody noted it."""
        count = (self.result or {}).get("trainable_parameters")
        return count if isinstance(count, int) else None

    @property
    def trainings(self) -> tuple[Mapping[str, Any], ...]:
        """How the trainings behind its score went, as `Trained.to_data` of `score.training.convergence` has them."""
        return tuple(((self.result or {}).get("score") or {}).get("trainings") or ())

    @property
    def converged(self) -> bool | None:
        """Whether all that was fitted for its score converged; None where nothing was, or nobody said."""
        found = ((self.result or {}).get("score") or {}).get("converged")
        return found if isinstance(found, bool) else None

    @property
    def pruned(self) -> EpochReport | None:
        """After which epoch a search ended its training, and with which value; None where it did not."""
        result = self.result or {}
        reports = read_reported_epochs(result) if result.get("status") == PRUNED else []
        return reports[-1] if reports else None

    @property
    def seed(self) -> str:
        """Its seed as written; empty where the recipe's own was taken."""
        return self.overrides.get(SEED, "")
