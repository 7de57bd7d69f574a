"""Moving values: out of several files and out of memory, in pieces of every size; their checksums come first."""

import contextlib
import dataclasses
import os
import zlib
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from transferpipe.errors import FileError, Problem, VerificationError
from transferpipe.files import crc as crc_module
from transferpipe.files.segment import Segment
from transferpipe.save.writers import fill as fill_module
from transferpipe.save.writers.content import Content
from transferpipe.save.writers.fill import FilePlace, fill, whole_crc
from transferpipe.weights.spec import Catalog, WeightSpec, catalog_of, numpy_dtype

CHUNK, PIECE = 64, 256
SIZES = [1, 2, 63, 64, 65, 127, 128, 129, 255, 256, 257, 319, 320, 321, 511, 512, 513, 1024, 5000]


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(crc_module, "CHUNK", CHUNK)
    monkeypatch.setattr(fill_module, "_PIECE", PIECE)
    monkeypatch.setattr(crc_module, "_RUN", PIECE)


class Sources:
    """Values, some of which lie in files."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.values, self.segments, self.moved, self.settled = folder, {}, {}, [], []

    def in_memory(self, name, array):
        self.values[name] = np.asarray(array)

    def in_file(self, name, array, file="a", before=13):
        array = np.ascontiguousarray(array)
        path = self.folder / file
        data = path.read_bytes() if path.exists() else b""
        offset = len(data) + before
        path.write_bytes(data + b"?" * before + array.tobytes())
        self.segments[name] = Segment(path, offset, array.nbytes, array.dtype.name)
        self.values[name] = array

    def content(self):
        catalog = Catalog(tuple(WeightSpec(n, v.shape, v.dtype.name) for n, v in self.values.items()))
        content = Content(catalog, self.values.__getitem__, self.segments.get, self.moved.append)
        return dataclasses.replace(content, settled=self.settled.append)

    def places(self, gap=5):
        places, at = [], gap
        for name, value in self.values.items():
            places.append(FilePlace(name, at, value.nbytes))
            at += value.nbytes + gap
        return places, at


@pytest.fixture
def sources(tmp_path):
    return Sources(tmp_path)


def write(sources, path, places, size):
    """Fill the places of a file whose gaps hold dots, and return its bytes, what was written, and the CRC of all."""
    with path.open("wb+") as file:
        file.write(b"." * size)
        file.flush()
        told = []
        fill(file.fileno(), places, sources.content(), lambda written: told.append([*written]))
        [written] = told
        crc = whole_crc(file.fileno(), 0, size, written)
    return path.read_bytes(), written, crc


def check(sources, path):
    places, size = sources.places()
    data, written, crc = write(sources, path, places, size)
    wanted = bytearray(b"." * size)
    for place in places:
        wanted[place.offset : place.offset + place.nbytes] = sources.values[place.name].tobytes()
    assert data == bytes(wanted)
    assert crc == zlib.crc32(data)
    assert all(zlib.crc32(data[w.to : w.to + w.nbytes]) == w.crc for w in written)
    assert sum(w.nbytes for w in written) == sum(p.nbytes for p in places)
    return data


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_segments_of_every_size_around_the_boundaries(sources, tmp_path, monkeypatch, threads):
    monkeypatch.setattr(fill_module, "_THREADS", threads)
    for i, size in enumerate(SIZES):
        array = np.random.default_rng(i).integers(0, 256, size, dtype=np.uint8)
        sources.in_file(f"w{i}", array, file="abc"[i % 3], before=i)
    check(sources, tmp_path / "out")
    assert sum(sources.moved) == sum(SIZES)


def test_the_bytes_do_not_depend_on_the_number_of_threads(sources, tmp_path, monkeypatch):
    for i in range(60):
        array = np.random.default_rng(i).random(SIZES[i % len(SIZES)])
        (sources.in_file if i % 4 else sources.in_memory)(f"w{i}", array)
    found = set()
    for threads in (1, 2, 4, 9):
        monkeypatch.setattr(fill_module, "_THREADS", threads)
        found.add(check(sources, tmp_path / f"out{threads}"))
    assert len(found) == 1


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8", "uint8", "int64", "bool", "float8_e5m2",
                                   "complex64"])  # fmt: skip
@pytest.mark.parametrize("shape", [(), (1,), (7, 11), (3, 1, 5)])
def test_every_dtype_from_file_and_from_memory(sources, tmp_path, dtype, shape):
    array = np.random.default_rng(0).integers(0, 2, shape).astype(numpy_dtype(dtype))
    sources.in_file("file", array)
    sources.in_memory("memory", array)
    check(sources, tmp_path / "out")


def test_arrays_that_do_not_lie_in_one_piece(sources, tmp_path):
    base = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    for name, view in {"axes": base.T, "steps": base[::2, ::-1], "same": np.broadcast_to(base[0, 0], (9, 5))}.items():
        sources.in_memory(name, view)
    data = check(sources, tmp_path / "out")
    place = sources.places()[0][0]
    assert data[place.offset : place.offset + place.nbytes] == np.ascontiguousarray(base.T).tobytes()


def test_what_is_settled_is_what_the_file_will_hold(sources, tmp_path):
    """Whoever follows the writer has all that is written so far but for the head, whatever the order of the places."""
    for i, size in enumerate(SIZES):
        array = np.random.default_rng(i).integers(1, 256, size, dtype=np.uint8)
        (sources.in_file if i % 3 else sources.in_memory)(f"w{i}", array)
    places, size = sources.places()
    seen = []
    with (tmp_path / "out").open("wb+") as file:
        file.truncate(size)
        content = dataclasses.replace(
            sources.content(), settled=lambda end: seen.append((end, os.pread(file.fileno(), end, 0)))
        )
        fill(file.fileno(), places[::-1], content, lambda _: os.pwrite(file.fileno(), b"head", 0))
    whole = (tmp_path / "out").read_bytes()
    assert seen
    assert [end for end, _ in seen] == sorted(end for end, _ in seen)
    assert whole[:4] == b"head"
    assert all(whole[4:end] == known[4:] for end, known in seen)


def test_a_source_that_changes_between_its_checksum_and_its_copy(sources, tmp_path):
    array = np.arange(300_000, dtype=np.uint32)
    sources.in_file("w", array, before=0)
    (segment,) = sources.segments.values()
    sources.segments["w"] = dataclasses.replace(segment, known=crc_module.BlockCrcs(segment))
    check(sources, tmp_path / "as it was")
    array[123_456] ^= 1
    segment.path.write_bytes(array.tobytes())
    with (tmp_path / "out").open("wb+") as file, pytest.raises(FileError, match="a: changed since it was opened"):
        fill(file.fileno(), sources.places()[0], sources.content())


@pytest.mark.parametrize("place", [0, 20, 3000, -1, None])
def test_what_an_archive_says_of_its_values_is_held_against_what_was_moved(sources, tmp_path, place):
    """Also of bytes between the values, and where one value is moved to two places."""
    for k in range(4):
        sources.in_file(f"w{k}", np.random.default_rng(k).random(100 + 70 * k), before=13)
    sources.segments["again"], sources.values["again"] = sources.segments["w1"], sources.values["w1"]
    path, settled = tmp_path / "a", []
    data = bytearray(path.read_bytes())
    wanted = zlib.crc32(data)
    if place is not None:
        data[place] ^= 4
        path.write_bytes(data)
    found = sources.content()

    def settle(crc):
        settled.append(crc)
        if crc != wanted:
            raise FileError(Problem("a", "is damaged"))

    def segment(name):
        crc_module.note_promise(crc_module.Promise(path, 0, len(data), settle))
        return found.segment(name)

    content = dataclasses.replace(found, segment=segment)
    with (tmp_path / "out").open("wb+") as file:
        damaged = pytest.raises(FileError, match="is damaged") if place is not None else contextlib.nullcontext()
        with damaged:
            fill(file.fileno(), sources.places()[0], content)
    assert settled == [zlib.crc32(data)]


def test_a_value_that_is_refused_in_a_damaged_source_is_said_to_be_damaged(sources, tmp_path):
    sources.in_memory("w", np.zeros(3))
    (tmp_path / "a").write_bytes(bytes(10))

    def settle(crc):
        raise FileError(Problem("a", "is damaged"))

    def value(name):
        crc_module.note_promise(crc_module.Promise(tmp_path / "a", 0, 10, settle))
        raise VerificationError(Problem("w", "is NaN"))

    content = dataclasses.replace(sources.content(), value=value)
    with (tmp_path / "out").open("wb+") as file, pytest.raises(FileError, match="is damaged"):
        fill(file.fileno(), sources.places()[0], content)


def test_nothing_to_do(sources, tmp_path):
    data, written, crc = write(sources, tmp_path / "out", [], 100)
    assert (data, written, crc) == (b"." * 100, [], zlib.crc32(b"." * 100))


def test_values_without_gaps_and_gaps_larger_than_a_chunk(sources, tmp_path):
    for i in range(4):
        sources.in_file(f"w{i}", np.arange(100, dtype=np.uint8))
    for gap in (0, CHUNK, CHUNK + 1, 10 * CHUNK + 3):
        places, size = sources.places(gap)
        data, _, crc = write(sources, tmp_path / "out", places, size)
        assert crc == zlib.crc32(data), gap


def test_the_checksum_of_a_part_of_the_file(sources, tmp_path):
    sources.in_memory("w", np.arange(100, dtype=np.uint8))
    places, size = sources.places(50)
    with (tmp_path / "out").open("wb+") as file:
        file.write(b"." * size)
        file.flush()
        told = []
        fill(file.fileno(), places, sources.content(), told.append)
        data = (tmp_path / "out").read_bytes()
        assert whole_crc(file.fileno(), 7, 160, told[0]) == zlib.crc32(data[7:167])


@pytest.mark.parametrize("where", ["in_memory", "in_file"])
@pytest.mark.parametrize("room", [7, 9])
def test_a_value_that_does_not_fit_its_place_is_refused(sources, tmp_path, where, room):
    """Written all the same, it would silently be the beginning of its neighbour."""
    getattr(sources, where)("w", np.arange(8, dtype=np.uint8))
    with (tmp_path / "out").open("wb+") as file, pytest.raises(AssertionError):
        fill(file.fileno(), [FilePlace("w", 0, room)], sources.content())


def test_a_source_that_ends_early(sources, tmp_path):
    sources.in_file("w", np.arange(1000, dtype=np.uint8), before=0)
    os.truncate(sources.segments["w"].path, 600)
    with (tmp_path / "out").open("wb+") as file, pytest.raises(FileError, match="ends at byte 600, before the values"):
        fill(file.fileno(), sources.places()[0], sources.content())


def test_a_source_that_is_gone(sources, tmp_path):
    sources.in_file("w", np.arange(1000, dtype=np.uint8))
    sources.segments["w"].path.unlink()
    with (tmp_path / "out").open("wb+") as file, pytest.raises(FileError, match="a: cannot be read: No such file"):
        fill(file.fileno(), sources.places()[0], sources.content())


def test_descriptors_are_closed(sources, tmp_path):
    for i in range(40):
        sources.in_file(f"w{i}", np.arange(300, dtype=np.uint8), file=f"file{i}")
    before = len(list(Path("/proc/self/fd").iterdir()))
    check(sources, tmp_path / "out")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_bfloat16_lies_there_as_two_bytes(sources, tmp_path):
    sources.in_memory("w", np.array([1.0, -2.0], ml_dtypes.bfloat16))
    data = check(sources, tmp_path / "out")
    assert data[5:9] == bytes.fromhex("803f00c0")


def test_small_values_that_follow_each_other_in_both_files_move_together(tmp_path, monkeypatch):
    source, values = tmp_path / "source", bytes(range(256)) * 3
    source.write_bytes(values)
    places = {"a": (10, 0), "b": (20, 10), "c": (40, 20), "d": (50, 30)}  # (offset there, offset here), of ten bytes
    reads = []
    read = fill_module.reading

    @contextlib.contextmanager
    def counted():
        with read() as chunks:
            yield lambda segment: reads.append((segment.offset, segment.nbytes)) or chunks(segment)

    monkeypatch.setattr(fill_module, "reading", counted)
    moved = []
    content = Content(
        catalog=catalog_of([]),
        value=None,
        segment=lambda name: Segment(source, places[name][0], 10, "uint8"),
        moved=moved.append,
    )
    out = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
    fill(out, [FilePlace(name, here, 10) for name, (_, here) in places.items()], content)
    os.close(out)
    assert (tmp_path / "out").read_bytes() == values[10:30] + values[40:60]
    assert reads == [(10, 20), (40, 20)]
    assert sum(moved) == 40
