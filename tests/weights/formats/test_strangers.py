"""Files of other kinds are named, and what is advised about them works."""

import bz2
import gzip
import io
import lzma
import struct
import zipfile

import numpy as np
import pytest
from protobuf_messages import field

from transferpipe.errors import FileError
from transferpipe.weights.formats import open_source


def npz():
    file = io.BytesIO()
    np.savez(file, a=np.ones(3))
    return file.getvalue()


def in_zip(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), content)
    return file.getvalue()


COREML = field(1, 5) + field(2, field(1, b"x")) + field(502, field(1, b"mil"))
CAFFE = field(1, b"AlexNet") + field(100, field(1, b"conv1")) + field(100, field(1, b"conv2"))
PADDLE = bytes(16) + struct.pack("<i", 6) + b"\x08\x05\x10\x03\x10\x04"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"x", mtime=0), "is packed with gzip, which is not read -> unpack it"),
        (bz2.compress(b"x"), "is packed with bzip2"),
        (lzma.compress(b"x"), "is packed with xz"),
        (b"\x28\xb5\x2f\xfd" + bytes(9), "is packed with zstd"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(9), "is a 7-Zip archive"),
        (b"Rar!\x1a\x07\x01\x00" + bytes(9), "is a RAR archive"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "is a PNG image"),
        (b"%PDF-1.7\n", "is a PDF document"),
        (b"PAR1" + bytes(9), "is a Parquet table"),
        (b"the" + b" 0.418 -0.24968 1.2e-05" * 17 + b"\nof 1", "holds the vectors of words, as GloVe writes them"),
        (b'{"class_name": "Model", "keras_version": "1.2.2", "config": {', "is the architecture of a Keras model, without"),
        (b'{"module": "keras", "class_name": "Sequential", "config": {', "is the architecture of a Keras model, without"),
        (b"backend: tensorflow\nclass_name: Sequential\nconfig:\n", "is the architecture of a Keras model as YAML"),
        (b"ARROW1\0\0", "is an Arrow table"),
        (b"\xff\xff\xff\xff\x78\0\0\0\x10\0\0\0\0\0\x0a\0", "is a stream of Arrow tables"),
        (b"SQLite format 3\0", "is an SQLite database"),
        (b"MATLAB 5.0 MAT-file, Platform: X", "is a MATLAB file, which is not read -> save the arrays in it with numpy.savez"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "is a pointer of Git LFS, not the file itself"),
        (b"\n<!DOCTYPE html><html>", "is a web page, not the file that it tells of.* -> download the file itself"),
        (b'<?xml version="1.0"?>\n<net name="x" version="11">\n<layers>', "is the network of an OpenVINO model"),
        (b'<?xml version="1.0"?>\n<PMML>', "is XML"),
        (b"ptrt" + bytes(20), "is an engine of TensorRT.* -> it holds what a runtime compiled"),
        (b"\x10\0\0\0ET12" + bytes(20), "is a program of ExecuTorch"),
        (b"7767517\n75 83\n", "is the network of an ncnn model"),
        (struct.pack("<II", 2, 2) + bytes(56) + b"\xef\xbe\xad\xde", "holds the weights of a Core ML package"),
        (COREML, "is a model of Core ML, which is not read -> name the model that it was converted from"),
        (CAFFE, "is a model of Caffe"),
        (PADDLE, "holds the parameters of a PaddlePaddle model"),
        (struct.pack("<3i", 0, 2, 5) + bytes(16), "holds the weights of Darknet"),
        (struct.pack("<QQ", 0x112, 0), "is a file of MXNet's arrays"),
        (struct.pack("<I", 0x67676A74) + bytes(9), "is a GGML file, which came before GGUF"),
        (struct.pack("<iii", 4, 1, 3) + b"V 1", "is a file of Torch 7"),
        (struct.pack("<Ii", 0x67676C61, 1) + bytes(9), "is an adapter in GGLA"),
        (b"RKNN\0\0\0\0\6" + bytes(9), "is a model of RKNN"),
        (struct.pack("<I", 0x01306B47) + bytes(9), "holds the weights of an ncnn model"),
        (b"ML\xefR" + bytes(9), "is a program of MLIR"),
        (b"MZqFpD='\n" + bytes(9), "is a llamafile.* -> unpack the .gguf in it"),
        (b"CBM1" + bytes(9), "is a model of CatBoost"),
        (b"tree\nversion=v3\n", "is a model of LightGBM"),
        (b'{"learner":{"attributes":{}},"version":[2,0,0]}', "is a model of XGBoost"),
        (b"{L" + struct.pack(">q", 7) + b"learner{L" + struct.pack(">q", 10) + b"attributes{}}}", "is a model of XGBoost"),
        (b'name: "LeNet"\nlayer {\n  name: "data"\n}\n', "is the network of a Caffe model, without its weights"),
        (b"\0B<TransitionModel> ", "is a file of Kaldi"),
        (struct.pack("<IH", 6, 16) + b"TransformerSpec\0", "is a model of CTranslate2"),
        (b"2 3\nking 0.1 0.2 0.3\n", "holds the vectors of words"),
        (b"\xef\xbb\xbf<!DOCTYPE html><html>", "is a web page"),
        (in_zip(m__x_dot_safetensors=b"1", readme="x"), r"is a zip archive with m/x\.safetensors in it.* -> unpack it"),
        (in_zip(a__Manifest_dot_json="{}", a__Data__x_dot_mlmodel="x"), "is a package of Core ML in a zip archive"),
    ],
)  # fmt: skip
def test_a_stranger_is_named(tmp_path, content, message):
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(FileError, match=f"model.bin: {message}"):
        open_source(tmp_path / "model.bin")


def test_weights_without_a_signature_are_known_by_their_network(tmp_path):
    (tmp_path / "model.bin").write_bytes(bytes(range(200, 250)))
    openvino = b'<net name="x" version="11">\n<layers>'
    for ending, network, name in ((".xml", openvino, "OpenVINO"), (".param", b"7767517\n", "ncnn")):
        (tmp_path / f"model{ending}").write_bytes(network)
        with pytest.raises(FileError, match=f"holds the weights of an {name} model.*model{ending}.* -> name the model"):
            open_source(tmp_path / "model.bin")
        (tmp_path / f"model{ending}").unlink()
    with pytest.raises(FileError, match="is of no known format"):
        open_source(tmp_path / "model.bin")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["Manifest.json", "Data"], "is a package of Core ML"),
        ([".zgroup", ".zattrs", "w"], "is a Zarr store, which is not read -> save the arrays in it with numpy.savez"),
        (["zarr.json", "w"], "is a Zarr store"),
        (["coremldata.bin", "weights"], "is a compiled model of Core ML"),
        (["x.pdmodel", "x.pdiparams"], "is a model of PaddlePaddle"),
    ],
)
def test_a_folder_of_strangers_is_named(tmp_path, names, message):
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(FileError, match=message):
        open_source(tmp_path)


def test_what_was_packed_is_read_once_it_is_unpacked(tmp_path):
    (tmp_path / "a.npz.gz").write_bytes(gzip.compress(npz()))
    with pytest.raises(FileError, match="unpack it, and name the file or folder inside of it"):
        open_source(tmp_path / "a.npz.gz")
    (tmp_path / "a.npz").write_bytes(gzip.decompress((tmp_path / "a.npz.gz").read_bytes()))
    assert "a" in open_source(tmp_path / "a.npz").catalog


def test_a_checkpoint_that_is_damaged_is_not_taken_for_a_stranger(tmp_path):
    (tmp_path / "a.npz").write_bytes(npz()[:-30])
    with pytest.raises(FileError, match=r"cannot be read|damaged"):
        open_source(tmp_path / "a.npz")
