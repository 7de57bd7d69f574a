"""The table of file formats, and opening a file in its own.

To add one: one module and one line here; `format.py` has the steps.
"""

from __future__ import annotations

import dataclasses
import math
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem, RecipeError, TransferError, did_you_mean
from transferpipe.files.os_errors import cannot_be_read, refusals_said, say_refusal
from transferpipe.files.segment import Segment
from transferpipe.text.listing import listed
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.format import Format, outside
from transferpipe.weights.formats.tensorflow.paths import has_checkpoint, is_basename, is_saved_model
from transferpipe.weights.spec import WeightSpec

# In the order in which they are asked whether a file is theirs.
FORMATS: Mapping[str, Format] = {
    "keras": Format("keras.archive:open_keras", is_archive=lambda names: {"config.json", "model.weights.h5"} <= names),
    "saved_model": Format(
        "tensorflow.saved_model:open_saved_model",
        is_member="tensorflow.paths:is_model_file",
        is_folder=lambda _, names: is_saved_model(names),
    ),
    "preset": Format(
        "keras.preset:open_preset",
        is_folder=lambda _, names: "config.json" in names and bool(names & {"model.weights.h5", "model.weights.json"}),
    ),
    "tfjs": Format(
        "tfjs.model:open_tfjs",
        is_folder="tfjs.model:is_model_folder",
        is_content="signatures:is_weights_manifest",
        is_json=lambda data: "weightsManifest" in data,
    ),
    "weights_json": Format("keras.shards:open_weights_json", is_json="keras.shards:is_shard_list"),
    "h5": Format("keras_legacy.h5:open_h5", is_content="signatures:is_legacy_hdf5"),
    "weights_h5": Format("keras.h5:open_weights_h5", is_content="signatures:is_hdf5"),
    "orbax": Format("orbax:open_orbax", is_folder="signatures:is_orbax"),
    "safetensors": Format("safetensors.file:open_safetensors", is_content="signatures:is_safetensors"),
    "safetensors_index": Format(
        "safetensors.file:open_safetensors_index",
        is_folder=lambda _, names: any(n.endswith((".safetensors.index.json", ".safetensors")) for n in names),
        is_json=lambda data: is_index_of(data, ".safetensors"),
    ),
    "npz": Format("numpy.npz:open_npz", is_archive=lambda names: any(name.endswith(".npy") for name in names)),
    "equinox": Format("numpy.leaves:open_leaves", is_content="numpy.leaves:is_leaves"),
    "npy": Format("numpy.npy:open_npy", begins=b"\x93NUMPY"),
    "onnx": Format("onnx.model:open_onnx", is_content="signatures:is_onnx"),
    "tflite": Format("tflite.model:open_tflite", is_content=lambda _, head: head[4:8] == b"TFL3"),
    "graph_def": Format("tensorflow.graph_def:open_graph_def", is_content="signatures:is_graph_def"),
    "torch": Format(
        "torch.checkpoint:open_torch",
        is_archive="signatures:is_torch",
        is_content="signatures:is_legacy_torch",
        selects=True,
    ),
    "exported": Format("torch.exported:open_exported", is_archive="torch.exported:is_exported", selects=True),
    "distributed": Format(
        "torch.distributed:open_distributed",
        is_member="signatures:is_distributed_part",
        is_folder="signatures:is_distributed",
        selects=True,
    ),
    "pickle": Format("pickled.file:open_pickle", is_content="pickled.file:is_pickle", selects=True),
    "torch_index": Format(
        "torch.index:open_torch_index",
        is_folder=lambda _, names: any(n.endswith((".bin.index.json", "pytorch_model.bin")) for n in names),
        is_json=lambda data: is_index_of(data, ".bin"),
    ),
    "tf_checkpoint": Format(
        "tensorflow.checkpoint:open_tf_checkpoint",
        is_member="tensorflow.paths:is_part",
        is_folder=lambda _, names: has_checkpoint(names),
    ),
    "gguf": Format("gguf.file:open_gguf", begins=b"GGUF"),
    "flax": Format("flax.state:open_flax", is_content="flax.state:is_flax"),
    "npy_folder": Format("numpy.npy:open_npy_folder", is_folder="signatures:is_npy_folder"),
}
OUTSIDE = outside(FORMATS)
_MOST_LISTED = 10  # what cannot be read, in one message
_MOST_NUMBERS = 1 << 59  # of 16 bytes each, which is all that NumPy counts


def is_index_of(data: Mapping[str, Any], suffix: str) -> bool:
    """Tell whether a mapping is an index that names files with this suffix."""
    places = data.get("weight_map")
    return isinstance(places, dict) and all(str(file).endswith(suffix) for file in places.values())


def open_source(path: Path, format: str | None = None, select: str | None = None) -> FileSource:
    """Open weights on disk. Their values are read later, one at a time.

    Args:
        path: the file, or the folder or the common beginning of the names of several files for formats that have such.
        format: a key of `FORMATS`, or the name of an installed package's format; None tells it from the content.
        select: keys on the way to the part that is wanted, joined by ``/`` or ``.``, in formats that have parts.

    Raises:
        FileError: missing, not readable, empty, damaged, or of an unknown format.
        RecipeError: there is no such format, nothing is at `select`, or two weights of the file have one name.
        UnsafeError: the file asks for more than data may ask for.
    """
    if format is not None and format_called(format).is_folder is None and path.is_dir():
        fix = f"name a file in it, or leave out `format: {format}`"
        raise FileError(Problem(str(path), f"is a folder; {format} is a format of files", fix))
    _check_path(path)
    if format is None:
        from transferpipe.weights.formats.detection import detect_format

        with refusals_said(path):
            format = detect_format(path)
    if select is None:
        return _open_guarded(format, path)
    if not format_called(format).selects:
        what = f"{select!r} is to be selected from {path}, but {format} files have no parts"
        selecting = [name for name, known in FORMATS.items() if known.selects]
        raise RecipeError(Problem("select", what, f"leave select out; only {', '.join(selecting)} files have"))
    return _open_guarded(format, path, select)


def _open_guarded(format: str, path: Path, *select: str) -> FileSource:
    """Open the file; what the machine refuses is said in the same words of every format, then and later."""
    with refusals_said(path):
        # Opening is guarded as reading is: the machine's refusals hide in what libraries make of them.
        source = _with_config(_opener(format)(path, *select))
    _check_readable(source)
    _check_empty(source)
    read, locate = source.read_entry, source.locate_entry

    def read_entry(spec: WeightSpec) -> NDArray[Any]:
        with refusals_said(path):
            return read(spec)

    def locate_entry(spec: WeightSpec) -> Segment | None:
        try:  # a context would cost more than finding one of thousands of weights
            return locate(spec)
        except (OSError, TransferError) as error:
            say_refusal(path, error)
            raise

    return dataclasses.replace(source, read_entry=read_entry, locate_entry=locate_entry)


def _check_readable(source: FileSource) -> None:
    """Refuse a file of which nothing can be read: its empty catalog would look like one whose weights were read."""
    left = source.catalog.unreadable
    if left and not source.catalog.weights:
        reasons = listed([f"{u.name!r} {u.reason}" for u in left], _MOST_LISTED)
        raise FileError(Problem(str(source.path), f"holds no weights that can be read: {reasons}", left[0].fix))


def _check_empty(source: FileSource) -> None:
    """Refuse shapes that no array has: one with a 0 in it needs no bytes, however large its other sizes are."""
    for spec in (*source.catalog, *source.others):
        if 0 in spec.shape and math.prod(n for n in spec.shape if n) > _MOST_NUMBERS:
            what = f"declares the shape {spec.shape}, which no array can have"
            fix = "the file is damaged: download or save it again"
            raise FileError(Problem(f"{source.path}: {spec.name}", what, fix))


def _with_config(source: FileSource) -> FileSource:
    from transferpipe.weights.formats.peft_config import with_adapter_config
    from transferpipe.weights.formats.transformers_config import with_config

    return with_config(with_adapter_config(source))


def list_formats() -> str:
    """Return the names of all formats, for messages."""
    return f"formats that can be read: {', '.join((*FORMATS, *OUTSIDE.names()))}"


def format_called(name: str) -> Format:
    """Return the format called `name`.

    Raises:
        RecipeError: there is none, or a package offers it that cannot be used.
    """
    found = FORMATS.get(name) or OUTSIDE.load(name, "format")
    if found is None:
        fix = did_you_mean(name, (*FORMATS, *OUTSIDE.names())) or list_formats()
        raise RecipeError(Problem("format", f"there is no format {name!r}", fix))
    return found


def _opener(format: str) -> Callable[..., FileSource]:
    opener = format_called(format).opener
    return opener if format in FORMATS else _guard_open(format, opener)


def _guard_open(format: str, opener: Callable[..., FileSource]) -> Callable[..., FileSource]:
    """Return the open function of a package, whose failures are said of the file and the package."""

    def guard(function: Callable[..., Any], path: Path) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            try:
                return function(*arguments)
            except TransferError:
                raise
            except Exception as error:
                package = next(p.label for p in OUTSIDE.offered() if p.name == format)
                what = f"{package} failed: {type(error).__name__}: {error}"
                raise FileError(Problem(str(path), what, "report it to the package that adds it")) from error

        return call

    def open_outside(path: Path, *select: str) -> FileSource:
        source: FileSource = guard(opener, path)(path, *select)
        read, locate = guard(source.read_entry, path), guard(source.locate_entry, path)
        return dataclasses.replace(source, format=format, read_entry=read, locate_entry=locate)

    return open_outside


def _check_path(path: Path) -> None:
    try:
        status = path.stat()
    except FileNotFoundError as error:
        if is_basename(path):
            return
        if path.is_symlink():
            what = f"is a link to {str(path.readlink())!r}, where there is nothing"
            raise FileError(Problem(str(path), what, "make the link again, or name the file itself")) from error
        raise FileError(Problem(str(path), "there is no such file", _near(path))) from error
    except OSError as error:
        raise cannot_be_read(path, error) from error
    except ValueError as error:  # a name that no file can have
        raise FileError(Problem(str(path), f"cannot be read: {error}", "check the path")) from error
    if stat.S_ISDIR(status.st_mode):
        return
    if not stat.S_ISREG(status.st_mode):
        raise FileError(Problem(str(path), "is not an ordinary file", "name a file or a folder"))
    if not status.st_size:
        raise FileError(Problem(str(path), "is empty", "download or save it again"))


_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
# A builder as a recipe, or another verb, would name it: target._target_=my_models.build, my_models.build(units=3).
_CALL = re.compile(r"^\+?(?:\w+\.)?_target_=|\(.*\)$")


def _near(path: Path) -> str:
    """Say what there is instead of `path`."""
    name = _CALL.sub("", str(path))
    if _DOTTED.fullmatch(name) and Path(f"{name.partition('.')[0]}.py").is_file():
        recipe = f"_target_: {name} (on the command line +source._target_={name}, or +target._target_=)"
        return f"for a builder, write in a recipe {recipe}, and for diff, parity, suggest and init '{name}()'"
    if not path.parent.is_dir():
        return f"there is no folder {str(path.parent)!r} either"
    try:
        names = [entry.name.removesuffix(".index") for entry in path.parent.iterdir()]
    except OSError:
        names = []
    return did_you_mean(path.name, names) or f"check the path (the folder holds {len(names)} other files)"
