"""Indices made to mislead: of safetensors and of Keras's sharded weights."""

import json
import time

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from transferpipe.errors import FileError, UnsafeError
from transferpipe.weights.formats import open_source


def tensors(path, *keys):
    save_file({key: np.ones(2, "f4") for key in keys}, path)


def groups(path, *keys):
    with h5py.File(path, "w") as file:
        for key in keys:
            file[key.lstrip("/")] = np.ones(2, "f4")


class Safetensors:
    name, shards, write = "x.safetensors.index.json", ("1.safetensors", "2.safetensors"), staticmethod(tensors)
    keys, inside = ("a", "b"), ("a", "b")


class Keras:
    name, shards, write = "x.weights.json", ("x_0.weights.h5", "x_1.weights.h5"), staticmethod(groups)
    keys, inside = ("/a/vars", "/b/vars"), ("/a/vars/0", "/b/vars/0")


@pytest.fixture(params=[Safetensors, Keras])
def kind(request, tmp_path):
    for shard, key in zip(request.param.shards, request.param.inside, strict=True):
        request.param.write(tmp_path / shard, key)
    return request.param


def index(kind, folder, first, second=None, **more):
    path = folder / kind.name
    places = dict(zip(kind.keys, (first, second or kind.shards[1]), strict=True))
    path.write_text(json.dumps({"metadata": {}, "weight_map": {**places, **more}}))
    return path


def test_the_sound_ones_open(kind, tmp_path):
    assert len(open_source(index(kind, tmp_path, kind.shards[0])).catalog) == 2


@pytest.mark.parametrize("name", ["../{}", "/{}", "sub/../../{}", "C:{}", "..\\{}"])
def test_shards_outside_of_the_folder(kind, tmp_path, name):
    folder = tmp_path / "inner"
    folder.mkdir()
    (folder / kind.shards[1]).write_bytes((tmp_path / kind.shards[1]).read_bytes())
    named = name.format(kind.shards[0] if name[0] != "/" else (tmp_path / kind.shards[0]).as_posix()[1:])
    with pytest.raises(UnsafeError, match=r"names the file .*, which is not in its folder"):
        open_source(index(kind, folder, named))


def test_links_to_folders_outside(kind, tmp_path):
    folder = tmp_path / "inner"
    folder.mkdir()
    (folder / kind.shards[1]).write_bytes((tmp_path / kind.shards[1]).read_bytes())
    (folder / "up").symlink_to(tmp_path)
    with pytest.raises(UnsafeError, match="which is a link to"):
        open_source(index(kind, folder, f"up/{kind.shards[0]}"))


def test_links_to_blobs_that_are_no_cache(kind, tmp_path):
    blobs, folder = tmp_path / "blobs", tmp_path / "models" / "0123"
    blobs.mkdir()
    folder.mkdir(parents=True)
    for shard in kind.shards:
        (tmp_path / shard).rename(blobs / shard)
        (folder / shard).symlink_to(blobs / shard)
    with pytest.raises(UnsafeError, match="which is a link to"):
        open_source(index(kind, folder, kind.shards[0]))


def test_links_inside_of_the_folder_are_followed(kind, tmp_path):
    link = f"link{kind.shards[0]}"
    (tmp_path / link).symlink_to(kind.shards[0])
    assert len(open_source(index(kind, tmp_path, link)).catalog) == 2


def test_every_missing_shard_is_reported(kind, tmp_path):
    for shard in kind.shards:
        (tmp_path / shard).unlink()
    with pytest.raises(FileError, match="there is no such file in") as caught:
        open_source(index(kind, tmp_path, kind.shards[0]))
    assert len(caught.value.problems) == 2


@pytest.mark.follows("check_number_named: save the model again,")
def test_very_many_shards_are_not_looked_for(kind, tmp_path):
    path = index(kind, tmp_path, kind.shards[0], **{f"/{n}/vars": f"{n}{kind.shards[0]}" for n in range(10_001)})
    with pytest.raises(UnsafeError, match=r"names 10,003 files; a model has at most 10,000"):
        open_source(path)
    assert len(open_source(index(kind, tmp_path, kind.shards[0])).catalog) == 2


@pytest.mark.parametrize("name", ["", None, 3, {}, "a\0b", "x" * 300])
def test_names_that_cannot_be(kind, tmp_path, name):
    path = index(kind, tmp_path, kind.shards[0])
    path.write_text(json.dumps({"weight_map": {kind.keys[0]: name, kind.keys[1]: kind.shards[1]}}))
    with pytest.raises(FileError):
        open_source(path, "weights_json" if kind is Keras else "safetensors_index")


def test_folder_in_the_place_of_a_shard(kind, tmp_path):
    (tmp_path / "sub").mkdir()
    with pytest.raises(FileError, match="no such file"):
        open_source(index(kind, tmp_path, "sub"), "weights_json" if kind is Keras else "safetensors_index")


def test_both_disagreements_are_reported(kind, tmp_path):
    kind.write(tmp_path / kind.shards[1], kind.inside[1].replace("b", "c"))
    with pytest.raises(FileError) as caught:
        open_source(index(kind, tmp_path, kind.shards[0]))
    told, held = kind.keys[1], kind.keys[1].replace("b", "c")
    assert [p.what for p in caught.value.problems] == [
        f"says that {kind.shards[1]!r} holds {told!r}, which it does not",
        f"does not say that {kind.shards[1]!r} holds {held!r}, which it does",
    ]


def test_a_value_in_two_shards(kind, tmp_path):
    kind.write(tmp_path / kind.shards[1], *kind.inside)
    path = index(kind, tmp_path, kind.shards[0])
    if kind is Keras:
        path.write_text(json.dumps({"weight_map": {kind.keys[0]: list(kind.shards), kind.keys[1]: kind.shards[1]}}))
    with pytest.raises(UnsafeError, match=r"is in '\w+.*' and in '\w+.*' -> save the model again"):
        open_source(path)


def test_keys_that_stand_twice(kind, tmp_path):
    path = tmp_path / kind.name
    entry = f"{json.dumps(kind.keys[0])}: {json.dumps(kind.shards[0])}"
    path.write_text(f'{{"weight_map": {{{entry}, {entry}}}}}')
    with pytest.raises(UnsafeError, match=r"the file has the key .* twice"):
        open_source(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"weight_map"', "cannot be read"),
        ('{"weight_map": []}', "is JSON that lists no weights"),
        ('{"weight_map": {"a": 3}}', "is JSON that lists no weights"),
        ('{"a": ' * 9999, "cannot be read"),
        ('{"a": ' + "9" * 9999 + "}", "cannot be read"),
        ("{}", "is JSON that lists no weights"),
        ('{"model_type": "bert"}', "is JSON that lists no weights -> name the file or folder of the weights"),
        (b'{"a": "\xff"}', "cannot be read"),
        (b"{" + b" " * (1 << 25), "too much for a file that only describes others"),
    ],
)
def test_text_that_lists_nothing(tmp_path, text, message):
    path = tmp_path / "x.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(FileError, match=message):
        open_source(path)


def test_a_hundred_thousand_keys_that_are_not_there(tmp_path):
    tensors(tmp_path / "1.safetensors", "a")
    path = tmp_path / "x.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {f"k{k}": "1.safetensors" for k in range(100_000)}}))
    start = time.perf_counter()
    with pytest.raises(FileError, match=r"'k0', 'k1', .* and 99,990 more") as caught:
        open_source(path)
    assert time.perf_counter() - start < 2
    assert len(str(caught.value)) < 1000
