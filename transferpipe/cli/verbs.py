"""The verbs and the flags of the command line: one row each.

To add a verb: 1. write its function, which takes `Arguments` and returns the exit status, in a module of its own;
2. add a row to `VERBS`. Help, completion, the check of its flags and the dispatch all read the row.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from transferpipe.errors import Problem, RecipeError

OVERRIDES = "[KEY=VALUE ...]"
STRICT, MULTIRUN, DRY_RUN, QUIET, JSON = "--strict", "--multirun", "--dry-run", "--quiet", "--json"
_FUNCTION = re.compile(r"[a-z_]\w*(\.[a-z_]\w*)*:[a-z_]\w*")


@dataclass(frozen=True)
class Flag:
    """A flag.

    Attributes:
        name: as it is written.
        about: what it does, for the help.
        takes_value: whether a value follows it.
        short: the short spelling, as Hydra's applications have it.
    """

    name: str
    about: str
    takes_value: bool = False
    short: str = ""

    @property
    def spelling(self) -> str:
        """How the help writes it."""
        both = f"{self.short}, {self.name}" if self.short else self.name
        return f"{both} X" if self.takes_value else both


@dataclass(frozen=True)
class Verb:
    """A verb.

    Attributes:
        name: as it is written.
        about: what it does, for the help.
        usage: the arguments that it takes; `OVERRIDES` are Hydra's to read.
        flags: the flags that go with it, beside those that go with every verb.
        example: a command that somebody would type.
        function: ``module:function`` in this room; imported when the verb runs, for `--help` must not wait for Hydra.
        has_bar: whether it shows a bar of its own, beside which there cannot be another.
        is_resumed: whether the same command goes on where an interrupted one stopped.
        compares: whether its status 1 says that two things differ, which an internal error must not say.

    Raises:
        ValueError: the row names no function.
    """

    name: str
    about: str
    usage: str
    flags: tuple[str, ...]
    function: str
    example: str
    has_bar: bool = False
    is_resumed: bool = False
    compares: bool = False

    def __post_init__(self) -> None:
        if not _FUNCTION.fullmatch(self.function):
            raise ValueError(f"the verb {self.name!r} names no function: {self.function!r} is not module:function")

    @property
    def takes_overrides(self) -> bool:
        """Whether its words are overrides of a recipe, and no paths."""
        return self.usage == OVERRIDES

    def run(self, arguments: Arguments) -> int:
        """Do what the verb says and return the exit status.

        Raises:
            LookupError: there is no such function.
        """
        module, _, name = self.function.partition(":")
        function = getattr(importlib.import_module(f"{__package__}.{module}"), name, None)
        if not callable(function):
            raise LookupError(f"the verb {self.name!r} names the function {self.function!r}, which does not exist")
        return int(function(arguments))


@dataclass(frozen=True)
class Arguments:
    """The command line, split.

    Attributes:
        verb: what to do.
        overrides: Hydra overrides such as ``recipe=digits``.
        positional: paths.
        flags: flags without a value.
        values: the values of flags that take one.
        typed: the words as they were typed.
    """

    verb: str
    overrides: tuple[str, ...] = ()
    positional: tuple[str, ...] = ()
    flags: frozenset[str] = frozenset()
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    typed: tuple[str, ...] = ()

    def value(self, flag: str) -> str | None:
        """Return the last value of `flag`."""
        return self.values.get(flag, (None,))[-1]

    def take_words(self, count: int, what: str) -> tuple[str, ...]:
        """Return the words, which must be `count`; `what` says in a message what they are.

        Raises:
            RecipeError: they are more or fewer.
        """
        if len(self.positional) == count:
            return self.positional
        verb = VERBS[self.verb]
        usage = f"transferpipe {verb.name} {verb.usage}"
        raise RecipeError(Problem(self.verb, f"takes {what}, not {len(self.positional)}", usage))


def _by_name(rows: Sequence[Verb]) -> Mapping[str, Verb]:
    named = {row.name: row for row in rows}
    if len(named) < len(rows):
        raise ValueError("two verbs have one name")
    unknown = [flag for row in rows for flag in row.flags if flag not in FLAGS]
    if unknown:
        raise ValueError(f"a verb takes the flag {unknown[0]!r}, which has no row")
    return named


_FLAGS = (
    Flag(JSON, "print JSON, errors too"),
    Flag(QUIET, "print nothing but warnings and errors", short="-q"),
    Flag(
        "--all",
        "list everything: what is not a weight (inspect), layers (parity), weights (diff), rows (report, sweep)",
    ),
    Flag("--inputs", "an npz file with one array an input, in place of random ones", takes_value=True),
    Flag("--atol", "the largest difference allowed", takes_value=True),
    Flag("--rtol", "the same as a part of the expected value", takes_value=True),
    Flag("--stats", "read the values, once: mean, spread, range, zeros, NaN"),
    Flag("--tree", "show layers in layers, with their settings"),
    Flag("--write", "write the proposed recipe: --write recipes/NAME.yaml", takes_value=True),
    Flag("--against", "what is different from a plan.json or a run folder; status 1 if anything is", takes_value=True),
    Flag(DRY_RUN, "plan, print what would be done, and stop"),
    Flag("--skip-broken", "if a variant cannot be planned, run the others"),
    Flag("--watch", "print the table again and again until the sweep is finished"),
    Flag(MULTIRUN, "the same as the verb sweep; with plan, as sweep --dry-run", short="-m"),
    Flag("--outside", "also read what the run saved outside of its folder"),
    Flag("--trust", "let the recipe use this Python package (repeatable)", takes_value=True),
    Flag(STRICT, "make warnings errors; allow=[CODE] lets some pass"),
    Flag("--config-dir", "a further folder with recipe/*.yaml", takes_value=True, short="-cd"),
    Flag("--config-name", "the same as recipe=X", takes_value=True, short="-cn"),
    Flag("--cfg", "print the composed recipe and stop: job, hydra or all", takes_value=True, short="-c"),
    Flag("--resolve", "with --cfg: fill in the ${...}"),
    Flag("--package", "with --cfg: print this part alone, such as mapping", takes_value=True, short="-p"),
    Flag("--info", "print what Hydra knows and stop: searchpath, defaults, defaults-tree, plugins", takes_value=True),
    Flag("--traceback", "show where in the code an error arose"),
)
FLAGS: Mapping[str, Flag] = {flag.name: flag for flag in _FLAGS}
SHORT: Mapping[str, Flag] = {flag.short: flag for flag in _FLAGS if flag.short}
OF_EVERY_VERB = ("--traceback",)

_OF_RECIPES = ("--trust", "--config-dir")
PRINTING = ("--cfg", "--resolve", "--package", "--info")
"""The flags that print what was composed, and those that say how."""
_OF_HYDRA = ("--config-name", *PRINTING, MULTIRUN)
"""What every application of Hydra has; what it prints instead of running is printed instead of anything else."""

VERBS: Mapping[str, Verb] = _by_name(
    (
        Verb(
            "run",
            "carry out a recipe: plan, copy, verify, save (the default)",
            OVERRIDES,
            (JSON, QUIET, DRY_RUN, STRICT, *_OF_RECIPES, *_OF_HYDRA),
            "commands.transfer:run",
            "transferpipe run recipe=same_layer seed=7",
        ),
        Verb(
            "plan",
            "print the plan of a recipe and write nothing",
            OVERRIDES,
            (JSON, "--against", QUIET, STRICT, *_OF_RECIPES, *_OF_HYDRA),
            "commands.transfer:plan",
            "transferpipe plan recipe=same_layer unmatched=keep",
        ),
        Verb(
            "inspect",
            "list the weights of a file",
            "PATH [match=X] [format=X] [select=X]",
            (JSON, "--all", "--stats", "--tree"),
            "commands.inspect:inspect",
            "transferpipe inspect pkg://transferpipe/zoo/data/digits_0_4.keras --stats",
        ),
        Verb(
            "sweep",
            "run a recipe in many variants: sweep vars.cut=1,2,3 'seed=range(5)'",
            OVERRIDES,
            (JSON, QUIET, DRY_RUN, "--all", "--skip-broken", STRICT, *_OF_RECIPES, *_OF_HYDRA),
            "sweeps.verb:sweep",
            "transferpipe sweep recipe=same_layer seed=1,2 --dry-run",
            has_bar=True,
            is_resumed=True,
        ),
        Verb(
            "report",
            "build a sweep's table and page again, or compare two sweeps",
            "FOLDER [FOLDER]",
            (JSON, "--all", "--watch"),
            "sweeps.report:report",
            "transferpipe report outputs/sweeps/yosinski",
        ),
        Verb(
            "verify",
            "verify a finished run again",
            "FOLDER",
            (JSON, QUIET, "--outside"),
            "commands.verify:verify",
            "transferpipe verify outputs/digits/2026-01-31_12-00-00-p0123456789a",
        ),
        Verb(
            "parity",
            "compare what two models compute",
            "A B",
            (JSON, "--all", "--inputs", "--atol", "--rtol", "--trust"),
            "commands.parity:parity",
            "transferpipe parity old.keras new.keras --atol 1e-5",
        ),
        Verb(
            "diff",
            "compare two sets of weights",
            "A B [KEY=VALUE ...]",
            (JSON, "--all", *_OF_RECIPES),
            "commands.diff:diff",
            "transferpipe diff before.keras after.safetensors",
            compares=True,
        ),
        Verb(
            "suggest",
            "propose a mapping, as YAML for review",
            "source=A target=B",
            (JSON, "--write", *_OF_RECIPES),
            "commands.suggest:suggest",
            "transferpipe suggest source=old.h5 target=new.keras --write recipes/new.yaml",
        ),
        Verb(
            "init",
            "write a commented recipe for two files or builders",
            "A B [NAME] [hints=X]",
            (JSON, "--trust"),
            "commands.init:init",
            "transferpipe init old.h5 'my_models.build(classes=2)' mine",
        ),
        Verb(
            "recipes",
            "list the recipes with their commands",
            "",
            (JSON, "--config-dir"),
            "commands.recipes:recipes",
            "transferpipe recipes",
        ),
        Verb(
            "schema",
            "print the JSON Schema of recipes, or of a record",
            "[KIND]",
            (),
            "commands.schema:print_schema",
            "transferpipe schema recipe",
        ),
        Verb(
            "completion",
            "print the script that makes your shell complete",
            "bash|zsh|fish",
            (),
            "commands.shells:print_script",
            "transferpipe completion bash",
        ),
        Verb(
            "help",
            "list the reference pages, or show one, or a verb's flags",
            "[TOPIC]",
            (),
            "commands.topics:show_help",
            "transferpipe help transforms",
        ),
    )
)
DEFAULT, PLAN, SWEEP = VERBS["run"], VERBS["plan"], VERBS["sweep"]


def verbs_with(flag: str) -> tuple[str, ...]:
    """Return the verbs that `flag` goes with."""
    return tuple(name for name, verb in VERBS.items() if flag in (*verb.flags, *OF_EVERY_VERB))
