"""How large the arguments of a library's builder may be, as far as the numbers alone show it, before Keras is imported.

The largest models that are published have some hundred layers, vocabularies of some hundred thousand words and weights
of some billion values. What is far beyond is refused here; what is unusual is built in a child first (`tried.py`); and
whatever is built is counted (`limits.py`).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from transferpipe.errors import Problem, UnsafeError
from transferpipe.recipe.model import Build, walk_builds

LIBRARIES = ("keras.applications.", "keras_hub.", "transferpipe.")
"""Whose builders a stranger's recipe may name without a word of the user's."""
Number = tuple[str, float]
"""An argument's name, or that of the part of it that has a name, and a number in it."""

_LEAVE_OUT = "leave it out"
_UNKNOWN_MEMORY = 1 << 36
# Numbers that say how large nothing is.
_NO_SIZE = re.compile(r"seed|\w*(?:wavelength|theta|_id|_index|freq\w*|temperature|rope_\w*)")
_MOST = 10**8  # of anything: a vocabulary has 10**6 at most
# What says how many layers follow one another.
_LAYERS = re.compile(
    r"(?:\w+_)?(?:depths?|layers|blocks|repeats|repetitions|stages|experts|levels|quantizers)(?:_enc|_dec)?"
)
_MOST_LAYERS = 2_000  # DeepNet (arXiv:2203.00555) has 1,000
# How wide a layer is: GPT-3's widest has 49,152 units.
_WIDTHS = re.compile(r"(?:\w+_)?(?:dims?|filters|units|channels|hidden|heads|hidden_size|kernel_size|patch_size)")
_MOST_WIDTH = 10**6
# What all layers' widths are multiplied by.
_FACTORS = re.compile(r"alpha|(?:depth|width)_(?:multiplier|coefficient)")
_MOST_FACTOR = 100
_MOST_CLASSES = 10**7  # of a classifier of pictures: each has a thousand weights
_MOST_MATRIX = 10**12  # values of the largest matrix that two arguments make: two thousand times what is published
_SHAPES = re.compile(r"(?:\w+_)?(?:shape|size)")
_MOST_SAMPLE = 10**9  # values of one input: ten pictures of the largest cameras
_MOST_IN_LISTS, _MOST_CALLS = 2_000, 100
# What needs no trial: as large as what is published, so that whatever a builder computes of it is quickly done.
_USUAL, _USUAL_MATRIX, _USUAL_LAYERS, _USUAL_SAMPLE, _USUAL_IN_LISTS = 300_000, 5 * 10**10, 300, 3 * 10**7, 500
_GRIDS = re.compile(r"(?:\w+_)?(?:position_size|image_size|height|width|resolution)|window_size")
_USUAL_GRID = 640  # a side of which a table is computed whose size is its square
# A matrix of a user's own builder that is looked at first.
_LARGE, _LARGE_MATRIX = 200_000, 5 * 10**8


def check_calls(builds: Iterable[Build]) -> None:
    """Refuse a recipe that calls more builders than a model is made of.

    Raises:
        UnsafeError: it does.
    """
    found = list(walk_builds(list(builds)))
    if len(found) > _MOST_CALLS:
        what = f"calls {len(found):,} builders, one for another, and {_MOST_CALLS} are allowed"
        raise UnsafeError(Problem(found[0].where, what, "build the model in one function of your own"))


def check_sizes(build: Build, key: str, value: Any, where: str) -> None:
    """Refuse an argument of a library's builder that is larger than any model needs.

    Args:
        build: the call.
        key: the argument's name.
        value: the argument, without the calls in it.
        where: what messages call it.

    Raises:
        UnsafeError: it is.
    """
    # Every number counts by its size: a negative one is multiplied with others as well.
    numbers = list(numbers_in(key, value))
    for name, number in numbers:
        if not math.isfinite(number) or abs(number) > _most(name, build.target):
            raise UnsafeError(Problem(where, f"{str(number)[:40]} is larger than any model needs", _LEAVE_OUT))
    # The product of all sides: each may be small, and the picture too large.
    if _SHAPES.fullmatch(key) and _values(value) > _MOST_SAMPLE:
        raise UnsafeError(Problem(where, f"{str(value)[:40]} is larger than any model needs", _LEAVE_OUT))
    # The sum: several arguments may each name a stack of layers.
    layers = sum(abs(n) for name, n in numbers if _LAYERS.fullmatch(name) and isinstance(n, int))
    if layers > _MOST_LAYERS or _in_lists(value) > _MOST_IN_LISTS:
        what = f"{str(value)[:40]} makes more layers than any model has: {_MOST_LAYERS:,} are allowed"
        raise UnsafeError(Problem(where, what, _LEAVE_OUT))


def check_together(build: Build, numbers: Iterable[Number]) -> None:
    """Refuse a call of a library's builder of which two numbers make a matrix that is larger than any model's.

    Raises:
        UnsafeError: they do.
    """
    sizes = _sizes(numbers)
    # The two largest: whichever two a layer multiplies, it is no more.
    if math.prod(sizes[-2:]) > _MOST_MATRIX:
        what = f"{build.target} with {sizes[-1]:,.0f} times {sizes[-2]:,.0f} of something is larger than any model"
        raise UnsafeError(Problem(build.where, what, "give it smaller arguments"))


def is_usual(numbers: Iterable[Number], arguments: Mapping[str, Any]) -> bool:
    """Tell whether a call of a library's builder is no larger than models that are published.

    Args:
        numbers: all that it is made with.
        arguments: its arguments, without the calls in them.
    """
    known = list(numbers)
    sizes = _sizes(known)
    samples = (_values(value) for key, value in arguments.items() if _SHAPES.fullmatch(key))
    return (
        (not sizes or sizes[-1] <= _USUAL)
        and math.prod(sizes[-2:]) <= _USUAL_MATRIX
        and sum(abs(n) for name, n in known if _LAYERS.fullmatch(name)) <= _USUAL_LAYERS
        and max(samples, default=0) <= _USUAL_SAMPLE
        and sum(map(_in_lists, arguments.values())) <= _USUAL_IN_LISTS
        and all(abs(n) <= _USUAL_GRID for name, n in known if _GRIDS.fullmatch(name))
        # EfficientNet-B7 and the like multiply by up to 3.1.
        and all(abs(n) <= 4 for name, n in known if _FACTORS.fullmatch(name))
    )


def is_large(build: Build) -> bool:
    """Tell whether a call has an argument that may make its model larger than any machine."""
    sizes = _sizes(n for b in walk_builds(build) for key, v in b.arguments.items() for n in numbers_in(key, plain(v)))
    # Two arguments multiplied are the largest matrix that a layer makes of them; three are rarely one weight.
    return bool(sizes) and (sizes[-1] > _LARGE or math.prod(sizes[-2:]) > _LARGE_MATRIX)


def memory_of_machine() -> int:
    """Return how many bytes of memory this machine has."""
    try:
        # What there is, not what is free: the same recipe is refused on the same machine every time.
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows does not say
        return _UNKNOWN_MEMORY


def numbers_in(key: str, value: Any) -> Iterator[Number]:
    """Yield every number in an argument, with the name of what it stands in."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from numbers_in(str(name), inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from numbers_in(key, inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        # True and False are ints in Python, and sizes of nothing.
        yield key, value


def plain(value: Any) -> Any:
    """Return a value without the calls in it, whose arguments are looked at by themselves."""
    if isinstance(value, Build):
        return None
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _most(name: str, target: str) -> float:
    # A seed may be any number.
    if _NO_SIZE.fullmatch(name):
        return math.inf
    if name == "classes" and target.startswith("keras.applications."):
        return _MOST_CLASSES
    for pattern, most in ((_LAYERS, _MOST_LAYERS), (_FACTORS, _MOST_FACTOR), (_WIDTHS, _MOST_WIDTH)):
        if pattern.fullmatch(name):
            return most
    return _MOST


def _sizes(numbers: Iterable[Number]) -> list[float]:
    return sorted(abs(n) for name, n in numbers if not _NO_SIZE.fullmatch(name))


def _values(shape: Any) -> int:
    """Return how many values there are in a shape; sizes that it leaves open count as one."""
    whole = (n for n in shape if isinstance(n, int)) if isinstance(shape, list) else ()
    # An axis of zero must not hide how large the others are.
    return math.prod(max(1, abs(n)) for n in whole)


def _in_lists(value: Any) -> int:
    """Return how many numbers there are in the lists of an argument; in a mapping they are those of words."""
    if isinstance(value, list):
        return sum(_in_lists(v) if isinstance(v, list | Mapping) else isinstance(v, int | float) for v in value)
    return sum(map(_in_lists, value.values())) if isinstance(value, Mapping) else 0
