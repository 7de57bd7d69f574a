"""What is advised of data, arrays, recipes' texts and files, done: what was refused is then taken, with the right values."""

import io
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml
from keras import layers
from safetensors.numpy import load_file

from transferpipe.cli.commands.transfer import check_name
from transferpipe.cli.compose.recipe_file import check_recipe_file
from transferpipe.cli.sweeps.plan import check_keys
from transferpipe.digits import load_digits
from transferpipe.errors import TransferError
from transferpipe.execute.prepare import prepare
from transferpipe.execute.run import execute
from transferpipe.fetch.find import find
from transferpipe.models.source import live_model
from transferpipe.planning.reading.read_recipe import read_recipe
from transferpipe.prove.parity.arrays import as_expected, as_inputs, read_arrays
from transferpipe.prove.parity.keras_trace import InputSpec
from transferpipe.score.checks import check_data, check_takes
from transferpipe.score.data.digits import digits_data
from transferpipe.score.data.npz import npz_data
from transferpipe.score.data.splits import make_splits
from transferpipe.score.data.tf_dataset import tf_data
from transferpipe.score.features import check_layer, features
from transferpipe.score.linear_probe import linear_probe
from transferpipe.score.result import Score
from transferpipe.sweep.comparing.controls import _only_source
from transferpipe.weights.formats import open_source
from transferpipe.weights.formats.numpy.header import read_leading_header
from transferpipe.weights.formats.torch.index import _choose
from transferpipe.weights.keras.naming import refuse_namesakes
from transferpipe.zoo.builders import _check_backbone

follows = pytest.mark.follows
X = np.arange(12, dtype="float32").reshape(6, 2)
Y = np.array([0, 1, 2, 0, 1, 2])


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def advised(call, *args, **keys):
    """Return the hint of the only problem of what is refused."""
    with pytest.raises(TransferError) as caught:
        call(*args, **keys)
    (problem,) = caught.value.problems
    return problem.fix


# Examples to learn from -----------------------------------------------------------------------------------------------

SHAPE, NUMBERS = "make_splits: bring both into one", "make_splits: number the classes from"
LABELS, COUNTS = "_part: give whole numbers from", "_part: give as many of"
STORED, FINITE = "_part: store numbers", "_part: take them out"


@pytest.mark.parametrize(
    ("words", "train", "test", "right"),
    [
        pytest.param(
            "one shape", (X, Y), (X[:, :1], Y), {"test": (X[:, :1].repeat(2, axis=1), Y)}, marks=follows(SHAPE)
        ),
        pytest.param("from 0", (X, Y + 1), None, {"train": (X, Y)}, marks=follows(NUMBERS)),
        pytest.param("whole numbers from 0", (X, Y + 0.5), None, {"train": (X, Y)}, marks=follows(LABELS)),
        pytest.param("one-hot rows", (X, Y - 1.5), None, {"train": (X, np.eye(3)[Y])}, marks=follows(LABELS)),
        pytest.param("as many of both", (X, Y[:5]), None, {"train": (X[:5], Y[:5])}, marks=follows(COUNTS)),
        pytest.param("store numbers", (X.astype(str), Y), None, {"train": (X, Y)}, marks=follows(STORED)),
        pytest.param(
            "take them out", (np.where(X == 0, np.nan, X), Y), None, {"train": (X[1:], Y[1:])}, marks=follows(FINITE)
        ),
    ],
)
def test_examples(words, train, test, right):
    assert words in advised(make_splits, "data", train, None, test)
    made = make_splits("data", right.get("train", train), None, right.get("test", test))
    given = right.get("train", train)
    np.testing.assert_array_equal(made.x_train, given[0])
    np.testing.assert_array_equal(made.y_train, given[1].argmax(1) if given[1].ndim == 2 else given[1])


@follows("_pairs: save x and y,")
def test_an_archive_without_examples():
    np.savez("d.npz", inputs=X, labels=Y)
    assert advised(npz_data, "d.npz") == "save x and y, or x_train, y_train, x_test, y_test"
    np.savez("d.npz", x=X, y=Y)
    assert sum(map(len, (npz_data("d.npz").y_train, npz_data("d.npz").y_val, npz_data("d.npz").y_test))) == len(Y)
    np.savez("d.npz", x_train=X, y_train=Y, x_test=X[:3], y_test=Y[:3])
    np.testing.assert_array_equal(npz_data("d.npz").x_test, X[:3])


@follows("check_data: give it, or let")
def test_a_part_that_is_missing():
    np.savez("d.npz", x=np.repeat(X, 5, 0), y=np.repeat(Y, 5))
    assert "a fraction be drawn" in advised(check_data, npz_data("d.npz", test_fraction=0), "test")
    assert len(check_data(npz_data("d.npz", test_fraction=0.4), "test").y_test) > 0
    assert len(check_data(make_splits("given", (X, Y), None, (X[:2], Y[:2])), "test").y_test) == 2


@follows("_check_counts: lower train_per_class or val_per_class", "_check: use a whole number")
def test_fewer_digits():
    assert "lower train_per_class" in advised(digits_data, labels=[0, 1], train_per_class=130, val_per_class=100)
    assert len(digits_data(labels=[0, 1], train_per_class=5, val_per_class=10).y_train) == 10
    most = int(advised(load_digits, [0, 1], split="test", per_class=10_000).rpartition(" ")[2])
    assert len(load_digits([0, 1], split="test", per_class=most)[1]) == 2 * most


@follows("linear_probe: give one penalty, or")
def test_penalties_and_nothing_to_choose_one_by():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3)])
    data = make_splits("d", (X, Y), None, (X, Y))
    assert "give one penalty" in advised(linear_probe, model, data, penalty=[0.1, 1.0])
    assert 0 <= linear_probe(model, data, penalty=0.1).value <= 1
    assert 0 <= linear_probe(model, make_splits("d", (X, Y), (X, Y), (X, Y)), penalty=[0.1, 1.0]).value <= 1


@follows("_by_part: return {'train': ..., 'test':", "_read: take a part: dataset.take(...)", "_read: map it to pairs")
def test_datasets_of_tensorflow():
    tf = pytest.importorskip("tensorflow")
    pairs = tf.data.Dataset.from_tensor_slices((X, Y))
    assert "'train': ..., 'test': ..." in advised(tf_data, pairs, batched=False)
    assert "dataset.take" in advised(tf_data, {"train": pairs.repeat()}, batched=False)
    assert advised(tf_data, {"train": pairs.map(lambda x, _: x)}, batched=False) == "map it to pairs"
    parts = {"train": pairs.repeat().take(6), "val": pairs.map(lambda x, y: (x, y)), "test": pairs}
    made = tf_data(parts, batched=False)
    np.testing.assert_array_equal(made.x_train, X)
    np.testing.assert_array_equal(made.y_val, Y)


@follows("_note_taken: use a model for")
def test_examples_of_another_shape():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(3)])
    assert "inputs of shape (2,)" in advised(check_takes, model, (2,))
    check_takes(keras.Sequential([keras.Input((2,)), layers.Dense(3)]), (2,))
    check_takes(model, (3,))


@follows("activations: name another layer", "features: name another layer")
def test_a_layer_that_gives_nothing_to_compare():
    inputs = keras.Input((2,))
    twice, once = layers.Dense(2, name="twice"), layers.Dense(2, name="once")
    model = keras.Model(inputs, layers.Dense(3, name="out")(once(twice(twice(inputs)))))
    assert advised(features, model, X, "twice") == "name another layer"
    np.testing.assert_allclose(features(model, X, "once"), once(twice(twice(X))), rtol=1e-5)
    summed = layers.Lambda(lambda x: keras.ops.sum(x), output_shape=(), name="sum")
    added = layers.Lambda(lambda pair: pair[0] + pair[1], output_shape=(2,))
    hidden = layers.Dense(2, name="hidden")(inputs)
    model = keras.Model(inputs, layers.Dense(3)(added([hidden, summed(hidden)])))
    assert advised(features, model, X, "sum") == "name another layer"
    np.testing.assert_allclose(features(model, X, "hidden"), model.get_layer("hidden")(X), rtol=1e-5)


@follows("Score.__post_init__: look at the model's")
def test_a_score_that_is_no_number():
    assert "look at the model's outputs" in advised(Score, float("nan"), "accuracy", True, "trained", 0.0)
    assert Score(0.5, "accuracy", True, "trained", 0.0).value == 0.5


# Arrays for parity ----------------------------------------------------------------------------------------------------


def spec(dtype="float32", name="x", shape=(None, 2)):
    return InputSpec(name, shape, dtype)


@pytest.mark.parametrize(
    ("wrong", "wanted", "words", "right"),
    [
        pytest.param(
            X + 0.5,
            spec("int32"),
            "convert it to int32",
            X.astype("int32"),
            marks=follows("_fit_dtype: convert it to …"),
        ),
        pytest.param(X * np.nan, spec(), "write finite inputs", X, marks=follows("_fit_dtype: write finite inputs")),
        pytest.param(
            X[:0], spec(), "write at least one sample", X[:1], marks=follows("_fit_dtype: write at least one")
        ),
        pytest.param(
            np.full((1, 2), 300),
            spec("uint8"),
            "write smaller values",
            np.full((1, 2), 200),
            marks=follows("_fit_dtype: write smaller values"),
        ),
    ],
)
def test_inputs(wrong, wanted, words, right):
    assert advised(as_inputs, {"x": wrong}, [wanted], "inputs") == words
    (given,) = as_inputs({"x": right}, [wanted], "inputs")
    np.testing.assert_array_equal(given, right)


@follows("_check_names: it holds …")
def test_an_input_that_has_no_array():
    specs = [spec(name="left"), spec(name="right")]
    assert advised(as_inputs, {"left": X}, specs, "inputs") == "it holds left"
    assert len(as_inputs({"left": X, "right": X}, specs, "inputs")) == 2


@follows(
    "as_expected: save it as numbers",
    "as_expected: run the original again",
    "as_expected: write the original's outputs",
)
def test_expected_outputs():
    for wrong, words in (({"y": X.astype(str)}, "save it as numbers"), ({"y": X * np.nan}, "run the original again")):
        assert advised(as_expected, wrong, ["y"], [], "expected") == words
    assert advised(as_expected, {}, ["y"], [], "expected") == "write the original's outputs into it"
    np.testing.assert_array_equal(as_expected({"y": X}, ["y"], [], "expected").outputs["y"], X)


@follows(
    "_check_declared: save it as numbers", "_check_declared: save it as real", "read_arrays: paths are relative to"
)
def test_files_of_arrays():
    np.savez("a.npz", x=np.array([{}], dtype=object))
    assert advised(read_arrays, "a.npz", "inputs") == "save it as numbers"
    np.savez("a.npz", x=X.astype(complex))
    assert advised(read_arrays, "a.npz", "inputs") == "save it as real numbers"
    assert "write it with numpy.savez" in advised(read_arrays, "b.npz", "inputs")
    np.savez("b.npz", x=X)
    np.testing.assert_array_equal(read_arrays("b.npz", "inputs")["x"], X)


# Recipes' texts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "words", "right"),
    [
        pytest.param("seed: !!python/name:x 1", "take it out", "seed: 1", marks=follows("_check_tag: take it out")),
        pytest.param('name: "a\\0"', "take it out", "name: a", marks=follows("_check_scalar: take it out")),
        pytest.param('name: "\\ud800"', "take it out", "name: a", marks=follows("_check_scalar: take it out #2")),
        pytest.param(
            f"seed: {'9' * 500}",
            "write smaller values",
            "seed: 9",
            marks=follows("_check_scalar: write smaller values"),
        ),
        pytest.param(
            "vars: &a {b: *a}", "write the values out", "vars: {b: 1}", marks=follows("_meaning: write the values out")
        ),
        pytest.param(
            f"vars: {{a: 1, b: '{'${vars.a}' * 2000}'}}",
            "write the values out",
            "vars: {a: 1, b: '11'}",
            marks=follows("check_recipe_file: write the values out"),
        ),
        pytest.param(
            f"vars: {{a: '${{oc.decode:{'[' * 40}1{']' * 40}}}'}}",
            "write the value out",
            "vars: {a: 1}",
            marks=follows("_check_scalar: write the value out"),
        ),
        pytest.param(
            f"vars: {'{a: ' * 40}1{'}' * 40}",
            "write it flatter",
            "vars: {a: 1}",
            marks=follows("_check_levels: write it flatter"),
        ),
        pytest.param(
            "mapping: {" + ", ".join(f"r{i}: {{to: l{i}}}" for i in range(7000)) + "}",
            "write patterns, which match many names",
            "mapping: {r: {to: 'l(\\d+)'}}",
            marks=follows("_too_many: write patterns, which match"),
        ),
    ],
)
def test_texts_of_recipes(wrong, words, right):
    path = Path("r.yaml")
    path.write_text(wrong)
    assert words in advised(check_recipe_file, path)
    path.write_text(right)
    check_recipe_file(path)
    assert yaml.safe_load(right)


@pytest.mark.parametrize(
    ("wrong", "words", "right"),
    [
        pytest.param(
            {"seed": 1 << 20_000},
            "write smaller values",
            {"seed": 3},
            marks=follows("_check_leaves: write smaller values"),
        ),
        pytest.param(
            {"save": {"path": "model", "also": ["model/a.npz"]}},
            "choose another folder",
            {"save": {"path": "model", "also": ["other/a.npz"]}},
            marks=follows("_check_folders: choose another folder"),
        ),
        pytest.param(
            {"save": f"{'a' * 300}.npz"},
            "choose a shorter name",
            {"save": "a.npz"},
            marks=follows("_check_save_path: choose a shorter name"),
        ),
    ],
)
def test_values_of_recipes(wrong, words, right):
    base = {"source": "a.npz", "target": "b.npz", "mapping": {"r": {"to": "a"}}}
    assert advised(read_recipe, {**base, **wrong}) == words
    found = read_recipe({**base, **right})
    assert right.get("seed", 0) == found.seed
    assert right.get("save", {"path": found.save.path}) in (
        found.save.path,
        {"path": found.save.path},
        {"path": found.save.path, "also": list(found.save.also)},
    )


@follows("check_name: choose a shorter name")
def test_a_name_of_a_run():
    assert advised(check_name, "a" * 300) == "choose a shorter name"
    check_name("a" * 30)


@follows("check_keys: leave it out")
def test_a_key_of_hydra_in_a_sweep():
    assert advised(check_keys, {"axes": {"hydra.run.dir": [1], "seed": [1, 2]}}) == "leave it out"
    check_keys({"axes": {"seed": [1, 2]}})


@follows("_only_source: switch it off")
def test_a_control_that_needs_one_source():
    assert advised(_only_source, {"sources": {"a": 1, "b": 2}}, "selffer") == "switch it off"
    assert _only_source({"sources": {"a": 1}}, "selffer") == (1, "a")


# Files and models -----------------------------------------------------------------------------------------------------


def run(**recipe):
    return execute(
        prepare(read_recipe({"mapping": {"r": {"to": "a"}}, "source": "a.npz", "target": "b.npz", **recipe})), Path()
    )


@follows("_check_free: remove it first, or", "_check_free: choose another name #2")
def test_what_is_in_the_way():
    for name, value in (("a", np.ones(4)), ("b", np.zeros(4))):
        np.savez(f"{name}.npz", **{"a/w": value.astype("f4"), "a/v": value.astype("f4")})
    Path("taken.npz").mkdir()
    assert advised(run, save="taken.npz") == "choose another name"
    run(save="free.npz")
    assert np.load("free.npz")["a/w"].all()
    shards = {"path": "s.safetensors", "shard": 16}
    run(save=shards)
    assert "remove it first" in advised(run, save=shards)
    for path in Path().glob("s*.safetensors*"):
        path.unlink()
    run(save=shards)
    (first,) = Path().glob("s-00001-of-*.safetensors")
    assert all(v.all() for v in load_file(first).values())


@follows("identify_file: leave it out")
def test_a_digest_of_a_folder():
    np.savez("a.npz", w=X)
    Path("folder").mkdir()
    assert advised(find, "folder", "source.path", "0" * 64) == "leave it out"
    assert find("folder", "source.path").path == Path("folder")


@pytest.mark.parametrize(
    ("wrong", "words", "right"),
    [
        pytest.param(
            "ftp://h/a.npz", "these can be read:", "a.npz", marks=follows("check_address: these can be read:")
        ),
        pytest.param(
            "https://h:x/a.npz", "check how it is written", "a.npz", marks=follows("check_address: check how it is")
        ),
        pytest.param(
            "s3:///a.npz", "check how it is written", "a.npz", marks=follows("check_address: check how it is #2")
        ),
        pytest.param(
            "s3://bucket:9/a.npz", "check how it is", "a.npz", marks=follows("_check_object: check how it is")
        ),
        pytest.param(
            "gs://bucket/../a.npz", "download the", "a.npz", marks=follows("_check_object: download the file yourself")
        ),
        pytest.param("https://u:p@h/a.npz", "take it out", "a.npz", marks=follows("check_address: take it out; where")),
        pytest.param(
            "https://h/a.npz?X-Amz-Signature=1",
            "download the file yourself",
            "a.npz",
            marks=follows("check_address: download the file yourself"),
        ),
    ],
)
def test_addresses(wrong, words, right):
    """A plain path to a copy of the file is what each of them leads to."""
    assert words in advised(find, wrong, "source.path")
    np.savez("a.npz", w=X)
    np.testing.assert_array_equal(open_source(find(right, "source.path").path).read("w"), X)


@follows("refuse_namesakes: give the layers different")
def test_layers_of_one_name():
    assert advised(refuse_namesakes, {"a/x": "same", "b/x": "same"}, ["a/x", "b/x"], "m") == (
        "give the layers different names"
    )
    refuse_namesakes({"a/x": "one", "b/x": "two"}, ["a/x", "b/x"], "m")


@follows("_check_backbone: use a model with", "_check_backbone: build it with a")
def test_a_backbone_for_a_dense_layer():
    inputs = keras.Input((4, 4, 1))
    conv = layers.Conv2D(2, 3)(inputs)
    assert "one of each" in advised(_check_backbone, keras.Model(inputs, [conv, inputs]))
    open_size = keras.Input((None, None, 1))
    assert "fixed input_shape" in advised(_check_backbone, keras.Model(open_size, layers.Conv2D(2, 3)(open_size)))
    _check_backbone(keras.Model(inputs, conv))
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3)(open_size))
    _check_backbone(keras.Model(open_size, pooled))


@follows("read_leading_header: save it as numbers", "read_leading_header: keep only weights in")
def test_arrays_of_other_things():
    for dtype, words in (([("a", object)], "save it as numbers"), ("U3", "keep only weights in the file")):
        buffer = io.BytesIO()
        np.save(buffer, np.zeros(2, dtype), allow_pickle=True)
        data = buffer.getvalue()
        assert advised(read_leading_header, data, "a") == words
    buffer = io.BytesIO()
    np.save(buffer, X)
    assert read_leading_header(buffer.getvalue(), "a").shape == X.shape


@follows("_live_source: select: ema takes its")
def test_what_is_selected_of_a_live_model():
    import transferpipe as tp

    model = keras.Sequential([keras.Input((2,)), layers.Dense(3, name="a")])
    model.compile(keras.optimizers.SGD(use_ema=True), "mse")
    model.fit(X, np.zeros((6, 3)), verbose=0)
    target, rules = keras.models.clone_model(model), {"r": {"to": "a"}}
    words = advised(tp.plan, {"path": model, "select": "averages"}, target, mapping=rules)
    (key, value) = words.split()[:2]
    tp.transfer({"path": model, key.rstrip(":"): value}, target, mapping=rules)
    averages = model.optimizer._model_variables_moving_average
    np.testing.assert_array_equal(target.layers[0].kernel, averages[0])


@follows("_path_of: write the whole name")
def test_a_name_that_two_layers_have():
    parts = [keras.Input((2,)), layers.Dense(2, name="fc")]
    towers = [
        keras.Sequential(parts, name="one"),
        keras.Sequential([*parts[:1], layers.Dense(3, name="fc")], name="two"),
    ]
    model = keras.Sequential([keras.Input((2,)), *towers])
    structure = live_model(model, "model").structure
    assert advised(check_layer, "fc", structure) == "write the whole name"
    check_layer("two/fc", structure)


@follows("_choose: name one of them #2")
def test_two_indices_in_a_folder():
    for name in ("one", "two"):
        Path(f"{name}.bin.index.json").write_text('{"weight_map": {}}')
    assert advised(_choose, Path()) == "name one of them"
    Path("one.bin.index.json").unlink()
    assert _choose(Path()).name == "two.bin.index.json"
