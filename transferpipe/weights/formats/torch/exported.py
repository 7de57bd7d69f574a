"""Archives of `torch.export.save` (``.pt2``): the weights and constants of exported programs; the program is not read.

An own reader, because `torch.export.load` needs PyTorch, builds the program and unpickles what is custom in it. Here
values stay in the archive until they are asked for: a member for each storage, as it is in memory, and one of JSON for
each program that says which weight looks into which storage, and how (``torch/export/pt2_archive/_package.py``,
``PayloadConfig`` of ``torch/_export/serde/schema.py``). Weights are what the program's state dict has, under its names.
Buffers that the state dict leaves out, and tensors that the program has as constants, are listed beside the weights.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transferpipe.errors import FileError, Problem
from transferpipe.files.archives.opening import open_zip
from transferpipe.files.archives.zip_members import check_members
from transferpipe.files.json_text import MOST_JSON, parse_mapping
from transferpipe.text.listing import quoted
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.format import Names
from transferpipe.weights.formats.torch.checkpoint import open_tree
from transferpipe.weights.formats.torch.limited import PickleError
from transferpipe.weights.formats.torch.storages import AGAIN, Storages
from transferpipe.weights.formats.torch.tensors import DType, Storage, TensorView
from transferpipe.weights.formats.torch.unpickle import Entries
from transferpipe.weights.formats.torch.zip_form import ZIP_ERRORS, locate_members, member_content

# Root folder, and the name of a program. Up to PyTorch 2.9 a whole checkpoint was a member in place of the JSON.
_CONFIG = re.compile(r"(?:([^/]+)/)?data/weights/(.+)_weights_config\.json")
_BEFORE = re.compile(r"(?:[^/]+/)?(data/weights/[^/]+\.pt|serialized_state_dict\.(pt|json))")
_PARTS = {"state_dict": ("data/weights/", "weights"), "constants": ("data/constants/", "constants")}
# The numbers of ScalarType in schema.py.
_DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64",
    9: "complex32", 10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16",
    29: "float8_e4m3fn", 30: "float8_e5m2", 31: "float8_e4m3fnuz", 32: "float8_e5m2fnuz", 33: "float8_e8m0fnu",
    34: "uint32", 35: "uint64",
}  # fmt: skip
_STRIDED = 7  # of Layout, in the same place
_MOST_AXES, _MOST_LISTED = 64, 5
_AS_STATE_DICT = 'save its weights: torch.save(torch.export.load(path).state_dict, "weights.pt")'


def is_exported(names: Names) -> bool:
    """Tell whether an archive has what describes the weights of an exported program, in this form or the one before."""
    return any(_CONFIG.fullmatch(name) or _BEFORE.fullmatch(name) for name in names)


def open_exported(path: Path, select: str | None = None) -> FileSource:
    """Open an archive of exported programs.

    Args:
        path: the file.
        select: the name of a program, where there are several; ``constants`` for those of the only one.

    Raises:
        FileError: not readable, damaged, without weights, of a form from before PyTorch 2.10, or `select` is needed.
        RecipeError: nothing is at `select`.
        UnsafeError: a member is listed twice, or declares more than can lie in the file.
    """
    source = open_tree(path, "exported", lambda path, size: _read(path, size, select), select)
    if not (source.catalog or source.others or source.catalog.unreadable):
        raise FileError(Problem(str(path), "is an exported program without weights", "export the model that has them"))
    return source


def _read(path: Path, size: int, select: str | None) -> tuple[Any, Storages]:
    try:
        archive = open_zip(path)
        check_members(path, archive, size)
        programs = {found[2]: found[1] for found in map(_CONFIG.fullmatch, archive.namelist()) if found}
        if not programs:
            raise FileError(Problem(str(path), "is an exported program of PyTorch before 2.10", _AS_STATE_DICT))
        roots = {f"{folder}/" if folder else "" for folder in programs.values()}
        if len(roots) != 1:
            raise ValueError("has several folders at the top")
        (root,) = roots
        trees = {name: _program(path, archive, root, name) for name in programs}
        keys = [key for key in archive.namelist() if key.startswith(tuple(root + p for p, _ in _PARTS.values()))]
        if select is None and len(trees) > 1:
            what = f"holds the programs {quoted(trees, _MOST_LISTED)}"
            raise FileError(Problem(str(path), what, f"choose one: select: {next(iter(trees))}"))
        return _choose_programs(trees), locate_members(path, archive, {key: key for key in keys}, size, root)
    except ZIP_ERRORS as error:
        if isinstance(error, PickleError):
            raise
        raise FileError(Problem(str(path), f"cannot be read: {error}", AGAIN)) from error


def _choose_programs(programs: Mapping[str, Entries]) -> Entries:
    """Return what the only program holds, or the state dicts of all by the names of their programs."""
    if len(programs) == 1:
        return next(iter(programs.values()))
    named = Entries()
    for name, program in programs.items():
        named.pairs.extend((name if part == "state_dict" else f"{name} {part}", held) for part, held in program.pairs)
    return named


def _program(path: Path, archive: zipfile.ZipFile, root: str, name: str) -> Entries:
    found = Entries()
    for part, (folder, kind) in _PARTS.items():
        config = f"{root}{folder}{name}_{kind}_config.json"
        if config not in archive.NameToInfo:
            continue
        text = member_content(path, archive, archive.getinfo(config), MOST_JSON)
        payloads = parse_mapping(text, f"{path}: {config}", "the member").get("config")
        if not isinstance(payloads, dict):
            raise ValueError(f"{config!r} has no mapping `config`")
        tensors = Entries()
        tensors.pairs.extend((key, _tensor(archive, f"{root}{folder}", key, each)) for key, each in payloads.items())
        found.pairs.append((part, tensors))
    return found


def _tensor(archive: zipfile.ZipFile, folder: str, name: str, payload: Any) -> TensorView:
    """Return the tensor that a payload describes; one that is not plain, or lies in a pickle, says so."""
    if not isinstance(payload, dict) or not isinstance(payload.get("path_name"), str):
        raise ValueError(f"{name!r:.120} has no place in the archive")
    key, meta = folder + payload["path_name"], payload.get("tensor_meta")
    if key not in archive.NameToInfo:
        raise ValueError(f"{name!r:.120} lies in {key!r:.120}, which is missing")
    size = archive.NameToInfo[key].file_size
    storage = Storage(key, None, size, size)
    if payload.get("use_pickle") is not False or not isinstance(meta, dict):
        return TensorView(storage, DType("uint8"), 0, (), (), "is of a class of its own: save it as a plain tensor")
    shape, strides = _numbers(name, meta.get("sizes")), _numbers(name, meta.get("strides"))
    (offset,) = _numbers(name, [meta.get("storage_offset")])
    dtype = _DTYPES.get(meta["dtype"]) if type(meta.get("dtype")) is int else None
    if dtype is None or len(shape) != len(strides):
        raise ValueError(f"{name!r:.120} has no dtype that PyTorch knows, or not a stride for each axis")
    if meta.get("layout") != _STRIDED:
        return TensorView(storage, DType(dtype), 0, (), (), "is sparse: save what its to_dense() gives")
    return TensorView(storage, DType(dtype), offset, shape, strides)


def _numbers(name: str, values: Any) -> tuple[int, ...]:
    """Return sizes, each of which is ``{"as_int": n}``; a weight has none that is a symbol."""
    if not isinstance(values, list) or len(values) > _MOST_AXES:
        raise ValueError(f"{name!r:.120} has no shape, or more than {_MOST_AXES} axes")
    given = [v.get("as_int") if isinstance(v, dict) else v for v in values]
    found = [n for n in given if type(n) is int and 0 <= n < 1 << 62]
    if len(found) != len(given):
        raise ValueError(f"{name!r:.120} has something where a size belongs")
    return tuple(found)
