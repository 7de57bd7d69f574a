"""Sweeps of twelve variants that are killed, or lose a worker, at random times, and the same command once more."""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from one_of_each import write_safetensors

from transferpipe.files.publishing.atomic import TEMPORARY
from transferpipe.sweep.running.job import DONE, STARTED, read_result

from .children import Child, End, command, is_at_work, is_catching, start, warm
from .rows import Row

VARIANTS = 12
RECIPE = """
source: {path: m.safetensors}
target: {path: m.safetensors}
vars: {x: 0}
mapping: {all: {to: ".*"}}
edit: {probe: {at: a0/kernel, index: [0, 0], set: '${vars.x}'}}
save: {path: out.npz}
"""
SCORED = """
source: {path: pkg://transferpipe/zoo/data/digits_0_4.keras}
target: {path: pkg://transferpipe/zoo/data/digits_0_4.keras}
vars: {x: 0}
mapping: {all: {to: ".*"}}
edit: {probe: {at: head/bias, index: [0], set: '${vars.x}'}}
score: {_target_: my_score.value}
"""
SCORE = """
def value(model):
    return float(model.get_layer("head").get_weights()[1][0])
"""
ENGINES = {
    "joblib": ("hydra_plugins.hydra_joblib_launcher", ["hydra/launcher=processes", "hydra.launcher.n_jobs=2"]),
    "submitit": ("hydra_plugins.hydra_submitit_launcher", ["hydra/launcher=slurm_here"]),
    "Ray": ("hydra_plugins.hydra_ray_launcher", ["hydra/launcher=ray_here"]),
}
SEARCHED = 30  # values that a search chooses from
SEARCH = (
    f"vars.x=int(interval(0,{SEARCHED - 1}))", "hydra/sweeper=optuna", "hydra.sweeper.sampler=random",
    f"hydra.sweeper.n_trials={VARIANTS}", "hydra.sweeper.storage=sqlite:///study.db",
)  # fmt: skip
_WANTED = "0 repeated, 0 lost, 0 different, nothing left running or half done"
_LONGEST = 900.0  # seconds
_POLL = 0.01  # seconds
_GONE = 10.0  # seconds that a worker has to see that its sweep is gone: it looks every second, and is ended by others after three more

State = dict[str, tuple[int, int]]
"""The file and the time of each result that says that its variant is done."""


@dataclass
class Sweeps:
    """A folder in which sweeps of one recipe are run.

    Attributes:
        folder: it.
        words: what every command says beside the recipe and what varies.
        whole: what an undisturbed sweep came to: the digests of the files of each variant.
        seconds: how long that took.
        first: when its first variant was begun.
        seen: of the case at hand, the results when they were first seen.
        repeated: variants whose result was written over or is gone since.
    """

    folder: Path
    words: list[str]
    whole: dict[str, list[str]] = field(default_factory=dict)
    seconds: float = 0
    first: float = 0
    seen: State = field(default_factory=dict)
    repeated: set[str] = field(default_factory=set)

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def run(self) -> Callable[[], int]:
        varies = f"vars.x=range({VARIANTS})"
        return command("sweep", "recipe=k", varies, "hydra.sweep.dir=out", *self.words)

    def start_over(self) -> None:
        shutil.rmtree(self.out, ignore_errors=True)
        self.seen, self.repeated = {}, set()

    def look(self) -> None:
        """Compare the results that are there with those that were."""
        here = {}
        for folder in self.out.glob("v*"):
            result = read_result(folder)
            if result and result["status"] == DONE:
                found = (folder / "result.json").stat()
                here[folder.name] = (found.st_ino, found.st_mtime_ns)
        self.repeated |= {key for key, known in self.seen.items() if here.get(key) != known}
        self.seen = {**here, **self.seen}

    def finish(self, child: Child) -> End:
        """Wait for the end of a sweep, and look at its results meanwhile."""
        while is_at_work(child.pid):
            self.look()
            time.sleep(_POLL)
        # A process whose first thread is done may go on with others; its time counts from its start.
        end = child.finish(_LONGEST)
        self.look()
        return end

    def moment(self, drawn: random.Random) -> tuple[int, float]:
        """Return a random moment of a sweep: after so many variants, and so many seconds more; -1 is its start."""
        done = drawn.randrange(-1, VARIANTS)
        return done, drawn.uniform(0, self.first if done < 0 else (self.seconds - self.first) / VARIANTS)

    def wait(self, child: Child, done: int, seconds: float) -> None:
        """Wait until that moment, or the end of the sweep."""
        while len(self.seen) < done and is_at_work(child.pid):
            self.look()
            time.sleep(_POLL / 5)
        time.sleep(seconds)
        self.look()

    def digests(self) -> dict[str, list[str]]:
        found = {folder.name: read_result(folder) for folder in self.out.glob("v*")}
        return {
            key: [a["sha256"] for a in result.get("artifacts", [])] if result and result["status"] == DONE else []
            for key, result in found.items()
        }

    def differences(self) -> list[str]:
        """Return what is wrong with the results of a sweep that is done."""
        found = self.digests()
        keys = sorted(k for k in {*found, *self.whole} if found.get(k) != self.whole.get(k))
        return [f"different {keys}"] if keys else []

    def busy(self) -> dict[int, str]:
        """Return the processes that are busy with a variant, and with which."""
        found = {}
        for path in self.out.glob(f"v*/{STARTED}"):
            try:
                pid = int(path.read_text() or 0)
            except (OSError, ValueError):
                continue
            if pid and not (path.parent / "result.json").exists() and is_at_work(pid):
                found[pid] = path.parent.name
        return found

    def orphans(self) -> list[int]:
        """Return processes that work in this folder, once they have had the time to end."""
        until = time.monotonic() + _GONE
        while (left := self._here()) and time.monotonic() < until:
            time.sleep(_POLL)
        return left

    def _here(self) -> list[int]:
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                same = Path(os.readlink(place / "cwd")) == self.folder
            except OSError:  # it is gone, or another user's
                continue
            if same and int(place.name) != os.getpid() and is_at_work(int(place.name)):
                found.append(int(place.name))
        return found


def _import_what_scores_need() -> int:
    import keras
    import optuna
    import tensorflow

    return int(not all((keras, optuna, tensorflow)))


def time_undisturbed(sweeps: Sweeps) -> None:
    """Run a sweep undisturbed, and note what that takes."""
    sweeps.start_over()
    child = start(sweeps.run(), sweeps.folder)
    while not any(sweeps.out.glob(f"v*/{STARTED}")) and is_at_work(child.pid):
        time.sleep(_POLL)
    sweeps.first = time.monotonic() - child.started
    end = sweeps.finish(child)
    if end.status:
        raise RuntimeError(end.err)
    sweeps.seconds = end.seconds


def make_sweeps(folder: Path, words: list[str]) -> Sweeps:
    """Make a file of 2 MB, so that a variant takes a while, and a recipe; and run the sweep undisturbed."""
    (folder / "recipes").mkdir(parents=True)
    (folder / "recipes" / "k.yaml").write_text(RECIPE)
    drawn = np.random.default_rng(0)
    write_safetensors(folder, {f"a{i}/kernel": drawn.normal(size=(128, 512)).astype(np.float32) for i in range(8)})
    sweeps = Sweeps(folder, [])
    warm(sweeps.run(), folder)
    sweeps.words = words
    time_undisturbed(sweeps)
    sweeps.whole = sweeps.digests()
    if len(sweeps.whole) != VARIANTS or len({d for ds in sweeps.whole.values() for d in ds}) != VARIANTS:
        raise RuntimeError(f"not {VARIANTS} different results: {sweeps.whole}")
    return sweeps


@dataclass
class Searches(Sweeps):
    """A folder in which Optuna searches, with a study that a database keeps.

    `whole` has the results of every value that it chooses from, as a sweep over all of them gives them.
    """

    def run(self) -> Callable[[], int]:
        return command("sweep", "recipe=k", "hydra.sweep.dir=out", *self.words)

    def start_over(self) -> None:
        super().start_over()
        for path in self.folder.glob("study.db*"):
            path.unlink()

    def differences(self) -> list[str]:
        keys = sorted(key for key, found in self.digests().items() if not found or found != self.whole.get(key))
        return ([f"different {keys}"] if keys else []) + self._faults_of_the_study()

    def _faults_of_the_study(self) -> list[str]:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        trials = optuna.load_study(study_name="out", storage=f"sqlite:///{self.folder}/study.db").trials
        done = [t for t in trials if t.state == optuna.trial.TrialState.COMPLETE]
        open_ones = [t.number for t in trials if not t.state.is_finished()]
        faults = [f"trials {open_ones} seem to run"] if open_ones else []
        faults += [] if len(done) == VARIANTS else [f"{len(done)} trials are complete"]
        wrong = [t.number for t in done if t.value != t.params["vars.x"]]
        faults += [f"trials {wrong} have the value of others"] if wrong else []
        results = len({t.params["vars.x"] for t in done})
        return faults + ([] if results == len(self.seen) else [f"{len(self.seen)} results of {results} values"])


def make_searches(folder: Path) -> Searches:
    """Make a recipe whose score is the number that was chosen, and sweep over all of them and search undisturbed."""
    (folder / "recipes").mkdir(parents=True)
    (folder / "recipes" / "k.yaml").write_text(SCORED)
    (folder / "my_score.py").write_text(SCORE)
    searches = Searches(folder, [f"vars.x=range({SEARCHED})"])
    # Imported here, that no child need do it, and used in children alone: TensorFlow's threads survive no fork.
    warm(_import_what_scores_need, folder)
    end = searches.finish(start(searches.run(), folder))
    searches.whole = searches.digests()
    if end.status or len({d for ds in searches.whole.values() for d in ds}) != SEARCHED:
        raise RuntimeError(f"not {SEARCHED} different results: {end.err} {searches.whole}")
    searches.words = [*SEARCH]
    time_undisturbed(searches)
    return searches


def measure_sweeps(folder: Path, most: int, drawn: random.Random) -> Iterator[Row]:
    """`most` sweeps of each kind in one process: killed, and ended in order."""
    here = make_sweeps(folder / "here", [])
    yield _ended(here, "a sweep of 12 variants, SIGKILL", [signal.SIGKILL], most, drawn)
    in_order = [signal.SIGINT, signal.SIGTERM]
    yield _ended(here, "a sweep of 12 variants, SIGINT or SIGTERM", in_order, most, drawn)


def measure_engine(name: str, folder: Path, most: int, drawn: random.Random) -> Iterator[Row]:
    """The same of sweeps by an engine, if it is installed: the sweep is killed, or a worker that is busy."""
    module, words = ENGINES[name]
    if not _is_installed(module):
        return
    there = make_sweeps(folder / name, words)
    yield _worker_killed(there, f"a sweep of 12 variants, a worker of {name} killed", most, drawn)
    yield _ended(there, f"a sweep of 12 variants by {name}, SIGKILL", [signal.SIGKILL], most, drawn)


def measure_searches(folder: Path, most: int, drawn: random.Random) -> Iterator[Row]:
    """The same of Optuna's searches that keep their study in a database: they have no workers but themselves."""
    if not _is_installed("optuna"):
        return
    there = make_searches(folder / "optuna")
    yield _ended(there, "a search of 12 trials, Optuna with a storage, SIGKILL", [signal.SIGKILL], most, drawn)
    in_order = [signal.SIGINT, signal.SIGTERM]
    yield _ended(there, "a search of 12 trials, Optuna with a storage, SIGINT or SIGTERM", in_order, most, drawn)


def _is_installed(module: str) -> bool:
    return all(importlib.util.find_spec(part) for part in (module.partition(".")[0], module))


def _ended(sweeps: Sweeps, name: str, signals: list[signal.Signals], most: int, drawn: random.Random) -> Row:
    """Send a signal at a random time, and repeat the command."""
    row = Row(name, _WANTED)
    for number in range(most):
        sweeps.start_over()
        sent, when = signals[number % len(signals)], sweeps.moment(drawn)
        child = start(sweeps.run(), sweeps.folder)
        while sent != signal.SIGKILL and is_at_work(child.pid) and not is_catching(child.pid, signal.SIGTERM):
            time.sleep(_POLL / 5)  # the command has not begun: on a busy machine, that takes longer than some moments
        sweeps.wait(child, *when)
        os.kill(child.pid, sent)
        end = sweeps.finish(child)
        faults = _faults_of(end, sent)
        if orphans := sweeps.orphans():
            faults.append(f"processes {orphans} go on")
        done = len(sweeps.seen)
        again = sweeps.finish(start(sweeps.run(), sweeps.folder))
        row.count(_how_far(done), faults + _faults(sweeps, again), _case(sent.name, number, *when))
    return row


def _faults_of(end: End, sent: signal.Signals) -> list[str]:
    """Return what is wrong with how a sweep ended that may have been done before the signal came."""
    orderly = sent != signal.SIGKILL and end.status == 128 + sent and "FAILED" not in end.out
    if end.status == 0 or orderly or (sent == signal.SIGKILL and end.is_killed):
        return []
    return [f"{sent.name} ends it with {end.status}: {end.err[-300:]} {end.out[-300:]}"]


def _worker_killed(sweeps: Sweeps, name: str, most: int, drawn: random.Random) -> Row:
    """Kill a process that is busy with a variant at a random time: the sweep goes on without the user."""
    row = Row(name, _WANTED)
    for number in range(most):
        sweeps.start_over()
        when = sweeps.moment(drawn)
        child, killed = start(sweeps.run(), sweeps.folder), ""
        sweeps.wait(child, *when)
        while not killed and is_at_work(child.pid):
            sweeps.look()
            if busy := {pid: key for pid, key in sweeps.busy().items() if pid != child.pid}:
                pid = drawn.choice(sorted(busy))
                os.kill(pid, signal.SIGKILL)
                killed = busy[pid]
            time.sleep(_POLL / 5)
        end = sweeps.finish(child)
        seen = "killed at a variant" if killed else "done before"
        row.count(seen, _faults(sweeps, end), _case("worker", number, *when))
    return row


def _faults(sweeps: Sweeps, end: End) -> list[str]:
    """Return what is wrong with the sweep when all is done."""
    faults = [] if end.status == 0 else [f"status {end.status}: {end.err[-300:]} {end.out[-300:]}"]
    if sweeps.repeated:
        faults.append(f"repeated or lost {sorted(sweeps.repeated)}")
    faults += sweeps.differences()
    if left := [p.name for p in sweeps.out.rglob(".*") if TEMPORARY.fullmatch(p.name)]:
        faults.append(f"leaves {left}")
    return faults + [f"processes {left} go on" for left in [sweeps.orphans()] if left]


def _case(what: str, number: int, done: int, seconds: float) -> str:
    return f"{what} {number}, {seconds:.3f} s after {f'{done} variants' if done >= 0 else 'its start'}"


def _how_far(done: int) -> str:
    return "none done" if not done else "all done" if done == VARIANTS else "some done"
