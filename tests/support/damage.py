"""Ways in which files come to harm, and small sound files to do them to, beside those of `one_of_each`."""

import gzip
import io
import json
import pickle
import re
import shutil
import struct
import warnings
import zipfile

import h5py
import numpy as np
import one_of_each
import pytest
import tf_bundles
import torch_files
from hand_made import config_of
from one_of_each import BIAS, KERNEL, Format, read_all
from protobuf_messages import field, raw, sparse

from transferpipe.errors import TransferError
from transferpipe.weights.formats import open_source


def cut(size, name=""):
    """Return what leaves the first bytes of a file, or all but the last."""

    def change(path):
        file = path / name if name else path
        file.write_bytes(file.read_bytes()[:size])

    return change


def more(data):
    return lambda path: path.write_bytes(path.read_bytes() + data)


def swap(old, new, name="", count=-1):
    """Return what replaces bytes, wherever they stand; of several files, in the one called `name`."""

    def change(path):
        file = _named(path, name)
        data = file.read_bytes()
        assert old in data
        file.write_bytes(data.replace(old, new, count))

    return change


def _named(path, name):
    return path if not name else (path / name if path.is_dir() else path.with_name(name))


def in_json(edit, name=""):
    """Return what edits the data of a JSON file."""

    def change(path):
        file = _named(path, name)
        data = json.loads(file.read_text())
        edit(data)
        file.write_text(json.dumps(data))

    return change


def text(content, name=""):
    return lambda path: _named(path, name).write_text(content)


def lost(name):
    return lambda path: _named(path, name).unlink()


def linked(name):
    """Return what moves a file out of its folder, and leaves a link."""

    def change(path):
        file, there = _named(path, name), path.parent.parent / "elsewhere"
        file.rename(there)
        file.symlink_to(there)

    return change


def added(name, content, **options):
    """Return what adds a member to an archive."""

    def change(path):
        with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
            warnings.simplefilter("ignore")  # of a name that is there
            archive.writestr(name, content, **options)

    return change


def listed(change):
    """Return what changes the entry of an archive's first member in the list at its end: a bytearray from its signature on."""

    def damage(path):
        data = bytearray(path.read_bytes())
        at = data.index(b"PK\1\2")
        entry = data[at:]
        change(entry)
        path.write_bytes(data[:at] + entry)

    return damage


def number(at, value, width="<I"):
    return lambda entry: struct.pack_into(width, entry, at, value)


def at_end(at, value, width="<H"):
    """Return what changes a number in the record at the end of an archive."""

    def damage(path):
        data = bytearray(path.read_bytes())
        struct.pack_into(width, data, data.rindex(b"PK\5\6") + at, value)
        path.write_bytes(data)

    return damage


def own_header(at, value):
    """Put `value` into the header that lies before the first member, at byte `at` of it."""

    def damage(path):
        data = bytearray(path.read_bytes())
        begin = data.index(b"PK\3\4") + at
        data[begin : begin + len(value)] = value
        path.write_bytes(data)

    return damage


def before_list(path):
    """Put bytes that belong to no member before the list of an archive, which is said to lie behind them."""
    data = bytearray(path.read_bytes())
    at, end = data.index(b"PK\1\2"), data.rindex(b"PK\5\6")
    struct.pack_into("<I", data, end + 16, at + 2)
    path.write_bytes(data[:at] + b"xx" + data[at:])


def within(member, at=0, junk=b"\xff" * 8):
    """Return what overwrites the bytes of a member as they lie in the archive."""

    def damage(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            info = archive.getinfo(member if member in names else next(n for n in names if n.endswith(member)))
        data = bytearray(path.read_bytes())
        name, extra = struct.unpack_from("<HH", data, info.header_offset + 26)
        begin = info.header_offset + 30 + name + extra
        begin += at % info.compress_size
        data[begin : begin + len(junk)] = junk
        path.write_bytes(data)

    return damage


def member(name, content):
    """Return what replaces a member of an archive, or takes it out, with everything else as it was."""

    def damage(path):
        with zipfile.ZipFile(path) as archive:
            held = {n: archive.read(n) for n in archive.namelist()}
        full = next(n for n in held if n.endswith(name))
        held = {n: content if n == full else data for n, data in held.items()}
        with zipfile.ZipFile(path, "w") as archive:
            for n, data in held.items():
                if data is not None:
                    archive.writestr(n, data)

    return damage


def in_hdf5(edit, name=""):
    def damage(path):
        with h5py.File(_named(path, name), "r+") as file:
            edit(file)

    return damage


def dataset(value=None, **options):
    """Return what puts another dataset in the place of a kernel."""

    def edit(file):
        place = "layers/dense/vars/0"
        del file[place]
        file.create_dataset(place, data=value, **options) if options or value is not None else None

    return in_hdf5(edit)


def instead(make):
    def edit(file):
        del file["layers/dense/vars/0"]
        file["layers/dense/vars/0"] = make

    return in_hdf5(edit)


def virtual(file):
    layout = h5py.VirtualLayout((2, 3), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (2, 3))
    del file["layers/dense/vars/0"]
    file.create_virtual_dataset("layers/dense/vars/0", layout)


def again_inside(file):
    file["layers/dense/again"] = file["layers"]


def deep(file):
    file["/".join("g" * 150)] = [1.0]


def chunk_damaged(path):
    """Overwrite packed values."""
    with h5py.File(path) as file:
        at = file["layers/dense/vars/0"].id.get_chunk_info(0).byte_offset
    with path.open("r+b") as raw:
        raw.seek(at)
        raw.write(bytes(20))


def _sequential(name, layer):
    return {"class_name": "Sequential", "config": {"name": name, "layers": [layer]}}


def nested(depth, config=None, model=_sequential):
    """Return the configuration of models in models."""
    config = config or {"class_name": "Dense", "config": {"name": "a"}}
    for number in range(depth):
        config = model(f"m{number}", config)
    return config


def bundle(change):
    """Return what writes a checkpoint again with something wrong in its index, all checksums right."""

    def damage(path):
        made = one_of_each.checkpoint()
        change(made)
        made.write(path)

    return damage


def of_entry(**changed):
    """Return what adds a tensor with an entry that says something else."""
    return bundle(lambda made: made.add("x", BIAS, **changed))


# Sound files beside those of `one_of_each` -----------------------------------------------------------------------------


def objects():
    """Return a `.npy` file of an array of objects."""
    file = io.BytesIO()
    np.save(file, np.array([KERNEL, "x"], object), allow_pickle=True)
    return file.getvalue()


def _large(folder):
    np.savez(folder / "m.npz", w=np.arange(40_000, dtype="f4"), v=BIAS)
    return folder / "m.npz"


def _objects(folder):
    np.savez(folder / "m.npz", x=np.array([np.arange(20_000, dtype="f4"), BIAS], object))
    return folder / "m.npz"


def _torch_index(folder):
    for number, (name, value) in enumerate({"a.w": KERNEL, "a.b": BIAS}.items(), 1):
        torch_files.write_zip(folder / f"{number}.bin", *torch_files.plain({name: value}))
    (folder / "m.bin.index.json").write_text(json.dumps({"weight_map": {"a.w": "1.bin", "a.b": "2.bin"}}))
    return folder / "m.bin.index.json"


def _packed_pickle(folder):
    (folder / "m.pkl.gz").write_bytes(gzip.compress(pickle.dumps({"a": KERNEL, "b": BIAS}), mtime=0))
    return folder / "m.pkl.gz"


def _sparse(folder):
    graph = field(1, field(4, "Conv")) + field(5, raw("b", BIAS)) + field(15, sparse("w", KERNEL * (KERNEL > 4)))
    (folder / "m.onnx").write_bytes(field(1, 8) + field(7, graph))
    return folder / "m.onnx"


def _preset(folder):
    one_of_each.write_weights(folder / "model.weights.h5", one_of_each.LAYERS)
    (folder / "config.json").write_text(json.dumps(config_of(one_of_each.LAYERS)))
    (folder / "metadata.json").write_text('{"keras_version": "3.12.0"}')
    return folder


def _saved_model(folder):
    one_of_each.checkpoint().write(folder / "variables" / "variables")
    (folder / "saved_model.pb").write_bytes(tf_bundles.message((1, 1), (2, b"")))
    return folder


def _orbax_files(folder):
    from orbax_folders import VALUES, write

    return write(folder / "3", VALUES, ocdbt=False)


def _folder(folder):
    one_of_each.checkpoint().write(folder / "ckpt-1")
    return folder


FORMATS = {
    **one_of_each.FORMATS,
    ".npz, large": Format(_large),
    ".npz, objects": Format(_objects),
    "PyTorch, packed": Format(
        lambda f: torch_files.write_zip(f / "m.pt", *torch_files.plain({"a.w": KERNEL}), compress=zipfile.ZIP_DEFLATED)
    ),
    "PyTorch, index": Format(_torch_index),
    "PyTorch, program": Format(
        lambda f: torch_files.write_exported(f / "m.pt2", *torch_files.exported_of({"a.w": KERNEL, "a.b": BIAS}))
    ),
    "PyTorch, parts": Format(lambda f: torch_files.write_distributed(f, {"a.w": KERNEL, "a.b": BIAS}, {"a.w": 2})),
    "pickle, packed": Format(_packed_pickle),
    "ONNX, sparse": Format(_sparse),
    "preset": Format(_preset),
    "SavedModel": Format(_saved_model),
    "TensorFlow, folder": Format(_folder),
    **({"Orbax, files": Format(_orbax_files)} if "Orbax" in one_of_each.FORMATS else {}),
}

_SOUND_FILE = re.compile(r"\b(copy|download|save|write|convert|export|freeze|keep|pack|put|take|name|load|open)\b")
_WRITTEN_AGAIN = re.compile(r"\b(save|write|convert|export|freeze|pack|load)\b")


def cases(damages, follows):
    """Return the parameters of a test for each damage: format, and what is done to a file of it; `follows` marks the keys."""
    return [
        pytest.param(format, damage, marks=follows(*keys), id=f"{format}: {keys[0]}")
        for format, several in damages.items()
        if format in FORMATS
        for damage, *keys in several
    ]


def follow_again(format, damage, folder):
    """Damage a file of a format, do what the message says, and compare its values with those that it had."""
    folder = folder / "files"
    folder.mkdir()
    path = FORMATS[format].write(folder)
    sound, kind = read_all(path), open_source(path).format
    files = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    damage(path)
    with pytest.raises(TransferError) as caught:
        read_all(path, kind)
    fix = caught.value.problems[0].fix
    assert _SOUND_FILE.search(fix), fix
    _put_back(folder, files)
    assert read_all(path) == sound
    if _WRITTEN_AGAIN.search(fix):
        _put_back(folder, {})
        folder.mkdir()
        assert read_all(FORMATS[format].write(folder), kind) == sound


def _put_back(folder, files):
    """Leave in the folder what was there, as copying all of it again does."""
    shutil.rmtree(folder)
    for file, data in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
