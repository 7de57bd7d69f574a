"""What sweeps cost, in one command and one table: ``python tests/benchmarks/sweeps.py [--quick] [--out TABLE.md]``.

Whole processes, medians of five runs (``--quick``: one, of fewer variants) on a machine that was idle otherwise; files
lie in the page cache, outputs are removed between runs. Variants differ in one edited element, so that each has a plan
and a result of its own, and none is scored: this is what transferpipe adds to a score, not what the score costs.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import floors
from measure import Row, median, run_once
from run import HERE, MAKE_MODELS, transferpipe

MODELS = ("VGG16", "MobileNetV2")
EDITED = "vars: {{x: 0}}\nedit: {{probe: {{at: {at}, index: {index}, set: '${{vars.x}}'}}}}\n"
LARGE = """
source: {{path: {folder}/{name}_source.keras}}
target: {target}
mapping: {{all: {{to: '.*', except: predictions}}, head: {{to: predictions, from: null}}}}
ignore: [predictions]
"""
DIGITS = """
source: {{path: pkg://transferpipe/zoo/data/digits_0_4.keras}}
target: {target}
mapping: {{trunk: {{to: trunk}}, head: {{to: head, from: null}}}}
ignore: ['head/.*']
score: null
"""
SMALL, SMALL_FILE, BUILT, LARGE_FILE = "small-builder", "small-file", "MobileNetV2-builder", "VGG16-file"
TITLES = {
    SMALL: "digits_cnn (59 kB), builder",
    SMALL_FILE: "digits_cnn, two files",
    BUILT: "MobileNetV2 (15 MB), builder",
    LARGE_FILE: "VGG16 (554 MB), two files",
}


def prepare(folder):
    """Write the models and the recipes."""
    subprocess.run([sys.executable, "-c", MAKE_MODELS, str(folder), *MODELS], check=True, stderr=subprocess.DEVNULL)
    targets = {
        SMALL: "{_target_: transferpipe.zoo.digits_cnn, classes: 5}",
        SMALL_FILE: "{path: pkg://transferpipe/zoo/data/digits_0_4.keras}",
        BUILT: "{_target_: keras.applications.MobileNetV2, weights: null, classes: 10}",
        LARGE_FILE: f"{{path: {folder}/VGG16_target.keras}}",
    }
    (folder / "recipes").mkdir()
    for name, target in targets.items():
        small = name.startswith("small")
        body = (DIGITS if small else LARGE).format(folder=folder, name=name.partition("-")[0], target=target)
        edited = EDITED.format(at="head/bias" if small else "predictions/bias", index="[0]")
        (folder / "recipes" / f"{name}.yaml").write_text(f"# @package _global_{body}{edited}")


def sweep_of(recipe, variants):
    """Return the words of a sweep of so many variants."""
    return "sweep", f"recipe={recipe}", f"vars.x=range({variants})", "hydra.sweep.dir=out"


class Sweeps:
    """Runs commands in the folder of the models."""

    def __init__(self, folder, count):
        self.folder, self.count = folder, count
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")

    def clean(self):
        """Remove what the last run wrote, and what it kept of models: a single run is to build its own."""
        shutil.rmtree(self.folder / "cache" / "transferpipe" / "built", ignore_errors=True)
        shutil.rmtree(self.folder / "out", ignore_errors=True)

    def measure(self, *words, keep=False):
        """Return the runs of one command line, each from a clean folder unless `keep`; one more run warms up."""
        runs = []
        for i in range(self.count + 1):
            if not keep:
                self.clean()
            run = run_once(transferpipe(*words), self.folder)
            if i:
                runs.append(run)
        return runs

    def sweep(self, recipe, variants, *more, keep=False):
        """Return the runs of a sweep of so many variants."""
        return self.measure(*sweep_of(recipe, variants), *more, keep=keep)

    def one(self, recipe):
        """Return the runs of the recipe alone."""
        return self.measure("run", f"recipe={recipe}", "hydra.run.dir=out")


def further_variants(folder, count):
    """Yield rows for the table of ``run.py``: what a further variant takes, and what memory many take beside few."""
    folder.mkdir()
    prepare(folder)
    sweeps = Sweeps(folder, count)
    for name, goal in ((SMALL, 0.015), (SMALL_FILE, 0.015), (BUILT, 0.12)):
        one, many = sweeps.one(name), sweeps.sweep(name, 20)
        each, cpu = ((median(many, field) - median(one, field)) / 19 for field in ("seconds", "cpu"))
        memory = median(many, "megabytes")
        title = f"a further variant, {TITLES[name]}"
        yield Row(title, each, cpu, goal=goal, megabytes=memory)
        sweeps.clean()
        run_once(transferpipe(*sweep_of(name, 1)), folder)
        yield floors.of_variant(title, folder / "out", count)
    # Of two files, where nothing else holds memory that could hide what grows.
    few, many = (median(sweeps.sweep(SMALL_FILE, number), "megabytes") for number in (20, 200))
    yield Row("200 variants against 20 (ratio: of peak memory)", 0.0, ratio=many / few, goal=1.1, megabytes=many)


def row(title, runs, note):
    """Return a row of the table."""
    return title, f"{median(runs):.2f} s", f"{max(r.megabytes for r in runs):.0f} MB", note


def costs(sweeps, name, numbers):
    """Yield the costs of one run and of sweeps of `numbers` variants."""
    one = sweeps.one(name)
    yield row(f"{TITLES[name]}: one run", one, "")
    for number in numbers:
        many = sweeps.sweep(name, number)
        ratio, each = median(many) / median(one), (median(many) - median(one)) / (number - 1)
        note = f"{ratio:.2f} times one run; {each * 1000:.0f} ms a further variant"
        yield row(f"{TITLES[name]}: {number} variants", many, note)


def planning(sweeps, number):
    """Yield what planning alone costs a variant, and what it costs to find a finished sweep finished."""
    one, many = sweeps.sweep(SMALL_FILE, 1, "--dry-run"), sweeps.sweep(SMALL_FILE, number, "--dry-run")
    note = f"{(median(many) - median(one)) / (number - 1) * 1000:.1f} ms a further variant"
    yield row(f"{TITLES[SMALL_FILE]}: planning {number} variants (`--dry-run`)", many, note)
    sweeps.clean()
    run_once(transferpipe(*sweep_of(SMALL_FILE, number)), sweeps.folder)
    again = sweeps.sweep(SMALL_FILE, number, keep=True)
    yield row(f"the same command again, all {number} finished", again, "nothing runs")


def resumed(sweeps, number):
    """Yield what it takes to finish a sweep of which half is there."""
    whole = median(sweeps.sweep(SMALL_FILE, number))
    runs = []
    for _ in range(sweeps.count):
        sweeps.clean()
        for variants in (number // 2, number):
            last = run_once(transferpipe(*sweep_of(SMALL_FILE, variants)), sweeps.folder)
        runs.append(last)
    yield row(f"{number} variants, half of them finished before", runs, f"{median(runs) / whole:.2f} of all anew")


def launching(sweeps, number):
    """Yield what the launchers add, where they are installed."""
    here = median(sweeps.sweep(SMALL_FILE, number))
    for preset in ("processes", "slurm_here", "ray_here"):
        done = subprocess.run(
            transferpipe("plan", f"recipe={SMALL_FILE}", f"hydra/launcher={preset}"), cwd=sweeps.folder,
            capture_output=True, check=False,
        )  # fmt: skip
        if done.returncode == 0:
            runs = sweeps.sweep(SMALL_FILE, number, f"hydra/launcher={preset}")
            yield row(f"{number} variants, `hydra/launcher={preset}`", runs, f"{here:.2f} s in one process")


def scripts(sweeps, number):
    """Yield the hand-written script, a process a variant, one after the other."""
    source = sweeps.folder / "MobileNetV2_source.keras"
    command = [
        sys.executable, str(HERE / "scripts.py"), "builder", str(source), "MobileNetV2", str(sweeps.folder / "o.keras")
    ]  # fmt: skip
    runs = [run_once(command, sweeps.folder) for _ in range(number)]
    total = sum(r.seconds for r in runs)
    ours = median(sweeps.sweep(BUILT, number))
    note = f"{ours / total:.3f}: {ours:.2f} s as one sweep, verified"
    median_of_one = statistics.median(r.seconds for r in runs)
    yield (
        f"{number} processes of the hand-written script, MobileNetV2", f"{total:.1f} s",
        f"{max(r.megabytes for r in runs):.0f} MB", f"{median_of_one:.2f} s each; ratio {note}",
    )  # fmt: skip


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one run of each, of fewer variants")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    arguments = parser.parse_args()
    few, many = (5, 20) if arguments.quick else (20, 200)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        sweeps = Sweeps(folder, 1 if arguments.quick else 5)
        parts = (
            costs(sweeps, SMALL, (few, many)), costs(sweeps, SMALL_FILE, (few, many)), costs(sweeps, BUILT, (few,)),
            costs(sweeps, LARGE_FILE, (few,)), planning(sweeps, many), resumed(sweeps, few), launching(sweeps, few),
            scripts(sweeps, few),
        )  # fmt: skip
        rows = []
        for part in parts:
            for line in part:
                rows.append(line)
                print(*line, sep=" | ", flush=True)
    lines = ["| what | wall | peak memory | |", "|---|---|---|---|", *("| " + " | ".join(r) + " |" for r in rows)]
    print("\n".join(lines))
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
