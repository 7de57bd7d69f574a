"""Whatever a pickle says, a checkpoint opens or is refused; and what Python's pickles of plain data say is understood."""

import pickle
import pickletools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_files import code, storage, tensor, write_legacy, write_zip

from transferpipe.errors import TransferError
from transferpipe.weights.formats import open_source
from transferpipe.weights.formats.torch.limited import Limited
from transferpipe.weights.formats.torch.objects import meaning_of, storage_of
from transferpipe.weights.formats.torch.unpickle import Entries, Machine, read_pickle

BASE = np.arange(24, dtype="float32")
NAMES = ("collections\nOrderedDict", "torch._utils\n_rebuild_tensor_v2", "torch\nFloatStorage", "torch\nSize", "torch\nfloat32",
         "builtins\nset", "collections\ndefaultdict", "torch._tensor\n_rebuild_from_type_v2", "torch\nTensor", "os\nsystem")  # fmt: skip
ARGUMENTS = {
    "uint1": st.binary(min_size=1, max_size=1), "uint2": st.binary(min_size=2, max_size=2), "int4": st.binary(min_size=4, max_size=4),
    "decimalnl_short": st.sampled_from([b"0\n", b"1\n", b"01\n", b"-7\n"]),
}  # fmt: skip


def opcodes():
    """Return a strategy for opcodes with arguments that are mostly right."""
    known = [
        st.sampled_from([f"c{name}\n".encode() for name in NAMES]),
        st.just(code(tensor(storage("0", "float32", 24), (24,)))),
    ]
    known.append(st.sampled_from([code(v) for v in ("a", 1, 24, (1,), {}, [], 1.5, None, ("storage", 1), "storage")]))
    known.append(
        st.sampled_from([b"q\x00", b"q\x01", b"h\x00", b"h\x01", b"\x94", b"(", b"(", b")", b"]", b"}", b"R", b"t"])
    )
    for opcode in pickletools.opcodes:
        letter = opcode.code.encode("latin-1")
        if opcode.arg is None:
            known.append(st.just(letter))
        elif opcode.arg.name in ARGUMENTS:
            known.append(ARGUMENTS[opcode.arg.name].map(lambda a, letter=letter: letter + a))
    return st.one_of(known)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("any") / "x.pt"


@settings(max_examples=3 * settings().max_examples)
@given(
    st.lists(opcodes(), max_size=40).map(b"".join) | st.binary(max_size=60), st.sampled_from([write_zip, write_legacy])
)
def test_any_pickle_opens_or_is_refused(path, content, write):
    write(path, b"\x80\x02" + content + b".", {"0": BASE.tobytes()})
    try:
        source = open_source(path, "torch")
        for weight in source.catalog:
            source.read(weight.name)
            source.locate(weight.name)
    except TransferError:
        pass


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


def as_python(value):
    if isinstance(value, Entries):
        return {k: as_python(v) for k, v in value.pairs}
    return type(value)(as_python(v) for v in value) if isinstance(value, list | tuple) else value


@settings(deadline=None)
@given(PLAIN, st.integers(0, 5), st.binary(max_size=9))
def test_plain_data_is_what_python_reads(path, value, protocol, behind):
    path.write_bytes(pickle.dumps(value, protocol) + behind)
    machine = Machine(meaning_of, storage_of)
    with path.open("rb") as file:
        stream = Limited(file, path.stat().st_size)
        found = read_pickle(stream, machine)
        assert stream.tell() == path.stat().st_size - len(behind)
    assert not machine.refused
    if "Opaque" not in str(as_python(found)):  # which older protocols make of bytes
        assert as_python(found) == value
