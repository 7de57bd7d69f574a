"""Lists of labels and tokens in the files in which people have them."""

import hashlib
import json
import os

import pytest

from transferpipe.errors import FileError, TransferError, UnsafeError, VerificationError
from transferpipe.fetch.name_list import NameFile

follows = pytest.mark.follows


@pytest.fixture
def names_in(tmp_path):
    """Return a function that writes a file and returns the names that are read from it."""

    def names(content, name="list.txt"):
        path = tmp_path / name
        data = content if isinstance(content, bytes | str) else json.dumps(content)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return NameFile(str(path)).names()

    return names


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("cat\nice bear\nowl\n", "labels.txt"),
        ("cat\r\nice bear\r\nowl", "labels.txt"),
        (b"\xef\xbb\xbfcat\nice bear\nowl\n\n", "labels.txt"),
        (["cat", "ice bear", "owl"], "labels.json"),
        ({"owl": 2, "cat": 0, "ice bear": 1}, "vocab.json"),
        ({"2": "owl", "0": "cat", "1": "ice bear"}, "id2label.json"),
        ({"model_type": "vit", "id2label": {"0": "cat", "1": "ice bear", "2": "owl"}}, "config.json"),
        ({"model": {"type": "BPE", "vocab": {"ice bear": 1, "cat": 0}}, "added_tokens": [{"id": 2, "content": "owl"}]}, "tokenizer.json"),
        ({"model": {"type": "Unigram", "vocab": [["cat", -1.5], ["ice bear", -2], ["owl", -3]]}, "added_tokens": [{"id": 0, "content": "cat"}]}, "tokenizer.json"),
    ],
)  # fmt: skip
def test_names_are_read_in_their_order(names_in, content, name):
    assert names_in(content, name) == ("cat", "ice bear", "owl")


def test_a_token_may_hold_any_character_but_the_end_of_a_line(names_in):
    assert names_in("\u2028\n##a\n [x]\n") == ("\u2028", "##a", " [x]")


FORMS = "give a text file"


@pytest.mark.parametrize(("content", "name", "said"), [
    pytest.param("", "a.txt", "lists no names", marks=follows("_check_names: give a text file")),
    pytest.param([], "a.json", "lists no names", marks=follows("_check_names: give a text file")),
    pytest.param(b"\xff\xfe", "a.txt", "is not UTF-8 text", marks=follows("_read: give a text file")),
    pytest.param("{", "a.json", "is not JSON", marks=follows("_names_of_json: give a text file")),
    pytest.param("3", "a.json", "holds a int, not names", marks=follows("_names_of_json: give a text file #2")),
    pytest.param(["a", 3], "a.json", "has int 3 at place 1", marks=follows("_texts: give a text file")),
    pytest.param({"a": "b"}, "a.json", "neither of names to places nor of places to names", marks=follows("_names_of_places: give a text file")),
    pytest.param({"model": {"vocab": 3}}, "a.json", "a tokenizer without a vocabulary", marks=follows("_names_of_tokenizer: give a text file")),
])  # fmt: skip
def test_what_is_no_list_is_refused_with_what_is(names_in, content, name, said):
    with pytest.raises(FileError, match=said) as caught:
        names_in(content, name)
    (problem,) = caught.value.problems
    assert problem.fix.startswith(FORMS)
    assert names_in("cat\ndog\n") == ("cat", "dog")
    assert names_in(["cat", "dog"], "b.json") == ("cat", "dog")
    assert names_in({"model": {"vocab": {"cat": 0, "dog": 1}}}, "tokenizer.json") == ("cat", "dog")


@pytest.mark.parametrize(("content", "said", "right"), [
    pytest.param(["a", "b", "a"], "has the name 'a' twice, at places 0 and 2", ["a", "b", "c"], marks=follows("_check_names: give every place a")),
    pytest.param(["a", "", "c"], r"has an empty name at place 1", ["a", "c"], marks=follows("_check_names: name every place, or")),
    pytest.param({"a": 0, "b": 0}, "gives place 0 to 'a' and to 'b'", {"a": 0, "b": 1}, marks=follows("_in_order: give every name a")),
    pytest.param({"a": 0, "b": 2}, "has 2 names, but none at place 1", {"a": 0, "b": 1}, marks=follows("_in_order: number the places from")),
])  # fmt: skip
def test_names_that_are_unclear_are_refused_with_what_to_change(names_in, content, said, right):
    with pytest.raises(FileError, match=said):
        names_in(content, "a.json")
    assert len(names_in(right, "a.json")) == len(right)


def test_a_name_that_stands_twice_is_refused_in_every_form(names_in):
    with pytest.raises(UnsafeError, match="has the key 'a' twice"):
        names_in('{"a": 0, "a": 1}', "vocab.json")
    with pytest.raises(FileError, match="has the name 'a' twice"):
        names_in({"model": {"vocab": [["a", 0], ["a", 1]]}}, "tokenizer.json")
    with pytest.raises(FileError, match="has the name 'a' twice"):
        names_in("a\nb\na\n")


@follows("_check: give a text file", "_check: give a text file #2")
def test_files_that_are_missing_folders_or_too_large_are_refused(tmp_path, monkeypatch):
    from transferpipe.fetch import name_list

    with pytest.raises(TransferError, match=r"none\.txt"):
        NameFile(str(tmp_path / "none.txt")).names()
    with pytest.raises(FileError, match="is a folder, not a list of names -> give a text file with one name a line"):
        NameFile(str(tmp_path)).names()
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(FileError, match="is not an ordinary file -> give a text file with one name a line"):
        NameFile(str(tmp_path / "pipe.txt")).names()
    (tmp_path / "large.txt").write_text("a\nb\nc\n")
    monkeypatch.setattr(name_list, "_MOST_BYTES", 4)
    with pytest.raises(FileError, match="has 6 bytes; a list of names has at most 4 -> give a text file with one name"):
        NameFile(str(tmp_path / "large.txt")).names()
    (tmp_path / "small.txt").write_text("a\nb")
    assert NameFile(str(tmp_path / "small.txt")).names() == ("a", "b")


def test_a_pinned_list_is_the_one_that_was_read(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("a\nb\n")
    pinned = NameFile(str(path)).pinned()
    assert pinned.sha256 == hashlib.sha256(b"a\nb\n").hexdigest()
    path.write_text("b\na\n")
    assert pinned.names() == ("a", "b")  # what was planned, though the file has changed since
    assert NameFile(str(path)).names() == ("b", "a")
    with pytest.raises(VerificationError, match="the recipe pins"):
        NameFile(str(path), "0" * 64).names()
