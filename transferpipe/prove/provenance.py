"""Who asked for a run: the command, the recipe's text, the time, and the commit in the working directory."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_PATIENCE = 10.0  # seconds; a repository that takes longer to look at is not worth the wait


@dataclass(frozen=True)
class Request:
    """What asks for a run.

    Attributes:
        command: the words of a command line that does the same; None where Python asked.
        recipe: the recipe as YAML, put together and filled in; None where it holds what YAML cannot.
        texts: further small files to leave in the run folder, by their paths in it.
        git: tells the commit of a folder; of many runs as one, that is asked once.
    """

    command: tuple[str, ...] | None = None
    recipe: str | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    git: Callable[[Path], dict[str, Any] | None] = field(default=lambda folder: read_git(folder), repr=False)

    def to_data(self, started: datetime) -> dict[str, Any]:
        """Return the request as in manifest.json, of a run that `started` then."""
        return {
            "time": started.isoformat(timespec="seconds"),
            "command": list(self.command) if self.command is not None else None,
            "recipe_text": self.recipe,
            "git": self.git(Path.cwd()),
        }


def now() -> datetime:
    """Return the time, as records have it."""
    return datetime.now(UTC)


def yaml_dumper() -> Any:
    """Return libyaml's dumper, which writes the same in a tenth of the time; PyYAML can be built without it."""
    import yaml

    return getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def recipe_text(data: Mapping[str, Any]) -> str | None:
    """Return a recipe as YAML; None where it holds what YAML cannot."""
    import yaml  # a plan tells nobody

    try:
        return yaml.dump(dict(data), Dumper=yaml_dumper(), sort_keys=False, allow_unicode=True, width=120)
    except yaml.YAMLError:
        return None


# A repository may say that objects it lacks are fetched when they are asked for, from where and by which program
# (gitrepository-layout(5), partialClone): git 2.44 and later can be told not to, all let no protocol be used.
_NO_FETCHING = {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none"}


def read_git(folder: Path) -> dict[str, Any] | None:
    """Return the commit that is checked out where `folder` lies, and whether tracked files differ from it.

    None where there is no repository, no commit in it, or no git to ask; ``dirty`` is None where git does not say, or
    would run programs of the repository's own to find out.
    """
    program = shutil.which("git")
    if program is None:
        return None
    commit = _ask(program, folder, "rev-parse", "--verify", "HEAD")
    if not commit:
        return None
    changed = None
    if not _names_filters(program, folder):
        # Submodules have settings of their own, and are not looked into.
        words = ("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty")
        changed = _ask(program, folder, *words)
    return {"commit": commit.strip(), "dirty": None if changed is None else bool(changed.strip())}


def _names_filters(program: str, folder: Path) -> bool:
    """Tell whether the repository itself, and not its user, says what files are filtered by.

    ``git status`` starts such a filter (gitattributes(5), `filter`) on every file whose time is not the one that the
    index has, as all of an unpacked archive.
    """
    listed = _ask(program, folder, "config", "--list", "--show-scope", "--includes", "--name-only", "-z")
    if listed is None:  # a git without scopes (before 2.26), or settings that it cannot read
        return True
    words = listed.split("\0")
    return any(
        s in ("local", "worktree") and n.startswith("filter.") for s, n in zip(words[::2], words[1::2], strict=False)
    )


def _ask(program: str, folder: Path, *words: str) -> str | None:
    # Looking must change nothing, not even the index, and start no program that the repository names.
    command = [program, "-C", str(folder), "-c", "core.fsmonitor=false", *words]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", **_NO_FETCHING}
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PATIENCE, env=environment, check=False)  # noqa: S603 - fixed words
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None
