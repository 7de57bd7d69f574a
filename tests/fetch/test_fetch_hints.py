"""What is advised of addresses and downloads, done as it is printed: the file is then found, with the right bytes."""

import re
import urllib.error
from types import SimpleNamespace

import numpy as np
import pytest
from file_server import weights

from transferpipe.errors import TransferError
from transferpipe.fetch.address import check_address
from transferpipe.fetch.find import find
from transferpipe.fetch.hub import parse_hf, parse_kaggle

follows = pytest.mark.follows


def advised(function, *args):
    with pytest.raises(TransferError) as caught:
        function(*args)
    return caught.value.problems[0].fix


@follows("check_address: write https://")
def test_another_scheme():
    scheme = advised(check_address, "http://example.org/a.h5", "source").removeprefix("write ")
    check_address(f"{scheme}example.org/a.h5", "source")


@follows("parse_hf: write hf://organisation/repository/file, or hf://organisation/repository@commit/file")
def test_how_a_file_of_the_hub_is_named():
    first, second = re.findall(r"hf://\S+?(?=,|$)", advised(parse_hf, "hf://only", "source"))
    assert vars_of(parse_hf(first, "source")) == ("organisation/repository", None, "file")
    assert vars_of(parse_hf(second, "source")) == ("organisation/repository", "commit", "file")


@follows("parse_kaggle: write kaggle://owner/model/framework/variation/version/file")
def test_how_a_file_of_kaggle_is_named():
    text = advised(parse_kaggle, "kaggle://a/b", "source").removeprefix("write ").replace("version", "3")
    assert vars_of(parse_kaggle(text, "source")) == ("owner/model/framework/variation", "3", "file")


def vars_of(path):
    return path.repo, path.revision, path.inner


@follows("_length: pin it: add sha256:")
def test_a_server_that_does_not_say_how_long_a_file_is(server, cache):
    data, digest = weights()

    def silent(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(data)
        handler.close_connection = True

    server.answers["/m.safetensors"] = silent
    url = server.url("/m.safetensors")
    key = advised(find, url, "source").split()[-1]
    assert key == "sha256:"
    cache()
    assert find(url, "source", digest).path.read_bytes() == data


@follows("WantedFile.unreachable: check the address and")
def test_the_copy_in_the_cache(server, cache):
    data, _ = weights()
    server.files["/m.safetensors"] = data
    url = server.url("/m.safetensors")
    assert find(url, "source").path.read_bytes() == data
    cache()

    def broken(handler):
        handler.close_connection = True
        handler.connection.close()

    server.answers["/m.safetensors"] = broken
    digest = re.search(r"add sha256: (\w+)", advised(find, url, "source"))[1]
    cache()
    assert find(url, "source", digest).path.read_bytes() == data


@follows("copy: make room, or set")
def test_a_cache_with_room(server, cache, monkeypatch, tmp_path):
    import shutil

    data, _ = weights()
    server.files["/m.safetensors"] = data
    usage = shutil.disk_usage
    full = str(tmp_path / "cache")
    monkeypatch.setattr(
        shutil, "disk_usage", lambda p: SimpleNamespace(free=0) if str(p).startswith(full) else usage(p)
    )
    key = re.search(r"set (\w+) to a folder", advised(find, server.url("/m.safetensors"), "source"))[1]
    monkeypatch.setenv(key, str(tmp_path / "elsewhere"))
    cache()
    found = find(server.url("/m.safetensors"), "source").path
    assert found.is_relative_to(tmp_path / "elsewhere")
    assert found.read_bytes() == data


@pytest.mark.parametrize("status", [401, 404, 429])
@follows("_refused: …")
def test_what_a_server_refuses(status, server, cache, tmp_path):
    data, _ = weights()
    server.files["/m.safetensors"] = data
    server.answers["/m.safetensors"] = lambda handler: handler.answer(status)
    fix = advised(find, server.url("/m.safetensors"), "source")
    cache()
    if "name the copy" in fix:  # downloaded by what has permission
        (tmp_path / "copy.safetensors").write_bytes(data)
        found = find(str(tmp_path / "copy.safetensors"), "source")
    elif "check the address" in fix:
        found = find(server.url("/m.safetensors?x"), "source")
    else:
        del server.answers["/m.safetensors"]
        found = find(server.url("/m.safetensors"), "source")
    assert found.path.read_bytes() == data
    assert not issubclass(urllib.error.HTTPError, TransferError)
    assert np.frombuffer(data[:8], "<u8")[0] < len(data)
