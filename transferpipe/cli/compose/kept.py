"""A composition that was made before is used again, without importing Hydra: putting together is most of a short plan.

An entry is found by what was typed, the folder, and the versions of all that composes; and it counts only as long as
every file and folder that was looked at is as it was. What depends on anything else (the time, the file of a source,
installed plug-ins), what warned, and what was refused is never kept. `TRANSFERPIPE_NO_CACHE=1` switches it off.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import transferpipe
from transferpipe.cli.compose.observed import Observed, answer_of, note_other, observing
from transferpipe.errors import FileError, Problem, RecipeError, UnsafeError
from transferpipe.files.private_cache import PrivateCache, are_caches_on
from transferpipe.text.credentials import holds_credential

if TYPE_CHECKING:
    from transferpipe.cli.compose.composing import Composed

# A composition has about 15 kB, a recipe of a thousand rules 300 kB: what a user goes back to within weeks.
_CACHE = PrivateCache("composed", 256, 16 << 20)
_FORMAT = 1  # another number makes all entries unknown
_OF_HYDRA, _RUN_FOLDER = ("hydra", "+hydra", "~hydra", "++hydra"), "hydra.run.dir="
# What the name of a run folder may have in it, for us to fill it in as OmegaConf does.
_FILLED_IN = re.compile(r"\$\{(?:now:(?P<time>[%\w.-]+)|(?P<checksum>plan_checksum:)|(?P<name>name))\}")
_MODULES = {"hydra": "__init__.py", "omegaconf": "version.py", "yaml": "__init__.py"}
"""Packages that compose, and the file of each that states its version."""


@dataclass(frozen=True)
class Composition:
    """A composed recipe as plain data: all that a plan or a run takes of it.

    Attributes:
        data: the recipe, interpolations resolved.
        sweep: what a sweep over the recipe is to do.
        overrides: the overrides as given, recipes by their names.
        absolute_save: whether every absolute path under `save` was given on the command line.
        run_folder: the name of the run folder as it is written.
        texts: the files that Hydra leaves beside a result, by their paths; None where they can be had of `live`.
        live: the composition itself, where it was made just now.
    """

    data: Mapping[str, Any]
    sweep: Mapping[str, Any]
    overrides: tuple[str, ...]
    absolute_save: bool
    run_folder: str
    texts: Mapping[str, str] | None = None
    live: Composed | None = field(default=None, repr=False, compare=False)

    @property
    def hydra_files(self) -> dict[str, str]:
        """The files that Hydra leaves beside a result, by their paths."""
        return dict(self.live.texts if self.live is not None else self.texts or {})

    def name_run_folder(self, checksum: str) -> str:
        """Return the name of the run folder of the plan with this checksum.

        Raises:
            RecipeError: it cannot be filled in.
        """
        if self.live is not None:
            from omegaconf.errors import OmegaConfBaseException

            try:
                return self.live.value_of_hydra("run.dir", plan_checksum=lambda: checksum)
            except OmegaConfBaseException as error:
                fix = "name a folder, such as hydra.run.dir=outputs/mine"
                raise RecipeError(Problem("hydra.run.dir", str(error).splitlines()[0], fix)) from error

        def fill(part: re.Match[str]) -> str:
            if part["time"]:
                return time.strftime(part["time"], time.localtime())
            return checksum if part["checksum"] else str(self.data["name"])

        return _FILLED_IN.sub(fill, self.run_folder)


def compose_once(typed: Sequence[str], config_dir: str | None = None, anew: bool = False) -> Composition:
    """Return what the overrides compose, made before or now.

    Where an application has Hydra in this process, with resolvers and configurations that may be its own, nothing is
    taken from the cache, and nothing put there.

    Args:
        typed: the overrides as given.
        config_dir: the folder of ``--config-dir``.
        anew: whether the composition itself is wanted.

    Raises:
        RecipeError: as `Composer.compose`.
    """
    if "hydra" in sys.modules or not are_caches_on():
        return compose_anew(typed, config_dir)[0]
    key = key_of(typed, config_dir)
    found = None if anew or key is None else read_kept(key)
    if found is not None:
        return found
    made, observed = compose_anew(typed, config_dir)
    if key is not None:
        keep(key, made, observed)
    return made


def compose_anew(typed: Sequence[str], config_dir: str | None = None) -> tuple[Composition, Observed]:
    """Return what the overrides compose, and what was looked at.

    Raises:
        RecipeError: as `Composer.compose`.
    """
    from transferpipe.cli.compose import written
    from transferpipe.cli.compose.composing import Composer

    with observing() as observed, _warnings_noted():
        composer, overrides = Composer.of(typed, config_dir)
        with written.located(composer, overrides):
            composed = composer.compose(overrides)
        if unknown := composer.providers - {"hydra", "main", "schema"}:
            note_other(f"the search path of {', '.join(sorted(unknown))}")
    found = (composed.data, composed.sweep, composed.overrides, composed.absolute_save)
    return Composition(*found, composed.run_folder, live=composed), observed


def key_of(typed: Sequence[str], config_dir: str | None) -> str | None:
    """Return everything but files that decides a composition; None where that cannot be said."""
    if any(word.startswith(_OF_HYDRA) and not word.startswith(_RUN_FOLDER) for word in typed):
        return None  # a search path, another launcher
    try:
        parts = [
            *(_FORMAT, transferpipe.__version__, sys.version, str(Path.cwd()), str(Path.home()), config_dir),
            *([*typed], [*_versions()], [*_own_code()], [*_plug_ins()]),
        ]
    except (OSError, ImportError, AttributeError, ValueError, RuntimeError):
        return None
    return json.dumps(parts)


def read_kept(key: str) -> Composition | None:
    """Return what was composed under `key` if all that was looked at then is still the same."""
    content = _CACHE.read(key)
    if content is None:
        return None
    try:
        entry = json.loads(content)
        if all(answer_of(question, path) == answer for question, path, answer in entry["looked_at"]):
            found = entry["composition"]
            return Composition(**{**found, "overrides": tuple(found["overrides"])})
    except (ValueError, TypeError, KeyError):  # of another version, by accident
        pass
    return None


def keep(key: str, made: Composition, observed: Observed) -> bool:
    """Keep a composition, and tell whether it may be: nothing else decided it, and JSON gives it back as it is."""
    rest = _FILLED_IN.sub("", made.run_folder)
    if observed.others or "$" in rest or "\\" in rest:
        return False
    looked_at = [[question, path, answer] for (question, path), answer in observed.answers.items()]
    plain = {name: getattr(made, name) for name in (f.name for f in fields(Composition)) if name != "live"}
    plain = {**plain, "overrides": list(made.overrides), "texts": made.hydra_files}
    try:
        text = json.dumps({"looked_at": looked_at, "composition": plain})
    except (TypeError, ValueError):
        return False
    if not _is_same(json.loads(text)["composition"], plain):  # keys that are numbers, NaN
        return False
    if holds_credential(text):  # such an address is refused by whoever reads it
        return False
    _CACHE.keep(key, text.encode())
    return True


def _is_same(one: Any, two: Any) -> bool:
    if isinstance(one, dict) and isinstance(two, dict):
        pairs = zip(one.items(), two.items(), strict=True)
        return len(one) == len(two) and all(k == other and _is_same(v, w) for (k, v), (other, w) in pairs)
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(_is_same(v, w) for v, w in zip(one, two, strict=True))
    return type(one) is type(two) and one == two


@contextmanager
def _warnings_noted() -> Iterator[None]:
    """Note it if the body warns, which composing again would do again."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def note_and_show(*args: Any, **kwargs: Any) -> None:
            note_other("a warning")
            show(*args, **kwargs)

        warnings.showwarning = note_and_show
        yield


def _versions() -> Iterator[str]:
    for package, file in _MODULES.items():
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.submodule_search_locations is not None
        yield Path(spec.submodule_search_locations[0], file).read_text(encoding="utf-8")


def _own_code() -> Iterator[tuple[str, int, int]]:
    """Yield what tells of a checkout whether it composes as it did: the state of the files that do it."""
    here = Path(__file__).parent
    for folder in (here, here.parents[1] / "recipe"):
        yield from _stamps(folder)


def _plug_ins() -> Iterator[tuple[str, int, int]]:
    """Yield the files of Hydra's plug-ins, which may bring configurations and search paths of their own."""
    spec = importlib.util.find_spec("hydra_plugins")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for folder, _, _ in os.walk(place):
            yield from _stamps(Path(folder))


def _stamps(folder: Path) -> list[tuple[str, int, int]]:
    with os.scandir(folder) as entries:
        found = [(e.path, e.stat()) for e in entries if e.name.endswith(".py")]
    return sorted((path, status.st_size, status.st_mtime_ns) for path, status in found)


@contextmanager
def located(made: Composition, typed: Sequence[str], config_dir: str | None) -> Iterator[None]:
    """Let the problems of a recipe that is read inside say where the keys that they name were written."""
    try:
        yield
    except (RecipeError, FileError, UnsafeError) as error:
        raise type(error)([*_locate(made, error.problems, typed, config_dir)]) from error


def _locate(
    made: Composition, problems: Sequence[Problem], typed: Sequence[str], config_dir: str | None
) -> Iterator[Problem]:
    from transferpipe.cli.compose.composing import Composer
    from transferpipe.cli.compose.written import locate_problems

    composer = made.live.composer if made.live is not None else Composer.of(typed, config_dir)[0]
    yield from locate_problems(composer, problems, made.overrides)
