"""What changes, vanishes or cannot be written around a run: what the message advises is done, and the numbers are right.

Files are put back as they were, or the run is made again; nothing else is touched in between.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import zlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from one_of_each import FORMATS

import transferpipe as tp
from transferpipe.errors import TransferError
from transferpipe.files.publishing.atomic import NotUndoneError
from transferpipe.files.segment import read_into
from transferpipe.files.stamp import file_stamp
from transferpipe.prove.manifest import json_lines, seal
from transferpipe.weights.formats import open_source
from transferpipe.weights.formats.raw_value import Stretch
from transferpipe.weights.spec import WeightSpec

follows = pytest.mark.follows
SOURCE = {"a/kernel": np.arange(1, 7, dtype="float32").reshape(2, 3), "c/bias": np.float32([7, 8, 9])}
TARGET = {"a/kernel": np.zeros((2, 3), "float32"), "b/kernel": np.full((3, 2), 0.5, "float32")}
EDITED = np.float32([[0, 0, 40], [0, 0, 0]])
EXPECTED = {"a/kernel": np.float32([[1, 2, 40], [4, 5, 6]]), "b/kernel": TARGET["b/kernel"]}
RECIPE = {
    "mapping": {"a": {"to": "a/kernel"}, "b": {"to": "b/kernel", "from": None}},
    "edit": {"e": {"at": "a/kernel", "mask": "mask.npz", "set": 40}},
    "unused": "report",
    "save": "m.npz",
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    np.savez("s.npz", **SOURCE)
    np.savez("t.npz", **TARGET)
    np.savez("mask.npz", **{"a/kernel": EDITED != 0})
    return tmp_path / "here"


def run(folder="out", **changed):
    return tp.transfer("s.npz", {"path": "t.npz"}, folder=folder, **{**RECIPE, **changed})


def right(path="out/m.npz"):
    with np.load(path) as found:
        return {*found} == {*EXPECTED} and all(np.array_equal(found[n], v) for n, v in EXPECTED.items())


def advised(function, *args, **keys):
    with pytest.raises(TransferError) as caught:
        function(*args, **keys)
    return caught.value.problems[0].fix


# A finished run, proved again -------------------------------------------------------------------------------------------


def changed(file, old, new):
    def damage():
        data = Path(file).read_bytes()
        assert old in data
        Path(file).write_bytes(data.replace(old, new))

    return damage


def resealed(change):
    """Return what changes the manifest, and seals it again."""

    def damage():
        manifest = json.loads(Path("out/manifest.json").read_text())
        for key in ("plan_sha256", "seal", "manifest_sha256", "sha256"):
            manifest.pop(key, None)
        change(manifest)
        text = json_lines(seal(manifest, Path("out/plan.json").read_text()))
        Path("out/manifest.json").write_text(text)

    return damage


def folder_in_place():
    os.remove("out/manifest.json")
    os.mkdir("out/manifest.json")


BROKEN_RUNS = [
    (changed("out/plan.json", b"a/kernel", b"a/kernal"), "_load: put it back as"),
    (resealed(lambda m: m.update(weights=3)), "_not_ours: run again"),
    (resealed(lambda m: m["artifacts"][0].update(path="../m.npz")), "_path_of: the run folder is"),
    (folder_in_place, "read_json: the run folder is"),
    (changed("out/manifest.json", b"{", b"["), "read_json: the run folder is #2"),
    (lambda: Path("out/manifest.json").write_text("[]"), "read_json: the run folder is #3"),
    (lambda: os.remove("out/m.npz"), "_verify_artifact: put it back, or"),
    (lambda: np.savez("out/m.npz", **{**EXPECTED, "a/kernel": EDITED}), "_compare: put it back as", "_verify_artifact: put it back as"),
    (lambda: np.savez("mask.npz", **{"a/kernel": EDITED == 0}), "_read_edit_files: put the file back"),
    (lambda: np.savez("s.npz", **{**SOURCE, "a/kernel": np.ones((3, 3), "f4")}), "_compare: put the sources back"),
    (lambda: np.savez("s.npz", **{**SOURCE, "a/kernel": np.full((2, 3), np.nan, "f4")}), "_compare: put the sources back #2"),
    (lambda: np.savez("s.npz", **{**SOURCE, "a/kernel": np.ones((2, 3), "f4")}), "_compare: put the sources back #3"),
]  # fmt: skip


@pytest.mark.parametrize(
    "damage", [pytest.param(damage, marks=follows(*keys), id=keys[0]) for damage, *keys in BROKEN_RUNS]
)
def test_a_run_that_is_no_longer_as_it_was(damage, here):
    run()
    assert right()
    shutil.copytree(here, here.parent / "kept")
    damage()
    fix = advised(tp.verify, "out")
    if "put" in fix:
        for file in ("s.npz", "mask.npz", "out/m.npz", "out/plan.json", "out/manifest.json"):
            shutil.copy(here.parent / "kept" / file, file)
        assert tp.verify("out").verdict.weights == "pass"
        assert right()
    if "run again" in fix:
        for file in ("s.npz", "mask.npz"):
            shutil.copy(here.parent / "kept" / file, file)
        run("again")
        assert tp.verify("again").verdict.weights == "pass"
        assert right("again/m.npz")


# While a run is at work -------------------------------------------------------------------------------------------------


@follows("_open_pinned: run again")
def test_a_file_of_an_edit_that_changes_after_the_plan_was_made(here, monkeypatch):
    from transferpipe.values import choices

    opened = choices._open_pinned

    def changing(edit, path):
        with monkeypatch.context() as patch:
            patch.setattr(choices, "sha256", lambda _: "0" * 64)
            return opened(edit, path)

    with monkeypatch.context() as patch:
        patch.setattr(choices, "_open_pinned", changing)
        assert advised(run) == "run again"
    run()
    assert right()


@follows("_prove: run again; if it")
def test_what_was_written_is_damaged(here, monkeypatch):
    from transferpipe.execute import run as runs

    verify = runs.verify_file

    def damaged(path, *args):
        path.write_bytes(path.read_bytes()[:-20])
        return verify(path, *args)

    with monkeypatch.context() as patch:
        patch.setattr(runs, "verify_file", damaged)
        assert advised(run).startswith("run again")
    run()
    assert right()


@follows("_check_known: run again once nothing")
def test_a_source_that_changes_between_two_readings(here):
    from transferpipe.save.writers.fill import _check_known

    path = FORMATS[".keras"].write(here)
    source = open_source(path)
    segment = source.locate(next(iter(source.catalog)).name)
    crc = zlib.crc32(path.read_bytes()[segment.offset : segment.offset + segment.nbytes])
    segment = replace(segment, known=SimpleNamespace(crc_of=lambda *_: crc))  # as if it were large
    assert advised(_check_known, segment, crc ^ 1) == "run again once nothing writes to it"
    _check_known(segment, crc)
    tp.transfer(path, {"path": str(path)}, mapping={"all": {"to": ".*"}}, folder="out", save="m.npz")
    with np.load("out/m.npz") as found:
        assert all(np.array_equal(found[w.name], source.read(w.name)) for w in source.catalog)


@follows("check_unchanged: run again once nothing")
def test_a_source_that_changes_after_it_was_opened(here):
    source = open_source(here / "s.npz")
    np.savez("s.npz", **{**SOURCE, "c/bias": np.zeros(5, "f4")})
    assert advised(source.read, "a/kernel") == "run again once nothing writes to it"
    assert np.array_equal(open_source(here / "s.npz").read("a/kernel"), SOURCE["a/kernel"])


@follows("open_found: run again once nothing")
def test_a_source_that_changes_while_it_is_opened(here, monkeypatch):
    from transferpipe.fetch import open_path

    digest = hashlib.sha256(Path("s.npz").read_bytes()).hexdigest()
    source = {"path": "s.npz", "sha256": digest}
    keys = {**RECIPE, "folder": "out"}
    with monkeypatch.context() as patch:
        patch.setattr(open_path, "stamps_of", lambda _: ())
        assert advised(tp.transfer, source, {"path": "t.npz"}, **keys) == "run again once nothing writes to it"
    tp.transfer(source, {"path": "t.npz"}, **keys)
    assert right()


@follows("read_into: it is truncated, or")
def test_a_file_that_ends_early(here):
    value = SOURCE["c/bias"]
    Path("v").write_bytes(value.tobytes()[:-1])
    buffer = bytearray(value.nbytes)
    for whole in (False, True):
        with open("v", "rb") as file:
            if whole:
                read_into(file.fileno(), memoryview(buffer), 0, Path("v"))
            else:
                assert advised(read_into, file.fileno(), memoryview(buffer), 0, Path("v")).endswith("run again")
        Path("v").write_bytes(value.tobytes())
    assert np.array_equal(np.frombuffer(buffer, "f4"), value)


@follows("Stretch.read: the file is damaged")
def test_a_value_that_ends_early(here):
    value, spec = SOURCE["c/bias"], WeightSpec("v", (3,), "float32", None, "v")
    for data in (value.tobytes()[:-1], value.tobytes()):
        Path("v").write_bytes(data)
        stretch = Stretch(Path("v"), file_stamp(Path("v")), 0)
        if len(data) < value.nbytes:
            assert "save it again" in advised(stretch.read, spec)
    assert np.array_equal(stretch.read(spec), value)


@follows("_check_empty: the file is damaged:")
def test_shapes_that_no_array_has(here):
    header = {"w": {"dtype": "F32", "shape": [0, 1 << 62], "data_offsets": [0, 0]}}
    for shape in ([0, 1 << 62], [0, 2]):
        header["w"]["shape"] = shape
        text = json.dumps(header).encode()
        Path("w.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
        if shape[1] > 2:
            assert "save it again" in advised(open_source, Path("w.safetensors"))
    assert open_source(Path("w.safetensors")).read("w").shape == (0, 2)


# Publishing -------------------------------------------------------------------------------------------------------------


@follows("publish_for_now: it was left alone:")
def test_another_program_writes_the_file_meanwhile(here, monkeypatch):
    from transferpipe.files.publishing import atomic

    rename = atomic._rename_to_free

    def late(temporary, path):
        if path.name == "m.npz":
            path.write_text("theirs")
        return rename(temporary, path)

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "_rename_to_free", late)
        assert advised(run).startswith("it was left alone: choose another name, or move it away, and run again")
    assert Path("out/m.npz").read_text() == "theirs"
    run(save="other.npz")
    assert right("out/other.npz")
    os.rename("out/m.npz", "theirs")
    run()
    assert right()


@pytest.mark.parametrize(
    "earlier",
    [
        pytest.param(True, marks=follows("_take_back: remove it: the run")),
        pytest.param(False, marks=follows("_take_back: remove it: the run")),
    ],
)
def test_what_cannot_be_undone(earlier, here, monkeypatch):
    from transferpipe.files.publishing import atomic

    path, new, backup = here / "m", here / "new", here / ".backup"
    path.write_text("new")
    if earlier:
        backup.write_text("old")

    def refuse(*_):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        patch.setattr(Path, "unlink", refuse)
        with pytest.raises(NotUndoneError) as caught:
            atomic._take_back(path, atomic._identity(path), backup)
    fix = caught.value.problems[0].fix
    if earlier:
        copied = re.search(r"the earlier file is (\S+): copy it now", fix)[1]
        assert shutil.copy(copied, new).read_text() == "old"
    else:
        assert fix.startswith("remove it")
        Path(caught.value.problems[0].where).unlink()
        atomic.write_text(path, "again")
        assert path.read_text() == "again"
