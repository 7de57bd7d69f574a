"""What a kind of fault or of right twin is, and the register of all of them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from safetensors.numpy import save_file

from .specs import arrays_of, build, fill, run

ALL = {"all": {"to": ".*"}}


@dataclass(frozen=True, eq=False)
class Case:
    """One transfer: what transferpipe is given, and what the result must compute.

    Attributes:
        source: a path, a model, or a mapping as under `source:`.
        target: a built model, or (only planned then) a mapping as under `target:`.
        recipe: the recipe's other keys.
        inputs: what the finished model is run on; None where the case is only planned.
        expected: what the original computes for it.
        carrier: a Keras model that holds the source's values, for plain Keras to save and to load.
        arrays: the source's values in the file's order, for a loop of `set_weights` where there is no carrier.
        by_name: plain Keras is given ``by_name=True, skip_mismatch=True`` on a legacy file.
    """

    source: Any
    target: Any
    recipe: dict[str, Any] = field(default_factory=lambda: {"mapping": ALL})
    inputs: Any = None
    expected: Any = None
    carrier: Any = None
    arrays: dict[str, Any] | None = None
    by_name: bool = False


@dataclass(frozen=True, eq=False)
class Pair:
    """A case with one thing wrong, and the same without it (None where there is no such)."""

    wrong: Case
    right: Case | None = None


class Draw:
    """Random numbers and a folder for the files of one pair."""

    def __init__(self, seed: tuple[int, ...], folder: Path):
        self.rng, self.folder, self._files = np.random.default_rng(seed), folder, 0

    def pick(self, *items):
        """Return one of the items."""
        return items[int(self.rng.integers(len(items)))]

    def path(self, suffix):
        """Return a new path in the folder."""
        self._files += 1
        return str(self.folder / f"f{self._files}{suffix}")

    def model(self, spec, **options):
        """Return a model with values as if trained."""
        return fill(build(spec, **options), self.rng)

    def fresh(self, spec, **options):
        """Return a model as freshly built."""
        return build(spec, **options)

    def inputs(self, model, batch=4):
        """Return input for a model."""
        shape = [s or 5 for s in model.input_shape[1:]]
        if "int" in str(model.inputs[0].dtype):
            return self.rng.integers(0, 5, (batch, *shape)).astype("int32")
        return self.rng.normal(size=(batch, *shape)).astype("float32")

    def saved(self, model, kinds=(".keras", ".h5", "live")):
        """Return what a recipe calls as source: the model in a file of a random kind, or itself."""
        suffix = self.pick(*kinds)
        if suffix == "live":
            return model
        path = self.path(suffix)
        model.save_weights(path) if suffix == ".weights.h5" else model.save(path)
        return path

    def stored(self, arrays, suffix=None, **metadata):
        """Return the path of a file of named arrays."""
        suffix = suffix or self.pick(".safetensors", ".npz")
        path, arrays = self.path(suffix), {k: np.ascontiguousarray(v) for k, v in arrays.items()}
        if suffix == ".npz":
            np.savez(path, **arrays)
        else:
            save_file(arrays, path, metadata=metadata or None)
        return path


@dataclass(frozen=True)
class Kind:
    """A kind of fault, or of right twin.

    Attributes:
        name: what is wrong.
        group: the part of transferpipe that can see it.
        seen: what shows it without a forward pass (``settings``, ``graph``, ``names``, ``shapes``, ``values``), or
            ``forward`` where nothing else can.
        make: makes one random pair, or for a twin one case.
    """

    name: str
    group: str
    seen: str
    make: Callable[[Draw], Any]


FAULTS: dict[str, Kind] = {}
TWINS: dict[str, Kind] = {}


def fault(name, group, seen):
    """Enter a function that makes a `Pair` as a kind of fault."""

    def enter(make):
        assert name not in FAULTS, name
        FAULTS[name] = Kind(name, group, seen, make)
        return make

    return enter


def twin(name, group="twins"):
    """Enter a function that makes a `Case` (or None where it cannot be made here) as a kind of right transfer."""

    def enter(make):
        assert name not in TWINS, name
        TWINS[name] = Kind(name, group, "", make)
        return make

    return enter


def between(draw, source_spec, target_spec, recipe=None, right=None, **options):
    """Return the pair of a model with `source_spec` into one of `target_spec`; the twin's target is as the source.

    Where the fault is one of the recipe, the twin pairs the same names.
    """
    source = draw.model(source_spec)
    inputs = draw.inputs(source)
    expected = run(source, inputs)
    saved = draw.saved(source)
    case = Case(saved, draw.fresh(target_spec), recipe or {"mapping": ALL}, inputs, expected, source, **options)
    return Pair(case, replace(case, target=draw.fresh(right or source_spec), recipe={"mapping": ALL}))


def in_file(draw, spec, damage, recipe=None, suffix=None, loads=True):
    """Return the pair of a file of named arrays with `damage` done to them, and of the same file without."""
    source = draw.model(spec)
    inputs, arrays = draw.inputs(source), arrays_of(source)
    expected, recipe = run(source, inputs), recipe or {"mapping": ALL}
    bad = damage(dict(arrays))
    carrier = carry(spec, bad) if loads else None
    wrong = Case(draw.stored(bad, suffix), draw.fresh(spec), recipe, inputs, expected, carrier, bad)
    good = Case(draw.stored(arrays, suffix), draw.fresh(spec), {"mapping": ALL}, inputs, expected, source, arrays)
    return Pair(wrong, good)


def carry(spec, arrays):
    """Return a Keras model with these values, or None where they do not go into one."""
    model = build(spec)
    try:
        for layer in model.layers:
            if layer.weights:
                names = [f"{layer.name}/{w.path.rsplit('/', 1)[-1]}" for w in layer.weights]
                layer.set_weights([arrays[n] for n in names])
    except (KeyError, ValueError):
        return None
    return model


def same_shapes(draw, arrays, ndims=(2, 4)):
    """Return two layers of a file whose kernels have one shape."""
    kernels = {k.rsplit("/", 1)[0]: v.shape for k, v in arrays.items() if k.endswith("/kernel") and v.ndim in ndims}
    pairs = [(a, b) for a in kernels for b in kernels if a < b and kernels[a] == kernels[b]]
    return draw.pick(*pairs)


def layers_of(arrays):
    """Return the layers of a file in its order."""
    return list(dict.fromkeys(k.rsplit("/", 1)[0] for k in arrays))


def clear():
    """Forget what Keras remembers of models built before."""
    keras.utils.clear_session(free_memory=False)
