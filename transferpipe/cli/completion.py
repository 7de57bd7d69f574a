"""Tab completion: verbs and flags here; keys, recipes and values are Hydra's, which never sees our verbs and flags."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from dataclasses import dataclass

from transferpipe.cli.verbs import DEFAULT, FLAGS, OF_EVERY_VERB, VERBS
from transferpipe.errors import TransferError


@dataclass(frozen=True)
class _Line:
    """A half typed command line.

    Attributes:
        words: the answer, as far as it is ours.
        rest: what Hydra is to complete; None where it has nothing to say.
        config_dir: the value of ``--config-dir``.
    """

    words: tuple[str, ...]
    rest: str | None = None
    config_dir: str | None = None


def complete(words: list[str]) -> int:
    """Answer a completion request, or print the script that installs it (``-sc install=bash``)."""
    config_dir = None
    if line := os.environ.get("COMP_LINE"):
        read = _read(line)
        if read.words:
            print(" ".join(read.words))
        if read.rest is None:
            return 0
        os.environ["COMP_LINE"], config_dir = read.rest, read.config_dir
        os.environ["COMP_POINT"] = str(len(read.rest))
    try:
        # Somebody is in the middle of a line: what is wrong with it, they hear when they have typed it.
        with contextlib.redirect_stderr(io.StringIO()) if line else contextlib.nullcontext():
            _ask_hydra(words[1:] if words[:1] and words[0] in VERBS else words, config_dir)
    except TransferError as error:
        return error.status
    return 0


def _read(line: str) -> _Line:
    program, *typed = line.split(" ")
    last = typed.pop() if typed else ""
    verb = next((VERBS[word] for word in typed[:1] if word in VERBS), DEFAULT)
    if last.startswith("-"):
        own = [flag for flag in FLAGS if flag in (*verb.flags, *OF_EVERY_VERB)]
        return _Line(tuple(f for f in (*own, "--help") if f.startswith(last)))
    if typed and typed[-1] in FLAGS and FLAGS[typed[-1]].takes_value:
        return _Line(("job",) if typed[-1] == "--cfg" else ())
    if verb.name == "help":
        from transferpipe.show.help_pages import list_topics

        return _Line(tuple(topic for topic in list_topics() if topic.startswith(last)))
    if not verb.takes_overrides:
        return _Line(())  # the shell completes paths
    overrides, config_dir = _overrides(typed)
    verbs = tuple(v for v in VERBS if v.startswith(last)) if not typed else ()
    return _Line(verbs, " ".join([program, *overrides, last]), config_dir)


def _overrides(typed: list[str]) -> tuple[list[str], str | None]:
    """Return what Hydra reads of the finished words, and the value of ``--config-dir``."""
    words, overrides, config_dir = list(typed), [], None
    while words:
        word = words.pop(0)
        flag, equals, value = word.partition("=")
        if flag in FLAGS:
            taken = value if equals or not FLAGS[flag].takes_value else words.pop(0) if words else ""
            config_dir = taken if flag == "--config-dir" else config_dir
        elif word not in VERBS:
            overrides.append(word)
    return overrides, config_dir


def _ask_hydra(words: list[str], config_dir: str | None) -> None:
    import hydra

    from transferpipe.cli.compose.composing import session
    from transferpipe.cli.compose.folders import conf_folder

    @hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")
    def _app(_: object) -> None: ...

    with session(config_dir):
        pass
    sys.argv = [sys.argv[0], *words]
    _app()
