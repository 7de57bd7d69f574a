"""The command line: verbs, overrides, exit statuses. The only room that prints, and the only one that knows Hydra."""

from __future__ import annotations

from transferpipe.cli.main import main

__all__ = ["main"]
