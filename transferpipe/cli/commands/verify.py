"""The verb `verify`: a finished run, verified again."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from transferpipe.cli.terminal import width
from transferpipe.cli.verbs import JSON, QUIET, Arguments
from transferpipe.errors import VerificationError
from transferpipe.progress import SHOWN
from transferpipe.prove.run_folder import verify_run
from transferpipe.show.sweeps.verdict_table import verdict_text
from transferpipe.text.visible import visible


def verify(arguments: Arguments) -> int:
    """Prove one run folder again from its manifest."""
    (folder,) = arguments.take_words(1, "one run folder")
    with SHOWN.get()() as report_progress:
        proof = verify_run(Path(folder), report_progress, outside="--outside" in arguments.flags)
    if JSON in arguments.flags:
        told = {
            "format_version": 1,
            "verdict": proof.verdict.to_data(),
            "checked": proof.checked,
            "notes": list(proof.notes),
        }
        print(json.dumps(told, indent=1))
    elif QUIET in arguments.flags:
        for note in proof.notes:
            print(visible(f"note     {note}"), file=sys.stderr)
    else:
        print(verdict_text(proof.verdict, proof.checked, width()))
        for note in proof.notes:
            print(visible(f"note     {note}"))
    return VerificationError.status if proof.verdict.weights == "inconclusive" else 0
