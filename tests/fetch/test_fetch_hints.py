"""What is advised of addresses and downloads, done as it is printed: the file is then found, with the right bytes."""

import re
import shutil
import ssl
import subprocess
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


@follows("WantedFile.no_room: make room, or set")
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
@follows("_describe_refusal: …")
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


# What is corrected in the address ---------------------------------------------------------------------------------------


def _redirect(to):
    headers = {} if to is None else {"Location": to}
    return lambda handler: handler.answer(302, headers=headers)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda handler: handler.answer(204), marks=follows("_length: check the address")),
        pytest.param(lambda handler: handler.answer(200), marks=follows("check_length: check the address")),
        pytest.param(_redirect(None), marks=follows("_Redirects._check: check the address")),
        pytest.param(_redirect("//[x/"), marks=follows("_Redirects._check: check the address #2")),
        pytest.param(
            _redirect("ftp://localhost/m.safetensors"), marks=follows("check_redirect: download the file yourself")
        ),
    ],
)
def test_an_address_that_leads_to_no_file(answer, server, cache, tmp_path):
    data, _ = weights()
    server.files["/right.safetensors"] = data
    server.answers["/wrong.safetensors"] = answer
    fix = advised(find, server.url("/wrong.safetensors"), "source")
    (tmp_path / "copy.safetensors").write_bytes(data)
    right = str(tmp_path / "copy.safetensors") if "name the copy" in fix else server.url("/right.safetensors")
    cache()
    assert find(right, "source").path.read_bytes() == data


@follows("check_length: run again")
def test_a_download_that_breaks_off(server, cache):
    data, _ = weights()
    server.files["/m.safetensors"] = data
    server.answers["/m.safetensors"] = lambda handler: (
        handler.answer(200, data[:50], length=len(data)),
        handler.connection.shutdown(2),
    )
    fix = advised(find, server.url("/m.safetensors"), "source")
    del server.answers["/m.safetensors"]
    cache()
    assert fix == "run again"
    assert find(server.url("/m.safetensors"), "source").path.read_bytes() == data


@pytest.mark.parametrize(
    ("url", "right"), [("hf://a/b/../c.h5", "hf://a/b/c.h5"), ("kaggle://a/b/c/d/../e", "kaggle://a/b/c/d/e")]
)
@follows("_parts: name a file inside")
def test_an_address_that_leaves_its_repository(url, right):
    parse = parse_hf if url.startswith("hf") else parse_kaggle
    assert advised(parse, url, "source") == "name a file inside of it"
    assert parse(right, "source").inner == right.rpartition("/")[2]


class _NotFoundError(Exception):
    pass


@pytest.mark.parametrize(
    ("scheme", "url"),
    [
        pytest.param("hf", "hf://a/b/{}", marks=follows("_hf: check the address")),
        pytest.param("kaggle", "kaggle://a/b/c/d/{}", marks=follows("_kaggle: check the address")),
        pytest.param("hf", "hf://a/b/{}.npz", marks=follows("_describe_failure: check the address")),
        pytest.param("kaggle", "kaggle://a/b/c/d/{}.npz", marks=follows("_describe_failure: check the address")),
    ],
)
def test_what_a_hub_does_not_have(scheme, url, monkeypatch, tmp_path, cache):
    from transferpipe.fetch import hub

    folder = tmp_path / "models--a--b" / "snapshots" / ("a" * 40)
    (folder / "right").mkdir(parents=True)
    np.savez(folder / "right.npz", w=np.ones(3))
    np.savez(folder / "right" / "m.npz", w=np.ones(3))

    def one(*args, **keys):
        name = keys.get("path") or args[1]
        if not (folder / name).exists():
            raise _NotFoundError(name)
        return str(folder / name)

    package = SimpleNamespace(
        hf_hub_download=one,
        snapshot_download=lambda *_, **__: str(folder),
        model_download=lambda *a, **k: one(*a, **k) if k else str(folder),
    )
    monkeypatch.setattr(hub, "import_package", lambda *_: package)
    assert advised(find, url.format("wrong"), "source") == "check the address"
    cache()
    found = find(url.format("right"), "source").path
    assert found == folder / (f"right{'.npz' * url.endswith('.npz')}")


@pytest.mark.parametrize("text", ["https://example.org/model.json", "s3://bucket/x.safetensors.index.json"])
@follows("_find_cached: download the folder and")
def test_one_of_several_files(text, tmp_path):
    fix = advised(find, text, "source")
    np.save(tmp_path / "w.npy", np.ones(3))
    assert find(str(tmp_path), "source").path == tmp_path  # the copy of the folder
    example = re.search(r"hf://\S+", fix)[0].replace("...", "model.json")
    assert vars_of(parse_hf(example, "source")) == ("organisation/repository", None, "model.json")


@pytest.mark.parametrize("url", ["hf://a/b/folder", "kaggle://a/b/c/d/folder"])
@follows("_check_pin: leave it out and")
def test_a_digest_of_a_folder(url, monkeypatch, tmp_path, cache):
    from transferpipe.fetch import schemes

    for name in ("fetch_hf", "fetch_kaggle"):
        monkeypatch.setattr(schemes, name, lambda *_: tmp_path)
    fix = advised(find, url, "source", "0" * 64)
    named = re.search(r"\w+://\S+", fix)[0].removesuffix("/...")
    parse = parse_hf if url.startswith("hf") else parse_kaggle
    assert parse(named.replace("version", "3"), "source").revision
    assert (
        find(url.replace("/b/", "/b@" + "a" * 40 + "/") if "hf" in url else url.replace("/d/", "/d/3/"), "source").path
        == tmp_path
    )


# What is pinned ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("remote", [True, False])
@pytest.mark.parametrize("meant", ["new", "old"])
def test_a_file_that_is_not_the_pinned_one(remote, meant, server, cache, tmp_path, request):
    request.node.add_marker(follows("_download: if the new file" if remote else "identify_file: if this file is"))
    (new, digest), (old, pinned) = weights(), weights(2.0)
    server.files |= {"/new.safetensors": new, "/old.safetensors": old}
    (tmp_path / "new.safetensors").write_bytes(new)
    (tmp_path / "old.safetensors").write_bytes(old)
    where = server.url if remote else lambda name: str(tmp_path / name.strip("/"))
    fix = advised(find, where("/new.safetensors"), "source", pinned)
    written = re.search(r"write sha256: (\w+)", fix)[1]
    assert written == digest
    cache()
    found = (
        find(where("/new.safetensors"), "source", written)
        if meant == "new"
        else find(where("/old.safetensors"), "source", pinned)
    )
    assert found.path.read_bytes() == (new if meant == "new" else old)


@follows("identify_file: check the path and")
def test_a_pinned_file_that_cannot_be_read(tmp_path, monkeypatch, cache):
    from transferpipe.fetch import found

    data, digest = weights()
    path = tmp_path / "m.safetensors"
    path.write_bytes(data)

    def refuse(_):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(found, "sha256", refuse)
        assert advised(find, str(path), "source", digest) == "check the path and who may read it"
    cache()
    assert find(str(path), "source", digest).sha256 == digest


@follows("open_found: leave it out")
def test_a_digest_of_a_file_that_is_read_with_others(tmp_path, cache):
    import hashlib
    import json

    from transferpipe.fetch.open_path import open_found

    (tmp_path / "1.safetensors").write_bytes(weights()[0])
    index = tmp_path / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(("dense.kernel", "dense.bias"), "1.safetensors")}))
    pin = hashlib.sha256(index.read_bytes()).hexdigest()
    assert advised(open_found, find(str(index), "source", pin), "source") == "leave it out"
    cache()
    assert np.array_equal(open_found(find(str(index), "source"), "source").read("dense/kernel"), np.ones((3, 2)))


# The cache --------------------------------------------------------------------------------------------------------------


@follows("_open_folder: set XDG_CACHE_HOME to a")
def test_a_cache_that_cannot_be_written(server, cache, monkeypatch, tmp_path):
    data, _ = weights()
    server.files["/m.safetensors"] = data
    (tmp_path / "taken").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    key = re.search(
        r"set (\w+) to a folder that can be written", advised(find, server.url("/m.safetensors"), "source")
    )[1]
    (tmp_path / "free").mkdir()
    monkeypatch.setenv(key, str(tmp_path / "free"))
    cache()
    assert find(server.url("/m.safetensors"), "source").path.read_bytes() == data


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda copy: copy.unlink(), marks=follows("_copy_of: fetch it again: transferpipe")),
        pytest.param(lambda copy: copy.write_bytes(b"x"), marks=follows("_copy_of: delete …, and fetch")),
    ],
)
def test_a_run_whose_fetched_source_is_gone(damage, server, cache, tmp_path, monkeypatch):
    import shlex
    from pathlib import Path

    import transferpipe as tp
    from transferpipe.cli import main

    monkeypatch.chdir(tmp_path)
    data, digest = weights()
    server.files["/m.safetensors"] = data
    url = server.url("/m.safetensors")
    np.savez("t.npz", **{"dense/kernel": np.zeros((3, 2), "f4"), "dense/bias": np.ones(2, "f4")})
    source = {"path": url, "sha256": digest}
    tp.transfer(source, {"path": "t.npz"}, mapping={"all": {"to": ".*"}}, folder="out", save="m.npz")
    (copy,) = [p for p in (tmp_path / "cache").rglob("m.safetensors") if p.is_file()]
    damage(copy)
    proof = tp.verify("out")
    assert proof.verdict.weights == "inconclusive"
    (note,) = proof.notes
    if "delete " in note:
        Path(re.search(r"delete (\S+), and", note)[1]).unlink()
    cache()
    assert main(shlex.split(re.search(r"transferpipe (inspect \S+)", note)[1])) == 0
    assert tp.verify("out").verdict.weights == "pass"


@follows("download: check the address and")
@pytest.mark.skipif(not shutil.which("openssl"), reason="makes the certificate")
def test_a_certificate_of_another_name(server, cache, monkeypatch, tmp_path):
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", "key", "-out", "own"]
    subprocess.run([*made, *names], cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "own", tmp_path / "key")
    server.secure(context)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "own"))  # whom this machine trusts
    data, _ = weights()
    server.files["/m.safetensors"] = data
    right = server.url("/m.safetensors").replace("http:", "https:")
    assert advised(find, right.replace("localhost", "127.0.0.1"), "source") == "check the address and the clock"
    assert find(right, "source").path.read_bytes() == data


@follows("download: log in to the")
def test_an_object_that_its_store_shows_to_who_is_logged_in(server, cache, monkeypatch, tmp_path):
    s3fs = pytest.importorskip("s3fs")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url(""))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    data, digest = weights()
    refusal = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"

    def judge(handler):
        if "Credential=who-may/" not in handler.headers.get("Authorization", ""):
            return handler.answer(403, refusal, {"Content-Type": "application/xml"})
        return handler.answer(200, data, {"ETag": f'"{digest[:32]}"', "Last-Modified": "Sat, 01 Jan 2022 00:00:00 GMT"})

    server.answers["/bucket/m.safetensors"] = judge

    def logged_in(key):
        (tmp_path / "credentials").write_text(f"[default]\naws_access_key_id={key}\naws_secret_access_key=x\n")
        s3fs.S3FileSystem.clear_instance_cache()

    logged_in("who-may-not")
    assert advised(find, "s3://bucket/m.safetensors", "source") == "log in to the store with its own tool"
    logged_in("who-may")
    assert find("s3://bucket/m.safetensors", "source").path.read_bytes() == data
    s3fs.S3FileSystem.clear_instance_cache()
