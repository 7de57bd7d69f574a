"""Arrays, archives and the files of Keras: what the message advises of damaged files is done, and the values are right again.

Nothing but the file changes: it is put back as it was, which is what copying and downloading it again do, or written
again by what wrote it. A reader that remembered the damaged file, or its stamp, would go on refusing it.
"""

import json
import shutil

import h5py
import legacy_files
import numpy as np
import pytest
from damage import (
    added,
    again_inside,
    at_end,
    before_list,
    cases,
    chunk_damaged,
    cut,
    dataset,
    deep,
    follow_again,
    in_hdf5,
    in_json,
    instead,
    linked,
    listed,
    lost,
    member,
    more,
    nested,
    number,
    objects,
    own_header,
    swap,
    text,
    virtual,
    within,
)
from one_of_each import BIAS, KERNEL


def too_deep(file):
    """Put the layer into sixty models."""
    config = nested(60, legacy_files.layer("Dense", "layer0"), legacy_files.model)
    file.attrs["model_config"] = json.dumps(config)
    file.move("model_weights/layer0", "model_weights/m58")
    file["model_weights"].attrs["layer_names"] = [b"m58"]


DAMAGES = {
    ".safetensors": [
        (swap(b'{"a', b'["a'), "_parse: the file is damaged"),
        (lambda p: p.write_bytes(bytes([6]) + bytes(7) + b"[1, 2]"), "parse_mapping: the file is damaged"),
        (cut(10), "_read_header: the file is damaged"),
        (swap(b'"dtype"', b'"dtypo"'), "_tensors: the file is damaged"),
        (swap(b"[24, 36]", b"[12, 24]"), "_check_layout: the file is damaged"),
        (
            swap(b"[24, 36]", b"[26, 38]"),
            "_check_layout: the file is damaged #2",
            "_check_layout: the file is damaged #3",
        ),
        (cut(-4), "_check_layout: the file is damaged #3"),
        (more(b"xxxx"), "_check_layout: the file is damaged #4"),
    ],
    ".safetensors, index": [
        (
            in_json(lambda d: d["weight_map"].update(b=d["weight_map"].pop("a/bias"))),
            "check_places: copy or download all",
            "check_places: copy or download all #2",
        ),
        (in_json(lambda d: d["weight_map"].update({"a/bias": 5})), "file_inside: save it again"),
        (in_json(lambda d: d["weight_map"].update({"a/bias": "../2.safetensors"})), "file_inside: keep all files of"),
        (in_json(lambda d: d.pop("weight_map")), "open_safetensors_index: save the model again"),
        (
            text('{"weight_map": {"a": "1.safetensors", "a": "1.safetensors"}}'),
            "_parse.without_duplicates: save the file again",
        ),
        (in_json(lambda d: d["weight_map"].update({"a/bias": "n" * 300})), "file_inside: keep all files of #3"),
        (lost("2.safetensors"), "file_inside: download or copy all"),
        (linked("2.safetensors"), "file_inside: keep all files of #2"),
        (
            lambda p: shutil.copy(p.with_name("1.safetensors"), p.with_name("2.safetensors")),
            "_check_keys: save the model again",
        ),
    ],
    ".npz": [
        (cut(-30), "open_npz: the file is damaged"),
        (swap(KERNEL.tobytes(), BIAS.tobytes() * 2), "_spec: the file is damaged"),
        (added("transferpipe.json", "{"), "_read_noted_dtypes: the file is damaged"),
        (added("transferpipe.json", '{"dtypes": {"a": "int3"}}'), "_read_noted_dtypes: the file is damaged #2"),
        (added("transferpipe.json", '{"dtypes": {"a/kernel": "bfloat16"}}'), "_spec: the file is damaged #2"),
        (listed(number(24, 1000)), "check_members: the file is damaged"),
        (lambda p: [listed(number(k, 10**6))(p) for k in (20, 24)], "check_members: the file is damaged #2"),
        (at_end(10, 3), "_check_directory: the file is damaged"),
        (at_end(20, 3), "_check_end: the file is damaged"),
        (lambda p: p.write_bytes(b"xx" + p.read_bytes()), "_check_directory: the file is damaged #2"),
        (swap(b"PK\3\4", b"XX\3\4", count=1), "_check_directory: the file is damaged #3"),
        (swap(b"a/kernel.npy", b"a/kernxl.npy", count=1), "_check_directory: the file is damaged #4"),
        (own_header(14, b"abcd"), "_check_directory: the file is damaged #5"),
        (before_list, "_check_directory: the file is damaged #6"),
        (added("a/bias.npy", b""), "check_members: save the file again"),
        (listed(number(8, 1, "<H")), "check_members: save the file without"),
        (listed(number(10, 99, "<H")), "check_members: pack it with deflate"),
    ],
    ".npz, packed": [
        (within("a/kernel.npy"), "_spec: the file is damaged"),
    ],
    ".npz, large": [
        (within("w.npy", 1 << 16), "_read: the file is damaged"),
    ],
    ".npz, objects": [
        (within("x.npy", 1 << 15), "_open_objects: the file is damaged"),
    ],
    ".npy": [
        (cut(-4), "read_npy_header: the file is damaged"),
        (swap(b"'descr'", b"'descx'"), "read_leading_header: the file is damaged"),
    ],
    "Equinox": [
        (cut(-3), "open_leaves: the file is damaged"),
        (more(objects()), "open_leaves: save it as numbers"),
    ],
    ".keras": [
        (cut(-30), "_open_zip: it may be truncated:"),
        (member("config.json", b"{}"), "open_keras: save it again with"),
        (within("config.json"), "_read_json: the file is damaged:"),
        (within("model.weights.h5", -9), "_CheckOnce._settle: copy or save the"),
        (added("other/x", b""), "_check_members: save the model again"),
        (added("assets/../x", b""), "check_names: save the file again"),
        (
            lambda p: (added("assets/xzy", b"")(p), swap(b"assets/xzy", b"assets/x\0y")(p)),
            "check_members: save the file again #2",
        ),
        (added("assets/x\x1b", b""), "check_names: save the file again #2"),
        (listed(number(38, 0o120777 << 16)), "check_names: save the file again #3"),
    ],
    ".keras, packed": [
        (within("model.weights.h5", 40), "_weights_file: copy or save it"),
    ],
    ".weights.h5": [
        (instead(h5py.SoftLink("/nowhere")), "_open_item: save the model again"),
        (in_hdf5(virtual), "check_dataset: save the model again"),
        (in_hdf5(again_inside), "_check_group: save the model again"),
        (in_hdf5(deep), "_check_group: save the model again #2"),
        (instead(h5py.Empty("f4")), "check_dataset: the file is damaged"),
        (dataset(shape=(2, 3), dtype="f4"), "_check_size: the file is damaged"),
        (dataset(shape=(2, 3), dtype="f4", external=[("x", 0, 24)]), "check_dataset: save the model again #2"),
        (
            in_hdf5(lambda f: f.create_dataset("x", (100,), "f4", chunks=(10,))[:15].__class__),
            "_check_size: the file is damaged",
        ),
        (
            in_hdf5(lambda f: f.create_dataset("x", (100,), "f4", chunks=(10,)).__setitem__(slice(0, 15), 1)),
            "_check_chunks: the file is damaged",
        ),
        (in_hdf5(lambda f: f["layers/dense/vars"].attrs.__setitem__("name", 3)), "read_strings: the file is damaged"),
        (instead(np.array([b"text"])), "_dtype_name: keep only weights in"),
        (instead(np.zeros(2, "V1")), "_dtype_name: save it as float32"),
        (cut(-9), "_why_unreadable: download or save it"),
        (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(200)), "_why_unreadable: the file is damaged"),
    ],
    ".weights.h5, chunks": [
        (chunk_damaged, "damage_named: the file is damaged"),
    ],
    "legacy .h5": [
        (in_hdf5(lambda f: f.attrs.__setitem__("model_config", "{")), "_config: the file is damaged: #2"),
        (in_hdf5(lambda f: f.attrs.__setitem__("model_config", "[]")), "_config: the file is damaged: #3"),
        (
            in_hdf5(lambda f: f["model_weights"].attrs.__setitem__("layer_names", [b"zzz"])),
            "_H5File.group: the file is damaged:",
        ),
        (
            in_hdf5(lambda f: f["model_weights/layer0"].attrs.__setitem__("weight_names", [b"zzz"])),
            "_entries: the file is damaged:",
        ),
        (in_hdf5(too_deep), "_layer_weights: the file is damaged:"),
    ],
    ".weights.json": [
        (text('{"weight_map": {"a": "m_0.weights.h5"}}'), "read_shards: copy all files of"),
        (
            lambda p: (
                in_hdf5(lambda f: f.__setitem__("a/vars/0", KERNEL), "m_1.weights.h5")(p),
                in_json(lambda d: d["weight_map"].update({"/a/vars": ["m_0.weights.h5", "m_1.weights.h5"]}))(p),
            ),
            "_find: save the model again",
        ),
    ],
    "preset": [
        (text("{}", "config.json"), "open_preset: save it again with"),
    ],
}


@pytest.mark.parametrize(("format", "damage"), cases(DAMAGES, pytest.mark.follows))
def test_the_sound_file_again(format, damage, tmp_path):
    follow_again(format, damage, tmp_path)
