"""The entry point: dispatches a verb and turns errors into messages and exit statuses."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager

from transferpipe.cli.arguments import HELP, help_text, help_width, idle_keys, parse_arguments, verb_help
from transferpipe.cli.interrupted import farewell, status_of
from transferpipe.cli.verbs import JSON, QUIET, VERBS, Verb
from transferpipe.errors import Problem, RecipeError, TransferError
from transferpipe.fetch.address import word_given
from transferpipe.files.os_errors import explain_machine_error
from transferpipe.interruption import interruption, interruptions, raise_if_interrupted
from transferpipe.progress import SHOWN, Progress
from transferpipe.text.credentials import hide_credentials
from transferpipe.text.visible import visible


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a character that the terminal does not know is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    if os.environ.get("COMP_LINE") or any(w in ("-sc", "--shell-completion") for w in words):
        from transferpipe.cli.completion import complete

        return complete(words)
    if any(w in HELP for w in words):
        verb = next((VERBS[w] for w in words if w in VERBS), None)
        print(verb_help(verb, help_width()) if verb else help_text(help_width()), end="")
        return 0
    if words and set(words) <= {"--version", "--plugins"}:
        from transferpipe import __version__

        print(f"transferpipe {__version__}")
        if "--plugins" in words:
            from transferpipe.cli.commands.plugins import plugins_text

            print(plugins_text())
        return 0
    return _guard(words)


def _guard(words: list[str]) -> int:
    show_trace, bug, name, arguments = "--traceback" in words, 1, "", None
    try:
        arguments = parse_arguments(words)
        verb, name = VERBS[arguments.verb], arguments.verb
        # Where 1 says that two things differ, a bug must not say so.
        bug = 2 if verb.compares or arguments.value("--against") is not None else 1
        SHOWN.set(_progress_of(verb, arguments.flags))
        for key in idle_keys(arguments):
            print(visible(f"warning  {key}: Hydra's key does nothing in {verb.name}"), file=sys.stderr)
        with (
            interruptions(signal.SIGINT, signal.SIGTERM),
            word_given(arguments.typed, arguments.values.get("--trust", ())),
        ):
            status = verb.run(arguments)
            raise_if_interrupted()
        # Here, where an error still has a message and a status: at the interpreter's end it would have neither.
        sys.stdout.flush()
    except KeyboardInterrupt as error:
        return _end_interrupted(name, type(error))
    except (OSError, MemoryError, RuntimeError, TransferError, SystemExit) as failure:
        said = _explain(failure)
        if said is None:
            return _internal(failure, words, name, bug)
        if kind := interruption():  # what a signal was raised in made this of it
            return _end_interrupted(name, kind)
        if show_trace:
            traceback.print_exc()
        print("error: " + "\n".join(said.lines()), file=sys.stderr)
        for line in _no_recipe_note(arguments.overrides if arguments else ()):
            print(visible(hide_credentials(line)), file=sys.stderr)
        return _as_json(words, said.title, said.problems, said.status)
    except Exception as error:
        return _internal(error, words, name, bug)
    return status


def _explain(failure: Exception | SystemExit) -> TransferError | None:
    """Return the error to show for a failure that lies outside of this program; None where it may lie in it."""
    if isinstance(failure, SystemExit):  # of the user's code: nothing was finished, whatever status it names
        return RecipeError(Problem("the recipe's Python code", f"ended the program by SystemExit: {failure}"))
    return failure if isinstance(failure, TransferError) else explain_machine_error(failure)


# A path or a builder, as `init` takes it: no mapping, list or choice of several.
_OWN_MODEL = re.compile(r"\+{0,2}(source|target)(?:\.path|\._target_)?=([^{}\[\](),]+)", re.DOTALL)


def _no_recipe_note(words: Sequence[str]) -> Sequence[str]:
    """Return the lines that are said where somebody names a source or a target of their own, but no recipe."""
    if not any(w.lstrip("+").startswith(("source", "target")) for w in words) or any(
        w.startswith("recipe=") for w in words
    ):
        return ()
    own = {found[1]: found[2] for w in words if (found := _OWN_MODEL.fullmatch(w))}
    init = " ".join(
        ["init", *(shlex.quote(own[key]) if key in own else name for key, name in (("source", "A"), ("target", "B")))]
    )
    return (
        "note: no recipe was chosen, so this uses the recipe `digits`; choose one with recipe=NAME.",
        f"  `transferpipe {init}` writes one for two files or builders.",
    )


def _internal(error: BaseException, words: list[str], verb: str, status: int) -> int:
    """Say that transferpipe has a bug, and return `status`. It is called while the error is handled."""
    if kind := interruption():
        return _end_interrupted(verb, kind)
    if "--traceback" in words:
        traceback.print_exc()
    print(f"internal error: {type(error).__name__}: {visible(hide_credentials(str(error)))}", file=sys.stderr)
    print("this is a bug in transferpipe; run again with --traceback and report it", file=sys.stderr)
    return _as_json(words, "internal error", [Problem("", f"{type(error).__name__}: {error}")], status)


def _end_interrupted(verb: str, kind: type[KeyboardInterrupt]) -> int:
    print(farewell(verb), file=sys.stderr)
    return status_of(kind)


def _as_json(words: Sequence[str], error: str, problems: Iterable[Problem], status: int) -> int:
    """Print an error for programs, if they asked for JSON, and return the status: they read one document either way."""
    if JSON in words:
        parts = ({"where": p.where, "what": p.what, "fix": p.fix, "place": p.place} for p in problems)
        found = [{name: hide_credentials(text) for name, text in part.items()} for part in parts]
        print(json.dumps({"format_version": 1, "error": error, "status": status, "problems": found}, indent=1))
    return status


def _progress_of(verb: Verb, flags: Collection[str]) -> Callable[[], AbstractContextManager[Progress]]:
    """Return what shows how far a step is. A sweep has a bar of its own, beside which there cannot be another."""
    from transferpipe.cli.terminal import no_progress, plain_progress, progress

    return no_progress if QUIET in flags else plain_progress if verb.has_bar else progress
