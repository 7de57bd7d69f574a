"""What the finished model is compared with, where it can be run: Keras, a SavedModel, an ONNX file, a callable."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem, RecipeError, UnsafeError
from transferpipe.models.building.build import import_keras, values_of
from transferpipe.models.deferred.attempt import DeclaredTooMuchError, check_declared
from transferpipe.models.walk import Walked
from transferpipe.prove.parity.keras_trace import InputSpec, KerasRunner, Trace, describe_error
from transferpipe.recipe.model import Build
from transferpipe.recipe.trust import resolve
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.keras.allowed import check_classes
from transferpipe.weights.keras.setting_values import version_of
from transferpipe.weights.spec import Source

AGAIN = "the model is damaged or incomplete: copy or save it again"
ELSEWHERE = "run the original where it runs, and give verify: {parity: {inputs: x.npz, expected: y.npz}}"
# Beside four times the weights: PyTorch loads a program's constants, and small models have more code than weights.
_LITTLE = 1 << 26
# Operations that reach beyond the graph: the disk, Python, the network.
_REACHING = (
    *("WriteFile", "PyFunc", "PyFuncStateless", "EagerPyFunc"),
    *("PrintV2", "RpcCall", "RpcClient", "WriteSummary", "CreateSummaryFileWriter", "CreateSummaryDbWriter"),
    *("WriteGraphSummary", "WriteScalarSummary", "DebugIdentityV2", "RegisterDataset", "DataServiceDatasetV4"),
)
# What restores variables reads their files; the saver of every SavedModel has it, and writes them.
_RESTORING = ("RestoreV2", "Restore", "RestoreSlice")
# Operations on files that may stand in a graph as long as nothing that is run gets to them: what saves the variables,
# and what fed a training with data.
_ON_FILES = (
    *_RESTORING,
    *("SaveV2", "MergeV2Checkpoints", "Save", "SaveSlices", "SaveDataset", "SaveDatasetV2", "LoadDataset"),
    *("TextLineDataset", "TFRecordDataset", "TFRecordDatasetV2", "FixedLengthRecordDataset", "SqlDataset"),
    *("FixedLengthRecordDatasetV2", "LMDBDataset", "SnapshotDataset", "SnapshotDatasetV2", "CacheDataset"),
    *("ReadFile", "MatchingFiles", "WholeFileReaderV2"),
    *("CacheDatasetV2", "DatasetToTFRecord", "WholeFileReader", "TextLineReader", "TextLineReaderV2"),
    *("TFRecordReader", "TFRecordReaderV2", "FixedLengthRecordReader", "FixedLengthRecordReaderV2", "LMDBReader"),
    *("WriteAudioSummary", "WriteHistogramSummary", "WriteImageSummary", "WriteRawProtoSummary", "ImportEvent"),
    *("DebugIdentity", "DebugIdentityV3", "RegisterDatasetV2", "DataServiceDataset", "DataServiceDatasetV2"),
)
# What fills a table from a file: one of the model's own, which is among its assets, and no other.
_FILLING = frozenset(["InitializeTableFromTextFile", "InitializeTableFromTextFileV2"])
_TEXTS = ("Const", "PlaceholderWithDefault", "StringJoin", "StringFormat", "AsString", "Substr", "DecodeBase64")
_DT_STRING = 7  # tensorflow/core/framework/types.proto
# Where TensorFlow 1 notes what is run when a model is loaded (`tensorflow/python/saved_model/constants.py`).
_RUN_ON_LOADING = ("saved_model_main_op", "legacy_init_op")


class CannotRunError(Exception):
    """A model that cannot be run here, and why; the comparison is then inconclusive."""


class Runner(Protocol):
    """A model that can be run."""

    framework: str
    label: str

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """What it takes; empty where it does not say."""

    def run(self, data: Sequence[NDArray[Any]]) -> Trace:
        """Run it on one array an input."""


class CallableRunner:
    """A user's callable: it is given the inputs in the model's order and returns an array, a list or a mapping."""

    framework = "callable"
    inputs: tuple[InputSpec, ...] = ()

    def __init__(self, function: Callable[..., Any], label: str, arguments: Mapping[str, Any]) -> None:
        self.function, self.label, self.arguments = function, label, arguments

    def run(self, data: Sequence[NDArray[Any]]) -> Trace:
        """Call it; whatever it raises means that it cannot be run."""
        try:
            result = self.function(*data, **self.arguments)
        except (Exception, SystemExit) as error:
            raise CannotRunError(f"{self.label} raised {describe_error(error)}") from error
        if isinstance(result, Mapping):
            return Trace({str(k): _array(v) for k, v in result.items()})
        many = list(result) if isinstance(result, list | tuple) else [result]
        return Trace({f"output_{i}" if len(many) > 1 else "output": _array(v) for i, v in enumerate(many)})


def _array(value: Any) -> NDArray[Any]:
    # Tensors of torch that are on a device, or part of a graph, have no array.
    detached = value.detach().cpu() if hasattr(value, "detach") else value
    return np.asarray(detached.numpy() if hasattr(detached, "numpy") else detached)


class SignatureRunner:
    """The serving signature of a SavedModel."""

    framework = "tensorflow"

    def __init__(self, path: Path) -> None:
        self.label = str(path)
        _check_operations(path)
        import tensorflow as tf

        try:
            # Held as long as the signature is called: its variables go with the model.
            self._loaded = tf.saved_model.load(str(path))
        except (LookupError, tf.errors.DataLossError) as error:  # names and places that nothing stands at
            raise FileError(Problem(self.label, f"cannot be loaded: {describe_error(error)}", AGAIN)) from error
        except Exception as error:  # operations that this TensorFlow does not have, memory
            raise CannotRunError(f"TensorFlow cannot load {path}: {describe_error(error)}") from error
        try:
            self._serve = self._loaded.signatures["serving_default"]
        except Exception as error:
            raise CannotRunError(f"TensorFlow cannot serve {path}: {describe_error(error)}") from error

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The signature's arguments."""
        found = self._serve.structured_input_signature[1]
        return tuple(InputSpec(n, tuple(s.shape), s.dtype.name) for n, s in found.items())

    def run(self, data: Sequence[NDArray[Any]]) -> Trace:
        """Call the signature."""
        import tensorflow as tf

        outputs = self._serve(**{s.name: tf.constant(a, s.dtype) for s, a in zip(self.inputs, data, strict=True)})
        return Trace({name: np.asarray(value) for name, value in outputs.items()})


def _check_operations(path: Path) -> None:
    """Refuse a graph with operations that reach beyond it: a model file must not read or write others.

    Raises:
        UnsafeError: there are such.
        FileError: the file is damaged.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    message = saved_model_pb2.SavedModel()
    try:
        message.ParseFromString((path / "saved_model.pb").read_bytes())
    except Exception as error:
        raise FileError(Problem(str(path), f"cannot be read: {describe_error(error)}", AGAIN)) from error
    for meta in message.meta_graphs:
        graph = meta.graph_def
        found = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
        refused = [node.op for node in found if node.op in _REACHING]
        refused += sorted(_operations_run(meta).intersection(_ON_FILES))
        # A model of TensorFlow 1 is restored by a node that the file names, whatever that does.
        restoring = [meta.saver_def.restore_op_name] if meta.saver_def.restore_op_name else []
        refused += sorted(_find_reached(graph, restoring, ()).intersection(_ON_FILES).difference(_RESTORING))
        refused += _fillers_from_elsewhere(meta)
        if refused:
            what = f"its graph has the operation {refused[0]}, which reaches beyond the model: it is not run"
            raise UnsafeError(Problem(str(path), what, ELSEWHERE))


def _fillers_from_elsewhere(meta: Any) -> list[str]:
    """Return the operations that fill a table from a file whose name stands in the graph and is none of an asset.

    Loading puts the places of assets in; any other name would be read where it leads.
    """
    graph = meta.graph_def
    assets = {_node_name(asset.tensor_info.name) for asset in _assets_of(meta)}
    bodies = {function.signature.name: function.node_def for function in graph.library.function}
    # Calls too: a function may be given the name that it fills a table from.
    filling = {name for name in bodies if _FILLING & _find_reached(graph, (), [name])}
    found = []
    for nodes in (graph.node, *bodies.values()):
        known = {node.name: node for node in nodes}
        for node in nodes:
            given = (
                node.input[1:2]
                if node.op in _FILLING
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
    return _find_reached(meta.graph_def, names, meta.object_graph_def.concrete_functions)


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


def load_keras(source: FileSource) -> Any:
    """Return the model of a `.keras` or legacy `.h5` file, loaded by Keras from classes of its own only.

    Raises:
        UnsafeError: the configuration names code.
        CannotRunError: Keras refuses the file.
    """
    if source.config is None:
        raise CannotRunError(f"{source.label} holds weights without a model")
    check_config(source.config, source.label)
    written_by = version_of(source.details.get("keras_version"))
    if (written_by is None or written_by < (3,)) and "hard_sigmoid" in str(source.config):
        raise CannotRunError(f"{source.label} has a hard_sigmoid of Keras 1 or 2, which Keras 3 computes otherwise")
    keras = import_keras()
    # Before it is loaded: Keras allocates what a configuration says.
    _check_size(keras, source)
    suffix = ".keras" if source.format == "keras" else ".h5"
    with tempfile.TemporaryDirectory() as folder:
        path = source.path.absolute()
        if path.suffix != suffix:  # Keras goes by the suffix
            path = Path(folder) / f"model{suffix}"
            # A link, because the file may be large.
            path.symlink_to(source.path.absolute())
        try:
            return keras.models.load_model(path, compile=False, safe_mode=True)
        except Exception as error:
            version = source.details.get("keras_version")
            by = f", which Keras {version} wrote" if version else ""
            raise CannotRunError(f"Keras cannot load {source.label}{by}: {describe_error(error)}") from error


def _check_size(keras: Any, source: FileSource) -> None:
    """Refuse a configuration that declares far more weights than lie in its file, before they are allocated.

    Stored in a narrower dtype than they are built in, weights take up to four times as many bytes in memory.

    Raises:
        UnsafeError: it does.
    """
    most = 4 * source.catalog.nbytes + _LITTLE
    try:
        check_declared(keras, lambda: keras.saving.deserialize_keras_object(dict(source.config or {})), most)
    except DeclaredTooMuchError:
        what = (
            f"its configuration declares more than {most:,} bytes of weights, and {source.catalog.nbytes:,} lie in it"
        )
        raise UnsafeError(Problem(source.label, f"{what}: the model is not built", ELSEWHERE)) from None


def check_config(config: Any, label: str) -> None:
    """Refuse a configuration that names Python code: Lambda layers, functions, classes outside of Keras.

    Classes that the user's own process has registered are the user's own.

    Raises:
        UnsafeError: it does.
    """
    import_keras()

    def registered(_: str, name: str) -> bool:
        from keras.saving import get_registered_object

        return get_registered_object(name) is not None

    try:
        check_classes(config, label, registered)
    except UnsafeError as error:
        problems = []
        for what, is_own in [(p.what.replace("copied", "loaded"), "--trust" in p.fix) for p in error.problems]:
            if is_own:
                # Where the user's own classes are registered, it is the user who vouches for them.
                fix = f"register the class in your own process (keras.saving), or {ELSEWHERE}"
                problems.append(Problem(label, what, fix))
            else:  # code, and what no layer can be, is never loaded
                problems.append(Problem(label, what, ELSEWHERE))
        raise UnsafeError(problems) from error


def open_callable(build: Build, trusted: Collection[str]) -> CallableRunner:
    """Return the user's callable, under the rules of trust.

    Raises:
        RecipeError, UnsafeError: it is not there, or the recipe may not name it.
    """
    function = resolve(build.target, f"{build.where}._target_", trusted)
    return CallableRunner(function, build.target, values_of(build.arguments, trusted))


def check_runnable(source: Source, where: str) -> None:
    """Refuse a source that holds weights and no model, before anything is written.

    Raises:
        RecipeError: it does.
    """
    if not isinstance(source, FileSource) or source.format in ("saved_model", "onnx"):
        return
    if source.format not in ("keras", "h5") or source.config is None:
        what = f"{source.label} ({source.format}) holds weights without a model, so it cannot be run"
        raise RecipeError(Problem(where, what, ELSEWHERE))


@contextlib.contextmanager
def opened_reference(source: Source) -> Iterator[Runner]:
    """Yield what runs `source`.

    Raises:
        CannotRunError: it cannot be run here.
        UnsafeError: its file holds code.
        RecipeError: onnxruntime is not installed.
    """
    if not isinstance(source, FileSource):
        walked: Walked = source.walked  # type: ignore[attr-defined]
        yield KerasRunner(walked.layers[""], source.label, walked)
    elif source.format == "saved_model":
        yield SignatureRunner(source.path if source.path.is_dir() else source.path.parent)
    elif source.format == "onnx":
        from transferpipe.prove.parity.onnx_run import OnnxRunner

        yield OnnxRunner(source)
    else:
        yield KerasRunner(load_keras(source), source.label)
