"""The npz files of a parity check: read as data, checked by what they declare before anything is allocated."""

from __future__ import annotations

import io
import math
import re
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem, Problems, RecipeError, UnsafeError, did_you_mean
from transferpipe.files.archives.opening import open_zip
from transferpipe.files.archives.zip_members import check_members
from transferpipe.models.building.limits import free_memory
from transferpipe.prove.parity.keras_trace import InputSpec, finite
from transferpipe.recipe.locate import locate
from transferpipe.weights.formats.numpy.header import MOST_HEADER

_NPY = ".npy"
_AGAIN = "write the file again with numpy.savez"
# What zipfile, zlib and NumPy raise of a damaged file; headers of npy are Python literals, whose parser adds two.
_ERRORS = (OSError, ValueError, EOFError, RuntimeError, TypeError, SyntaxError, zipfile.BadZipFile, zlib.error)
_NUMBERED = re.compile(r"arr_(\d+)")
_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_arrays(path: str | Path, where: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of an npz file by name of that path or ``pkg://``, those that ``savez`` numbered in order.

    Raises:
        FileError: missing, damaged, empty, or larger than the memory that is free.
        UnsafeError: a pickle, or a member that declares more than can lie in the file.
    """
    file = locate(str(path), where)
    try:
        with open_zip(file) as archive:
            check_members(file, archive, file.stat().st_size)
            members = [m for m in archive.infolist() if m.filename.endswith(_NPY)]
            # Of all members together: each of them alone may fit into memory.
            needed = sum(_check_declared(archive, m, f"{path}: {m.filename}") for m in members)
            free = free_memory()
            if needed > free:
                what = f"holds {needed:,} bytes of values, and {free:,} bytes of memory are free"
                raise FileError(Problem(f"{where}: {path}", what, "write fewer samples into it"))
            found = {m.filename.removesuffix(_NPY): _read(archive, m) for m in members}
    except FileNotFoundError as error:
        fix = "paths are relative to the working directory; write it with numpy.savez"
        raise FileError(Problem(f"{where}: {path}", "there is no such file", fix)) from error
    except _ERRORS as error:
        raise FileError(Problem(f"{where}: {path}", f"is not a readable npz file: {error}", _AGAIN)) from error
    if not found:
        raise FileError(Problem(f"{where}: {path}", "holds no arrays", _AGAIN))
    if all(_NUMBERED.fullmatch(name) for name in found):
        # By number: as texts arr_10 would come before arr_2, and the archive may have any order.
        return dict(sorted(found.items(), key=lambda item: int(item[0][4:])))
    return found


def _check_declared(archive: zipfile.ZipFile, member: zipfile.ZipInfo, where: str) -> int:
    """Return the bytes of an array, once its header was found to agree with the member's size."""
    with archive.open(member) as file:
        head = io.BytesIO(file.read(MOST_HEADER))
    version = npy.read_magic(head)
    if version not in _READERS:
        raise ValueError(f"{member.filename} has npy version {version}, which only arrays with named fields need")
    # NumPy warns of headers that Python 2 wrote, which it reads as well.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shape, _, dtype = _READERS[version](head)
    if dtype.hasobject:
        raise UnsafeError(Problem(where, "is a pickle; pickled objects are never loaded", "save it as numbers"))
    if dtype.kind not in "biufUS":
        raise FileError(Problem(where, f"holds {dtype}, neither real numbers nor text", "save it as real numbers"))
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes != member.file_size - head.tell():
        what = f"holds {member.file_size - head.tell():,} bytes, but shape {shape} of {dtype} needs {nbytes:,}"
        raise FileError(Problem(where, what, _AGAIN))
    return nbytes


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as file:
        return npy.read_array(file, allow_pickle=False)


def as_inputs(
    arrays: Mapping[str, NDArray[Any]], specs: Sequence[InputSpec], where: str, arguments: Sequence[str] = ()
) -> list[NDArray[Any]]:
    """Return one array an input, found by name, or else by order.

    Args:
        arrays: what somebody gave.
        specs: what the model takes; empty where it does not say.
        where: the file, for messages.
        arguments: the names under which a model that does not say what it takes is called.

    Raises:
        RecipeError: arrays are missing, unknown, of another shape or dtype, or hold NaN, each with its problem.
    """
    problems = Problems()
    if not specs:  # a model that does not say what it takes
        if not arguments or arrays.keys().isdisjoint(arguments):
            return list(arrays.values())
        _check_names(arrays, arguments, where, problems)
        problems.raise_as(RecipeError)
        return [arrays[name] for name in arguments]
    names = [spec.name for spec in specs]
    by_name = {_plain(name): array for name, array in arrays.items()}
    if any(_plain(n) in by_name for n in names):
        _check_names(arrays, names, where, problems)
        found = {n: by_name[_plain(n)] for n in names if _plain(n) in by_name}
    elif len(arrays) == len(names):
        found = dict(zip(names, arrays.values(), strict=True))
    else:
        what = f"holds {_count(arrays)} ({', '.join(arrays)}), but the model has {_count(names, 'input')}"
        problems.add(where, what, f"write numpy.savez(path, {', '.join(f'{_key(n)}=...' for n in names)})")
        found = {}
    data = [_fit_dtype(found[s.name], s, where, problems) for s in specs if s.name in found]
    if not problems.found:
        _check_samples(found, specs, where, problems)
    problems.raise_as(RecipeError)
    return data


def _check_samples(
    arrays: Mapping[str, NDArray[Any]], specs: Sequence[InputSpec], where: str, problems: Problems
) -> None:
    """Add a problem where inputs of any number of samples have different numbers of them."""
    counts = {s.name: arrays[s.name].shape[0] for s in specs if s.shape and s.shape[0] is None and s.name in arrays}
    # One sample may stand for all, which a model of the user's own may do on purpose.
    if len(set(counts.values()) - {1}) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        problems.add(where, f"its inputs have different numbers of samples: {told}", "write as many of each")


def _plain(name: str) -> str:
    # TensorFlow calls the tensors of an operation NAME:0, NAME:1.
    return name.partition(":")[0]


def _key(name: str) -> str:
    return name if name.isidentifier() else f"**{{{name!r}: ...}}"


def _count(items: Mapping[str, Any] | Sequence[Any], noun: str = "array") -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"


def _check_names(arrays: Mapping[str, NDArray[Any]], names: Sequence[str], where: str, problems: Problems) -> None:
    for name in arrays:
        if _plain(name) not in map(_plain, names):
            hint = did_you_mean(name, names) or f"the model's inputs are {', '.join(names)}"
            problems.add(f"{where}: {name}", "the model has no input of this name", hint)
    for name in names:
        if _plain(name) not in map(_plain, arrays):
            problems.add(where, f"no array for the model's input {name!r}", f"it holds {', '.join(arrays)}")


def _fit_dtype(array: NDArray[Any], spec: InputSpec, where: str, problems: Problems) -> NDArray[Any]:
    """Return the array in the input's dtype, with a note of what keeps it from that."""
    place = f"{where}: {spec.name}"
    if not fits(array.shape, spec.shape):
        problems.add(place, f"has shape {array.shape}; the model takes {spec.shape}", _find_transposition(array, spec))
    # Whole numbers may stand for floats, as labels of pixels do; floats for whole numbers are another input.
    kinds = {"string": "US", "bool": "b"}.get(spec.dtype, "fiub" if "float" in spec.dtype else "iub")
    if array.dtype.kind not in kinds:
        problems.add(place, f"has dtype {array.dtype}; the model takes {spec.dtype}", f"convert it to {spec.dtype}")
        return array
    if not finite(array):
        problems.add(place, "holds NaN or infinity", "write finite inputs")
    if not array.size:
        problems.add(place, f"has no elements: its shape is {array.shape}", "write at least one sample")
    if spec.dtype == "string":
        return array.astype(object)
    from transferpipe.weights.spec import numpy_dtype

    with np.errstate(over="ignore"):  # which is said below
        cast = array.astype(numpy_dtype(spec.dtype))
    # A cast would wrap it round: 300 is 44 in a uint8. Or it makes infinity of it: 1e60 in a float32.
    wrapped = array.dtype.kind in "iu" and cast.dtype.kind in "iu" and not np.array_equal(cast, array)
    if wrapped or (finite(array) and not finite(cast)):
        problems.add(place, f"has values that {spec.dtype} cannot hold", "write smaller values")
    return cast


def fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    """Tell whether an array of `shape` may go where `wanted` is declared, None being any size."""
    return len(shape) == len(wanted) and all(w in (None, n) for n, w in zip(shape, wanted, strict=True))


def _find_transposition(array: NDArray[Any], spec: InputSpec) -> str:
    """Return the transposition that gives the input's shape, if torch's order of axes explains the difference."""
    last = (0, *range(2, array.ndim), 1)
    if array.ndim > 2 and fits([array.shape[i] for i in last], spec.shape):
        return f"its channels come first: write x.transpose{last}"
    sizes = ", ".join(str(n or "any") for n in spec.shape)
    return f"write it with shape ({sizes})"


@dataclass(frozen=True)
class ExpectedArrays:
    """What a file expects: the model's outputs by name, and those of layers by the layers' names."""

    outputs: Mapping[str, NDArray[Any]]
    layers: Mapping[str, NDArray[Any]]


def as_expected(
    arrays: Mapping[str, NDArray[Any]], outputs: Sequence[str], layers: Sequence[str], where: str
) -> ExpectedArrays:
    """Return the arrays as outputs of the model and of layers: by name, or else by order.

    Raises:
        RecipeError: unknown names, too many or too few arrays, NaN, or texts, each with its problem.
    """
    problems = Problems()
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            problems.add(f"{where}: {name}", f"has dtype {array.dtype}; outputs are numbers", "save it as numbers")
        elif not finite(array):
            problems.add(f"{where}: {name}", "holds NaN or infinity, which equals nothing", "run the original again")
    found = sort_expected(arrays, outputs, layers, where, problems)
    if not arrays:
        problems.add(where, "holds no arrays", "write the original's outputs into it")
    problems.raise_as(RecipeError)
    return found


def sort_expected(
    arrays: Mapping[str, NDArray[Any]], outputs: Sequence[str], layers: Sequence[str], where: str, problems: Problems
) -> ExpectedArrays:
    """Return the arrays as outputs of the model and of layers, by name or else by order; note what is neither."""
    named = {n: a for n, a in arrays.items() if n in outputs}
    of_layers = {n: a for n, a in arrays.items() if n not in named and n in layers}
    rest = {n: a for n, a in arrays.items() if n not in named and n not in of_layers}
    # Not where a name has a slash: it means a layer, and is misspelled.
    if rest and not named and (len(rest) == len(outputs)) and not any("/" in n for n in rest):
        named, rest = dict(zip(outputs, rest.values(), strict=True)), {}
    for name in rest:
        known = [*outputs, *layers]
        hint = (
            did_you_mean(name, known) or f"the outputs are {', '.join(outputs)}; layers go by their names in the plan"
        )
        problems.add(f"{where}: {name}", "the model has no output and no layer of this name", hint)
    return ExpectedArrays(named, of_layers)
