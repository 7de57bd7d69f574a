"""Measure all kinds: ``python -m tests.faults.run --pairs 14 --seed 0 [--kinds WORD …] [--json] [--write-table]``.

Each kind is measured in one of `--jobs` processes. With `--progress FILE`, outside of the repository, what was counted is
kept there after each kind, so that a run that was interrupted goes on, as long as the code is the same.
"""

import argparse
import contextlib
import gc
import hashlib
import io
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
import zlib
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from transferpipe.prove.parity.causes import cause

from . import kinds_graph, kinds_settings, kinds_torch, kinds_values, twins  # noqa: F401  (they enter their kinds)
from .judge import Said, folder_of, has_parity, new_codes, others, parity_files, transferred
from .kinds import FAULTS, TWINS, Draw, clear

TABLE = Path(__file__).parent / "TABLE.md"


@dataclass
class Row:
    """What was counted for one kind.

    Attributes:
        said: refused, warned, silent, converted (transferpipe made it right by itself), crashed.
        parity: found, earlier (refused before a forward pass), converted, left open (said to be inconclusive, naming the
            weights that were kept), missed, refused otherwise.
        load_weights: what plain Keras made of it.
        loop: what a loop of `set_weights` made of it.
        harmless: cases whose wrong model computes the same; they count for nothing.
        codes: of the warnings that the right twin does not get.
        noise: warnings of the right twins, by code.
        silent: an example of each silent case.
    """

    name: str
    group: str
    seen: str
    said: Counter = field(default_factory=Counter)
    parity: Counter = field(default_factory=Counter)
    load_weights: Counter = field(default_factory=Counter)
    loop: Counter = field(default_factory=Counter)
    harmless: int = 0
    codes: Counter = field(default_factory=Counter)
    twins: Counter = field(default_factory=Counter)
    noise: dict = field(default_factory=dict)
    errors: dict = field(default_factory=dict)

    @classmethod
    def of(cls, data):
        """Return the row that was written as `data`."""
        counted = ("said", "parity", "load_weights", "loop", "codes", "twins")
        return cls(**{k: Counter(v) if k in counted else v for k, v in data.items()})


def make(kind, seed, number, root, user="ours"):
    """Return the pair or case of one kind, its folder, and whatever it draws from; the same for each `user`."""
    clear()
    folder = folder_of(root, f"{zlib.crc32(kind.name.encode())}_{number}_{user}")
    return kind.make(Draw((seed, zlib.crc32(kind.name.encode()), number), folder)), folder


def plain_case(kind, seed, number, root):
    """Return the wrong case of a pair, for plain Keras, and its folder."""
    pair, folder = make(kind, seed, number, root, "plain")
    return pair.wrong, folder


def measure(kind, seed, pairs, root, *, parity=0, plain=True):
    """Return the row of one kind of fault; a parity check is made of the first `parity` pairs."""
    row = Row(kind.name, kind.group, kind.seen)
    for number in range(pairs):
        # Each on models of its own: a transfer gives a target more than its weights, such as what an adapted layer knows.
        baseline = others(*plain_case(kind, seed, number, root)) if plain else None
        pair, folder = make(kind, seed, number, root)
        right = count_twin(row, pair.right) if pair.right else None
        said = transferred(pair.wrong)
        if baseline:
            row.load_weights[baseline.load_weights] += 1
            row.loop[baseline.loop] += 1
            if said.right and "right" in (baseline.load_weights, baseline.loop):
                row.harmless += 1  # the values as they are compute the same in this pair: it counts for nothing
                continue
        judge_fault(row, said, right)
        if number < parity:
            judge_parity(row, said, transferred(pair.wrong, **parity_files(pair.wrong, folder)), pair.wrong)
            if pair.right and pair.right.inputs is not None:
                checked = transferred(pair.right, **parity_files(pair.right, folder))
                row.twins["parity passed" if checked.status == "done" else "parity refused"] += 1
                if checked.status != "done":
                    row.noise.setdefault("parity", checked.text[:600])
    return row


def judge_fault(row, said, right):
    """Count what transferpipe said of a wrong case; a warning that the right twin gets as well is none."""
    new = new_codes(said, right)
    if said.status == "done" and said.right:
        row.said["converted"] += 1
    elif said.status != "done":
        row.said[said.status] += 1
        row.errors.setdefault(said.status, said.text[:400])
    else:
        row.said["warned" if new else "silent"] += 1
    row.codes.update(new)


def judge_parity(row, said, checked, case):
    """Count what the same transfer came to with a check of parity."""
    if said.status == "refused":
        row.parity["earlier"] += 1
    elif checked.status == "refused":
        wrong = checked.text.startswith("VerificationError") and not said.right
        row.parity["found" if wrong else "refused otherwise"] += 1
        row.errors.setdefault("parity", checked.text[:600])
    elif checked.status == "crashed":
        row.parity["crashed"] += 1
        row.errors.setdefault("parity crashed", checked.text[:600])
    else:
        row.parity["converted" if checked.right else "left open" if checked.open else "missed"] += 1


def count_twin(row, case, said=None):
    """Carry out a right case, count it, and return what was said."""
    said = said or transferred(case)
    outcome = "warned" if said.warnings else "quiet"
    if said.status != "done":
        outcome = said.status
        row.errors.setdefault(f"twin {said.status}", said.text[:600])
    elif said.right is False:
        outcome = "wrong"
    row.twins[outcome] += 1
    for code, where, text in said.warnings:
        row.noise.setdefault(code, f"{where}: {text}"[:400])
    return said


def measure_twin(kind, seed, count, root):
    """Return the row of one kind of right twin."""
    row = Row(kind.name, kind.group, "")
    for number in range(count):
        case, _ = make(kind, seed, number, root)
        if case is not None:
            count_twin(row, case)
    return row


def recipe_rows():
    """Return a row for each shipped recipe, planned as the command line plans it; those without their package left out."""
    from transferpipe.cli import main
    from transferpipe.cli.compose.folders import conf_folder

    for path in sorted((conf_folder() / "recipe").glob("*.yaml")):
        row, out, err = Row(f"conf/recipe/{path.name} (plan)", "recipes", ""), io.StringIO(), io.StringIO()
        clear()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(["plan", f"recipe={path.stem}", "--json"])
        if status:
            missing = status == 4 or any(
                w in err.getvalue() for w in ("is not installed", "not found", "a value is required")
            )
            row.twins["not here" if missing else "refused"] += 1
            row.errors["twin"] = err.getvalue()[:400]
        else:
            warnings = json.loads(out.getvalue())["warnings"]
            count_twin(row, None, Said("done", tuple((w["code"], w["where"], w["text"]) for w in warnings)))
        yield row


def table(rows, twin_rows, told):
    """Return the page."""
    lines = [
        "# Single faults in random pairs, and right twins",
        "",
        f"Made by `{told['command']}` in {told['seconds']:.0f} s, those of all processes together ({told['versions']}; the code's",
        f"digest, as `tests.faults.run.digest_of_code` gives it: {told['code']}).",
        "",
        "*refused*, *warned*, *silent*: what transferpipe says without a forward pass; a warning that the right twin of the",
        "pair gets as well does not count. *converted*: the weights were adapted, and the result is right. *parity*: the same",
        "with `verify: {parity: {inputs, expected}}`; *earlier* means that it was refused before, *left open* that the",
        "verdict is inconclusive, naming the weights that were kept. *load_weights* and *loop*:",
        "what plain Keras does with the same values: `model.load_weights`, and a loop of `set_weights`; wrong means wrong",
        "without an error. `-`: it cannot be tried (plain Keras does not read the file). What is right is decided by forward",
        "passes of Keras, torch or onnxruntime.",
        "",
        *_totals(rows, twin_rows),
        "",
        "| fault | shown by | pairs | refused | warned | converted | silent | parity | load_weights: wrong, raises, right | loop: wrong, raises, right | codes |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda r: (r.seen == "forward", r.group, r.name)):
        said, p = row.said, row.parity
        parity = _parity(p) if p else "-"
        cells = [
            row.name,
            row.seen,
            sum(said.values()),
            said["refused"],
            said["warned"],
            said["converted"],
            said["silent"] + said["crashed"],
        ]
        cells += [parity, _plain(row.load_weights), _plain(row.loop), ", ".join(sorted(row.codes))]
        lines.append("| " + " | ".join(str(c) for c in cells) + " |")
    lines += ["", "## Right twins that were warned of, refused, or wrong", ""]
    noisy = [
        r
        for r in (*rows, *twin_rows)
        if r.twins["warned"] or r.twins["refused"] or r.twins["wrong"] or r.twins["crashed"]
    ]
    lines += ["| twin | cases | outcome | warnings |", "|---|---|---|---|"] if noisy else ["None."]
    for row in noisy:
        outcome = ", ".join(f"{k} {v}" for k, v in sorted(row.twins.items()))
        lines.append(f"| {row.name} | {sum(row.twins.values())} | {outcome} | {', '.join(sorted(row.noise))} |")
    return "\n".join(lines) + "\n"


def _parity(counts):
    return ", ".join(f"{k} {v}" for k, v in sorted(counts.items()))


def _plain(counts):
    return f"{counts['wrong']}, {counts['raises']}, {counts['right']}" if counts["-"] < sum(counts.values()) else "-"


def _totals(rows, twin_rows):
    said, parity, loads, loops = (
        sum((getattr(r, k) for r in rows), Counter()) for k in ("said", "parity", "load_weights", "loop")
    )
    shown = [r for r in rows if r.seen != "forward"]
    silent = [r for r in shown if r.said["silent"] or r.said["crashed"]]
    quiet = Counter()
    for row in (*rows, *twin_rows):
        quiet.update({k: v for k, v in row.twins.items() if not k.startswith("parity") and k != "not here"})
    count = sum(quiet.values())
    out = [
        f"* {len(rows)} kinds, {sum(said.values())} faults: refused {said['refused']}, warned {said['warned']}, converted {said['converted']}, silent {said['silent']}, crashed {said['crashed']}.",
        f"* {len(shown)} of these kinds are shown by configurations, graphs, names or values; never silent: {len(shown) - len(silent)} of {len(shown)}.",
        f"* plain `load_weights`: wrong {loads['wrong']}, raises {loads['raises']}, right {loads['right']}, cannot be tried {loads['-']}; loop of `set_weights`: wrong {loops['wrong']}, raises {loops['raises']}, right {loops['right']}.",
        f"* {count} right twins: {', '.join(f'{k} {v}' for k, v in sorted(quiet.items()))}.",
    ]
    if parity:
        out.insert(2, f"* parity: {', '.join(f'{k} {v}' for k, v in sorted(parity.items()))}.")
    return out


def versions():
    """Return what the figures were made with."""
    import tensorflow as tf

    return f"Python {platform.python_version()}, Keras {keras.__version__}, TensorFlow {tf.__version__}, NumPy {np.__version__}"


def digest_of_code():
    """Return a digest of what is measured and of what measures it: rows of another code are not of one run with these."""
    root, digest = Path(__file__).parents[2], hashlib.sha256()
    for path in sorted((*root.glob("transferpipe/**/*.py"), *Path(__file__).parent.glob("*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def work_off(jobs, options):
    """Return what was counted for each job, `fault`, `twin` or `recipes` with a kind, in their order, and the seconds."""
    code = f"{digest_of_code()} {options.pairs} {options.parity} {options.twins} {options.seed}"
    lines = options.progress.read_text().splitlines() if options.progress and options.progress.exists() else []
    known = {(d["job"], d["name"]): d for d in map(json.loads, lines) if d["code"] == code}
    left = [job for job in jobs if job not in known]
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(do, job, vars(options)) for job in left]):
            data = {**done.result(), "code": code}
            known[data["job"], data["name"]] = data
            for row in data["rows"]:
                about = [row["name"], row["said"], row["parity"], row["codes"], row["twins"], sorted(row["noise"])]
                print(f"{len(known)}/{len(jobs)} {data['seconds']:.1f} s", *about, file=sys.stderr, flush=True)
            if options.progress:
                with options.progress.open("a") as file:
                    file.write(json.dumps(data) + "\n")
    return [
        (job, row, known[job, name]["seconds"] * (not i))
        for job, name in jobs
        for i, row in enumerate(known[job, name]["rows"])
    ]


def do(job, options):
    """Measure one kind, in a process of its own."""
    what, name = job
    # The search for the likely cause of a difference decides nothing here.
    cause._MOST_EXPERIMENTS = 20
    gc.freeze()  # Keras collects garbage before each build of transferpipe's: what was imported need not be looked at
    began, seed = time.perf_counter(), options["seed"]
    with tempfile.TemporaryDirectory() as root:
        if what == "fault":
            rows = [measure(FAULTS[name], seed, options["pairs"], root, parity=options["parity"])]
        elif what == "twin":
            count = 1 if TWINS[name].group == "applications" else options["twins"]
            rows = [measure_twin(TWINS[name], seed, count, root)]
        else:
            rows = list(recipe_rows())
    return {"job": what, "name": name, "rows": [vars(r) for r in rows], "seconds": time.perf_counter() - began}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=14, help="random pairs of each kind of fault")
    parser.add_argument("--twins", type=int, default=4, help="cases of each kind of right twin")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--kinds", nargs="*", default=(), help="only kinds whose name or group holds one of these words"
    )
    parser.add_argument("--json", action="store_true", help="print everything counted, with an example of each text")
    parser.add_argument("--parity", type=int, default=3, help="pairs of each kind that a parity check is made of")
    parser.add_argument("--write-table", action="store_true", help=f"write {TABLE.name}")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--progress", type=Path, help="JSON lines: an interrupted run of the same code goes on from it")
    options = parser.parse_args(argv)

    def wanted(kind):
        return not options.kinds or any(w in kind.name or w == kind.group for w in options.kinds)

    with tempfile.TemporaryDirectory() as root:
        options.parity = options.parity if has_parity(Path(root)) else 0
    jobs = [("fault", name) for name in FAULTS if wanted(FAULTS[name])]
    jobs += [("twin", name) for name in TWINS if wanted(TWINS[name])]
    jobs += [] if options.kinds else [("recipes", "")]
    found = work_off(jobs, options)
    rows = [Row.of(r) for job, r, _ in found if job == "fault"]
    twin_rows = [Row.of(r) for job, r, _ in found if job != "fault"]
    spent = sum(seconds for *_, seconds in found)
    kinds = " --kinds " + " ".join(options.kinds) if options.kinds else ""
    command = f"python -m tests.faults.run --pairs {options.pairs} --twins {options.twins} --parity {options.parity} --seed {options.seed}{kinds} --write-table"
    told = {"command": command, "seconds": spent, "versions": versions(), "code": digest_of_code()}
    page = table(rows, twin_rows, told)
    print(json.dumps([vars(r) for r in (*rows, *twin_rows)], indent=1) if options.json else page)
    if options.write_table:
        TABLE.write_text(page)


if __name__ == "__main__":
    main()
