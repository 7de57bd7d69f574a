"""Reading the command line: the verb, its flags, and the overrides that are Hydra's to read."""

from __future__ import annotations

from collections.abc import Sequence

from transferpipe.cli.verbs import DEFAULT, FLAGS, MULTIRUN, STRICT, SWEEP, VERBS, Arguments, Verb, verbs_with
from transferpipe.errors import Problem, RecipeError, did_you_mean


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """Split `argv`, without the program's name.

    Raises:
        RecipeError: an unknown verb or flag.
    """
    rest = list(argv)
    verb = _take_verb(rest)
    if verb is DEFAULT and any(word in ("-m", MULTIRUN) for word in rest):
        verb = SWEEP
    plain: list[str] = []
    flags: set[str] = set()
    values: dict[str, tuple[str, ...]] = {}
    while rest:
        word = MULTIRUN if rest[0] == "-m" else rest[0]
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
    if not verb.takes_overrides:
        return Arguments(verb.name, (), tuple(plain), frozenset(flags), values, tuple(argv))
    if STRICT in flags:  # which is a key of the recipe, too
        plain.append("strict=true")
    return Arguments(verb.name, tuple(plain), (), frozenset(flags), values, tuple(argv))


def _take_verb(words: list[str]) -> Verb:
    if not words or words[0].startswith(("-", "+", "~")) or "=" in words[0]:
        return DEFAULT
    verb = words.pop(0)
    if verb not in VERBS:
        hint = did_you_mean(verb, VERBS) or f"the verbs are {', '.join(VERBS)}; a recipe is chosen by recipe={verb}"
        raise RecipeError(Problem("command line", f"unknown verb {verb!r}", hint))
    return VERBS[verb]


def _takes_value(flag: str, verb: Verb) -> bool:
    if flag not in FLAGS:
        hint = did_you_mean(flag, [*FLAGS, "--help", "--version"]) or "see transferpipe --help"
        raise RecipeError(Problem("command line", f"unknown flag {flag!r}", hint))
    verbs = verbs_with(flag)
    if verb.name not in verbs:
        what = f"{flag} does not go with {verb.name!r}"
        raise RecipeError(Problem("command line", what, f"it goes with {', '.join(verbs)}"))
    return FLAGS[flag].takes_value


def help_text() -> str:
    """Return the help: one screen."""
    verbs = "\n".join(f"  {verb.name:<10} {_describe(verb)}" for verb in VERBS.values())
    flags = "\n".join(f"  {f.name + (' X' if f.takes_value else ''):<16} {f.about}" for f in FLAGS.values())
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
  --help, --version      --version --plugins lists what installed packages add

exit status: 0 done, 1 internal error, 2 recipe, plan or override wrong (nothing written),
3 verification failed, 4 a file could not be read or written, 5 refused as unsafe; of diff:
0 equal, 1 different, 2 any trouble
"""


def _describe(verb: Verb) -> str:
    """Return what a verb does, and how it is called if that is another way than with a recipe."""
    called = "" if verb.takes_overrides or not verb.usage else f": transferpipe {verb.name} {verb.usage}"
    return f"{verb.about}{called}"
