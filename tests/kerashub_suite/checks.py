"""What must hold of every backbone: each check returns a verdict, which Keras's own loading decides.

``right`` and ``not Keras`` (Keras itself cannot do it with this class) are good; ``warned``, ``refused``, ``crashed``,
``wrong`` and ``names`` are not.
"""

from __future__ import annotations

import contextlib
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

ALL = {"all": {"to": ".*"}}


class NotByKerasError(Exception):
    """Keras, or KerasHub, cannot do this with the class itself."""


@contextlib.contextmanager
def by_keras() -> Iterator[None]:
    """Within this context an error is Keras's own."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        raise NotByKerasError(f"{type(error).__name__}: {error}") from error


def filled(model: Any, seed: int) -> Any:
    """Return `model` with values of its own for all of its float weights, as a variance may have them."""
    random = np.random.default_rng(seed)
    for variable in model.variables:
        if str(variable.dtype).startswith("float") and variable.path.rpartition("/")[2] != "seed_generator_state":
            variable.assign(np.abs(random.normal(size=variable.shape)).astype("float32") * 0.3 + 0.1)
    return model


def arrays(model: Any) -> list[Any]:
    """Return the values of all weights in Keras's order."""
    return [np.asarray(variable) for variable in model.weights]


def same(a: list[Any], b: list[Any]) -> bool:
    """Tell whether two lists of arrays are equal bit by bit."""
    return len(a) == len(b) and all(
        x.shape == y.shape and x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True)
    )


def outputs(model: Any) -> list[Any]:
    """Return what the model computes of one small input."""
    import keras

    random = np.random.default_rng(0)

    def given(tensor: Any) -> Any:
        shape = [2 if i == 0 else 5 if n is None else n for i, n in enumerate(tensor.shape)]
        floats = str(tensor.dtype).startswith(("float", "bfloat"))
        return random.normal(size=shape).astype("float32") if floats else np.ones(shape, tensor.dtype)

    with by_keras():
        data = keras.tree.map_structure(given, model._inputs_struct)
        return [np.asarray(x) for x in keras.tree.flatten(model(data, training=False))]


def judge(report: Any, right: bool, but: Sequence[Any] = ()) -> str:
    """Return the verdict on a transfer that must be right, and quiet but for the warnings `but`."""
    if not right:
        return "wrong"
    rest = [w for w in report.warnings if w not in but]
    return f"warned: {rest[0]}" if rest else "right"


def train(model: Any) -> list[bool]:
    """Tell of each weight but LoRA's factors, which a loaded model may not have, whether training changes it."""
    trained = {id(v) for v in model.trainable_weights}
    return [id(v) in trained for v in model.weights if "lora" not in v.name]


class Checks:
    """The checks of one class of backbones in one folder.

    Attributes:
        make: returns a new small backbone.
        folder: where files go.
    """

    def __init__(self, make: Callable[[], Any], folder: Path, task: Callable[[], Any] | None) -> None:
        import keras

        def anew(build: Callable[[], Any]) -> Callable[[], Any]:
            def made() -> Any:  # as in a process of its own, so that Keras counts its names from the start
                keras.utils.clear_session(free_memory=False)
                return build()

            return made

        self.make, self.folder, self._task = anew(make), folder, anew(task) if task else None
        self.source, self._other = filled(self.make(), 1), self.make()
        self.files = {kind: folder / f"a{kind}" for kind in (".keras", ".weights.h5")}
        self.source.save_weights(self.files[".weights.h5"])
        self.source.load_weights(self.files[".weights.h5"])  # some classes compute one weight of another then
        self.source.save(self.files[".keras"])
        self.source.save_weights(self.files[".weights.h5"])
        self.other().load_weights(self.files[".weights.h5"])
        self.expected = arrays(self._other)  # a class may compute something when it loads

    def other(self) -> Any:
        """Return the same architecture with other values: always the same model, with fresh values."""
        return filled(self._other, 2)

    def _preset(self) -> Path:
        path = self.folder / "preset"
        if not path.exists():
            with by_keras():
                try:
                    self.source.save_to_preset(str(path))
                except BaseException:
                    shutil.rmtree(path, ignore_errors=True)
                    raise
        return path

    def _names(self, model: Any, *paths: Path) -> str:
        import transferpipe as tp

        names = [w.name for w in tp.catalog(model)]
        for path in paths:
            theirs = [w.name for w in tp.catalog(path)]
            if theirs != names:
                pairs = [(x, y) for x, y in zip(names, theirs, strict=False) if x != y] or [("", "")]
                return f"names: {len(pairs)} of {len(names)} in {path.name}, such as {pairs[0][1]} for {pairs[0][0]}"
        return "right"

    def names_in_files(self) -> str:
        """`.keras` and `.weights.h5` give the names of the model."""
        return self._names(self.source, *self.files.values())

    def names_in_preset(self) -> str:
        """So does the folder of a preset."""
        return self._names(self.source, self._preset())

    def _identity(self, source: Any) -> str:
        import transferpipe as tp

        target = self.other()
        report = tp.transfer(source, target, mapping=ALL)
        return judge(report, same(arrays(target), self.expected))

    def from_live(self) -> str:
        """A live model into another; then both compute the same."""
        import transferpipe as tp

        target = self.other()
        report = tp.transfer(self.source, target, mapping=ALL)
        right = same(arrays(target), self.expected)
        with contextlib.suppress(NotByKerasError):
            of_source = outputs(self.source)
            if same(of_source, outputs(self.source)):  # a sampler in it draws other numbers each time
                right = right and same(outputs(target), of_source)
        return judge(report, right)

    def from_keras(self) -> str:
        """A `.keras` file into a live model."""
        return self._identity(self.files[".keras"])

    def from_weights_h5(self) -> str:
        """A `.weights.h5` file into a live model."""
        return self._identity(self.files[".weights.h5"])

    def from_preset(self) -> str:
        """A preset into a live model."""
        return self._identity(self._preset())

    def file_to_file(self) -> str:
        """A `.weights.h5` file into a `.keras` file of other values, which Keras loads."""
        import keras

        import transferpipe as tp

        path = self.folder / "b.keras"
        with by_keras():
            self.other().save(path)
            keras.saving.load_model(path, compile=False)
        report = tp.transfer(
            self.files[".weights.h5"],
            path,
            mapping=ALL,
            folder=self.folder,
            save={"path": "c.keras", "overwrite": True},
        )
        loaded = keras.saving.load_model(self.folder / "c.keras", compile=False)
        return judge(report, same(arrays(loaded), self.expected))

    def _tasked(self) -> Any:
        if self._task is None:
            raise NotByKerasError("no task has this backbone")
        with by_keras():
            return filled(self._task(), 3)

    def task_names(self) -> str:
        """A task's `.keras` and `.weights.h5` give the names of the task."""
        task = self._tasked()
        task.save(self.folder / "t.keras")
        task.save_weights(self.folder / "t.weights.h5")
        return self._names(task, self.folder / "t.keras", self.folder / "t.weights.h5")

    def into_task(self) -> str:
        """The backbone's file into the backbone of a task, frozen; Keras loads what the task saves as it was said."""
        import keras

        import transferpipe as tp

        task = self._tasked()
        name = task.backbone.name
        if name not in {layer.name for layer in task.layers}:
            raise NotByKerasError("the task holds the backbone's layers and not the backbone")
        if len(task.backbone.weights) != len(self.expected):
            raise NotByKerasError("within the task the backbone has weights that it has not alone")
        rule = {"to": f"{name}/(.*)", "from": r"\1"}
        before = {w.path: np.asarray(w) for w in task.weights}
        report = tp.transfer(self.files[".keras"], task, mapping={"b": rule}, unmatched="keep", freeze=[name])
        ours = {id(w) for w in task.backbone.weights}
        kept = all(before[w.path].tobytes() == np.asarray(w).tobytes() for w in task.weights if id(w) not in ours)
        if not (kept and same(arrays(task.backbone), self.expected)) or task.backbone.trainable_variables:
            return "wrong"
        said = [w for w in report.warnings if w.code == "freeze-not-saved"]
        with by_keras():
            task.save(self.folder / "f.keras")
            loaded = keras.saving.load_model(self.folder / "f.keras", compile=False)
        held = {id(w) for w in loaded.backbone.weights}
        again = [v for v in loaded.trainable_variables if id(v) in held]  # seen from the root, as `fit` sees it
        if bool(said) != bool(again):
            return f"wrong: {len(again)} train after loading, said: {said}"
        headless = not any(id(v) not in ours for v in task.weights)  # then nothing is left to train, which is said
        rest = [w for w in report.warnings if w not in said and not (headless and w.code == "nothing-trainable")]
        return f"warned: {rest[0]}" if rest else "right"

    def lora(self) -> str:
        """A plain file into a model with LoRA on, as Keras loads it."""
        import keras

        import transferpipe as tp

        with by_keras():
            model = filled(self.make(), 2)
            model.enable_lora(2)
            if not any(getattr(layer, "lora_enabled", False) for layer in model._flatten_layers()):
                raise NotByKerasError("enable_lora finds no layer that takes it")
            model.load_weights(self.files[".weights.h5"])
        expected = arrays(model)
        for variable in model.variables:
            if "lora" not in variable.name and str(variable.dtype).startswith("float"):
                variable.assign(np.full(variable.shape, 0.5, "float32"))
        report = tp.transfer(self.files[".weights.h5"], model, mapping=ALL)
        # Keras freezes all beside the factors, which not every class records in its configuration.
        said = [w for w in report.warnings if w.code == "freeze-not-saved"]
        with by_keras():
            model.save(self.folder / "l.keras")
            loaded = keras.saving.load_model(self.folder / "l.keras", compile=False)
        again = any(there and not here for here, there in zip(train(model), train(loaded), strict=True))
        if bool(said) != again:
            return f"wrong: train after loading: {again}, said: {said}"
        return judge(report, same(arrays(model), expected), but=said)

    def int8(self) -> str:
        """A quantised file into the same quantised model, as Keras loads it; the file gives the model's names."""
        import transferpipe as tp

        path = self.folder / "q.weights.h5"
        # Keras collects garbage after every layer that it quantises, which is most of the time here.
        with by_keras(), mock.patch("gc.collect"):
            model = filled(self.make(), 1)
            model.quantize("int8")
            model.save_weights(path)
            filled(model, 3)
            model.load_weights(path)
        expected = arrays(model)
        for variable in filled(model, 4).variables:
            if str(variable.dtype) == "int8":
                variable.assign(np.ones(variable.shape, "int8"))
        report = tp.transfer(path, model, mapping=ALL)
        verdict = judge(report, same(arrays(model), expected))
        return self._names(model, path) if verdict == "right" else verdict


IN_SHORT = ("names_in_files", "from_weights_h5", "file_to_file")
CHECKS = (
    "names_in_files",
    "names_in_preset",
    "from_live",
    "from_keras",
    "from_weights_h5",
    "from_preset",
    "file_to_file",
    "task_names",
    "into_task",
    "lora",
    "int8",
)


def verdict_of(checks: Checks, name: str) -> str:
    """Return what one check comes to, in one line."""
    from transferpipe.errors import TransferError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return str(getattr(checks, name)())
    except NotByKerasError as error:
        return f"not Keras: {str(error).splitlines()[0][:160]}"
    except TransferError as error:
        return f"refused: {error.problems[0]}"
    except Exception as error:
        return f"crashed: {type(error).__name__}: {error}"
