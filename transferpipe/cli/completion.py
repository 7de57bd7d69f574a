"""Tab completion: Hydra's own, with our verb taken off the line."""

from __future__ import annotations

import os
import sys

from transferpipe.cli.arguments import VERBS


def complete(words: list[str]) -> int:
    """Answer a completion request, or print the script that installs it (``-sc install=bash``)."""
    import hydra

    from transferpipe.cli.compose import session
    from transferpipe.cli.recipe_folders import conf_folder

    line = os.environ.get("COMP_LINE")
    if line:
        program, _, rest = line.partition(" ")
        verb, space, after = rest.lstrip().partition(" ")
        if not space and "=" not in verb:
            print("\n".join(v for v in VERBS if v.startswith(verb)))
        os.environ["COMP_LINE"] = f"{program} {after}" if verb in VERBS else line
        os.environ["COMP_POINT"] = str(len(os.environ["COMP_LINE"]))
    if words and words[0] in VERBS:
        words = words[1:]

    @hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")
    def _app(_: object) -> None: ...

    with session(None):
        pass
    sys.argv = [sys.argv[0], *words]
    _app()
    return 0
