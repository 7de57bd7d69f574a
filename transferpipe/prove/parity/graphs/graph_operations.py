"""What a SavedModel's graph would do beside computing, before anything of it is run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from transferpipe.errors import FileError, Problem, UnsafeError
from transferpipe.files.inside import file_inside
from transferpipe.prove.parity.graphs.allowed_operations import FILLING, RESTORING, is_allowed
from transferpipe.prove.parity.keras_trace import describe_error
from transferpipe.prove.parity.runner import AGAIN, ELSEWHERE

# Operations that reach beyond the graph and that no saver and no training leaves in one, run or not.
_REACHING = frozenset(
    """
    WriteFile PyFunc PyFuncStateless EagerPyFunc PrintV2 RpcCall RpcClient WriteSummary CreateSummaryFileWriter
    CreateSummaryDbWriter WriteGraphSummary WriteScalarSummary DebugIdentityV2 RegisterDataset DataServiceDatasetV4
    """.split()  # noqa: SIM905 -- easier to compare with TensorFlow than quoted names
)
_TEXTS = ("Const", "PlaceholderWithDefault", "StringJoin", "StringFormat", "AsString", "Substr", "DecodeBase64")
_DT_STRING = 7  # tensorflow/core/framework/types.proto
# Where TensorFlow 1 notes what is run when a model is loaded (`tensorflow/python/saved_model/constants.py`), and what
# is run where it notes nothing (`Scaffold.default_local_init_op`).
_RUN_ON_LOADING = ("saved_model_main_op", "legacy_init_op", "table_initializer")


def check_operations(path: Path) -> Any:
    """Return the message of a SavedModel; refuse a graph with operations that reach beyond it, to other files.

    Raises:
        UnsafeError: there are such, or an asset lies outside of the model.
        FileError: the file is damaged, or an asset is missing.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    message = saved_model_pb2.SavedModel()
    try:
        message.ParseFromString((path / "saved_model.pb").read_bytes())
    except Exception as error:
        raise FileError(Problem(str(path), f"cannot be read: {describe_error(error)}", AGAIN)) from error
    for meta in message.meta_graphs:
        refused = _refused_operations(meta)
        if refused:
            what = f"its graph has the operation {refused[0]}, which may reach beyond the model: it is not run"
            raise UnsafeError(Problem(str(path), what, ELSEWHERE))
        for asset in _assets_of(meta):
            # TensorFlow joins them so: of an absolute name, nothing of the folder is left.
            file_inside(path, str(PurePosixPath("assets", asset.filename)), str(path / "saved_model.pb"))
    return message


def _refused_operations(meta: Any) -> list[str]:
    """Return the operations of a graph that are not run: whatever runs must be known to compute only.

    What nothing gets to may be of any other kind: what saves the variables, and what once fed a training with data.
    """
    graph = meta.graph_def
    found = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    refused = [node.op for node in found if node.op in _REACHING]
    # A model of TensorFlow 1 is restored by a node that the file names, whatever that does.
    restoring = [meta.saver_def.restore_op_name] if meta.saver_def.restore_op_name else []
    run = _operations_run(meta) | (_find_reached(graph, restoring, ()) - RESTORING)
    refused += sorted(name for name in run - FILLING if not is_allowed(name))
    return refused + _restorers_from_elsewhere(meta) + _fillers_from_elsewhere(meta)


def _restorers_from_elsewhere(meta: Any) -> list[str]:
    """Return the operations that restore variables from another place than the one that loading gives the saver."""
    if meta.HasField("object_graph_def") or not meta.saver_def.restore_op_name:
        return []  # the variables of objects are restored without the saver
    known = {node.name: node for node in meta.graph_def.node}
    given = _node_name(meta.saver_def.filename_tensor_name)
    origins = [(node.op, _origin(known, node.input[0])) for node in known.values() if node.op in RESTORING]
    hidden = [n.op for function in meta.graph_def.library.function for n in function.node_def if n.op in RESTORING]
    return hidden + [name for name, origin in origins if origin is None or origin.name != given]


def _fillers_from_elsewhere(meta: Any) -> list[str]:
    """Return the operations that fill a table from a file whose name stands in the graph and is none of an asset.

    Loading puts the places of assets in; any other name would be read where it leads.
    """
    graph = meta.graph_def
    assets = {_node_name(asset.tensor_info.name) for asset in _assets_of(meta)}
    bodies = {function.signature.name: function.node_def for function in graph.library.function}
    # Calls too: a function may be given the name that it fills a table from.
    filling = {name for name in bodies if FILLING & _find_reached(graph, (), [name])}
    found = []
    for nodes in (graph.node, *bodies.values()):
        known = {node.name: node for node in nodes}
        for node in nodes:
            given = (
                node.input[1:2]
                if node.op in FILLING
                else node.input
                if filling.intersection(_find_called([node]))
                else ()
            )
            origins = [_origin(known, name) for name in given]
            found += [node.op for origin in origins if origin and origin.name not in assets and _is_text(origin)]
    # What a function of an object holds on to: an asset is of a kind of its own.
    constants = [n.constant.operation for n in meta.object_graph_def.nodes if n.WhichOneof("kind") == "constant"]
    texts = {node.name for node in graph.node if _is_text(node)}
    held = texts.intersection(constants).difference(assets)
    captures = {
        name: [meta.object_graph_def.nodes[number] for number in function.bound_inputs]
        for name, function in meta.object_graph_def.concrete_functions.items()
        if name in filling
    }
    return found + [name for name, nodes in captures.items() if any(n.constant.operation in held for n in nodes)]


def _assets_of(meta: Any) -> list[Any]:
    """Return what a model notes of its assets; TensorFlow 1 notes it in a collection."""
    if meta.asset_file_def or "saved_model_assets" not in meta.collection_def:
        return list(meta.asset_file_def)
    from tensorflow.core.protobuf import meta_graph_pb2

    found = []
    for packed in meta.collection_def["saved_model_assets"].any_list.value:
        asset = meta_graph_pb2.AssetFileDef()
        if packed.Unpack(asset):
            found.append(asset)
    return found


def _origin(known: Mapping[str, Any], name: str) -> Any:
    """Return the node that a value comes from; None where it is an argument of the function."""
    node = known.get(_node_name(name))
    for _ in known:
        if node is None or node.op != "Identity" or not node.input:
            break
        node = known.get(_node_name(node.input[0]))
    return node


def _is_text(node: Any) -> bool:
    return node.op in _TEXTS and (node.op != "Const" or node.attr["dtype"].type == _DT_STRING)


def _operations_run(meta: Any) -> set[str]:
    """Return the operations that a signature, an initializer or a function of one of the model's objects gets to."""
    names: list[str] = []
    for signature in meta.signature_def.values():
        for end in signature.outputs.values():
            sparse = end.coo_sparse
            names += [end.name, sparse.values_tensor_name, sparse.indices_tensor_name, sparse.dense_shape_tensor_name]
            names += [part.name for part in end.composite_tensor.components]
    for key in _RUN_ON_LOADING:
        if key in meta.collection_def:
            names += meta.collection_def[key].node_list.value
    names += _initializers_of_local_variables(meta)
    return _find_reached(meta.graph_def, names, meta.object_graph_def.concrete_functions)


def _initializers_of_local_variables(meta: Any) -> list[str]:
    if "local_variables" not in meta.collection_def:
        return []
    from tensorflow.core.framework import variable_pb2

    packed = meta.collection_def["local_variables"].bytes_list.value
    return [variable_pb2.VariableDef.FromString(one).initializer_name for one in packed]


def _find_reached(graph: Any, names: Iterable[str], functions: Iterable[str]) -> set[str]:
    """Return the operations of nodes, of all that these depend on, and of all functions that any of them calls."""
    nodes = {node.name: node for node in graph.node}
    bodies = {function.signature.name: function.node_def for function in graph.library.function}
    here: dict[str, Any] = {}
    waiting = [_node_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in nodes and name not in here:
            here[name] = nodes[name]
            waiting += map(_node_name, nodes[name].input)
    operations, called, done = set[str](), [*functions, *_find_called(here.values())], set[str]()
    while called:
        name = called.pop()
        if name in bodies and name not in done:
            done.add(name)
            operations |= {node.op for node in bodies[name]}
            called += _find_called(bodies[name])
    return operations | {node.op for node in here.values()}


def _node_name(name: str) -> str:
    """Return the node of an input: ^NODE where only the order counts, NODE:NUMBER where a value does."""
    return name.lstrip("^").partition(":")[0]


def _find_called(nodes: Iterable[Any]) -> Iterator[str]:
    """Yield the functions that nodes call: those of their arguments, or the operation itself in TensorFlow 1."""
    for node in nodes:
        yield node.op
        for value in node.attr.values():
            yield from (value.func.name, *(function.name for function in value.list.func))
