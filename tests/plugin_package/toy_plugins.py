"""One of each kind: a format with its writer, a transform, a layout, a score and a logger.

A file is ``TOY!``, the length of a header in 8 bytes, a header of JSON ({name: [dtype, shape, offset, CRC-32 of the
value]}), its CRC-32, and the values as they are in memory.
"""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from transferpipe.errors import FileError, Problem, ScoreError
from transferpipe.files.archives.stored_zip import write_at
from transferpipe.files.stamp import file_stamp
from transferpipe.planning.layouts.adapter import Adapted
from transferpipe.planning.layouts.layout import Layout
from transferpipe.planning.transforms import Transform, TransformError
from transferpipe.planning.transforms.arguments import parse_integer
from transferpipe.planning.transforms.checks import check_floating
from transferpipe.recipe.outputs import Output
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats.format import Format
from transferpipe.weights.formats.raw_value import Stretch
from transferpipe.weights.spec import Catalog, WeightSpec, numpy_dtype

MAGIC = b"TOY!"
DTYPES = ("float16", "float32", "float64", "bool", "int64")
_AGAIN = "download or save it again"


def open_toy(path):
    """Open a toy file."""
    stamp = file_stamp(path)
    try:
        header, start = _read_header(path, stamp[1])
        entries = json.loads(header)
        specs, places = [], {}
        for name, (dtype, shape, offset, crc) in entries.items():
            spec = WeightSpec(str(name), tuple(map(int, shape)), str(dtype), None, str(name))
            if (
                dtype not in DTYPES
                or min(spec.shape, default=0) < 0
                or not 0 <= offset <= stamp[1] - start - spec.nbytes
            ):
                raise ValueError(f"{name} cannot be {dtype} {shape} at {offset}")
            specs.append(spec)
            places[spec.name] = Stretch(path, stamp, start + offset), int(crc)
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise FileError(Problem(str(path), f"is a damaged toy file: {error}", _AGAIN)) from error

    def read(spec):
        stretch, crc = places[spec.where]
        value = stretch.read(spec)
        if zlib.crc32(value.tobytes()) != crc:
            raise FileError(Problem(f"{path}: {spec.name}", "is damaged: its CRC-32 is another", _AGAIN))
        return value

    def locate(spec):
        read(spec)
        return places[spec.where][0].locate(spec)

    return FileSource(path, "toy", Catalog(tuple(specs), str(path)), read, locate)


def _read_header(path, size):
    with path.open("rb") as file:
        head = file.read(12)
        length = int.from_bytes(head[4:12], "little")
        if len(head) < 12 or not 2 <= length <= size - 16:
            raise ValueError(f"a header of {length} bytes cannot be in {size}")
        header, crc = file.read(length), file.read(4)
    if crc != zlib.crc32(header).to_bytes(4, "little"):
        raise ValueError("the CRC-32 of the header is another")
    return header.decode(), 16 + length


FORMAT = Format(open_toy, begins=MAGIC)


def write_toy(descriptor, content):
    """Write a toy file."""
    entries, offset = {}, 0
    for weight in content.catalog:
        if weight.dtype not in DTYPES:
            what = f"is {weight.dtype}, which a toy file cannot hold"
            raise FileError(Problem(weight.name, what, f"cast it to one of {', '.join(DTYPES)}"))
        crc = zlib.crc32(np.ascontiguousarray(_value(weight, content)).tobytes())
        entries[weight.name] = [weight.dtype, list(weight.shape), offset, crc]
        offset += weight.nbytes
    header = json.dumps(entries).encode()
    start = 16 + len(header)
    write_at(
        descriptor, MAGIC + len(header).to_bytes(8, "little") + header + zlib.crc32(header).to_bytes(4, "little"), 0
    )
    for weight in content.catalog:
        write_at(descriptor, np.ascontiguousarray(_value(weight, content)).tobytes(), start + entries[weight.name][2])


def _value(weight, content):
    segment = content.segment(weight.name)
    if segment is None:
        return content.value(weight.name)
    return np.fromfile(segment.path, numpy_dtype(segment.dtype), math.prod(weight.shape), offset=segment.offset)


OUTPUT = Output(".toy", "a toy file", write_toy, "named tensors with checksums; streamed", names_tensors=True)


@dataclass(frozen=True, slots=True)
class Power(Transform):
    """Raise every value to `exponent`."""

    exponent: int
    name: ClassVar[str] = "power"
    keeps_rows: ClassVar[bool] = True

    @classmethod
    def parse(cls, data):
        """Return the transform for ``power: 2``."""
        exponent = parse_integer("the exponent of power", data, "{power: 2}")
        if not 1 <= exponent <= 8:
            raise TransformError(f"power({exponent}) is beyond 8", "write an exponent from 1 to 8")
        return cls(exponent)

    def __str__(self):
        return f"power({self.exponent})"

    def shape(self, shapes):
        """See `Transform`."""
        return shapes[0]

    def dtype(self, dtypes):
        """See `Transform`."""
        return check_floating(self, dtypes[0], "put a cast before it, such as {cast: float32}")

    def apply(self, arrays):
        """See `Transform`."""
        with np.errstate(over="ignore"):
            return np.asarray(arrays[0] ** self.exponent, arrays[0].dtype)


_TURNED = ({"flip": [0]}, {"transpose": [1, 0]})


class UpsideDown(Layout):
    """A framework that keeps the kernels of Dense layers as (out, in), the last output first."""

    name = "upside_down"
    framework = "Upside Down"
    label = " (upside down)"
    formats = ("toy",)
    tag = "upside_down"
    separator = "/"
    adapters: ClassVar = {
        "Dense": {
            "kernel": (Adapted(("matrix",), _TURNED, (({"transpose": [1, 0]}, {"flip": [0]}),)),),
            "bias": (Adapted(("offset",), ({"flip": [0]},), (({"flip": [0]},),)),),
        }
    }


def spread(model, scale: float = 1.0):
    """Return the standard deviation of all weights, times `scale`."""
    values = np.concatenate([np.ravel(w) for w in model.get_weights()])
    if not np.isfinite(values).all():
        raise ScoreError(Problem("score", "a weight is not finite", "score another model"))
    return float(values.std() * scale)


def open_lines(folder, name):
    """Return a logger that writes a line a variant into ``lines.txt``."""
    path = folder / "lines.txt"
    path.touch()  # raises here if it cannot be written

    def log(entry, result):
        score = (result.get("score") or {}).get("value")
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([name, entry.key, entry.checksum, result["status"], score]) + "\n")

    return log
