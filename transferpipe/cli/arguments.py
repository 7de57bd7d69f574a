"""Reading the command line: the verb, its flags, and the overrides that are Hydra's to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from transferpipe.errors import Problem, RecipeError, did_you_mean

VERBS: Mapping[str, str] = {
    "run": "carry out a recipe: plan, copy, prove, save (the default)",
    "plan": "print the plan of a recipe and write nothing",
    "inspect": "list the weights of a file: transferpipe inspect PATH",
    "sweep": "run a recipe in many variants: sweep vars.cut=1,2,3 'seed=range(5)'",
    "report": "build a sweep's table and page again: report FOLDER",
    "verify": "prove a finished run again: transferpipe verify FOLDER",
    "parity": "compare what two models compute: transferpipe parity A B",
    "recipes": "list the recipes with their commands",
    "help": "list the reference pages, or show one: transferpipe help TOPIC",
}

STRICT = "--strict"
"""The flag that is a key of the recipe, too."""

# Flag -> (verbs it belongs to, whether it takes a value, what it does)
FLAGS: Mapping[str, tuple[tuple[str, ...], bool, str]] = {
    "--json": (("plan", "inspect", "verify", "parity", "recipes"), False, "print JSON"),
    "--all": (("inspect", "parity"), False, "list also what is not a weight (inspect); every layer (parity)"),
    "--inputs": (("parity",), True, "an npz file with one array an input, in place of random ones"),
    "--atol": (("parity",), True, "the largest difference allowed"),
    "--rtol": (("parity",), True, "the same as a part of the expected value"),
    "--stats": (("inspect",), False, "read the values: mean, spread, range, NaN"),
    "--trust": (("run", "plan", "sweep"), True, "let the recipe use this Python package (repeatable)"),
    STRICT: (("run", "plan", "sweep"), False, "make warnings errors; allow=[CODE] lets some pass"),
    "--config-dir": (("run", "plan", "sweep", "recipes"), True, "a further folder with recipe/*.yaml"),
    "--cfg": (("run", "plan"), True, "print the composed recipe instead of running it: --cfg job"),
    "--dry-run": (("sweep",), False, "plan every variant, print them, and stop"),
    "--skip-broken": (("sweep",), False, "run the others where a variant cannot be planned"),
    "--watch": (("report",), False, "print the table again and again until the sweep is finished"),
    "--multirun": (("run", "sweep"), False, "the same as the verb sweep (-m)"),
    "--traceback": (tuple(VERBS), False, "show where in the code an error arose"),
}


@dataclass(frozen=True)
class Arguments:
    """The command line, split.

    Attributes:
        verb: what to do.
        overrides: Hydra overrides such as ``recipe=digits``.
        positional: paths.
        flags: flags without a value.
        values: the values of flags that take one.
    """

    verb: str
    overrides: tuple[str, ...] = ()
    positional: tuple[str, ...] = ()
    flags: frozenset[str] = frozenset()
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def value(self, flag: str) -> str | None:
        """Return the last value of `flag`."""
        return self.values.get(flag, (None,))[-1]


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """Split `argv`, without the program's name.

    Raises:
        RecipeError: an unknown verb or flag.
    """
    rest = list(argv)
    verb = _take_verb(rest)
    if verb == "run" and any(word in ("-m", "--multirun") for word in rest):
        verb = "sweep"
    plain: list[str] = []
    flags: set[str] = set()
    values: dict[str, tuple[str, ...]] = {}
    while rest:
        word = "--multirun" if rest[0] == "-m" else rest[0]
        rest.pop(0)
        flag, equals, value = word.partition("=")
        if not word.startswith("-"):
            plain.append(word)
        elif _takes_value(flag, verb):
            if not equals and not rest:
                raise RecipeError(Problem(flag, "needs a value", f"write {flag} VALUE"))
            values[flag] = (*values.get(flag, ()), value if equals else rest.pop(0))
        elif equals:
            raise RecipeError(Problem(flag, f"takes no value, but {value!r} is given", f"write {flag}"))
        else:
            flags.add(flag)
    if verb in ("inspect", "verify", "report", "parity", "help"):
        return Arguments(verb, (), tuple(plain), frozenset(flags), values)
    if STRICT in flags:
        plain.append("strict=true")
    return Arguments(verb, tuple(plain), (), frozenset(flags), values)


def _take_verb(words: list[str]) -> str:
    if not words or words[0].startswith(("-", "+", "~")) or "=" in words[0]:
        return "run"
    verb = words.pop(0)
    if verb not in VERBS:
        hint = did_you_mean(verb, VERBS) or f"the verbs are {', '.join(VERBS)}; a recipe is chosen by recipe={verb}"
        raise RecipeError(Problem("command line", f"unknown verb {verb!r}", hint))
    return verb


def _takes_value(flag: str, verb: str) -> bool:
    if flag not in FLAGS:
        hint = did_you_mean(flag, [*FLAGS, "--help", "--version"]) or "see transferpipe --help"
        raise RecipeError(Problem("command line", f"unknown flag {flag!r}", hint))
    if verb not in FLAGS[flag][0]:
        raise RecipeError(
            Problem("command line", f"{flag} does not go with {verb!r}", f"it goes with {', '.join(FLAGS[flag][0])}")
        )
    return FLAGS[flag][1]


def help_text() -> str:
    """Return the help: one screen."""
    verbs = "\n".join(f"  {verb:<10} {text}" for verb, text in VERBS.items())
    flags = "\n".join(f"  {flag + (' X' if takes else ''):<16} {text}" for flag, (_, takes, text) in FLAGS.items())
    return f"""transferpipe [VERB] [KEY=VALUE ...] [FLAGS]

Move weights between Keras models by a YAML recipe.

verbs
{verbs}

overrides (Hydra's grammar; quote patterns twice: 'mapping.trunk.to="enc/(.*)"')
  recipe=NAME            choose a recipe (see `transferpipe recipes`), from here or from ./recipes
  mapping.RULE.to=...    change a rule; +mapping.NEW.to=... adds one; mapping.RULE=null: off
  freeze=[...]  seed=1  save.path=out.keras  expect=CHECKSUM  hydra.run.dir=FOLDER

flags
{flags}
  --help, --version

exit status: 0 done, 1 internal error, 2 recipe, plan or override wrong (nothing written),
3 verification failed, 4 a file could not be read or written, 5 refused as unsafe
"""
