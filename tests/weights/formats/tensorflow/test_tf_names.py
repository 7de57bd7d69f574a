"""Names of weights in checkpoints of TensorFlow, from checkpoints made by hand: what is a weight, and what it is called."""

import json
import time

import numpy as np
import pytest
import tf_bundles as tf
from tf_bundles import field_of, message, variable

from transferpipe.errors import FileError
from transferpipe.weights.formats import open_source
from transferpipe.weights.formats.tensorflow.names import training_names
from transferpipe.weights.formats.tensorflow.object_graph import GRAPH_KEY


@pytest.fixture
def opened(tmp_path):
    """Return a function that opens the checkpoint of an object made of dicts and variables."""

    def write(root):
        return open_source(tf.object_checkpoint(root).write(tmp_path / "x"))

    return write


def names(specs):
    return [w.name for w in specs]


def dense(name):
    return {"kernel": variable(f"{name}/kernel", 2, 3), "bias": variable(f"{name}/bias", 3)}


def test_attributes_are_names(opened):
    root = {"net": {"enc": dense("net/dense"), "blocks": {"0": dense("net/dense_1"), "1": dense("net/dense_2")}}}
    assert names(opened(root).catalog) == [
        f"net/{layer}/{own}" for layer in ("enc", "blocks/0", "blocks/1") for own in ("kernel", "bias")
    ]


def test_numbered_layers_go_by_their_names(opened):
    fc, conv = dense("fc"), dense("conv")
    root = {"layer-0": {}, "layer_with_weights-0": conv, "layer-1": conv, "layer_with_weights-1": fc, "layer-2": fc}
    assert names(opened(root).catalog) == ["conv/kernel", "conv/bias", "fc/kernel", "fc/bias"]


def test_a_nested_model_keeps_its_number_where_nothing_tells_its_name(opened):
    root = {"layer_with_weights-0": {"layer_with_weights-0": dense("c1")}, "layer_with_weights-1": dense("fc")}
    expected = ["layer_with_weights-0/c1/kernel", "layer_with_weights-0/c1/bias", "fc/kernel", "fc/bias"]
    assert names(opened(root).catalog) == expected


def test_keras_3_names_a_nested_sequential_and_hides_kernels(opened):
    layer = {"_kernel": variable("bb/c1/kernel", 2), "bias": variable("bb/c1/bias", 2)}
    root = {"model": {"_operations": {"0": {}, "1": {"_functional": {"_operations": {"0": {}, "1": layer}}}}}}
    assert names(opened(root).catalog) == ["model/bb/c1/kernel", "model/bb/c1/bias"]


def test_two_layers_that_one_name_would_fit_keep_their_numbers(opened):
    root = {"_operations": {"1": dense("sub"), "2": dense("sub"), "3": dense("own")}}
    found = names(opened(root).catalog)
    assert found == ["layer-1/kernel", "layer-1/bias", "layer-2/kernel", "layer-2/bias", "own/kernel", "own/bias"]


def test_a_name_that_an_attribute_shares_tells_no_layer_apart(opened):
    root = {"enc": dense("sub"), "block": {"_operations": {"1": dense("sub")}}}
    assert names(opened(root).catalog) == ["enc/kernel", "enc/bias", "block/layer-1/kernel", "block/layer-1/bias"]


def test_a_recurrent_layer_and_a_wrapper_go_by_their_own_names(opened):
    lstm = {"cell": {"kernel": variable("lstm/lstm_cell/kernel", 2)}}
    wrapped = {"layer": {"kernel": variable("time_distributed/kernel", 2)}}
    root = {"layer_with_weights-0": lstm, "layer_with_weights-1": wrapped}
    assert names(opened(root).catalog) == ["lstm/cell/kernel", "time_distributed/layer/kernel"]


def test_attention_goes_by_the_names_of_its_layers(opened):
    parts = ("_query_dense", "_key_dense", "_value_dense", "_output_dense")
    root = {"mha": {p: {"_kernel": variable("sub/kernel", 2)} for p in parts}}
    assert names(opened(root).catalog) == [f"mha/{p}/kernel" for p in ("query", "key", "value", "attention_output")]


def test_an_underscore_stays_where_it_tells_two_attributes_apart(opened):
    root = {"_w": variable("a", 2), "w": variable("b", 2), "_v": variable("c", 2)}
    assert names(opened(root).catalog) == ["_w", "w", "v"]


def test_a_shared_layer_is_listed_once_where_it_is_met_first(opened):
    shared = dense("a")
    assert names(opened({"one": shared, "two": {"inner": shared}}).catalog) == ["one/kernel", "one/bias"]


def test_a_slash_in_a_key_of_a_dict(opened):
    assert names(opened({"d": {"a/b": variable("x", 2)}}).catalog) == ["d/a.Sb"]


def test_a_weight_that_its_key_finds_in_an_optimizer_goes_by_its_layer(opened):
    kernel = variable("bb/c1/kernel", 2)
    optimizer = {
        "_variables": {"0": variable("adam/iteration", dtype="int64"), "1": variable("adam/m", 2)},
        "_trainable_variables": {"0": kernel, "1": variable("hidden/kernel", 3)},
        "_iterations": variable("adam/iteration", dtype="int64"),
        "_learning_rate": variable("adam/learning_rate"),
    }
    root = {"optimizer": optimizer, "layer_with_weights-0": {"layer-0": {"kernel": kernel}}}
    source = opened(root)
    assert names(source.catalog) == ["optimizer/trainable_variables/1", "bb/c1/kernel"]
    assert len(source.others) == 4


def test_state_of_training_is_set_aside(opened):
    metric = {"total": variable("total"), "count": variable("count")}
    root = {
        "model": {"w": variable("w", 3), "acc": metric, "keras_api": {"metrics": {"0": {"tp": variable("tp", 5)}}}},
        "save_counter": variable("save_counter", dtype="int64"),
        "step": variable("step", dtype="int32"),
        "opt": {"iter": variable("iter", dtype="int64"), "learning_rate": variable("lr"), "slots": [variable("m", 3)]},
        "drop": {"_random_generator": {"_state_var": variable("StateVar", 3, dtype="int64")}},
        "seeds": {"0": variable("seed_generator_7/seed_generator_state", 2, dtype="uint32")},
    }
    source = opened(root)
    assert names(source.catalog) == ["model/w"]
    assert len(source.others) == 10
    assert source.read_entry(source.others[0]).shape in ((), (3,))


def test_integers_that_no_counter_is_called_like_are_weights(opened):
    root = {"codes": variable("codes", 4, dtype="int64"), "size": variable("size", dtype="int32")}
    assert names(opened(root).catalog) == ["codes", "size"]


def test_an_export_of_keras_3_is_listed_once_by_the_names_in_python(opened):
    one, two = variable("fc/kernel", 2, 3), variable("fc/bias", 3)
    copies = {"0": tf.Variable("fc/bias", two.value), "1": tf.Variable("fc/kernel", one.value)}
    source = opened({"variables": {"0": one, "1": two}, "trainable_variables": {"0": one}, "_all_variables": copies})
    assert names(source.catalog) == ["fc/kernel", "fc/bias"]
    assert source.details["tensors stored twice"] == "2"


def test_an_export_leaves_out_the_name_of_the_model_itself(opened):
    listed = ["sequential_3/fc/kernel", "sequential_3/fc/bias", "sequential_3/out/kernel"]
    variables = {str(i): variable(n, 2) for i, n in enumerate(listed)}
    variables["3"] = variable("seed_generator_1/seed_generator_state", 2, dtype="int64")
    assert names(opened({"variables": variables}).catalog) == ["fc/kernel", "fc/bias", "out/kernel"]
    root = {"variables": {"0": variable("fc/kernel", 2), "1": variable("fc/bias", 2)}}
    assert names(opened(root).catalog) == ["fc/kernel", "fc/bias"]


def test_an_export_keeps_numbers_where_the_names_in_python_are_not_unique(opened):
    listed = {str(i): variable("sub/kernel", 2, start=i) for i in range(2)}
    other = {"0": variable("sub/kernel", 2, start=5), "1": tf.Variable("sub/kernel", listed["1"].value)}
    source = opened({"variables": listed, "_all_variables": other})
    assert sorted(names(source.catalog)) == ["all_variables/0", "variables/0", "variables/1"]


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        (("r/lstm_cell", "r/gru_cell_1", "r/lstm_cell_7"), ["lstm_cell", "gru_cell", "lstm_cell_1"]),
        (("r/lstm_cell", "r/own", "r/lstm_cell_7"), ["0", "1", "2"]),
    ],
)
def test_stacked_cells_go_by_their_classes_as_in_keras_3(scopes, expected, opened):
    cells = {str(k): {"kernel": variable(f"{scope}/kernel", 2 + k)} for k, scope in enumerate(scopes)}
    source = opened({"r": {"cell": {"cells": cells}}})
    assert names(source.catalog) == [f"r/cell/cells/{name}/kernel" for name in expected]
    assert [w.shape for w in source.catalog] == [(2,), (3,), (4,)]


def test_a_graph_that_names_what_the_index_lacks(tmp_path):
    checkpoint = tf.object_checkpoint({"w": variable("w", 2)})
    del checkpoint.entries[f"w{tf.TAIL}".encode()]
    checkpoint.write(tmp_path / "x")
    with pytest.raises(FileError, match="which the index lacks"):
        open_source(tmp_path / "x")


def test_a_vocabulary_is_no_missing_tensor(tmp_path):
    """The table of an adapted lookup layer stands in the graph of objects by its name, and in the index in two parts."""
    checkpoint = tf.object_checkpoint({"lookup": variable("lookup", 2), "w": variable("w", 3)})
    del checkpoint.entries[f"lookup{tf.TAIL}".encode()]
    checkpoint.add(f"lookup{tf.TAIL}-keys", np.arange(2)).add(f"lookup{tf.TAIL}-values", np.arange(2))
    checkpoint.write(tmp_path / "x")
    assert "w" in names(open_source(tmp_path / "x").catalog)


def test_a_tensor_that_no_object_holds_is_not_lost(tmp_path):
    checkpoint = tf.object_checkpoint({"w": variable("w", 2)})
    checkpoint.add("extra" + tf.TAIL, np.ones(3)).add(f"w/.OPTIMIZER_SLOT/opt/m{tf.TAIL}", np.ones(2))
    source = open_source(checkpoint.write(tmp_path / "x"))
    assert names(source.catalog) == ["w", "extra"]
    assert names(source.others) == ["w/.OPTIMIZER_SLOT/opt/m"]


def test_graphs_whose_names_would_fill_the_memory(tmp_path):
    started = time.process_time()
    long = {"n" * 100_000: {f"v{i}": variable("x") for i in range(1500)}}
    deep = leaf = {}
    for _ in range(200):
        leaf["i"] = leaf = {}
    leaf["w"] = variable("w", 2)
    for i, (root, word) in enumerate([(long, "letters"), (deep, "128 deep")]):
        with pytest.raises(FileError, match=word):
            prefix = tf.object_checkpoint_with_short_keys(root).write(tmp_path / str(i))
            open_source(prefix)
    tf.Checkpoint().add("a/" * 200, np.ones(2)).write(tmp_path / "flat")
    with pytest.raises(FileError, match="more than 128 parts"):
        open_source(tmp_path / "flat")
    assert time.process_time() - started < 5


def test_many_variables_in_one_list(tmp_path):
    started = time.process_time()
    root = {"vs": {str(i): variable("x") for i in range(4000)}}
    assert len(open_source(tf.object_checkpoint(root).write(tmp_path / "x")).catalog) == 4000
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("graph", "word"),
    [
        (field_of(1, field_of(1, message((1, 9), (2, "a")))), "names node 9 of 1"),
        (field_of(1, field_of(3, message((3, 5)))), "names node 5"),
        (b"\x0a\xff", "does not end"),
        (b"\x0b\x00", "kind 3"),
        (b"\xff" * 12, "does not end"),
        (field_of(1, b"") * 140_000, "more than"),
        (field_of(1, field_of(1, field_of(2, b"\xff\xfe"))), "utf-8"),
    ],
)
def test_a_broken_graph(tmp_path, graph, word):
    tf.Checkpoint().add(GRAPH_KEY, graph).write(tmp_path / "x")
    with pytest.raises(FileError, match=word):
        open_source(tmp_path / "x")


@pytest.mark.parametrize("checked", [True, False])
def test_a_graph_changed_anywhere_is_refused_or_makes_other_names(tmp_path, checked, monkeypatch):
    checkpoint = tf.object_checkpoint({"a": {"layer-0": dense("x")}, "b": variable("w", 2)})
    if not checked:  # as if it had been made to mislead, with checksums that fit
        for name in ("crc32c", "unmask"):
            monkeypatch.setattr(f"transferpipe.weights.formats.tensorflow.bundle.values.{name}", lambda *_: 0)
    prefix = checkpoint.write(tmp_path / "x")
    shard = prefix.with_name("x.data-00000-of-00001")
    sound = shard.read_bytes()
    for at in range(8, len(sound) - 44, 2):  # the values of the variables are the last 44 bytes
        shard.write_bytes(sound[:at] + bytes([sound[at] ^ 1 << at % 8]) + sound[at + 1 :])
        try:
            source = open_source(prefix)
        except FileError:
            continue
        assert not checked
        assert len(source.catalog) + len(source.others) == 3


def test_a_graph_that_holds_itself_ends(tmp_path):
    nodes = field_of(1, field_of(1, message((1, 1), (2, "a")))) + field_of(1, field_of(1, message((1, 0), (2, "b"))))
    checkpoint = tf.Checkpoint().add(GRAPH_KEY, nodes).add("w" + tf.TAIL, np.ones(2))
    assert names(open_source(checkpoint.write(tmp_path / "x")).catalog) == ["w"]


def test_a_very_deep_graph(tmp_path):
    root = leaf = {}
    for _ in range(100):
        leaf["inner"] = {}
        leaf = leaf["inner"]
    leaf["w"] = variable("w", 2)
    checkpoint = tf.object_checkpoint(root)
    (weight,) = open_source(checkpoint.write(tmp_path / "x")).catalog
    assert weight.name == "inner/" * 100 + "w"


def test_a_saved_model_of_keras_2_tells_names_and_classes(tmp_path):
    metric = {"tp": variable("tp", 4)}
    root = {"layer_with_weights-0": {"layer_with_weights-0": dense("c1")}, "keras_api": {"metrics": {}}, "m": metric}
    tf.object_checkpoint(root).write(tmp_path / "variables" / "variables")
    configs = [
        "",
        '{"name": "backbone", "class_name": "Functional"}',
        '{"name": "c1", "class_name": "Dense", "config": {"name": "c1", "activation": "relu"}}',
    ]
    kinds = ["_tf_keras_network", "_tf_keras_network", "_tf_keras_layer", "_tf_keras_metric"]
    children = [[(1, "layer_with_weights-0"), (3, "m")], [(2, "layer_with_weights-0")], [], []]
    saved = b"".join(
        field_of(
            1,
            b"".join(field_of(1, message(*zip((1, 2), c, strict=True))) for c in held)
            + field_of(4, message((1, kind))),
        )
        for held, kind in zip(children, kinds, strict=True)
    )
    graph = field_of(2, message((2, b"x" * 1000), (7, saved)))
    (tmp_path / "saved_model.pb").write_bytes(message((1, 1)) + graph)
    metadata = b"".join(field_of(1, message((2, i), (5, c))) for i, c in enumerate(configs) if c)
    (tmp_path / "keras_metadata.pb").write_bytes(metadata)
    for path in (tmp_path, tmp_path / "saved_model.pb"):
        source = open_source(path)
        assert source.format == "saved_model"
        assert names(source.catalog) == ["backbone/c1/kernel", "backbone/c1/bias"]
        assert {w.layer_class for w in source.catalog} == {"Dense"}
        assert names(source.others) == ["m/tp"]
        assert source.catalog.network.by_name["backbone/c1"].settings["activation"] == "relu"
        assert not source.catalog.network.connected
    layer = {"class_name": "Dense", "name": "c1", "config": {"name": "c1", "activation": "tanh"}}
    model = {"class_name": "Sequential", "name": "backbone", "config": {"name": "backbone", "layers": [layer]}}
    root = {
        "name": "m",
        "class_name": "Sequential",
        "keras_version": "2.9.0",
        "config": {"name": "m", "layers": [model]},
    }
    (tmp_path / "keras_metadata.pb").write_bytes(field_of(1, message((2, 0), (5, json.dumps(root)))))
    network = open_source(tmp_path).catalog.network
    assert [(n.name, n.settings["activation"]) for n in network.nodes] == [("backbone/c1", "tanh")]
    assert (network.keras_version, network.connected) == ("2.9.0", True)
    (tmp_path / "keras_metadata.pb").write_bytes(field_of(1, message((2, 1), (5, json.dumps([1])))))
    assert names(open_source(tmp_path).catalog)[0] == "layer_with_weights-0/c1/kernel"


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"\x12\xff\xff\xff\xff\x7f", "of which there are 0"),
        (b"\x13", "the kind 3"),
        (field_of(2, field_of(7, field_of(1, field_of(1, message((1, 8), (2, "a")))))), "names node 8"),
        (field_of(2, field_of(7, b"\x0a\x7f")), "declares 127 bytes"),
    ],
)
def test_a_broken_saved_model(tmp_path, data, word):
    tf.object_checkpoint({"w": variable("w", 2)}).write(tmp_path / "variables" / "variables")
    (tmp_path / "saved_model.pb").write_bytes(data)
    with pytest.raises(FileError, match=word):
        open_source(tmp_path)


def test_a_saved_model_without_variables_and_constants(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(message((1, 1)))
    with pytest.raises(FileError, match=r"holds no variables: .* and its graph has no constants that are weights"):
        open_source(tmp_path)


def test_state_of_training_in_tensorflow_1():
    shapes = {
        "conv1/weights": (3,), "conv1/weights/Adam": (3,), "conv1/weights/Adam_1": (3,), "beta1_power": (),
        "train/conv1/weights/Momentum": (3,), "conv1/weights/ExponentialMovingAverage": (3,), "global_step": (),
        "bert/kernel": (2,), "bert/kernel/adam_m": (2,), "training/Adam/iter": (), "only/Momentum": (3,), "steps/w": (2,),
        "train/beta2_power_1": (), "lstm/m": (3,),
    }  # fmt: skip
    weights = sorted(shapes.keys() - training_names(shapes))
    assert weights == ["bert/kernel", "conv1/weights", "lstm/m", "only/Momentum", "steps/w"]
