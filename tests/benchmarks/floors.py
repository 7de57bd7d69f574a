"""Floors: what a figure cannot fall below, because plain calls that do the same, and nothing else, take as long.

Rows of the table of ``run.py``, each beside the row that it is the floor of. The passes over bytes are calls into C with
one buffer, on as many threads as a run has; they know no weight, no plan and no proof.

Run as ``python floors.py passes SOURCE OUT``, which is measured as a whole process like the run beside it.
"""

import hashlib
import json
import os
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from measure import Row, Run, alone, compared, pairs, run_once

CHUNK = 1 << 20
BUILD = "import keras; keras.applications.{name}(weights=None, classes=10)"


def passes(source, out):
    """Do with `source` what a run does with the values that it moves.

    The checksum of an archive's member; reading and writing on two threads, flushed while the rest goes on; then reading
    both files anew, SHA-256 on one thread and comparing on the other.
    """
    size = os.stat(source).st_size
    with open(source, "rb") as given, open(out, "wb+") as made:
        if source.endswith(".keras"):
            each_chunk(given.fileno(), range(0, size, CHUNK), zlib.crc32)
        starts = range(0, size, CHUNK)
        middle = len(starts) // 2
        with ThreadPoolExecutor(3) as pool:
            moved = [
                pool.submit(move, given.fileno(), made.fileno(), part) for part in (starts[:middle], starts[middle:])
            ]
            for part in moved:
                part.result()
            flushed = pool.submit(os.fsync, made.fileno())
            digest = hashlib.sha256()
            hashed = pool.submit(each_chunk, made.fileno(), starts, digest.update)
            compare(given.fileno(), made.fileno(), starts)
            hashed.result()
            flushed.result()


def each_chunk(descriptor, starts, use):
    """Read a file in one buffer, and give each chunk to a function."""
    buffer = memoryview(bytearray(CHUNK))
    for start in starts:
        count = os.preadv(descriptor, [buffer], start)
        use(buffer[:count])


def move(given, made, starts):
    """Copy chunks through one buffer."""
    buffer = memoryview(bytearray(CHUNK))
    for start in starts:
        count = os.preadv(given, [buffer], start)
        os.pwrite(made, buffer[:count], start)


def compare(one, other, starts):
    """Compare chunks of two files, in two buffers."""
    import numpy as np

    buffers = [np.zeros(CHUNK, np.uint8) for _ in range(2)]
    for start in starts:
        counts = [os.preadv(file, [buffer], start) for file, buffer in zip((one, other), buffers, strict=True)]
        if not np.array_equal(buffers[0][: counts[0]], buffers[1][: counts[1]]):
            sys.exit("the copy differs")


def of_passes(title, source, copy, folder, count, between):
    """Return the row of the passes over a file alone, against copying and flushing it."""
    ours = [sys.executable, __file__, "passes", source, "out.keras"]
    mine, theirs = pairs(ours, copy, folder, count, between)
    return compared(f"{title}: floor, the same passes alone", mine, theirs, None)


def of_building(name, script, folder, count, between):
    """Return the row of importing Keras and building a model, which writes nothing, against the script."""
    mine, theirs = pairs([sys.executable, "-c", BUILD.format(name=name)], script, folder, count, between)
    return compared(f"builder, {name}: floor, importing Keras and building alone", mine, theirs, None)


def of_starting(folder, count):
    """Return the row of a Python that imports NumPy, and does nothing."""
    command = [sys.executable, "-c", "import numpy"]
    run_once(command, folder)
    return alone(
        "start of any run: floor, Python and `import numpy`", [run_once(command, folder) for _ in range(count)]
    )


def of_records(out, weights, most):
    """Return the row of the JSON that a run leaves of its weights: parsed and encoded as often as a run does it.

    Args:
        out: the folder of a run of so many small weights.
        weights: how many they are.
        most: microseconds that a weight may take.
    """
    plan, manifest = (json.loads((out / name).read_text()) for name in ("plan.json", "manifest.json"))
    header = json.dumps({w["name"]: {"dtype": w["dtype"], "shape": w["shape"]} for w in manifest["weights"]})
    began = time.process_time()
    for _ in range(2):  # the source's header and that of the finished file
        json.loads(header)
    json.dumps(json.loads(header))  # that of the new file
    for data, times in ((plan, 2), (manifest, 2)):  # the checksum and plan.json, the seal and manifest.json
        for _ in range(times):
            json.dumps(data, sort_keys=True)
    each = (time.process_time() - began) / weights * 1e6
    title = f"`run`, {weights:,} small weights: floor, its JSON alone, {each:.0f} µs each (ratio: to {most} µs)"
    return Row(title, each * weights / 1e6, each * weights / 1e6, ratio=each / most)


def of_variant(title, folder, count):
    """Return the row of writing the files of one finished variant as lastingly as a run does, and doing nothing else.

    Each file is written under another name, flushed and renamed, its folder flushed before the names and after them.

    Args:
        title: the row of the variant itself.
        folder: that of a sweep with one finished variant.
        count: how often to measure.
    """
    (manifest,) = folder.glob("*/manifest.json")
    files = [path for path in manifest.parent.iterdir() if path.is_file() and path.stat().st_size]
    runs = []
    for number in range(count + 1):
        copy = folder / f"floor{number}"
        copy.mkdir()
        began, cpu = time.perf_counter(), time.process_time()
        for file in files:
            data = file.read_bytes()
            hashlib.sha256(data)
            with open(copy / f"{file.name}.new", "wb") as made:
                made.write(data)
                made.flush()
                os.fsync(made.fileno())
        flush_folder(copy)
        for file in files:
            (copy / f"{file.name}.new").rename(copy / file.name)
        flush_folder(copy)
        runs.append(Run(time.perf_counter() - began, 0.0, time.process_time() - cpu))
    return replace(alone(f"{title}: floor, its files alone", runs[1:]), megabytes=None)


def flush_folder(folder):
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    passes(*sys.argv[2:])
