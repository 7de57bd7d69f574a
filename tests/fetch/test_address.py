"""Addresses that are refused before anything is asked of a server, and packages that are not installed."""

import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from transferpipe.errors import FileError, MissingPackageError, RecipeError, TransferError, UnsafeError
from transferpipe.fetch.address import check_address, check_redirect, is_private, scheme_of
from transferpipe.fetch.find import find


def refused(text, error, pin=None):
    with pytest.raises(error) as caught:
        find(text, "source.path", pin)
    return str(caught.value)


@pytest.mark.parametrize("text", ["a.h5", "/a/b.h5", "~/a.h5", "pkg://package/a.h5", "C:/a.h5", "live://x"])
def test_paths_that_are_no_addresses(text):
    assert scheme_of(text) is None


@pytest.mark.parametrize("text", ["ftp://x/a.h5", "file:///etc/passwd", "gcs://b/a.h5", "memory://a", "javascript://x"])
def test_schemes_that_are_not_read(text):
    assert "addresses cannot be read -> these can be read: https://" in refused(text, FileError)


@pytest.mark.parametrize("scheme", ["https", "http", "s3", "gs", "hf", "kaggle"])
@pytest.mark.parametrize("user", ["me:secret@", "secret@", ":secret@"])
def test_credentials_are_refused_and_not_repeated(scheme, user):
    text = refused(f"{scheme}://{user}localhost/a/b/c/d.h5", UnsafeError)
    assert "holds a user name or password" in text
    assert "secret" not in text


@pytest.mark.parametrize("key", ["X-Amz-Signature", "token", "sig", "ACCESS_TOKEN"])
def test_signed_addresses_are_refused_and_not_repeated(key):
    text = refused(f"https://example.org/a.h5?x=1&{key}=secret", UnsafeError)
    assert f"holds the credential {key!r}" in text
    assert "=secret" not in text


def test_plain_http_is_for_this_machine():
    for host in ("example.org", "localhost.example.org", "127.0.0.1.example.org", "10.0.0.1"):
        assert "plain http, which can be changed on the way -> write https://" in refused(
            f"HTTP://{host}/a.h5", UnsafeError
        )
    check_address("http://localhost:8000/a.h5", "")
    check_address("http://[::1]/a.h5", "")


@pytest.mark.parametrize(
    "text",
    ["https:///a.h5", "https://x:port/a.h5", "https://[x/a.h5", "s3://", "hf://", "s3://x", "gs://x/", "s3://x y/a.h5"],
)
def test_what_is_no_address(text):
    refused(text, FileError)


@pytest.mark.parametrize("name", ["../a.h5", "a/../../b.h5", "./a.h5", "a/.."])
@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_dots_in_the_name_of_an_object(scheme, name):
    assert "in an object's name" in refused(f"{scheme}://bucket/{name}", UnsafeError)
    check_address(f"{scheme}://my-bucket_1.v2/{name.replace('./', '.../')}.h5", "")


@pytest.mark.parametrize("name", ["model.safetensors.index.json", "model.weights.json", "model.json", "ckpt.index", ""])
def test_one_of_several_files_is_not_enough(name):
    assert "one file is fetched -> download the folder" in refused(f"https://example.org/a/{name}", FileError)
    assert "one file is fetched" in refused(f"s3://bucket/a/{name}", FileError)


@pytest.mark.parametrize(
    "host",
    [
        *(
            "127.1",
            "0x7f.1",
            "0177.0.0.1",
            "2130706433",
            "127.0.0.1.",
            "127.0.0%2e1",
            "\uff11\uff12\uff17.0.0.1",
            "a.\uff4cocal",
        ),
        *("::1", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "2002:c0a8:101::1", "fec0::1"),
        *("fd00::1", "fe80::1%eth0", "ff02::1", "224.0.0.1", "169.254.169.254", "100.64.0.1", "0", "::"),
    ],
)
def test_all_ways_to_write_a_private_address(host):
    assert is_private(host)


@pytest.mark.parametrize(
    "host",
    [
        "8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
        "::ffff:8.8.8.8",
        "2606:4700::1111",
        "example.org",
        "b\u00fccher.example",
    ],
)
def test_what_is_public(host):
    assert not is_private(host)


def test_redirects_never_lose_protection_or_reach_into_this_machine():
    for new in ("http://example.org/a", "https://localhost/a", "http://localhost/a", "file:///a"):
        with pytest.raises(UnsafeError):
            check_redirect("https://example.org/a", new, "")
    check_redirect("https://example.org/a", "https://cdn.example.org/b?token=1", "")


@pytest.mark.parametrize(
    ("text", "package", "extra"),
    [
        ("hf://a/b/c.h5", "huggingface_hub", "hub"),
        ("kaggle://a/b/c/d/1/e.h5", "kagglehub", "kaggle"),
        ("s3://a/b.h5", "s3fs", "cloud"),
        ("gs://a/b.h5", "gcsfs", "cloud"),
    ],
)
def test_a_package_that_is_not_installed(monkeypatch, text, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    said = refused(text, MissingPackageError)
    assert f"needs the package {package}" in said
    assert f"-> pip install 'transferpipe[{extra}]'" in said


@pytest.mark.parametrize("text", ["hf://a/b/../c.h5", "kaggle://a/b/c/d/../../x.h5", "hf://a/b/x\\..\\c.h5"])
def test_an_address_that_leaves_its_repository(text):
    assert "leads out of what it names" in refused(text, UnsafeError)


def test_addresses_of_hubs_that_name_too_little():
    assert "names no repository" in refused("hf://gpt2", FileError)
    assert "names no variation" in refused("kaggle://keras/bert/keras", FileError)


@pytest.mark.parametrize("text", ["hf://a/b", "hf://a/b/model.safetensors.index.json", "kaggle://a/b/c/d/2"])
def test_a_digest_for_a_folder(text):
    assert "sha256: pins one file, but " in refused(text, RecipeError, "0" * 64)


_ANY = st.text(st.characters(codec=None), max_size=12)


@given(st.sampled_from(["http", "https", "hf", "kaggle", "s3", "gs"]), _ANY)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_written_is_fetched_or_plainly_refused(monkeypatch, scheme, path):
    for package in ("huggingface_hub", "kagglehub", "s3fs", "gcsfs"):
        monkeypatch.setitem(sys.modules, package, None)
    refused(f"{scheme}://localhost:1/{path}", TransferError)


@given(st.sampled_from(["http", "https", "ftp"]), _ANY)
def test_whatever_is_written_as_a_host_is_accepted_or_plainly_refused(scheme, host):
    try:
        check_address(f"{scheme}://{host}", "source.path")
    except TransferError as error:
        assert error.problems[0].where == "source.path"
