"""The private cache: what was kept comes back, or nothing does; nobody else can put anything there; it stays small."""

import os

import pytest

from transferpipe.files.private_cache import PrivateCache


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.delenv("TRANSFERPIPE_NO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return PrivateCache("things", 4, 4000)


def entries(tmp_path):
    return sorted((tmp_path / "transferpipe" / "things").iterdir())


def test_what_is_kept_comes_back_under_its_key_alone(cache):
    cache.keep("one", b"1")
    cache.keep("two", b"2")
    cache.keep("one", b"3")
    assert [cache.read(key) for key in ("one", "two", "three")] == [b"3", b"2", None]


def test_only_its_owner_can_look_into_it(cache, tmp_path):
    cache.keep("one", b"1")
    folder = tmp_path / "transferpipe" / "things"
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o770)
    assert cache.read("one") is None
    cache.keep("two", b"2")
    assert len(entries(tmp_path)) == 1
    folder.chmod(0o700)
    assert cache.read("one") == b"1"


def test_a_link_or_the_folder_of_somebody_else_is_not_used(cache, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "transferpipe").mkdir()
    (tmp_path / "transferpipe" / "things").symlink_to(tmp_path / "elsewhere")
    cache.keep("one", b"1")
    assert cache.read("one") is None
    assert not any((tmp_path / "elsewhere").iterdir())
    (tmp_path / "transferpipe" / "things").unlink()
    cache.keep("one", b"1")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert cache.read("one") is None


@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: d + b"1", lambda d: d[:-1] + b"2", lambda _: b""])
def test_a_damaged_entry_is_as_if_there_were_none(cache, tmp_path, damage):
    cache.keep("one", b"11")
    (path,) = entries(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert cache.read("one") is None
    cache.keep("one", b"11")
    assert cache.read("one") == b"11"


def test_what_was_used_least_recently_goes_and_what_is_too_large_is_not_kept(cache, tmp_path):
    for k in range(4):
        cache.keep(str(k), b"x" * 500)
        os.utime(entries(tmp_path)[0].parent / _newest(tmp_path), (k, k))
    assert cache.read("0") is not None, "it is the last used from here on"
    cache.keep("4", b"x")
    assert cache.read("0") is not None
    assert cache.read("1") is None
    cache.keep("large", b"x" * 1001)
    assert cache.read("large") is None
    assert len(entries(tmp_path)) <= 4


def _newest(tmp_path):
    return max(entries(tmp_path), key=lambda path: path.stat().st_mtime_ns).name


@pytest.mark.parametrize("value", ["1", "yes"])
def test_one_variable_switches_it_off(cache, tmp_path, monkeypatch, value):
    cache.keep("one", b"1")
    monkeypatch.setenv("TRANSFERPIPE_NO_CACHE", value)
    assert cache.read("one") is None
    cache.keep("two", b"2")
    assert len(entries(tmp_path)) == 1


def test_a_home_that_cannot_be_written_is_no_reason_to_fail(cache, tmp_path):
    (tmp_path / "transferpipe").write_text("a file where the folder would be")
    cache.keep("one", b"1")
    assert cache.read("one") is None
