"""The file formats: which there are, how to tell them apart by content, and opening a file in its own."""

from __future__ import annotations

import importlib
import stat
from collections.abc import Callable
from pathlib import Path

from transferpipe.errors import FileError, Problem, RecipeError, did_you_mean
from transferpipe.files.os_errors import cannot_be_read
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.tensorflow.paths import is_basename

# Name of the format: where its open function is. Modules are imported when needed, so that start-up stays light.
FORMATS: dict[str, tuple[str, str]] = {
    "keras": ("keras.archive", "open_keras"),
    "weights_h5": ("keras.h5", "open_weights_h5"),
    "weights_json": ("keras.shards", "open_weights_json"),
    "preset": ("keras.preset", "open_preset"),
    "h5": ("keras_legacy.h5", "open_h5"),
    "safetensors": ("safetensors.file", "open_safetensors"),
    "safetensors_index": ("safetensors.file", "open_safetensors_index"),
    "npz": ("numpy.npz", "open_npz"),
    "npy": ("numpy.npy", "open_npy"),
    "tfjs": ("tfjs.model", "open_tfjs"),
    "onnx": ("onnx.model", "open_onnx"),
    "orbax": ("orbax", "open_orbax"),
    "npy_folder": ("numpy.npy", "open_npy_folder"),
    "torch": ("torch.checkpoint", "open_torch"),
    "torch_index": ("torch.index", "open_torch_index"),
    "saved_model": ("tensorflow.saved_model", "open_saved_model"),
    "tf_checkpoint": ("tensorflow.checkpoint", "open_tf_checkpoint"),
}
# Formats whose files hold parts that `select` can choose from; their open functions take it.
SELECTING = frozenset({"torch"})


def open_source(path: Path, format: str | None = None, select: str | None = None) -> FileSource:
    """Open weights on disk. Their values are read later, one at a time.

    Args:
        path: the file, or the folder or the common beginning of the names of several files for formats that have such.
        format: a key of `FORMATS`; None tells it from the content.
        select: keys on the way to the part that is wanted, joined by ``/`` or ``.``, in formats that have parts.

    Raises:
        FileError: missing, not readable, empty, damaged, or of an unknown format.
        RecipeError: there is no such format, nothing is at `select`, or two weights of the file have one name.
        UnsafeError: the file asks for more than data may ask for.
    """
    if format is not None and format not in FORMATS:
        fix = did_you_mean(format, FORMATS) or _listed()
        raise RecipeError(Problem("format", f"there is no format {format!r}", fix))
    _check_path(path)
    if format is None:
        from transferpipe.weights.formats.detection import detect_format

        format = detect_format(path, _listed())
    if select is None:
        return _with_config(_opener(format)(path))
    if format not in SELECTING:
        what = f"{select!r} is to be selected from {path}, but {format} files have no parts"
        raise RecipeError(Problem("select", what, f"leave select out; only {', '.join(sorted(SELECTING))} files have"))
    return _with_config(_opener(format)(path, select))


def _with_config(source: FileSource) -> FileSource:
    from transferpipe.weights.formats.transformers_config import with_config

    return with_config(source)


def _listed() -> str:
    return f"formats that can be read: {', '.join(FORMATS)}"


def _opener(format: str) -> Callable[..., FileSource]:
    module, function = FORMATS[format]
    opener: Callable[..., FileSource] = getattr(importlib.import_module(f"{__name__}.{module}"), function)
    return opener


def _check_path(path: Path) -> None:
    try:
        status = path.stat()
    except FileNotFoundError as error:
        if is_basename(path):
            return
        raise FileError(Problem(str(path), "there is no such file", _near(path))) from error
    except OSError as error:
        raise cannot_be_read(path, error) from error
    except ValueError as error:  # a name that no file can have
        raise FileError(Problem(str(path), f"cannot be read: {error}", "check the path")) from error
    if stat.S_ISDIR(status.st_mode):
        return
    if not stat.S_ISREG(status.st_mode):
        raise FileError(Problem(str(path), "is not an ordinary file", _listed()))
    if not status.st_size:
        raise FileError(Problem(str(path), "is empty", "download or save it again"))


def _near(path: Path) -> str:
    """Say what there is instead of `path`."""
    if not path.parent.is_dir():
        return f"there is no folder {str(path.parent)!r} either"
    try:
        names = [entry.name.removesuffix(".index") for entry in path.parent.iterdir()]
    except OSError:
        names = []
    return did_you_mean(path.name, names) or f"check the path (the folder holds {len(names)} other files)"
