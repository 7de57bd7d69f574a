"""Files of Flax, llama.cpp and Equinox written byte by byte, with no code of theirs."""

import io
import json
import struct

import numpy as np


class Chunked:
    """An array that is written in flat chunks of so many values."""

    def __init__(self, value, size):
        self.value, self.size = value, size


class Raw:
    """Bytes that are written as they are."""

    def __init__(self, data):
        self.data = data


def head(value, sizes):
    """Return the type and the length of something: the first of `sizes` that has room."""
    for code, form, most in sizes:
        if value <= most:
            return bytes([code | value]) if form is None else bytes([code]) + struct.pack(form, value)
    raise ValueError(value)


def extension(kind, data):
    return head(len(data), [(0xC7, ">B", 255), (0xC8, ">H", 65535), (0xC9, ">I", 1 << 32)]) + bytes([kind]) + data


def packed(value):
    """Return MessagePack as Flax writes it."""
    match value:
        case None:
            return b"\xc0"
        case Raw():
            return value.data
        case bool():
            return b"\xc3" if value else b"\xc2"
        case int():
            return b"\xd3" + struct.pack(">q", value) if not 0 <= value < 128 else bytes([value])
        case float():
            return b"\xcb" + struct.pack(">d", value)
        case complex():
            return extension(2, packed((value.real, value.imag)))
        case str():
            data = value.encode()
            return head(len(data), [(0xA0, None, 31), (0xD9, ">B", 255), (0xDA, ">H", 65535)]) + data
        case bytes():
            return head(len(value), [(0xC4, ">B", 255), (0xC5, ">H", 65535), (0xC6, ">I", 1 << 32)]) + value
        case list() | tuple():
            return head(len(value), [(0x90, None, 15), (0xDC, ">H", 65535)]) + b"".join(map(packed, value))
        case dict():
            inner = b"".join(packed(k) + packed(v) for k, v in value.items())
            return head(len(value), [(0x80, None, 15), (0xDE, ">H", 65535)]) + inner
        case Chunked():
            flat = value.value.ravel()
            parts = [flat[k : k + value.size] for k in range(0, flat.size, value.size)]
            numbered = [{str(k): v for k, v in enumerate(items)} for items in (value.value.shape, parts)]
            return packed({"__msgpack_chunked_array__": True, "shape": numbered[0], "chunks": numbered[1]})
        case np.ndarray():
            return extension(1, packed((value.shape, value.dtype.name, value.tobytes())))
        case np.generic():
            return extension(3, packed(((), value.dtype.name, value.tobytes())))
    raise TypeError(value)


KINDS = {
    "float32": 0,
    "float16": 1,
    "q4_0": 2,
    "q4_1": 3,
    "q8_0": 8,
    "int8": 24,
    "int32": 26,
    "float64": 28,
    "bfloat16": 30,
    "q6_k": 14,
}


def gguf_text(text):
    return struct.pack("<Q", len(text.encode())) + text.encode()


def gguf_fact(key, value):
    """Return one fact: a number, a text, or a list of texts."""
    if isinstance(value, list):
        return gguf_text(key) + struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(gguf_text, value))
    if isinstance(value, str):
        return gguf_text(key) + struct.pack("<I", 8) + gguf_text(value)
    return gguf_text(key) + struct.pack("<II", 4, value)


def gguf(tensors, facts=(("general.architecture", "tiny"),), alignment=32, version=3, offsets=None):
    """Return a file of tensors: arrays, or (name of the kind, shape, bytes), by their names."""
    infos, data = b"", b""
    for k, (name, given) in enumerate(tensors.items()):
        kind, shape, values = (
            (given.dtype.name, given.shape, given.tobytes()) if isinstance(given, np.ndarray) else given
        )
        data += bytes(-len(data) % alignment)
        where = len(data) if offsets is None else offsets[k]
        infos += gguf_text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), KINDS[kind], where)
        data += values
    header = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(facts)) + b"".join(gguf_fact(*f) for f in facts)
    header += infos
    return header + bytes(-len(header) % alignment) + data


def leaves(*arrays, settings=None):
    """Return arrays as Equinox writes the leaves of a model."""
    file = io.BytesIO()
    if settings is not None:
        file.write(json.dumps(settings).encode() + b"\n")
    for array in arrays:
        np.save(file, array)
    return file.getvalue()
