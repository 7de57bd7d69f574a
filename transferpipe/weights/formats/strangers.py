"""Files that are not read, recognized by how they begin, so that a refusal says what they are and what to do instead.

Signatures are those of the formats' own specifications, most of them collected in
https://github.com/file/file/tree/master/magic/Magdir.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from transferpipe.errors import FileError, Problem
from transferpipe.files.protobuf import BYTES, VARINT, read_fields, window_reader
from transferpipe.files.segment import opened
from transferpipe.text.listing import listed

_UNPACK = "unpack it, and name the file or folder inside of it"
_CONVERTED = "name the model that it was converted from"
_NO_WEIGHTS = "name the file or folder of the weights"
_AS_ARRAYS = "save the arrays in it with numpy.savez, or as safetensors"
_WHOLE_KERAS = (
    "name the file of its weights, and as the target the function that builds it; or make both one file, as Keras does "
    "for whole models: h5py.File(COPY_OF_THE_WEIGHTS, 'a').attrs['model_config'] = open(THIS_FILE).read()"
)
_THE_FILE = "download the file itself; on a page of a hub, that is what its download button leads to"
_POINTER = "fetch the file itself: git lfs pull in its repository, or download it"
_OF_RUNTIME = f"it holds what a runtime compiled, and weights changed for that: {_CONVERTED}"
_TO_GGUF = "convert it to GGUF with the scripts of llama.cpp, or name the model that it was converted from"
# First bytes, where they are, what the file is, what to do.
_SIGNATURES: tuple[tuple[bytes, int, str, str], ...] = (
    (b"\x1f\x8b", 0, "is packed with gzip", _UNPACK),
    (b"BZh", 0, "is packed with bzip2", _UNPACK),
    (b"\xfd7zXZ\x00", 0, "is packed with xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", 0, "is packed with zstd", _UNPACK),
    (b"\x04\x22\x4d\x18", 0, "is packed with LZ4", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", 0, "is a 7-Zip archive", _UNPACK),
    (b"Rar!\x1a\x07", 0, "is a RAR archive", _UNPACK),
    (b"ZF", 0, "is a file of joblib, packed", _AS_ARRAYS),
    (b"%PDF-", 0, "is a PDF document", _NO_WEIGHTS),
    (b"\x89PNG\r\n", 0, "is a PNG image", _NO_WEIGHTS),
    (b"\xff\xd8\xff", 0, "is a JPEG image", _NO_WEIGHTS),
    (b"GIF8", 0, "is a GIF image", _NO_WEIGHTS),
    (b"\x7fELF", 0, "is a program or a library for Linux", _NO_WEIGHTS),
    (b"MZqFpD", 0, "is a llamafile, a program with a model in it", "unpack the .gguf in it, as from a zip archive"),
    (b"MZ", 0, "is a program or a library for Windows", _NO_WEIGHTS),
    (b"PAR1", 0, "is a Parquet table", _NO_WEIGHTS),
    (b"ARROW1", 0, "is an Arrow table", _NO_WEIGHTS),
    (b"FEA1", 0, "is a Feather table", _NO_WEIGHTS),
    (b"Obj\x01", 0, "is an Avro table", _NO_WEIGHTS),
    (b"SQLite format 3\x00", 0, "is an SQLite database", _NO_WEIGHTS),
    (b"MATLAB 5.0", 0, "is a MATLAB file", _AS_ARRAYS),
    (b"version https://git-lfs", 0, "is a pointer of Git LFS, not the file itself", _POINTER),
    (b"version https://hawser", 0, "is a pointer of Git LFS, not the file itself", _POINTER),
    (b"ptrt", 0, "is an engine of TensorRT", _OF_RUNTIME),
    (b"ftrt", 0, "is an engine of TensorRT", _OF_RUNTIME),
    (b"ET12", 4, "is a program of ExecuTorch", _OF_RUNTIME),
    (b"ORTM", 4, "is a model of ONNX Runtime's own format (.ort)", _CONVERTED),
    (b"7767517\n", 0, "is the network of an ncnn model, without its weights", _CONVERTED),
    (b"\xdd\x85\x76\x00", 0, "is the network of an ncnn model, without its weights", _CONVERTED),
    (b"\xef\xbe\xad\xde", 64, "holds the weights of a Core ML package, without their names", _CONVERTED),
    (b"\x12\x01\0\0\0\0\0\0", 0, "is a file of MXNet's arrays", _AS_ARRAYS),
    (b"lmgg", 0, "is a GGML file, which came before GGUF", _TO_GGUF),
    (b"fmgg", 0, "is a GGML file, which came before GGUF", _TO_GGUF),
    (b"tjgg", 0, "is a GGML file, which came before GGUF", _TO_GGUF),
    (b"algg", 0, "is an adapter in GGLA, which came before GGUF", _TO_GGUF),
    (b"RKNN", 0, "is a model of RKNN", _OF_RUNTIME),
    (b"Gk0\x01", 0, "holds the weights of an ncnn model, without their names", _CONVERTED),
    (b"ML\xefR", 0, "is a program of MLIR, such as StableHLO", _CONVERTED),
    (b"CBM1", 0, "is a model of CatBoost, which has trees and no weights", _NO_WEIGHTS),
    (b"tree\nversion=", 0, "is a model of LightGBM, which has trees and no weights", _NO_WEIGHTS),
    (b"binf", 0, "is a model of XGBoost, which has trees and no weights", _NO_WEIGHTS),
    (b"\0B<", 0, "is a file of Kaldi", _AS_ARRAYS),
    (b"\xba\x16\x4f\x2f", 0, "is a model of fastText", _AS_ARRAYS),
    (b"RIFF", 0, "is a sound or a picture", _NO_WEIGHTS),
    (b"OggS", 0, "is a sound", _NO_WEIGHTS),
)
_PATTERNS: tuple[tuple[re.Pattern[bytes], str, str], ...] = (
    (re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype html|html|head|body)\b", re.I), "is a web page, not the file that it "
     "tells of", _THE_FILE),
    (re.compile(rb"\s*(<\?xml.*?)?<net\s[^>]*>\s*<layers>", re.I | re.S), "is the network of an OpenVINO model, "
     "without its weights", _CONVERTED),
    (re.compile(rb"\s*<(\?xml|\w+[\s>])"), "is XML", _NO_WEIGHTS),
    (re.compile(rb"\x78[\x01\x5e\x9c\xda]"), "is packed with zlib, as joblib does", _AS_ARRAYS),
    (re.compile(rb"\s*node\s*\{\s*name\s*:"), "is a graph of TensorFlow as text", "turn it into a binary one: "
     "graph = tf.compat.v1.GraphDef(); google.protobuf.text_format.Parse(pathlib.Path(path).read_text(), graph); "
     "tf.io.write_graph(graph, '.', 'graph.pb', as_text=False)"),
    # LoDTensors one after the other: a version, no levels, a version, the length of a message, and that.
    (re.compile(rb"\x00{16}..\x00\x00\x08", re.S), "holds the parameters of a PaddlePaddle model, without their names",
     _AS_ARRAYS),
    # Major, minor and revision of its version.
    (re.compile(rb"\x00{4}[\x01\x02]\x00{3}[\x00\x05]\x00{3}"), "holds the weights of Darknet, without their names",
     "name the model in a format that has names"),
    # The length of a message, and where its table begins.
    (re.compile(rb"\xff{4}..\x00\x00\x10\x00{3}", re.S), "is a stream of Arrow tables", _NO_WEIGHTS),
    # A version, and the name of what the model is, with its length.
    (re.compile(rb"[\x01-\x3f]\x00{3}.\x00\w{1,60}Spec\x00", re.S), "is a model of CTranslate2", _CONVERTED),
    (re.compile(rb"\d{1,9} \d{1,5}\r?\n\S"), "holds the vectors of words, as word2vec writes them", _AS_ARRAYS),
    (re.compile(rb"[^\s\d.+-]\S*( -?\d*\.\d+(e-?\d+)?){9}"), "holds the vectors of words, as GloVe writes them",
     _AS_ARRAYS),
    # What `to_json` and `to_yaml` of a model write.
    (re.compile(rb'\s*\{[^{}\[\]]*"class_name"\s*:\s*"\w+"'), "is the architecture of a Keras model, without its "
     "weights", _WHOLE_KERAS),
    (re.compile(rb"(backend: \w+\r?\n)?class_name: \w+\r?\n"), "is the architecture of a Keras model as YAML, without "
     "its weights", "name the file of its weights, and as the target the function that builds it"),
    # As JSON, and as UBJSON, where the length of a key stands before it.
    (re.compile(rb'\{\s*("learner"\s*:|L.{8}learner)\s*\{', re.S), "is a model of XGBoost, which has trees and no "
     "weights", _NO_WEIGHTS),
    (re.compile(rb'\s*name\s*:\s*"[^"]*"\s*(input|layers?)\b'), "is the network of a Caffe model, without its weights",
     _CONVERTED),
    (re.compile(rb"\x04\x00{3}\x01\x00{3}\x03\x00{3}V 1"), "is a file of Torch 7",
     "name the model in a format of PyTorch's"),
)  # fmt: skip
# Message fields of Core ML's Model (its kinds: 200 and above) and Caffe's NetParameter (layers: 2 and 100).
_COREML_KINDS, _COREML_VERSIONS = range(200, 4000), range(1, 100)
_CAFFE_LAYERS = (2, 100)
_KNOWN_SUFFIXES = (
    ".keras", ".h5", ".hdf5", ".safetensors", ".pt", ".pth", ".bin", ".onnx", ".tflite", ".npz", ".npy", ".msgpack",
    ".gguf", ".pb",
)  # fmt: skip
# What describes a group or an array of Zarr: https://zarr-specs.readthedocs.io, versions 2 and 3.
_ZARR = frozenset([".zgroup", ".zarray", "zarr.json"])
_HEAD = 512  # bytes: the longest beginning that a pattern looks at, with room for a comment
_NETWORK, _WITHOUT = "is the network of ", ", without its weights"
_MOST_LISTED = 3  # members of an archive, in the message that says so: they tell what was packed


@dataclass(frozen=True)
class Stranger:
    """A kind of file that is not read: what it is, and what to do."""

    what: str
    fix: str


def recognise(path: Path, head: bytes) -> Stranger | None:
    """Return what a file is that no format knows, if its first bytes tell."""
    for magic, at, what, fix in _SIGNATURES:
        if head[at : at + len(magic)] == magic:
            return Stranger(what, fix)
    for pattern, what, fix in _PATTERNS:
        if pattern.match(head):
            return Stranger(what, fix)
    if beside := _of_network_beside(path):
        return beside
    return _of_protobuf(path) if head[:1] in (b"\x08", b"\x0a") else None


def _of_network_beside(path: Path) -> Stranger | None:
    """Tell weights that have no signature by the network of theirs that lies beside them under the same name."""
    for ending in (".xml", ".param"):
        network = path.with_suffix(ending)
        if network == path or not network.is_file():
            continue
        with network.open("rb") as file:
            known = recognise(network, file.read(_HEAD))
        if known and known.what.startswith(_NETWORK) and known.what.endswith(_WITHOUT):
            model = known.what.removeprefix(_NETWORK).removesuffix(_WITHOUT)
            return Stranger(f"holds the weights of {model} ({network.name}), without their names", _CONVERTED)
    return None


def _of_protobuf(path: Path) -> Stranger | None:
    """Tell a model of Core ML or Caffe, which are messages without a signature."""
    found: dict[int, int] = {}
    is_version = False
    try:
        with opened(path) as descriptor:
            for field in read_fields(window_reader(descriptor), 0, path.stat().st_size):
                found[field.number] = field.kind
                is_version |= field.number == 1 and field.kind == VARINT and field.value in _COREML_VERSIONS
    except (OSError, ValueError, FileError):
        return None
    if is_version and any(number in _COREML_KINDS and kind == BYTES for number, kind in found.items()):
        return Stranger("is a model of Core ML", _CONVERTED)
    if found.get(1) == BYTES and any(found.get(number) == BYTES for number in _CAFFE_LAYERS):
        return Stranger("is a model of Caffe", "save its blobs with numpy.savez, by the names of the layers")
    return None


def recognise_folder(names: Iterable[str]) -> Stranger | None:
    """Return what a folder is that no format knows, if the names in it tell."""
    names = set(names)
    if {"Manifest.json", "Data"} <= names:
        return Stranger("is a package of Core ML", _CONVERTED)
    if {"model.mil", "weights"} <= names or "coremldata.bin" in names:
        return Stranger("is a compiled model of Core ML", _CONVERTED)
    if names & _ZARR:
        return Stranger("is a Zarr store", _AS_ARRAYS)
    if "__model__" in names or any(name.endswith((".pdmodel", ".pdiparams")) for name in names):
        return Stranger("is a model of PaddlePaddle", "save its state_dict with paddle.save, and name that file")
    return None


def recognise_archive(names: Iterable[str]) -> Stranger | None:
    """Return what a zip archive is that no format knows, if the names of its members tell."""
    names = sorted(names)
    if any("Manifest.json" in name for name in names) and any(".mlmodel" in name for name in names):
        return Stranger("is a package of Core ML in a zip archive", _CONVERTED)
    held = [name for name in names if name.endswith(_KNOWN_SUFFIXES)]
    if held:
        return Stranger(f"is a zip archive with {listed(held, _MOST_LISTED)} in it", _UNPACK)
    return None


def refusal(path: Path, stranger: Stranger) -> FileError:
    """Return the error that says what the file at `path` is."""
    return FileError(Problem(str(path), f"{stranger.what}, which is not read", stranger.fix))
