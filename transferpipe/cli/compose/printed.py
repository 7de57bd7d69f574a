"""Printing what was composed instead of running it, as every application of Hydra does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from transferpipe.cli.compose.composing import Composed, without_hydra
from transferpipe.cli.compose.hydra_private import INFO, info_text
from transferpipe.cli.compose.resolving import hide_copied, yaml_text
from transferpipe.cli.verbs import Arguments
from transferpipe.errors import Problem, RecipeError, did_you_mean
from transferpipe.text.visible import visible


def print_config(arguments: Arguments, composed: Composed) -> bool:
    """Print the composed configuration, or what Hydra knows, if that is asked for in place of anything else.

    Raises:
        RecipeError: there is no such part.
    """
    info, wanted = arguments.value("--info"), arguments.value("--cfg")
    if info is not None:
        print(_info(info, composed), end="")
    elif wanted is not None:
        print(_part(wanted, arguments, composed), end="")
    else:
        for flag in ("--resolve", "--package"):
            if flag in arguments.flags or flag in arguments.values:
                raise RecipeError(Problem(flag, "goes with --cfg, which is not given", "add --cfg job"))
        return False
    return True


def _info(wanted: str, composed: Composed) -> str:
    if wanted not in INFO:
        what = f"is one of {', '.join(INFO)}, not {wanted!r}"
        raise RecipeError(Problem("--info", what, did_you_mean(wanted, INFO)))
    with composed.composer.reading():
        text = info_text(composed.composer.loader, wanted, composed.composer.words(composed.overrides))
    return "\n".join(map(visible, text.split("\n")))


def _part(wanted: str, arguments: Arguments, composed: Composed) -> str:
    whole = composed.config.copy()
    hide_copied(whole.hydra)
    parts: Mapping[str, Callable[[], Any]] = {
        "job": lambda: without_hydra(composed.config),
        "hydra": lambda: whole.hydra,
        "all": lambda: whole,
    }
    if wanted not in parts:
        raise RecipeError(Problem("--cfg", f"is one of {', '.join(parts)}, not {wanted!r}", "--cfg job"))
    resolve, package = "--resolve" in arguments.flags, arguments.value("--package")
    part = OmegaConf.create(dict(composed.data)) if resolve and wanted == "job" else parts[wanted]()
    # As in other applications of Hydra, a part is named from the top, whichever of them is printed.
    inner = part if package in (None, wanted) else OmegaConf.select(part, str(package).removeprefix(f"{wanted}."))
    if inner is None:
        hint = did_you_mean(str(package), map(str, part)) or f"there are {', '.join(map(str, part))}"
        raise RecipeError(Problem("--package", f"there is no part {package!r}", hint))
    if not isinstance(inner, (DictConfig, ListConfig)):
        return f"{visible(str(inner))}\n"
    try:
        text = yaml_text(inner, resolve)
    except OmegaConfBaseException as error:  # such as the checksum of the plan in the name of the folder
        raise RecipeError(Problem("--resolve", str(error).splitlines()[0], "leave out --resolve")) from error
    return text if package is None else f"# @package {package}\n{text}"
