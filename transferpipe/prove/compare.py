"""Whether a file holds the weights that it should: one matcher and one comparer, for a fresh file and for one of a run.

The fresh proof (`file`) asks what the plan says, the proof of a run folder (`run_folder`) what its manifest says. Both
match what they expect with what a reader found, and compare every value with what its sources give.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from transferpipe.errors import Problems
from transferpipe.files.hashing import HashedRead
from transferpipe.files.segment import CHUNK, Segment
from transferpipe.values.compare import (
    ComparedBits,
    Look,
    ReadingBack,
    compare_parts,
    compare_segments,
    digest,
    digest_segment,
    in_parts,
    same_bits,
)
from transferpipe.values.compute import Values
from transferpipe.values.refusals import NOTHING_REFUSED, Refusals
from transferpipe.values.seen import SeenNumbers
from transferpipe.values.small import SmallPair, SmallRun, is_small
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.spec import Catalog, WeightSpec, numpy_dtype

_THREADS = min(4, os.cpu_count() or 1)  # of more, the memory is the limit
_PLACED = ("saved_model", "tf_checkpoint")  # formats that may call a weight by another name than the target does


class ExpectedWeight(NamedTuple):
    """A weight that a file, or a loaded model, should hold.

    Attributes:
        name: the weight's name in the target.
        places: where it lies, by the name that it has there; a variable that Keras saves in several places has several.
        shape: its shape.
        dtype: its dtype.
    """

    name: str
    places: Mapping[str, str]
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Matched:
    """What was expected and what is there, side by side.

    Attributes:
        found: what is there of every expected weight, one entry a place.
        missing: the names of those, as they are called in their places, that are not there.
        differing: those of another shape or dtype: the name, what is there, and what was expected.
        extra: the names of what nobody expected.
    """

    found: Mapping[str, list[WeightSpec]]
    missing: tuple[str, ...]
    differing: tuple[tuple[str, WeightSpec, ExpectedWeight], ...]
    extra: tuple[str, ...]

    def note(self, file: str, record: str, problems: Problems) -> None:
        """Note everything that does not match, of the file called `file` and what the `record` says."""
        for name in self.missing:
            problems.add(f"{file}: {name}", "is missing from the file")
        for name, there, wanted in self.differing:
            is_there, is_wanted = f"{there.dtype} {there.shape}", f"{wanted.dtype} {wanted.shape}"
            problems.add(f"{file}: {name}", f"is {is_there} in the file, {is_wanted} in the {record}")
        for name in self.extra:
            problems.add(f"{file}: {name}", f"is in the file but not in the {record}")


def is_placed(source: FileSource) -> bool:
    """Tell whether the weights of a file go by where they lie: their names there need not be the target's."""
    return bool(source.groups) or source.format in _PLACED


def expect_weights(catalog: Catalog) -> Iterator[ExpectedWeight]:
    """Yield what a target's catalog makes one expect."""
    for weight in catalog:
        places = {weight.where: weight.name}
        if catalog.doubles:
            places = {place.where: place.name for place in catalog.places_of(weight.name)}
        yield ExpectedWeight(weight.name, places, weight.shape, weight.dtype)


def match_weights(expected: Iterable[ExpectedWeight], there: Catalog, by_place: bool) -> Matched:
    """Match what is expected with what is there, by places or by names."""
    theirs = there.expanded
    place_of = {w.where: w for w in theirs}
    found: dict[str, list[WeightSpec]] = {}
    missing, differing, claimed = [], [], set()
    for wanted in expected:
        here = found.setdefault(wanted.name, [])
        for place, name in (wanted.places if by_place else {"": wanted.name}).items():
            spec = place_of.get(place) if by_place else theirs.by_name.get(name)
            if spec is None:
                missing.append(name)
                continue
            claimed.add(spec.name)
            if (spec.shape, spec.dtype) != (wanted.shape, wanted.dtype):
                differing.append((name, spec, wanted))
            else:
                here.append(spec)
    extra = tuple(w.name for w in theirs if w.name not in claimed)
    return Matched(found, tuple(missing), tuple(differing), extra)


class Comparison(NamedTuple):
    """How a weight of a finished file is compared with what the plan gives it.

    Attributes:
        segment: where it lies in the file as it is in memory, if it does.
        wanted: where what the plan gives it lies in a file as it is in memory, if it does. Then comparing touches
            nothing but bytes, so that another thread may do it.
        refusals: refuses values of what is wanted there.
        compute: compares otherwise.
    """

    segment: Segment | None
    wanted: Segment | None = None
    refusals: Refusals = NOTHING_REFUSED
    compute: Callable[[Look, ReadingBack], ComparedBits] | None = None

    def run(self, look: Look, back: ReadingBack) -> ComparedBits:
        """Compare; all numbers pass `look` first, and the file is read as `back` says."""
        if self.compute is not None:
            return self.compute(look, back)
        assert self.segment is not None and self.wanted is not None
        return compare_segments(self.segment, self.wanted, look, self.refusals.check, back)


def comparison_of(source: FileSource, there: WeightSpec, values: Values, name: str) -> Comparison:
    """Return how the weight `there` of a file is compared with what the plan gives `name`.

    Two values are compared where they lie, in small parts; only one that must be computed as a whole is held so.
    """
    written, wanted = source.locate_entry(there), values.segment(name)
    if written is not None and wanted is not None and written.dtype == wanted.dtype:
        return Comparison(written, wanted, values.refusals(name))

    def compare(look: Look, back: ReadingBack) -> ComparedBits:
        parts = values.parts(name) if written is not None else None
        if written is not None and parts is not None:
            return compare_parts(written, parts, look, back)
        value = values.value(name)
        if written is not None and value.shape == there.shape and value.dtype == numpy_dtype(written.dtype):
            return compare_parts(written, in_parts(value), look, back)
        found = source.read_entry(there)
        look(found)
        return ComparedBits(same_bits(found, value), digest(found))

    return Comparison(written, compute=compare)


def in_turn(
    comparisons: Sequence[tuple[Comparison, SeenNumbers | None]],
    with_crc: Callable[[Path], bool],
    hashed: HashedRead | None = None,
) -> Iterator[ComparedBits]:
    """Yield what the comparisons find, in their order: large values by several threads, small ones many at once.

    Args:
        comparisons: what to compare, and what takes note of the numbers of each.
        with_crc: tells of a file whether the CRC-32 of what lies in it is wanted.
        hashed: reads the finished file where its SHA-256 is wanted; one thread then compares what another one hashes.
    """
    tasks = list[Callable[[], Sequence[ComparedBits]]]()
    small: SmallRun | None = None
    with ExitStack() as stack:
        pool = ThreadPoolExecutor(_THREADS)
        stack.callback(pool.shutdown, cancel_futures=True)
        for comparison, seen in comparisons:
            place, wanted = comparison.segment, comparison.wanted
            if place is not None and wanted is not None and place.nbytes == wanted.nbytes and is_small(place):
                pair = SmallPair(place, wanted, comparison.refusals, seen)
                if small is None or not small.take(pair):
                    small = SmallRun(pair)
                    tasks.append(partial(small.compare, hashed))
                continue
            small = None  # what is found is yielded in order
            is_large = place is not None and place.nbytes >= CHUNK
            # Small values are not worth a thread each, nor the CRC a second pass: reading them again takes less.
            summed = is_large and place is not None and with_crc(place.path)
            task = partial(_alone, comparison, seen, ReadingBack(summed, hashed))
            apart = is_large and wanted is not None and hashed is None
            tasks.append(pool.submit(task).result if apart else task)
        for done in tasks:
            yield from done()


def _alone(comparison: Comparison, seen: SeenNumbers | None, back: ReadingBack) -> tuple[ComparedBits]:
    return (comparison.run(_ignore if seen is None else seen.look, back),)


def _ignore(_: NDArray[Any]) -> None:
    pass


def digest_weight(source: FileSource, there: WeightSpec) -> str:
    """Return the xxh3-128 of a weight's bytes, read in small parts where it lies in the file as it is in memory."""
    segment = source.locate_entry(there)
    if segment is None:
        return digest(source.read_entry(there))
    return digest_segment(segment)
