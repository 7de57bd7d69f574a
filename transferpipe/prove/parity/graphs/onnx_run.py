"""Running an ONNX file through onnxruntime, with the outputs of the nodes that take its weights.

A message of protocol buffers may be continued: fields of a message inside that are appended later are merged with
those that are there (https://protobuf.dev/programming-guides/encoding/#last-one-wins). That is how further outputs are
asked for without the onnx package.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem
from transferpipe.files.protobuf import BYTES, Field, Read, read_fields
from transferpipe.packages import missing_package
from transferpipe.prove.parity.keras_trace import Call, InputSpec, Trace, describe_error
from transferpipe.prove.parity.quantization import LEVELS
from transferpipe.prove.parity.runner import AGAIN, CannotRunError
from transferpipe.weights.file_source import FileSource

_GRAPH, _NODE, _OUTPUT, _VALUE_NAME = 7, 1, 12, 1  # ModelProto, GraphProto, ValueInfoProto
# NodeProto of onnx.proto, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATION = 1, 2, 4
_INITIALIZER, _TENSOR_NAME = 5, 8  # GraphProto, TensorProto
# Operators that round what goes into them; those that only bring integers back to floats do not.
_ROUNDING = re.compile("(Dynamic)?Quantize|QLinear|QGemm|QAttention|.*Integer")
# What onnxruntime may say of files that are whole: an operator of a domain that it does not know, a later release of
# ONNX, no kernel for these dtypes, no memory. All else is an invalid graph: ONNX's own operators are those of the
# release that the file names.
_NOT_HERE = re.compile(
    "is not a registered function/op|ValidateOpsetForDomain|Unsupported model IR version|NOT_IMPLEMENTED|EP_FAIL"
    "|bad_alloc|[Ff]ailed to allocate"
)
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    "tensor(string)": "string",
}


class OnnxRunner:
    """An ONNX file that onnxruntime runs."""

    framework = "onnx"

    def __init__(self, source: FileSource) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise missing_package(source.label, "running an ONNX file", "onnxruntime", error=error) from error

        self.label = source.label
        data = source.path.read_bytes()
        self._by_layer = _outputs_by_layer(data, source)
        self._own = _graph_outputs(data)
        self._operators = {name for _, _, names in _nodes(data) for name in names}
        self._rounds_activations = _rounds_activations(data)
        options = onnxruntime.SessionOptions()
        # Fatal errors only: what else it would print of a refusal is in the exception.
        options.log_severity_level = 4
        # A model that is given as bytes does not tell onnxruntime where its external data lie.
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(source.path.absolute().parent)
        )
        refusal: Exception | None = None
        # An output that the runtime cannot give, such as one of unknown type, must not keep the others from being run.
        for wanted in (sorted(set(self._by_layer.values()) - set(self._own)), []):
            try:
                # Without the fallback, which tries the same provider once more and prints that it does.
                self._session = onnxruntime.InferenceSession(
                    data + _more_outputs(wanted), options, providers=["CPUExecutionProvider"], enable_fallback=0
                )
                given = set(self._own) | set(wanted)
                self._by_layer = {layer: value for layer, value in self._by_layer.items() if value in given}
                return
            except Exception as raised:
                refusal = raised
        assert refusal is not None
        if isinstance(refusal, MemoryError) or _NOT_HERE.search(str(refusal)):
            raise CannotRunError(f"onnxruntime cannot run {self.label}: {describe_error(refusal)}") from refusal
        what = f"cannot be loaded by onnxruntime: {describe_error(refusal)}"
        raise FileError(Problem(self.label, what, AGAIN)) from refusal

    @property
    def rounds_activations(self) -> bool:
        """Whether the graph rounds what flows through it to integers, and not its weights alone."""
        return self._rounds_activations

    @property
    def weight_steps(self) -> int:
        """How many steps lie between zero and the largest of its weights; 0 where they are floats."""
        if "MatMulNBits" in self._operators:
            return LEVELS["int4"]
        # Dynamic quantization leaves one of eight bits unused where the processor would overflow.
        return LEVELS["int8"] // 2 if self.rounds_activations or "DequantizeLinear" in self._operators else 0

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The graph's inputs."""
        found = []
        for i in self._session.get_inputs():
            shape = tuple(n if isinstance(n, int) else None for n in i.shape)
            dtype = _DTYPES.get(i.type, i.type.removeprefix("tensor(").removesuffix(")"))
            found.append(InputSpec(i.name, (None, *shape[1:]) if shape else shape, dtype))
        return tuple(found)

    @property
    def layers(self) -> Mapping[str, Any]:
        """The names under which the outputs of nodes are found."""
        return dict.fromkeys(self._by_layer)

    def run(self, data: Sequence[NDArray[Any]]) -> Trace:
        """Run the graph; one that was exported for a fixed number of samples on so many at a time.

        Raises:
            CannotRunError: it was, and an output has no entry for each sample.
        """
        feed = {spec.name: array for spec, array in zip(self.inputs, data, strict=True)}
        names = [*dict.fromkeys([*self._own, *self._by_layer.values()])]
        runs = [self._session.run(names, part) for part in self._parts(feed)]
        count = max((len(array) for array in feed.values() if array.ndim), default=0)
        values = {name: _join_runs([run[i] for run in runs], count) for i, name in enumerate(names)}
        for name in self._own:
            if values[name] is None:
                what = f"its output {name!r} has no entry for each sample, and it takes a fixed number of samples"
                raise CannotRunError(f"{self.label} cannot be run on these inputs: {what}")
        layers = {layer: values[tensor] for layer, tensor in self._by_layer.items()}
        calls = [Call(layer, 1, None, (), {}, value) for layer, value in layers.items() if value is not None]
        return Trace({name: value for name in self._own if (value := values[name]) is not None}, tuple(calls))

    def _parts(self, feed: Mapping[str, NDArray[Any]]) -> list[Mapping[str, NDArray[Any]]]:
        """Return the inputs in parts of as many samples as the graph takes: torch exports for one by default."""
        sizes = {i.shape[0] for i in self._session.get_inputs() if i.shape and isinstance(i.shape[0], int)}
        counts = {len(array) for array in feed.values() if array.ndim}
        if len(sizes) != 1 or len(counts) != 1 or sizes == counts or min(*sizes, *counts) < 1:
            return [feed]
        (size,), (count,) = sizes, counts
        # The last sample fills up the last part; what is computed of it once more is cut off again.
        order = [*range(count), *[count - 1] * (-count % size)]
        return [
            {name: array[order[k : k + size]] if array.ndim else array for name, array in feed.items()}
            for k in range(0, len(order), size)
        ]


def _join_runs(parts: Sequence[Any], count: int) -> NDArray[Any] | None:
    """Return one value of several runs as one; None where it has no entry for each sample."""
    arrays = [np.asarray(part) for part in parts]
    if len(arrays) == 1:
        return arrays[0]
    if any(not array.ndim for array in arrays) or not count <= sum(map(len, arrays)) < count + len(arrays[0]):
        return None
    return np.concatenate(arrays)[:count]


def _outputs_by_layer(data: bytes, source: FileSource) -> dict[str, str]:
    """Return, for every layer of the names, the output of the last node that takes a weight of it and a value."""
    layers = {w.where: w.layer for w in source.catalog if w.layer}
    made_of: dict[str, set[str]] = {name: {layer} for name, layer in layers.items()}
    found: dict[str, str] = {}
    for inputs, outputs, _ in _nodes(data):
        constant = [made_of[i] for i in inputs if i in made_of]
        if not constant or not outputs:
            continue
        if len(constant) == len([i for i in inputs if i]):  # a weight that is only transposed, cast or dequantised
            for output in outputs:
                made_of[output] = set().union(*constant)
            continue
        for layer in set().union(*constant):
            found.pop(layer, None)  # behind what is found so far: the order is the network's
            found[layer] = outputs[0]
    return found


def _rounds_activations(data: bytes) -> bool:
    """Tell whether a node rounds something that is not made of the file's tensors alone."""
    stored = {
        data[f.begin : f.end].decode("utf-8", "replace")
        for tensor in _messages(data, _INITIALIZER)
        for f in read_fields(_reader(data), tensor.begin, tensor.end)
        if f.number == _TENSOR_NAME
    }
    for inputs, outputs, names in _nodes(data):
        if stored.issuperset(filter(None, inputs)):
            stored.update(outputs)
        elif any(map(_ROUNDING.match, names)):
            return True
    return False


def _graph_outputs(data: bytes) -> list[str]:
    """Return the names of the graph's own outputs."""
    found = []
    for message in _messages(data, _OUTPUT):
        parts = read_fields(_reader(data), message.begin, message.end)
        found += [data[f.begin : f.end].decode("utf-8", "replace") for f in parts if f.number == _VALUE_NAME]
    return found


def _messages(data: bytes, number: int) -> Iterator[Field]:
    """Yield the fields of the graph that have this number."""
    for field in read_fields(_reader(data), 0, len(data)):
        if field.number == _GRAPH and field.kind == BYTES:
            inner = read_fields(_reader(data), field.begin, field.end)
            yield from (f for f in inner if f.number == number and f.kind == BYTES)


def _reader(data: bytes) -> Read:
    return lambda begin, size: data[begin : begin + size]


def _nodes(data: bytes) -> Iterator[tuple[list[str], list[str], list[str]]]:
    """Yield the names of every node's inputs and outputs, and its operator."""
    for node in _messages(data, _NODE):
        parts = list(read_fields(_reader(data), node.begin, node.end))
        names = {
            kind: [data[f.begin : f.end].decode("utf-8", "replace") for f in parts if f.number == kind]
            for kind in (_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATION)
        }
        yield names[_NODE_INPUT], names[_NODE_OUTPUT], names[_NODE_OPERATION]


def _more_outputs(names: Sequence[str]) -> bytes:
    """Return what, behind a model, makes further values its outputs."""
    if not names:
        return b""
    return _field(_GRAPH, b"".join(_field(_OUTPUT, _field(_VALUE_NAME, name.encode())) for name in names))


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | BYTES) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])
