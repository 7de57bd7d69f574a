"""What tells a format from a path, where that takes more than a line; nothing is imported before it is needed."""

from __future__ import annotations

import os
from pathlib import Path

from transferpipe.weights.formats.format import Names

_OF_LEGACY = ("layer_names", "layer_names0")
DESCRIPTION, _OF_PARTS = ".metadata", ".distcp"
_HDF5 = b"\x89HDF\r\n\x1a\n"


def is_hdf5(path: Path, _: bytes) -> bool:
    """Look for the signature where the HDF5 specification (II.A) allows it: at 0, 512, 1024, 2048..."""
    size, offset = path.stat().st_size, 0
    with path.open("rb") as file:
        while offset + len(_HDF5) <= size:
            file.seek(offset)
            if file.read(len(_HDF5)) == _HDF5:
                return True
            offset = offset * 2 or 512
    return False


def is_legacy_hdf5(path: Path, head: bytes) -> bool:
    """Tell whether it is HDF5 as Keras wrote it before version 3, with the names of its layers."""
    if not is_hdf5(path, head):
        return False
    from transferpipe.weights.formats.hdf5.plain import read_root

    with path.open("rb") as plain:
        root = read_root(lambda place, size: os.pread(plain.fileno(), size, place), path.stat().st_size)
    if root is not None:
        members, attributes = root
        return any(name in attributes for name in _OF_LEGACY) or "model_weights" in members
    from transferpipe.weights.formats.hdf5.dataset import damage_named
    from transferpipe.weights.formats.hdf5.file import open_hdf5

    with open_hdf5(path, str(path)) as file, damage_named(str(path)):
        # Names are compared one by one, because `in` would follow a link to another file.
        return any(name in file.attrs for name in _OF_LEGACY) or "model_weights" in list(file)


def is_safetensors(path: Path, head: bytes) -> bool:
    """Tell whether the length of a header and the JSON of one stand in front."""
    if head[8:9] != b"{":
        return False
    from transferpipe.weights.formats.safetensors.header import MOST_HEADER

    return 2 <= int.from_bytes(head[:8], "little") <= min(path.stat().st_size - 8, MOST_HEADER)


def is_onnx(path: Path, head: bytes) -> bool:
    """Tell whether it begins with the field of a version, and is a whole message of ONNX."""
    if head[:1] != b"\x08":
        return False
    from transferpipe.weights.formats.onnx.model import is_onnx as is_model

    return is_model(path, path.stat().st_size)


def is_graph_def(path: Path, head: bytes) -> bool:
    """Tell whether it begins with a node, and is a whole message of TensorFlow's graphs."""
    if head[:1] != b"\x0a":
        return False
    from transferpipe.weights.formats.tensorflow.graph_def import is_graph_def as is_graph

    return is_graph(path, path.stat().st_size)


def is_weights_manifest(path: Path, head: bytes) -> bool:
    """Tell whether it is a list of groups of weights, as TensorFlow.js keeps one beside a model."""
    if head.lstrip()[:1] != b"[":
        return False
    from transferpipe.weights.formats.tfjs.manifest import is_manifest

    return is_manifest(path)


def is_torch(names: Names) -> bool:
    """Tell whether an archive has the one member that describes a checkpoint."""
    from transferpipe.weights.formats.torch.zip_form import pickle_member

    return pickle_member(names) is not None


def is_legacy_torch(_: Path, head: bytes) -> bool:
    """Tell whether the file begins with PyTorch's pickled magic number."""
    from transferpipe.weights.formats.torch.legacy import is_legacy

    return is_legacy(head)


def is_distributed(_: Path, names: Names) -> bool:
    """Tell whether a folder has what `torch.distributed.checkpoint` describes it with, and files of parts."""
    return DESCRIPTION in names and any(name.endswith(_OF_PARTS) for name in names)


def is_distributed_part(path: Path) -> bool:
    """Tell whether a file is one of such a folder."""
    is_named = path.name == DESCRIPTION or path.name.endswith(_OF_PARTS)
    return is_named and path.is_file() and (path.parent / DESCRIPTION).is_file()


def is_npy_folder(folder: Path, _: Names) -> bool:
    """Tell whether there are arrays in a folder or below."""
    from transferpipe.weights.formats.numpy.npy import holds_arrays

    return holds_arrays(folder)


def is_orbax(_: Path, names: Names) -> bool:
    """Tell a checkpoint of Orbax, one of its steps, or the tree of a step."""
    steps = any(name.isdigit() for name in names) and all(name.isdigit() or "orbax" in name for name in names)
    return steps or "_CHECKPOINT_METADATA" in names or {"_METADATA", "manifest.ocdbt"} <= names
