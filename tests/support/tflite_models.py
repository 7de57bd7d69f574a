"""TensorFlow Lite models made with the classes that are generated from its schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

TYPES = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int64": 4, "bool": 6, "int16": 7, "complex64": 8, "int8": 9,
         "float64": 10, "uint64": 12, "uint32": 15, "uint16": 16, "bfloat16": 18}  # fmt: skip
Operator = tuple[int, Sequence[int], Sequence[int]]


@cache
def _schema() -> ModuleType:
    """Return the module of generated classes, which needs nothing else of TensorFlow, without importing that."""
    found = find_spec("tensorflow")
    assert found is not None
    assert found.submodule_search_locations
    path = Path(found.submodule_search_locations[0]) / "lite" / "python" / "schema_py_generated.py"
    spec = spec_from_file_location("schema_py_generated", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_tflite(
    path: Path, tensors: Mapping[str, Any], operators: Sequence[Operator] = (), change: Any = None
) -> Path:
    """Write a model.

    Args:
        path: the file.
        tensors: values by name; None for one that is computed. A tuple has scales, zero points and axis behind them.
        operators: the number of each, and the places in `tensors` of what it takes and gives.
        change: changes the model before it is written.
    """
    import flatbuffers

    schema = _schema()
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [graph], [schema.BufferT()], []
    graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [], []
    for name, given in tensors.items():
        tensor = schema.TensorT()
        tensor.name, tensor.shape = name, [1]
        value, *packing = given if isinstance(given, tuple) else (given,)
        if value is not None:
            value = np.asarray(value)
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(value.tobytes(), np.uint8)
            tensor.shape, tensor.type, tensor.buffer = list(value.shape), TYPES[value.dtype.name], len(model.buffers)
            model.buffers.append(buffer)
        if packing:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = np.float32(packing[0]), np.int64(packing[1])
            tensor.quantization.quantizedDimension = packing[2]
        graph.tensors.append(tensor)
    for number, takes, gives in operators:
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode, code.deprecatedBuiltinCode = number, min(number, 127)
        operator.opcodeIndex, operator.inputs, operator.outputs = len(model.operatorCodes), list(takes), list(gives)
        model.operatorCodes.append(code)
        graph.operators.append(operator)
    if change:
        change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(builder.Output())
    return path
