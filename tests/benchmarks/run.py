"""All measurements, in one command and one table: ``python tests/benchmarks/run.py [--quick] [--only PART ...]``.

``--out TABLE.md`` and ``--json RESULT.json`` keep the result; ``--against RESULT.json`` compares it with an earlier one.

Whole processes on one machine, in pairs, medians of at least five (``--quick``: one). Files lie in the page cache of a
machine that was idle otherwise ("warm"); outputs are removed between runs. Not part of the test suite.
"""

import argparse
import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import floors
import scale
from measure import Row, add_result_options, alone, compared, pairs, report, run_once

HERE = Path(__file__).parent
MODELS = ("VGG16", "ResNet50", "MobileNetV2")
GOALS = {
    ("two-files anew", "VGG16"): 0.12, ("two-files anew", "ResNet50"): 0.12, ("two-files anew", "MobileNetV2"): 0.12,
    ("two-files", "VGG16"): 0.10, ("two-files", "ResNet50"): 0.10, ("two-files", "MobileNetV2"): 0.10,
    ("builder", "VGG16"): 0.40, ("builder", "ResNet50"): 0.50, ("builder", "MobileNetV2"): 0.55,
    ("built before", "VGG16"): 0.2, ("built before", "ResNet50"): 0.2, ("built before", "MobileNetV2"): 0.2,
}  # fmt: skip
RECIPES = {
    "two-files": """
source: {{path: {folder}/{name}_source.keras}}
target: {{path: {folder}/{name}_target.keras}}
mapping: {{all: {{to: '.*', except: predictions}}, head: {{to: predictions, from: null}}}}
ignore: [predictions]
""",
    "builder": """
source: {{path: {folder}/{name}_source.keras}}
target: {{_target_: keras.applications.{name}, weights: null, classes: 10}}
mapping: {{all: {{to: '.*', except: predictions}}, head: {{to: predictions, from: null}}}}
ignore: [predictions]
""",
}
MAKE_MODELS = """
import sys, keras
folder, names = sys.argv[1], sys.argv[2:]
for name in names:
    for seed, kind in enumerate(("source", "target"), 11):
        keras.utils.set_random_seed(seed)
        model = getattr(keras.applications, name)(weights=None)
        model.save(f"{folder}/{name}_{kind}.keras")
"""
MAKE_LARGE = """
import sys, keras
from keras import layers
folder = sys.argv[1]
for seed, kind in enumerate(("source", "target")):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((8192,)), *(layers.Dense(8192, name=f"d{i}") for i in range(16))])
    model.save(f"{folder}/Dense4GiB_{kind}.keras")
"""

# 512 MiB of Dense kernels, written by PyTorch, and the Keras model that they are for.
MAKE_TORCH = """
import sys, keras, torch
from keras import layers
folder = sys.argv[1]
torch.manual_seed(0)
state = {f"fc{i}.{k}": torch.randn(s) for i in range(8) for k, s in (("weight", (4096, 4096)), ("bias", (4096,)))}
torch.save({"epoch": 1, "state_dict": state}, f"{folder}/torch_source.pt")
model = keras.Sequential([keras.Input((4096,)), *(layers.Dense(4096, name=f"fc{i}") for i in range(8))])
model.save(f"{folder}/torch_target.keras")
"""
TORCH_RECIPE = """
source: {{path: {folder}/torch_source.pt}}
target: {{path: {folder}/torch_target.keras}}
mapping: {{all: {{to: 'fc\\d'}}}}
"""


def transferpipe(*arguments):
    """Return the command line of transferpipe."""
    return [sys.executable, "-m", "transferpipe", *arguments]


def prepare(folder, large):
    """Write the models and the recipes."""
    subprocess.run([sys.executable, "-c", MAKE_MODELS, str(folder), *MODELS], check=True, stderr=subprocess.DEVNULL)
    names = list(MODELS)
    if large:
        subprocess.run([sys.executable, "-c", MAKE_LARGE, str(folder)], check=True, stderr=subprocess.DEVNULL)
        names.append("Dense4GiB")
    recipes = folder / "recipes"
    recipes.mkdir()
    for kind, text in RECIPES.items():
        for name in names:
            body = text.format(folder=folder, name=name)
            if name == "Dense4GiB":
                body = body.replace("{to: '.*', except: predictions}", "{to: '.*'}").replace(
                    ", head: {to: predictions, from: null}", "").replace("ignore: [predictions]\n", "")  # fmt: skip
            (recipes / f"{kind}_{name}.yaml").write_text("# @package _global_" + body)


def clean(folder, known=("composed",)):
    """Return a function that removes what the last run wrote, and what it kept but for the kinds that are `known`."""

    def remove():
        for kind in {"built", "composed"} - set(known):
            shutil.rmtree(folder / "cache" / "transferpipe" / kind, ignore_errors=True)
        shutil.rmtree(folder / "out", ignore_errors=True)
        for path in folder.glob("out*.keras"):
            path.unlink()

    return remove


# What a row of scripts is called: the kind of its target, and what is known of it from the run before.
TITLES = {
    "two-files anew": ("two-files", ()),
    "two-files": ("two-files", ("composed",)),
    "builder": ("builder", ("composed",)),
    "built before": ("builder", ("composed", "built")),
}


def against_scripts(folder, count):
    """Yield a row a model and kind of target: transferpipe, verified and flushed, against the hand-written script."""
    yield floors.of_starting(folder, count)
    for title, (kind, known) in TITLES.items():
        for name in MODELS:
            ours = transferpipe("run", f"recipe={kind}_{name}", "hydra.run.dir=out")
            second = str(folder / f"{name}_target.keras") if kind == "two-files" else name
            script = [sys.executable, str(HERE / "scripts.py"), kind, str(folder / f"{name}_source.keras"), second]
            script.append(str(folder / "out.keras"))
            between = clean(folder, known)
            mine, theirs = pairs(ours, script, folder, count, between)
            yield compared(f"{title}, {name}", mine, theirs, GOALS[title, name])
            if title == "builder":
                yield floors.of_building(name, script, folder, count, between)


def against_cp(folder, count, large):
    """Yield a row a size: file to file, verified and flushed, against copying the same bytes and flushing them."""
    for name in ("VGG16", *(("Dense4GiB",) if large else ())):
        ours = transferpipe("run", f"recipe=two-files_{name}", "hydra.run.dir=out")
        copy = ["sh", "-c", f"cp {name}_source.keras out.keras && sync out.keras"]
        mine, theirs = pairs(ours, copy, folder, count, clean(folder))
        size = (folder / f"{name}_source.keras").stat().st_size
        title = f"`cp` + flush, {size / 1e6:,.0f} MB `.keras`"
        yield compared(title, mine, theirs, 2 if name == "VGG16" else 1.5, 100)
        yield floors.of_passes(title, f"{name}_source.keras", copy, folder, count, clean(folder))
        if name == "VGG16":
            clean(folder)()
            run_once(ours, folder)
            yield from steps(folder)


def steps(folder):
    """Yield a row: how the seconds of the last run divide into copying and proving."""
    seconds = json.loads((folder / "out" / "manifest.json").read_text())["seconds"]
    yield Row("of that, writing", seconds["save"])
    yield Row("of that, the rest of proof, SHA-256, flush", seconds["verify"])


def many_variants(folder, count):
    """Yield a row: twenty variants in one process against one run. All have one seed, so that they share the build."""
    parts = ["Conv1", "bn_Conv1", "expanded_conv_.*", "Conv_1.*", *(f"block_{i}_.*" for i in range(1, 17))]
    axis = ",".join(f"['{part}']" for part in parts)
    ours = transferpipe("sweep", "recipe=builder_MobileNetV2", f"freeze={axis}", "hydra.sweep.dir=out")
    one = transferpipe("run", "recipe=builder_MobileNetV2", "hydra.run.dir=out")
    mine, theirs = pairs(ours, one, folder, count, clean(folder))
    yield compared("20 variants in one process against 1, MobileNetV2, builder", mine, theirs, 2)


def against_torch(folder, count):
    """Yield rows about a PyTorch checkpoint: looking at it, and moving it into Keras against torch.load and set_weights."""
    if importlib.util.find_spec("torch") is None:
        return
    subprocess.run([sys.executable, "-c", MAKE_TORCH, str(folder)], check=True, stderr=subprocess.DEVNULL)
    (folder / "recipes" / "from_torch.yaml").write_text("# @package _global_" + TORCH_RECIPE.format(folder=folder))
    source, target = folder / "torch_source.pt", folder / "torch_target.keras"
    theirs = f"import torch; print(*torch.load({str(source)!r}, weights_only=True, mmap=True)['state_dict'])"
    script = [sys.executable, str(HERE / "scripts.py"), "torch", str(source), str(target), str(folder / "out.keras")]
    moving = transferpipe("run", "recipe=from_torch", "hydra.run.dir=out")
    for name, ours, other, goal in (
        ("`inspect` of a `.pt`, 537 MB", transferpipe("inspect", str(source)), [sys.executable, "-c", theirs], 1),
        ("`torch.load`, 537 MB into `.keras`, transposed", moving, script, 0.3),
    ):
        mine, others = pairs(ours, other, folder, count, clean(folder))
        yield compared(name, mine, others, goal)


# Three models of 503 MB, and what a script does that checks nothing and flushes nothing.
MAKE_MERGED = """
import sys, numpy as np
from safetensors.numpy import save_file
for seed, name in enumerate(("base", "one", "two")):
    rng = np.random.default_rng(seed)
    save_file({f"l{i}": rng.standard_normal((2048, 2048), "float32") for i in range(30)}, f"{sys.argv[1]}/{name}.safetensors")
"""
MERGES = {
    "mean": "mean",
    "linear": "{linear: [0.2, 0.5, 0.3]}",
    "task_arithmetic": "{task_arithmetic: {base: base, weights: [0.6, 0.4]}}",
    "ties": "{ties: {base: base, density: 0.5}}",
}
# The same in mergekit's words: its method, and the weights of base, one and two. `mergekit-pytorch` takes any tensors.
OF_MERGEKIT = {
    "mean": ("linear", (1, 1, 1)),
    "linear": ("linear", (0.2, 0.5, 0.3)),
    "task_arithmetic": ("task_arithmetic", (None, 0.6, 0.4)),
    "ties": ("ties", (None, 1, 1)),
}
MERGE_RECIPE = """
sources: {{base: {folder}/base.safetensors, one: {folder}/one.safetensors, two: {folder}/two.safetensors}}
target: {{path: {folder}/base.safetensors}}
mapping: {{all: {{to: '.*', from: ['base:\\0', 'one:\\0', 'two:\\0'], merge: {merge}}}}}
save: {{path: out.safetensors}}
"""


MAKE_STACKED = """
import json, struct, sys
size, head = 128 << 20, {"__metadata__": {"format": "pt"}}
for i in range(32):
    place = {"shape": [4096, size // 4096 // 4], "data_offsets": [size * i, size * (i + 1)]}
    head[f"model.layers.{i}.weight"] = {"dtype": "F32", **place}
text = json.dumps(head).encode()
text += b" " * (-len(text) % 8)
with open(f"{sys.argv[1]}/deep.safetensors", "wb") as file:  # zeros, of which the disk holds none
    file.write(struct.pack("<Q", len(text)) + text)
    file.truncate(8 + len(text) + 32 * size)
"""
STACKED = r"""
target: {{like: {folder}/deep.safetensors, repeat: {{'model/layers/(\d+)': '0-23, 8-31'}}}}
unmatched: keep
save: {{path: out.safetensors}}
"""


def stacked(folder):
    """Yield how long 48 layers of 6 GiB take of a file with 32 of 4 GiB, verified and flushed; then the memory."""
    subprocess.run([sys.executable, "-c", MAKE_STACKED, str(folder)], check=True)
    (folder / "recipes" / "stacked.yaml").write_text("# @package _global_" + STACKED.format(folder=folder))
    run = run_once(transferpipe("run", "recipe=stacked", "hydra.run.dir=out"), folder)
    clean(folder)()
    (folder / "deep.safetensors").unlink()
    yield replace(alone("48 layers of a file of 32, 4 GiB", [run]), most_megabytes=300)


def mergekit(folder, method):
    """Return the command by which mergekit merges the same files with a method; None where it is not on the path."""
    command = shutil.which("mergekit-pytorch")
    if command is None:
        return None
    kind, weights = OF_MERGEKIT[method]
    models = [
        {"model": str(folder / f"{name}.safetensors"), "parameters": {"weight": weight, "density": 0.5}}
        for name, weight in zip(("base", "one", "two"), weights, strict=True)
        if weight is not None
    ]
    config = {"merge_method": kind, "models": models, "dtype": "float32"}
    if weights[0] is None:
        config["base_model"] = str(folder / "base.safetensors")
    path = folder / f"mergekit_{method}.yaml"
    path.write_text(json.dumps(config))
    return [command, str(path), str(folder / "out")]


def merges(folder, count):
    """Yield a row a method: three models of 503 MB merged, verified and flushed, against a script; then the memory.

    Where `mergekit-pytorch` is on the path, a row follows in which that stands in the place of the script.
    """
    subprocess.run([sys.executable, "-c", MAKE_MERGED, str(folder)], check=True)
    for method, merge in MERGES.items():
        text = MERGE_RECIPE.format(folder=folder, merge=merge)
        (folder / "recipes" / f"merge_{method}.yaml").write_text("# @package _global_" + text)
        ours = transferpipe("run", f"recipe=merge_{method}", "hydra.run.dir=out")
        script = [sys.executable, str(HERE / "scripts.py"), "merge", method, str(folder), str(folder / "out.keras")]
        mine, theirs = pairs(ours, script, folder, count, clean(folder))
        yield compared(f"{method} of 3 x 503 MB", mine, theirs, 1.5, 150)
        if other := mergekit(folder, method):
            mine, theirs = pairs(ours, other, folder, count, clean(folder))
            yield compared(f"{method} of 3 x 503 MB, against mergekit", mine, theirs, 1.0, 150)


def start_up(folder, count):
    """Yield a row a command: how long the whole process takes; that of a plan anew, and as it was composed before."""
    plan = transferpipe("plan", "recipe=two-files_MobileNetV2")
    commands = {
        "`transferpipe --help`": (transferpipe("--help"), 0.06),
        "`transferpipe plan`, two files, composed anew": (["env", "TRANSFERPIPE_NO_CACHE=1", *plan], 0.4),
        "`transferpipe plan`, two files, composed before": (plan, 0.3),
        "`transferpipe plan`, a builder, built before": (transferpipe("plan", "recipe=builder_MobileNetV2"), 0.4),
        "`transferpipe inspect`": (transferpipe("inspect", "MobileNetV2_source.keras"), 0.25),
    }
    for name, (command, goal) in commands.items():
        run_once(command, folder)
        yield alone(name, [run_once(command, folder) for _ in range(count)], goal)


# As many weights as a model of some depth has, each of a megabyte; and four gigabytes in few.
MAKE_TENSORS = """
import json, sys, numpy as np
path, count, side = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
size, random = 4 * side * side, np.random.default_rng(int(sys.argv[4]))
head = {f"b{i}/w": {"dtype": "F32", "shape": [side, side], "data_offsets": [i * size, (i + 1) * size]} for i in range(count)}
text = json.dumps(head).encode()
text += b" " * (-len(text) % 8)
with open(path, "wb") as file:
    file.write(len(text).to_bytes(8, "little") + text)
    for i in range(count):
        file.write(random.standard_normal((side, side), "float32").tobytes())
"""
TENSORS_RECIPE = """
source: {{path: {folder}/{name}_s.safetensors}}
target: {{path: {folder}/{name}_t.safetensors}}
mapping: {{all: {{to: '.*'}}}}
save: {{path: out.safetensors}}
"""


def tensors(folder, count, large):
    """Yield a row a file of safetensors, moved, verified and flushed, against copying the same bytes and flushing them."""
    kinds = [("middle", 500, 512, "500 x 1 MB", 2.2), *([("large", 16, 8192, "4.3 GB", 1.5)] if large else [])]
    for name, number, side, title, goal in kinds:
        for seed, end in enumerate(("s", "t")):  # a target with the source's values would be read whole
            path = folder / f"{name}_{end}.safetensors"
            subprocess.run(
                [sys.executable, "-c", MAKE_TENSORS, str(path), str(number), str(side), str(seed)], check=True
            )
        text = TENSORS_RECIPE.format(folder=folder, name=name)
        (folder / "recipes" / f"tensors_{name}.yaml").write_text("# @package _global_" + text)
        ours = transferpipe("run", f"recipe=tensors_{name}", "hydra.run.dir=out")
        copy = ["sh", "-c", f"cp {name}_s.safetensors out.keras && sync out.keras"]
        mine, theirs = pairs(ours, copy, folder, count, clean(folder))
        row = f"`cp` + flush, {title} safetensors"
        yield compared(row, mine, theirs, goal, 100)
        yield floors.of_passes(row, f"{name}_s.safetensors", copy, folder, count, clean(folder))
        clean(folder)()
        for path in folder.glob(f"{name}_?.safetensors"):
            path.unlink()


# Bytes read and written by the process, over the bytes of the model; imports and configurations are in it.
PASSES = """
import json, sys
from pathlib import Path
sys.argv = ["transferpipe", *sys.argv[1:]]
from transferpipe.__main__ import start
try:
    start()
finally:
    counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    Path("passes.json").write_text(json.dumps([int(counts[k]) for k in ("rchar", "wchar")]))
"""


def passes(folder, count, large):
    """Yield a row a format: how often the bytes of a model are read and written by a run, counted by the kernel."""
    for name, seed in (("passes_s", 0), ("passes_t", 1)):  # a target with the source's values is read whole, and said
        run_once(
            [sys.executable, "-c", MAKE_TENSORS, str(folder / f"{name}.safetensors"), "60", "1024", str(seed)], folder
        )
    text = TENSORS_RECIPE.format(folder=folder, name="passes")
    (folder / "recipes" / "passes.yaml").write_text("# @package _global_" + text)
    for title, recipe, file, goal in (
        ("VGG16 `.keras`, the target's file read once among them", "two-files_VGG16", "VGG16_source.keras", 6.3),
        ("safetensors", "passes", "passes_s.safetensors", 4.3),
    ):
        clean(folder)()
        run_once([sys.executable, "-c", PASSES, "run", f"recipe={recipe}", "hydra.run.dir=out"], folder)
        read, written = (n / (folder / file).stat().st_size for n in json.loads((folder / "passes.json").read_text()))
        yield Row(f"passes over the bytes, {title}: reading", read, ratio=read, goal=goal)
        yield Row(f"passes over the bytes, {title}: writing", written, ratio=written, goal=1.1)


def further_variants(folder, count, large):
    """Yield what a further variant of a sweep takes, not scored and scored."""
    import scored  # both know this module
    import sweeps

    yield from sweeps.further_variants(folder / "sweeps", count)
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    yield from scored.rows(folder / "scored", 200 if large else 20)


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one run of each, without the models of 4 GB")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="these parts alone")
    add_result_options(parser)
    arguments = parser.parse_args()
    count, large = (1, False) if arguments.quick else (5, True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")  # an earlier measurement is no help, nor the user's harm
        prepare(folder, large=large and "cp" in arguments.only)
        rows = []
        for row in itertools.chain.from_iterable(PARTS[part](folder, count, large) for part in arguments.only):
            rows.append(row)
            print(*row.cells(), sep=" | ", flush=True)
    report(rows, arguments)


PARTS = {
    "start": lambda folder, count, _: start_up(folder, count),
    "scripts": lambda folder, count, _: against_scripts(folder, count),
    "cp": against_cp,
    "tensors": tensors,
    "passes": passes,
    "variants": lambda folder, count, _: many_variants(folder, count),
    "sweeps": further_variants,
    "torch": lambda folder, count, _: against_torch(folder, count),
    "merges": lambda folder, count, _: merges(folder, count),
    "scale": lambda folder, count, _: scale.rows(folder, count),
}


if __name__ == "__main__":
    main()
