"""What fits at the cursor: verbs, flags, topics, and the keys and values that a recipe can have there.

Keys that the recipe has are offered as they are, those that it may have behind a ``+``, as Hydra wants them. Values are
the names of files (recipes, rules, scores, sweeps), the words of the table of keys, and the present value.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from transferpipe.cli.commands.shells import SCRIPTS
from transferpipe.cli.verbs import DEFAULT, FLAGS, OF_EVERY_VERB, VERBS, Verb
from transferpipe.errors import TransferError

Answer = tuple[str, str]
"""A word, and what it means; nothing where that need not be said."""
_INSTALL = re.compile(r"install=(\w+)")
_PATHS = ("path", "inputs", "expected")
_FISH = "query=fish"


def complete(words: list[str]) -> int:
    """Answer a shell that asks with ``COMP_LINE``, or print the script that makes it ask (``-sc install=bash``)."""
    line = os.environ.get("COMP_LINE")
    if not line:
        wanted = next((m[1] for word in words if (m := _INSTALL.fullmatch(word))), "bash")
        print(SCRIPTS.get(wanted, ""), end="")
        return 0 if wanted in SCRIPTS else 2
    # Somebody is in the middle of a line: what is wrong with it, they hear when they have typed it.
    answers: Mapping[str, str] = {}
    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(TransferError):
        answers = find_answers(line)
    for word, about in answers.items():
        print(f"{word}\t{about}" if about and _FISH in words else word)
    return 0


def find_answers(line: str) -> dict[str, str]:
    """Return what fits at the end of a command line that begins with the program's name, and what it means.

    Raises:
        TransferError: the line cannot be completed as it is.
    """
    _, *typed = line.split(" ")
    last = typed.pop() if typed else ""
    verb = next((VERBS[word] for word in typed if word in VERBS), DEFAULT)
    found: dict[str, str] = {}
    for word, about in _in_line(verb, typed, last):
        if word.startswith(last):
            found.setdefault(word, about)
    return found


def _in_line(verb: Verb, typed: Sequence[str], last: str) -> Iterator[Answer]:
    before = typed[-1] if typed else ""
    if last.startswith("-"):
        mine = [flag for name, flag in FLAGS.items() if name in (*verb.flags, *OF_EVERY_VERB) and name not in typed]
        yield from ((flag.name, flag.about) for flag in mine)
        yield "--help", "show the verbs and flags"
    elif before in FLAGS and FLAGS[before].takes_value:
        yield from ((word, "") for word in ("job", "hydra", "all") if before == "--cfg")
    elif verb.takes_overrides:
        if not any(word in VERBS for word in typed):
            yield from ((row.name, row.about) for row in VERBS.values())
        yield from _overrides(typed, last)
    elif not [word for word in typed if word != verb.name and not word.startswith("-")]:
        yield from _words_of(verb.name)  # for paths there are none: the shell completes them


def _words_of(verb: str) -> Iterable[Answer]:
    """Return the words that a verb takes, where they are words of ours."""
    if verb == "help":
        from transferpipe.show.help_pages import list_topics

        return list_topics().items()
    if verb == "schema":
        from transferpipe.show.schemas import SCHEMAS

        return ((kind, about) for kind, (about, _) in SCHEMAS.items())
    return ((shell, "") for shell in SCRIPTS) if verb == "completion" else ()


def _overrides(typed: Sequence[str], last: str) -> Iterator[Answer]:
    """Yield what fits as an override."""
    from transferpipe.cli.compose.composing import Composer
    from transferpipe.cli.compose.offered import Offered

    overrides, config_dir = _split(typed)
    sign = re.match(r"[+~]*", last)
    assert sign is not None
    word = last[sign.end() :]
    offered = Offered(Composer(config_dir), overrides)
    key, equals, value = word.partition("=")
    if equals and not sign[0].startswith("~"):
        # Of several values, and of a list, the last is being typed.
        done = value[: max(value.rfind(","), value.rfind("[")) + 1]
        files = _files(value) if key.rpartition(".")[2] in _PATHS else ()
        found = [*offered.values(key), *((file, "") for file in files)]
        yield from ((f"{sign[0]}{key}={done}{text}", about) for text, about in found)
    elif sign[0].startswith("+"):
        yield from ((f"{sign[0]}{key}", about) for key, about in offered.addable(word))
    else:
        for key, about in offered.present(word):
            yield f"{sign[0]}{key.rstrip('=') if sign[0] else key}", about


def _files(begun: str) -> Iterator[str]:
    """Yield the files and folders whose paths begin so."""
    folder, slash, name = begun.rpartition("/")
    with contextlib.suppress(OSError):
        for path in sorted(Path(f"{folder}{slash}" or ".").iterdir()):
            if path.name.startswith(name):
                yield f"{folder}{slash}{path.name}{'/' if path.is_dir() else ''}"


def _split(typed: Sequence[str]) -> tuple[list[str], str | None]:
    """Return the overrides among the finished words, and the value of ``--config-dir``."""
    words, overrides, config_dir = list(typed), [], None
    while words:
        word = words.pop(0)
        flag, equals, value = word.partition("=")
        if flag in FLAGS:
            taken = value if equals or not FLAGS[flag].takes_value else words.pop(0) if words else ""
            config_dir = taken if flag == "--config-dir" else config_dir
        elif word not in VERBS and "=" in word:
            overrides.append(word.strip("'\""))
    return overrides, config_dir
