"""The verb `parity`: two models on one input, layer by layer."""

from __future__ import annotations

import contextlib
import json
import math
import sys

from transferpipe.cli.terminal import width
from transferpipe.cli.verbs import Arguments
from transferpipe.errors import Problem, RecipeError, VerificationError


def parity(arguments: Arguments) -> int:
    """Run two models on one input and print where they part."""
    original, judged = arguments.take_words(2, "two models, the original and the one to judge")
    from transferpipe.execute.words import open_words
    from transferpipe.prove.parity.result import PASS
    from transferpipe.prove.parity.table import parity_text
    from transferpipe.prove.parity.two import ParitySettings, compare_models

    settings = ParitySettings(arguments.value("--inputs"), _number(arguments, "--atol"), _number(arguments, "--rtol"))
    as_json = "--json" in arguments.flags
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        first, second = open_words({"A": original, "B": judged}, arguments.values.get("--trust", ()))
        found = compare_models(first, second, settings)
    if as_json:
        print(json.dumps({"format_version": 1, **found.to_data()}, indent=1))
    else:
        print(parity_text(found, width(), every="--all" in arguments.flags))
    return 0 if found.verdict == PASS else VerificationError.status


def _number(arguments: Arguments, flag: str) -> float | None:
    text = arguments.value(flag)
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise RecipeError(Problem(flag, f"must be a number of at least 0, not {text!r}", f"such as {flag} 1e-4"))
    return number
