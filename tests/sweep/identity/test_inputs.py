"""Which files a finished variant depends on."""

import pytest

from transferpipe.sweep.identity import inputs
from transferpipe.sweep.identity.inputs import inputs_of


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Return a folder of four files, of which two are few enough to be read."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(inputs, "_MOST_FILES", 2)
    folder = tmp_path / "data"
    folder.mkdir()
    for name in "dbca":
        (folder / name).write_text(name)
    return folder


def test_of_many_files_the_first_by_name_are_read_and_the_others_looked_at(data):
    def found():
        return inputs_of({"score": {"folder": str(data)}})

    before = found()
    (data / "a").touch()
    assert found() == before
    (data / "d").write_text("e")  # beyond what is read
    changed = found()
    assert changed != before
    (data / "a").write_text("another")
    assert found() not in (before, changed)
