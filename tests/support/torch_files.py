"""PyTorch checkpoints written by hand, byte by byte, so that they can be wrong in any way. torch is not needed."""

import io
import json
import struct
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
STORAGES = {"float32": "FloatStorage", "float64": "DoubleStorage", "float16": "HalfStorage", "int64": "LongStorage",
            "int32": "IntStorage", "int16": "ShortStorage", "int8": "CharStorage", "uint8": "ByteStorage",
            "bool": "BoolStorage", "complex64": "ComplexFloatStorage", "complex128": "ComplexDoubleStorage",
            "bfloat16": "BFloat16Storage"}  # fmt: skip


@dataclass
class Named:
    """Something that a pickle names."""

    module: str
    name: str


@dataclass
class Call:
    """What a pickle makes by calling something."""

    function: Any
    arguments: tuple


@dataclass
class Persistent:
    """Something outside of the pickle."""

    id: Any


@dataclass
class Raw:
    """Opcodes as they are."""

    code: bytes


@dataclass
class Pairs:
    """A dict whose keys may be anything, and equal."""

    pairs: list


def code(value):
    """Return the opcodes of `value`, in protocol 2."""
    match value:
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            return _integer(value)
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            text = value.encode()
            return b"X" + struct.pack("<I", len(text)) + text
        case bytes():
            return b"C" + bytes([len(value)]) + value
        case tuple():
            return b"(" + b"".join(map(code, value)) + b"t"
        case list():
            return b"](" + b"".join(map(code, value)) + b"e"
        case dict():
            return code(Pairs(list(value.items())))
        case Pairs():
            return b"}(" + b"".join(code(k) + code(v) for k, v in value.pairs) + b"u"
        case Named():
            return f"c{value.module}\n{value.name}\n".encode()
        case Call():
            return code(value.function) + code(value.arguments) + b"R"
        case Persistent():
            return code(value.id) + b"Q"
        case Raw():
            return value.code
    raise TypeError(value)


def _integer(value):
    if 0 <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def pickled(value):
    """Return a whole pickle."""
    return b"\x80\x02" + code(value) + b"."


def storage(key, dtype, count, *view):
    """Return the reference to a storage."""
    return Persistent(("storage", Named("torch", STORAGES.get(dtype, dtype)), key, "cpu", count, *view))


def tensor(where, shape, strides=None, offset=0):
    """Return what makes a tensor in a storage."""
    if strides is None:
        strides = tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
    hooks = Call(Named("collections", "OrderedDict"), ())
    return Call(Named("torch._utils", "_rebuild_tensor_v2"), (where, offset, shape, strides, False, hooks))


def plain(arrays, view=()):
    """Return tensors for `arrays` (by names), each in a storage of its own, and the bytes of the storages."""
    tensors, stored = {}, {}
    for key, (name, value) in enumerate(arrays.items()):
        tensors[name] = tensor(storage(str(key), value.dtype.name, value.size, *view), value.shape)
        stored[str(key)] = value.tobytes()
    return tensors, stored


def write_zip(path, root, stored, *, compress=zipfile.ZIP_STORED, notes=None):
    """Write the form with zip; `root` may be a whole pickle."""
    with zipfile.ZipFile(path, "w", compress) as archive:
        archive.writestr("x/data.pkl", root if isinstance(root, bytes) else pickled(root))
        for name, content in {"version": b"3\n", **(notes or {})}.items():
            archive.writestr(f"x/{name}", content)
        for key, content in stored.items():
            archive.writestr(f"x/data/{key}", content)
    return path


def write_legacy(path, root, stored, *, itemsize=4, magic=MAGIC, protocol=1001, keys=None):
    """Write the form without zip; `root` may be a whole pickle."""
    notes = {"protocol_version": protocol, "little_endian": True, "type_sizes": {"int": 4}}
    parts = [pickled(magic), pickled(protocol), pickled(notes)]
    parts += [root if isinstance(root, bytes) else pickled(root), pickled(list(stored) if keys is None else keys)]
    parts += [struct.pack("<q", len(content) // itemsize) + content for content in stored.values()]
    path.write_bytes(b"".join(parts))
    return path


NUMBERS = {"float32": 7, "float64": 8, "int64": 5, "bfloat16": 13, "float16": 6, "bool": 12, "uint8": 1}


def exported_tensor(dtype, shape, strides=None, offset=0, **more):
    """Return what an exported program notes of a tensor."""
    strides = strides or [int(np.prod(shape[i + 1 :])) for i in range(len(shape))]
    sizes = {"sizes": [{"as_int": n} for n in shape], "strides": [{"as_int": n} for n in strides]}
    return {"dtype": NUMBERS[dtype], **sizes, "storage_offset": {"as_int": offset}, "layout": 7, **more}


def write_exported(path, weights, stored, constants=None, *, model="model", root="x", notes=None):
    """Write an archive of `torch.export.save`: `weights` and `constants` are payloads by name, `stored` bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in stored.items():
            archive.writestr(f"{root}/data/{name}", content)
        for part, payloads in {"weights": weights, "constants": constants or {}}.items():
            archive.writestr(f"{root}/data/{part}/{model}_{part}_config.json", json.dumps({"config": payloads}))
        archive.writestr(f"{root}/archive_format", "pt2")
        for name, content in {"byteorder": "little", f"models/{model}.json": "{}", **(notes or {})}.items():
            archive.writestr(f"{root}/{name}", content)
    return path


def exported_of(arrays):
    """Return payloads for `arrays`, each in a member of its own, and the bytes of the members."""
    payloads, stored = {}, {}
    for k, (name, value) in enumerate(arrays.items()):
        meta = exported_tensor(value.dtype.name, value.shape)
        payloads[name] = {"path_name": f"weight_{k}", "is_param": True, "use_pickle": False, "tensor_meta": meta}
        stored[f"weights/weight_{k}"] = value.tobytes()
    return payloads, stored


def thing(module, name, state):
    """Return an object of a class whose attributes are `state`."""
    return Raw(code(Named(module, name)) + b")\x81" + code(state) + b"b")


def write_distributed(folder, arrays, cuts, *, change=lambda where, place: place, routes=None):
    """Write a folder of `torch.distributed.checkpoint`.

    Args:
        folder: the folder.
        arrays: the tensors by their names.
        cuts: how many parts along the first axis each has; the parts go to two files in turn.
        change: changes what the description says of the place of a part.
        routes: the keys on the way to a tensor, by its name.
    """
    metadata, filesystem = "torch.distributed.checkpoint.metadata", "torch.distributed.checkpoint.filesystem"
    files, tensors, places = {"__0_0.distcp": b"", "__1_0.distcp": b""}, {}, []
    for name, value in arrays.items():
        chunks, at = [], 0
        for number, part in enumerate(np.array_split(value, cuts.get(name, 1)) if value.ndim else [value]):
            begin = (at, *(0,) * (value.ndim - 1)) if value.ndim else ()
            at += len(part) if value.ndim else 0
            content = io.BytesIO()
            root = tensor(storage("0", value.dtype.name, part.size), part.shape)
            write_zip(content, root, {"0": part.tobytes()})
            file = [*files][number % 2]
            sizes = {
                "offsets": Call(Named("torch", "Size"), (begin,)),
                "sizes": Call(Named("torch", "Size"), (part.shape,)),
            }
            chunks.append(thing(metadata, "ChunkStorageMetadata", sizes))
            place = {"relative_path": file, "offset": len(files[file]), "length": len(content.getvalue())}
            files[file] += content.getvalue()
            index = thing(metadata, "MetadataIndex", {"fqn": name, "offset": sizes["offsets"], "index": number})
            places.append((index, thing(filesystem, "_StorageInfo", change(begin, place))))
        properties = thing(metadata, "TensorProperties", (Named("torch", value.dtype.name), False))
        size = Call(Named("torch", "Size"), (value.shape,))
        described = {"properties": properties, "size": size, "chunks": chunks}
        tensors[name] = thing(metadata, "TensorStorageMetadata", described)
    tensors["step"] = thing(metadata, "BytesStorageMetadata", {})
    state = {"state_dict_metadata": tensors, "planner_data": routes, "storage_data": Pairs(places)}
    (folder / ".metadata").write_bytes(pickled(thing(metadata, "Metadata", state)))
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def write_both(folder, arrays):
    """Write float32 `arrays` in both forms and return the paths."""
    tensors, stored = plain(arrays)
    legacy, stored_too = plain(arrays, view=(None,))
    return write_zip(folder / "a.pt", tensors, stored), write_legacy(folder / "b.pt", legacy, stored_too)
