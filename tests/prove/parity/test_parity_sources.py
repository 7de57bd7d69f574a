"""Originals that can be run: ONNX, SavedModels, legacy files, callables; torch by the three lines of the help topic."""

import re
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from twins import change, filled

import transferpipe as tp
from transferpipe.prove.parity.graphs.saved_model_run import SignatureRunner

TOPIC = Path(tp.__file__).parent / "show/topics/parity.md"
MAPPING = {"all": {"to": ".*"}}


def keras_net(padding="torch", epsilon=1e-5, fused=True):
    x = inputs = keras.Input((8, 8, 3), name="x")
    if padding == "torch":
        x = layers.ZeroPadding2D(1, name="pad")(x)
    conv = layers.Conv2D(
        4, 3, 2, "valid" if padding == "torch" else "same", name="c", activation="relu" if fused else None
    )
    x = layers.BatchNormalization(epsilon=epsilon, name="n")(conv(x))
    return keras.Model(inputs, layers.Dense(2, name="fc")(layers.GlobalAveragePooling2D(name="pool")(x)))


@pytest.fixture
def torch_net():
    """Return a trained-looking torch network; its convolution is strided with padding 1 on an even input."""
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.c = torch.nn.Conv2d(3, 4, 3, stride=2, padding=1)
            self.n = torch.nn.BatchNorm2d(4)
            self.fc = torch.nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(self.n(torch.relu(self.c(x))).mean((2, 3)))

    torch.manual_seed(0)
    net = Net()
    net.n.running_mean.normal_()
    net.n.running_var.uniform_(0.01, 0.5)
    return net


def lines_of_the_topic():
    """Return the three lines that the help topic gives for torch."""
    return re.search(r"```python\n(x = torch.*?)```", TOPIC.read_text(), re.S)[1]


def run_topic(net, folder):
    torch = sys.modules["torch"]
    lines = lines_of_the_topic().replace("224, 224", "8, 8")
    exec(lines, {"torch": torch, "numpy": np, "model": net})
    torch.save(net.state_dict(), folder / "net.pt")


@pytest.mark.parametrize(
    ("made", "cause"),
    [
        ({}, None),
        ({"padding": "same"}, "padding of c: with the same padding on both sides"),
        ({"epsilon": 1e-3}, "epsilon of n: with 1e-05"),
        ({"padding": "same", "epsilon": 1e-3}, "padding of c"),
    ],
)
def test_torch_by_the_lines_of_the_topic(torch_net, tmp_path, monkeypatch, made, cause):
    monkeypatch.chdir(tmp_path)
    run_topic(torch_net, tmp_path)
    check = {"parity": {"inputs": "x.npz", "expected": "y.npz"}}
    target = keras_net(**made)
    if cause is None:
        assert tp.transfer("net.pt", target, mapping=MAPPING, verify=check).verdict.function == "pass"
        return
    with pytest.raises(tp.VerificationError) as raised:
        tp.transfer("net.pt", target, mapping=MAPPING, verify=check)
    assert cause in raised.value.problems[0].fix
    assert ("epsilon" in raised.value.problems[0].fix) == ("epsilon" in made)


@pytest.fixture
def onnx_file(torch_net, tmp_path, monkeypatch):
    torch = sys.modules["torch"]
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)
    torch_net.eval()
    with pytest.warns(DeprecationWarning):
        torch.onnx.export(
            torch_net,
            (torch.zeros(1, 3, 8, 8),),
            "net.onnx",
            input_names=["image"],
            dynamic_axes={"image": {0: "n"}},
            dynamo=False,
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,
        )
    return "net.onnx"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_onnx_is_run_layer_by_layer_with_channels_first(onnx_file):
    right = keras_net()
    found = tp.transfer(onnx_file, right, mapping=MAPPING, verify={"parity": "source"}).parity
    assert (found.verdict, [e.name for e in found.entries]) == ("pass", ["c", "n", "fc"])
    with pytest.raises(tp.VerificationError, match="c is the first that differs") as raised:
        tp.transfer(onnx_file, keras_net("same"), mapping=MAPPING, verify={"parity": "source"})
    assert "padding of c" in raised.value.problems[0].fix


@pytest.mark.parametrize("samples", [1, 2, 3, "n"])
def test_an_onnx_model_of_a_fixed_number_of_samples_is_run_on_so_many_at_a_time(samples, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    weights = [random.normal(size=(4, 3)).astype("float32"), random.normal(size=3).astype("float32")]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Gemm", ["x", "fc.weight", "fc.bias"], ["y"])],
        "net",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [samples, 4])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [samples, 3])],
        [onnx.numpy_helper.from_array(w, name) for w, name in zip(weights, ["fc.weight", "fc.bias"], strict=True)],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, "net.onnx")
    dense = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="fc")])
    dense.set_weights(weights)

    assert tp.parity("net.onnx", dense).verdict == "pass"

    dense.set_weights([weights[0], weights[1] + 0.01])
    assert tp.parity("net.onnx", dense).verdict == "fail"


def test_onnx_without_its_runtime_names_the_package(onnx_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        tp.RecipeError, match=r"needs the package onnxruntime, which .* -> pip install 'transferpipe\[onnxruntime\]'"
    ):
        tp.transfer(onnx_file, keras_net(), mapping=MAPPING, verify={"parity": "source"})


def test_signature_of_a_saved_model(tmp_path):
    source, twin = filled(keras_net()), keras_net()
    source.export(tmp_path / "saved", verbose=False)
    twin.set_weights(source.get_weights())
    assert tp.parity(tmp_path / "saved", twin).verdict == "pass"
    change("c", lambda w: [w[0][::-1], w[1]])(twin)
    found = tp.parity(tmp_path / "saved", twin)
    assert (found.verdict, "c" in found.cause) == ("fail", True)


def test_a_saved_model_that_reaches_for_files_is_refused(tmp_path):
    import tensorflow as tf

    class Reader(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3))])
        def read(self, x):
            return x + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)

    module = Reader()
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"serving_default": module.read})
    with pytest.raises(tp.UnsafeError, match="ReadFile"):
        tp.parity(tmp_path / "saved", keras_net())


@pytest.mark.parametrize("op", ["SaveV2", "TextLineDataset"])
def test_a_saved_model_that_writes_or_reads_as_savers_do_is_refused(op, tmp_path):
    """Every SavedModel has such operations in what saves its variables, which nothing here runs."""
    import tensorflow as tf

    class Writer(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3))])
        def serve(self, x):
            if op == "SaveV2":
                tf.raw_ops.SaveV2(
                    prefix=str(tmp_path / "written"), tensor_names=["x"], shape_and_slices=[""], tensors=[x]
                )
            else:
                x += tf.cast(tf.data.TextLineDataset("/etc/hostname").cardinality(), tf.float32)
            return x

    module = Writer()
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"serving_default": module.serve})
    with pytest.raises(tp.UnsafeError, match=op):
        tp.parity(tmp_path / "saved", keras_net())
    assert not list(tmp_path.glob("written*"))


def _save_of_tensorflow_1(path, body):
    """Save a model of TensorFlow 1 whose `body` adds something to its output, and fills its tables on loading."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, (None, 3), "x")
        y = tf.matmul(x, v1.get_variable("w", (3, 2))) + body(tf)
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        builder = v1.saved_model.Builder(str(path))
        signature = v1.saved_model.predict_signature_def({"x": x}, {"y": y})
        builder.add_meta_graph_and_variables(
            session, ["serve"], {"serving_default": signature}, main_op=v1.tables_initializer(),
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
        )  # fmt: skip
        builder.save()


def _looked_up(tf, file, is_asset):
    lines, numbers = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
    table = tf.lookup.StaticHashTable(tf.lookup.TextFileInitializer(str(file), tf.string, lines, tf.int64, numbers), -1)
    if not is_asset:
        tf.compat.v1.get_collection_ref(tf.compat.v1.GraphKeys.ASSET_FILEPATHS).clear()
    return tf.cast(table.lookup(tf.constant(["b"])), tf.float32)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("is_asset", [True, False])
def test_a_table_is_filled_from_an_asset_and_from_no_other_file(is_asset, tmp_path):
    (tmp_path / "words.txt").write_text("a\nb\n")
    _save_of_tensorflow_1(tmp_path / "saved", lambda tf: _looked_up(tf, tmp_path / "words.txt", is_asset))
    (tmp_path / "words.txt").unlink()
    if is_asset:
        assert SignatureRunner(tmp_path / "saved").run([np.zeros((1, 3), "f4")]).outputs["y"].tolist() == [[1, 1]]
    else:
        with pytest.raises(tp.UnsafeError, match="InitializeTableFromTextFile"):
            SignatureRunner(tmp_path / "saved")


@pytest.mark.parametrize("way", ["asset", "in the function", "held"])
def test_so_is_one_of_an_object(way, tmp_path):
    import tensorflow as tf

    (tmp_path / "words.txt").write_text("a\nb\n")

    class Words(tf.Module):
        def __init__(self):
            super().__init__()
            lines, numbers = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
            filler = tf.lookup.TextFileInitializer(str(tmp_path / "words.txt"), tf.string, lines, tf.int64, numbers)
            self.table, self.name_of_file = tf.lookup.StaticHashTable(filler, -1), tf.constant("/etc/hostname")

        @tf.function(input_signature=[tf.TensorSpec((None, 3))])
        def serve(self, x):
            if way != "asset":
                file = tf.constant("/etc/hostname") if way == "in the function" else self.name_of_file
                tf.raw_ops.InitializeTableFromTextFileV2(
                    table_handle=self.table.resource_handle, filename=file, key_index=-2, value_index=-1
                )
            return {"y": x + tf.cast(self.table.lookup(tf.constant(["b"])), tf.float32)}

    module = Words()
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"serving_default": module.serve})
    if way == "asset":
        assert SignatureRunner(tmp_path / "saved").run([np.zeros((1, 3), "f4")]).outputs["y"].tolist() == [[1, 1, 1]]
    else:
        with pytest.raises(tp.UnsafeError, match="may reach beyond"):
            SignatureRunner(tmp_path / "saved")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_once_fed_a_training_may_stay_in_a_graph(tmp_path):
    def fed(tf):
        v1 = tf.compat.v1
        v1.WholeFileReader().read(v1.train.string_input_producer(["/etc/hostname"]))
        tf.io.read_file("/etc/hostname")
        return 0.0

    _save_of_tensorflow_1(tmp_path / "saved", fed)
    assert SignatureRunner(tmp_path / "saved").run([np.zeros((1, 3), "f4")]).outputs["y"].shape == (1, 2)


@pytest.mark.filterwarnings("ignore:.*HDF5.*")
def test_legacy_file_that_keras_loads(tmp_path):
    source, twin = filled(keras_net()), keras_net()
    source.save(tmp_path / "old.h5")
    twin.set_weights(source.get_weights())
    assert tp.parity(tmp_path / "old.h5", twin).verdict == "pass"


@pytest.mark.filterwarnings("ignore:.*lambda.*", "ignore::DeprecationWarning")
def test_code_in_a_configuration_is_not_run(tmp_path):
    model = keras.Sequential([keras.Input((3,)), layers.Lambda(lambda x: x + 1), layers.Dense(2, name="d")])
    model.save(tmp_path / "code.keras")
    with pytest.raises(tp.UnsafeError, match="is code: it is not loaded"):
        tp.parity(tmp_path / "code.keras", model)


def test_weights_alone_cannot_be_run(tmp_path):
    source = filled(keras_net())
    source.save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(tp.RecipeError, match=r"holds weights without a model.*expected: y\.npz"):
        tp.transfer(tmp_path / "a.weights.h5", keras_net(), mapping=MAPPING, verify={"parity": "source"})


def product(activation="sigmoid"):
    """Return a model of three layers that are one in the original."""
    x = keras.Input((8,))
    q, k, v = (layers.Dense(4, a, name=n)(x) for n, a in (("q", None), ("k", activation), ("v", None)))
    return keras.Model(x, layers.Dense(3, name="o")(layers.Add()([layers.Multiply()([q, k]), v])))


def fused(kind):
    """Return an original whose product is split: of Keras, or an ONNX file that does so by operators of a kind."""
    if kind == "keras":
        x = keras.Input((8,))
        q, k, v = keras.ops.split(layers.Dense(12, name="qkv")(x), 3, -1)
        end = layers.Add()([layers.Multiply()([q, layers.Activation("sigmoid")(k)]), v])
        return filled(keras.Model(x, layers.Dense(3, name="o")(end)))
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    node, random = onnx.helper.make_node, np.random.default_rng(3)
    held = {n: random.normal(size=s).astype("f4") for n, s in (("qkv.weight", (8, 12)), ("qkv.bias", 12))}
    held |= {n: random.normal(size=s).astype("f4") for n, s in (("o.weight", (4, 3)), ("o.bias", 3))}
    nodes = [node("MatMul", ["x", "qkv.weight"], ["m"]), node("Add", ["m", "qkv.bias"], ["p"])]
    if kind == "Split":
        nodes.append(node("Split", ["p", "sizes"], ["q", "k", "v"], axis=1))
        held["sizes"] = np.array([4, 4, 4])
    else:
        held |= {f"at{i}": np.array([4 * i]) for i in range(4)} | {"axis": np.array([1])}
        nodes += [node("Slice", ["p", f"at{i}", f"at{i + 1}", "axis"], [n]) for i, n in enumerate("qkv")]
    nodes += [node("Sigmoid", ["k"], ["s"]), node("Mul", ["q", "s"], ["qs"]), node("Add", ["qs", "v"], ["z"])]
    nodes += [node("MatMul", ["z", "o.weight"], ["zo"]), node("Add", ["zo", "o.bias"], ["y"])]
    ends = [onnx.helper.make_tensor_value_info(n, 1, ["n", size]) for n, size in (("x", 8), ("y", 3))]
    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in held.items()]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), "fused.onnx")
    return "fused.onnx"


@pytest.mark.parametrize("kind", ["keras", "Split", "Slice"])
def test_layers_that_are_one_in_the_original_are_compared_with_its_parts(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = fused(kind)
    cuts = {n: [{"slice": {"axis": -1, "start": 4 * i, "stop": 4 * i + 4}}] for i, n in enumerate("qkv")}
    rules = {n: {"to": n, "from": "qkv", "transform": {"kernel": cut, "bias": cut}} for n, cut in cuts.items()}
    rules["o"] = {"to": "o"}
    keys = {"mapping": rules, "verify": {"parity": "source"}}
    found = tp.transfer(source, product(), **keys).parity
    assert (found.verdict, {e.name: e.status for e in found.entries}) == ("pass", dict.fromkeys("qkvo", "equal"))
    with pytest.raises(tp.VerificationError) as raised:
        tp.transfer(source, product("tanh"), **keys)
    assert "activation of k: with sigmoid in place of tanh" in raised.value.problems[0].fix
    rules["v"]["transform"]["kernel"] = [*cuts["v"], {"scale": 1.3}]
    with pytest.raises(tp.VerificationError, match="v is the first that differs") as raised:
        tp.transfer(source, product(), **keys)
    assert "kernel multiplied by 0.7692" in raised.value.problems[0].fix
