"""Which classes, functions and sizes the configuration of a stranger's model may name before it is copied or built.

A configuration is data until Keras reads it: then a class is looked up in the module that the configuration names, a
Lambda is Python bytecode, and a vocabulary given as a path is opened
(https://keras.io/api/models/model_saving_apis/model_saving_and_loading/, `safe_mode`). So what stands in a
configuration that goes on into a file of ours is decided here, by what is allowed.
"""

from __future__ import annotations

import builtins
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from transferpipe.errors import Problem, UnsafeError

_OWN_CODE = "build the model in code of your own, and name that: target: {_target_: my_models.build}"
# Where Keras keeps its classes, in all its packages: keras.layers, keras.src.engine, tf_keras.src.layers, ...
_KERAS = re.compile(r"(?:tf_keras|keras|tensorflow\.keras|tensorflow\.python\.keras)(?:\.(?:src|api|_tf_keras|keras))*")
_HUBS = ("keras_hub", "keras_nlp", "keras_cv")
_ROOMS = frozenset(
    """
    layers models engine initializers regularizers constraints activations optimizers losses metrics dtype_policies
    quantizers ops random mixed_precision distillation legacy
    """.split()  # noqa: SIM905 -- easier to compare with Keras than quoted names
)
# Of keras itself and keras.utils, whose other members download, load and unpack files.
_SINGLE = frozenset(
    """
    Model Sequential Functional Layer Function Variable KerasTensor InputSpec DTypePolicy FloatDTypePolicy Policy
    FeatureSpace SeedGenerator Initializer Loss Metric Optimizer Regularizer Quantizer Operation
    """.split()  # noqa: SIM905 -- easier to compare with Keras than quoted names
)
# Layers that the models of keras.applications have of their own, and that Keras loads from where they lie.
_OF_APPLICATIONS = frozenset(("CustomScaleLayer", "LayerScale", "StochasticDepth"))
_FUNCTION_ROOMS = frozenset(
    """
    activations losses metrics initializers regularizers constraints ops
    """.split()  # noqa: SIM905 -- easier to compare with Keras than quoted names
)
# Where TensorFlow has initializers of its own, which EfficientNetV2 of tf.keras is built with.
_INITIALIZERS = re.compile(r"tensorflow\.python\.ops\.init_ops(?:_v2)?")
_OF_TENSORFLOW = frozenset(
    """
    Zeros Ones Constant RandomUniform RandomNormal TruncatedNormal VarianceScaling Orthogonal Identity GlorotUniform
    GlorotNormal
    """.split()  # noqa: SIM905 -- easier to compare with TensorFlow than quoted names
)
# Classes of Keras that hold code, or read what their configuration names.
_REFUSED = {
    "Lambda": "a Lambda, which is code",
    "__lambda__": "a lambda function, which is code",
    "TFSMLayer": "a TFSMLayer, which runs the program in another folder",
    "TorchModuleWrapper": "a TorchModuleWrapper, which is a pickle",
}
# What layers and tokenizers take as the path of a file as well as in full; what they save holds no path.
_READ = frozenset(("vocabulary", "vocabulary_file", "merges", "proto"))
_CLASS = re.compile(r"_{0,2}[A-Z]\w*")
# What Keras writes for plain values: https://github.com/keras-team/keras, serialization_lib.py.
_VALUES = frozenset(
    """
    __tuple__ __tensor__ __numpy__ __bytes__ __slice__ __ellipsis__ __keras_tensor__ __complex__ __dict__
    """.split()  # noqa: SIM905 -- easier to compare with Keras than quoted names
)
# The functions of TensorFlow that tf.keras wrote down as layers; its others read, write and run.
_OPERATIONS = re.compile(
    r"(?:math|nn|image|linalg|__operators__|keras\.activations|keras\.backend)(?:\.\w+)+|"
    r"(?:compat\.v1\.)?(?:add|subtract|multiply|divide|concat|concatenate|stack|unstack|split|reshape|transpose|cast|"
    r"shape|slice|strided_slice|tile|pad|squeeze|expand_dims|identity|reduce_\w+|broadcast_to|gather|gather_nd|where|"
    r"matmul|einsum|range|fill|zeros|ones|zeros_like|ones_like|clip_by_value|clip_by_norm|stop_gradient|sqrt|square|"
    r"abs|exp|sigmoid|tanh|maximum|minimum|pow|one_hot|reverse|roll|sign|round|floor|argmax|argmin|norm|"
    r"convert_to_tensor|tensordot|eye|repeat|meshgrid|boolean_mask|floor_div|equal|not_equal|greater|less|logical_\w+)"
)
# Settings that say how large something is. The first kind cannot be larger than the weights of its own layer.
_WIDTHS = frozenset(("units", "filters", "input_dim", "output_dim"))
_SIZES = _WIDTHS | frozenset(
    """
    depth_multiplier num_heads key_dim value_dim kernel_size pool_size strides dilation_rate n num_bins max_tokens
    output_sequence_length height width size padding cropping target_shape batch_shape batch_input_shape shape
    input_shape num_query_heads num_key_value_heads rank sequence_length head_dim num_tokens hidden_dim intermediate_dim
    vocabulary_size max_sequence_length
    """.split()  # noqa: SIM905 -- easier to compare with Keras than quoted names
)
# What an attention has an axis each for, so that its weights have as many values as their product.
_HEADS = (("num_heads", "num_query_heads"), ("key_dim", "value_dim", "head_dim"))
_OF_HEADS = frozenset(itertools.chain(*_HEADS))
# What holds nothing further; most of a configuration is such, and asking whether it is a Mapping takes long.
_PLAIN = (str, int, float, type(None))
# A tensor of so many values a sample has 400 MB: no layer of a real model is so wide.
_MOST = 10**8
# Of int4 weights two lie in a byte; a factor of four leaves room for other ways of packing.
_PACKED = 4

Vouched = Callable[[str, str], bool]
"""Whether the user vouches for the class of this module, registered under this name."""


def check_classes(config: Any, label: str, vouched: Vouched, values: int | None = None) -> None:
    """Refuse a configuration that names code, another's classes or impossible sizes.

    Args:
        config: a serialised Keras object, or plain data with such in it.
        label: what messages call it.
        vouched: tells what is allowed beside Keras's own.
        values: how many values the weights of its file hold; None where it has no weights.

    Raises:
        UnsafeError: it does.
    """
    for inner, layer in mappings_in(config):
        where = f"{label}: layer {layer[:200]!r}" if layer else label
        name, module = inner.get("class_name"), inner.get("module")
        if isinstance(name, str):
            _check_class(name, inner, where, vouched)
        elif isinstance(module, str) and "config" in inner:
            raise UnsafeError(Problem(where, f"its configuration names no class of {module!r}", _OWN_CODE))
        for key in _READ & inner.keys():
            if isinstance(inner[key], str) and inner[key]:
                what = f"its configuration names the file {inner[key]!r} as a vocabulary, which Keras would read"
                raise UnsafeError(Problem(where, what, "save the model again"))
        _check_sizes(inner, where, values)


def mappings_in(config: Any) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield every mapping with the name of the innermost layer that it is, or is of; empty for the model itself."""
    # A stack of its own: a configuration may be nested deeper than Python's calls go.
    waiting = [(config, "")]
    while waiting:
        here, layer = waiting.pop()
        if isinstance(here, Mapping):
            inner = here.get("config") if here is not config else None
            name = inner.get("name") if isinstance(inner, Mapping) else None
            layer = name if isinstance(name, str) else layer
            yield here, layer
            waiting.extend([(value, layer) for value in here.values() if not isinstance(value, _PLAIN)])
        elif isinstance(here, list | tuple):
            waiting.extend([(value, layer) for value in here if not isinstance(value, _PLAIN)])


def _check_class(name: str, inner: Mapping[str, Any], where: str, vouched: Vouched) -> None:
    module, registered = _text(inner, "module"), _text(inner, "registered_name")
    for spelled in (name, registered):
        # Registered classes are called PACKAGE>NAME, and some versions write a class with its module: MODULE.NAME.
        short = spelled.rpartition(">")[2].rpartition(".")[2]
        # Before anything that the user vouches for: the code of these lies in the file, or in a folder that it
        # names, so that trusting a module says nothing of it.
        if short in _REFUSED:
            raise UnsafeError(Problem(where, f"its configuration holds {_REFUSED[short]}: it is not copied", _OWN_CODE))
    if name in ("TFOpLambda", "SlicingOpLambda"):
        return _check_operation(inner, where)
    if name in _VALUES or vouched(module, registered or name):
        return None
    called = str(inner.get("config" if name == "function" else "spec_name" if name == "__typespec__" else "class_name"))
    if name != "function" and _is_another(registered, module, called):
        named, module = registered, registered.rpartition(">")[0]
    elif _is_harmless(name, module, called):
        return None
    else:
        named = ".".join(filter(None, (module, called)))
    top = module.partition(".")[0]
    what = f"its configuration names {named[:200]!r}, which is not a class of Keras"
    if top in (*LIBRARIES, *_DANGEROUS) or not top.isidentifier():
        raise UnsafeError(Problem(where, f"{what}: it is not copied", _OWN_CODE))
    fix = f"if you trust it, allow it on the command line: --trust {top}"
    raise UnsafeError(Problem(where, f"{what}: it is not copied", fix))


def _is_another(registered: str, module: str, called: str) -> bool:
    """Tell whether Keras would first look for another class, among those that a process has registered."""
    package, _, short = registered.rpartition(">")
    foreign = bool(package and module) and package.partition(".")[0] not in LIBRARIES
    return bool(registered) and (foreign or short.rpartition(".")[2] != called.rpartition(">")[2].rpartition(".")[2])


def _is_harmless(name: str, module: str, called: str) -> bool:
    if name == "__typespec__":
        return module.partition(".")[0] in ("", "tensorflow") and called.isidentifier() and called.endswith("Spec")
    if not module:
        # Nothing is imported for it: Keras finds its own class, or one that the user's process has registered.
        return re.fullmatch(r"[\w>.]+", called) is not None
    if module == "builtins" and name == "function":  # Keras 2.13 writes this of every function, whatever its module
        # PACKAGE>NAME is a function that the user's process has registered: nothing is imported for it.
        is_registered = re.fullmatch(r"[\w.]+>\w+", called) is not None
        return is_registered or (called.isidentifier() and not hasattr(builtins, called))
    return _is_of_keras(module, called, name == "function")


def _text(inner: Mapping[str, Any], key: str) -> str:
    value = inner.get(key)
    return value if isinstance(value, str) else ""


LIBRARIES = ("keras", "tf_keras", "tensorflow", *_HUBS)
# No word on the command line should make these of a model's file: they are the interpreter's own.
_DANGEROUS = frozenset(("builtins", "os", "posix", "nt", "sys", "subprocess", "shutil", "importlib", "runpy", "pickle",
    "marshal", "ctypes", "socket", "pty", "code", "transferpipe", "webbrowser", "urllib", "http", "multiprocessing",
    "operator", "functools", "types", "inspect", "io", "pathlib", "tempfile", "shelve", "timeit", "pdb", "numpy",
    "torch", "jax"))  # fmt: skip


def _is_of_keras(module: str, name: str, function: bool) -> bool:
    top = module.partition(".")[0]
    if top in _HUBS:
        return _CLASS.fullmatch(name) is not None and not function
    if _INITIALIZERS.fullmatch(module):
        return name in _OF_TENSORFLOW and not function
    found = _KERAS.match(module)
    rest = module[found.end() :] if found else "?"
    if rest and not re.fullmatch(r"(\.\w+)+", rest):
        return False
    room = rest.removeprefix(".").partition(".")[0]
    if function:
        return room in _FUNCTION_ROOMS and name.isidentifier() and not name.startswith("_")
    if _CLASS.fullmatch(name) is None:
        return False
    if rest == f".backend.torch.optimizers.torch_{name.lower()}":  # so Keras on torch writes them
        return True
    return room in _ROOMS or name in _SINGLE or (room == "applications" and name in _OF_APPLICATIONS)


def _check_operation(inner: Mapping[str, Any], where: str) -> None:
    config = inner.get("config")
    function = config.get("function") if isinstance(config, Mapping) else None
    if inner.get("class_name") == "SlicingOpLambda" and function is None:
        return
    if not isinstance(function, str) or not _OPERATIONS.fullmatch(function.removeprefix("tf.")):
        what = f"its configuration calls TensorFlow's {str(function)[:200]!r}, which is not plain arithmetic"
        raise UnsafeError(Problem(where, f"{what}: it is not copied", _OWN_CODE))


def _check_sizes(inner: Mapping[str, Any], where: str, values: int | None) -> None:
    for key in _SIZES & inner.keys():
        size = _size(inner[key])
        most = _MOST if values is None or key not in _WIDTHS else _PACKED * values
        # A layer of few units has few weights, whatever else lies in the file.
        if size > max(most, 1024 if key in _WIDTHS else 0):
            of = f", and the file holds {values:,} values" if most != _MOST else ""
            what = f"its configuration declares {key}: {str(inner[key])[:80]}{of}"
            raise UnsafeError(Problem(where, f"{what}: no layer is so large", _OWN_CODE))
    if inner.keys().isdisjoint(_OF_HEADS):
        return
    for heads, width in itertools.product(*_HEADS):
        both = _size(inner.get(heads)) * _size(inner.get(width))
        if both > (_MOST if values is None else max(_PACKED * values, 1024)):
            of = "" if values is None else f", and the file holds {values:,} values"
            what = f"its configuration declares {heads}: {inner[heads]} of {width}: {inner[width]}{of}"
            raise UnsafeError(Problem(where, f"{what}: no layer is so large", _OWN_CODE))


def _size(value: Any) -> int:
    """Return how many values a setting stands for: itself, the product of a shape's axes, or the sum of several shapes.

    A layer that merges tensors has one shape for each of them.
    """
    if isinstance(value, bool):
        return 0
    if isinstance(value, int):
        return abs(value)
    if isinstance(value, float):
        # JSON as Python reads it knows NaN and Infinity, which no comparison with a bound would catch.
        return 1 << 62 if not math.isfinite(value) or abs(value) > 1 << 62 else int(abs(value))
    if isinstance(value, list | tuple):
        if not all(isinstance(item, _PLAIN) for item in value):
            return sum(max(1, _size(item)) for item in value)
        return math.prod(max(1, _size(item)) for item in value)
    if isinstance(value, Mapping):  # a tuple as Keras 3 writes it
        return _size(value.get("items", 0))
    return 0
