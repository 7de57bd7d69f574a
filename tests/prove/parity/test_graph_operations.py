"""What of a SavedModel's graph is run, and which operations that may be; nothing here is."""

import re

import pytest

import transferpipe as tp

messages = pytest.importorskip("tensorflow.core.protobuf.saved_model_pb2")

from transferpipe.models.keras_private import tensorflow_operation  # noqa: E402
from transferpipe.prove.parity.graphs.allowed_operations import is_allowed  # noqa: E402
from transferpipe.prove.parity.graphs.graph_operations import check_operations  # noqa: E402


class Graph:
    """A SavedModel as its message, with one signature that gives the node "y"."""

    def __init__(self):
        self.message = messages.SavedModel()
        self.meta = self.message.meta_graphs.add()
        self.node("y", "Identity", "x")
        self.node("x", "Placeholder")
        self.meta.signature_def["serving_default"].outputs["y"].name = "y:0"

    def node(self, name, op, *inputs):
        node = self.meta.graph_def.node.add(name=name, op=op, input=inputs)
        if op == "Const":
            node.attr["dtype"].type = 7
        return node

    def function(self, name, *ops):
        body = self.meta.graph_def.library.function.add()
        body.signature.name = name
        for number, op in enumerate(ops):
            body.node_def.add(name=f"n{number}", op=op)

    def check(self, folder):
        (folder / "saved_model.pb").write_bytes(self.message.SerializeToString())
        check_operations(folder)


def in_signature(graph, op):
    graph.node("bad", op)
    graph.meta.graph_def.node[0].input.append("^bad")


def in_function(graph, op):
    graph.function("called", op)
    graph.node("call", "StatefulPartitionedCall").attr["f"].func.name = "called"
    graph.meta.graph_def.node[0].input.append("call")


def in_function_called_like_an_operation(graph, op):
    graph.function("Elu", op)
    graph.node("call", "Elu")
    graph.meta.graph_def.node[0].input.append("call")


def in_object(graph, op):
    graph.function("method", op)
    graph.meta.object_graph_def.concrete_functions["method"].SetInParent()


def in_tables(graph, op):
    """TensorFlow runs these where a model of its first version says nothing of what is run on loading."""
    graph.node("bad", op)
    graph.meta.collection_def["table_initializer"].node_list.value.append("bad")


def in_local_variable(graph, op):
    from tensorflow.core.framework import variable_pb2

    graph.node("bad", op)
    variable = variable_pb2.VariableDef(variable_name="v", initializer_name="bad")
    graph.meta.collection_def["local_variables"].bytes_list.value.append(variable.SerializeToString())


def in_restoring(graph, op):
    graph.node("bad", op)
    graph.meta.saver_def.restore_op_name = "bad"


PLACES = (
    in_signature, in_function, in_function_called_like_an_operation, in_object, in_tables, in_local_variable,
    in_restoring,
)  # fmt: skip
# They read what a setting of theirs names, write there, send to there, or print what they are given.
REACHING = (
    "CSVDataset", "DebugNanCount", "DebugNumericSummary", "DumpTensor", "CalibrationStatisticsSaver", "RecordInput",
    "FixedUnigramCandidateSampler", "GenerateVocabRemapping", "LoadAndRemapMatrix", "DatasetToTFRecord", "DecodeProtoV2",
    "ImmutableConst", "RpcServer", "FileSystemSetConfiguration", "Print", "ReadFile", "TextLineDataset", "Abort",
)  # fmt: skip


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_what_is_run_only_computes(place, tmp_path):
    for op in REACHING:
        graph = Graph()
        place(graph, op)
        with pytest.raises(tp.UnsafeError, match=op):
            graph.check(tmp_path)
    for op in ("NoOp", "Relu", "VarHandleOp", "ReadVariableOp", "LookupTableFindV2", "StringJoin"):
        graph = Graph()
        place(graph, op)
        graph.check(tmp_path)


def test_what_nothing_gets_to_is_not_run(tmp_path):
    graph = Graph()
    for op in REACHING:
        graph.node(op, op)
        graph.function(f"of {op}", op)
    graph.check(tmp_path)


@pytest.mark.parametrize("place", ["given", "elsewhere", "in a function"])
def test_variables_are_restored_from_the_model_alone(place, tmp_path):
    graph = Graph()
    graph.node("filename", "Const")
    graph.node("save", "PlaceholderWithDefault", "filename")
    graph.node("other", "Const")
    graph.node("restore", "RestoreV2", "save" if place == "given" else "other")
    graph.node("all", "NoOp", "^restore")
    if place == "in a function":
        graph.function("restoring", "RestoreV2")
        graph.meta.graph_def.node[-2].op = "restoring"
    graph.meta.saver_def.restore_op_name = "all"
    graph.meta.saver_def.filename_tensor_name = "save:0"
    if place == "given":
        graph.check(tmp_path)
    else:
        with pytest.raises(tp.UnsafeError, match="RestoreV2"):
            graph.check(tmp_path)


@pytest.mark.parametrize("name", ["../words.txt", "/etc/hostname", "a/../../words.txt", "link.txt"])
def test_assets_lie_in_the_model(name, tmp_path):
    model = tmp_path / "model"
    (model / "assets").mkdir(parents=True)
    (tmp_path / "words.txt").write_text("a")
    (model / "assets" / "own.txt").write_text("a")
    (model / "assets" / "link.txt").symlink_to(tmp_path / "words.txt")
    graph = Graph()
    asset = graph.meta.asset_file_def.add(filename="own.txt")
    graph.check(model)
    asset.filename = name
    with pytest.raises(tp.UnsafeError, match=r"names (the file )?'"):
        graph.check(model)


def test_no_operation_that_is_allowed_names_a_place():
    import tensorflow as tf

    places = re.compile(r"file|path|dir$|url|uri|address|host$|target_workers|descriptor|prefix|protocol|stream|region")
    count = 0
    for name in filter(is_allowed, dir(tf.raw_ops)):
        known = tensorflow_operation(name)
        if known is None:
            continue
        count += 1
        texts = [a.name for a in known.attr if a.type in ("string", "list(string)")]
        texts += [a.name for a in known.input_arg if a.type == 7]
        named = {(name, text) for text in texts if places.search(text)}
        assert not named, named
    assert count > 800
