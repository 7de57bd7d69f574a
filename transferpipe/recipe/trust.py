"""The one place where a recipe's dotted name becomes a Python object.

A recipe is data from anybody, so it may name only what is made for being named: Keras's and KerasHub's models,
transferpipe's own builders and scores, and modules whose files lie under the working directory. Anything else needs the
user's word on the command line. What counts is the object that was reached, not how its name was spelled.

What an installed package offers under ``transferpipe.scores`` is named as if it were a score of ours, such as
``transferpipe.score.NAME``, and needs no further word: installed is trusted (see `transferpipe.plugins`, which also
says why the working directory is not a place of installed packages). The same holds for its formats, transforms,
layouts, writers and loggers: an entry point may do what any Python code may do, but a recipe reaches it by its name
alone.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
import re
import symtable
import sys
import sysconfig
import unicodedata
from collections.abc import Callable, Collection
from importlib.machinery import all_suffixes
from pathlib import Path
from typing import Any

from transferpipe.errors import Problem, RecipeError, UnsafeError, did_you_mean
from transferpipe.packages import missing_package
from transferpipe.plugins import PlugInPoint

# Public name -> the modules in which the objects behind it may be defined.
_HUB = "keras_hub"
_LIBRARIES = {"keras.applications": "keras.src.applications", _HUB: _HUB}
# Packages of our own, of which only the exported names are for recipes: the rest of us writes files and grants trust.
_US = "transferpipe"
_SCORES = f"{_US}.score"
_OWN = (f"{_US}.zoo", _SCORES)
_INSTALLED = {"site-packages", "dist-packages"}
_OF_KERAS = {"keras", "tensorflow"}
"""Whether they are installed or not, what they hold is not for recipes, but for `_LIBRARIES`."""
_OF_TORCH = {"torch", "torchvision", "torchaudio", "timm", "transformers", "diffusers"}
# What makes models in those: classes, which have capitals, and KerasHub's presets. The rest fetches, reads and writes.
_MAKERS = {
    "keras.applications": re.compile(r"keras\.applications(?:\.[a-z]\w*)?\.[A-Z]\w*"),
    _HUB: re.compile(r"keras_hub(?:\.[a-z]\w*)*\.[A-Z]\w*(?:\.from_preset)?"),
}
_OF_PYTHON = frozenset(sys.stdlib_module_names)
# What reads files, runs text or calls whatever it is given: no word should open them to a recipe.
_NEVER_VOUCHED = frozenset(("keras", "tensorflow", "tf_keras", "hydra", "omegaconf", "yaml", "numpy", "h5py", "jax",
                            "pip", "setuptools", "pytest", "transferpipe"))  # fmt: skip
# With one of these words in its text, a module may have names that stand nowhere in it.
_MAKES_NAMES = frozenset(("__getattr__", "__path__", "__dict__", "globals", "locals", "vars", "exec", "eval", "setattr",
                          "modules", "import_module"))  # fmt: skip
_OWN_FUNCTION = "write a function that makes it in a module of your own, beside the recipe: my_models.build"
_ABSENT = object()

OUTSIDE: PlugInPoint[Callable[..., Any]] = PlugInPoint(
    "score", lambda: _exports(_SCORES), lambda score: "" if callable(score) else "cannot be called"
)


def resolve(dotted: str, where: str, trusted: Collection[str] = ()) -> Callable[..., Any]:
    """Return the callable called `dotted`.

    Args:
        dotted: a name such as ``keras.applications.VGG16`` or ``my_models.build``.
        where: the recipe key that names it.
        trusted: further top-level packages that the command line vouched for.

    Raises:
        UnsafeError: the name, or the object it leads to, is not one that a recipe may use.
        RecipeError: there is no such object, or it cannot be called.
    """
    plugged = load_outside_score(dotted, where)
    if plugged is not None:
        return plugged
    folder = Path.cwd().resolve()
    _check_spelling(dotted, where, trusted, folder)
    found: Callable[..., Any] = _reach(dotted, where)
    if not callable(found):
        what = f"{dotted} cannot be called: it is an object of type {type(found).__name__}"
        raise RecipeError(Problem(where, what, "name a function or a class"))
    behind = _behind(found)
    if not _is_allowed(behind, dotted, trusted, folder):
        module = getattr(behind, "__module__", None) or type(behind).__module__
        raise UnsafeError(
            Problem(where, f"{dotted} leads to {module}, which a recipe may not use", _advise(module, where))
        )
    return found


def load_outside_score(dotted: str, where: str) -> Callable[..., Any] | None:
    """Return the score of an installed package that a recipe calls ``transferpipe.score.NAME``; None for other names.

    Raises:
        RecipeError: it cannot be loaded.
    """
    package, _, name = dotted.rpartition(".")
    return OUTSIDE.load(name, where) if package == _SCORES and name not in _exports(_SCORES) else None


def is_score(name: str) -> bool:
    """Tell whether `name` is a score: one of ours, which is a function of a module of its own name, or a package's."""
    if name in _exports(_SCORES):
        return getattr(_reach(f"{_SCORES}.{name}", "score"), "__module__", None) == f"{_SCORES}.{name}"
    return name in OUTSIDE.names()


def check_name(dotted: str, where: str, trusted: Collection[str] = ()) -> None:
    """Refuse what can be refused of the name `dotted` before Keras, or a module of the user's, is imported.

    Raises:
        UnsafeError, RecipeError: as `resolve`, which has the last word.
    """
    _check_spelling(dotted, where, trusted, Path.cwd().resolve())
    if any(dotted.startswith(f"{package}.") for package in _OWN):
        resolve(dotted, where, trusted)


def vouches_for(module: str, trusted: Collection[str] = ()) -> bool:
    """Tell whether the user vouches for a module: by ``--trust``, or because its file lies in the working directory.

    Nothing is imported.
    """
    top = module.partition(".")[0]
    if not top.isidentifier() or top == _US:
        return False
    if top in trusted:
        return True
    if top in sys.modules:
        return top != "__main__" and _lies_under(sys.modules[top], Path.cwd().resolve())
    folder = Path.cwd().resolve()
    return any(_is_users_file(str(place), folder) for place in (folder / f"{top}.py", folder / top) if place.exists())


def _advise(module: str, where: str) -> str:
    top = module.partition(".")[0]
    if top in _OF_TORCH:
        return advise_module(top, where)
    if not _may_be_vouched(top):
        return _OWN_FUNCTION
    return f"if you trust it, allow it on the command line: --trust {module.partition('.')[0]}"


def _check_spelling(dotted: str, where: str, trusted: Collection[str], folder: Path) -> None:
    top = dotted.partition(".")[0]
    _check_parts(dotted, where)
    if any(dotted.startswith(f"{p}.") for p in (*_LIBRARIES, *_OWN)):
        return None
    if str(folder) not in sys.path and "" not in sys.path:
        sys.path.append(str(folder))  # last, so that a user's file never stands in for an installed package
    if top in trusted:
        return None
    if top == _US or (top in sys.modules and not _lies_under(sys.modules[top], folder)):
        raise _refuse_name(dotted, where, top)
    if top in sys.modules:
        return _check_imported(dotted, where, trusted, folder)
    spec = importlib.util.find_spec(top)
    if spec is None and top not in _OF_KERAS:
        near = [p.stem for p in folder.glob("*.py")] + ["keras", "keras_hub", "transferpipe"]
        hint = did_you_mean(top, near) or advise_module(top, where)
        raise RecipeError(Problem(where, f"there is no module {top!r} in the working directory or installed", hint))
    places = [] if spec is None else [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    if not any(_is_users_file(p, folder) for p in places):
        raise _refuse_name(dotted, where, top)
    _check_imported(dotted, where, trusted, folder)
    if spec is not None and len(places) == 1:
        _check_written(dotted, where, Path(places[0]))
    return None


def _check_parts(dotted: str, where: str) -> None:
    """Refuse what no package and no word makes better."""
    # ``module.build.__globals__`` reaches everything, whoever wrote the module.
    if any(part.startswith("__") for part in dotted.split(".")[1:]):
        raise _refuse_name(dotted, where, "", f"{dotted} goes through a private attribute of Python")
    for library, makers in _MAKERS.items():
        if dotted.startswith(f"{library}.") and not makers.fullmatch(dotted):
            raise _refuse_name(dotted, where, "")


def _refuse_name(dotted: str, where: str, top: str, what: str = "") -> UnsafeError:
    what = what or f"{dotted} is not something that a recipe may name"
    if _may_be_vouched(top):
        return UnsafeError(Problem(where, what, _advise(top, where)))
    return UnsafeError(Problem(where, what, _OWN_FUNCTION))


def _may_be_vouched(top: str) -> bool:
    """Tell whether a word on the command line should open a package to recipes."""
    return bool(top) and top not in _OF_PYTHON and top not in _NEVER_VOUCHED


def _check_written(dotted: str, where: str, place: Path) -> None:
    """Refuse a name that leads into a module of the user's which does not write it, before that is run.

    A folder without an `__init__.py` has nothing but modules. What a module holds, its text shows where nothing in it
    makes names; else importing it shows that.
    """
    parts = dotted.split(".")
    for i, part in enumerate(parts[1:], 1):
        here = place.parent if place.name == "__init__.py" else place
        inner = here / part
        if here.is_dir() and any(here.joinpath(f"{part}{suffix}").is_file() for suffix in all_suffixes()):
            place = here / f"{part}.py"
        elif here.is_dir() and inner.is_dir():
            place = inner / "__init__.py" if (inner / "__init__.py").is_file() else inner
        else:
            beside = [path.stem for path in here.glob("*.py")] if here.is_dir() else []
            known = beside if place.is_dir() else _names_written(place, part)
            if known is not None:
                near = did_you_mean(part, [*known, *beside])
                raise RecipeError(Problem(where, f"{'.'.join(parts[:i])} has no {part!r}", near))
            return


def _names_written(path: Path, name: str) -> list[str] | None:
    """Return the names of a module that certainly has no `name`; None where it may have that."""
    try:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (OSError, ValueError, SyntaxError, RecursionError):  # importing it says what is wrong, or it is no text
        return None
    words = set(re.findall(r"\w+", unicodedata.normalize("NFKC", text)))  # as Python reads names
    if name in words or not _MAKES_NAMES.isdisjoint(words):
        return None
    if any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in ast.walk(tree)):
        return None
    symbols = symtable.symtable(text, str(path), "exec").get_symbols()
    return [symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()]


def _check_imported(dotted: str, where: str, trusted: Collection[str], folder: Path) -> None:
    """Refuse a name that leads through a module of the user's into the standard library, before that is run.

    What the module imports is read from its text. What cannot be seen there, the object that is reached decides.
    """
    top, name, *_ = dotted.split(".")
    path = folder / f"{top}.py" if (folder / f"{top}.py").is_file() else folder / top / "__init__.py"
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, ValueError, SyntaxError, RecursionError):
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for alias in node.names:
            module = (node.module or "" if not node.level else "") if isinstance(node, ast.ImportFrom) else alias.name
            bound = alias.asname or (alias.name if isinstance(node, ast.ImportFrom) else alias.name.partition(".")[0])
            if bound == name and module.partition(".")[0] in _OF_PYTHON - {*trusted}:
                raise _refuse_name(dotted, where, "", f"{dotted} leads to {module}, which a recipe may not use")


def advise_module(top: str, where: str) -> str:
    """Return what to write instead of a call into the package `top`."""
    if top in _OF_TORCH:
        if where.startswith("target"):
            return "the target is a Keras model: name a function that builds one with Keras"
        save = "torch.save(model.state_dict(), 'x.pt')"
        return f"it makes PyTorch models: save the weights with PyTorch, {save}, and give path: x.pt"
    return f"for a file of your own, run in its folder, where {top}.py lies; a package must be installed and trusted"


def _is_users_file(place: str | None, folder: Path) -> bool:
    if not place or not Path(place).is_absolute():  # built into the interpreter: a word such as 'frozen'
        return False
    path = Path(place).resolve()
    # A virtual environment, or all of Python where the working directory is ``/`` or a home folder, often lies inside
    # the working directory; what is installed there is not the user's own.
    return path.is_relative_to(folder) and not _is_installed(path)


def _is_installed(path: Path) -> bool:
    return any(map(path.is_relative_to, _libraries())) or not _INSTALLED.isdisjoint(path.parts)


@functools.cache
def _libraries() -> tuple[Path, ...]:
    """Return the folders of what is installed in this interpreter, which Python puts together for each question."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return tuple(Path(sysconfig.get_path(name)).resolve() for name in names)


def _lies_under(module: Any, folder: Path) -> bool:
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    return any(_is_users_file(p, folder) for p in places)


def _reach(dotted: str, where: str) -> Any:
    parts = dotted.split(".")
    here: Any = _import(parts[0], where)
    for i, part in enumerate(parts[1:], 1):
        name = ".".join(parts[: i + 1])
        found = _attribute(here, part, name, where)
        if found is _ABSENT:
            # What a package exports wins over a module of the same name in it, as in an import statement.
            _import_inner(here, name, where)
            found = _attribute(here, part, name, where)
        if found is _ABSENT:
            raise RecipeError(Problem(where, f"{'.'.join(parts[:i])} has no {part!r}", did_you_mean(part, dir(here))))
        here = found
    return here


def _attribute(here: Any, part: str, name: str, where: str) -> Any:
    try:
        return getattr(here, part, _ABSENT)
    except Exception as error:  # a package that imports its parts only when they are asked for
        raise _import_failure(name, where, error) from error


def _import(name: str, where: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            raise missing_package(where, "the recipe", name) from error
        raise _import_failure(name, where, error) from error
    except (Exception, SystemExit) as error:
        raise _import_failure(name, where, error) from error


def _import_inner(package: Any, name: str, where: str) -> None:
    if not hasattr(package, "__path__"):
        return
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:  # the module is there, but something that it imports is not
            raise _import_failure(name, where, error) from error
    except (Exception, SystemExit) as error:
        raise _import_failure(name, where, error) from error


def _import_failure(name: str, where: str, error: BaseException) -> RecipeError:
    return RecipeError(Problem(where, f"importing {name} failed: {type(error).__name__}: {error}", "fix the module"))


def _behind(found: Any) -> Any:
    """Return the function that a partial call, however nested, leads to."""
    # A partial is functools' own: ``partial(os.system, ...)`` in a user's module must be judged by what it calls.
    while isinstance(found, functools.partial):
        found = found.func
    return found


def _is_allowed(found: Any, dotted: str, trusted: Collection[str], folder: Path) -> bool:
    module = getattr(found, "__module__", None)
    if not isinstance(module, str):
        return False
    top = module.partition(".")[0]
    if top in trusted:
        return True
    if top == _US:
        exported = (getattr(importlib.import_module(p), name) for p in _OWN for name in _exports(p))
        return any(found is ours for ours in exported)
    for public, defined in _LIBRARIES.items():
        if dotted.startswith(f"{public}."):
            inside = module == defined or module.startswith(f"{defined}.")
            return inside and (public != _HUB or _makes_a_model(found))
    return _lies_under(sys.modules.get(module), folder)


def _exports(package: str) -> Collection[str]:
    names: Collection[str] = importlib.import_module(package).__all__
    return names


def _makes_a_model(found: Any) -> bool:
    """Tell a class, or its `from_preset`, from what KerasHub also holds: functions and methods that write or upload."""
    return isinstance(found, type) or (inspect.ismethod(found) and found.__name__ == "from_preset")
