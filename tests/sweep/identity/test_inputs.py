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


def test_of_many_files_the_first_by_name_are_read_and_all_are_counted(data):
    def found():
        return inputs_of({"score": {"folder": str(data)}})

    before = found()
    (data / "d").write_text("another")
    assert found() == before  # beyond what is read
    (data / "a").write_text("another")
    changed = found()
    assert changed != before
    (data / "e").write_text("e")
    assert found() not in (before, changed)
