"""The laws of a writer: what it writes is what it was given, by another's reader; what it cannot write it refuses."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

import transferpipe as tp
from transferpipe.errors import FileError, Problem, TransferError
from transferpipe.files.segment import Segment
from transferpipe.planning.transforms.computing.values import DTYPES
from transferpipe.recipe.outputs import output_of
from transferpipe.save.writers import Content, writer_for
from transferpipe.weights.formats import open_source
from transferpipe.weights.spec import WeightSpec, catalog_of, numpy_dtype

Arrays = Mapping[str, NDArray[Any]]
VALUES: Arrays = {
    "first/kernel": np.arange(12, dtype="float32").reshape(3, 4),
    # The sign of zero and the numbers below the normal ones are lost by what computes.
    "first/bias": np.array([0.5, -0.0, 3e-41, -1], "float32"),
    "conv/kernel": np.arange(-30, 30, dtype="float16").reshape(1, 3, 4, 5),
    "steps": np.array(7, "int64"),
    "mask": np.array([True, False, True]),
}


class WriterLaws:
    """Laws of a writer.

    To use: give `suffix` and `read`; `content` where the format needs more than names and values.

    Attributes:
        suffix: that of its files, with the dot.
        values: what is written; all of it must fit the format.
        is_placed: whether the format calls weights by another name than they were given, so that only their values,
            in order, are compared.
    """

    suffix: ClassVar[str]
    values: ClassVar[Arrays] = VALUES
    is_placed: ClassVar[bool] = False

    def read(self, path: Path) -> Arrays:
        """Return what is in the file by code that is not transferpipe's, by the names that the weights were given."""
        raise NotImplementedError

    def content(self, values: Arrays, segments: Mapping[str, Segment] | None = None) -> Content:
        """Return what the writer is given."""
        return content_of(values, segments)

    def write(self, path: Path, content: Content) -> Path:
        """Let the writer write a file."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            writer_for(path.name)(descriptor, content)
            os.fstat(descriptor)  # it was left open
        finally:
            os.close(descriptor)
        return path

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """Where to write."""
        return tmp_path / f"out{self.suffix}"

    def test_its_row_is_found_by_the_suffix(self) -> None:
        """And says that it streams into one file."""
        output = output_of(f"model{self.suffix}")
        assert (output.suffix, output.streams, output.files) == (self.suffix, True, "one")
        assert output.label and output.help

    def test_an_independent_reader_finds_what_was_written(self, path: Path) -> None:
        """Names, shapes, dtypes and bits."""
        self.write(path, self.content(self.values))
        found = self.read(path)
        assert sorted(found) == sorted(self.values)
        for name, value in self.values.items():
            assert (found[name].shape, found[name].dtype) == (value.shape, value.dtype), name
            assert found[name].tobytes() == value.tobytes(), name

    def test_our_reader_finds_it_too(self, path: Path) -> None:
        """A result that cannot be read again cannot be verified."""
        self.write(path, self.content(self.values))
        source = open_source(path)
        if not self.is_placed:
            assert sorted(w.name for w in source.catalog) == sorted(self.values)
            for name, value in self.values.items():
                assert source.read(name).tobytes() == value.tobytes(), name
                assert source.catalog[name].dtype == value.dtype.name
        values = sorted(v.tobytes() for v in self.values.values())
        assert sorted(source.read_entry(w).tobytes() for w in source.catalog) == values

    def test_the_same_content_gives_the_same_bytes(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever the time is."""
        one = self.write(path, self.content(self.values)).read_bytes()
        monkeypatch.setattr("time.time", lambda: 2e9)
        assert self.write(path, self.content(self.values)).read_bytes() == one

    def test_bytes_that_lie_elsewhere_give_the_same_file(self, path: Path, tmp_path: Path) -> None:
        """Whether a value is computed or copied from a file."""
        segments, start = {}, 3
        with (tmp_path / "elsewhere").open("wb") as file:
            file.write(b"???")
            for name, value in self.values.items():
                if value.dtype != bool:
                    segments[name] = Segment(tmp_path / "elsewhere", start, value.nbytes, value.dtype.name)
                start += file.write(value.tobytes())
        computed = self.write(path, self.content(self.values)).read_bytes()
        assert self.write(path, self.content(self.values, segments)).read_bytes() == computed

    def test_errors_of_the_content_come_through(self, path: Path) -> None:
        """Whichever weight it is: a writer that goes on would leave a file that looks whole."""
        for broken in self.values:
            content = self.content(self.values)
            failing = dataclasses.replace(content, value=_failing(content.value, broken))
            with pytest.raises(FileError, match="cannot be read any more"):
                self.write(path, failing)

    def test_errors_of_the_disk_come_through(self, path: Path) -> None:
        """A descriptor that cannot be written to stands for a full disk."""
        path.touch()
        descriptor = os.open(path, os.O_RDONLY)
        try:
            with pytest.raises(OSError, match=r"\w"):
                writer_for(path.name)(descriptor, self.content(self.values))
        finally:
            os.close(descriptor)

    def test_every_dtype_is_written_as_it_is_or_refused(self, path: Path) -> None:
        """By an error of ours that names the weight; never as another number."""
        written = 0
        for dtype in DTYPES:
            values = {"a/kernel": np.array([[0, 1], [1, 0]]).astype(numpy_dtype(dtype))}
            try:
                self.write(path, self.content(values))
            except TransferError as error:
                assert any("a/kernel" in f"{p.where} {p.what}" and p.fix for p in error.problems), dtype
                continue
            source = open_source(path)
            (spec,) = source.catalog.weights
            assert (spec.shape, spec.dtype) == ((2, 2), dtype)
            assert source.read_entry(spec).tobytes() == values["a/kernel"].tobytes(), dtype
            written += 1
        assert written

    def test_scalars_and_empty_arrays(self, path: Path) -> None:
        """A weight may have no axis, or an axis of size 0."""
        values = {"a/scalar": np.array(2.5, "float32"), "b/empty": np.zeros((0, 3), "float32")}
        self.write(path, self.content(values))
        found = self.read(path)
        assert {name: value.shape for name, value in found.items()} == {"a/scalar": (), "b/empty": (0, 3)}

    def test_a_run_that_fails_leaves_what_was_there(self, tmp_path: Path) -> None:
        """All or nothing: the old file stays as it was, and nothing is left beside it."""
        kernel = np.ones((2, 2), "float32")
        for name, value in (("source", kernel * np.nan), ("target", kernel)):
            (tmp_path / name / "a").mkdir(parents=True)
            np.save(tmp_path / name / "a" / "kernel.npy", value)
        folder = tmp_path / "run"
        folder.mkdir()
        (folder / f"out{self.suffix}").write_bytes(b"what was there")
        save = {"path": f"out{self.suffix}", "overwrite": True}
        with pytest.raises(TransferError):
            tp.transfer(
                tmp_path / "source",
                tmp_path / "target",
                mapping={"a": {"to": "a"}},
                save=save,
                folder=folder,
            )
        assert (folder / f"out{self.suffix}").read_bytes() == b"what was there"
        assert [p.name for p in folder.iterdir()] == [f"out{self.suffix}"]


def content_of(values: Arrays, segments: Mapping[str, Segment] | None = None, **more: Any) -> Content:
    """Return what a writer is given of these values, some of which may lie in files."""
    specs = [WeightSpec(name, value.shape, value.dtype.name) for name, value in values.items()]
    return Content(
        catalog=catalog_of(specs),
        value=lambda name: values[name],
        segment=(segments or {}).get,
        moved=lambda _: None,
        **more,
    )


def _failing(value: Callable[[str], NDArray[Any]], broken: str) -> Callable[[str], NDArray[Any]]:
    def read(name: str) -> NDArray[Any]:
        if name == broken:
            raise FileError(Problem(name, "cannot be read any more"))
        return value(name)

    return read
