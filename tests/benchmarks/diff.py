"""`transferpipe diff` of two files of 500 MB beside reading them: ``python tests/benchmarks/diff.py [--megabytes 500]``.

Whole processes in pairs, medians of ``--count`` pairs (7). Files lie in the page cache. Reading is a Python process that
reads both files into one buffer, without importing NumPy; what `transferpipe diff` takes for two tiny files is shown as
well, and the ratio without that start on either side. Not part of the test suite.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
from measure import median, pairs
from safetensors.numpy import save_file

WIDTH = 2048  # of a kernel: 16 MB
READ = """
import os, sys
buffer = memoryview(bytearray(1 << 20))
for path in sys.argv[1:]:
    descriptor = os.open(path, os.O_RDONLY)
    while os.readv(descriptor, [buffer]):
        pass
"""
# A status of 1 says that the files differ, and is no failure.
DIFF = """
import sys
expected, sys.argv = int(sys.argv[1]), ["transferpipe", "diff", *sys.argv[2:]]
from transferpipe.__main__ import start
sys.exit(start() != expected)
"""


def write(folder, name, values):
    """Write `values` as safetensors, and as the weights of a Keras model."""
    save_file(values, folder / f"{name}.safetensors")
    with h5py.File(folder / f"{name}.h5", "w") as file:
        file.attrs["layer_names"] = [layer.encode() for layer in dict.fromkeys(n.partition("/")[0] for n in values)]
        for key, value in values.items():
            layer = key.partition("/")[0]
            group = file.require_group(layer)
            group.attrs["weight_names"] = [n.encode() for n in values if n.startswith(f"{layer}/")]
            group[key] = value


def make(folder, megabytes):
    """Write the files."""
    random = np.random.default_rng(0)
    count = max(1, megabytes * 10**6 // (4 * WIDTH * (WIDTH + 1)))
    values = {f"d{i:02}/kernel": random.random((WIDTH, WIDTH), dtype="float32") for i in range(count)}
    values |= {f"d{i:02}/bias": random.random(WIDTH, dtype="float32") for i in range(count)}
    write(folder, "a", values)
    write(folder, "same", values)
    last = values[f"d{count - 1:02}/kernel"].copy()
    last[-1, -1] += 1
    write(folder, "last", {**values, f"d{count - 1:02}/kernel": last})
    write(folder, "all", {n: v * np.float32(1.01) for n, v in values.items()})
    write(folder, "tiny", {"d/kernel": np.ones((2, 2), "float32")})


def cases():
    """Return the pairs to compare, with the status that is expected."""
    table = {"equal": ("same", 0), "one number, the last": ("last", 1), "every number": ("all", 1)}
    suffixes = ("safetensors", "h5")
    found = {f"{what}, {s}": (f"a.{s}", f"{n}.{s}", status) for s in suffixes for what, (n, status) in table.items()}
    return {**found, "equal, safetensors and h5": ("a.safetensors", "same.h5", 0)}


def main():
    """Measure, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--count", type=int, default=7)
    parser.add_argument("--make", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        make(Path(options.make), options.megabytes)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In a process of its own: the peak of a child counts what its parent has in memory when it is made.
        command = [sys.executable, __file__, "--make", name, "--megabytes", str(options.megabytes)]
        subprocess.run(command, check=True)
        start = [sys.executable, "-m", "transferpipe", "diff", "tiny.safetensors", "tiny.safetensors"]
        python = [sys.executable, "-c", "pass"]
        begun = [median(runs) for runs in pairs(start, python, folder, options.count)]
        print(f"two tiny files {begun[0]:.2f} s, `python -c pass` {begun[1]:.2f} s, {options.megabytes} MB a file:\n")
        print("| | reading both | diff | ratio | ratio without start | peak |")
        print("|---|---|---|---|---|---|")
        for case, (a, b, status) in cases().items():
            diff = [sys.executable, "-c", DIFF, str(status), a, b]
            measured, read = pairs(diff, [sys.executable, "-c", READ, a, b], folder, options.count)
            whole, plain = median(measured), median(read)
            own = (whole - begun[0]) / (plain - begun[1])
            peak = median(measured, "megabytes")
            print(
                f"| {case} | {plain:.2f} s | {whole:.2f} s | {whole / plain:.1f} | {own:.1f} | {peak:.0f} MB |",
                flush=True,
            )


if __name__ == "__main__":
    main()
