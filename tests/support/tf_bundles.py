"""Checkpoints made by hand, byte by byte, as TensorFlow writes them or as somebody would to do harm."""

from dataclasses import dataclass, field

import numpy as np

from transferpipe.weights.formats.tensorflow.bundle.crc32c import crc32c, mask
from transferpipe.weights.formats.tensorflow.bundle.entry import NUMBERS, slice_key
from transferpipe.weights.formats.tensorflow.bundle.sstable import MAGIC
from transferpipe.weights.formats.tensorflow.object_graph import GRAPH_KEY

CODES = {name: code for code, name in reversed(list(NUMBERS.items()))}
TAIL = "/.ATTRIBUTES/VARIABLE_VALUE"


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field_of(number, value):
    """Return one field: a number as a varint, bytes or a text with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def fixed32(number, value):
    return varint(number << 3 | 5) + value.to_bytes(4, "little")


def message(*fields):
    return b"".join(field_of(number, value) for number, value in fields)


def block(entries, share=True):
    """Return a block of a table, keys sharing their beginnings, one restart."""
    out, before = b"", b""
    for key, value in entries:
        shared = 0
        while share and shared < min(len(before), len(key)) and before[shared] == key[shared]:
            shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    return out + (0).to_bytes(4, "little") + (1).to_bytes(4, "little")


def sealed(content, kind=0):
    data = content + bytes([kind])
    return data + mask(crc32c(data)).to_bytes(4, "little")


def table(entries, *, per_block=3, kind=0, blocks=None):
    """Return a table of (key, value)."""
    out, handles = b"", []
    parts = [entries[i : i + per_block] for i in range(0, len(entries), per_block)]
    for part, content in zip(parts, blocks or [block(p) for p in parts], strict=True):
        handles.append((part[-1][0], varint(len(out)) + varint(len(content))))
        out += sealed(content, kind)
    meta = varint(len(out)) + varint(8)
    out += sealed(block([]))
    index = block(handles, share=False)
    footer = meta + varint(len(out)) + varint(len(index))
    return out + sealed(index) + footer.ljust(40, b"\0") + MAGIC


def shape_of(shape):
    return b"".join(field_of(2, field_of(1, size) if size else b"") for size in shape)


def entry_of(dtype, shape, offset=0, size=0, crc=None, shard=0, slices=()):
    """Return a BundleEntryProto."""
    extents = [
        b"".join(field_of(1, message((1, start), *([] if n is None else [(2, n)]))) for start, n in piece)
        for piece in slices
    ]
    return (
        message((1, dtype), (2, shape_of(shape)), (3, shard), (4, offset), (5, size))
        + (b"" if crc is None else fixed32(6, crc))
        + b"".join(field_of(7, e) for e in extents)
    )


def text_tensor(text):
    """Return the bytes of a tensor of one text, and their checksum."""
    text = text.encode() if isinstance(text, str) else text
    lengths = crc32c(len(text).to_bytes(4, "little"))
    sealed_lengths = mask(lengths).to_bytes(4, "little")
    return varint(len(text)) + sealed_lengths + text, mask(crc32c(sealed_lengths + text, lengths))


@dataclass
class Checkpoint:
    """A checkpoint on its way: entries of the index, and the bytes of its shards."""

    shards: list = field(default_factory=lambda: [b""])
    entries: dict = field(default_factory=dict)
    header: bytes = None

    def add(self, key, value, shard=0, **changed):
        """Append a tensor; `changed` are what its entry says instead of the truth."""
        if isinstance(value, np.ndarray):
            dtype, shape, data = CODES[value.dtype.name], value.shape, value.tobytes()
            crc = mask(crc32c(data))
        else:
            dtype, shape, (data, crc) = 7, (), text_tensor(value)
        said = {"dtype": dtype, "shape": shape, "offset": len(self.shards[shard]), "size": len(data), "shard": shard}
        self.shards[shard] += data
        self.entries[key if isinstance(key, bytes) else key.encode()] = entry_of(**{**said, "crc": crc, **changed})
        return self

    def cut(self, key, value, pieces):
        """Append a tensor in pieces, each (start, length or None) along every axis."""
        whole = entry_of(CODES[value.dtype.name], value.shape, slices=pieces)
        for piece in pieces:
            place = tuple(slice(s, None if n is None else s + n) for s, n in piece)
            self.add(slice_key(key, piece), np.ascontiguousarray(value[place]))
        self.entries[key.encode()] = whole
        return self

    def index(self, **options):
        header = self.header if self.header is not None else message((1, len(self.shards)), (3, field_of(1, 1)))
        return table([(b"", header), *sorted(self.entries.items())], **options)

    def write(self, prefix, **options):
        """Write all files and return the prefix."""
        prefix.parent.mkdir(parents=True, exist_ok=True)
        prefix.with_name(prefix.name + ".index").write_bytes(self.index(**options))
        for i, data in enumerate(self.shards):
            prefix.with_name(f"{prefix.name}.data-{i:05d}-of-{len(self.shards):05d}").write_bytes(data)
        return prefix


@dataclass
class Graph:
    """A graph of objects on its way: nested dicts are objects, arrays their variables."""

    nodes: list = field(default_factory=list)
    values: dict = field(default_factory=dict)
    known: dict = field(default_factory=dict)
    short: bool = False

    def node(self, thing, path=""):
        """Add `thing` and what it holds; return its number. The same object is one node wherever it is held."""
        if id(thing) in self.known:
            return self.known[id(thing)]
        number = self.known[id(thing)] = len(self.nodes)
        self.nodes.append(b"")
        if isinstance(thing, Variable):
            key = (f"v{number}" if self.short else path or "root") + TAIL
            self.values[key] = thing.value
            self.nodes[number] = field_of(2, message((1, "VARIABLE_VALUE"), (2, thing.name), (3, key)))
            return number
        held = {n: c for n, c in thing.items() if n != "slots"}
        children = [(self.node(c, f"{path}/{n}" if path else n), n) for n, c in held.items()]
        named = thing.get("slots", ())  # {(weight, name): variable}, or variables alone
        named = named if isinstance(named, dict) else {(None, "m", i): v for i, v in enumerate(named)}
        slots = [(*key[:2], self.node(v, f"{path}/.OPTIMIZER_SLOT/{i}")) for i, (key, v) in enumerate(named.items())]
        self.nodes[number] = b"".join(field_of(1, message((1, c), (2, n))) for c, n in children) + b"".join(
            field_of(3, message((1, self.known.get(id(w), 0)), (2, name), (3, s))) for w, name, s in slots
        )
        return number

    def bytes(self):
        return b"".join(field_of(1, node) for node in self.nodes)


@dataclass(eq=False)
class Variable:
    """A variable: the name it had in Python, and its value."""

    name: str
    value: np.ndarray


def variable(name, *shape, dtype="float32", start=0):
    return Variable(name, (np.arange(int(np.prod(shape))) + start).astype(dtype).reshape(shape))


def object_checkpoint_with_short_keys(root):
    """Return such a checkpoint whose keys do not repeat the names of the objects."""
    return object_checkpoint(root, Graph(short=True))


def object_checkpoint(root, graph=None):
    """Return the checkpoint of the object `root`, a dict of dicts and variables."""
    graph = graph or Graph()
    graph.node(root)
    checkpoint = Checkpoint().add(GRAPH_KEY, graph.bytes())
    for key, value in graph.values.items():
        checkpoint.add(key, value)
    return checkpoint
