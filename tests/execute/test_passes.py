"""How often a run reads and writes its bytes: as many as the kernel counted for this process, by whatever call."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hand_made import dense, write_archive
from safetensors.numpy import load_file, save_file

import transferpipe as tp
from transferpipe.files import crc
from transferpipe.weights.formats.keras import archive

pytestmark = pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="only Linux counts bytes by process")
SIDE, FEW, MANY = 1024, 4, 16  # kernels of 4 MB, in two models that differ in their number alone
MORE = SIDE * SIDE * 4 * (MANY - FEW)
SLACK = 0.25  # of the bytes that are more: ends of blocks, and headers that grow with the number of weights


def counted():
    """Return how many bytes this process has read and written since it began."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return np.array([int(line.split()[1]) for line in lines if line.startswith(("rchar", "wchar"))])


def keras(path, seed, count):
    return write_archive(path, [dense(f"d{i}", SIDE, SIDE, seed + i) for i in range(count)])


def tensors(path, seed, count):
    random = np.random.default_rng(seed)
    save_file({f"d{i}/kernel": random.random((SIDE, SIDE), "float32") for i in range(count)}, path)
    return path


def run_once(files, out, mapping):
    """Return how many bytes a run over copies of the files reads and writes; the last file is the target."""
    out.mkdir(parents=True)
    copies = [Path(shutil.copy(f, out)) for f in files]
    before = counted()
    source = {f"s{i}": str(c) for i, c in enumerate(copies[:-1])} if len(copies) > 2 else copies[0]
    report = tp.transfer(source, copies[-1], mapping=mapping, folder=out, save={"path": f"out{files[0].suffix}"})
    assert str(report.verdict).startswith("weights: pass")
    return counted() - before


def passes(make, names, out, **recipe):
    """Return how often each further byte of a model is read and written.

    What a run reads however large the models are (modules, also those that its children import; a kernel of the
    target that is looked at) is in the smaller model's count too, and drops out of the difference.
    """
    counts = []
    for count in (FEW, MANY):
        (out / f"{count}").mkdir()
        files = [make(out / f"{count}" / name, 100 * i, count) for i, name in enumerate(names)]
        runs = [run_once(files, out / f"{count}" / folder, {"all": {"to": ".*"}, **recipe}) for folder in "abc"]
        counts.append(np.min(runs, axis=0))  # the first also reads what it imports
    return (counts[1] - counts[0]) / MORE


def test_keras_files_are_read_five_times_and_written_once(tmp_path):
    """The source's checksum, moving, comparing; the output, compared, with both its checksums; the target's checksum."""
    read, written = passes(keras, ["s.keras", "t.keras"], tmp_path)
    assert read <= 5 + SLACK
    assert written <= 1 + SLACK


def test_large_keras_files_are_read_four_times(tmp_path, monkeypatch):
    """Of those that are not summed up when they are opened, the source's checksum is found while it is moved."""
    monkeypatch.setattr(archive, "_CHECKED_FIRST", SIDE * SIDE)
    read, written = passes(keras, ["s.keras", "t.keras"], tmp_path)
    assert read <= 4 + SLACK
    assert written <= 1 + SLACK


def test_safetensors_are_read_three_times_and_written_once(tmp_path):
    """The source is moved and compared; the output compared, with its SHA-256; of the target only the header is needed."""
    read, written = passes(tensors, ["s.safetensors", "t.safetensors"], tmp_path)
    assert read <= 3 + SLACK
    assert written <= 1 + SLACK


def test_a_merge_reads_each_source_to_write_and_to_prove(tmp_path):
    names = [f"{name}.safetensors" for name in "abct"]
    rule = {"to": ".*", "from": [rf"s{i}:\0" for i in range(3)], "merge": "mean"}
    read, written = passes(tensors, names, tmp_path, all=rule)
    assert read <= 2 * 3 + 1 + SLACK
    assert written <= 1 + SLACK
    folder = tmp_path / f"{MANY}"
    arrays = [load_file(folder / name) for name in names[:-1]]
    wanted = {k: np.mean([np.float64(a[k]) for a in arrays], 0).astype("float32") for k in arrays[0]}
    found = load_file(folder / "a" / "out.safetensors")
    assert all(np.array_equal(found[k], wanted[k]) for k in wanted)


@pytest.mark.parametrize("offset", [0, 1, 65_535, 65_536, 300_001, 5_000_000])
@pytest.mark.parametrize("nbytes", [1, 262_144, 300_007, 4_194_304])
def test_checksums_of_parts_follow_from_those_kept(tmp_path, monkeypatch, offset, nbytes):
    import zlib

    from transferpipe.files.segment import Segment

    monkeypatch.setattr(crc, "_RUN", 1 << 21)  # several pieces
    data = np.random.default_rng(0).integers(0, 256, 9_500_000, np.uint8).tobytes()
    (tmp_path / "x").write_bytes(data)
    known = crc.BlockCrcs(Segment(tmp_path / "x", 100, len(data) - 200, "uint8"))
    assert known.crc == zlib.crc32(data[100:-100])
    found = known.crc_of(100 + offset, nbytes)
    if found is not None:
        assert found == zlib.crc32(data[100 + offset : 100 + offset + nbytes])
    assert (found is None) == (nbytes < 262_144)
    assert known.crc_of(50, nbytes) is None
    assert known.crc_of(len(data) - 200, nbytes + 200) is None
