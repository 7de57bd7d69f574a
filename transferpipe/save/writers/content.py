"""What a writer is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from transferpipe.files.segment import Segment
from transferpipe.weights.file_source import SavedGroup
from transferpipe.weights.spec import Catalog


@dataclass(frozen=True)
class Content:
    """The finished model, its values computed one at a time when the writer asks for them.

    Attributes:
        catalog: names, shapes and dtypes.
        value: returns the value of the weight called so.
        segment: returns where that value lies in a file as it is, or None if it must be computed.
        moved: called with how many bytes of segments were moved.
        groups: the Keras layout, for the formats that have one.
        config: config.json, for the format that holds the architecture.
        format: what a safetensors file says of its names and axes.
        metadata: what else it says.
        keras_version: the version of Keras that the file claims.
        assets: further members of the archive: (name, its bytes in parts).
        parts: yields the value of a weight in stretches, as one row of numbers; None where it is computed as a whole.
        settled: called with the place up to where the file is written, so that it is flushed on the way; what changes
            after that is flushed in the end.
    """

    catalog: Catalog
    value: Callable[[str], NDArray[Any]]
    segment: Callable[[str], Segment | None]
    moved: Callable[[int], None]
    groups: tuple[SavedGroup, ...] = ()
    config: str | None = None
    format: str = "keras"
    metadata: Mapping[str, str] = field(default_factory=dict)
    keras_version: str = "3"
    assets: Callable[[], Iterable[tuple[str, Iterable[bytes]]]] = tuple
    parts: Callable[[str], Iterator[NDArray[Any]] | None] = lambda _: None
    settled: Callable[[int], None] = field(default=lambda _: None)
