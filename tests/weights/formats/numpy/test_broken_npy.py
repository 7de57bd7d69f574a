"""Arrays and folders of arrays made to mislead."""

import numpy as np
import pytest

from transferpipe.errors import FileError, UnsafeError
from transferpipe.weights.formats import open_source


def array(path, descr="'<f4'", shape="(2,)", values=bytes(8), **more):
    order = more.get("order", "False")
    text = more.get("text", f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}").encode() + b"\n"
    path.write_bytes(b"\x93NUMPY" + more.get("version", b"\1\0") + len(text).to_bytes(2, "little") + text + values)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"values": bytes(7)}, r"holds 7 bytes, but shape \(2,\) of float32 needs 8"),
        ({"values": bytes(9)}, "holds 9 bytes"),
        ({"shape": "(1 << 60,)"}, "is not a readable npy array"),
        ({"shape": "(1000000000000, 1000000000000)"}, "needs 4,000,000,000,000,000,000,000,000"),
        ({"shape": "(-2,)"}, "impossible shape"),
        ({"shape": "(True, 2)"}, "impossible shape"),
        ({"shape": "[2]"}, "is not a readable npy array"),
        ({"descr": "'U2'"}, "holds <U2, not numbers"),
        ({"descr": "'M8[s]'", "shape": "(1,)"}, "not numbers"),
        ({"descr": "[('a', '<f4'), ('b', '<f4')]", "shape": "(1,)"}, "not numbers"),
        ({"descr": "'f4', 2"}, "is not a readable npy array"),
        ({"order": "3"}, "is not a readable npy array"),
        ({"version": b"\3\0"}, "is not a readable npy array"),
        ({"version": b"\x09\0"}, "is not a readable npy array"),
        ({"text": "__import__('os').system('touch /tmp/owned')"}, "is not a readable npy array"),
        ({"text": "(" * 9000}, "is not a readable npy array"),
        ({"text": "{'descr': '<f4'}"}, "is not a readable npy array"),
        ({"text": ""}, "is not a readable npy array"),
    ],
)
def test_headers_that_do_not_describe_the_values(tmp_path, options, message, inside):
    path = tmp_path / "a.npy"
    array(path, **options)
    with pytest.raises(FileError, match=rf"a.npy: {message}|a.npy: .*{message}"):
        open_source(tmp_path if inside else path)


def test_objects_without_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}, 1], object))
    with pytest.raises(FileError, match=r"a.npy: is a Python pickle with no arrays in it"):
        open_source(tmp_path / "a.npy")


def test_links_to_folders(tmp_path):
    np.save(tmp_path / "own.npy", [1.0])
    (tmp_path / "again").symlink_to(".")
    with pytest.raises(UnsafeError, match="again: is a link to a folder"):
        open_source(tmp_path)


def test_header_that_python_2_wrote(tmp_path):
    array(tmp_path / "a.npy", text="{'descr': '<f4', 'fortran_order': False, 'shape': (2L,), }")
    assert open_source(tmp_path).catalog["a"].shape == (2,)


def test_links_to_nothing(tmp_path):
    (tmp_path / "a.npy").symlink_to("gone.npy")
    with pytest.raises(FileError, match="there is no such file"):
        open_source(tmp_path)


def test_folder_in_the_place_of_an_array(tmp_path):
    (tmp_path / "a.npy").mkdir()
    with pytest.raises(FileError, match=r"holds no \.npy files"):
        open_source(tmp_path, "npy_folder")


def test_folders_without_end(tmp_path):
    inner = tmp_path.joinpath(*"d" * 105)
    inner.mkdir(parents=True)
    np.save(inner / "a.npy", [1.0])
    with pytest.raises(FileError, match="lies more than 100 folders deep"):
        open_source(tmp_path)


def test_file_given_as_a_folder(tmp_path):
    np.save(tmp_path / "a.npy", [1.0])
    with pytest.raises(FileError, match="is not a folder -> name the folder"):
        open_source(tmp_path / "a.npy", "npy_folder")


def test_names_that_are_no_text(tmp_path):
    np.save(tmp_path / "ok.npy", [1.0])
    (tmp_path / "ok.npy").rename(tmp_path / "a\udcff.npy")
    with pytest.raises(FileError, match="name is not UTF-8"):
        open_source(tmp_path)
