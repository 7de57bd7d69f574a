"""Run folders that came from elsewhere: their records say what no run writes."""

import errno
import hashlib
import json
import os
import re
import signal

import pytest
from hand_made import dense, write_archive

import transferpipe as tp
from transferpipe.cli.main import main
from transferpipe.errors import FileError, TransferError, UnsafeError
from transferpipe.files.hashing import sha256
from transferpipe.prove import run_folder
from transferpipe.prove.manifest import MANIFEST, PLAN, seal
from transferpipe.prove.run_folder import verify_run

follows = pytest.mark.follows


@pytest.fixture
def finished(tmp_path):
    """Return the folder of a run."""
    for name, number in (("s", 0), ("t", 1)):
        write_archive(tmp_path / f"{name}.keras", [dense("a", 3, 2, 100 * number)])
    tp.transfer(
        str(tmp_path / "s.keras"),
        str(tmp_path / "t.keras"),
        folder=tmp_path / "out",
        mapping={"all": {"to": ".*"}},
        save={"path": "model.safetensors"},
    )
    return tmp_path / "out"


def forge(folder, change):
    """Change the manifest, and seal it again as anybody can."""
    manifest, plan = json.loads((folder / MANIFEST).read_text()), (folder / PLAN).read_text()
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(seal({k: v for k, v in manifest.items() if k != "seal"}, plan)))


@pytest.mark.parametrize("path", ["../elsewhere/model.safetensors", "link/model.safetensors", "x/../../elsewhere/model.safetensors"])  # fmt: skip
def test_an_artifact_outside_of_the_folder_is_not_read(finished, path):
    elsewhere = finished.parent / "elsewhere"
    elsewhere.mkdir()
    (finished / "x").mkdir()
    (finished / "link").symlink_to(elsewhere)
    (finished / "model.safetensors").rename(elsewhere / "model.safetensors")
    forge(finished, lambda manifest: manifest["artifacts"][0].update(path=path))
    with pytest.raises(UnsafeError):
        verify_run(finished)


def test_a_disk_that_refuses_once_is_no_failed_verification(finished, monkeypatch, capsys):
    """Reading the first weight again: the digest was right a moment ago, and is right for those that follow."""
    comparing, reads = (
        run_folder.comparison_of,
        {c: getattr(os, c) for c in ("read", "pread", "preadv") if hasattr(os, c)},
    )

    def refuse(*_):
        for call, read in reads.items():
            monkeypatch.setattr(os, call, read)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def begin(*arguments):
        monkeypatch.setattr(run_folder, "comparison_of", comparing)
        for call in reads:
            monkeypatch.setattr(os, call, refuse)
        return comparing(*arguments)

    monkeypatch.setattr(run_folder, "comparison_of", begin)
    assert main(["verify", str(finished)]) == 4
    said = capsys.readouterr().err
    assert re.search(r"\.(keras|safetensors): cannot be read: Input/output error\n      -> check the disk", said)
    assert main(["verify", str(finished)]) == 0


def test_a_record_that_the_disk_refuses_is_not_said_to_be_damaged(finished, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(type(finished), "read_text", refuse)
    with pytest.raises(FileError, match=r"json: cannot be read: Input/output error -> check the disk"):
        verify_run(finished)


@follows("_path_of: if you put it")
def test_an_artifact_that_the_command_line_put_elsewhere_is_read_where_the_command_line_says_so(finished):
    (finished / "model.safetensors").rename(finished.parent / "model.safetensors")
    place = finished.parent / "model.safetensors"
    forge(finished, lambda manifest: manifest["artifacts"][0].update(path=str(place)))
    with pytest.raises(UnsafeError, match="lies outside of the folder") as caught:
        verify_run(finished)
    assert verify_run(finished, outside=True).verdict.weights == "pass"
    flag = caught.value.problems[0].fix.rpartition(" ")[2]
    assert main(["verify", str(finished), flag]) == 0
    forge(finished, lambda manifest: manifest["artifacts"][0].update(path=str(finished / "model.safetensors")))
    place.rename(finished / "model.safetensors")
    assert verify_run(finished).verdict.weights == "pass"


@pytest.mark.parametrize("key", ["artifacts", "weights", "sources", "target_file", "verify", "verdict", "plan_sha256"])
@pytest.mark.parametrize("value", ["missing", None, 3, "x", [1], {"a": 1}])
def test_a_record_that_no_run_writes_is_named(finished, key, value):
    forge(finished, lambda m: m.pop(key) if value == "missing" else m.update({key: value}))
    if key == "plan_sha256" or (key, value) == ("target_file", None):  # made anew with the seal; what many runs say
        verify_run(finished)
        return
    with pytest.raises(TransferError, match=r"manifest\.json|plan\.json|model\.safetensors"):
        verify_run(finished)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes")
@pytest.mark.parametrize("name", [MANIFEST, PLAN, "model.safetensors"])
def test_a_pipe_is_not_waited_for(finished, name):
    (finished / name).unlink()
    os.mkfifo(finished / name)
    signal.alarm(20)  # ends the test where it would hang
    try:
        with pytest.raises(TransferError, match=name):
            verify_run(finished)
        assert sha256(finished / name) == hashlib.sha256(b"").hexdigest()
    finally:
        signal.alarm(0)
