"""GGUF, the files of llama.cpp and its kin: floats as they are, blocks of Q8_0 and Q4_0 as the float32 they stand for.

Names are those of the file, their dots turned into slashes (``blk/0/attn_q/weight``), and axes are torch's: the layout
``torch`` goes by itself. Blocks of 32 numbers along the last axis share a scale d, a float16 (``ggml-quants.c`` of
https://github.com/ggml-org/ggml): Q8_0 is d and 32 int8 q, standing for d*q; Q4_0 is d and 16 bytes, whose lower halves
are the first 16 numbers q and whose upper ones the others, standing for d*(q - 8). Both products are exact in float32.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import FileError, Problem
from transferpipe.files.os_errors import cannot_be_read
from transferpipe.files.segment import Segment
from transferpipe.files.stamp import file_stamp
from transferpipe.text.listing import listed
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.flat_names import flat_names
from transferpipe.weights.formats.gguf.header import GgufEntry, GgufHeader, read_header
from transferpipe.weights.formats.raw_value import Stretch
from transferpipe.weights.spec import Catalog, Unreadable, WeightSpec, numpy_dtype

# ggml_type of ggml.h: those that are numbers as NumPy has them, and the names of the others.
_PLAIN = {
    0: "float32", 1: "float16", 24: "int8", 25: "int16", 26: "int32", 27: "int64", 28: "float64", 30: "bfloat16",
}  # fmt: skip
_OTHERS = {
    3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K",
    16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS",
    29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4",
    41: "Q1_0",
}  # fmt: skip
_BLOCK = 32  # QK8_0 and QK4_0 of ggml-common.h
# convert_hf_to_gguf.py of llama.cpp takes the rows of a head (x1 .. xn, y1 .. yn), whose pairs (xi, yi) the rotary
# embedding turns, to (x1, y1, .. xn, yn) for these architectures (`LlamaModel.permute`); for the others, such as qwen2
# and gemma, it leaves them as transformers and KerasHub have them.
_INTERLEAVED = frozenset(
    ["llama", "arcee", "baichuan", "deci", "granite", "granitemoe", "internlm2", "minicpm", "olmo", "smollm3", "xverse"]
)
_ROTATED = re.compile(r"blk\.\d+\.attn_([qk])\.(weight|bias)")
_MOST_LISTED = 10  # kinds in one message: no known file has more
_AGAIN = "the file is damaged or truncated: download or save it again"
_FLOATS = "take the file of the same model in F16, BF16, Q8_0 or Q4_0, or the safetensors that it was made of"


def unpack_q8_0(blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the numbers of blocks, one a row.

    >>> unpack_q8_0(np.frombuffer(np.float16(0.5).tobytes() + bytes([2, 255] + [0] * 30), np.uint8)[None])[0, :2]
    array([ 1. , -0.5], dtype=float32)
    """
    return _scales(blocks) * blocks[:, 2:].view(np.int8).astype(np.float32)


def unpack_q4_0(blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the numbers of blocks, one a row.

    >>> unpack_q4_0(np.frombuffer(np.float16(0.5).tobytes() + bytes([0x9A] + [0x88] * 15), np.uint8)[None])[0, [0, 16]]
    array([1. , 0.5], dtype=float32)
    """
    halves = blocks[:, 2:]
    numbers = np.concatenate([halves & 0x0F, halves >> 4], axis=1).astype(np.float32)
    return _scales(blocks) * (numbers - np.float32(8))


def _scales(blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float32)


@dataclass(frozen=True)
class _Packing:
    """How 32 numbers are packed: what it is called, bytes of a block, and what unpacks blocks."""

    name: str
    size: int
    unpack: Callable[[NDArray[np.uint8]], NDArray[np.float32]]


_PACKED: Mapping[int, _Packing] = {8: _Packing("Q8_0", 34, unpack_q8_0), 2: _Packing("Q4_0", 18, unpack_q4_0)}


def open_gguf(path: Path) -> FileSource:
    """Open a file.

    Raises:
        FileError: not readable, damaged, or without a tensor that can be read.
    """
    stamp = file_stamp(path)
    try:
        with path.open("rb") as file:
            header = read_header(file, stamp[1])
        _check_tensors(header, stamp[1])
    except OSError as error:
        raise cannot_be_read(path, error) from error
    except (ValueError, OverflowError) as error:
        raise FileError(Problem(str(path), f"is not a readable GGUF file: {error}", _AGAIN)) from error
    names = flat_names(e.name for e in header.entries)
    unread = tuple(
        Unreadable(names[e.name], f"is {_kind(e.kind)}, which is not read", _FLOATS, e.name)
        for e in header.entries
        if e.kind not in _PLAIN and e.kind not in _PACKED
    )
    readable = {e.name: e for e in header.entries if e.kind in _PLAIN or e.kind in _PACKED}
    if not readable:
        kinds = sorted({_kind(e.kind) for e in header.entries})
        what = (
            f"holds no tensors that can be read: they are {listed(kinds, _MOST_LISTED)}" if kinds else "has no tensors"
        )
        raise FileError(Problem(str(path), what, _FLOATS))
    specs = tuple(WeightSpec(names[n], e.shape, _PLAIN.get(e.kind, "float32"), None, n) for n, e in readable.items())

    def stretch(spec: WeightSpec) -> Stretch:
        return Stretch(path, stamp, header.begin + readable[spec.where].offset)

    def read_entry(spec: WeightSpec) -> NDArray[Any]:
        packing = _PACKED.get(readable[spec.where].kind)
        if packing is None:
            return stretch(spec).read(spec)
        blocks = spec.size // _BLOCK
        stored = WeightSpec(spec.name, (blocks, packing.size), "uint8", None, spec.where)
        return packing.unpack(stretch(spec).read(stored)).reshape(spec.shape)

    def locate_entry(spec: WeightSpec) -> Segment | None:
        return stretch(spec).locate(spec) if readable[spec.where].kind in _PLAIN else None

    return FileSource(
        path=path,
        format="gguf",
        catalog=Catalog(specs, str(path), unreadable=unread, reordered=_find_reordered(header, names)),
        read_entry=read_entry,
        locate_entry=locate_entry,
        details=_details(header),
    )


def _find_reordered(header: GgufHeader, names: Mapping[str, str]) -> dict[str, str]:
    """Return which weights the converter has put into another order than the model's, and into which, by name."""
    architecture = header.facts.get("general.architecture")
    if architecture not in _INTERLEAVED:
        return {}
    heads = header.facts.get(f"{architecture}.attention.head_count")
    counts = {"q": heads, "k": header.facts.get(f"{architecture}.attention.head_count_kv", heads)}
    found = {}
    for entry in header.entries:
        if match := _ROTATED.fullmatch(entry.name):
            count = counts[match[1]]
            said = f"each of the {count:,} heads" if type(count) is int else "each head"
            found[names[entry.name]] = f"interleaved for the rotary embedding of {architecture}, in {said}"
    return found


def _kind(kind: int) -> str:
    return _OTHERS.get(kind, f"of the ggml type {kind}")


def _check_tensors(header: GgufHeader, size: int) -> None:
    """Refuse tensors that share a name or bytes, or lie outside of the file.

    Raises:
        ValueError: the first fault that is found.
    """
    twice = [name for name, count in Counter(e.name for e in header.entries).items() if count > 1]
    if twice:
        raise ValueError(f"two tensors are called {twice[0]!r:.120}")
    at, before = 0, ""
    # By place: then each needs to be compared with the one before it alone.
    for entry in sorted(header.entries, key=lambda e: e.offset):
        nbytes = _nbytes(entry)
        if nbytes and entry.offset < at:
            raise ValueError(f"{entry.name!r:.120} lies over {before!r:.120}")
        if header.begin + entry.offset + nbytes > size:
            raise ValueError(
                f"{entry.name!r:.120} would end at byte {header.begin + entry.offset + nbytes:,} of {size:,}"
            )
        if nbytes:
            at, before = entry.offset + nbytes, entry.name


def _nbytes(entry: GgufEntry) -> int:
    """Return how many bytes a tensor takes; 1 of one that cannot be read, so that its beginning at least is checked."""
    count = math.prod(entry.shape)
    if entry.kind in _PLAIN:
        return count * numpy_dtype(_PLAIN[entry.kind]).itemsize
    if entry.kind not in _PACKED:
        return min(count, 1)
    if not entry.shape or entry.shape[-1] % _BLOCK:
        raise ValueError(f"{entry.name!r:.120} of shape {entry.shape} is not made of blocks of {_BLOCK}")
    return count // _BLOCK * _PACKED[entry.kind].size


def _details(header: GgufHeader) -> Mapping[str, str]:
    found = {"architecture": header.facts.get("general.architecture"), "called": header.facts.get("general.name")}
    kinds = Counter(_name_kind(e.kind) for e in header.entries)
    stored = {"stored as": ", ".join(f"{kind} ({count})" for kind, count in kinds.most_common())}
    return {k: f"{v:.120}" for k, v in found.items() if isinstance(v, str)} | stored


def _name_kind(kind: int) -> str:
    return _PLAIN.get(kind) or (_PACKED[kind].name if kind in _PACKED else _kind(kind))
