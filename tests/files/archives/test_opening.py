"""Opening zip archives where the machine refuses."""

import errno
import io

import numpy as np
import pytest

from transferpipe.errors import FileError
from transferpipe.files.os_errors import refusal_of
from transferpipe.weights.formats import open_source


class _EndRefused(io.FileIO):
    def seek(self, offset, whence=io.SEEK_SET):
        if offset < 0:
            raise OSError(errno.EIO, "Input/output error")
        return super().seek(offset, whence)


def test_a_refused_seek_is_not_taken_for_damage(tmp_path, monkeypatch):
    """zipfile says "not a zip file" of it, and forgets why."""
    path = tmp_path / "weights.npz"
    np.savez(path, kernel=np.ones(2))
    monkeypatch.setattr(io, "open", lambda file, *_, **__: _EndRefused(file))
    with pytest.raises(FileError) as refused:
        open_source(path)
    assert refusal_of(refused.value).errno == errno.EIO
