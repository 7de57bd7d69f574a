"""PyTorch checkpoints (``.pt``, ``.pth``, ``.bin``), with and without zip. Nothing of the pickle inside is executed.

Names are the keys of nested dicts, joined by ``/``, their dots turned into slashes: ``layer1/0/conv1/weight``. They
stay as the file has them, but for a ``module.`` or ``_orig_mod.`` that all begin with, which `DataParallel` and
`torch.compile` put there. Of a module that was pickled as a whole, and of a TorchScript archive, the tensors are read
under the names that its state dict would have; its code is not. The part of a training checkpoint that holds the
weights is found by its name, or selected; tensors elsewhere (optimizer state, a second set of weights) are listed
beside the weights.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem, Problems, TransferError, UnsafeError
from transferpipe.files.os_errors import cannot_be_read
from transferpipe.files.segment import Segment
from transferpipe.files.stamp import check_unchanged, file_stamp
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.flat_names import is_weight
from transferpipe.weights.formats.torch.legacy import is_legacy, read_legacy
from transferpipe.weights.formats.torch.limited import PickleError
from transferpipe.weights.formats.torch.objects import meaning_of, storage_of
from transferpipe.weights.formats.torch.storages import AGAIN, Storages
from transferpipe.weights.formats.torch.tensors import Storage, TensorView
from transferpipe.weights.formats.torch.tree import CheckpointPart, Keys, leads_to_tensors, part_of
from transferpipe.weights.formats.torch.unpickle import Entries, Machine, steps_for
from transferpipe.weights.formats.torch.zip_form import CONSTANTS, PICKLE, read_zip
from transferpipe.weights.spec import Catalog, Unreadable, WeightSpec, numpy_dtype

ONLY_TENSORS = "save only the tensors: torch.save(model.state_dict(), path), or as safetensors"
# For the description of a file: enough to see what kind of thing was left out.
_MOST_LISTED = 20
_MOST_DETAIL = 200
_WRAPPED = ("module/", "_orig_mod/")


def open_torch(path: Path, select: str | None = None) -> FileSource:
    """Open a PyTorch checkpoint.

    Args:
        path: the file.
        select: keys on the way to the weights, joined by ``/`` or ``.``; see `part_of`.

    Raises:
        FileError: not readable, or damaged.
        RecipeError: nothing is at `select`, or it is needed.
        UnsafeError: the pickle names what no checkpoint of tensors and plain values needs.
    """
    source = open_tree(path, "torch", _read, select)
    if not (source.catalog or source.others or source.catalog.unreadable):
        raise FileError(Problem(str(path), "holds no tensors"))
    return source


def open_tree(
    path: Path, format: str, read: Callable[[Path, int], tuple[Any, Storages]], select: str | None
) -> FileSource:
    """Open the tensors of an unpickled object.

    Args:
        path: the file.
        format: the format's name.
        read: returns the object in a file of a size, and where the values lie.
        select: as in `open_torch`.

    Raises:
        FileError: not readable, or damaged.
        RecipeError: nothing is at `select`, or it is needed.
        UnsafeError: the pickle names what no data needs.
    """
    stamp = file_stamp(path)
    try:
        root, storages = read(path, stamp[1])
        part = part_of(root, select)
    except PickleError as error:
        raise FileError(Problem(str(path), f"the pickle {error}", AGAIN)) from error
    except TransferError as error:
        raise type(error)([Problem(p.where or str(path), p.what, p.fix) for p in error.problems]) from error
    unreadable = tuple((k, t) for k, t in part.others if t.unreadable)
    part = dataclasses.replace(part, others=tuple((k, t) for k, t in part.others if not t.unreadable))
    named = _order_by_part(path, part)
    left = tuple(_unreadable(spec, t) for spec, t in named if t.unreadable)
    tensors = [(spec, t) for spec, t in named if not t.unreadable]
    _check_tensors(path, tensors, storages)
    tensors, wrapper = _unwrap(tensors, len(part.weights) - len(left))
    by_place = {spec.where: tensor for spec, tensor in tensors}

    def read_entry(spec: WeightSpec) -> NDArray[Any]:
        check_unchanged(path, stamp)
        return tensor_value(by_place[spec.where], storages)

    def locate_entry(spec: WeightSpec) -> Segment | None:
        check_unchanged(path, stamp)
        return _segment(by_place[spec.where], spec, storages)

    count = len(part.weights) - len(left)
    weights, others = [s for s, _ in tensors[:count]], [s for s, _ in tensors[count:]]
    return FileSource(
        path=path,
        format=format,
        catalog=Catalog(tuple(s for s in weights if is_weight(s.name)), str(path), unreadable=left, file_names=wrapper),
        read_entry=read_entry,
        locate_entry=locate_entry,
        others=(*(s for s in weights if not is_weight(s.name)), *others),
        select="/".join(part.selected) or None,
        details=_details(part, unreadable),
    )


def _read(path: Path, size: int) -> tuple[Any, Storages]:
    """Return what the file's pickle describes, and where the values lie.

    Where it leads to no tensor: the constants of a frozen module of TorchScript, or else NumPy's arrays.
    """
    root, storages = _read_pickle(path, size, meaning_of)
    if leads_to_tensors(root):
        return root, storages
    constants, stored = _read_pickle(path, size, meaning_of, CONSTANTS)
    if leads_to_tensors(constants):
        named = Entries()
        named.pairs.append(("constants", constants))
        return named, stored
    from transferpipe.weights.formats.pickled.arrays import PickledBuffers  # which few checkpoints need

    buffers = PickledBuffers()
    arrays, _ = _read_pickle(path, size, buffers.meaning_of)
    return (arrays, buffers.storages(path)) if leads_to_tensors(arrays) else (root, storages)


def _read_pickle(path: Path, size: int, names: Callable[[str], Any], pickle: str = PICKLE) -> tuple[Any, Storages]:
    """Return what one pickle of the file describes, and where the values lie.

    Args:
        path: the file.
        size: its size.
        names: what the names in it mean.
        pickle: which of the pickles of an archive.
    """
    declared: dict[str, Storage] = {}

    def persistent(saved: Any) -> Any:
        storage = storage_of(saved)
        if isinstance(storage, Storage) and declared.setdefault(storage.key, storage).nbytes != storage.nbytes:
            raise PickleError(f"declares two sizes of the storage {storage.key!r:.80}")
        return storage

    machine = Machine(names, persistent, steps=steps_for(size))
    try:
        with path.open("rb") as file:
            legacy = is_legacy(file.read(64))
    except OSError as error:
        raise cannot_be_read(path, error) from error
    try:
        root, storages = (
            read_legacy(path, size, machine, declared) if legacy else read_zip(path, size, machine, declared, pickle)
        )
    except PickleError:
        refuse_names(path, machine.refused, ONLY_TENSORS)  # what it names tells more than where it breaks off
        raise
    refuse_names(path, machine.refused, ONLY_TENSORS)
    return root, storages


def refuse_names(path: Path, names: Iterable[str], fix: str) -> None:
    """Refuse a pickle that names what means nothing here.

    Raises:
        UnsafeError: there are such names.
    """
    problems = Problems()
    names = [*names]
    for name in names[:_MOST_LISTED]:
        what = f"the pickle names {name!r:.120}, which no checkpoint of tensors needs; nothing of it was executed"
        problems.add(str(path), what, fix)
    if len(names) > _MOST_LISTED:
        problems.add(str(path), f"and {len(names) - _MOST_LISTED} further names of that kind")
    problems.raise_as(UnsafeError)


def _order_by_part(path: Path, part: CheckpointPart) -> list[tuple[WeightSpec, TensorView]]:
    """Return the entries, first those of the part that holds the weights."""
    found, seen = [], set()
    slashed = any("/" in key for keys, _ in part.weights for key in keys)  # as in flat_names
    for keys, tensor, prefix in (
        *((k, t, part.selected) for k, t in part.weights),
        *((k, t, ()) for k, t in part.others),
    ):
        where = ".".join((*prefix, *keys))
        if where in seen:
            raise FileError(Problem(str(path), f"two tensors are at {where!r:.120}", "save them under other keys"))
        seen.add(where)
        found.append((WeightSpec(_name(path, keys, slashed), tensor.shape, tensor.dtype.name, None, where), tensor))
    return found


def _unwrap(
    tensors: list[tuple[WeightSpec, TensorView]], count: int
) -> tuple[list[tuple[WeightSpec, TensorView]], dict[str, str]]:
    """Return the entries, the names of the first `count` without what a wrapper puts before them, and the old names."""
    named = {}
    weights = [spec for spec, _ in tensors[:count]]
    # Both may have wrapped the module, in either order.
    while prefix := next((p for p in _WRAPPED if weights and all(s.name.startswith(p) for s in weights)), ""):
        weights = [dataclasses.replace(s, name=s.name.removeprefix(prefix)) for s in weights]
    for (spec, _), new in zip(tensors, weights, strict=False):
        if spec.name != new.name:
            named[spec.name] = new.name
    return [*zip(weights, (t for _, t in tensors), strict=False), *tensors[count:]], named


def _name(path: Path, keys: Keys, slashed: bool) -> str:
    name = "/".join(keys) if slashed else "/".join(keys).replace(".", "/")
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise FileError(Problem(str(path), f"the key {name!a:.120} is not text", AGAIN)) from error
    return name


def _check_tensors(path: Path, tensors: Iterable[tuple[WeightSpec, TensorView]], storages: Storages) -> None:
    """Refuse tensors that cannot be read; all of them are reported."""
    problems = Problems()
    for spec, tensor in tensors:
        if what := tensor.problem() or _missing(tensor, storages):
            problems.add(f"{path}: {spec.where}", what, AGAIN)
    problems.raise_as(FileError)


def _unreadable(spec: WeightSpec, tensor: TensorView) -> Unreadable:
    reason, _, fix = tensor.unreadable.partition(": ")
    return Unreadable(spec.name, reason, fix or "save it as a float or int8", spec.where)


def _missing(tensor: TensorView, storages: Storages) -> str:
    storage = tensor.storage
    stored = storages.stored.get(storage.key)
    if stored is None:
        return f"lies in the storage {storage.key!r:.80}, which is missing" if storage.nbytes else ""
    if stored.size != storage.nbytes:
        return f"lies in a storage of {storage.nbytes:,} bytes, but the file has {stored.size:,}"
    return ""


def _segment(tensor: TensorView, spec: WeightSpec, storages: Storages) -> Segment | None:
    stored = storages.stored.get(tensor.storage.key)
    if not tensor.contiguous or not spec.nbytes or stored is None or stored.offset is None:
        return None
    # Copied as they lie are only bytes that mean the same in this machine's memory, and that need no look.
    if spec.dtype == "bool" or sys.byteorder != "little" or (storages.big_endian and tensor.dtype.itemsize > 1):
        return None
    storages.check(tensor.storage.key)
    return Segment(storages.path, stored.offset + tensor.begin, spec.nbytes, spec.dtype)


def tensor_value(tensor: TensorView, storages: Storages) -> NDArray[Any]:
    """Return the values of a tensor, of which `TensorView.problem` says that nothing is wrong."""
    dtype = numpy_dtype(tensor.dtype.name)
    if not math.prod(tensor.shape):
        return np.empty(tensor.shape, dtype)
    data = storages.read(tensor.storage.key, tensor.begin, tensor.span * dtype.itemsize)
    flat: NDArray[Any] = np.frombuffer(data, np.uint8)
    if storages.big_endian != (sys.byteorder == "big"):
        # A complex number is two numbers, each with its own order.
        size = dtype.itemsize // 2 if dtype.kind == "c" else dtype.itemsize
        flat = np.ascontiguousarray(flat.reshape(-1, size)[:, ::-1]).ravel()
    # A byte that is neither 0 nor 1 would make a NumPy bool that equals neither.
    flat = flat != 0 if dtype == np.bool_ else flat.view(dtype)
    if tensor.contiguous:
        return flat.reshape(tensor.shape)
    strides = [step * dtype.itemsize for step in tensor.strides]
    # The strides were compared with the span of the storage before (`TensorView.problem`), so no byte beyond is read.
    return np.array(np.ndarray(tensor.shape, dtype, flat, strides=strides), order="C")


def _details(part: CheckpointPart, unreadable: Iterable[tuple[Keys, TensorView]]) -> Mapping[str, str]:
    found = {
        "selected": "/".join(part.selected),
        "not tensors": ", ".join(part.beside),
        "cannot be read": ", ".join(".".join(keys) for keys, _ in unreadable),
    }
    return {k: v if len(v) <= _MOST_DETAIL else f"{v[:_MOST_DETAIL]}..." for k, v in found.items() if v}
