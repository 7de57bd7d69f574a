"""What transferpipe, plain Keras and a loop of `set_weights` make of one case; truth is a forward pass."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import transferpipe as tp
from transferpipe.errors import RecipeError, TransferError

from .specs import run

TOLERANCE = 1e-3
"""Of the largest expected output: a greater difference is another function. Casts of weights stay far below it."""


@dataclass(frozen=True)
class Said:
    """What transferpipe made of a case.

    Attributes:
        status: ``refused``, ``done`` or ``crashed``.
        warnings: code, place and text of each warning.
        text: the error.
        right: whether the finished model computes what the original does; None where there is none.
        open: whether it says that the function could not be verified.
    """

    status: str
    warnings: tuple[tuple[str, str, str], ...] = ()
    text: str = ""
    right: bool | None = None
    open: bool = False


@dataclass(frozen=True)
class Others:
    """The same with plain Keras: ``right``, ``wrong``, ``raises`` or ``-`` (cannot be tried)."""

    load_weights: str = "-"
    loop: str = "-"


def is_right(model, case):
    """Tell whether a model computes what the case expects."""
    try:
        found = run(model, case.inputs)
    except Exception:
        return False
    if len(found) != len(case.expected):
        return False
    for ours, theirs in zip(found, case.expected, strict=True):
        if ours.shape != theirs.shape:
            return False
        off = np.abs(ours.astype("float64") - theirs.astype("float64"))
        scale = max(1e-6, float(np.abs(theirs).max()))
        if not np.isfinite(ours).all() or off.max() > TOLERANCE * scale:
            return False
    return True


def transferred(case, **more):
    """Carry out a case and tell what transferpipe said; the target is afterwards what it was."""
    recipe, live = {**case.recipe, **more}, not isinstance(case.target, Mapping)
    before = case.target.get_weights() if live else None
    try:
        if not live or case.inputs is None:
            found = tp.plan(case.source, case.target, **recipe)
            return Said("done", _told(found.warnings), "", None)
        found = tp.transfer(case.source, case.target, **recipe)
        open_ = "function: inconclusive" in str(found.verdict)
        return Said("done", _told(found.warnings), "", is_right(case.target, case), open_)
    except TransferError as error:
        return Said("refused", (), f"{type(error).__name__}: {error}")
    except Exception as error:
        return Said("crashed", (), f"{type(error).__name__}: {error}"[:500])
    finally:
        if live:
            case.target.set_weights(before)


def planned(case):
    """Tell what the plan of a case says."""
    try:
        found = tp.plan(case.source, case.target, **case.recipe)
    except TransferError as error:
        return Said("refused", (), f"{type(error).__name__}: {error}")
    except Exception as error:
        return Said("crashed", (), f"{type(error).__name__}: {error}"[:500])
    return Said("done", _told(found.warnings))


def parity_files(case, folder):
    """Write the files of a parity check as somebody without transferpipe makes them, and return the recipe's part."""
    inputs, expected = folder / "inputs.npz", folder / "expected.npz"
    np.savez(inputs, case.inputs)
    np.savez(expected, *case.expected)
    return {"verify": {**case.recipe.get("verify", {}), "parity": {"inputs": str(inputs), "expected": str(expected)}}}


def has_parity(folder):
    """Tell whether this transferpipe knows `verify: {parity: ...}`."""
    try:
        tp.plan(
            "nothing.npz",
            "nothing.keras",
            mapping={"a": {"to": ".*"}},
            verify={"parity": {"inputs": "x.npz", "expected": "y.npz"}},
        )
    except RecipeError as error:
        return "parity" not in str(error)
    except TransferError:
        return True
    return True


def others(case, folder):
    """Return what plain Keras and a loop make of the case."""
    if case.inputs is None or isinstance(case.target, Mapping):
        return Others()
    before = case.target.get_weights()
    loaded = _outcome(case, lambda: _load(case, folder)) if case.carrier is not None else "-"
    case.target.set_weights(before)
    looped = _outcome(case, lambda: _loop(case)) if case.carrier is not None or case.arrays else "-"
    case.target.set_weights(before)
    return Others(loaded, looped)


def _outcome(case, load):
    try:
        load()
    except Exception:
        return "raises"
    return "right" if is_right(case.target, case) else "wrong"


def _load(case, folder):
    if case.by_name:
        path = folder / "plain.h5"
        case.carrier.save(path)
        case.target.load_weights(path, by_name=True, skip_mismatch=True)
    else:
        path = folder / "plain.weights.h5"
        case.carrier.save_weights(path)
        case.target.load_weights(path)


def _loop(case):
    """Set the weights layer by layer: by name where all names are there, else in their order, as tutorials do."""
    layers = [x for x in case.target.layers if x.weights]
    if case.carrier is not None:
        given = {x.name: x.get_weights() for x in case.carrier.layers if x.weights}
        if all(x.name in given for x in layers):
            for layer in layers:
                layer.set_weights(given[layer.name])
            return
        for layer, values in zip(layers, given.values(), strict=False):
            layer.set_weights(values)
        return
    values = iter([_turned(v) for k, v in case.arrays.items() if not k.endswith("num_batches_tracked")])
    for layer in layers:
        layer.set_weights([next(values) for _ in layer.weights])


def _turned(value):
    """Turn a torch array's axes as every tutorial does: by its rank."""
    if value.ndim == 2:
        return value.T
    return value.transpose(*range(2, value.ndim), 1, 0) if value.ndim > 2 else value


def _told(warnings):
    return tuple((w.code, w.where, w.text) for w in warnings)


def new_codes(said, right):
    """Return the codes of warnings that the right twin does not get (those of one code by their texts)."""
    known = {(c, w, t) for c, w, t in right.warnings} if right else set()
    kinds = {c for c, _, _ in right.warnings} if right else set()
    return sorted({c for c, w, t in said.warnings if c not in kinds or (c, w, t) not in known})


def folder_of(path, name):
    """Return a new folder for one pair."""
    folder = Path(path) / name
    folder.mkdir()
    return folder
