"""Reading the command line: the verb, its flags, and the overrides that are Hydra's to read."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path

from transferpipe.cli.verbs import (
    DEFAULT,
    DRY_RUN,
    FLAGS,
    MULTIRUN,
    OF_EVERY_VERB,
    PLAN,
    SHORT,
    STRICT,
    SWEEP,
    VERBS,
    Arguments,
    Flag,
    Verb,
    verbs_with,
)
from transferpipe.errors import Problem, RecipeError, did_you_mean
from transferpipe.recipe.keys import RECIPE, SECTIONS

HELP, VERSION = ("-h", "--help"), "--version"
RECIPE_FILES = (".yaml", ".yml")


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """Split `argv`, without the program's name. The verb may stand anywhere.

    Raises:
        RecipeError: an unknown verb or flag, or a word that is none of what the verb takes.
    """
    words, flags, values = _split(argv)
    verb = _take_verb(words)
    is_multirun = MULTIRUN in flags and verb in (DEFAULT, PLAN)
    called = f"{verb.name} -m" if is_multirun else verb.name
    for flag in (*flags, *values):
        _check_goes_with(flag, SWEEP if is_multirun else verb, called)
    if is_multirun:
        flags |= {DRY_RUN} if verb is PLAN else set()
        verb = SWEEP
    elif DRY_RUN in flags and verb is DEFAULT:
        verb = PLAN
    if not verb.takes_overrides:
        return Arguments(verb.name, (), tuple(words), frozenset(flags), values, tuple(argv))
    overrides = [_as_override(word, verb) for word in words]
    if (name := values.get("--config-name")) is not None:
        overrides.append(f"recipe={name[-1]}")
    if STRICT in flags:  # which is a key of the recipe, too
        overrides.append("strict=true")
    return Arguments(verb.name, tuple(overrides), (), frozenset(flags), values, tuple(argv))


def _split(argv: Sequence[str]) -> tuple[list[str], set[str], dict[str, tuple[str, ...]]]:
    """Return the words that are not flags, the flags, and the values of those that take one."""
    words: list[str] = []
    flags: set[str] = set()
    values: dict[str, tuple[str, ...]] = {}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            words.append(word)
            continue
        name, equals, value = word.partition("=")
        flag = _flag(name, argv)
        if flag.takes_value:
            if not equals and not rest:
                raise RecipeError(Problem(flag.name, "needs a value", f"write {name} VALUE"))
            values[flag.name] = (*values.get(flag.name, ()), value if equals else rest.pop(0))
        elif equals:
            raise RecipeError(Problem(flag.name, f"takes no value, but {value!r} is given", f"write {name}"))
        else:
            flags.add(flag.name)
    return words, flags, values


def _flag(name: str, argv: Sequence[str]) -> Flag:
    found = FLAGS.get(name) or SHORT.get(name)
    if found is None:
        usage = next((VERBS[word].usage for word in argv if word in VERBS), "")
        if f"[{name[2:]}=" in usage:
            raise RecipeError(
                Problem("command line", f"unknown flag {name!r}", f"write it without dashes: {name[2:]}=X")
            )
        hint = did_you_mean(name, [*FLAGS, *HELP[1:], VERSION]) or "see transferpipe --help"
        raise RecipeError(Problem("command line", f"unknown flag {name!r}", hint))
    return found


def _take_verb(words: list[str]) -> Verb:
    """Take the verb out of the words: the first that is one."""
    for place, word in enumerate(words):
        if word in VERBS:
            return VERBS[words.pop(place)]
    for word in words:
        if not _is_override(word) and not word.endswith(RECIPE_FILES):
            hint = did_you_mean(word, VERBS) or f"the verbs are {', '.join(VERBS)}; a recipe is chosen by recipe={word}"
            raise RecipeError(Problem("command line", f"unknown verb {word!r}", hint))
    return DEFAULT


def _check_goes_with(flag: str, verb: Verb, called: str) -> None:
    verbs = verbs_with(flag)
    if verb.name not in verbs:
        what = f"{flag} does not go with {called!r}"
        raise RecipeError(Problem("command line", what, f"it goes with {', '.join(verbs)}"))


def _is_override(word: str) -> bool:
    return "=" in word or word.startswith(("+", "~"))


def _as_override(word: str, verb: Verb) -> str:
    """Return an override as it is, and the path of a recipe's file as the choice of it."""
    if _is_override(word):
        return word
    if word.endswith(RECIPE_FILES):
        return f"recipe={word}"
    what = f"{word!r} is neither KEY=VALUE nor the path of a recipe"
    hint = f"choose a recipe by its name: transferpipe {verb.name} recipe={word}"
    recipes = [f"{word}{suffix}" for suffix in RECIPE_FILES if Path(f"{word}{suffix}").is_file()]
    if word.partition(".")[0] in SECTIONS[RECIPE]:
        hint = f"give it a value: {word}=..."
    elif recipes:
        hint = f"name the file as a whole: transferpipe {verb.name} {recipes[0]}"
    elif Path(word).exists():  # a file of weights: a newcomer's first guess
        hint = "write a recipe for two files first: transferpipe init A B"
    raise RecipeError(Problem("command line", what, hint))


def idle_keys(arguments: Arguments) -> list[str]:
    """Return the keys of Hydra's own part that are given and change nothing in what the verb does."""
    useful = (*_OF_HYDRA, *(_OF_SWEEPS if arguments.verb == SWEEP.name else _OF_RUNS))
    keys = [override.lstrip("+~").partition("=")[0] for override in arguments.overrides]
    return [k for k in keys if k.startswith(("hydra.", "hydra/")) and not k.startswith(useful)]


_OF_HYDRA = ("hydra.searchpath",)
_OF_RUNS = ("hydra.run.dir",)
_OF_SWEEPS = ("hydra.sweep.dir", "hydra.launcher", "hydra/launcher", "hydra.sweeper", "hydra/sweeper", "hydra.job.env_")


def help_width() -> int:
    """Return how wide the help may be. Asked and answered without the libraries that fold tables: help is at once."""
    return max(shutil.get_terminal_size((80, 24)).columns, 40)


def _hang(label: str, text: str, width: int, indent: int = 0) -> list[str]:
    """Return `text` behind `label`, its further lines below its first."""
    left = max(len(label) + 2 if label else 0, indent)
    lines = textwrap.wrap(text, width - left, break_long_words=False, break_on_hyphens=False)
    return [f"{label:<{left}}{lines[0]}", *(" " * left + line for line in lines[1:])]


def help_text(width: int = 80) -> str:
    """Return the help: one screen."""
    verbs = [line for v in VERBS.values() for line in _hang(f"  {v.name}", _describe(v), width, 13)]
    every = [line for name in OF_EVERY_VERB for line in _hang(f"  {name}", FLAGS[name].about, width, 17)]
    return "\n".join(
        [
            "transferpipe [VERB] [RECIPE.yaml] [KEY=VALUE ...] [FLAGS]",
            "",
            "Move weights between Keras models by a YAML recipe.",
            "",
            "verbs (transferpipe VERB --help: its flags, and an example)",
            *verbs,
            "",
            *(x for label, text in _OVERRIDES_HELP for x in _hang(label, text, width, 25 if label.strip() else 0)),
            "",
            "flags of every verb",
            *every,
            *_hang("  --help, --version", "--version --plugins lists what installed packages add", width, 25),
            "",
            *_hang("", _STATUS_HELP, width),
            "",
        ]
    )


_OVERRIDES_HELP = (
    ("", """overrides (Hydra's grammar; quote patterns twice: 'mapping.trunk.to="enc/(.*)"')"""),
    ("  recipe=NAME", "a recipe of `transferpipe recipes` or of ./recipes, or a path: recipe=some/where/mine.yaml"),
    ("  mapping.RULE.to=...", "change a rule; +mapping.NEW.to=... adds one; mapping.RULE=null takes one away"),
    ("  source.path=FILE", "take the weights from this file, in place of the recipe's file or builder"),
    (" ", "freeze=[...]  seed=1  save.path=out.keras  expect=CHECKSUM  hydra.run.dir=FOLDER"),
)
_STATUS_HELP = (
    "exit status: 0 done, 1 internal error, 2 recipe, plan or override wrong (nothing written), 3 verification failed, "
    "4 a file could not be read or written, 5 refused as unsafe; of diff and of plan --against: 0 equal, 1 different, "
    "and an internal error is 2"
)


def verb_help(verb: Verb, width: int = 80) -> str:
    """Return the help of one verb: what it takes, its flags, and an example."""
    usage = " ".join(filter(None, ["transferpipe", verb.name, verb.usage, "[FLAGS]"]))
    flags = [FLAGS[name] for name in (*verb.flags, *OF_EVERY_VERB)]
    return "\n".join(
        [
            usage,
            "",
            f"{verb.about[0].upper()}{verb.about[1:]}.",
            "",
            "flags",
            *(line for f in flags for line in _hang(f"  {f.spelling}", f.about, width, 26)),
            "",
            "example",
            f"  {verb.example}",
            "",
        ]
    )


def _describe(verb: Verb) -> str:
    """Return what a verb does, and its usage line where it takes no recipe."""
    called = "" if verb.takes_overrides or not verb.usage else f": transferpipe {verb.name} {verb.usage}"
    return f"{verb.about}{called}"
