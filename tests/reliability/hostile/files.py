"""Model files that are made to do something: reach out of themselves, run, or take all there is."""

from __future__ import annotations

import itertools
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch_files
from crc_of_zeros import crc_of_zeros
from graph_defs import graph_def
from hand_made import config_of, write_archive, write_weights
from one_of_each import BIAS, KERNEL, checkpoint, write_safetensors
from protobuf_messages import field, onnx_model, packed, raw, varint
from tfjs_models import weight, write_model

from .case import COMMAND, LAYERS, UNREADABLE, UNSAFE, Case, Pair

Write = Callable[[Path], None]
REFUSED = (UNSAFE, UNREADABLE)


def pair(kind: str, name: str, hostile: Write, twin: Write, statuses: tuple[int, ...] = (UNSAFE,)) -> Iterator[Pair]:
    """Yield a file looked at, and taken as a source."""
    for words in (("inspect", name), ("run", "recipe=k")):
        bad = Case(f"{kind}, {words[0]}", _both(hostile, name), words, statuses, Path(name).name.partition(".")[0])
        yield Pair(bad, Case(f"twin of {kind}, {words[0]}", _both(twin, name), words, (0,)))


def _both(write: Write, name: str) -> Write:
    def both(folder: Path) -> None:
        write(folder)
        (folder / "recipes").mkdir()
        (folder / "recipes" / "k.yaml").write_text(
            f"source: {{path: {name}}}\ntarget: {{path: t.keras}}\nmapping: {{}}\nunmatched: keep\nunused: report\n"
            "save: {path: model.keras}\n"
        )

    return both


def zips() -> Iterator[Pair]:
    """Archives whose members lie elsewhere, are too many, too large, or not what the directory says."""

    def keras(
        change: Callable[[zipfile.ZipFile], None] | None = None, data: Callable[[bytes], bytes] | None = None
    ) -> Write:
        def write(folder: Path) -> None:
            path = write_archive(folder / "m.keras", LAYERS)
            if change:
                with zipfile.ZipFile(path, "a") as archive:
                    change(archive)
            if data:
                path.write_bytes(data(path.read_bytes()))

        return write

    def member(name: str, data: bytes = b"x") -> Write:
        return keras(lambda archive: archive.writestr(name, data))

    def link(archive: zipfile.ZipFile) -> None:
        entry = zipfile.ZipInfo("assets/link")
        entry.create_system, entry.external_attr = 3, 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")

    def bomb(archive: zipfile.ZipFile) -> None:
        packer, size = zlib.compressobj(9, zlib.DEFLATED, -15), 1 << 24
        block = packer.compress(bytes(size)) + packer.flush(zlib.Z_FULL_FLUSH)  # by itself, so that it can be repeated
        entry = zipfile.ZipInfo("assets/zeros")
        archive.writestr(entry, block * 80 + packer.flush())
        entry.compress_type, entry.file_size, entry.CRC = zipfile.ZIP_DEFLATED, 80 * size, crc_of_zeros(80 * size)

    def many(archive: zipfile.ZipFile) -> None:
        for number in range(70_000):
            archive.writestr(zipfile.ZipInfo(f"assets/{number}"), b"")

    def patched(signature: bytes, at: int, value: bytes) -> Callable[[bytes], bytes]:
        def change(data: bytes) -> bytes:
            start = data.rindex(signature) + at
            return data[:start] + value + data[start + len(value) :]

        return change

    good = keras()
    kinds = {
        "member above": member("../x"),
        "member above, inside": member("assets/../../x"),
        "absolute member": member("/tmp/x"),
        "member with a drive": member("C:/x"),
        "unknown member": member("evil.py"),
        "second configuration": member("config.json"),
        "second weights": member("model.weights.h5"),
        "link": keras(link),
        "bomb": keras(bomb),
        "many members": keras(many),
        "wrong count": keras(data=patched(b"PK\5\6", 10, b"\xff\x00")),
        "directory elsewhere": keras(data=patched(b"PK\5\6", 16, b"\x01\x00\x00\x00")),
        "directory of another size": keras(data=patched(b"PK\5\6", 12, b"\x01\x00\x00\x00")),
        "encrypted": keras(data=patched(b"PK\1\2", 8, b"\x01\x00")),
        "unknown compression": keras(data=patched(b"PK\1\2", 10, b"\x63\x00")),
        "another size in the directory": keras(data=patched(b"PK\1\2", 24, b"\xff\xff\xff\x7f")),
        "another place in the directory": keras(data=patched(b"PK\1\2", 42, b"\x07\x00\x00\x00")),
        "something before it": keras(data=lambda data: b"MZ" + bytes(100) + data),
        "something behind it": keras(data=lambda data: data + b"PK\5\6" + bytes(18)),
        "two archives": keras(data=lambda data: data + data),
    }  # fmt: skip
    for kind, write in kinds.items():
        yield from pair(f"zip, {kind}", "m.keras", write, good, REFUSED)


def configurations_of_archives() -> Iterator[Pair]:
    """JSON that is deep, large or no configuration, in files that are otherwise sound."""

    def write(text: bytes) -> Write:
        def written(folder: Path) -> None:
            sound = write_archive(folder / "s.keras", LAYERS)
            with zipfile.ZipFile(sound) as archive, zipfile.ZipFile(folder / "m.keras", "w") as out:
                for name in archive.namelist():
                    out.writestr(name, text if name == "config.json" else archive.read(name))
            sound.unlink()

        return written

    sound = write(json.dumps(config_of(LAYERS)).encode())
    for kind, text in {
        "deep lists": b"[" * 200_000,
        "deep mappings": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        "long number": b'{"class_name": ' + b"9" * 100_000 + b"}",
        "not a mapping": b"[1, 2]",
        "not JSON": b"\x80\x04cos\nsystem\n.",
        "not UTF-8": b'{"class_name": "\xff\xfe"}',
    }.items():
        yield from pair(f"config.json, {kind}", "m.keras", write(text), sound, REFUSED)


def hdf5() -> Iterator[Pair]:
    """HDF5 that reaches into other files, or promises more than there is."""

    def with_file(change: Callable[[h5py.File], None]) -> Write:
        def write(folder: Path) -> None:
            path = write_weights(folder / "m.weights.h5", LAYERS)
            with h5py.File(path, "r+") as file:
                change(file)

        return write

    def external(file: h5py.File) -> None:
        file["layers/dense/vars/2"] = h5py.ExternalLink("../outside/secret.txt", "/")

    def storage(file: h5py.File) -> None:
        file["layers/dense/vars"].create_dataset("2", (4,), "u1", external=[("../outside/secret.txt", 0, 4)])

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((4,), "f4")
        layout[:] = h5py.VirtualSource("../outside/secret.h5", "x", (4,))
        file["layers/dense/vars"].create_virtual_dataset("2", layout)

    def soft(file: h5py.File) -> None:
        file["layers/dense/vars/2"] = h5py.SoftLink("/layers/dense/vars/2")

    def ring(file: h5py.File) -> None:
        file["layers/dense/again"] = file["layers"]

    def promise(file: h5py.File) -> None:
        file["layers/dense/vars"].create_dataset("2", (1 << 40,), "f4", chunks=(1 << 20,))

    def promised(file: h5py.File) -> None:
        file["layers/dense/vars"].create_dataset("2", (1 << 24, 1 << 24), "f4", chunks=(1, 1 << 20), compression="gzip")

    def many(file: h5py.File) -> None:
        for number in range(30_000):
            file.create_group(f"layers/more_{number}")

    def deep(file: h5py.File) -> None:
        file.create_group("layers/" + "/".join("abc"[i % 3] for i in range(2000)))

    def filters(file: h5py.File) -> None:
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk((4,))
        made.set_filter(32_004, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((4,))
        h5py.h5d.create(file["layers/dense/vars"].id, b"2", h5py.h5t.IEEE_F32LE, space, made)

    def objects(file: h5py.File) -> None:
        file["layers/dense/vars/2"] = np.array([b"cos\nsystem\n."], dtype=h5py.special_dtype(vlen=bytes))

    def references(file: h5py.File) -> None:
        file["layers/dense/vars"].create_dataset("2", (1,), h5py.ref_dtype)[0] = file["layers"].ref

    def expanding(file: h5py.File) -> None:
        data = file["layers/dense/vars"].create_dataset("2", (1 << 31,), "u1", chunks=(1 << 24,), compression="gzip")
        packed = zlib.compress(bytes(1 << 24), 9)
        for start in range(0, 1 << 31, 1 << 24):
            data.id.write_direct_chunk((start,), packed)

    kinds = {"link to another file": external, "values in another file": storage, "values of other datasets": virtual, "link to itself": soft,
             "ring": ring, "promised values": promise, "promised packed values": promised, "many groups": many, "deep groups": deep,
             "unknown filter": filters, "objects": objects, "references": references, "expanding": expanding}  # fmt: skip
    for kind, change in kinds.items():
        yield from pair(f"HDF5, {kind}", "m.weights.h5", with_file(change), with_file(lambda file: None), REFUSED)


def safetensors() -> Iterator[Pair]:
    """Headers that point out of the file, into each other, or to more than there is."""

    def header(text: bytes, data: bytes = bytes(36), size: int | None = None) -> Write:
        def write(folder: Path) -> None:
            length = (len(text) if size is None else size).to_bytes(8, "little")
            (folder / "m.safetensors").write_bytes(length + text + data)

        return write

    def one(**more: Any) -> bytes:
        return json.dumps({"a/kernel": {"dtype": "F32", "shape": [3, 3], "data_offsets": [0, 36], **more}}).encode()

    twice = b'{"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}, "a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}'
    inside = b'{"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}, "b": {"dtype": "F32", "shape": [8], "data_offsets": [4, 36]}}'
    kinds = {
        "header beyond the end": header(b"{}", size=1 << 40),
        "negative header": header(b"{}", size=(1 << 64) - 1),
        "beyond the end": header(one(data_offsets=[0, 1 << 40], shape=[1 << 38])),
        "backwards": header(one(data_offsets=[36, 0])),
        "negative": header(one(data_offsets=[-36, 0])),
        "another size": header(one(shape=[1 << 31, 1 << 31])),
        "overflow": header(one(shape=[1 << 62, 4, 9])),
        "negative shape": header(one(shape=[-3, -3])),
        "twice": header(twice),
        "overlap": header(inside),
        "deep": header(b'{"a":' * 100_000),
        "executable dtype": header(one(dtype="__import__('os').system('touch ../ran')")),
        "gap": header(one(data_offsets=[4, 40]), bytes(40)),
        "spaces": header(one() + b" " * (30 << 20)),
        "long metadata": header(one()[:-1] + b', "__metadata__": {"a": "' + b"a" * (30 << 20) + b'"}}'),
    }
    good = header(one())
    for kind, write in kinds.items():
        yield from pair(f"safetensors, {kind}", "m.safetensors", write, good, REFUSED)


def indices() -> Iterator[Pair]:
    """Files that name other files."""
    names = {"above": "../outside/secret.safetensors", "absolute": "/etc/passwd", "a link": "link/secret.txt", "itself": None,
             "the process": "/proc/self/environ", "a drive": "C:\\x", "NUL": "a\0b", "no text": 7, "deep": "../" * 50 + "etc/passwd"}  # fmt: skip

    def safe(place: object) -> Write:
        def write(folder: Path) -> None:
            write_safetensors(folder, {"a/kernel": KERNEL}, "part.safetensors")
            entry = "m.safetensors.index.json" if place is None else place
            (folder / "m.safetensors.index.json").write_text(json.dumps({"weight_map": {"a/kernel": entry}}))

        return write

    def shards(place: object) -> Write:
        def write(folder: Path) -> None:
            write_weights(folder / "part.weights.h5", LAYERS)
            entry = "m.weights.json" if place is None else place
            (folder / "m.weights.json").write_text(
                json.dumps(
                    {
                        "metadata": {},
                        "weight_map": {"/layers/dense/vars": entry, "/layers/dense_1/vars": "part.weights.h5"},
                    }
                )
            )

        return write

    def tfjs(place: object) -> Write:
        def write(folder: Path) -> None:
            path = write_model(folder, [weight("a/kernel", KERNEL)])
            data = json.loads(path.read_text())
            if place != "twin":
                data["weightsManifest"][0]["paths"] = ["model.json" if place is None else place]
            path.write_text(json.dumps(data))

        return write

    def onnx(place: object) -> Write:
        def write(folder: Path) -> None:
            (folder / "part.bin").write_bytes(KERNEL.tobytes())
            location = "m.onnx" if place is None else str(place)
            pairs = {"location": location, "offset": "0", "length": "24"}
            external = b"".join(field(13, field(1, k) + field(2, v)) for k, v in pairs.items())
            tensor = packed(1, KERNEL.shape) + field(2, 1) + field(8, "a.w") + external + field(14, 1)
            (folder / "m.onnx").write_bytes(onnx_model(tensor))

        return write

    makers: dict[str, tuple[str, Callable[[object], Write], object]] = {
        "safetensors index": ("m.safetensors.index.json", safe, "part.safetensors"),
        "weights.json": ("m.weights.json", shards, "part.weights.h5"),
        "TensorFlow.js": ("model.json", tfjs, "twin"),
        "ONNX": ("m.onnx", onnx, "part.bin"),
    }
    for (form, (name, make, good)), (kind, place) in itertools.product(makers.items(), names.items()):
        yield from pair(f"{form} names {kind}", name, make(place), make(good), REFUSED)


def pickles() -> Iterator[Pair]:
    """PyTorch files with programs in them."""
    named, call = torch_files.Named, torch_files.Call
    system = call(named("os", "system"), (COMMAND,))
    bomb = b"".join([b"]", *(b"q" + bytes([i]) + b"](" + (b"h" + bytes([i])) * 10 + b"e" for i in range(9))])
    values: dict[str, Any] = {
        "call": system,
        "call inside": {"a.w": {"x": [system]}},
        "call of a builtin": call(named("builtins", "eval"), ("1",)),
        "getattr": call(named("builtins", "getattr"), (named("os", "path"), "os")),
        "torch.load": call(named("torch", "load"), ("../outside/secret.txt",)),
        "numpy's loader": call(named("numpy", "load"), ("../outside/secret.txt", None, True)),
        "partial": call(call(named("functools", "partial"), (named("os", "system"), COMMAND)), ()),
        "name with dots": call(named("torch", "os.system"), (COMMAND,)),
        "old instance": torch_files.Raw(f"(S'{COMMAND}'\nios\nsystem\n".encode()),
        "new object": torch_files.Raw(b"csubprocess\nPopen\n(](X\x05\x00\x00\x00touchX\x06\x00\x00\x00../ranet\x81"),
        "state": torch_files.Raw(b"ccollections\nOrderedDict\n)R}X\x06\x00\x00\x00__de__cos\nsystem\nsb"),
        "extension": torch_files.Raw(b"\x82\x01"),
        "memo of billions": torch_files.Raw(bomb),
        "huge memo": torch_files.Raw(b"}r\xff\xff\xff\x7f"),
        "huge number": torch_files.Raw(b"\x8b\xff\xff\xff\x7f"),
        "huge text": torch_files.Raw(b"X\xff\xff\xff\x7f"),
        "deep": torch_files.Raw(b"](" * 100_000),
        "no storage": {"a.w": torch_files.tensor(torch_files.storage("9", "float32", 6), (2, 3))},
        "huge tensor": {"a.w": torch_files.tensor(torch_files.storage("0", "float32", 6), (1 << 40,), (0,))},
        "outside of its storage": {"a.w": torch_files.tensor(torch_files.storage("0", "float32", 6), (2, 3), (3, 1), 1 << 40)},
        "storage above": {"a.w": torch_files.tensor(torch_files.storage("../../x", "float32", 6), (2, 3))},
    }  # fmt: skip
    sound, stored = torch_files.plain({"a.w": KERNEL, "a.b": BIAS})

    def zipped(value: Any) -> Write:
        return lambda folder: _ignore(torch_files.write_zip(folder / "m.pt", value, stored))

    for kind, value in values.items():
        yield from pair(f"pickle, {kind}", "m.pt", zipped(value), zipped(sound), REFUSED)

    def bare(folder: Path) -> None:
        (folder / "m.pt").write_bytes(torch_files.pickled(system))

    def legacy(folder: Path) -> None:
        torch_files.write_legacy(folder / "m.pt", *torch_files.plain({"a.w": KERNEL}, view=(None,)))

    yield from pair("pickle, bare", "m.pt", bare, legacy, REFUSED)


def arrays() -> Iterator[Pair]:
    """NumPy's files with objects in them, and headers that are programs or promises."""

    def header(text: str, data: bytes = bytes(24)) -> Write:
        def write(folder: Path) -> None:
            body = text.encode() + b"\n"
            (folder / "m.npy").write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(body)) + body + data)

        return write

    def dict_of(descr: str = "'<f4'", shape: str = "(2, 3)", order: str = "False") -> str:
        return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"

    class _Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            import os

            return os.system, (COMMAND,)

    def objects(folder: Path) -> None:
        value = np.array([_Evil()], dtype=object)
        np.save(folder / "m.npy", value, allow_pickle=True)

    kinds = {
        "objects": objects,
        "objects in its header": header(dict_of("'|O'"), pickle.dumps([1])),
        "call": header(dict_of("__import__('os').system('touch ../ran')")),
        "huge": header(dict_of(shape="(1099511627776,)")),
        "overflow": header(dict_of(shape="(9223372036854775807, 9223372036854775807)")),
        "negative": header(dict_of(shape="(-2, -3)")),
        "deep": header("(" * 3000),
        "long number": header(dict_of(shape=f"({'9' * 5000},)")),
        "fields": header(dict_of("[('a', '|O')]")),
    }
    for kind, write in kinds.items():
        yield from pair(f"npy, {kind}", "m.npy", write, header(dict_of()), REFUSED)

    def archived(write: Write) -> Write:
        def written(folder: Path) -> None:
            write(folder)
            with zipfile.ZipFile(folder / "m.npz", "w") as archive:
                archive.write(folder / "m.npy", "a/kernel.npy")
            (folder / "m.npy").unlink()

        return written

    for kind in ("objects", "huge", "call"):
        yield from pair(f"npz, {kind}", "m.npz", archived(kinds[kind]), archived(header(dict_of())), REFUSED)


def graphs() -> Iterator[Pair]:
    """Protocol buffers and checkpoints that promise more than they hold."""

    def onnx(*tensors: bytes) -> Write:
        return lambda folder: _ignore((folder / "m.onnx").write_bytes(onnx_model(*tensors)))

    def shaped(*shape: int) -> bytes:
        return packed(1, shape) + field(2, 1) + field(8, "a.w") + field(9, KERNEL.tobytes())

    good = onnx(raw("a.w", KERNEL))
    kinds = {
        "huge": onnx(shaped(1 << 40, 1 << 20)),
        "negative": onnx(shaped((1 << 64) - 2, 3)),
        "message beyond the end": onnx(b"\x4a" + varint(1 << 40)),
        "number without an end": onnx(b"\xff" * 200),
        "groups in groups": onnx(b"\x0b" * 50_000),
    }
    for kind, write in kinds.items():
        yield from pair(f"ONNX, {kind}", "m.onnx", write, good, REFUSED)

    def saved(data: bytes) -> Write:
        return lambda folder: _ignore((folder / "m.pb").write_bytes(data))

    sound = graph_def({"a/kernel": KERNEL})
    huge = graph_def({"a/kernel": KERNEL}).replace(
        b"\x12\x02\x08\x02\x12\x02\x08\x03", b"\x12\x02\x08\x7f\x12\x02\x08\x7f"
    )
    for kind, data in {"huge": huge, "cut": sound[:-9], "beyond the end": b"\x0a" + varint(1 << 50) + sound}.items():
        yield from pair(f"GraphDef, {kind}", "m.pb", saved(data), saved(sound), REFUSED)

    def bundle(change: Callable[[Any], None], folder: Path) -> None:
        made = checkpoint()
        change(made)
        made.write(folder / "m")

    def cut(folder: Path) -> None:
        bundle(lambda made: None, folder)
        path = folder / "m.data-00000-of-00001"
        path.write_bytes(path.read_bytes()[:-4])

    def swapped(folder: Path) -> None:
        bundle(lambda made: None, folder)
        path = folder / "m.data-00000-of-00001"
        path.unlink()
        path.symlink_to("/dev/zero")

    for kind, write in {"cut": cut, "values of a device": swapped}.items():
        yield from pair(
            f"checkpoint, {kind}", "m.index", write, lambda folder: bundle(lambda made: None, folder), REFUSED
        )


def _ignore(_: object) -> None:
    return None


def hostile_files() -> Iterator[Pair]:
    """Yield all of them."""
    for kind in (zips, configurations_of_archives, hdf5, safetensors, indices, pickles, arrays, graphs):
        yield from kind()
