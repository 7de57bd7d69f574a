"""The verb `recipes`: what there is to run."""

from __future__ import annotations

import json
from pathlib import Path

from transferpipe.cli.compose.folders import conf_folder, user_folder
from transferpipe.cli.terminal import width
from transferpipe.cli.verbs import Arguments
from transferpipe.recipe.locate import expand_home
from transferpipe.text.fold import hang
from transferpipe.text.visible import visible


def recipes(arguments: Arguments) -> int:
    """Print the recipes, each with the command it starts with."""
    arguments.take_words(0, "no words")
    found = find_recipes(arguments.value("--config-dir"))
    if "--json" in arguments.flags:
        print(
            json.dumps([{"name": n, "path": str(p), "first_line": first_line(p)} for n, p in found.items()], indent=1)
        )
        return 0
    wide = max((len(n) for n in found), default=0)
    for name, path in found.items():
        print("\n".join(hang(visible(name), visible(first_line(path)), width(), wide + 2)))
    return 0


def find_recipes(config_dir: str | None) -> dict[str, Path]:
    """Return the recipes by name; the user's own hide shipped ones of the same name."""
    folders = [conf_folder() / "recipe", user_folder(), user_folder() / "recipe"]
    if config_dir:
        folders.append(expand_home(config_dir, "--config-dir") / "recipe")
    found = {p.stem: p for folder in folders if folder.is_dir() for p in sorted(folder.glob("*.yaml"))}
    return dict(sorted(found.items()))


def first_line(path: Path) -> str:
    """Return a recipe's first comment that is not the package header."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        return f"(cannot be read: {error})"
    comments = (line.lstrip("# ").rstrip() for line in lines if line.startswith("#") and "@package" not in line)
    return next(comments, "")
