"""What the configuration of a target may name: no code, no class of strangers, no impossible size; all else is copied."""

import subprocess
import sys

import numpy as np
import pytest
from configured_files import CODE, DENSE, WRITERS, function, layer

import transferpipe as tp
from transferpipe.errors import UnsafeError
from transferpipe.weights.formats import open_source
from transferpipe.weights.keras.allowed import check_classes


def op(name):
    return layer("TFOpLambda", None, function=name)


HOSTILE = {
    "lambda": layer("Lambda", function=CODE),
    "lambda without a module": layer("Lambda", None, function=["4wEAAAA=", None, None]),
    "lambda by its registered name": layer("Dense", registered="keras>Lambda"),
    "lambda with a package": layer("Custom>Lambda", None),
    "lambda in a wrapper": layer("TimeDistributed", layer=layer("Lambda", function=CODE)),
    "lambda function as a setting": layer(activation=CODE),
    "os.system": layer(activation=function("system", "os")),
    "class of another module": layer("Popen", "subprocess"),
    "module deep in an initializer": layer(kernel_initializer=layer("Evil", "evil.inits")),
    "eval": layer(activation=function("eval")),
    "import by its name": layer("__import__", "builtins"),
    "download by Keras": layer("function", "keras.utils", config="get_file"),
    "Keras's get_file as a class": layer("get_file", "keras.utils"),
    "load_model": layer("load_model", "keras.models"),
    "unsafe loading": layer("enable_unsafe_deserialization", "keras.config"),
    "keras in front only": layer("Dense", "keras_evil.layers"),
    "inside of keras.src": layer("Sequence", "keras.src.utils.io_utils"),
    "program in a folder": layer("TFSMLayer", filepath="/tmp/x"),
    "pickle": layer("TorchModuleWrapper", weights=CODE),
    "vocabulary as a path": layer("StringLookup", vocabulary="/etc/passwd"),
    "merges as a path": layer("BytePairTokenizer", module="keras_hub.tokenizers", merges="/etc/passwd"),
    "tokenizer as a path": layer("SentencePieceTokenizer", module="keras_hub.tokenizers", proto="/etc/passwd"),
    "spec from elsewhere": {"class_name": "__typespec__", "spec_name": "Popen", "module": "subprocess", "config": []},
    "operation that writes": op("io.write_file"),
    "operation of Python": op("py_function"),
    "raw operation": op("raw_ops.ReadFile"),
    "no class": {"module": "os", "config": {}},
    "huge units": layer(units=10**9),
    "huge for the file": layer(units=50_000),
    "huge shape": layer("InputLayer", batch_shape=[None, 10**6, 10**6]),
    "huge shape among several": {**layer("Add"), "build_config": {"input_shape": [[None, 4], [None, 10**5, 10**5]]}},
    "huge padding": layer("ZeroPadding2D", padding=[[0, 10**12], [0, 0]]),
    "huge heads": layer("MultiHeadAttention", num_heads=10**3, key_dim=10**2),
    "huge heads of one width": layer(
        "GroupedQueryAttention", num_query_heads=10**2, num_key_value_heads=1, head_dim=64
    ),
    "huge one-hot vectors": layer("CategoryEncoding", num_tokens=10**11),
    "no module": layer("Dense", "keras.layers.."),
    "elsewhere in a backend": layer("ModuleType", "keras.src.backend.torch.optimizers.torch_adam"),
    "infinite": layer("UpSampling2D", size=[float("inf"), 1]),
    "initializers of TensorFlow that are none": layer(
        kernel_initializer=layer("FileIO", "tensorflow.python.ops.init_ops_v2")
    ),
    "elsewhere in TensorFlow": layer(kernel_initializer=layer("Constant", "tensorflow.python.ops.init_ops_v2.io")),
    "model that downloads": layer("ConvNeXtTiny", "keras.src.applications.convnext", weights="imagenet"),
    "ours": layer("save_run", "transferpipe.save"),
}
BENIGN = {
    "dense": DENSE,
    "functional": layer("Functional", "keras.src.models.functional", "Functional"),
    "of Keras 2": layer("Conv2D", "keras.src.layers.convolutional.conv2d", filters=3),
    "without a module": layer("FixedDropout", None),
    "registered before": layer("Custom>Swish", None),
    "initializer": layer(kernel_initializer={"module": "keras.initializers", "class_name": "GlorotUniform", "config": {}}),
    "initializer of TensorFlow": layer(kernel_initializer=layer("Constant", "tensorflow.python.ops.init_ops_v2", value=0)),
    "layer of an application": layer("LayerScale", "keras.src.applications.convnext", "LayerScale", projection_dim=3),
    "optimizer of Keras on torch": layer("AdamW", "keras.src.backend.torch.optimizers.torch_adamw", "AdamW"),
    "policy": layer(dtype={"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}}),
    "operation": layer("GetItem", "keras.src.ops.numpy"),
    "operation of TensorFlow": op("math.add"),
    "activation": layer(activation=function("gelu")),
    "own loss of Keras 2": layer(loss=function("my_loss")),
    "registered loss": layer(loss=function("my_package>my_loss")),
    "loss of Keras": layer(loss=function("mean_squared_error", "keras.losses")),
    "tuple": layer("Reshape", target_shape={"class_name": "__tuple__", "items": [2, 3]}),
    "spec": {"class_name": "__typespec__", "spec_name": "TensorSpec", "module": "tensorflow", "config": []},
    "KerasHub": layer("BertBackbone", "keras_hub.src.models.bert.bert_backbone", "keras_hub>BertBackbone"),
    "vocabulary inside": layer("StringLookup", vocabulary=["a", "b"]),
    "large picture": layer("InputLayer", batch_shape=[None, 4096, 4096, 3]),
    "several shapes": {**layer("Add"), "build_config": {"input_shape": [[None, 14, 14, 96], [None, 14, 14, 96]]}},
    "seed": layer("Dropout", seed=2**63),
    "heads": layer("MultiHeadAttention", num_heads=8, key_dim=64, value_dim=None),
    "text that names a module": layer(name="os.system"),
}  # fmt: skip


def nobody(module, registered):
    return False


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_code_or_impossible_is_refused(kind):
    with pytest.raises(UnsafeError, match="its configuration") as caught:
        check_classes(
            {"class_name": "Sequential", "config": {"layers": [DENSE, HOSTILE[kind]]}}, "m.keras", nobody, 100
        )
    dangerous = kind not in ("module deep in an initializer", "keras in front only")
    assert ("--trust" in str(caught.value)) != dangerous, "a word is offered only for classes of other packages"


@pytest.mark.parametrize("kind", BENIGN)
def test_what_keras_writes_is_allowed(kind):
    check_classes({"class_name": "Sequential", "config": {"layers": [DENSE, BENIGN[kind]]}}, "m.keras", nobody, 100)


def write_model(path, *more):
    """Write a model of one Dense layer, and further layers that only its configuration has."""
    config = {"class_name": "Sequential", "module": "keras", "config": {"name": "m", "layers": [DENSE, *more]}}
    return WRITERS[path.suffix](config, path)


ALL = {"all": {"to": ".*"}}


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("more", [layer("Lambda", function=CODE), layer("Popen", "subprocess")])
def test_a_hostile_target_is_refused_before_anything_is_written_and_a_source_is_only_read(tmp_path, suffix, more):
    hostile, good = write_model(tmp_path / f"x{suffix}", more), write_model(tmp_path / "good.keras")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UnsafeError, match=r"x\.(keras|h5)"):
        tp.plan(str(good), str(hostile), mapping=ALL)
    assert sorted(tmp_path.iterdir()) == before
    assert len(tp.plan(str(hostile), str(good), mapping=ALL).assignments) == 2


@pytest.mark.follows("_check_class: if you trust it,")
def test_a_class_of_the_user_is_vouched_for_by_a_word_or_its_place(tmp_path, monkeypatch, capsys):
    from transferpipe.cli.main import main

    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "good.keras")
    write_model(tmp_path / "own.keras", layer("Scale", "house_of_layers.scale"))
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/r.yaml").write_text(
        "source: {path: good.keras}\ntarget: {path: own.keras}\nmapping: {all: {to: '.*'}}\n"
    )
    assert main(["plan", "recipe=r"]) == 5
    word = capsys.readouterr().err.partition("command line: ")[2].split()
    assert word == ["--trust", "house_of_layers"]
    assert main(["plan", "recipe=r", *word]) == 0
    (tmp_path / "house_of_layers.py").write_text("raise SystemExit('it was imported')")
    assert main(["plan", "recipe=r"]) == 0
    assert "house_of_layers" not in sys.modules


@pytest.mark.follows("_check_class: build the model in")
@pytest.mark.follows("_check_class: build the model in #2")
@pytest.mark.follows("check_classes: build the model in")
@pytest.mark.follows("_check_operation: build the model in")
@pytest.mark.follows("_check_sizes: build the model in")
@pytest.mark.follows("_check_sizes: build the model in #2")
def test_a_model_with_code_is_a_target_where_the_user_builds_it(tmp_path, monkeypatch):
    for kind in ("lambda", "no class", "operation that writes", "huge units", "huge heads", "eval"):
        with pytest.raises(UnsafeError):
            check_classes(HOSTILE[kind], "m.keras", nobody, 100)
    monkeypatch.chdir(tmp_path)
    source = write_model(tmp_path / "good.keras")
    text = "import keras\n\n\ndef build():\n    twice = keras.layers.Lambda(lambda x: 2 * x, name='twice')\n"
    text += "    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name='d'), twice])\n"
    (tmp_path / "models_with_a_lambda.py").write_text(text)
    (tmp_path / "recipes").mkdir()
    recipe = f"source: {{path: {source}}}\ntarget: {{_target_: models_with_a_lambda.build}}\nmapping: {{all: {{to: '.*'}}}}\n"
    (tmp_path / "recipes/r.yaml").write_text(recipe + "save: {path: m.weights.h5}\n")
    from transferpipe.cli.main import main

    assert main(["run", "recipe=r", "hydra.run.dir=o"]) == 0
    assert np.all(open_source(tmp_path / "o/m.weights.h5").read("d/kernel") == 1)


def test_refusing_imports_no_keras(tmp_path):
    hostile = write_model(tmp_path / "x.keras", layer("Lambda", function=CODE))
    code = (
        "import sys, transferpipe as tp\n"
        f"try: tp.plan({str(hostile)!r}, {str(hostile)!r}, mapping={{'all': {{'to': '.*'}}}})\n"
        "except tp.UnsafeError: pass\n"
        "print(sorted({'keras', 'tensorflow'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.follows("check_classes: save the model again")
def test_a_vocabulary_that_is_in_the_file_itself():
    with pytest.raises(UnsafeError, match="-> save the model again"):
        check_classes(layer("StringLookup", vocabulary="words.txt"), "m.keras", nobody, 0)
    check_classes(layer("StringLookup", vocabulary=["a", "b"]), "m.keras", nobody, 0)  # as Keras saves it
