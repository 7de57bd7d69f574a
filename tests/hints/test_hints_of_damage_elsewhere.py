"""Files of other frameworks: what the message advises of damaged files is done, and the values are right again.

Nothing but the file changes: it is put back as it was, which is what copying and downloading it again do, or written
again by what wrote it. A reader that remembered the damaged file, or its stamp, would go on refusing it.
"""

import json
import shutil

import graph_defs
import numpy as np
import one_of_each
import other_files
import pytest
import tf_bundles
import torch_files
from damage import (
    added,
    bundle,
    cases,
    cut,
    follow_again,
    in_json,
    linked,
    lost,
    member,
    nested,
    of_entry,
    swap,
    within,
)
from one_of_each import BIAS, KERNEL
from protobuf_messages import field
from tflite_models import write_tflite


def larger(array):
    """Let the description of an array of zarr declare far more than there is."""
    array["shape"] = array["chunk_grid"]["configuration"]["chunk_shape"] = [1 << 40]


DAMAGES = {
    "PyTorch, zip": [
        (cut(-40), "read_zip: the file is damaged"),
        (member("data.pkl", None), "read_zip: the file is damaged #2"),
        (added("x/byteorder", b"odd"), "read_zip: the file is damaged #3"),
        (swap(KERNEL.tobytes(), BIAS.tobytes() * 2), "Storages.check: the file is damaged"),
        (member("data.pkl", b"\x80\x02]"), "open_tree: the file is damaged"),
        (member("data/0", bytes(8)), "_check_tensors: the file is damaged"),
        (
            member(
                "data.pkl",
                torch_files.pickled(
                    torch_files.Pairs(
                        [(torch_files.Raw(b"X\3\0\0\0\xed\xa0\x80"), torch_files.plain({"w": KERNEL})[0]["w"])]
                    )
                ),
            ),
            "_name: the file is damaged",
        ),
        (
            member(
                "data.pkl",
                torch_files.pickled(torch_files.Pairs([("w", torch_files.plain({"w": KERNEL})[0]["w"])] * 2)),
            ),
            "Tree.children: save the file again",
        ),
        (member("data.pkl", b"\x80\x02cos\nsystem\n."), "_read_pickle: save only the tensors: #2"),
        (member("data.pkl", b"\x80\x02cos\nsystem\n]"), "_read_pickle: save only the tensors:"),
    ],
    "PyTorch, legacy": [
        (cut(-4), "open_tree: the file is damaged"),
    ],
    "pickle": [
        (cut(60), "open_tree: the file is damaged"),
        (lambda p: p.write_bytes(b"\x80\x04cos\nsystem\n."), "_unpickle: save only the arrays: #2"),
        (lambda p: p.write_bytes(b"\x80\x04cos\nsystem\n]"), "_unpickle: save only the arrays:"),
        (lambda p: p.write_bytes(b"\x80\x04]."), "_open: save only the arrays:"),
        (
            lambda p: p.write_bytes(b"\x80\x04cjoblib.numpy_pickle\nNDArrayWrapper\n."),
            "PickledBuffers.meaning_of: load it there and",
        ),
    ],
    "TensorFlow checkpoint": [
        (
            lambda p: p.with_name("ckpt-1.index").write_bytes(p.with_name("ckpt-1.index").read_bytes()[:-9]),
            "_read_index: save its values under",
        ),
        (
            lambda p: p.with_name("ckpt-1.index").write_bytes(tf_bundles.table([])),
            "_read_index: the checkpoint is damaged",
        ),
        (of_entry(shard=0, offset=10**6), "_check_places: the checkpoint is damaged"),
        (of_entry(size=8), "_check_places: the checkpoint is damaged #2"),
        (of_entry(offset=0), "_check_places: the checkpoint is damaged #3"),
        (lambda p: p.with_name("ckpt-1.data-00000-of-00001").unlink(), "_shards: copy all files of"),
        (
            lambda p: (
                p.with_name("ckpt-1.data-00000-of-00001").unlink(),
                p.with_name("ckpt-1.data-00000-of-00001").mkdir(),
            ),
            "_shards: the checkpoint is damaged",
        ),
        (linked("ckpt-1.data-00000-of-00001"), "_shards: copy the file itself"),
        (
            swap(KERNEL.tobytes(), BIAS.tobytes() * 2, "ckpt-1.data-00000-of-00001"),
            "check_sum: the checkpoint is damaged #2",
        ),
        (
            bundle(lambda made: made.entries.update({b"x": tf_bundles.entry_of(1, (3,), 0, 12, 0, 3)})),
            "open_bundle: the checkpoint is damaged",
        ),
        (
            bundle(
                lambda made: (
                    made.cut("y", KERNEL, [((0, 1), (0, None)), ((1, 1), (0, None))])
                    and made.entries.pop(next(k for k in made.entries if k.startswith(b"\0")))
                )
            ),
            "_check_pieces: the checkpoint is damaged",
        ),
        (bundle(lambda made: made.add(tf_bundles.GRAPH_KEY, b"\x0a\xff")), "source_of: the checkpoint is damaged"),
    ],
    "TensorFlow.js": [
        (in_json(lambda d: d.update(weightsManifest={})), "read_manifest: download or convert the"),
        (in_json(lambda d: d.update(weightsManifest=[3])), "read_manifest: download or convert the #2"),
        (in_json(lambda d: d["weightsManifest"][0]["weights"][0].pop("shape")), "_entries: download or convert the"),
        (
            in_json(lambda d: d["weightsManifest"][0]["weights"][0].update(shape=[99])),
            "_entries: download or convert the #2",
        ),
        (in_json(lambda d: d["weightsManifest"][0]["weights"].pop()), "_entries: download or convert the #3"),
        (in_json(lambda d: d.update(modelTopology={"model_config": nested(60)})), "open_tfjs: convert it again"),
    ],
    "ONNX": [
        (cut(-3), "open_onnx: the file is damaged"),
        (
            lambda p: p.write_bytes(one_of_each.onnx_model(one_of_each.raw("a", KERNEL), one_of_each.raw("a", BIAS))),
            "OnnxContent._add: save the model again",
        ),
        (lambda p: p.write_bytes(one_of_each.onnx_model()), "_without_weights: export the model again"),
    ],
    "GraphDef": [
        (cut(-3), "open_constants: the file is damaged"),
        (
            lambda p: p.write_bytes(
                graph_defs.graph(graph_defs.node("w", "Placeholder"), graph_defs.node("w", "Placeholder"))
            ),
            "_read_graph: save the model again",
        ),
        (
            lambda p: p.write_bytes(graph_defs.graph(graph_defs.node("x", "Placeholder"))),
            "open_constants: freeze it again with",
        ),
        (
            lambda p: p.write_bytes(
                graph_defs.graph(
                    graph_defs.node("x", "Placeholder"),
                    graph_defs.node(
                        "w", "Const", value=field(1, 6) + graph_defs.shape_of([2, 2]) + field(7, b"\xac\2" * 4)
                    ),
                    graph_defs.node("d/MatMul", "MatMul", ["x", "w"]),
                )
            ),
            "_read: the file is damaged #2",
        ),
    ],
    "TFLite": [
        (cut(-30), "open_tflite: the file is damaged"),
        (lambda p: write_tflite(p, {"x": None, "y": None}, [(9, (0,), (1,))]), "open_tflite: convert the model again"),
    ],
    "Flax": [
        (cut(-3), "open_flax: the file is damaged"),
        (lambda p: p.write_bytes(other_files.packed({"step": 3, "name": {"x": "y"}})), "open_flax: name a file that"),
        (
            lambda p: p.write_bytes(b"\x82" + 2 * (other_files.packed("a") + other_files.packed(KERNEL))),
            "_Walk._key: save the file again",
        ),
    ],
    "GGUF": [
        (cut(-3), "open_gguf: the file is damaged"),
        (
            lambda p: p.write_bytes(other_files.gguf({"a.weight": ("q4_1", (1, 32), bytes(20))})),
            "open_gguf: take the file of",
        ),
    ],
    "PyTorch, packed": [
        (within("data/0"), "_unpacker.unpack: the file is damaged"),
    ],
    "PyTorch, program": [
        (member("data/weights/weight_0", None), "_read: the file is damaged #3"),
    ],
    "PyTorch, parts": [
        (lambda p: (p / ".metadata").write_bytes(b"\x80\x02cos\nsystem\n]"), "_unpickle: save only the tensors:"),
        (lambda p: (p / ".metadata").write_bytes(b"\x80\x02cos\nsystem\n."), "_unpickle: save only the tensors: #2"),
        (cut(10, "__0_0.distcp"), "_part: copy or download all"),
        (swap(b"ctorch\nfloat32\n", b"ctorch\nint32\n", ".metadata"), "_assemble: the file is damaged"),
        (swap(KERNEL[:1].tobytes(), KERNEL[1:].tobytes(), "__0_0.distcp"), "_read_part: the file is damaged"),
    ],
    "pickle, packed": [
        (cut(-9), "unpack: the file is damaged"),
    ],
    "ONNX, sparse": [
        (swap(np.int64([5]).tobytes(), np.int64([4]).tobytes()), "OnnxContent._value_of: the file is damaged"),
    ],
    "PyTorch, index": [
        (in_json(lambda d: d.pop("weight_map")), "open_torch_index: save the model again"),
        (lambda p: shutil.copy(p.with_name("1.bin"), p.with_name("2.bin")), "_homes: save the model again"),
    ],
    "SavedModel": [
        (
            lambda p: shutil.rmtree(p / "variables"),
            "_open_frozen: copy all of the",
            "open_constants: the file is damaged",
        ),
        (lambda p: (p / "saved_model.pb").write_bytes(b"\x13"), "_facts_beside: the model is damaged"),
    ],
    "TensorFlow, folder": [
        (lost("ckpt-1.index"), "_in_folder: copy all files of"),
    ],
    "Orbax, files": [
        (
            lambda p: (p / "pytree/trainable_variables.head.kernel/c/0/0").write_bytes(b"x"),
            "open_orbax.read_entry: the checkpoint is damaged",
        ),
        (
            in_json(larger, "pytree/trainable_variables.head.bias/zarr.json"),
            "_check_sizes: the checkpoint is damaged",
        ),
    ],
    "Orbax": [
        (in_json(lambda d: d.pop("tree_metadata"), "pytree/_METADATA"), "_keys: the checkpoint is damaged"),
        (in_json(lambda d: d["tree_metadata"].update(x=3), "pytree/_METADATA"), "_keys: the checkpoint is damaged #2"),
        (
            in_json(
                lambda d: d["tree_metadata"].update(
                    x={"key_metadata": [{"key": ".."}], "value_metadata": {"value_type": "np.ndarray"}}
                ),
                "pytree/_METADATA",
            ),
            "_keys: the checkpoint is damaged #3",
        ),
        (
            in_json(lambda d: d.update(use_zarr3=False), "pytree/_METADATA"),
            "_open_leaves: the checkpoint is damaged #2",
        ),
        (lambda p: (p / "pytree" / "manifest.ocdbt").write_bytes(b"x"), "_open_leaves: the checkpoint is damaged"),
        (
            lambda p: (
                (p / "model_config").mkdir(),
                (p / "model_config" / "_strings.json").write_text('{"config": "{"}'),
            ),
            "_config: the checkpoint is damaged",
        ),
        (
            lambda p: (
                (p / "model_config").mkdir(),
                (p / "model_config" / "_strings.json").write_text(json.dumps({"config": json.dumps(nested(60))})),
            ),
            "open_orbax: the checkpoint is damaged",
        ),
        (
            lambda p: [f.write_bytes(f.read_bytes()[:-8] + b"\xff" * 8) for f in (p / "pytree").rglob("d/*")],
            "_open_leaves: the checkpoint is damaged",
        ),
    ],
}


@pytest.mark.parametrize(("format", "damage"), cases(DAMAGES, pytest.mark.follows))
def test_the_sound_file_again(format, damage, tmp_path):
    follow_again(format, damage, tmp_path)
