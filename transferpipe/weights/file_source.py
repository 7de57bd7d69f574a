"""An opened weight file: its catalog, what else lies in it, and a way to read one value."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from transferpipe.files.segment import Segment
from transferpipe.weights.spec import Catalog, WeightSpec
from transferpipe.weights.stored_optimizer import StoredOptimizer


@dataclass(frozen=True)
class SavedGroup:
    """One group of a Keras weights file, as the writer of the same file must lay it out again.

    Attributes:
        path: the group's path without the final ``vars``, such as ``layers/dense_1``; empty for the root.
        name: the layer's name that Keras notes on the group; None where the file has none.
        entries: (key inside ``vars``, name of the weight in the catalog), in file order.
    """

    path: str
    name: str | None
    entries: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class FileSource:
    """A file opened for reading. Values are read one at a time, when asked for.

    Attributes:
        path: where the file lies.
        format: name of the format, as in the table of `transferpipe.weights.formats`.
        catalog: the weights.
        others: what the file holds beside weights (optimizer slots, counters, metric and random state).
        read_entry: returns the value of one of `catalog` or `others`.
        locate_entry: returns where that value lies as it is in memory, or None if it must be unpacked or converted.
        config: the Keras model configuration found in the file, if any.
        groups: the Keras layout of the file, if it has one.
        assets: names of the archive's further members, such as vocabularies.
        details: facts worth showing, such as ``keras_version``.
        metadata: the texts that a file of named tensors has beside them, which a file of the same tensors keeps.
        parts: all files that values are read from, where they are more, or others, than `path`; and folders in which
            other files would be taken instead, were they there.
        select: the keys on the way to the part of the file that is read, if that is not the whole.
        url: where it was fetched from, if it is the copy of a file elsewhere.
        sha256: its digest, where it was computed: of fetched and of pinned files.
        optimizer: whose slots the state of training among `others` is, where the format itself names them.
    """

    path: Path
    format: str
    catalog: Catalog
    read_entry: Callable[[WeightSpec], NDArray[Any]] = field(repr=False)
    locate_entry: Callable[[WeightSpec], Segment | None] = field(default=lambda _: None, repr=False)
    others: tuple[WeightSpec, ...] = ()
    config: Mapping[str, Any] | None = field(default=None, repr=False)
    groups: tuple[SavedGroup, ...] = field(default=(), repr=False)
    assets: tuple[str, ...] = ()
    details: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)
    parts: tuple[Path, ...] = ()
    select: str | None = None
    url: str | None = None
    sha256: str | None = None
    optimizer: StoredOptimizer | None = field(default=None, repr=False)

    @property
    def files(self) -> tuple[Path, ...]:
        """What the content depends on: the files that values are read from, and the folders that name them."""
        return self.parts or (self.path,)

    @property
    def label(self) -> str:
        """The path as text, or the address that it was fetched from."""
        return self.url or str(self.path)

    def read(self, name: str) -> NDArray[Any]:
        """Return the value of the weight called `name`; of several places that of the last, which Keras goes by.

        Raises:
            FileError: the file ends early, changed, or is damaged.
        """
        return self.read_entry(self.catalog.places_of(name)[-1])

    def place_of(self, name: str) -> Hashable | None:
        """Return what weights have in common that are one array under several names; None where nothing tells.

        torch keeps a tied tensor once, under all its names.
        """
        spec, found = self.catalog[name], self.locate(name)
        return (found.path, found.offset, spec.shape, spec.dtype) if found is not None and spec.size else None

    def locate(self, name: str) -> Segment | None:
        """Return where the value of the weight called `name` lies as it is in memory, if it does.

        Raises:
            FileError: the file changed, or is damaged.
        """
        catalog = self.catalog
        return self.locate_entry(catalog.places_of(name)[-1] if catalog.doubles else catalog[name])
