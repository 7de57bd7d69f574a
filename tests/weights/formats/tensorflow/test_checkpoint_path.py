"""From what a user names to a checkpoint: a beginning of names, one of its files, a folder, a stale file `checkpoint`."""

import subprocess
import sys

import numpy as np
import pytest
import tf_bundles as tf

from transferpipe.errors import FileError
from transferpipe.recipe.locate import locate
from transferpipe.weights.formats import open_source


def write(prefix, value=1.0):
    return tf.Checkpoint().add("w", np.full(2, value, "float32")).write(prefix)


def first(path):
    return open_source(path).read("w")[0]


def state(folder, text):
    (folder / "checkpoint").write_text(text)


@pytest.mark.parametrize("name", ["ckpt-1", "ckpt-1.index", "ckpt-1.data-00000-of-00001", "checkpoint", ""])
def test_every_way_to_name_a_checkpoint(tmp_path, name):
    write(tmp_path / "ckpt-1")
    state(tmp_path, 'model_checkpoint_path: "ckpt-1"\n')
    source = open_source(tmp_path / name)
    assert (source.format, source.details["checkpoint"]) == ("tf_checkpoint", "ckpt-1")
    assert source.read("w")[0] == 1


def test_an_empty_beginning_of_names(tmp_path):
    write(tmp_path / "x")
    for end in (".index", ".data-00000-of-00001"):
        (tmp_path / f"x{end}").rename(tmp_path / end)
    for path in (tmp_path, tmp_path / ".index", tmp_path / ".data-00000-of-00001"):
        assert first(path) == 1
    state(tmp_path, 'model_checkpoint_path: "."\n')
    assert first(tmp_path) == 1


@pytest.mark.parametrize(
    "named", ["/home/somebody/long/gone/ckpt-2", "ckpt-2", "../other/ckpt-2", r"C:\\runs\\ckpt-2", "./ckpt-2"]
)
def test_a_moved_folder_uses_the_checkpoint_of_the_same_name_in_it(tmp_path, named):
    for i in (1, 2, 3):
        write(tmp_path / f"ckpt-{i}", i)
    text = f'model_checkpoint_path: "{named}"\nall_model_checkpoint_paths: "ckpt-3"\n'
    state(tmp_path, text)
    assert first(tmp_path) == 2


def test_a_name_with_escaped_bytes(tmp_path):
    write(tmp_path / 'é"1')
    state(tmp_path, 'model_checkpoint_path: "/a/\\303\\251\\"1"\n')
    assert first(tmp_path) == 1


def test_a_folder_with_one_checkpoint_and_no_file_that_names_it(tmp_path):
    write(tmp_path / "model.ckpt")
    assert first(tmp_path) == 1


def test_several_checkpoints_are_listed(tmp_path):
    for i in (1, 2):
        write(tmp_path / f"ckpt-{i}")
    with pytest.raises(FileError, match="'ckpt-1', 'ckpt-2'") as caught:
        open_source(tmp_path)
    assert f"name one: {tmp_path / 'ckpt-2'}" in str(caught.value)


def test_a_named_checkpoint_that_is_not_there(tmp_path):
    write(tmp_path / "ckpt-1")
    state(tmp_path, 'model_checkpoint_path: "/old/ckpt-7"\n')
    with pytest.raises(FileError, match="names the checkpoint 'ckpt-7', but the folder holds 'ckpt-1'"):
        open_source(tmp_path)


def test_a_beginning_of_names_that_is_not_there(tmp_path):
    write(tmp_path / "ckpt-1")
    with pytest.raises(FileError, match="there is no such file -> did you mean"):
        open_source(tmp_path / "ckpt-2")


def test_a_file_called_checkpoint_that_is_something_else(tmp_path):
    (tmp_path / "checkpoint").write_bytes(b"nothing")
    with pytest.raises(FileError, match="no known format"):
        open_source(tmp_path / "checkpoint")


def test_a_newer_checkpoint_in_the_folder_is_noticed(tmp_path):
    write(tmp_path / "ckpt-1")
    state(tmp_path, 'model_checkpoint_path: "ckpt-1"\n')
    source = open_source(tmp_path)
    assert tmp_path / "checkpoint" in source.files
    write(tmp_path / "ckpt-2")
    state(tmp_path, 'model_checkpoint_path: "ckpt-2"  # newer\n')
    with pytest.raises(FileError, match="changed"):
        source.read("w")


def test_a_shard_whose_bytes_look_like_something_else(tmp_path):
    value = np.frombuffer(b"PK\x03\x04\x80\x04\x95.", np.uint8)
    tf.Checkpoint().add("w", value).write(tmp_path / "x")
    assert open_source(tmp_path / "x.data-00000-of-00001").read("w").tobytes() == value.tobytes()


def test_a_checkpoint_inside_a_package(tmp_path, monkeypatch):
    (tmp_path / "a_package_with_weights").mkdir()
    write(tmp_path / "a_package_with_weights" / "ckpt")
    monkeypatch.syspath_prepend(tmp_path)
    assert first(locate("pkg://a_package_with_weights/ckpt")) == 1


def test_looking_into_a_checkpoint_imports_no_tensorflow(tmp_path):
    write(tmp_path / "ckpt")
    script = "import sys; from transferpipe.cli.main import main; print(main(['inspect', sys.argv[1], '--stats']));"
    script += "print(sorted({n.partition('.')[0] for n in sys.modules} & {'tensorflow', 'keras', 'google'}))"
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "ckpt"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["0", "[]"]
