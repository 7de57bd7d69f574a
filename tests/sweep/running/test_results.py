"""Results of variants, read again from their folders."""

import errno
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from transferpipe.errors import FileError
from transferpipe.interruption import Terminated, interruption, interruptions
from transferpipe.prove.manifest import with_seal
from transferpipe.sweep.record import read_record
from transferpipe.sweep.running import job
from transferpipe.sweep.running.job import DONE, RESULT, is_finished, read_result, run_variant
from transferpipe.sweep.variant import FORMAT_VERSION, Planned, Variant, read_variant, write_variant
from transferpipe.sweep.variant import VARIANT as VARIANT_FILE


@pytest.mark.parametrize("artifacts", [["model.keras"], [{"sha256": "0"}], [{"path": 1}], [None], "model.keras"])
def test_a_result_whose_files_have_no_names_is_damaged(tmp_path, artifacts):
    result = {"format_version": FORMAT_VERSION, "status": DONE, "checksum": "p1", "artifacts": artifacts}
    (tmp_path / RESULT).write_text(json.dumps(result))
    assert read_result(tmp_path) is None
    assert not is_finished(tmp_path)


def test_a_result_with_names_is_read(tmp_path):
    result = {"format_version": FORMAT_VERSION, "status": DONE, "checksum": "p1", "artifacts": [{"path": "m.keras"}]}
    (tmp_path / RESULT).write_text(json.dumps(result))
    assert read_result(tmp_path)["artifacts"] == [{"path": "m.keras"}]


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (MemoryError(), 4, "there is not enough memory -> close other programs"),
        (OSError(errno.EMFILE, "Too many open files", "a/b"), 4, "a/b: cannot be read or written: Too many open files"),
        (RuntimeError("can't start new thread"), 4, "the system lets no more threads be started"),
        (RuntimeError("odd"), 1, "RuntimeError: odd"),
    ],
)
def test_a_variant_says_of_the_machine_what_a_run_says(error, status, said, tmp_path, monkeypatch):
    write_variant(tmp_path, Planned(Variant({"seed": 1}, {"seed": "1"}), "p1", "key", (1, 0)))

    def fail(*_):
        raise error

    monkeypatch.setattr(job, "_run", fail)
    result = run_variant(tmp_path)
    assert (result["exit"], result["problems"][0][: len(said)]) == (status, said)


@pytest.mark.parametrize(
    "score", [[], 5, {}, {"value": "x"}, {"value": [1]}, {"value": 0.5, "test": "x"}, {"value": 10**400}]
)
def test_a_result_with_a_score_that_is_no_number_is_damaged(tmp_path, score):
    result = {"format_version": FORMAT_VERSION, "status": DONE, "checksum": "p1", "artifacts": [], "score": score}
    (tmp_path / RESULT).write_text(json.dumps(result))
    assert read_result(tmp_path) is None


VARIANT = {"overrides": {"freeze": "none"}, "control": None, "key": "v1", "checksum": "p1"}


@pytest.mark.parametrize(
    "damage",
    [
        {"overrides": {"freeze": {}}},
        {"key": 1.5},
        {"checksum": []},
        {"stale": [None]},
        {"rung": {"over": "x", "at": "y"}},
    ],
)
@pytest.mark.follows("read_record: run the sweep again,")
def test_a_sweep_that_is_damaged_is_said_to_be(tmp_path, damage):
    data = {"format_version": FORMAT_VERSION, "name": "s", "variants": [VARIANT]}
    (tmp_path / "sweep.json").write_text(json.dumps(data))
    assert [entry.key for entry in read_record(tmp_path).entries] == ["v1"]
    (tmp_path / "sweep.json").write_text(json.dumps({**data, "variants": [VARIANT | damage]}))
    with pytest.raises(FileError, match="is not what this version of transferpipe writes"):
        read_record(tmp_path)
    (tmp_path / "again").mkdir()  # the sweep is run again, in another folder
    (tmp_path / "again" / "sweep.json").write_text(json.dumps(data))
    assert [entry.key for entry in read_record(tmp_path / "again").entries] == ["v1"]


@pytest.mark.parametrize(
    "settings", [[1], {"x": 1}, {"title": {}}, {"about": "x"}, {"about": {"recipe": 1}}, {"about": {"recipe": [{}]}}]
)
def test_settings_of_a_sweep_that_are_none(tmp_path, settings):
    data = {"format_version": FORMAT_VERSION, "name": "s", "variants": [VARIANT]}
    (tmp_path / "sweep.json").write_text(json.dumps({**data, "settings": settings}))
    with pytest.raises(FileError, match="is not what this version of transferpipe writes"):
        read_record(tmp_path)
    (tmp_path / "sweep.json").write_text(json.dumps({**data, "settings": {"x": "seed", "about": {"recipe": ["a"]}}}))
    assert read_record(tmp_path).settings == {"x": "seed", "about": {"recipe": ["a"]}}


@pytest.mark.follows("read_variant: run the sweep again")
def test_a_variant_that_is_damaged_is_written_again(tmp_path):
    planned = Planned(Variant({"seed": 1}, {"seed": "1"}), "p1", "key", (1, 0))
    write_variant(tmp_path, planned)
    sound, data = read_variant(tmp_path), json.loads((tmp_path / VARIANT_FILE).read_text())
    del data["recipe"]
    (tmp_path / VARIANT_FILE).write_text(json.dumps(data))
    with pytest.raises(FileError, match="-> run the sweep again"):
        read_variant(tmp_path)
    write_variant(tmp_path, planned)
    assert read_variant(tmp_path) == sound == (replace(planned.variant), "p1")


def test_a_signal_that_comes_while_a_result_gets_its_name_leaves_it(tmp_path, monkeypatch):
    write_variant(tmp_path, Planned(Variant({"seed": 1}, {"seed": "1"}), "p1", "key", (1, 0)))
    rename = Path.replace

    def interrupted(path, target):
        rename(path, target)
        if Path(target).name == RESULT:
            os.kill(os.getpid(), signal.SIGTERM)  # what a shell starts in the background ignores Ctrl-C
        return target

    monkeypatch.setattr(Path, "replace", interrupted)
    with interruptions(signal.SIGTERM):
        result = run_variant(tmp_path)
        assert interruption() is Terminated  # for whoever runs the next one
    assert json.loads((tmp_path / RESULT).read_text()) == with_seal({**result, "format_version": FORMAT_VERSION})
