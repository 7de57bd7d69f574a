"""Random inputs that a model takes: the same for the same seed, integers below what consumes them, known words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferpipe.prove.parity.arrays import fits
from transferpipe.prove.parity.keras_trace import InputSpec, KerasRunner
from transferpipe.text.listing import listed
from transferpipe.weights.keras.layer_classes import is_made_up
from transferpipe.weights.spec import numpy_dtype

BATCH = 3  # one sample alone cannot show whether the output depends on it
# Tried in turn where a model leaves its sizes open: first what is quick and survives five halvings, then what fixed
# heads want (224, 299), last what tiny models take.
_IMAGE_SIZES, _OTHER_SIZES = (64, 128, 224, 32, 299, 8), (12, 4, 32, 128, 64, 3)
# A uint8 input is an image.
_BYTES = 256
# Behind it, normally distributed numbers pass 6 in most layers, where relu6 and hard functions end.
_LARGE = 16.0


def draw_inputs(specs: Sequence[InputSpec], runner: object, seed: int) -> Iterator[list[NDArray[Any]]]:
    """Yield inputs, in several sizes where sizes are open, until the caller is content.

    Floats are normally distributed, or from 0 to 255 where the model scales images itself.
    """
    several = any(None in spec.shape[1:] for spec in specs)
    for image, other in zip(_IMAGE_SIZES, _OTHER_SIZES, strict=True):
        shapes = [_shape(spec, image if len(spec.shape) >= 4 else other) for spec in specs]
        yield [_draw_input(s, shape, runner, (seed, i)) for i, (s, shape) in enumerate(zip(specs, shapes, strict=True))]
        if not several:
            return


def with_batch_of(specs: Sequence[InputSpec], others: Sequence[InputSpec]) -> Sequence[InputSpec]:
    """Return `specs` for as many samples as `others` take, where these take one number and theirs is open.

    So a model with a batch of its own, as stateful RNNs have, can be compared with one that takes any.
    """
    sizes = {spec.shape[0] for spec in others if spec.shape}
    if len(sizes) != 1 or None in sizes:
        return specs
    (size,) = sizes
    return tuple(replace(s, shape=(size, *s.shape[1:])) if s.shape and s.shape[0] is None else s for s in specs)


def _shape(spec: InputSpec, size: int) -> tuple[int, ...]:
    return tuple(n if n else (BATCH if i == 0 else size) for i, n in enumerate(spec.shape))


def _draw_input(spec: InputSpec, shape: tuple[int, ...], runner: object, seed: tuple[int, int]) -> NDArray[Any]:
    # A generator for each input: one input more does not change the others.
    random = np.random.default_rng(seed)
    if spec.dtype == "string":
        words = _words(runner)
        return np.take(np.array(words, dtype=object), _vary(random.integers(0, len(words), shape), 0, len(words)))
    if spec.dtype == "bool":
        return _vary(random.integers(0, 2, shape), 0, 2).astype(bool)
    dtype = numpy_dtype(spec.dtype)
    if "float" in spec.dtype:
        scaled = _scales_images(runner)
        return (random.uniform(0, 255, shape) if scaled else random.standard_normal(shape)).astype(dtype)
    # All tokens count: a mask by chance would hide parts of what is compared.
    if "mask" in spec.name:
        return np.ones(shape, dtype)
    # 0 and 1, which nearly every embedding takes; `fill_tokens` draws them anew where it finds the embedding.
    end = _BYTES if spec.dtype == "uint8" else 2
    return _vary(random.integers(0, end, shape), 0, end).astype(dtype)


def _vary(drawn: NDArray[Any], low: int, end: int) -> NDArray[Any]:
    """Return whole numbers from `low` up to `end`, which is left out, of which not all are alike if that can be.

    One in four draws of three from two is constant, and then no output can be seen to depend on it.
    """
    if drawn.size > 1 and end - low > 1 and np.all(drawn == drawn.flat[0]):
        drawn.flat[0] = low + (drawn.flat[0] - low + 1) % (end - low)
    return drawn


def fill_tokens(
    data: list[NDArray[Any]], specs: Sequence[InputSpec], runners: Sequence[KerasRunner], seed: int
) -> list[NDArray[Any]]:
    """Return `data` with integers drawn anew where embeddings take them, below the size of the smallest of these.

    Args:
        data: one array for each of `specs`.
        specs: the inputs of the model that the data is for.
        runners: the models that are run on it.
        seed: of what is drawn.
    """
    limits: dict[int, int] = {}
    for runner in runners:
        try:
            theirs = adapted(data, specs, runner.inputs, channels_first=False)
        except LayoutError:  # which is said where both are run
            continue
        names = [spec.name for spec in specs]
        by_name = _go_by_name(specs, runner.inputs)
        for place, limit in _token_limits(theirs, runner.inputs or specs, runner).items():
            i = names.index(runner.inputs[place].name) if by_name else place
            limits[i] = min(limit, limits.get(i, limit))
    filled = list(data)
    for i, limit in limits.items():
        low = 1 if limit > 2 else 0  # 0 often means that nothing stands there
        drawn = np.random.default_rng((seed, i)).integers(low, max(limit, 1), data[i].shape)
        filled[i] = _vary(drawn, low, max(limit, 1)).astype(data[i].dtype)
    return filled


def make_extreme(data: Sequence[NDArray[Any]], specs: Sequence[InputSpec], runner: object) -> list[NDArray[Any]]:
    """Return inputs that reach what ordinary ones do not: large floats, and zeros for the last quarter of all steps."""
    return [_extreme(a, s, runner) for a, s in zip(data, specs, strict=True)]


def built_for(runner: KerasRunner) -> tuple[InputSpec, ...]:
    """Return what a model of a class of the user's own was built for: integers where these reach an embedding.

    Nothing is returned where it takes several arguments, since Keras notes the shape of the first alone.
    """
    named = runner.built_shapes
    if not named or (runner.argument_names and runner.argument_names != tuple(named)):
        return ()
    floats = tuple(InputSpec(name, (None, *shape[1:]), "float32") for name, shape in named.items())
    if not any(map(token_limit, runner.layers.values())):
        return floats
    try:
        tokens = _token_limits([np.zeros(_shape(s, _OTHER_SIZES[0]), np.float32) for s in floats], floats, runner)
    except Exception:  # what it does with tokens needs them to be integers
        return tuple(replace(spec, dtype="int32") for spec in floats)
    return tuple(replace(spec, dtype="int32") if i in tokens else spec for i, spec in enumerate(floats))


def _extreme(array: NDArray[Any], spec: InputSpec, runner: object) -> NDArray[Any]:
    if "mask" in spec.name or array.dtype.kind not in "fViu" or not array.size:
        return array
    wide = array.astype(np.float64)
    # Floats that are whole numbers were drawn for an embedding.
    is_tokens = array.dtype.kind in "iu" or bool(np.all(wide == np.round(wide)))
    if not is_tokens and not _scales_images(runner):
        wide *= _LARGE
    # (batch, steps) of tokens, (batch, steps, features) of floats: what is padded may be masked.
    if array.ndim == (2 if is_tokens else 3):
        wide[:, -max(array.shape[1] // 4, 1) :] = 0
    return wide.astype(array.dtype)


def _token_limits(data: list[NDArray[Any]], specs: Sequence[InputSpec], runner: KerasRunner) -> dict[int, int]:
    """Return how many different integers each input takes that embeddings take.

    Which embedding that is shows when an input is changed: its argument changes with it.
    """
    probed = [i for i, s in enumerate(specs) if "mask" not in s.name and re.match("u?int|float|bfloat", s.dtype)]
    if not probed or not any(token_limit(layer) for layer in runner.layers.values()):
        return {}
    # 0 and 1 are numbers that nearly every embedding takes, so that the probing runs do not fail.
    zeros = [np.zeros_like(a) if i in probed else a for i, a in enumerate(data)]
    before = {c.label: c for c in runner.run(zeros).calls if token_limit(c.layer)}
    limits = {i: 2 for i in probed if "int" in specs[i].dtype}
    for i in probed:
        ones = [np.ones_like(a) if j == i else a for j, a in enumerate(zeros)]
        try:
            calls = [c for c in runner.run(ones).calls if c.label in before]
        except Exception:  # an embedding of one row, most likely
            limits |= {i: 1} if i in limits or 1 in map(token_limit, runner.layers.values()) else {}
            continue
        rooms = [_room(token_limit(c.layer), before[c.label].input, c.input, exact=i not in limits) for c in calls]
        if known := [room for room in rooms if room]:
            limits[i] = min(known)
    return limits


def _room(limit: int, at_zero: NDArray[Any] | None, at_one: NDArray[Any] | None, *, exact: bool) -> int:
    """Return up to which number an input may go, by what a layer is called with where that is 0 and where it is 1.

    Nothing is returned for a layer that the input does not reach, and with `exact` for one that takes another value
    than the input's: floats may be tokens, and they may be anything.
    """
    if at_zero is None or at_one is None or at_zero.shape != at_one.shape or np.array_equal(at_zero, at_one):
        return 0
    step = at_one.astype(np.float64) - at_zero
    if exact and (np.any(at_zero) or not np.isin(step, (0, 1)).all()):
        return 0
    most = max(float(step.max()), 1.0)
    # Such as embedding(tokens + 1).
    return max(int((limit - 1 - float(at_zero.max())) // most) + 1, 1)


def token_limit(layer: Any) -> int:
    """Return how many different integers a layer takes; 0 for one that takes none."""
    size = getattr(layer, "input_dim", None) or getattr(layer, "num_tokens", None)
    return int(size) if isinstance(size, int) else 0


def _words(runner: object) -> list[str]:
    for layer in getattr(runner, "layers", {}).values():
        vocabulary = getattr(layer, "get_vocabulary", None)
        if vocabulary is not None:
            # Not [UNK] and [MASK], which stand for other words.
            words = [str(word) for word in vocabulary() if str(word) and "[" not in str(word)]
            if words:
                return words
    return ["a", "b"]


def _scales_images(runner: object) -> bool:
    """Tell whether a layer turns values up to 255 into small ones."""
    for layer in getattr(runner, "layers", {}).values():
        scale = getattr(layer, "scale", None) if type(layer).__name__ == "Rescaling" else None
        # 1 / 255 and 1 / 127.5 are below, and a scale near 1 is something else.
        if isinstance(scale, int | float) and 0 < scale < 0.1:
            return True
    return False


class LayoutError(Exception):
    """Inputs that the other model does not take, and why."""


def adapted(
    data: Sequence[NDArray[Any]], specs: Sequence[InputSpec], wanted: Sequence[InputSpec], channels_first: bool
) -> list[NDArray[Any]]:
    """Return inputs of one model as those of another: by name or order, in its order of axes and its dtypes.

    Args:
        data: one array for each of `specs`.
        specs: the inputs of the model that the data is for.
        wanted: those of the other model; empty if it does not say what it takes.
        channels_first: whether the other is of a framework whose images have their channels first.

    Raises:
        LayoutError: the other takes other inputs.
    """
    if not wanted:
        return list(data)
    if len(wanted) != len(data):
        raise LayoutError(f"it takes {len(wanted)} inputs, the target {len(data)}")
    names = {spec.name: array for spec, array in zip(specs, data, strict=False)}
    ordered = [names[s.name] for s in wanted] if _go_by_name(specs, wanted) else list(data)
    return [_as_wanted(array, spec, channels_first) for array, spec in zip(ordered, wanted, strict=True)]


def _go_by_name(specs: Sequence[InputSpec], wanted: Sequence[InputSpec]) -> bool:
    names = [spec.name for spec in specs]
    return len(set(names)) == len(names) and sorted(names) == sorted(spec.name for spec in wanted)


def describe_matching(specs: Sequence[InputSpec], wanted: Sequence[InputSpec]) -> str:
    """Return how several inputs were matched with those of the other model, where that is not plain; else nothing.

    Models that agree by name, and have their inputs in another order, give other values when both are called with
    the same list; of names that differ nobody sees which went with which.

    >>> one, two = InputSpec("ids", (None, 8), "int32"), InputSpec("types", (None, 8), "int32")
    >>> describe_matching([one, two], [two, one])
    '; inputs matched by name, since their order differs: ids, types, there types, ids'
    """
    ours, theirs = [spec.name for spec in specs], [spec.name for spec in wanted]
    if ours == theirs or len(ours) < 2 or len(ours) != len(theirs):
        return ""
    if _go_by_name(specs, wanted):
        return f"; inputs matched by name, since their order differs: {listed(ours)}, there {listed(theirs)}"
    if all(map(is_made_up, [*ours, *theirs])):
        return "; inputs matched by order"
    pairs = [f"{a} with {b}" for a, b in zip(ours, theirs, strict=True)]
    return f"; inputs matched by order, since their names differ: {listed(pairs)}"


def _as_wanted(array: NDArray[Any], spec: InputSpec, channels_first: bool) -> NDArray[Any]:
    orders = [array]
    if array.ndim > 2:
        first, last = np.moveaxis(array, -1, 1), np.moveaxis(array, 1, -1)
        # Sequences are (batch, time, features) nearly everywhere: their channels are moved only if nothing else will
        # do.
        orders = [first, array] if channels_first and array.ndim > 3 else [array, first, last]
    found = next((o for o in orders if fits(o.shape, spec.shape)), None)
    if found is None:
        raise LayoutError(f"its input {spec.name!r} has shape {spec.shape}, the target's input has {array.shape}")
    if spec.dtype == "string" or array.dtype.kind == "O":
        return np.ascontiguousarray(found)
    return np.ascontiguousarray(found).astype(numpy_dtype(spec.dtype))
