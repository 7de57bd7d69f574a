"""Objects of a store, through fsspec: its memory stands for the store, as it speaks the same interface."""

import sys
import types

import pytest
from file_server import weights

from transferpipe.errors import FileError, VerificationError
from transferpipe.fetch.cache import cache_folder
from transferpipe.fetch.find import find

pytest.importorskip("fsspec")
URL = "s3://bucket/some folder/model#1?.safetensors"


@pytest.fixture(params=["s3", "gs"])
def store(request, monkeypatch):
    """An empty store of objects, and its scheme."""
    from fsspec.implementations.memory import MemoryFileSystem

    class Store(MemoryFileSystem):
        protocol = request.param
        store, pseudo_dirs, opened = {}, [""], []
        cachable = False

        @classmethod
        def _strip_protocol(cls, path):
            return "/" + path.removeprefix(f"{request.param}://").strip("/")

        def _open(self, path, *args, **kwargs):
            self.opened.append(path)
            return super()._open(path, *args, **kwargs)

    package = {"s3": "s3fs", "gs": "gcsfs"}[request.param]
    monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, request.param, Store)
    made = Store()
    made.url = URL.replace("s3", request.param)
    made.pipe_file(made.url, weights()[0])
    made.opened.clear()
    return made


def refused(url, error=FileError, pin=None):
    with pytest.raises(error) as caught:
        find(url, "source.path", pin)
    return str(caught.value)


def test_an_object_is_fetched_once_and_again_when_it_is_another(store, cache):
    found = find(store.url)
    assert found.path.read_bytes() == weights()[0]
    assert (found.url, found.sha256) == (store.url, weights()[1])
    cache()
    assert find(store.url) == found
    assert len(store.opened) == 1
    store.pipe_file(store.url, weights(2.0)[0])
    cache()
    assert find(store.url).sha256 == weights(2.0)[1]


def test_a_pinned_object(store, cache):
    find(store.url)
    store.rm(store.url)
    cache()
    assert find(store.url, pin=weights()[1]).path.read_bytes() == weights()[0]
    store.pipe_file(store.url, weights(2.0)[0])
    assert "the recipe pins 000" in refused(store.url, VerificationError, "0" * 64)


@pytest.mark.follows("download: name one file of", "download: check the address")
def test_what_is_not_there_or_is_a_folder(store):
    assert "there is no such object -> check the address" in refused(store.url + "x")
    assert "it is a folder -> name one file of it" in refused(store.url.rpartition("/")[0])
    assert find(store.url).path.read_bytes() == weights()[0]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError("Forbidden\nmore"), "no permission: Forbidden -> log in to the store with its own tool"),
        (ConnectionError("no route"), "ConnectionError: no route -> check the address and the network"),
        (RuntimeError(), "RuntimeError:  -> check the address and the network"),
    ],
)
def test_a_store_that_fails(store, monkeypatch, error, said):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(type(store), "info", fail)
    assert said in refused(store.url)


def test_a_part_of_an_object_is_refused_and_not_kept(store, monkeypatch):
    about = store.info(store.url)
    monkeypatch.setattr(type(store), "info", lambda *_, **__: {**about, "size": about["size"] + 1})
    assert f"{about['size']} of {about['size'] + 1} bytes arrived -> run again" in refused(store.url)
    assert not [p for p in cache_folder().rglob("*") if p.is_file()]
