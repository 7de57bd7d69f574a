"""What a scored variant costs, in one command: ``python tests/benchmarks/scored.py [--count 200] [--jobs] [--retraced]``.

CPU seconds and peak memory of whole processes: sweeps of few and of many variants of one architecture, scored and not.
The difference of the two, for a further variant, is what scoring costs; that of a training of two epochs is nearly all
overhead. Then the wall time of trained scores in one process and in two (`hydra/launcher=processes`), which says
something only on a machine with two idle cores. Not part of the test suite.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import Row

RECIPE = """# @package _global_
vars: {x: 0}
source: {path: pkg://transferpipe/zoo/data/digits_0_4.keras}
target: {_target_: transferpipe.zoo.digits_cnn, classes: 5}
mapping: {trunk: {to: trunk}, head: {to: head, from: null}}
ignore: ['head/.*']
freeze: [trunk]
edit: {probe: {at: head/bias, index: [0], set: '${vars.x}'}}
score:
  _target_: transferpipe.score.finetune
  epochs: 2
  data: {_target_: transferpipe.score.digits_data, labels: [5, 6, 7, 8, 9]}
"""
# Each variant another architecture, of which nothing that was traced can be used again.
RETRACED = """# @package _global_
vars: {x: 0}
source: {path: pkg://transferpipe/zoo/data/digits_0_4.keras}
target: {_target_: widths.widened, more: '${vars.x}'}
mapping: {trunk: {to: trunk}, head: {to: (hidden|head), from: null}}
ignore: ['(hidden|head)/.*']
freeze: [trunk]
score:
  _target_: transferpipe.score.finetune
  epochs: 2
  data: {_target_: transferpipe.score.digits_data, labels: [5, 6, 7, 8, 9]}
"""
WIDTHS = """
import keras
from transferpipe.zoo import digits_cnn

def widened(more):
    model = digits_cnn()
    hidden = keras.layers.Dense(8 + more, activation="relu", name="hidden")(model.get_layer("trunk")(model.input))
    return keras.Model(model.input, keras.layers.Dense(5, activation="softmax", name="head")(hidden))
"""
FEW = 2
SCORES = {
    "none": ["score=null"],
    "finetune, 2 epochs": [],
    "evaluate": ["score=evaluate", "score.data.labels=[5,6,7,8,9]"],
    "head_training": ["score=head_training"],
}


def write_recipes(folder):
    """Write the recipes, and the builder that one of them names."""
    (folder / "recipes").mkdir(parents=True)
    (folder / "recipes" / "scored.yaml").write_text(RECIPE)
    (folder / "recipes" / "retraced.yaml").write_text(RETRACED)
    (folder / "widths.py").write_text(WIDTHS)


def sweep(folder, variants, *words, recipe="scored"):
    """Run a sweep, and return its CPU seconds, wall seconds and peak memory in MB."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    command = [sys.executable, "-m", "transferpipe", "sweep", f"recipe={recipe}", f"vars.x=range({variants})", *words]
    started = time.perf_counter()
    process = subprocess.Popen(
        [*command, "hydra.sweep.dir=out"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command} failed with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - started, usage.ru_maxrss / 1024


def further_variants(folder, count):
    """Return, by score, CPU seconds and MB of a further variant."""
    found = {}
    for name, words in SCORES.items():
        few, many = sweep(folder, FEW, *words), sweep(folder, count, *words)
        further = count - FEW
        found[name] = {"cpu_seconds": (many[0] - few[0]) / further, "megabytes": (many[2] - few[2]) / further}
        print(
            f"{name}: {found[name]['cpu_seconds']:.3f} CPU s, {found[name]['megabytes']:.2f} MB a variant", flush=True
        )
    return found


def retraced(folder, count):
    """Return CPU seconds and MB of a further variant where each is another architecture, traced anew."""
    # What a process keeps of TensorFlow's own is there after a handful of traces.
    some = max(FEW, count // 4)
    few, many = (sweep(folder, number, recipe="retraced") for number in (some, count))
    found = {"cpu_seconds": (many[0] - few[0]) / (count - some), "megabytes": (many[2] - few[2]) / (count - some)}
    print(f"each traced anew: {found['cpu_seconds']:.3f} CPU s, {found['megabytes']:.2f} MB a variant", flush=True)
    return found


def rows(folder, count):
    """Yield rows for the table of ``run.py``: processor seconds of a further scored variant, memory of many and of few."""
    write_recipes(folder)
    for name, found in further_variants(folder, count).items():
        each, goal = found["cpu_seconds"], None if name == "none" else 0.4
        yield Row(f"a further variant, score: {name} (processor time)", each, each, goal=goal)
        title = f"MB that {count} variants take more than {FEW}, each, score: {name} (ratio)"
        yield Row(title, 0.0, ratio=max(0.0, found["megabytes"]), goal=0.1)
    found = retraced(folder, count)
    each = found["cpu_seconds"]
    yield Row("a further variant, each another architecture (processor time)", each, each)
    title = f"MB a further variant takes up to {count}, each another architecture (ratio)"
    yield Row(title, 0.0, ratio=max(0.0, found["megabytes"]))


def two_jobs(folder, count):
    """Return the wall time of longer trainings in one process and in two, and their ratio."""
    words = ["score.epochs=300", "+score.patience=300"]
    one = sweep(folder, count, *words)[1]
    two = sweep(folder, count, *words, "hydra/launcher=processes", "hydra.launcher.n_jobs=2")[1]
    print(f"{count} trained variants: {one:.1f} s in one process, {two:.1f} s in two, {one / two:.2f} times as fast")
    return {"one": one, "two": two, "ratio": one / two}


def main():
    """Measure, print, and write the result where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="variants of the longer sweep; 0 measures none of it")
    parser.add_argument(
        "--jobs", type=int, nargs="?", const=40, metavar="N", help="also one process against two, of N trained variants"
    )
    parser.add_argument(
        "--retraced", type=int, nargs="?", const=80, metavar="N",
        help="also N variants of as many architectures; with --count 0 these alone",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, help="also write the numbers to this JSON file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_recipes(folder)
        result = {"further_variant": further_variants(folder, arguments.count)} if arguments.count > FEW else {}
        if arguments.retraced:
            result["retraced"] = retraced(folder, arguments.retraced)
        if arguments.jobs:
            result["jobs"] = two_jobs(folder, arguments.jobs)
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
