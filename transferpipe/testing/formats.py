"""The laws of a format: right values, or an error of ours, whatever becomes of the files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from transferpipe.errors import TransferError, UnsafeError
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.formats import open_source

Arrays = Mapping[str, NDArray[Any]]


class FormatLaws:
    """Laws of a format.

    To use: give `name` and `write`. The laws call `write` with an empty folder, once each.

    Attributes:
        name: what a recipe calls the format.
        most_lengths: to how many lengths each file is cut, and how many of its bytes are changed; from both ends, and
            spread between them.
        checks_values: whether files have checksums of the values, so that a changed byte never gives other numbers.
    """

    name: ClassVar[str]
    most_lengths: ClassVar[int] = 24
    checks_values: ClassVar[bool] = False

    def write(self, folder: Path) -> tuple[Path, Arrays]:
        """Write a small file, or several, with code that is not transferpipe's.

        Two weights at least, of different shapes. Returns what is to be opened, a path in `folder` or that itself, and
        the values by the names that a recipe knows them by.
        """
        raise NotImplementedError

    @pytest.fixture
    def written(self, tmp_path: Path) -> tuple[Path, Arrays]:
        """What `write` gives, in a folder of its own."""
        folder = tmp_path / "files"
        folder.mkdir()
        return self.write(folder)

    def test_it_is_recognized_by_its_content(self, written: tuple[Path, Arrays]) -> None:
        """A recipe need not name the format, and a suffix says nothing."""
        path, _ = written
        assert open_source(path).format == self.name

    def test_what_is_read_is_what_was_written(self, written: tuple[Path, Arrays]) -> None:
        """Names, shapes, dtypes and bits, by the name of the format as well."""
        path, values = written
        for format in (None, self.name):
            source = open_source(path, format)
            assert sorted(w.name for w in source.catalog) == sorted(values)
            for name, value in values.items():
                spec, read = source.catalog[name], source.read(name)
                assert (spec.shape, spec.dtype) == (value.shape, value.dtype.name), name
                assert (read.shape, read.dtype) == (value.shape, value.dtype), name
                assert read.tobytes() == value.tobytes(), name

    def test_every_weight_has_a_name_of_its_own(self, written: tuple[Path, Arrays]) -> None:
        """A recipe could not distinguish two weights of one name."""
        catalog = open_source(written[0]).catalog
        assert len({w.name for w in catalog}) == len(catalog.weights)
        assert all(name and name == name.strip("/") for name in catalog.by_name)

    def test_segments_hold_the_bytes_of_the_values(self, written: tuple[Path, Arrays]) -> None:
        """What is copied without being read is what reading gives."""
        source = open_source(written[0])
        for spec in source.catalog:
            segment = source.locate_entry(spec)
            if segment is not None:
                with segment.path.open("rb") as file:
                    file.seek(segment.offset)
                    there = file.read(segment.nbytes)
                assert (segment.nbytes, segment.dtype) == (spec.nbytes, spec.dtype), spec
                assert there == source.read_entry(spec).tobytes(), spec

    def test_values_are_the_same_in_any_order_again_and_from_threads(self, written: tuple[Path, Arrays]) -> None:
        """One value after another is read, maybe twice, maybe from several threads."""
        path, values = written
        source = open_source(path)
        names = [*reversed(source.catalog.by_name), *source.catalog.by_name] * 2
        with ThreadPoolExecutor(4) as pool:
            for name, read in zip(names, pool.map(source.read, names), strict=True):
                assert read.tobytes() == values[name].tobytes(), name

    def test_cut_to_any_length_it_is_an_error_of_ours(self, written: tuple[Path, Arrays]) -> None:
        """Never other values, never an error of Python's; bytes that nobody needs may be missing."""
        path, values = written
        refused = 0
        for file in _files(path):
            data = file.read_bytes()
            for length in _spread(len(data), self.most_lengths):
                file.write_bytes(data[:length])
                found = _read_all(path)
                assert found is None or _same(found, values), (file.name, length)
                refused += found is None
            file.write_bytes(data)
        # Else the law would hold of a reader that reads nothing.
        assert refused

    def test_changed_anywhere_it_gives_the_shapes_it_says_or_an_error_of_ours(
        self, written: tuple[Path, Arrays]
    ) -> None:
        """A flipped bit may change a number, and must do nothing worse."""
        path, values = written
        for file in _files(path):
            data = file.read_bytes()
            for at in _spread(len(data), self.most_lengths):
                file.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
                found = _read_all(path)
                if found is not None and self.checks_values:
                    assert set(found) != set(values) or _same(found, values), (file.name, at)
            file.write_bytes(data)

    def test_a_file_that_changes_after_it_was_opened_is_noticed(self, written: tuple[Path, Arrays]) -> None:
        """Values of one file never mix with those of another that took its place."""
        path, values = written
        for file in _files(path):
            data = file.read_bytes()
            source = open_source(path)
            file.write_bytes(data[: len(data) // 2] + bytes(len(data)))
            found = _values(source)
            assert found is None or _same(found, values), file.name
            file.write_bytes(data)

    def test_links_out_of_the_folder_are_refused(self, written: tuple[Path, Arrays], tmp_path: Path) -> None:
        """Of several files none may lie elsewhere, unless it is the one that was named, or nobody needs it."""
        path, _ = written
        for number, file in enumerate(f for f in _files(path) if f != path):
            outside = tmp_path / f"outside-{number}"
            file.rename(outside)
            is_needed = _read_all(path) is None
            file.symlink_to(outside)
            if is_needed:
                with pytest.raises(UnsafeError):
                    _all(open_source(path))
            file.unlink()
            outside.rename(file)

    def test_what_the_catalog_says_is_text_that_can_be_shown(self, written: tuple[Path, Arrays]) -> None:
        """A catalog, with what is beside it, is plain data."""
        source = open_source(written[0])
        assert source.files
        assert all(
            isinstance(w.name, str) and isinstance(w.where, str) and isinstance(w.dtype, str) for w in source.catalog
        )
        assert all(isinstance(v, str) for v in source.details.values())


def _files(path: Path) -> list[Path]:
    """Return all files that may be part of what `path` names: it alone, or everything in its folder."""
    folder = path if path.is_dir() else path.parent
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _spread(size: int, most: int) -> Iterator[int]:
    """Yield positions below `size`: some at both ends, and others evenly between."""
    step = max(1, size // most)
    yield from sorted({*range(1, min(size, 9)), *range(1, size, step), *range(max(1, size - 8), size)})


def _all(source: FileSource) -> dict[str, NDArray[Any]]:
    """Return all values, which have the shapes and dtypes that the catalog says."""
    found = {}
    for spec in source.catalog:
        value = source.read_entry(spec)
        assert (value.shape, value.dtype.name) == (spec.shape, spec.dtype), spec
        source.locate_entry(spec)
        found[spec.name] = value
    return found


def _values(source: FileSource) -> dict[str, NDArray[Any]] | None:
    """Return all values; None where that is refused by an error of ours."""
    try:
        return _all(source)
    except TransferError as error:
        assert all(problem.what for problem in error.problems)
        return None


def _read_all(path: Path) -> dict[str, NDArray[Any]] | None:
    """Open a path and return all values; None where that is refused by an error of ours."""
    try:
        return _all(open_source(path))
    except TransferError as error:
        assert all(problem.what for problem in error.problems)
        return None


def _same(found: Arrays, values: Arrays) -> bool:
    return sorted(found) == sorted(values) and all(np.array_equal(found[n], values[n]) for n in values)
