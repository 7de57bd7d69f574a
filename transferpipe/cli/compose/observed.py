"""What a composition looked at: every file and folder that it asked about, and whether anything else decided it.

The same questions with the same answers give the same composition, so that one that was kept can be used again. This
module imports neither Hydra nor OmegaConf: it is what makes that possible.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path


def _digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _names(path: str) -> str:
    with os.scandir(path) as entries:
        return hashlib.sha256(repr(sorted((e.name, e.is_dir()) for e in entries)).encode()).hexdigest()


_QUESTIONS: Mapping[str, Callable[[str], str]] = {
    "digest": _digest,
    "names": _names,
    "is_file": lambda path: str(Path(path).is_file()),
    "is_folder": lambda path: str(Path(path).is_dir()),
    "real": lambda path: os.path.realpath(path),
}


_TIME = re.compile(r"\bnow\s*:")


@dataclass
class Observed:
    """What was looked at.

    Attributes:
        answers: of every question, by its name and the absolute path that it is about.
        others: what else decided the result, which nobody could ask again: it is not to be kept.
    """

    answers: dict[tuple[str, str], str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)


_OBSERVED: ContextVar[Observed | None] = ContextVar("observed", default=None)


@contextmanager
def observing() -> Iterator[Observed]:
    """Yield what is noted of all that is composed in the body."""
    observed = Observed()
    token = _OBSERVED.set(observed)
    try:
        yield observed
    finally:
        _OBSERVED.reset(token)


def note_path(question: str, path: str | os.PathLike[str]) -> None:
    """Note how the question is answered at present, if anybody observes."""
    if (observed := _OBSERVED.get()) is None:
        return
    where = str(Path(path).absolute())
    answer = answer_of(question, where)
    if answer is None or observed.answers.setdefault((question, where), answer) != answer:
        observed.others.append(f"{where}, which changed meanwhile")


def note_other(what: str) -> None:
    """Note that something decides the result that nobody can ask again, if anybody observes."""
    if (observed := _OBSERVED.get()) is not None:
        observed.others.append(what)


def note_time(text: str) -> None:
    """Note it if a text may choose by the time of day what it builds on."""
    if _TIME.search(text):
        note_other("the time")


def answer_of(question: str, path: str) -> str | None:
    """Return the answer of a question at present; None if there is none, as of a file that cannot be read."""
    ask = _QUESTIONS.get(question)
    try:
        return ask(path) if ask else None
    except (OSError, ValueError):
        return None
