"""Opening a file of 500 MB of each format: ``python tests/benchmarks/formats.py [--megabytes 500] [--only NAME ...]``.

A process a format opens the file that a numpy script wrote, lists its catalog, and in a second one reads every value in
turn. Files lie in the page cache. What importing costs is in the time of the process, not in that of opening. Not part
of the test suite.
"""

import argparse
import json
import pickle
import statistics
import struct
import sys
import tempfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
from measure import run_once
from safetensors.numpy import save_file

WIDTH = 2048  # of a value: 16 MB
OPEN = """
import json, sys, time
from pathlib import Path
from transferpipe.weights.formats import open_source
started = time.perf_counter()
source = open_source(Path(sys.argv[1]))
opened = time.perf_counter() - started
located = 0
for weight in source.catalog:
    if sys.argv[2] == "read":
        source.read(weight.name)
    else:
        located += source.locate(weight.name) is not None
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
peak = int(status["VmHWM"].split()[0]) / 1024  # that of waiting for a child counts what its parent had, too
facts = {"opened": opened, "located": located, "weights": len(source.catalog), "peak": peak}
Path(sys.argv[3]).write_text(json.dumps(facts))
"""


def h5_store(path, values):
    """Write what ``save_weights("x.weights.h5")`` writes of a Sequential of Dense layers."""
    with h5py.File(path, "w") as file:
        for k, value in enumerate(values.values()):
            group = file.create_group(f"layers/dense_{k}/vars" if k else "layers/dense/vars")
            group.attrs["name"] = f"dense_{k}" if k else "dense"
            group["0"] = value
    return path


def keras(folder, values):
    """Write a `.keras` archive."""
    layers = [{"class_name": "Dense", "module": "keras.layers", "config": {"name": "dense"}} for _ in values]
    for k, layer in enumerate(layers[1:], 1):
        layer["config"] = {"name": f"dense_{k}"}
    config = {"class_name": "Sequential", "module": "keras", "config": {"name": "s", "layers": layers}}
    with zipfile.ZipFile(folder / "x.keras", "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.write(h5_store(folder / "x.weights.h5", values), "model.weights.h5")
    (folder / "x.weights.h5").unlink()
    return folder / "x.keras"


def weights_json(folder, values):
    """Write Keras's sharded weights, four layers a shard."""
    names, places = list(values), {}
    for first in range(0, len(names), 4):
        shard = f"x_{first // 4:05}.weights.h5"
        with h5py.File(folder / shard, "w") as file:
            for k in range(first, min(first + 4, len(names))):
                group = file.create_group(f"layers/dense_{k}/vars" if k else "layers/dense/vars")
                group.attrs["name"] = f"dense_{k}" if k else "dense"
                group["0"] = values[names[k]]
                places[group.name] = shard
    (folder / "x.weights.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder / "x.weights.json"


def legacy_h5(folder, values):
    """Write a weights file of Keras 2."""
    with h5py.File(folder / "x.h5", "w") as file:
        layers = [key.partition("/")[0] for key in values]
        file.attrs["layer_names"] = [layer.encode() for layer in layers]
        for layer, value in zip(layers, values.values(), strict=True):
            group = file.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}/kernel:0".encode()]
            group[f"{layer}/kernel:0"] = value
    return folder / "x.h5"


def preset(folder, values):
    """Write the folder of a KerasHub preset."""
    (folder / "config.json").write_text(json.dumps({"class_name": "Net", "module": "nets", "config": {"name": "net"}}))
    h5_store(folder / "model.weights.h5", values)
    return folder


def safetensors_index(folder, values):
    """Write safetensors files of four values, and their index."""
    names, places = list(values), {}
    for first in range(0, len(names), 4):
        part = names[first : first + 4]
        places |= dict.fromkeys(part, f"x-{first:05}.safetensors")
        save_file({n: values[n] for n in part}, folder / f"x-{first:05}.safetensors")
    (folder / "x.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return folder


def single_safetensors(folder, values):
    """Write one safetensors file."""
    save_file(values, folder / "x.safetensors")
    return folder / "x.safetensors"


def npz(folder, values):
    """Write an npz archive."""
    np.savez(folder / "x.npz", **values)
    return folder / "x.npz"


def npy(folder, values):
    """Write one array that is as large as all values."""
    np.save(folder / "x.npy", np.concatenate(list(values.values())))
    return folder / "x.npy"


def npy_folder(folder, values):
    """Write an array a file."""
    for name, value in values.items():
        (folder / name).parent.mkdir(exist_ok=True)
        np.save(folder / f"{name}.npy", value)
    return folder


def tfjs(folder, values):
    """Write a TensorFlow.js model in shards of 4 MB, as its converter does: no value lies in one file."""
    paths, shard = [], 4 << 20
    for k, value in enumerate(values.values()):
        data = value.tobytes()
        for first in range(0, len(data), shard):
            paths.append(f"group1-{k}-{first}.bin")
            (folder / paths[-1]).write_bytes(data[first : first + shard])
    weights = [{"name": n, "shape": list(v.shape), "dtype": "float32"} for n, v in values.items()]
    manifest = [{"paths": paths, "weights": weights}]
    (folder / "model.json").write_text(json.dumps({"modelTopology": None, "weightsManifest": manifest}))
    return folder


def onnx(folder, values):
    """Write an ONNX model with raw values."""

    def varint(number):
        data = bytearray()
        while number > 0x7F:
            data.append(number & 0x7F | 0x80)
            number >>= 7
        return bytes([*data, number])

    heads = []
    for name, value in values.items():
        dims = b"".join(b"\x08" + varint(n) for n in value.shape)
        head = dims + b"\x10\x01" + b"\x42" + varint(len(name)) + name.encode() + b"\x4a" + varint(value.nbytes)
        heads.append((b"\x2a" + varint(len(head) + value.nbytes) + head, value))
    size = sum(len(head) + value.nbytes for head, value in heads)
    with (folder / "x.onnx").open("wb") as file:
        file.write(b"\x08\x08\x3a" + varint(size))
        for head, value in heads:
            file.write(head)
            value.tofile(file)
    return folder / "x.onnx"


def orbax(folder, values):
    """Write an Orbax checkpoint."""
    import tensorstore

    (folder / "pytree").mkdir()
    base = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{folder / 'pytree'}/"}}
    tree = {}
    for name, value in values.items():
        key = f"trainable_variables.{name.replace('/', '.')}"
        spec = {"driver": "zarr3", "kvstore": {**base, "path": f"{key}/"}}
        tensorstore.open(spec, create=True, dtype="float32", shape=value.shape).result().write(value).result()
        parts = [{"key": part, "key_type": 2} for part in key.split(".")]
        tree[key] = {"key_metadata": parts, "value_metadata": {"value_type": "np.ndarray"}}
    metadata = {"tree_metadata": tree, "use_ocdbt": True, "use_zarr3": True}
    (folder / "pytree" / "_METADATA").write_text(json.dumps(metadata))
    (folder / "_CHECKPOINT_METADATA").write_text("{}")
    return folder


def flax(folder, values):
    """Write what `flax.serialization` writes of a flat tree."""
    with (folder / "x.msgpack").open("wb") as file:
        file.write(b"\xdf" + struct.pack(">I", len(values)))
        for name, value in values.items():
            shape = b"".join(b"\xce" + struct.pack(">I", n) for n in value.shape)
            head = (
                b"\x93"
                + bytes([0x90 | value.ndim])
                + shape
                + b"\xa7float32"
                + b"\xc6"
                + struct.pack(">I", value.nbytes)
            )
            key = b"\xd9" + bytes([len(name)]) + name.encode()
            file.write(key + b"\xc9" + struct.pack(">I", len(head) + value.nbytes) + b"\x01" + head)
            value.tofile(file)
    return folder / "x.msgpack"


def gguf(folder, values):
    """Write a GGUF file of float32, with a vocabulary of 100,000 tokens."""

    def text(word):
        return struct.pack("<Q", len(word)) + word.encode()

    tokens = b"".join(text(f"token{k}") for k in range(100_000))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(values), 1) + text("tokenizer.ggml.tokens")
    head += struct.pack("<IIQ", 9, 8, 100_000) + tokens
    at = 0
    for name, value in values.items():
        head += text(name) + struct.pack("<IQQIQ", 2, *reversed(value.shape), 0, at)
        at += value.nbytes
    with (folder / "x.gguf").open("wb") as file:
        file.write(head + bytes(-len(head) % 32))
        for value in values.values():
            value.tofile(file)
    return folder / "x.gguf"


def pickled(folder, values):
    """Write a pickle of a dict of arrays."""
    with (folder / "x.pkl").open("wb") as file:
        pickle.dump({name: value.copy() for name, value in values.items()}, file, protocol=4)
    return folder / "x.pkl"


def equinox(folder, values):
    """Write arrays one after the other."""
    with (folder / "x.eqx").open("wb") as file:
        for value in values.values():
            np.save(file, value)
    return folder / "x.eqx"


# Name of the format: what writes values into a folder and returns the path to open.
WRITERS = {
    "keras": keras,
    "weights_h5": lambda folder, values: h5_store(folder / "x.weights.h5", values),
    "weights_json": weights_json,
    "preset": preset,
    "h5": legacy_h5,
    "safetensors": single_safetensors,
    "safetensors_index": safetensors_index,
    "npz": npz,
    "npy": npy,
    "npy_folder": npy_folder,
    "tfjs": tfjs,
    "onnx": onnx,
    "orbax": orbax,
    "flax": flax,
    "gguf": gguf,
    "pickle": pickled,
    "equinox": equinox,
}


def measure_format(name, values, count):
    """Return the row of one format."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "x"
        folder.mkdir()
        path, facts = WRITERS[name](folder, values), Path(place) / "facts.json"
        seconds, peaks, found = {}, {}, {}
        for what in ("open", "read"):
            command = [sys.executable, "-c", OPEN, str(path), what, str(facts)]
            runs = [(run_once(command, place), json.loads(facts.read_text())) for _ in range(count + 1)][1:]
            seconds[what] = statistics.median(run.seconds for run, _ in runs)
            peaks[what] = statistics.median(each["peak"] for _, each in runs)
            found[what] = runs[0][1]
            if what == "open":
                opened = statistics.median(each["opened"] for _, each in runs)
    return (
        name, f"{opened * 1000:,.0f} ms", f"{seconds['open']:.2f} s", f"{peaks['open']:,.0f} MB",
        f"{seconds['read']:.2f} s", f"{peaks['read']:,.0f} MB",
        f"{found['open']['located']} of {found['open']['weights']}",
    )  # fmt: skip


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=list(WRITERS), choices=list(WRITERS))
    arguments = parser.parse_args()
    one = np.random.default_rng(1).normal(size=(WIDTH, WIDTH)).astype("f4")
    number = max(1, round(arguments.megabytes * 1e6 / one.nbytes))
    values = {f"dense_{k}/kernel" if k else "dense/kernel": one for k in range(number)}
    header = ("format", "open + catalog", "process", "peak", "read all, process", "peak", "streamed as they lie")
    print("| " + " | ".join(header) + " |", "|" + "---|" * len(header), sep="\n")
    for name in arguments.only:
        print("| " + " | ".join(measure_format(name, values, arguments.count)) + " |", flush=True)


if __name__ == "__main__":
    main()
