"""What many small weights, rules, edits, levels and shards cost: rows of the table of ``run.py``, or alone.

``python tests/benchmarks/scale.py [--quick]`` measures these alone. Whole processes, processor time, each less that of
the same command on next to nothing. An exponent is that of the power of the number that the time grows with: 1 is in
proportion.
"""

import argparse
import json
import math
import shutil
import struct
import sys
import tempfile
from pathlib import Path

import floors
import numpy as np
from measure import Row, median, run_once

HEAD = "# @package _global_\nsource: {{path: {path}}}\ntarget: {{path: {path}}}\nsave: {{path: x.safetensors}}\n"


def write(path, names, shape=(4, 4), sparse=False):
    """Write a safetensors file of small random values, or one whose values take no room."""
    size = 4 * math.prod(shape)
    header = {
        n: {"dtype": "F32", "shape": shape, "data_offsets": [k * size, (k + 1) * size]} for k, n in enumerate(names)
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        if sparse:
            file.truncate(8 + len(text) + size * len(names))
        else:
            file.write(np.random.default_rng(0).standard_normal((len(names), *shape), "float32").tobytes())


def blocks(count):
    """Return names of weights, ten a block."""
    return [f"blocks/{i // 10}/layer{i % 10}/kernel" for i in range(count)]


def recipe(folder, name, path, body):
    """Write a recipe."""
    (folder / "recipes" / f"{name}.yaml").write_text(HEAD.format(path=path) + body)
    return f"recipe={name}"


def of_weights(folder, count):
    """Return a recipe of one rule for `count` small weights."""
    write(folder / f"w{count}.safetensors", blocks(count))
    return recipe(folder, f"w{count}", f"w{count}.safetensors", "mapping: {all: {to: 'blocks/.*'}}\n")


def of_rules(folder, count):
    """Return a recipe of so many rules, each for one block of 10,000 weights."""
    write(folder / "rules.safetensors", blocks(10_000))
    rules = "".join(f"  r{i}: {{to: 'blocks/{i}/layer\\d/kernel'}}\n" for i in range(count))
    return recipe(folder, f"r{count}", "rules.safetensors", f"unmatched: keep\nmapping:\n{rules}")


def of_open_rules(folder, count):
    """Return a recipe of so many rules whose patterns begin with ``.*``, as many weights."""
    write(folder / f"o{count}.safetensors", [f"net/{i // 7}/layer{i}/kernel" for i in range(count)])
    rules = "".join(f"  r{i}: {{to: '.*/layer{i}/kernel'}}\n" for i in range(count))
    return recipe(folder, f"o{count}", f"o{count}.safetensors", f"mapping:\n{rules}")


def of_edits(folder, count):
    """Return a recipe of so many edits of as many weights."""
    write(folder / f"e{count}.safetensors", blocks(count))
    edits = "".join(f"  e{i}: {{at: {name}, index: [0, 0], set: 1}}\n" for i, name in enumerate(blocks(count)))
    return recipe(folder, f"e{count}", f"e{count}.safetensors", f"mapping: {{all: {{to: '.*'}}}}\nedit:\n{edits}")


def of_depth(folder, count):
    """Return a recipe for 2,000 weights below so many levels."""
    above = "/".join(f"l{j}" for j in range(count - 2))
    write(folder / f"d{count}.safetensors", [f"{above}/b{i}/kernel" for i in range(2000)])
    return recipe(folder, f"d{count}", f"d{count}.safetensors", "mapping: {all: {to: '.*/b(\\d+)', from: '\\0'}}\n")


def of_everything(folder, count):
    """Return a recipe of so many weights, a tenth as many rules, and half as many edits as rules."""
    write(folder / f"a{count}.safetensors", blocks(count))
    rules = "".join(f"  r{i}: {{to: 'blocks/{i}/layer\\d/kernel'}}\n" for i in range(count // 10))
    edited = blocks(count)[::20]
    edits = "".join(f"  e{i}: {{at: {name}, index: [0, 0], set: 1}}\n" for i, name in enumerate(edited))
    return recipe(folder, f"a{count}", f"a{count}.safetensors", f"mapping:\n{rules}edit:\n{edits}")


def of_shards(folder, count, side=1600):
    """Return a recipe for so many shards of a hundred tensors each, which take no room: a thousand are 1 TB."""
    place = folder / f"s{count}"
    place.mkdir()
    found = {}
    for shard in range(count):
        names = [f"blocks/{shard}/layer{i}/kernel" for i in range(100)]
        file = f"model-{shard:05}.safetensors"
        write(place / file, names, (side, side), sparse=True)
        found |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": len(found) * 4 * side**2}, "weight_map": found}
    (place / "model.safetensors.index.json").write_text(json.dumps(index))
    return recipe(folder, f"s{count}", place.name, "mapping: {all: {to: 'blocks/.*'}}\n")


# What grows: the maker of its recipe, the verb, two numbers, and what the larger one may take, in seconds and MB.
GROWING = {
    "weights": (of_weights, "plan", 2_500, 10_000, None, None),
    "rules, of 10,000 weights": (of_rules, "plan", 100, 1_000, 2.0, None),
    "rules that begin with `.*`": (of_open_rules, "plan", 500, 2_500, None, None),
    "edits": (of_edits, "plan", 500, 1_500, None, None),  # of fewer, 0.03 s; a recipe unfolds to at most 20,000 values
    "levels, of 2,000 weights": (of_depth, "plan", 10, 80, None, None),
    "weights, a tenth as many rules, a twentieth as many edits": (of_everything, "plan", 2_500, 10_000, None, None),
    "shards of 100 tensors": (of_shards, "plan", 100, 1_000, 8.0, 400),
}
MOST_EXPONENT, MOST_MICROSECONDS, SMALL = 1.1, 60, 10_000


def command(*words):
    """Return the command line of transferpipe."""
    return [sys.executable, "-m", "transferpipe", *words]


def processor_seconds(folder, count, *words):
    """Return the medians of the processor seconds of a command, of its wall time and of its peak memory."""
    runs = []
    for i in range(count + 1):
        shutil.rmtree(folder / "out", ignore_errors=True)
        run = run_once(command(*words), folder)
        if i:
            runs.append(run)
    return median(runs, "cpu"), median(runs), median(runs, "megabytes")


def rows(folder, count):
    """Yield the rows."""
    (folder / "recipes").mkdir(exist_ok=True)
    tiny = of_weights(folder, 2)
    base = processor_seconds(folder, count, "plan", tiny)[0]
    for name, (make, verb, few, many, seconds, megabytes) in GROWING.items():
        less, more = (processor_seconds(folder, count, verb, make(folder, number)) for number in (few, many))
        exponent = math.log(max(more[0] - base, 1e-3) / max(less[0] - base, 1e-3)) / math.log(many / few)
        title = f"`plan`, {many:,} {name} (other: {few:,}; ratio: exponent)"
        if seconds:
            title += f", goal {seconds:g} s"
        yield Row(title, more[1], more[0], less[1], exponent, exponent, MOST_EXPONENT, more[2], less[2], megabytes)
    none, all_of_them = (
        processor_seconds(folder, count, "run", of_weights(folder, number), "hydra.run.dir=out")
        for number in (2, SMALL)
    )
    each = (all_of_them[0] - none[0]) / SMALL * 1e6
    title = f"`run`, {SMALL:,} small weights: {each:.0f} µs each (ratio: to {MOST_MICROSECONDS} µs)"
    found = each / MOST_MICROSECONDS
    records = floors.of_records(folder / "out", SMALL, MOST_MICROSECONDS)
    yield Row(title, all_of_them[1], all_of_them[0], none[1], found, found, 1.0, all_of_them[2], none[2])
    yield records
    yield from of_97_gigabytes(folder, count)


def of_97_gigabytes(folder, count):
    """Yield a row a verb: 97 GB in 35 shards, on files that take no room."""
    named = of_shards(folder, 35, 2632)
    for verb, word in (("plan", named), ("inspect", "s35")):
        cpu, wall, megabytes = processor_seconds(folder, count, verb, word)
        yield Row(f"`{verb}`, 97 GB in 35 shards", wall, cpu, goal=0.45, megabytes=megabytes, most_megabytes=100)


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one run of each")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for row in rows(Path(name), 1 if arguments.quick else 5):
            print(*row.cells(), sep=" | ", flush=True)


if __name__ == "__main__":
    main()
