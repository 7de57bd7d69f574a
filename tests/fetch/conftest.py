"""A server of this machine, and a cache of the test's own."""

import pytest
from file_server import running_server

from transferpipe.fetch import find
from transferpipe.recent import Recent


@pytest.fixture
def server():
    """A running server; what it is asked for is in `asked`."""
    with running_server() as state:
        yield state


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, and a process that has found nothing yet; returns the function that makes it forget."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)

    def forget():
        monkeypatch.setattr(find, "_FOUND", Recent(16))

    forget()
    return forget
