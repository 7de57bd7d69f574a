"""How often a run reads and writes its bytes: as many as the kernel counted for this process, by whatever call."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hand_made import dense, write_archive
from safetensors.numpy import load_file, save_file

import transferpipe as tp
from transferpipe.files import crc

pytestmark = pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="only Linux counts bytes by process")
SIDE, COUNT = 1024, 16  # 4 MB a kernel: what else a process with many tests behind it reads is a small part
SIZE = SIDE * SIDE * 4 * COUNT
SLACK = 0.25  # of the size: a kernel of the target is looked at, configuration, headers and ends of blocks


def counted():
    """Return how many bytes this process has read and written since it began."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return np.array([int(line.split()[1]) for line in lines if line.startswith(("rchar", "wchar"))])


def keras(path, seed):
    return write_archive(path, [dense(f"d{i}", SIDE, SIDE, seed + i) for i in range(COUNT)])


def tensors(path, seed):
    random = np.random.default_rng(seed)
    save_file({f"d{i}/kernel": random.random((SIDE, SIDE), "float32") for i in range(COUNT)}, path)
    return path


def passes(files, out, **recipe):
    """Return how often a run reads and writes a model of `SIZE`, once nothing else is read for the first time."""
    mapping = {"all": {"to": ".*"}, **recipe}
    counts = []
    for folder in ("warm", "again", "out"):  # the first also reads what it imports
        copies = [Path(shutil.copy(f, f.with_stem(f"{folder}_{f.stem}"))) for f in files]
        before = counted()
        source = {f"s{i}": str(c) for i, c in enumerate(copies[:-1])} if len(copies) > 2 else copies[0]
        report = tp.transfer(
            source, copies[-1], mapping=mapping, folder=out / folder, save={"path": f"o{files[0].suffix}"}
        )
        counts.append((counted() - before) / SIZE)
        assert str(report.verdict).startswith("weights: pass")
    return np.min(counts, axis=0)


def test_keras_files_are_read_six_times_and_written_once(tmp_path):
    """The source's checksum, moving, comparing; the output's SHA-256, and its checksum while it is compared; the target's."""
    read, written = passes([keras(tmp_path / "s.keras", 0), keras(tmp_path / "t.keras", 50)], tmp_path)
    assert read <= 5 + 1 + SLACK  # the sixth is the target, another file: what it keeps must not be damaged
    assert written <= 1 + SLACK


def test_safetensors_are_read_four_times_and_written_once(tmp_path):
    read, written = passes([tensors(tmp_path / "s.safetensors", 0), tensors(tmp_path / "t.safetensors", 50)], tmp_path)
    assert read <= 4 + SLACK
    assert written <= 1 + SLACK


def test_a_merge_reads_each_source_to_write_and_to_prove(tmp_path):
    files = [tensors(tmp_path / f"{name}.safetensors", seed) for seed, name in enumerate("abct")]
    rule = {"to": ".*", "from": [rf"s{i}:\0" for i in range(3)], "merge": "mean"}
    read, written = passes(files, tmp_path, all=rule)
    assert read <= 2 * 3 + 2 + SLACK
    assert written <= 1 + SLACK
    arrays = [load_file(f) for f in files[:-1]]
    wanted = {k: np.mean([np.float64(a[k]) for a in arrays], 0).astype("float32") for k in arrays[0]}
    found = load_file(tmp_path / "out" / "o.safetensors")
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
