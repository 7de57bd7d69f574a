"""The one family of errors that a user can cause: what, where, both values, and how to fix it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar

from transferpipe.text.credentials import hide_credentials
from transferpipe.text.listing import and_more
from transferpipe.text.visible import visible

# A wrong key at the top makes hundreds of problems further down: what fits a screen shows the first, its cause.
_MOST_PROBLEMS = 20
# Longer than any path: what a stranger wrote without a space should not fill the screen.
_ENDLESS = re.compile(r"\S{4097,}")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        where: the place the user would look at: a recipe key, a weight's name, a file.
        what: what is wrong there, with both values where two disagree.
        fix: what to do about it; empty where nothing but the fact can be said.
        place: the file and line that write the key `where`, or the command line; empty where nobody looked.
    """

    where: str
    what: str
    fix: str = ""
    place: str = ""

    @property
    def fact(self) -> str:
        """What is wrong, behind where it is."""
        return _cut(": ".join(filter(None, [self.place, self.where, self.what])))

    def __str__(self) -> str:
        text = self.fact
        return visible(f"{text} -> {_cut(self.fix)}" if self.fix else text)


def _cut(text: str) -> str:
    """Return a part of a message without credentials, which logs would spread, and without words of great length."""
    return _ENDLESS.sub(lambda found: f"{found[0][:1000]}... ({len(found[0]):,} characters)", hide_credentials(text))


class TransferError(Exception):
    """Everything that transferpipe refuses, with all its problems at once.

    Attributes:
        problems: one entry a problem, in the order in which a reader meets them.
        status: the exit status of the command line.
    """

    status: ClassVar[int] = 1
    title: ClassVar[str] = "cannot go on"

    def __init__(self, problems: Iterable[Problem] | Problem) -> None:
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(p) for p in self.problems))

    def lines(self) -> list[str]:
        """Return the kind of error, and each problem with what to do about it; of very many the first."""
        count = f" ({len(self.problems)} problems)" if len(self.problems) > 1 else ""
        lines = [f"{self.title}{count}"]
        for problem in self.problems[:_MOST_PROBLEMS]:
            lines += [
                visible(f"  {problem.fact}"),
                *([visible(f"      -> {_cut(problem.fix)}")] if problem.fix else []),
            ]
        more = and_more(len(self.problems) - _MOST_PROBLEMS)
        return [*lines, f"  ...{more}"] if more else lines

    def _render_traceback_(self) -> list[str]:
        # IPython asks for this. Imported here: it is needed in notebooks alone.
        from transferpipe.text.notebook import brief_traceback

        return brief_traceback(self, self.lines())


class RecipeError(TransferError):
    """The recipe, the plan or an override is wrong; nothing was written."""

    status = 2
    title = "invalid recipe or command line"


class MissingPackageError(RecipeError):
    """What the recipe asks for needs a package that is not installed; nothing was written."""

    title = "a package is missing"


class VerificationError(TransferError):
    """A value, or the finished file, differs from what was planned."""

    status = 3
    title = "verification failed"


class ScoreError(VerificationError):
    """A score raised, or gave no finite number; the model that it was asked about stays."""

    title = "scoring failed; the model was saved and verified"


class FileError(TransferError):
    """A file could not be read or written."""

    status = 4
    title = "a file could not be read or written"


class UnsafeError(TransferError):
    """Refused because a recipe or a file asked for more than data may ask for."""

    status = 5
    title = "refused as unsafe"


class TransferWarning(UserWarning):
    r"""Something legal that is probably not meant, as calls from Python give it through `warnings`.

    The message begins with the code in brackets, so that filters can choose:
    ``warnings.filterwarnings("ignore", r"\[unused\]", TransferWarning)``.

    Attributes:
        code: the kind of the warning, see `transferpipe help warnings`.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code

    def _render_traceback_(self) -> list[str]:
        from transferpipe.text.notebook import brief_traceback

        return brief_traceback(self, str(self).splitlines())


@dataclass
class Problems:
    """Collects problems so that all of them are reported at once."""

    found: list[Problem] = field(default_factory=list)
    is_unsafe: bool = False

    def add(self, where: str, what: str, fix: str = "") -> None:
        """Note one problem; see `Problem` for the parts."""
        self.found.append(Problem(where, what, fix))

    def refuse(self, where: str, what: str, fix: str = "") -> None:
        """Note a problem that asks for more than data may ask for, which makes all of them an `UnsafeError`."""
        self.add(where, what, fix)
        self.is_unsafe = True

    def raise_as(self, error: type[TransferError]) -> None:
        """Raise `error`, or `UnsafeError`, with everything found so far, or return if there is nothing."""
        if self.found:
            # Two values under one key may have the same fault, which is read and mended once.
            raise (UnsafeError if self.is_unsafe else error)([*dict.fromkeys(self.found)])


def did_you_mean(word: str, choices: Iterable[str], most: int = 3) -> str:
    """Return ``did you mean 'a', 'b'?`` for the choices nearest to `word`, or an empty string.

    >>> did_you_mean("mappping", ["mapping", "freeze"])
    "did you mean 'mapping'?"
    """
    near = _find_near(word, tuple(dict.fromkeys(choices)), most)
    return f"did you mean {', '.join(repr(n) for n in near)}?" if near else ""


@lru_cache  # thousands of rules may have the same mistake
def _find_near(word: str, choices: tuple[str, ...], most: int) -> list[str]:
    return difflib.get_close_matches(word, choices, n=most, cutoff=0.6)
