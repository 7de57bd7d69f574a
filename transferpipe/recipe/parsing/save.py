"""Reading `save`: which files are written, and what those of named tensors call them."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from transferpipe.recipe.model import Origin, Renaming, Save
from transferpipe.recipe.outputs import known_suffixes, output_of, outputs_of, suffixes_with
from transferpipe.recipe.parsing.fields import Fields, describe
from transferpipe.recipe.parsing.origins import parse_origin
from transferpipe.recipe.parsing.rules import compile_pattern, compile_template
from transferpipe.recipe.sizes import parse_size

# What most file systems take: limits.h(0p), PATH_MAX less what lies above, and NAME_MAX.
_LONGEST, _LONGEST_NAME = 1000, 255
# An address, or a path of another system.
_ELSEWHERE = re.compile(r"[A-Za-z][\w+.-]*://?|[A-Za-z]:")

RECORDS = frozenset(("manifest.json", "plan.json", "report.html", "score.json", "readme.md", ".hydra", "variant.json",
                     "result.json", "run.log", "started", "deaths", ".lock"))  # fmt: skip
"""What runs and the variants of sweeps write beside their outputs, in lower case."""


def parse_save(fields: Fields, absolute: bool, target: Origin | None) -> Save:
    """Return what is to be written; what is wrong with it is noted.

    Args:
        fields: the whole recipe.
        absolute: whether files may lie outside of the run folder.
        target: what the recipe fills.
    """
    value = fields.raw("save")
    if isinstance(value, str):
        value = {"path": value}
    if value is not None and not isinstance(value, Mapping):
        fields.note("save", f"must be a path or a mapping, not {describe(value)}")
    inner = Fields(value if isinstance(value, Mapping) else {}, "save", fields.problems, "save")
    path = inner.text("path") if inner.has("path") else _same_format(target)
    save = Save(
        path=Save.path if path is None else path,
        also=inner.texts("also"),
        overwrite=inner.flag("overwrite"),
        layout=inner.choice("layout"),
        shard=_parse_shard(inner),
        names=_parse_names(inner),
        like=_parse_like(inner),
        card=inner.flag("card"),
    )
    for key, paths in (("path", (save.path,)), ("also", save.also)):
        for path in paths:
            _check_save_path(path, key, inner, absolute)
    _check_folders(save, inner)
    _check_apart((save.path, *save.also), inner)
    outputs = outputs_of((save.path, *save.also))
    if not any(o.names_tensors for o in outputs):
        _note_unnamed(save, inner)
    if save.shard and not any(o.splits for o in outputs):
        first, *others = suffixes_with("splits")
        what = f"needs a {' or '.join((first, *others))} file, which can be cut into several"
        inner.note("shard", what, f"save.path=model{first}")
    inner.finish()
    return save


def _check_apart(paths: Sequence[str], inner: Fields) -> None:
    """Note outputs that are one file, here or where names differ in more than case and form, and one inside another."""
    known = dict[tuple[str, ...], str]()
    for path in paths:
        parts = PurePath(path).parts
        plain = tuple(unicodedata.normalize("NFC", part.casefold()) for part in parts)
        if other := known.get(plain):
            if PurePath(other).parts == parts:
                return inner.note("also", f"names the same file twice: {', '.join(paths)}")
            return inner.note("also", f"{other!r} and {path!r} are one file on systems where case does not count")
        known[plain] = path
    for outer, inside in itertools.pairwise(sorted(known)):  # what lies inside of a file is sorted behind it
        if inside[: len(outer)] == outer and PurePath(known[outer]).suffix:
            what = f"{known[inside]!r} cannot be inside of {known[outer]!r}: both are outputs"
            return inner.note("also", what)
    return None


def _same_format(target: Origin | None) -> str:
    """Return where the result goes if the recipe does not say: into a file of weights, if the target is one.

    No model can be made of weights alone.
    """
    output = output_of(target.path) if target and target.path else None
    if output is None or output.holds_architecture or not output.streams:
        return Save.path
    return PurePath(Save.path).stem + output.suffix


def _note_unnamed(save: Save, inner: Fields) -> None:
    """Note what is meant for files of named tensors, of which none is written."""
    fix = f"save one of {', '.join(suffixes_with('names_tensors'))}"
    if save.layout != Save.layout:
        inner.note("layout", f"{save.layout} needs a file of named tensors", fix)
    if save.like:
        inner.note("like", "applies only to files of named tensors", fix)
    if save.names:
        inner.note("names", "applies only to files of named tensors", fix)


def _parse_names(inner: Fields) -> tuple[Renaming, ...]:
    """Return how tensors are renamed; null switches a line off."""
    found = []
    for text, template in inner.mapping("names").items():
        if template is None:
            continue
        where = inner.at(f"names.{text}")
        pattern = compile_pattern(str(text), where, inner.problems)
        if not isinstance(template, str) or not template:
            inner.note(f"names.{text}", f"must be a new name, not {describe(template)}")
            continue
        filled = compile_template(template, pattern, where, inner.problems)
        if pattern and filled:
            found.append(Renaming(pattern, filled))
    return tuple(found)


def _parse_like(inner: Fields) -> Origin | None:
    value = inner.raw("like")
    if value is None:
        return None
    origin = parse_origin(value, "save.like", inner.problems, "reference")
    if origin and origin.path is None:
        inner.note("like", "must be a file, not a builder", "write {path: FILE}")
        return None
    return origin


def _parse_shard(inner: Fields) -> int | None:
    value = inner.raw("shard")
    size = parse_size(value)
    if value is not None and size is None:
        what = f"must be a size above 0 that a file can have, not {describe(value)}"
        inner.note("shard", what, "such as 2GB, 500MB or 1GiB")
    return size


def _check_folders(save: Save, inner: Fields) -> None:
    """Refuse an output inside of a SavedModel, which is a folder."""
    paths = [path for path in (save.path, *save.also) if len(path) <= _LONGEST]
    folders = [PurePath(p) for p in paths if PurePath(p).name and not PurePath(p).suffix]
    for path in paths:
        outer = next((f for f in folders if f in PurePath(path).parents), None)
        if outer:
            inner.note("also", f"{path!r} lies inside of the SavedModel {str(outer)!r}", "choose another folder")


def _check_save_path(path: str, key: str, inner: Fields, absolute: bool) -> None:
    name = PurePath(path).name
    if not output_of(path).suffix and (PurePath(path).suffix or not name or name.startswith(".")):
        what = f"{path!r} has none of the suffixes {', '.join(known_suffixes())}, which choose the format"
        inner.note(key, what, "add one; a SavedModel is a folder, whose name has none")
    elif PurePath(path).name == output_of(path).suffix:
        inner.note(key, f"{path!r} is a suffix without a name", f"such as model{PurePath(path).name}")
    if len(path) > _LONGEST or len(name.encode(errors="replace")) > _LONGEST_NAME:
        inner.note(key, f"{path[:40]!r}... has {len(path):,} characters", "choose a shorter name")
    # Such a name would be a command to the terminal of whoever lists the folder.
    if not path.isprintable():
        inner.refuse(key, f"{path!r} has characters that cannot be shown", "take it out")
    if path.startswith("~"):
        inner.refuse(key, f"{path!r} begins with ~, which is not expanded here", "write the folder out")
    if _ELSEWHERE.match(path) or "\\" in path:
        inner.refuse(key, f"{path!r} is not a plain path inside the run folder", "write folder/name with slashes")
    if PurePath(path).is_absolute() and not absolute:
        inner.refuse(
            key,
            f"{path!r} is absolute; a recipe writes inside its run folder",
            f"set it on the command line: save.{key}=...",
        )
    if ".." in PurePath(path).parts:
        inner.refuse(key, f"{path!r} leaves the run folder", "give a path without '..'")
    first = next(iter(PurePath(path).parts), "")
    if first.casefold() in RECORDS:
        inner.note(key, f"{path!r} is in the place of {first}, which a run writes itself", "choose another name")
