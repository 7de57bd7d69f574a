"""TensorFlow.js models: values across shards, unpacking as the format says, names as in Keras."""

import json
import struct

import h5py
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_zoo import BUILDERS
from tfjs_models import packed, weight, write_model

from transferpipe.errors import FileError
from transferpipe.files.segment import opened, read_into
from transferpipe.weights.formats import open_source

GRAPH = {"format": "graph-model", "modelTopology": {"node": [{"name": "x", "op": "Const"}]}}


def located(source, name):
    segment = source.locate(name)
    buffer = bytearray(segment.nbytes)
    with opened(segment.path) as descriptor:
        read_into(descriptor, memoryview(buffer), segment.offset, segment.path)
    return bytes(buffer)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(1, 50))
def test_values_straddle_shards_of_any_size(tmp_path_factory, sizes, shard):
    folder = tmp_path_factory.mktemp("tfjs")
    values = [np.arange(size, dtype="f4") + 10 * k for k, size in enumerate(sizes)]
    write_model(folder, [weight(f"w{k}", v) for k, v in enumerate(values)], shard=shard, **GRAPH)
    source, begin = open_source(folder), 0
    for k, value in enumerate(values):
        assert source.read(f"w{k}").tobytes() == value.tobytes()
        whole = begin // shard == (begin + value.nbytes - 1) // shard
        if value.nbytes:
            assert (source.locate(f"w{k}") is not None) == whole
        if source.locate(f"w{k}"):
            assert located(source, f"w{k}") == value.tobytes()
        begin += value.nbytes


def test_every_dtype(tmp_path):
    values = {
        "a": np.array([[1.5, -2]], "f4"),
        "b": np.array(7, "i4"),
        "c": np.array([1, 255], "u1"),
        "d": np.array([True, False]),
        "e": np.array([1 + 2j], "c8"),
        "f": np.array([1, 65535], "u2"),
    }
    source = open_source(write_model(tmp_path, [weight(n, v) for n, v in values.items()], **GRAPH))
    for name, value in values.items():
        assert source.catalog[name].dtype == value.dtype.name
        assert source.read(name).dtype == value.dtype
        assert np.array_equal(source.read(name), value)
        assert source.read(name).shape == value.shape
    assert source.locate("d") is None


def test_a_byte_that_is_no_bool_is_true(tmp_path):
    source = open_source(write_model(tmp_path, [({"name": "b", "shape": [3], "dtype": "bool"}, b"\0\1\2")], **GRAPH))
    assert source.read("b").tolist() == [False, True, True]


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["uint8", "uint16"]),
    st.floats(1e-8, 1e3),
    st.floats(-1e3, 1e3),
    st.lists(st.integers(0, 255), min_size=1, max_size=5),
)
def test_packed_floats_unpack_in_double_precision_rounded_once(tmp_path_factory, dtype, scale, lowest, stored):
    folder = tmp_path_factory.mktemp("tfjs")
    write_model(folder, [packed("w", np.array(stored, dtype), "float32", scale, lowest)], **GRAPH)
    expected = b"".join(struct.pack("<f", q * scale + lowest) for q in stored)
    assert open_source(folder).read("w").tobytes() == expected


def test_packed_whole_numbers_round_halves_upwards(tmp_path):
    source = open_source(write_model(tmp_path, [packed("w", np.array([0, 1, 2, 3], "u1"), "int32", 0.5, -1)], **GRAPH))
    assert source.read("w").tolist() == [-1, 0, 0, 1]
    assert source.read("w").dtype == source.catalog["w"].dtype == "int32"
    assert source.locate("w") is None


def test_halves_are_widened(tmp_path):
    halves = np.array([0.1, -65504, 6e-8, np.inf], "f2")
    source = open_source(write_model(tmp_path, [packed("w", halves, "float32")], **GRAPH))
    assert source.catalog["w"].dtype == "float32"
    assert source.read("w").tolist() == halves.tolist()


def test_texts_are_skipped(tmp_path):
    texts = b"".join(len(t).to_bytes(4, "little") + t for t in (b"a", b"", b"bcd" * 500_000, b"e"))
    group = [weight("a", np.float32(1)), ({"name": "t", "shape": [2, 2], "dtype": "string"}, texts)]
    source = open_source(write_model(tmp_path, [*group, weight("b", np.float32(2))], shard=999_999, **GRAPH))
    assert [w.name for w in source.catalog] == ["a", "b"]
    assert source.read("b") == 2
    assert source.details["texts, so not read"] == "t"


def test_texts_whose_length_lies_where_a_piece_of_the_file_ends(tmp_path):
    texts = b"".join(len(t).to_bytes(4, "little") + t for t in (b"a" * ((1 << 20) - 6), b"bc" * 99, b"d"))
    group = [({"name": "t", "shape": [3], "dtype": "string"}, texts), weight("b", np.float32(2))]
    assert open_source(write_model(tmp_path, group, **GRAPH)).read("b") == 2


def test_graph_models_are_named_by_layer_and_role(tmp_path):
    names = ["StatefulPartitionedCall/model/conv1/Conv2D/ReadVariableOp", "w.1"]
    values = [np.float32([k]) for k in range(2)]
    source = open_source(write_model(tmp_path, [weight(n, v) for n, v in zip(names, values, strict=True)], **GRAPH))
    assert [w.name for w in source.catalog] == ["model/conv1/kernel", "w.1"]
    assert source.read(names[0]) == 0  # the file's own name stays a second one
    assert (source.format, source.details["format"]) == ("tfjs", "graph-model")
    assert {p.name for p in source.files} == {"model.json", "group1-shard1of1.bin"}


def test_numbered_weights_are_named_by_what_takes_them(tmp_path):
    """As the converter leaves a graph that was optimized: biases and activations are fused into the products."""
    call = "StatefulPartitionedCall/net"
    shapes = {
        "unknown_26": (3, 3, 2, 4),
        "unknown_27": (4,),
        "Const_3": (4, 5),
        f"{call}/d/BiasAdd/ReadVariableOp": (5,),
    }
    shapes |= {
        f"{call}/bn/FusedBatchNormV3/Scaled": (4,),
        "unknown": (4,),
        "unknown_1": (4,),
        "unknown_2": (4,),
        "axis": (),
    }
    d, conv = f"{call}/d/BiasAdd/ReadVariableOp", f"{call}/conv/Relu"
    nodes = [
        (conv, "_FusedConv2D", ["x", "unknown_26", "unknown_27"]),
        (f"{call}/bn/FusedBatchNormV3", "FusedBatchNormV3", [conv, f"{call}/bn/FusedBatchNormV3/Scaled", "unknown", "unknown_1", "unknown_2"]),
        (f"{call}/mean", "Mean", [f"{call}/bn/FusedBatchNormV3:0", "axis"]),
        (f"{call}/d/BiasAdd", "_FusedMatMul", [f"{call}/mean", "Const_3", d, f"^{conv}"]),
    ]  # fmt: skip
    topology = {
        "node": [{"name": n, "op": "Const"} for n in shapes] + [{"name": n, "op": o, "input": i} for n, o, i in nodes]
    }
    group = [weight(n, np.full(s, k, "f4")) for k, (n, s) in enumerate(shapes.items())]
    source = open_source(write_model(tmp_path, group, format="graph-model", modelTopology=topology))
    assert {w.where.partition(":")[2]: w.name for w in source.catalog} == {
        "unknown_26": "net/conv/kernel",
        "unknown_27": "net/conv/bias",
        "Const_3": "net/d/kernel",
        d: "net/d/bias",
        f"{call}/bn/FusedBatchNormV3/Scaled": "net/bn/gamma",
        "unknown": "net/bn/beta",
        "unknown_1": "net/bn/moving_mean",
        "unknown_2": "net/bn/moving_variance",
        "axis": "axis",
    }
    assert source.catalog.operands == {"axis"}
    assert all(np.all(source.read(n) == k) for k, n in enumerate(shapes))


@pytest.mark.parametrize("by", ["file", "folder"])
def test_a_manifest_alone(by, tmp_path):
    values = {"StatefulPartitionedCall/d/MatMul/ReadVariableOp": np.ones((2, 3), "f4"), "e/kernel:0": np.zeros(4, "f4")}
    manifest = [{"paths": ["m.bin"], "weights": [weight(n, v)[0] for n, v in values.items()]}]
    (tmp_path / "m.bin").write_bytes(b"".join(v.tobytes() for v in values.values()))
    path = tmp_path / "m-weights_manifest.json"
    path.write_text(json.dumps(manifest))
    source = open_source(path if by == "file" else tmp_path)
    assert {w.name: w.shape for w in source.catalog} == {"d/kernel": (2, 3), "e/kernel": (4,)}
    assert source.read("d/kernel").tobytes() == np.ones((2, 3), "f4").tobytes()


@pytest.mark.parametrize("text", ["[]", "[3]", '[{"paths": []}]', "[", '[{"paths": [], "weights": [], "paths": []}]'])
def test_lists_that_are_no_manifests(text, tmp_path):
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(FileError, match="is of no known format"):
        open_source(tmp_path / "list.json")


def test_weights_without_a_topology_are_named_after_their_layers(tmp_path):
    group = [weight("conv2d_1/kernel", np.ones((1, 1, 3, 2), "f4")), weight("scale", np.ones(1, "f4"))]
    source = open_source(write_model(tmp_path, group))
    assert [(w.name, w.layer_class) for w in source.catalog] == [("scale", None), ("conv2d_1/kernel", "Conv2D")]


def test_state_of_training_is_set_aside(tmp_path):
    group = [
        weight("dense/kernel", np.ones((1, 1), "f4")),
        weight("dense/kernel_m", np.ones(1, "f4"), group="optimizer"),
    ]
    source = open_source(write_model(tmp_path, group))
    assert [w.name for w in source.catalog] == ["dense/kernel"]
    assert [w.name for w in source.others] == ["dense/kernel_m"]
    assert source.read_entry(source.others[0]) == 1


def convert(h5, folder):
    """Write the TensorFlow.js model that the converter makes of a legacy file: layers by their names, groups gone."""
    with h5py.File(h5) as file:
        config = json.loads(file.attrs["model_config"])
        weights = file["model_weights"]
        group = [
            weight(stored.removesuffix(":0"), np.asarray(weights[layer][stored]))
            for layer in weights
            for stored in weights[layer].attrs.get("weight_names", ())
        ]
    return write_model(folder, group, shard=333, modelTopology={"keras_version": "3", "model_config": config})


@pytest.mark.parametrize("build", [b for b in BUILDERS if b.__name__ != "twins"])
def test_layers_models_have_the_names_and_the_order_of_the_model(tmp_path, build):
    keras.utils.clear_session(free_memory=False)
    model = build()
    model.save(tmp_path / "model.h5")
    legacy, source = open_source(tmp_path / "model.h5"), open_source(convert(tmp_path / "model.h5", tmp_path))
    facts = [[(w.name, w.shape, w.layer_class) for w in s.catalog] for s in (source, legacy)]
    assert facts[0] == facts[1]
    assert all(np.array_equal(source.read(n), legacy.read(n)) for n in legacy.catalog.by_name)
    assert source.config["class_name"] in ("Functional", "Sequential")


def test_topology_as_javascript_writes_it(tmp_path):
    layers = [{"class_name": "Dense", "config": {"name": name, "units": 1}} for name in ("z", "a")]
    topology = {"class_name": "Sequential", "config": layers, "keras_version": "tfjs-layers 4.22.0"}
    group = [weight("a/kernel", np.ones((1, 1), "f4")), weight("z/kernel", np.ones((1, 1), "f4"))]
    source = open_source(write_model(tmp_path, group, modelTopology=topology))
    assert [(w.name, w.layer_class) for w in source.catalog] == [("z/kernel", "Dense"), ("a/kernel", "Dense")]


def test_shard_that_changes_after_opening(tmp_path):
    source = open_source(write_model(tmp_path, [weight("a", np.ones(9, "f4"))], shard=20, **GRAPH))
    (tmp_path / "group1-shard2of2.bin").write_bytes(bytes(17))
    with pytest.raises(FileError, match=r"group1-shard2of2.bin: changed from 16 to 17 bytes"):
        source.read("a")
