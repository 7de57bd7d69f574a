"""The verb `verify`: a finished run, proved again."""

from __future__ import annotations

import json
from pathlib import Path

from transferpipe.cli.arguments import Arguments
from transferpipe.cli.terminal import progress
from transferpipe.errors import Problem, RecipeError, VerificationError
from transferpipe.execute.verify_run import INCONCLUSIVE, verify_run


def verify(arguments: Arguments) -> int:
    """Prove one run folder again from its manifest."""
    if len(arguments.positional) != 1:
        raise RecipeError(
            Problem("verify", f"takes one run folder, not {len(arguments.positional)}", "transferpipe verify FOLDER")
        )
    with progress() as report_progress:
        verdict = verify_run(Path(arguments.positional[0]), report_progress)
    if "--json" in arguments.flags:
        print(
            json.dumps({"verdict": verdict.verdict, "checked": verdict.checked, "notes": list(verdict.notes)}, indent=1)
        )
    else:
        print(f"verdict  {verdict.verdict}: {verdict.checked}")
        for note in verdict.notes:
            print(f"note     {note}")
    return VerificationError.status if verdict.verdict == INCONCLUSIVE else 0
