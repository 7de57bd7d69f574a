"""Files of the right form with the wrong things in them: what only somebody who knows the format would write."""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import random
import signal
import struct
import zipfile
from collections.abc import Callable, Collection, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import other_files
import tf_bundles
import torch_files
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from one_of_each import BIAS, FORMATS, KERNEL, checkpoint, read_all, write_lite

from transferpipe.errors import TransferError

from .rows import Row

ODD = (
    None, True, False, 0, 1, -1, 2, 3, 255, 1 << 31, 1 << 63, -(1 << 63), 1 << 64, 10**40, 1.5, -0.0, float("inf"), float("nan"), "", "a", "../x",
    "/etc/passwd", "a/kernel", "\0", "\ud800", "ä" * 300, "F32", "F99", "float32", "vars", ".", "..", [], {}, [[]], {"": {}}, [-1], [1 << 40, 1 << 40],
    ["a", 1], [None], {"class_name": "Dense"}, {"a": {"b": {"c": []}}},
)  # fmt: skip
SECONDS = 10


class HangError(BaseException):
    """A case is still at work after `SECONDS`."""


def changed(thing: Any, drawn: random.Random) -> Any:
    """Return JSON data with one of its parts exchanged, left out, doubled or given another name."""
    if drawn.random() < 0.15 or not isinstance(thing, dict | list) or not thing:
        return drawn.choice(ODD)
    if isinstance(thing, list):
        out, at = list(thing), drawn.randrange(len(thing))
        match drawn.randrange(6):
            case 0:
                del out[at]
            case 1:
                out.insert(at, drawn.choice([out[at], *ODD]))
            case _:
                out[at] = changed(out[at], drawn)
        return out
    out, key = dict(thing), drawn.choice(list(thing))
    match drawn.randrange(7):
        case 0:
            del out[key]
        case 1:
            out[str(drawn.choice(ODD))] = out[key]
        case 2:
            out[str(drawn.choice(ODD))] = out.pop(key)
        case _:
            out[key] = changed(out[key], drawn)
    return out


def several(change: Callable[[Any, random.Random], Any], thing: Any, drawn: random.Random) -> Any:
    """Return `thing` changed once, or a few times."""
    for _ in range(drawn.choice([1, 1, 1, 2, 4])):
        thing = change(thing, drawn)
    return thing


def _in_json(path: Path, drawn: random.Random) -> None:
    path.write_text(_text(several(changed, json.loads(path.read_bytes()), drawn)))


def _text(data: Any) -> str:
    return json.dumps(data)


def _in_safetensors(path: Path, drawn: random.Random) -> None:
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = _text(several(changed, json.loads(data[8 : 8 + size]), drawn)).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + size :])


def npy(value: np.ndarray, drawn: random.Random) -> bytes:
    """Return a .npy file with something odd in its header."""
    known = {"descr": value.dtype.str, "fortran_order": False, "shape": value.shape}
    header = several(changed, known, drawn) if drawn.random() < 0.8 else known
    text = (
        repr(header)
        if drawn.random() < 0.8
        else drawn.choice(["{" * 900, "(" * 900, "{}", "[]", "1", "{'descr': }", "f()"])
    )
    data = text.encode("latin-1", "replace")
    if drawn.random() < 0.8:  # as NumPy fills it up
        data += b" " * (-(len(data) + 11) % 64) + b"\n"
    version, width = drawn.choice([((1, 0), 2), ((2, 0), 4), ((3, 0), 4), ((9, 9), 2)])
    size = (len(data) & (1 << 8 * width) - 1).to_bytes(width, "little")
    return b"\x93NUMPY" + bytes(version) + size + data + value.tobytes()


def _in_npy(path: Path, drawn: random.Random) -> None:
    path.write_bytes(npy(KERNEL, drawn))


def _in_npz(path: Path, drawn: random.Random) -> None:
    with zipfile.ZipFile(path, "w", drawn.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
        for name, value in (("a/kernel", KERNEL), ("a/bias", BIAS)):
            named = drawn.choice([name, name, name, "../x", "/x", "", "a/kernel", "x" * 300, "é", "a//b", "."])
            if f"{named}.npy" not in archive.namelist():
                archive.writestr(f"{named}.npy", npy(value, drawn))


def pickle_changed(data: bytes, drawn: random.Random) -> bytes:
    """Return a pickle with opcodes left out, doubled, exchanged, or others put between them."""
    starts = [at for _, _, at in pickletools.genops(data)] + [len(data)]
    codes = [data[a:b] for a, b in pairwise(starts)]
    for _ in range(drawn.choice([1, 1, 2, 5])):
        at, other = drawn.randrange(len(codes)), drawn.randrange(len(codes))
        match drawn.randrange(5):
            case 0:
                del codes[at]
            case 1:
                codes.insert(at, codes[other])
            case 2:
                codes[at], codes[other] = codes[other], codes[at]
            case 3:
                codes.insert(at, drawn.choice(_OPCODES))
            case 4:
                codes[at] = (
                    pickle.dumps(drawn.choice(ODD[:-6]), 2)[2:-1] if drawn.random() < 0.7 else drawn.choice(_OPCODES)
                )
        codes = codes or [b"."]
    return b"".join(codes)


_OPCODES = [
    *(bytes([b]) for b in b"()]}Ntaesub0129lodQR\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x93\x94"),
    b"h\x01", b"q\x01", b"j\xff\xff\xff\x7f", b"cos\nsystem\n", b"ccollections\nOrderedDict\n", b"ctorch\nFloatStorage\n",
    b"J\xff\xff\xff\xff", b"K\x05", b"\x8a\x09" + b"\xff" * 9, b"X\x01\x00\x00\x00a", b"G" + b"\x7f\xf8" + bytes(6), b"P1\n", b"I01\n", b"L5L\n",
]  # fmt: skip


def _in_torch_zip(path: Path, drawn: random.Random) -> None:
    tensors, stored = torch_files.plain({"a.w": KERNEL, "a.b": BIAS})
    if drawn.random() < 0.2:
        stored[drawn.choice([*stored])] = drawn.randbytes(drawn.randrange(40))
    torch_files.write_zip(path, pickle_changed(torch_files.pickled(tensors), drawn), stored)


def _in_torch_legacy(path: Path, drawn: random.Random) -> None:
    tensors, stored = torch_files.plain({"a.w": KERNEL, "a.b": BIAS}, view=(None,))
    keys = [*stored] if drawn.random() < 0.7 else changed([*stored], drawn)
    try:
        torch_files.write_legacy(path, pickle_changed(torch_files.pickled(tensors), drawn), stored, keys=keys)
    except (ValueError, TypeError, AttributeError, OverflowError):  # what this writer of pickles does not know
        torch_files.write_legacy(path, pickle_changed(torch_files.pickled(tensors), drawn), stored)


def message_changed(data: bytes, drawn: random.Random) -> bytes:
    """Return a protocol-buffer message with one field, at any depth, left out, doubled or given another value."""
    fields = _fields(data)
    if not fields or drawn.random() < 0.05:
        return drawn.choice([b"", b"\xff" * 11, drawn.randbytes(6), data + data])
    at = drawn.randrange(len(fields))
    number, kind, value = fields[at]
    match drawn.randrange(6):
        case 0:
            del fields[at]
        case 1:
            fields.insert(drawn.randrange(len(fields)), fields[at])
        case 2:
            fields[at] = (drawn.choice([0, 1, 2, 3, 4, 5, 8, 9, 20, number]), kind, value)
        case _ if kind == 2:
            nested = drawn.random() < 0.8 and _fields(value)
            odd = drawn.choice([b"", b"\0", b"\xff" * 9, value * 2, value[:-1], b"../x", "é/ä".encode()])
            fields[at] = (number, 2, message_changed(value, drawn) if nested else odd)
        case _:
            fields[at] = (number, 0, drawn.choice([0, 1, 2, 7, 99, (1 << 31) - 1, (1 << 63) - 1, (1 << 64) - 1]))
    return b"".join(_field(*f) for f in fields)


def _fields(data: bytes) -> list[tuple[int, int, Any]]:
    """Return number, wire type and value of each field; nothing where the bytes are not a message."""
    found, file = [], io.BytesIO(data)
    try:
        while file.tell() < len(data):
            tag = _varint(file)
            number, kind = tag >> 3, tag & 7
            size = {0: 0, 1: 8, 5: 4}.get(kind)
            value = _varint(file) if kind == 0 else file.read(_varint(file) if kind == 2 else size)
            if kind not in (0, 1, 2, 5) or not number or file.tell() > len(data):
                return []
            found.append((number, kind, value))
    except (IndexError, TypeError, OverflowError):
        return []
    return found


def _varint(file: io.BytesIO) -> int:
    value = shift = 0
    while True:
        byte = file.read(1)[0]
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value


def _field(number: int, kind: int, value: Any) -> bytes:
    tag = tf_bundles.varint(number << 3 | kind)
    if kind == 0:
        return tag + tf_bundles.varint(value)
    return tag + (tf_bundles.varint(len(value)) if kind == 2 else b"") + value


def _in_onnx(path: Path, drawn: random.Random) -> None:
    path.write_bytes(several(message_changed, path.read_bytes(), drawn))


def _in_bundle(path: Path, drawn: random.Random) -> None:
    """Entries of the index, or the graph of objects, all with the right checksums."""
    made = checkpoint()
    if drawn.random() < 0.5:
        key = drawn.choice([*made.entries])
        made.entries[key] = several(message_changed, made.entries[key], drawn)
        if drawn.random() < 0.2:
            made.entries[drawn.choice([b"", b"x", b"\xff\xfe", key + b"\0"])] = made.entries.pop(key)
    else:
        graph = tf_bundles.Graph()
        graph.node({"a": {"kernel": tf_bundles.variable("kernel", 2, 3)}})
        made = tf_bundles.Checkpoint().add(tf_bundles.GRAPH_KEY, several(message_changed, graph.bytes(), drawn))
        for key, value in graph.values.items():
            made.add(key, value)
    if drawn.random() < 0.1:
        made.header = several(message_changed, tf_bundles.message((1, 1), (3, tf_bundles.field_of(1, 1))), drawn)
    made.write(path, per_block=drawn.choice([1, 3]))


def _in_hdf5(path: Path, drawn: random.Random) -> None:
    with h5py.File(path, "r+") as file:
        several(_hdf5_changed, file, drawn)


def _hdf5_changed(file: h5py.File, drawn: random.Random) -> h5py.File:
    names: list[str] = []
    file.visit(names.append)
    if not names:
        return file
    name = drawn.choice(names)
    item, other = file[name], f"{name}_1" if drawn.random() < 0.5 else drawn.choice(["x", "a/b/vars/0", "vars", "é"])
    odd = (
        np.float32(1),
        np.array(["a"], "S1"),
        np.zeros((0, 3), "f4"),
        h5py.Empty("f4"),
        np.arange(3) > 1,
        b"\xff",
        7,
        "x",
    )
    try:
        match drawn.randrange(8):
            case 0:
                del file[name]
            case 1:
                file.move(name, other)
            case 2:
                file[other] = item
            case 3:
                file[other] = drawn.choice(
                    [h5py.SoftLink(f"/{name}"), h5py.SoftLink("/nowhere"), h5py.ExternalLink("y.h5", "/x")]
                )
            case 4 | 5:
                key = drawn.choice([*item.attrs, "name", "weight_names", "layer_names", "model_config", "dtype"])
                item.attrs[key] = drawn.choice(odd)
            case 6:
                del file[name]
                file[name] = drawn.choice(odd)
            case 7:
                del file[name]
                file.create_group(name)
    except (ValueError, RuntimeError, KeyError, OSError, TypeError):  # h5py does not make that; something else, then
        return file
    return file


def _in_config(path: Path, drawn: random.Random) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {n: archive.read(n) for n in archive.namelist()}
    name = drawn.choice(["config.json", "config.json", "metadata.json"])
    members[name] = _text(several(changed, json.loads(members[name]), drawn)).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)


def _in_legacy_config(path: Path, drawn: random.Random) -> None:
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        file.attrs["model_config"] = _text(several(changed, config, drawn)).encode()
        if drawn.random() < 0.3:
            file.attrs.modify("keras_version", drawn.choice([b"1.2.2", b"x", b"", 3]))


def _in_lite(path: Path, drawn: random.Random) -> None:
    """Fields of any table exchanged, and now and then a number in the bytes, which may be an offset."""

    def change(model: Any) -> None:
        graph = model.subgraphs[0]
        tables = [model, graph, *graph.tensors, *graph.operators, *model.buffers, *model.operatorCodes]
        tables += [t.quantization for t in graph.tensors if t.quantization]
        for _ in range(drawn.choice([1, 1, 2, 4])):
            table = drawn.choice(tables)
            setattr(table, drawn.choice(list(vars(table))), drawn.choice(_NUMBERS))

    while True:
        try:
            write_lite(path.parent, change)
            break
        except (TypeError, ValueError, AttributeError, OverflowError, struct.error):  # what the builder does not write
            continue
    if drawn.random() < 0.4:
        data = bytearray(path.read_bytes())
        at = 4 * drawn.randrange(len(data) // 4)
        data[at : at + 4] = drawn.choice(
            [b"\xff" * 4, bytes(4), b"\4\0\0\0", (len(data) - 2).to_bytes(4, "little"), drawn.randbytes(4)]
        )
        path.write_bytes(data)


_NUMBERS = (
    None,
    0,
    1,
    -1,
    2,
    7,
    100,
    127,
    1 << 20,
    (1 << 31) - 1,
    [],
    [0],
    [-1],
    [1, 2, 3],
    [(1 << 31) - 1] * 3,
    "",
    "a",
    "../x",
    "x" * 300,
)


def _in_flax(path: Path, drawn: random.Random) -> None:
    """Trees with odd leaves, arrays with odd headers, chunks that are none, and things that have another length."""
    while True:
        try:
            header: Any = [list(KERNEL.shape), "float32", KERNEL.tobytes()]
            header = several(changed, header, drawn) if drawn.random() < 0.6 else header
            leaf: Any = other_files.Raw(
                other_files.extension(drawn.choice([1, 1, 1, 2, 3, 9]), other_files.packed(header))
            )
            if drawn.random() < 0.3:
                chunks = {
                    "__msgpack_chunked_array__": True,
                    "shape": {"0": 2, "1": 3},
                    "chunks": {"0": KERNEL.ravel()[:4], "1": KERNEL.ravel()[4:]},
                }
                leaf = several(changed, chunks, drawn)
            tree: Any = {"params": {"a": {"kernel": leaf, "bias": BIAS}}, "step": 3}
            data = other_files.packed(several(changed, tree, drawn) if drawn.random() < 0.5 else tree)
            break
        except (TypeError, ValueError, OverflowError, struct.error):  # what MessagePack cannot say
            continue
    if drawn.random() < 0.2:
        at = drawn.randrange(len(data))
        data = data[:at] + bytes([drawn.choice([0x80, 0xC1, 0xC6, 0xC9, 0xDD, 0xDF, 0xFF])]) + data[at + 1 :]
    path.write_bytes(data)


def _in_gguf(path: Path, drawn: random.Random) -> None:
    sizes = (0, 1, 2, 3, 32, 256, 1 << 31, 1 << 62, (1 << 64) - 1)
    tensors: dict[str, Any] = {"a.bias": BIAS}
    for _ in range(drawn.choice([1, 2])):
        shape = tuple(drawn.choice(sizes) for _ in range(drawn.choice([0, 1, 2, 2, 3, 9])))
        name = drawn.choice(["a.weight", "a.bias", "", "../x", "a\0", "x" * 300, "é", "blk.0.x"])
        tensors[name] = (drawn.choice(list(other_files.KINDS)), shape, drawn.randbytes(drawn.choice([0, 24, 34, 210])))
    facts: list[tuple[str, Any]] = [("general.architecture", drawn.choice(["tiny", "", 7, ["a"]]))]
    if drawn.random() < 0.4:
        facts.append(("general.alignment", drawn.choice([0, 1, 7, 32, 64, (1 << 32) - 1, "x"])))
    offsets = None if drawn.random() < 0.6 else [drawn.choice([0, 1, 32, 64, *sizes]) for _ in tensors]
    data = bytearray(other_files.gguf(tensors, facts, version=drawn.choice([1, 2, 3, 3, 3, 3, 9]), offsets=offsets))
    if drawn.random() < 0.5:
        at, wide = drawn.randrange(4, min(len(data) - 8, 200)), drawn.choice([1, 4, 8])
        data[at : at + wide] = drawn.choice([b"\xff", b"\0", b"\7", b"\x7f"]) * wide
    path.write_bytes(data)


def _in_leaves(path: Path, drawn: random.Random) -> None:
    settings = (
        _text(several(changed, {"width": 3, "depth": [1, {}]}, drawn)).encode() if drawn.random() < 0.5 else b"{}"
    )
    line = drawn.choice([b"", settings + b"\n", settings, b"[" * 3000 + b"\n"])
    arrays = [npy(drawn.choice([KERNEL, BIAS]), drawn) for _ in range(drawn.choice([1, 2, 3]))]
    path.write_bytes(line + b"".join(arrays))


def _in_pickle(path: Path, drawn: random.Random) -> None:
    path.write_bytes(pickle_changed(path.read_bytes(), drawn))


def _in_orbax(path: Path, drawn: random.Random) -> None:
    _in_json(
        drawn.choice([path / "pytree" / "_METADATA", path / "pytree" / "_METADATA", path / "_CHECKPOINT_METADATA"]),
        drawn,
    )


READERS: dict[str, tuple[str, Callable[[Path, random.Random], None]]] = {
    "safetensors header": (".safetensors", _in_safetensors),
    "safetensors index": (".safetensors, index", _in_json),
    "npy header": (".npy", _in_npy),
    "npz members": (".npz", _in_npz),
    "pickle, zip": ("PyTorch, zip", _in_torch_zip),
    "pickle, legacy": ("PyTorch, legacy", _in_torch_legacy),
    "ONNX message": ("ONNX", _in_onnx),
    "tensor bundle": ("TensorFlow checkpoint", _in_bundle),
    "model.json": ("TensorFlow.js", _in_json),
    "weights.json": (".weights.json", _in_json),
    "config.json": (".keras", _in_config),
    "HDF5 tree": (".weights.h5", _in_hdf5),
    "HDF5 tree, legacy": ("legacy .h5", _in_hdf5),
    "model_config": ("legacy .h5", _in_legacy_config),
    "GraphDef message": ("GraphDef", _in_onnx),
    "TFLite tables": ("TFLite", _in_lite),
    "MessagePack tree": ("Flax", _in_flax),
    "GGUF header": ("GGUF", _in_gguf),
    "leaves": ("Equinox", _in_leaves),
    "pickle of arrays": ("pickle", _in_pickle),
    "pickle of Python 2": ("pickle of Python 2", _in_pickle),
    **({"Orbax metadata": ("Orbax", _in_orbax)} if "Orbax" in FORMATS else {}),
}


def measure_structures(
    folder: Path, most: int, drawn: random.Random, readers: Collection[str] = tuple(READERS)
) -> Iterator[Row]:
    """Every reader of our own that is in `readers`: `most` files of the right form."""
    signal.signal(signal.SIGALRM, end_hang)
    for name, (format, change) in READERS.items():
        number = drawn.randrange(1 << 32)  # whichever are chosen
        if name not in readers:
            continue
        place = folder / name
        place.mkdir()
        path = FORMATS[format].write(place)
        sound = {p: p.read_bytes() for p in place.rglob("*") if p.is_file()}
        row = Row(f"structure of {name}", "read, or refused with an error of ours, in 10 s")
        _look_at(row, partial(write_changed, path, sound, change), most, number)
        yield row


def write_changed(path: Path, sound: dict[Path, bytes], change: Callable, case: random.Random) -> Path:
    """Put the sound files back, change what `case` draws, and return the path."""
    for file, data in sound.items():
        file.write_bytes(data)
    change(path, case)
    return path


def _look_at(row: Row, write: Callable[[random.Random], Path], most: int, number: int) -> None:
    """Count `most` files that `write` draws; all of them, since one that fails is no reason to stop counting."""

    @seed(number)
    @settings(
        max_examples=most, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=[*HealthCheck]
    )
    @given(st.randoms(use_true_random=True))
    def look(case: random.Random) -> None:
        row.count(*looked(write(case)), f"seed {number}, example {row.cases}")

    look()


def looked(path: Path) -> tuple[str, list[str]]:
    """Return what reading a file comes to, and what is wrong with that."""
    signal.alarm(SECONDS)
    try:
        read_all(path)
    except TransferError:
        return "refused", []
    except HangError:
        return "hang", [f"still at work after {SECONDS} s"]
    except Exception as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else ""
        return "untyped", [f"{type(error).__name__}: {error} at {where}"]
    finally:
        signal.alarm(0)
    return "read", []


def end_hang(*_: object) -> None:
    """Handle the alarm of a case that takes too long."""
    raise HangError
