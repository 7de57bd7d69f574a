"""Files fetched over http from a server of this machine: kept, pinned, asked for again, and refused."""

import contextlib
import os
import re
import shutil
import socket
import threading
from types import SimpleNamespace

import pytest
from file_server import weights

from transferpipe.errors import FileError, UnsafeError, VerificationError
from transferpipe.fetch import answer
from transferpipe.fetch.cache import cache_folder, kept_copy
from transferpipe.fetch.find import find
from transferpipe.progress import SHOWN
from transferpipe.weights.formats import open_source

FILE = "/models/model.safetensors"


@pytest.fixture
def url(server):
    server.files[FILE], _ = weights()
    return server.url(FILE)


def refused(text, error=FileError, pin=None):
    with pytest.raises(error) as caught:
        find(text, "source.path", pin)
    (problem,) = caught.value.problems
    assert problem.where == "source.path"
    return f"{problem.what} -> {problem.fix}"


def nothing_is_kept():
    """No file is left in the cache, whole or in part."""
    return [p for p in cache_folder().rglob("*") if p.is_file()] == [] if cache_folder().exists() else True


def test_a_file_is_fetched_under_its_name_with_its_digest(url):
    data, digest = weights()
    found = find(url)
    assert found.path.read_bytes() == data
    assert found.path.name == "model.safetensors"
    assert (found.url, found.sha256, found.advice) == (url, digest, f"add sha256: {digest}")
    assert open_source(found.path).catalog.by_name.keys() == {"dense/kernel", "dense/bias"}


def test_a_process_asks_once_and_the_next_one_asks_for_a_newer_version(url, server, cache):
    first = find(url)
    assert find(url) == first
    assert len(server.asked) == 1
    cache()
    assert find(url) == first
    assert len(server.asked) == 2
    assert "If-None-Match" in server.headers[1]
    server.files[FILE], newer = weights(2.0)
    cache()
    assert find(url).sha256 == newer
    assert first.path.read_bytes() == weights()[0], "a copy that somebody may be reading stays"


def test_last_modified_serves_where_there_is_no_etag(url, server, cache):
    day = "Mon, 02 Feb 2026 00:00:00 GMT"

    def answer(handler):
        if handler.headers.get("If-Modified-Since") == day:
            return handler.answer(304)
        return handler.answer(200, weights()[0], {"Last-Modified": day})

    server.answers[FILE] = answer
    first = find(url)
    cache()
    assert find(url) == first
    assert server.headers[1]["If-Modified-Since"] == day


def test_without_any_mark_the_file_is_fetched_again(url, server, cache):
    server.answers[FILE] = lambda handler: handler.answer(200, weights()[0])
    first = find(url)
    cache()
    assert find(url).sha256 == first.sha256
    assert len(server.asked) == 2


def test_a_pinned_copy_needs_no_network(url, server, cache):
    digest = find(url).sha256
    cache()
    found = find(url, pin=digest)
    assert len(server.asked) == 1
    assert (found.sha256, found.advice) == (digest, "")


def test_a_damaged_copy_is_fetched_again(url, server, cache):
    found = find(url)
    for pin in (found.sha256, None):
        found.path.write_bytes(b"x" * found.path.stat().st_size)
        cache()
        assert find(url, pin=pin).path.read_bytes() == weights()[0]
    assert len(server.asked) == 3
    assert "If-None-Match" not in server.headers[2]


def test_a_digest_that_is_not_the_pinned_one(url):
    digest, pin = weights()[1], "0" * 64
    text = refused(url, VerificationError, pin)
    assert f"{url} has the SHA-256 {digest}, the recipe pins {pin}" in text
    assert nothing_is_kept()


def test_a_part_of_a_file_is_refused_and_not_kept(url, server):
    server.answers[FILE] = lambda h: (h.answer(200, weights()[0][:50], length=168), h.connection.shutdown(2))
    assert "50 of 168 bytes arrived -> run again" in refused(url)
    assert nothing_is_kept()


def test_a_chunked_answer_is_read_to_its_end_or_refused(url, server):
    data, digest = weights()

    def answer(handler, end=b"0\r\n\r\n"):
        handler.answer(200, b"%x\r\n%s\r\n%s" % (len(data), data, end), chunked)
        handler.close_connection = True

    chunked = {"Content-Length": None, "Transfer-Encoding": "chunked"}
    server.answers[FILE] = lambda handler: answer(handler, b"")
    assert "IncompleteRead" in refused(url)
    assert nothing_is_kept()
    server.answers[FILE] = answer
    assert find(url).sha256 == digest


def test_without_a_length_only_a_pin_tells_a_whole_file_from_a_part(url, server):
    def answer(handler):
        handler.answer(200, weights()[0], {"Content-Length": None})
        handler.close_connection = True

    server.answers[FILE] = answer
    assert "the server does not say how long the file is -> pin it: add sha256:" in refused(url)
    assert find(url, pin=weights()[1]).sha256 == weights()[1]


def test_a_file_larger_than_the_disk_is_refused_before_it_is_fetched(url, server):
    server.answers[FILE] = lambda h: (h.answer(200, b"x", length=1 << 60), h.connection.shutdown(2))
    text = refused(url)
    assert f"it has {1 << 60:,} bytes, and " in text
    assert "make room, or set XDG_CACHE_HOME" in text


def test_an_answer_without_an_end_leaves_half_of_what_is_free(url, server, monkeypatch):
    def answer(handler):
        handler.answer(200, b"", {"Content-Length": None, "Transfer-Encoding": "chunked"})
        with contextlib.suppress(OSError):
            while True:
                handler.wfile.write(b"100000\r\n" + bytes(1 << 20) + b"\r\n")

    server.answers[FILE] = answer
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5 << 20))
    assert re.search(r"3,\d{3},\d{3} bytes arrived and no end, and 5,242,880 are free in", refused(url))
    assert nothing_is_kept()


@pytest.mark.parametrize(
    ("status", "fix"),
    [(404, "check the address"), (403, "it is not public"), (401, "it is not public"), (500, "try again later")],
)
def test_a_server_that_says_no(url, server, status, fix):
    server.answers[FILE] = lambda handler: handler.answer(status, b"no")
    text = refused(url)
    assert f"{url} cannot be fetched: the server answers {status}" in text
    assert f"-> {fix}" in text
    assert nothing_is_kept()


def test_an_empty_file_and_a_status_that_is_no_file(url, server):
    server.answers[FILE] = lambda handler: handler.answer(200)
    assert "it is empty" in refused(url)
    server.answers[FILE] = lambda handler: handler.answer(206, b"abc")
    assert "the server answers 206 where 200 is needed" in refused(url)


def test_no_server_and_how_to_do_without(url, server, cache):
    digest = find(url).sha256
    with socket.socket() as free:
        free.bind(("localhost", 0))
        gone = f"http://localhost:{free.getsockname()[1]}/a.h5"
    assert "cannot be fetched: ConnectionRefusedError" in refused(gone)
    server.answers[FILE] = lambda handler: handler.connection.shutdown(2)
    cache()
    assert f"add sha256: {digest}" in refused(url)


@pytest.mark.parametrize(
    "to", ["file:///etc/passwd", "ftp://localhost/a.h5", "http://example.org/a.h5", "data:,x", "gopher://x/", "//[x/"]
)
def test_redirects_that_are_not_followed(url, server, to):
    server.answers[FILE] = lambda handler: handler.answer(302, headers={"Location": to})
    error = FileError if to == "//[x/" else UnsafeError
    assert "redirects to" in refused(url, error)
    assert nothing_is_kept()


def test_redirects_that_are_followed(url, server):
    server.answers["/old"] = lambda handler: handler.answer(308, headers={"Location": FILE})
    assert find(server.url("/old")).sha256 == weights()[1]
    server.answers["/round"] = lambda handler: handler.answer(302, headers={"Location": "/round"})
    assert "cannot be fetched: the server answers 302" in refused(server.url("/round"))
    server.answers["/nowhere"] = lambda handler: handler.answer(302)
    assert "without an address" in refused(server.url("/nowhere"))


def test_many_at_once_fetch_one_file(url, server):
    def answer(handler):
        threading.Event().wait(0.05)
        handler.answer(200, weights()[0])

    server.answers[FILE] = answer
    digest, found = weights()[1], []
    # The processes of several runs hold the lock against each other as these threads do.
    threads = [threading.Thread(target=lambda: found.append(find(url, pin=digest))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [f.sha256 for f in found] == [digest] * 8
    assert len(server.asked) == 1


def test_what_a_killed_download_left_is_removed(url):
    path = find(url).path
    stale = path.parents[1] / f".model.safetensors.{'0' * 8}-1-{'0' * 8}.part.safetensors"
    child = os.fork()
    if not child:
        from transferpipe.files.publishing.atomic import temporary_beside

        temporary_beside(path.parents[1] / path.name).write_bytes(b"half")
        stale.write_bytes(b"another machine's")
        os._exit(0)
    os.waitpid(child, 0)
    assert len(list(path.parents[1].glob(".*.part*"))) == 2
    path.unlink()
    assert find(url).path == path
    assert list(path.parents[1].glob(".*.part*")) == [stale]


def test_a_cache_that_cannot_be_written(url, monkeypatch, tmp_path):
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    with pytest.raises(FileError) as caught:
        find(url)
    assert "the cache cannot be written" in str(caught.value)
    assert "set XDG_CACHE_HOME" in str(caught.value)


def test_a_relative_cache_folder_is_ignored_as_the_specification_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "transferpipe" / "remote"


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"url": 1, "sha256": "../../x", "mark": {}}', "{" * 5000])
def test_a_damaged_note_of_the_last_download(url, cache, note):
    path = find(url).path
    (path.parents[1] / "latest.json").write_text(note)
    cache()
    assert find(url).path == path


def test_names_with_odd_characters_stay_inside_the_cache(server):
    for name in ("/..%2F..%2Fx.npz", "/a%00b", "/.hidden", "/", "/x?v=1"):
        path = kept_copy(server.url(name), "0" * 64)
        assert path.resolve().is_relative_to(cache_folder())
        assert path.parent.name == "0" * 64


def test_progress_is_shown_by_who_asks_for_it(url):
    from contextlib import nullcontext

    told = []
    token = SHOWN.set(lambda: nullcontext(lambda *step: told.append(step)))
    try:
        find(url)
    finally:
        SHOWN.reset(token)
    size = len(weights()[0])
    assert told == [("fetch model.safetensors", size, size)]


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("begins", "goes_on", "says"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, "bytes arrived, of which 0 are the file's"),
        (CHUNKED + b"4\r\nPK..\r\n0\r\n", b"a: b\r\n" * 1000, "bytes arrived, of which "),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x", "bytes arrived in 0 seconds"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x", "bytes arrived in 0 seconds"),
    ],
)
def test_an_answer_that_never_ends_or_never_gets_on(begins, goes_on, says, monkeypatch):
    monkeypatch.setattr(answer, "_MOST_BESIDE", 1 << 20)
    if "seconds" in says:
        monkeypatch.setattr(answer, "SECONDS", 0.2)

    def serve():
        connection, _ = listening.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(1 << 16)
            connection.sendall(begins)
            while not done.wait(0.05 if len(goes_on) == 1 else 0):
                connection.sendall(goes_on)

    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=serve)
        server.start()
        try:
            assert says in refused(f"http://127.0.0.1:{listening.getsockname()[1]}/m.npz")
        finally:
            done.set()
            server.join()
    assert nothing_is_kept()
