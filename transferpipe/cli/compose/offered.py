"""What the command line can set in a recipe, and to what: for completion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.object_type import ObjectType
from omegaconf import OmegaConf

from transferpipe.cli.compose.composing import Composer
from transferpipe.cli.compose.errors import GROUPS, keys_of, unwritten_keys
from transferpipe.recipe.keys import Key, find_keys

Answer = tuple[str, str]
_FILES = (*GROUPS, "sweep")
_ABOUT = {"recipe": "the recipe", "mapping": "a file of rules", "score": "what gives the result a number", "sweep": ""}


class Offered:
    """What can be set where some overrides are written already."""

    def __init__(self, composer: Composer, overrides: Sequence[str]) -> None:
        self._loader = composer.loader
        try:
            single = [o for o in overrides if "," not in o or "[" in o or "{" in o]  # of a sweep's axis, anything goes
            config = composer.load(composer.words(single))
            self._data: Mapping[str, Any] = OmegaConf.to_container(config)  # type: ignore[assignment]
            self._keys = keys_of(config)
        except Exception:  # what is wrong with the recipe is said when it is used
            self._data, self._keys = {}, []

    def present(self, word: str) -> Iterator[Answer]:
        """Yield the keys that the recipe has and that `word` begins, each as far as its next dot or equals sign."""
        yield from ((f"{group}=", _ABOUT[group]) for group in _FILES if group.startswith(word))
        if word.startswith("hydra/"):
            groups = self._loader.get_group_options("hydra", ObjectType.GROUP)
            yield from ((f"hydra/{group}=", "") for group in groups)
        depth = word.count(".")
        for path in self._keys:
            if not path.startswith(word) or path.count(".") != depth or (path == "hydra" and not word):
                continue
            value = self._value(path)
            if not (path in _FILES and not value):
                yield f"{path}{'.' if isinstance(value, Mapping) and value else '='}", _describe(path)

    def addable(self, word: str) -> Iterator[Answer]:
        """Yield the keys that the recipe does not have and may have, and that `word` begins."""
        for path in unwritten_keys(self._keys):
            holder = path.rpartition(".")[0]
            row = _row(holder)
            within = row is None or row.kind != "entries" or isinstance(self._value(holder), Mapping)
            if path.startswith(word) and within:  # where a text stands for a mapping, nothing is put into it
                yield f"{path}=", _describe(path)
        for path, about in self.present(word):  # on the way to them
            if path.endswith("."):
                yield path, about

    def values(self, key: str) -> Iterator[Answer]:
        """Yield what the key may be set to."""
        for name in self._loader.get_group_options(key, ObjectType.CONFIG) if self._is_group(key) else ():
            yield name, ""
        row = _row(key)
        if row is not None:
            yield from ((word, "") for word in row.words)
            yield from ((word, "") for word in ("true", "false") if row.kind == "flag")
            yield from ((word, "") for word in _formats() if row.name == "format")
        value = self._value(key)
        if isinstance(value, str | int | float):
            yield str(value).lower() if isinstance(value, bool) else str(value), "as it is"

    def _is_group(self, key: str) -> bool:
        return key in _FILES or "/" in key

    def _value(self, path: str) -> Any:
        here: Any = self._data
        for part in path.split("."):
            here = here.get(part) if isinstance(here, Mapping) else None
        return here


def _row(path: str) -> Key | None:
    *holder, name = path.split(".")
    return find_keys(tuple(holder)).get(name)


def _describe(path: str) -> str:
    row = _row(path)
    return row.about if row else ""


def _formats() -> Sequence[str]:
    from transferpipe.weights.formats import FORMATS

    return [*FORMATS]
