"""What the names in a PyTorch checkpoint mean: the functions that make tensors of it, its storages, plain values.

How PyTorch writes them: ``torch/_utils.py`` (the ``_rebuild_*`` functions), ``torch/serialization.py`` (the ids),
https://docs.pytorch.org/docs/stable/notes/serialization.html
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from transferpipe.weights.formats.torch.limited import PickleError
from transferpipe.weights.formats.torch.tensors import READABLE, UNREADABLE, DType, Storage, StorageClass, TensorView
from transferpipe.weights.formats.torch.unpickle import Entries, Foreign, Function, Opaque, make_thing

_STORAGES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64",
    "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool",
    "ComplexFloat": "complex64", "ComplexDouble": "complex128", "Untyped": "",
    "QInt8": "qint8", "QUInt8": "quint8", "QInt32": "qint32", "QUInt4x2": "quint4x2", "QUInt2x4": "quint2x4",
}  # fmt: skip
# The limit of NumPy 2; older ones know 32, and no layer comes near.
_MOST_AXES = 64


def meaning_of(name: str) -> Any:
    """Return what the name of a Python object means in a checkpoint; None if it may not be in one."""
    if name in _FUNCTIONS:
        return Function(name, _FUNCTIONS[name])
    module, _, last = name.rpartition(".")
    if module == "torch" and last in READABLE | UNREADABLE:
        return DType(last)
    kind = last.removesuffix("Storage")
    if module in ("torch", "torch.cuda", "torch.storage") and kind != last and kind in _STORAGES:
        return StorageClass(DType(_STORAGES[kind]) if _STORAGES[kind] else None)
    if name in _OPAQUE or module == "typing":
        return Opaque(name)
    return Foreign(name) if _is_foreign(name) else None


def _is_foreign(name: str) -> bool:
    """Tell whether a name may be that of somebody's class, or of an activation that a module mentions.

    Not one of Python's own, by which a pickle could reach the system, nor of what loads further files.
    """
    top, *rest = name.split(".")
    if not rest or top in _OF_PYTHON or not all(part.isidentifier() for part in (top, *rest)):
        return False
    # Dunder names lead from any class to the interpreter; TorchScript mangles the names of its own with three.
    if any(part.startswith("__") for part in rest if not part.startswith("___torch_mangle_")):
        return False
    functions = name.startswith(("torch.nn.functional.", "torch._C._nn."))
    return functions or top not in _LOADERS or Foreign(name).is_class


def storage_of(saved: Any) -> Any:
    """Return the storage that a persistent id describes.

    An id is ``("storage", class, key, device, count)``; in files without zip a sixth item is None or says which part of
    it this is: ``(key of the part, first element, count)``.
    """
    if isinstance(saved, tuple) and len(saved) == 4 and saved[0] == "module" and isinstance(saved[1], Opaque):
        return saved[1]
    if not (isinstance(saved, tuple) and 5 <= len(saved) <= 6 and saved[0] == "storage"):
        raise PickleError("has a persistent id that describes no storage")
    _, kind, key, _, count, *view = saved
    if not isinstance(kind, StorageClass) or not isinstance(key, str):
        raise PickleError("has a storage without a class or a key")
    whole = Storage(key, kind.dtype, _size(count), _size(count))
    if not view or view[0] is None:
        return whole
    if not isinstance(view[0], tuple) or len(view[0]) != 3:
        raise PickleError("has a storage that is an unknown part of another")
    begin, part = _size(view[0][1]), _size(view[0][2])
    if begin + part > whole.count:
        raise PickleError(f"has a part that reaches element {begin + part:,} of a storage of {whole.count:,}")
    return replace(whole, begin=begin, count=part)


def _size(value: Any) -> int:
    if type(value) is int and 0 <= value < 1 << 62:
        return value
    raise PickleError("has something where a size belongs")


def _sizes(value: Any) -> tuple[int, ...]:
    if not isinstance(value, tuple | list) or len(value) > _MOST_AXES:
        raise PickleError(f"has a tensor without a shape, or with more than {_MOST_AXES} axes")
    return tuple(_size(n) for n in value)


def _arguments(given: tuple[Any, ...], least: int, most: int, name: str) -> None:
    if not least <= len(given) <= most:
        raise PickleError(f"calls {name} with {len(given)} arguments")


def _tensor(given: tuple[Any, ...]) -> TensorView:
    _arguments(given, 4, 4, "_rebuild_tensor")
    storage, offset, shape, strides = given
    if not isinstance(storage, Storage):
        raise PickleError("has a tensor without a storage")
    shape, strides = _sizes(shape), _sizes(strides)
    if len(shape) != len(strides):
        raise PickleError(f"has a tensor with {len(shape)} axes and {len(strides)} strides")
    return TensorView(storage, storage.dtype or DType("uint8"), _size(offset), shape, strides)


def _with_metadata(tensor: TensorView, metadata: Any) -> TensorView:
    if isinstance(metadata, Entries) and any(value is not False for _, value in metadata.pairs):
        fix = "save what its resolve_conj().resolve_neg() gives"
        return replace(tensor, refused=f"is marked as to be conjugated or negated when it is used: {fix}")
    return tensor


def _tensor_v2(given: tuple[Any, ...]) -> TensorView:
    _arguments(given, 6, 7, "_rebuild_tensor_v2")
    return _with_metadata(_tensor(given[:4]), given[6] if len(given) > 6 else None)


def _tensor_v3(given: tuple[Any, ...]) -> TensorView:
    _arguments(given, 7, 8, "_rebuild_tensor_v3")
    if not isinstance(given[6], DType):
        raise PickleError("has a tensor without a dtype")
    tensor = replace(_tensor(given[:4]), dtype=given[6])
    return _with_metadata(tensor, given[7] if len(given) > 7 else None)


def _first(given: tuple[Any, ...]) -> Any:
    """Return the data of a parameter."""
    _arguments(given, 3, 4, "_rebuild_parameter")
    return given[0]


def _of_type(given: tuple[Any, ...]) -> Any:
    """Return the tensor that had further attributes."""
    _arguments(given, 4, 4, "_rebuild_from_type_v2")
    function, kind, arguments, _ = given
    known = isinstance(kind, Foreign) or (isinstance(kind, Opaque) and kind.name in _PLAIN_TENSORS)
    if not known or not isinstance(function, Function) or not isinstance(arguments, tuple):
        raise PickleError("has a tensor of an unknown class")
    if function.name not in _REBUILD:
        raise PickleError(f"makes a tensor by {function.name}")
    made = function.call(arguments)
    if isinstance(kind, Foreign) and isinstance(made, TensorView) and not made.refused:
        return replace(made, refused=f"is of the class {kind.name:.120}: save it as a plain tensor")
    return made


def _integers(given: tuple[Any, ...]) -> Any:
    """Return what TorchScript keeps as a list of one type, or a value whose type it notes."""
    return given[0] if given else []


def _collection(given: tuple[Any, ...]) -> list[Any]:
    return list(given[0]) if given and isinstance(given[0], list | tuple) else []


def _rebuild(given: tuple[Any, ...]) -> Any:
    """Return an object as protocols 0 and 1 make it: of a class, its base, and the value of that."""
    kind, *rest = given or (None,)
    return make_thing(kind, tuple(rest[1:])) if isinstance(kind, Foreign) else Opaque("copyreg._reconstructor")


def _unreadable(what: str) -> Callable[[tuple[Any, ...]], TensorView]:
    nothing = TensorView(Storage("", None, 0, 0), DType("uint8"), 0, (), (), what)
    return lambda _: nothing


def _mapping(given: tuple[Any, ...]) -> Entries:
    """Return a mapping, with what it is made of if that is a mapping or a list of pairs."""
    _arguments(given, 0, 1, "a mapping")
    entries = Entries()
    for value in given:
        if isinstance(value, Entries):
            entries.pairs.extend(value.pairs)
        elif isinstance(value, list) and all(isinstance(v, list | tuple) and len(v) == 2 for v in value):
            entries.pairs.extend((v[0], v[1]) for v in value)
        elif value is not None:
            raise PickleError(f"makes a mapping of a {type(value).__name__}")
    return entries


def _shape(given: tuple[Any, ...]) -> Any:
    return given[0] if len(given) == 1 and isinstance(given[0], tuple | list) else given


_PLAIN_TENSORS = ("torch.Tensor", "torch._tensor.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")
_REBUILD: Mapping[str, Callable[[tuple[Any, ...]], Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._utils._rebuild_qtensor": _unreadable("is quantised: save what its dequantize() gives"),
    "torch._utils._rebuild_sparse_tensor": _unreadable("is sparse: save what its to_dense() gives"),
    "torch._utils._rebuild_sparse_csr_tensor": _unreadable("is sparse: save what its to_dense() gives"),
    "torch._utils._rebuild_nested_tensor": _unreadable("is a nested tensor: save its parts"),
    "torch._utils._rebuild_wrapper_subclass": _unreadable("is of a class of its own: save it as a plain tensor"),
    **dict.fromkeys(
        (
            "torch._utils._rebuild_device_tensor_from_numpy",
            "torch._utils._rebuild_device_tensor_from_cpu_tensor",
            "torch._utils._rebuild_xla_tensor",
        ),
        _unreadable("lies on a device of its own kind: save what its cpu() gives"),
    ),
    "torch._utils._rebuild_meta_tensor_no_storage": _unreadable(
        "is a meta tensor, which has no values: load the model's weights, and save it then"
    ),
}
_MAPPINGS = (
    "collections.OrderedDict", "collections.Counter", "builtins.dict", "__builtin__.dict",
    "pytorch_lightning.utilities.parsing.AttributeDict", "lightning.pytorch.utilities.parsing.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict", "lightning.fabric.utilities.data.AttributeDict",
)  # fmt: skip
_FUNCTIONS: Mapping[str, Callable[[tuple[Any, ...]], Any]] = {
    **_REBUILD,
    **dict.fromkeys(_MAPPINGS, _mapping),
    "collections.defaultdict": lambda given: _mapping(given[1:]),
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "torch.Size": _shape,
    **dict.fromkeys(("builtins.set", "builtins.frozenset", "__builtin__.set", "__builtin__.frozenset"), _collection),
    **dict.fromkeys(("copyreg._reconstructor", "copy_reg._reconstructor"), _rebuild),
    **dict.fromkeys(
        tuple(
            f"torch.jit._pickle.{name}"
            for name in ("build_intlist", "build_tensorlist", "build_doublelist", "build_boollist", "restore_type_tag")
        ),
        _integers,
    ),
}
# Python's own modules, of both of its major versions; `torch` and `numpy` have functions that open files and addresses.
_OF_PYTHON = sys.stdlib_module_names | frozenset(
    ["__builtin__", "copy_reg", "cPickle", "commands", "nt", "urllib2", "exceptions"]
)
_LOADERS = frozenset({"torch", "numpy", "joblib", "cloudpickle", "dill", "pandas", "tensorflow", "keras"})


def _names(module: str, names: str) -> tuple[str, ...]:
    return tuple(f"{module}.{name}" for name in names.split())


# Plain values that lie beside the weights of a training run. They stay closed: not even their content is looked at.
_OPAQUE = frozenset(
    (
        *_PLAIN_TENSORS,
        *_names("builtins", "list tuple int float str bool bytes bytearray complex slice range object Ellipsis"),
        *_names(
            "__builtin__",
            "list tuple int long float str bytes unicode bool bytearray complex slice xrange object Ellipsis",
        ),
        *_names("argparse", "Namespace"),
        *_names("types", "SimpleNamespace"),
        *_names("types", "GenericAlias NoneType"),
        *_names("functools", "partial"),
        *_names("operator", "getitem"),
        *_names("re", "_compile"),
        *_names("fractions", "Fraction"),
        *_names("itertools", "count"),
        *_names("random", "Random"),
        *_names("logging", "getLogger"),
        *_names("collections", "deque"),
        *_names("datetime", "date datetime time timedelta timezone"),
        *_names("decimal", "Decimal"),
        *_names("uuid", "UUID"),
        *_names("pathlib", "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath"),
        *_names("pathlib._local", "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath"),
        *_names("_codecs", "encode"),
        *_names("copyreg", "__newobj__"),
        *_names("numpy.random._pickle", "__randomstate_ctor __generator_ctor __bit_generator_ctor"),
        *_names("numpy.random.bit_generator", "SeedSequence __pyx_unpickle_SeedSequence"),
        *_names("numpy.random", "_mt19937.MT19937 _pcg64.PCG64 _pcg64.PCG64DXSM _philox.Philox _sfc64.SFC64"),
        *_names("torch", "device strided contiguous_format channels_last preserve_format per_tensor_affine"),
        *_names("torch", "per_channel_affine per_tensor_symmetric per_channel_symmetric sparse_coo sparse_csr"),
        *_names("torch", "per_channel_affine_float_qparams sparse_csc sparse_bsr sparse_bsc"),
        *_names("torch.serialization", "_get_layout"),
        *_names("torch.torch_version", "TorchVersion"),
        *_names("numpy", "ndarray dtype float64 float32 float16 int64 int32 int16 int8 uint8 bool_ bool"),
        *_names("numpy.core.multiarray", "scalar _reconstruct"),
        *_names("numpy._core.multiarray", "scalar _reconstruct"),
        *_names("numpy._core.numeric", "_frombuffer"),
        *_names("numpy.core.numeric", "_frombuffer"),
        *_names("omegaconf.dictconfig", "DictConfig"),
        *_names("omegaconf.listconfig", "ListConfig"),
        *_names("omegaconf.base", "ContainerMetadata Metadata"),
        *_names("omegaconf.nodes", "AnyNode StringNode IntegerNode FloatNode BooleanNode BytesNode PathNode"),
    )
)
