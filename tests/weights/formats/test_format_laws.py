"""Our formats under the laws that hold for every format, their files written by hand or by other libraries."""

import gzip
import json
import lzma
import pickle

import h5py
import numpy as np
import pytest
from graph_defs import graph_def
from hand_made import config_of, layer, write_archive, write_weights
from legacy_files import layer as legacy_layer
from legacy_files import model as legacy_model
from legacy_files import write as write_legacy_h5
from other_files import Chunked, gguf, leaves, packed
from protobuf_messages import field, onnx_model, raw, sparse, tensor
from tf_bundles import Checkpoint
from tfjs_models import weight, write_model
from tflite_models import write_tflite
from torch_files import exported_of, plain, write_distributed, write_exported, write_legacy, write_zip

from transferpipe.testing import FormatLaws
from transferpipe.weights.formats import FORMATS

A, B = np.arange(9, dtype="float64"), np.arange(5, dtype="int64").reshape(5, 1)
KERNEL, BIAS = np.arange(6, dtype="float32").reshape(2, 3), np.array([7, 8, 9], "float32")


class TestSafetensors(FormatLaws):
    name = "safetensors"

    def write(self, folder):
        safetensors = pytest.importorskip("safetensors.numpy")
        safetensors.save_file({"a/x": A, "b": B}, folder / "model.bin")
        return folder / "model.bin", {"a/x": A, "b": B}


class TestSafetensorsIndex(FormatLaws):
    name = "safetensors_index"

    def write(self, folder):
        safetensors = pytest.importorskip("safetensors.numpy")
        safetensors.save_file({"a": A}, folder / "1.safetensors")
        safetensors.save_file({"b": B}, folder / "2.safetensors")
        path = folder / "x.safetensors.index.json"
        path.write_text(json.dumps({"metadata": {}, "weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}))
        return path, {"a": A, "b": B}


class TestNpz(FormatLaws):
    name = "npz"
    checks_values = True

    def write(self, folder):
        with (folder / "model.bin").open("wb") as file:
            np.savez(file, a=A, b=B)
        return folder / "model.bin", {"a": A, "b": B}


class TestCompressedNpz(TestNpz):
    def write(self, folder):
        with (folder / "model.bin").open("wb") as file:
            np.savez_compressed(file, a=A, b=B)
        return folder / "model.bin", {"a": A, "b": B}


class TestNpy(FormatLaws):
    name = "npy"

    def write(self, folder):
        np.save(folder / "a.npy", KERNEL)
        return folder / "a.npy", {"a": KERNEL}


class TestNpyFolder(FormatLaws):
    name = "npy_folder"

    def write(self, folder):
        (folder / "a").mkdir()
        np.save(folder / "a" / "kernel.npy", KERNEL)
        np.save(folder / "a" / "bias.npy", BIAS)
        return folder, {"a/kernel": KERNEL, "a/bias": BIAS}


class TestLegacyH5(FormatLaws):
    name = "h5"

    def write(self, folder):
        path, groups = folder / "model.bin", {f"layer{k}": [f"layer{k}/kernel"] for k in range(3)}
        write_legacy_h5(path, groups, legacy_model("root", legacy_layer("Dense", "layer0")))
        with h5py.File(path) as file:
            inside = file.get("model_weights", file)
            values = {f"layer{k}/kernel": inside[f"layer{k}"][f"layer{k}/kernel"][()] for k in range(3)}
        return path, values


class TestWeightsH5(FormatLaws):
    name = "weights_h5"

    def write(self, folder):
        write_weights(folder / "x.weights.h5", [layer("a", "Dense", [KERNEL, BIAS])])
        return folder / "x.weights.h5", {"a/kernel": KERNEL, "a/bias": BIAS}


class TestKerasArchive(FormatLaws):
    name = "keras"

    def write(self, folder):
        write_archive(folder / "model.bin", [layer("a", "Dense", [KERNEL, BIAS], units=3)])
        return folder / "model.bin", {"a/kernel": KERNEL, "a/bias": BIAS}


class TestWeightsJson(FormatLaws):
    name = "weights_json"

    def write(self, folder):
        for number, (name, value) in enumerate({"a": KERNEL, "b": BIAS}.items()):
            with h5py.File(folder / f"x_{number}.weights.h5", "w") as file:
                file[f"{name}/vars/0"] = value
        places = {"/a/vars": "x_0.weights.h5", "/b/vars": "x_1.weights.h5"}
        (folder / "x.weights.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
        return folder / "x.weights.json", {"a/0": KERNEL, "b/0": BIAS}


class TestTfjs(FormatLaws):
    name = "tfjs"

    def write(self, folder):
        path = write_model(folder, [weight("a/kernel", KERNEL), weight("a/bias", BIAS)], shard=20)
        return path, {"a/kernel": KERNEL, "a/bias": BIAS}


class TestOnnx(FormatLaws):
    name = "onnx"

    def write(self, folder):
        (folder / "model.bin").write_bytes(onnx_model(raw("a.w", KERNEL), raw("a.b", BIAS)))
        return folder / "model.bin", {"a/w": KERNEL, "a/b": BIAS}


class TestGraphDef(FormatLaws):
    name = "graph_def"

    def write(self, folder):
        (folder / "model.bin").write_bytes(graph_def({"d/MatMul": KERNEL, "d/BiasAdd": BIAS}))
        return folder / "model.bin", {"d/kernel": KERNEL, "d/bias": BIAS}


class TestTfjsManifest(FormatLaws):
    name = "tfjs"

    def write(self, folder):
        write_model(folder, [weight("d/kernel", KERNEL), weight("d/bias", BIAS)], shard=16)
        groups = json.loads((folder / "model.json").read_text())["weightsManifest"]
        (folder / "model.json").unlink()
        (folder / "model-weights_manifest.json").write_text(json.dumps(groups))
        return folder / "model-weights_manifest.json", {"d/kernel": KERNEL, "d/bias": BIAS}


class TestTflite(FormatLaws):
    name = "tflite"

    def write(self, folder):
        tensors = {"x": None, "d/MatMul": KERNEL, "d/BiasAdd": (np.int8([1, 2, -3]), [0.5], [1], 0), "y": None}
        path = write_tflite(folder / "model.bin", tensors, [(9, [0, 1, 2], [3])])
        return path, {"d/kernel": KERNEL, "d/bias": np.float32([0, 0.5, -2])}


class TestTorch(FormatLaws):
    name = "torch"
    checks_values = True

    def write(self, folder):
        write_zip(folder / "model.bin", *plain({"a.w": KERNEL, "a.b": BIAS}))
        return folder / "model.bin", {"a/w": KERNEL, "a/b": BIAS}


class TestLegacyTorch(FormatLaws):
    name = "torch"

    def write(self, folder):
        write_legacy(folder / "model.bin", *plain({"a.w": KERNEL, "a.b": BIAS}))
        return folder / "model.bin", {"a/w": KERNEL, "a/b": BIAS}


class TestTorchIndex(FormatLaws):
    name = "torch_index"
    checks_values = True

    def write(self, folder):
        write_zip(folder / "1.bin", *plain({"a.w": KERNEL}))
        write_zip(folder / "2.bin", *plain({"a.b": BIAS}))
        path = folder / "x.bin.index.json"
        path.write_text(json.dumps({"metadata": {}, "weight_map": {"a.w": "1.bin", "a.b": "2.bin"}}))
        return path, {"a/w": KERNEL, "a/b": BIAS}


class TestOnnxBeside(FormatLaws):
    """Values in a file beside the graph."""

    name = "onnx"

    def write(self, folder):
        (folder / "w.bin").write_bytes(b"????" + KERNEL.tobytes())
        place = {"location": "w.bin", "offset": "4", "length": str(KERNEL.nbytes)}
        texts = b"".join(field(13, field(1, key) + field(2, value)) for key, value in place.items())
        (folder / "model.bin").write_bytes(
            onnx_model(raw("b", BIAS), tensor("w", KERNEL.shape, 1, texts, field(14, 1)))
        )
        return folder / "model.bin", {"w": KERNEL, "b": BIAS}


class TestTensorflowCheckpoint(FormatLaws):
    name = "tf_checkpoint"
    checks_values = True

    def write(self, folder):
        Checkpoint().add("a/w", KERNEL).add("a/b", BIAS).write(folder / "x")
        return folder / "x.index", {"a/w": KERNEL, "a/b": BIAS}


class TestPreset(FormatLaws):
    name = "preset"

    def write(self, folder):
        layers = [layer("a", "Dense", [KERNEL, BIAS], units=3)]
        write_weights(folder / "model.weights.h5", layers)
        (folder / "config.json").write_text(json.dumps(config_of(layers)))
        (folder / "metadata.json").write_text(json.dumps({"keras_version": "3.12.0"}))
        return folder, {"a/kernel": KERNEL, "a/bias": BIAS}


class TestFlax(FormatLaws):
    name = "flax"

    def write(self, folder):
        (folder / "model.bin").write_bytes(packed({"params": {"d": {"kernel": KERNEL, "bias": Chunked(BIAS, 2)}}}))
        return folder / "model.bin", {"params/d/kernel": KERNEL, "params/d/bias": BIAS}


class TestGguf(FormatLaws):
    name = "gguf"

    def write(self, folder):
        packed_ones = np.float16([0.5]).tobytes() + bytes([2] * 32)
        data = gguf(
            {"a.weight": KERNEL, "b.weight": ("q8_0", (1, 32), packed_ones)}, [("general.name", "x"), ("t", ["a", "b"])]
        )
        (folder / "model.bin").write_bytes(data)
        return folder / "model.bin", {"a/weight": KERNEL, "b/weight": np.ones((1, 32), "float32")}


class TestExported(FormatLaws):
    name = "exported"
    checks_values = True

    def write(self, folder):
        payloads, stored = exported_of({"a.w": KERNEL, "a.b": B})
        return write_exported(folder / "model.bin", payloads, stored), {"a/w": KERNEL, "a/b": B}


class TestDistributed(FormatLaws):
    name = "distributed"
    checks_values = True

    def write(self, folder):
        write_distributed(folder, {"a.w": A, "a.b": BIAS}, {"a.w": 3})
        return folder, {"a/w": A, "a/b": BIAS}


class TestSparseOnnx(FormatLaws):
    name = "onnx"

    def write(self, folder):
        kernel = KERNEL * (KERNEL > 2)
        graph = field(1, field(4, "Conv")) + field(2, "net") + field(5, raw("b", BIAS)) + field(15, sparse("w", kernel))
        (folder / "model.bin").write_bytes(field(1, 8) + field(7, graph))
        return folder / "model.bin", {"w": kernel, "b": BIAS}


class TestPickle(FormatLaws):
    name = "pickle"
    protocol = 4

    def write(self, folder):
        values = {"a/x": KERNEL, "a/y": np.arange(200.0), "b": BIAS.astype(">f4")}
        tree = {"a": {"x": values["a/x"], "y": values["a/y"]}, "b": values["b"]}
        (folder / "model.bin").write_bytes(self.packed(pickle.dumps(tree, self.protocol)))
        return folder / "model.bin", {**values, "b": BIAS}

    def packed(self, data):
        return data


class TestPickleInGzip(TestPickle):
    checks_values = True

    def packed(self, data):
        return gzip.compress(data, mtime=0)


class TestPickleInXz(TestPickleInGzip):
    def packed(self, data):
        return lzma.compress(data)


class TestPickleOfJoblib(FormatLaws):
    name = "pickle"

    def write(self, folder):
        joblib = pytest.importorskip("joblib")
        joblib.dump({"a": {"x": KERNEL, "y": np.asfortranarray(A.reshape(3, 3))}, "b": [B]}, folder / "model.bin")
        return folder / "model.bin", {"a/x": KERNEL, "a/y": A.reshape(3, 3), "b/0": B}


class TestOldPickle(TestPickle):
    protocol = 0


class TestEquinox(FormatLaws):
    name = "equinox"

    def write(self, folder):
        (folder / "model.bin").write_bytes(leaves(KERNEL, BIAS, settings={"width": 3}))
        return folder / "model.bin", {"0": KERNEL, "1": BIAS}


class TestNpyOfObjects(FormatLaws):
    name = "npy"

    def write(self, folder):
        np.save(folder / "model.npy", {"conv1": [KERNEL, np.arange(200.0)]}, allow_pickle=True)
        return folder / "model.npy", {"conv1/0": KERNEL, "conv1/1": np.arange(200.0)}


def test_every_format_is_tried_that_can_be_written_by_hand():
    tried = {laws.name for laws in FormatLaws.__subclasses__() if laws.__module__ == __name__}
    assert tried == set(FORMATS) - {"saved_model", "orbax"}  # the work of their own libraries alone
