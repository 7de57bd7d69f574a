"""Comparing two sets of weights: formats, builders, layouts, rules; what differs, and what counts as equal."""

import json

import h5py
import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import transferpipe as tp
from transferpipe.differences.pairing import pair_rest
from transferpipe.differences.table import diff_text
from transferpipe.weights.spec import WeightSpec


def build(units=5, strides=1, seed=1):
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, strides=strides, padding="same", name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(units, name="head"),
        ]
    )


def values_of(model):
    return {"/".join(w.path.split("/")[-2:]): w.numpy() for w in model.weights}


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture(scope="module")
def files(tmp_path_factory, model):
    """Return one model in a file of every format that Keras, h5py, NumPy or safetensors writes, by name."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("files")
    model.save(folder / "m.keras")
    model.save(folder / "m.h5")
    model.save_weights(folder / "m.weights.h5")
    save_file(values_of(model), folder / "m.safetensors")
    np.savez(folder / "m.npz", **values_of(model))
    model.export(folder / "saved_model", verbose=False)
    tf.train.Checkpoint(model=model).write(str(folder / "checkpoint" / "m"))
    names = list(values_of(model))
    for k, part in enumerate((names[:2], names[2:]), 1):
        save_file({n: values_of(model)[n] for n in part}, folder / f"s-0000{k}-of-00002.safetensors")
    index = {n: f"s-0000{1 + (n not in names[:2])}-of-00002.safetensors" for n in names}
    (folder / "s.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder


FORMATS = {
    "m.h5": "h5",
    "m.weights.h5": "weights_h5",
    "m.safetensors": "safetensors",
    "m.npz": "npz",
    "saved_model": "saved_model",
    "checkpoint/m": "tf_checkpoint",
    "s.safetensors.index.json": "safetensors_index",
}


@pytest.mark.parametrize("name", FORMATS)
def test_one_model_in_two_formats_is_equal_both_ways(files, name):
    for a, b in ((files / "m.keras", files / name), (files / name, files / "m.keras")):
        found = tp.diff(a, b)
        assert found.equal, found
        assert bool(found) and {row.status for row in found.rows} == {"equal"}
        assert len(found.rows) == 8
    assert found.a.format == FORMATS[name]


def test_live_models_and_builders(files, model):
    assert tp.diff(model, files / "m.keras")
    assert tp.diff(files / "m.keras", model)
    builder = {"_target_": "transferpipe.zoo.small_mlp"}
    assert tp.diff(builder, builder)
    assert not tp.diff(model, builder)


def test_every_kind_of_difference(tmp_path, files, model):
    values = values_of(model)
    kernel = values["head/kernel"].copy()
    kernel[3, 2] += 99
    values |= {"head/kernel": kernel, "head/bias": np.zeros(7, "float32"), "new/scale": np.ones(2, "float32")}
    values["norm/gamma"] = values["norm/gamma"].astype("float16")
    del values["norm/beta"]
    save_file(values, tmp_path / "b.safetensors")
    found = tp.diff(files / "m.keras", tmp_path / "b.safetensors")
    rows = {row.name: row for row in found.rows}
    assert {name: row.status for name, row in rows.items() if row.status != "equal"} == {
        "head/kernel": "changed",
        "head/bias": "shape",
        "norm/gamma": "dtype",
        "norm/beta": "only in A",
        "new/scale": "only in B",
    }
    assert (not found.equal, not found, not found.weights_equal) == (True, True, True)
    assert (rows["head/bias"].shape_a, rows["head/bias"].shape_b) == ((5,), (7,))
    assert (rows["norm/gamma"].dtype_a, rows["norm/gamma"].dtype_b, rows["norm/gamma"].values) == ("float32", "float16", None)  # fmt: skip
    changed = rows["head/kernel"].values
    expected = np.float32(kernel[3, 2]) - np.float64(values_of(model)["head/kernel"][3, 2])
    assert (changed.index, changed.differing, changed.largest) == ((3, 2), 1, expected)
    backwards = {row.name: row for row in tp.diff(tmp_path / "b.safetensors", files / "m.keras").rows}
    assert (backwards["norm/beta"].status, backwards["new/scale"].status) == ("only in B", "only in A")
    assert backwards["head/kernel"].values.after == changed.before


def test_settings_that_differ_make_a_difference(tmp_path):
    one, other = build(), build(strides=2)
    other.set_weights(one.get_weights())
    one.save(tmp_path / "a.keras")
    other.save(tmp_path / "b.h5")
    found = tp.diff(tmp_path / "a.keras", tmp_path / "b.h5")
    assert (found.equal, found.weights_equal) == (False, True)
    assert [(d.target_layer, d.setting, d.source_value, d.target_value) for d in found.settings.differences] == [
        ("conv", "strides", "(1, 1)", "(2, 2)")
    ]
    assert "conv  strides (1, 1) -> (2, 2)" in str(found)


def texts(*terms):
    """Return a model whose words are `terms`."""
    words = keras.layers.TextVectorization(
        vocabulary=list(terms), output_mode="int", output_sequence_length=3, name="words"
    )
    rows = keras.layers.Embedding(10, 2, name="rows", embeddings_initializer="ones")
    return keras.Sequential([keras.Input((), dtype="string"), words, rows])


def test_what_lookup_layers_learned_is_a_difference(tmp_path):
    texts("a", "b", "c").save(tmp_path / "a.keras")
    texts("a", "x", "c", "d").save(tmp_path / "b.keras")
    assert tp.diff(tmp_path / "a.keras", tmp_path / "a.keras")
    for other in (tmp_path / "b.keras", texts("a", "x", "c", "d")):
        found = tp.diff(tmp_path / "a.keras", other)
        assert (found.weights_equal, found.equal) == (True, False)
        (difference,) = found.settings.differences
        assert (difference.target_layer, difference.setting) == ("words", "vocabulary")
        assert difference.source_value == "3 terms, number 2 is 'b'"
        assert difference.target_value == "4 terms, number 2 is 'x'"


@pytest.mark.parametrize(
    ("means", "variances", "shown"),
    [
        (([1.0, 2.5], [1.0, 2.0]), ([4.0, 4.0], [1.0, 1.0]), ("mean (1, 2.5)", "mean (1, 2)")),
        (([1.0, 2.0], [1.0, 2.0]), ([4.0, 4.0], [4.0, 5.0]), ("variance (4, 4)", "variance (4, 5)")),
        ((0.5, 1.5), (1.0, 1.0), ("mean 0.5", "mean 1.5")),
        (([0.0] * 6, [1.0] * 6), ([1.0] * 6, [1.0] * 6), ("mean (0, 0, 0, 0, ...)", "mean (1, 1, 1, 1, ...)")),
    ],
)
def test_given_statistics_are_a_difference(means, variances, shown):
    models = []
    for mean, variance in zip(means, variances, strict=True):
        scale = keras.layers.Normalization(mean=mean, variance=variance, name="scale")
        shape = (len(mean) if isinstance(mean, list) else 2,)
        models.append(keras.Sequential([keras.Input(shape), scale, keras.layers.Dense(1, name="d")]))
    models[1].set_weights(models[0].get_weights())
    (difference,) = tp.diff(*models).settings.differences
    assert (difference.target_layer, difference.setting) == ("scale", "statistics")
    assert (difference.source_value, difference.target_value) == shown


def test_the_same_bits_count(tmp_path):
    for name, zero in (("a", 0.0), ("b", -0.0)):
        save_file({"d/w": np.array([1, zero, np.nan], "float32")}, tmp_path / f"{name}.safetensors")
    assert tp.diff(tmp_path / "a.safetensors", tmp_path / "a.safetensors")
    found = tp.diff(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert not found
    assert "values equal, bits differ" in diff_text(found, 120)


def test_names_below_a_layer_that_only_one_side_has(tmp_path, model):
    values = values_of(model)
    np.savez(tmp_path / "a.npz", **values)
    np.savez(tmp_path / "b.npz", **{f"back{{1}}/{name}": value for name, value in values.items()})
    for a, b in (("a", "b"), ("b", "a")):
        found = tp.diff(tmp_path / f"{a}.npz", tmp_path / f"{b}.npz")
        assert found and "back{1}/" in found.paired
        assert len(found.rows) == 8


def saved(folder, **files):
    """Write files of names with a number each, and return their paths."""
    for name, values in files.items():
        np.savez(folder / f"{name}.npz", **{k: np.full((2, 2), v, "float32") for k, v in values.items()})
    return [folder / f"{name}.npz" for name in files]


@pytest.mark.parametrize(
    "a, b, statuses",
    [
        # a name that ends as another is: further layers around a layer
        ({"x/k": 1, "y/k": 2}, {"x/k": 1, "block/y/k": 2}, {"x/k": "equal", "block/y/k": "equal"}),
        ({"x/k": 1, "block/y/k": 2}, {"x/k": 1, "y/k": 2}, {"x/k": "equal", "y/k": "equal"}),
        # two such names: neither is taken
        (
            {"x/k": 1, "y/k": 2},
            {"x/k": 1, "b/y/k": 2, "c/y/k": 2},
            {"x/k": "equal", "b/y/k": "only in B", "c/y/k": "only in B", "y/k": "only in A"},
        ),
        (
            {"x/k": 1, "b/y/k": 2, "c/y/k": 2},
            {"x/k": 1, "y/k": 2},
            {"x/k": "equal", "y/k": "only in B", "b/y/k": "only in A", "c/y/k": "only in A"},
        ),
        # parts of a layer under other names: by position, where the own names agree
        ({"d/in/k": 1, "d/in/b": 2}, {"d/layer/k": 1, "d/layer/b": 3}, {"d/layer/k": "equal", "d/layer/b": "changed"}),
        ({"d/in/k": 1, "d/in/b": 2}, {"d/0": 1, "d/1": 2}, {"d/0": "equal", "d/1": "equal"}),
        (
            {"d/in/k": 1, "d/in/b": 2},
            {"d/layer/b": 2, "d/layer/k": 1},
            {"d/layer/b": "only in B", "d/layer/k": "only in B", "d/in/k": "only in A", "d/in/b": "only in A"},
        ),
        ({"d/k": 1, "d/b": 2}, {"d/k": 1, "e/b": 2}, {"d/k": "equal", "e/b": "only in B", "d/b": "only in A"}),
    ],
)
def test_formats_that_name_the_parts_of_a_layer_otherwise(tmp_path, a, b, statuses):
    found = tp.diff(*saved(tmp_path, a=a, b=b))
    assert {row.name: row.status for row in found.rows} == statuses


def test_a_wrapped_recurrent_model_in_a_saved_model_and_in_a_checkpoint(tmp_path):
    import tensorflow as tf

    keras.utils.set_random_seed(2)
    inputs = keras.Input((4, 3))
    x = keras.layers.Bidirectional(keras.layers.LSTM(2, return_sequences=True), name="both")(inputs)
    x = keras.layers.TimeDistributed(keras.layers.Dense(2, name="inner"), name="each")(x)
    x = keras.layers.SpectralNormalization(keras.layers.Dense(2, name="normed"), name="spectral")(x)
    model = keras.Model(inputs, keras.layers.GRU(2, name="last")(x))
    model.save(tmp_path / "m.keras")
    model.save_weights(tmp_path / "m.weights.h5")
    model.export(tmp_path / "saved", verbose=False)
    tf.train.Checkpoint(model=model).write(str(tmp_path / "c"))
    for other in ("m.weights.h5", "saved"):
        assert tp.diff(tmp_path / "m.keras", tmp_path / other), other
        assert tp.diff(tmp_path / other, tmp_path / "m.keras"), other
    statuses = {row.name: row.status for row in tp.diff(tmp_path / "c", tmp_path / "m.keras").rows}
    assert statuses["each/inner/kernel"] == statuses["both/forward_layer/cell/kernel"] == "equal"


def test_through_rules_that_rename_transform_and_leave_out(tmp_path):
    random = np.random.default_rng(0)
    kernel, bias, head = (random.normal(size=s).astype("float32") for s in ((4, 3), (3,), (3, 2)))
    np.savez(tmp_path / "a.npz", **{"enc/fc/w": kernel.T.copy(), "enc/fc/b": bias, "old/w": head})
    np.savez(tmp_path / "b.npz", **{"trunk/kernel": kernel, "trunk/bias": bias + 1, "new/w": head})
    mapping = {
        "kernel": {"to": "trunk/kernel", "from": "enc/fc/w", "transform": [{"transpose": [1, 0]}]},
        "bias": {"to": "trunk/bias", "from": "enc/fc/b"},
        "new": {"to": "new/w", "from": None},
    }
    found = tp.diff(tmp_path / "a.npz", tmp_path / "b.npz", mapping, ignore=["old/w"])
    assert [(r.a, r.b, r.status) for r in found.rows] == [
        (("enc/fc/w",), ("trunk/kernel",), "equal"),
        (("enc/fc/b",), ("trunk/bias",), "changed"),
        ((), ("new/w",), "left out"),
        (("old/w",), (), "left out"),
    ]
    assert found.rows[1].values.largest == pytest.approx(1, abs=1e-6)
    del mapping["new"]
    found = tp.diff(tmp_path / "a.npz", tmp_path / "b.npz", mapping)
    assert [r.status for r in found.rows[2:]] == ["only in B", "only in A"]


def test_a_rule_that_finds_part_of_what_it_claims(tmp_path):
    np.savez(tmp_path / "a.npz", **{"x/d/w": np.ones(2)})
    np.savez(tmp_path / "b.npz", **{"d/w": np.ones(2), "d/v": np.ones(2)})
    found = tp.diff(tmp_path / "a.npz", tmp_path / "b.npz", {"all": {"to": "(.*)", "from": r"x/\1"}})
    assert {r.name: r.status for r in found.rows} == {"d/w": "equal", "d/v": "only in B"}
    with pytest.raises(tp.RecipeError, match="no layer 'y/d'"):
        tp.diff(tmp_path / "a.npz", tmp_path / "b.npz", {"all": {"to": "(.*)", "from": r"y/\1"}})


def torch_values():
    """Return torch's names and axes of what `build` has, with what Keras calls the same."""
    theirs, ours = {}, values_of(build())
    theirs["conv.weight"] = ours["conv/kernel"].transpose(3, 2, 0, 1).copy()
    theirs["conv.bias"] = ours["conv/bias"]
    names = (("weight", "gamma"), ("bias", "beta"), ("running_mean", "moving_mean"), ("running_var", "moving_variance"))
    theirs |= {f"norm.{name}": ours[f"norm/{own}"] for name, own in names}
    theirs |= {"head.weight": ours["head/kernel"].T.copy(), "head.bias": ours["head/bias"]}
    return theirs


def test_torch_and_keras_by_name_both_ways(tmp_path, files):
    theirs = torch_values()
    theirs["head.weight"][2, 3] += 1  # (out, in)
    save_file(theirs, tmp_path / "t.safetensors", metadata={"format": "pt"})
    found = tp.diff(tmp_path / "t.safetensors", files / "m.keras")
    changed = [r for r in found.rows if r.status != "equal"]
    assert [(r.a, r.b, r.values.index) for r in changed] == [(("head/weight",), ("head/kernel",), (3, 2))]
    assert changed[0].values.after - changed[0].values.before == pytest.approx(-1)
    found = tp.diff(files / "m.keras", tmp_path / "t.safetensors")
    changed = [r for r in found.rows if r.status != "equal"]
    assert [(r.a, r.b, r.values.index) for r in changed] == [(("head/kernel",), ("head/weight",), (3, 2))]
    assert changed[0].values.after - changed[0].values.before == pytest.approx(1)
    assert tp.diff(tmp_path / "t.safetensors", tmp_path / "t.safetensors")


def test_torch_through_rules(tmp_path, files):
    theirs = {f"net.{name.replace('conv', 'c1')}": value for name, value in torch_values().items()}
    save_file(theirs, tmp_path / "t.safetensors", metadata={"format": "pt"})
    mapping = {"conv": {"to": "conv", "from": "net/c1"}, "rest": {"to": "(norm|head)", "from": r"net/\1"}}
    assert tp.diff(tmp_path / "t.safetensors", files / "m.keras", mapping)


@pytest.mark.parametrize("mapping", [{"all": {"to": "(conv|norm|head)", "from": r"net/\1"}}, {"all": {"to": "(.*)"}}])
def test_the_rules_of_one_direction_serve_in_both_orders(mapping, tmp_path, files):
    """They lead from the file of torch to the model, whichever comes first; a difference is that from A to B."""
    before = "net." if "net" in mapping["all"].get("from", "") else ""
    theirs = {f"{before}{name}": value.copy() for name, value in torch_values().items()}
    theirs[f"{before}head.weight"][2, 3] += 1
    save_file(theirs, tmp_path / "t.safetensors", metadata={"format": "pt"})
    sides = tmp_path / "t.safetensors", files / "m.keras"
    for a, b, sign in ((*sides, -1), (*sides[::-1], 1)):
        found = tp.diff(a, b, mapping)
        (changed,) = (r for r in found.rows if r.status != "equal")
        assert len(found.rows) == len(theirs)
        assert changed.values.after - changed.values.before == pytest.approx(sign)


def test_rules_that_lead_from_b_to_a_say_so(tmp_path):
    np.savez(tmp_path / "a.npz", **{"x/d/w": np.ones(2)})
    np.savez(tmp_path / "b.npz", **{"d/w": np.ones(2)})
    found = tp.diff(tmp_path / "a.npz", tmp_path / "b.npz", {"all": {"to": "x/(.*)", "from": r"\1"}})
    assert [(r.a, r.b, r.status) for r in found.rows] == [(("x/d/w",), ("d/w",), "equal")]
    assert "paired by the mapping (which leads from B to A)" in " ".join(str(found).split())
    with pytest.raises(tp.RecipeError, match=r"'y' matches nothing in .*b\.npz"):
        tp.diff(tmp_path / "a.npz", tmp_path / "b.npz", {"all": {"to": "y"}})


def test_an_onnx_file_and_a_model_by_name_and_through_rules(tmp_path, files):
    pytest.importorskip("onnx")
    from onnx.helper import make_node
    from onnx_models import write_onnx

    ours = values_of(build())
    for prefix, mapping in (("", None), ("net.", {"all": {"to": "(conv|norm|head)", "from": r"net/\1"}})):
        names = [f"{prefix}conv.weight", f"{prefix}conv.bias", *(f"{prefix}norm.{n}" for n in ("weight", "bias"))]
        names += [f"{prefix}norm.{n}" for n in ("running_mean", "running_var")]
        norm = [ours[f"norm/{n}"] for n in ("gamma", "beta", "moving_mean", "moving_variance")]
        values = [ours["conv/kernel"].transpose(3, 2, 0, 1), ours["conv/bias"], *norm]
        tensors = dict(zip(names, values, strict=True))
        tensors |= {f"{prefix}head.weight": ours["head/kernel"], f"{prefix}head.bias": ours["head/bias"]}
        nodes = [
            make_node("Conv", ["x", *names[:2]], ["c"], pads=[1, 1, 1, 1]),
            make_node("BatchNormalization", ["c", *names[2:]], ["n"], epsilon=1e-3),
            make_node("GlobalAveragePool", ["n"], ["p"]),
            make_node("Flatten", ["p"], ["f"]),
            make_node("MatMul", ["f", f"{prefix}head.weight"], ["m"]),  # (in, out), as an exporter folds it
            make_node("Add", ["m", f"{prefix}head.bias"], ["y"]),
        ]
        path = write_onnx(tmp_path, nodes, tensors, (1, 3, 8, 8), 2)
        for sides in ((path, files / "m.keras"), (files / "m.keras", path)):
            found = tp.diff(*sides, mapping)
            assert (found.equal, len(found.rows)) == (True, len(ours)), found


def test_a_file_of_pytorch(tmp_path, files):
    torch = pytest.importorskip("torch")
    torch.save({"state_dict": {k: torch.from_numpy(v) for k, v in torch_values().items()}}, tmp_path / "t.pt")
    assert tp.diff(tmp_path / "t.pt", files / "m.keras")


def test_flax_and_keras_by_name(tmp_path, files):
    theirs = {name.replace("norm/gamma", "norm/scale"): value for name, value in values_of(build()).items()}
    theirs = {
        name.replace("beta", "bias").replace("moving_mean", "mean").replace("moving_variance", "var"): value
        for name, value in theirs.items()
    }
    np.savez(tmp_path / "f.npz", **theirs)
    a = {"path": tmp_path / "f.npz", "layout": "flax"}
    assert tp.diff(a, files / "m.keras")


def test_a_file_that_changes_while_it_is_compared(tmp_path, monkeypatch):
    from transferpipe.values import stored

    save_file({"d/w": np.ones((600, 1000), "float32"), "e/w": np.ones(3, "float32")}, tmp_path / "a.safetensors")
    read, calls = stored.read_into, []

    def read_and_touch(*arguments):
        calls.append(read(*arguments))
        (tmp_path / "a.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes() + b" ")

    monkeypatch.setattr(stored, "read_into", read_and_touch)
    with pytest.raises(tp.FileError, match="changed"):
        tp.diff(tmp_path / "a.safetensors", tmp_path / "a.safetensors")


def test_a_damaged_archive_is_no_difference(tmp_path, files):
    from transferpipe.weights.formats import open_source

    place = open_source(files / "m.keras").locate("head/kernel")
    content = bytearray((files / "m.keras").read_bytes())
    content[place.offset + 3] ^= 16
    (tmp_path / "flipped.keras").write_bytes(content)
    with pytest.raises(tp.FileError, match="is damaged: its checksum"):
        tp.diff(files / "m.keras", tmp_path / "flipped.keras")


def test_a_compressed_and_chunked_file(tmp_path, files, model):
    with h5py.File(files / "m.weights.h5") as old, h5py.File(tmp_path / "c.weights.h5", "w") as new:
        for value in old.values():
            old.copy(value, new)
        for key, value in old.attrs.items():
            new.attrs[key] = value
        place = "layers/dense/vars/0"
        value, _ = new[place][:], new.pop(place)
        value[-1, -1] = 5
        new.create_dataset(place, data=value, chunks=(2, 2), compression="gzip")
    (changed,) = [r for r in tp.diff(files / "m.keras", tmp_path / "c.weights.h5").rows if r.status != "equal"]
    assert (changed.name, changed.values.index, changed.values.after) == ("head/kernel", (3, 4), 5)


def test_json_has_numbers_that_json_has_not_as_texts(tmp_path):
    for name, number in (("a", 1.0), ("b", np.inf)):
        save_file({"d/w": np.array([2, number], "float32")}, tmp_path / f"{name}.safetensors")
    data = json.loads(tp.diff(tmp_path / "a.safetensors", tmp_path / "b.safetensors").to_json())
    (weight,) = data["weights"]
    assert (data["equal"], data["counts"], weight["status"]) == (False, {"changed": 1}, "changed")
    assert (weight["values"]["after"], weight["values"]["index"]) == ("inf", [1])


def test_what_is_equal_is_one_line_a_run_of_layers(tmp_path):
    values = {f"block{i}/conv{j}/kernel": np.full(3, i * j, "float32") for i in range(1, 6) for j in range(1, 4)}
    np.savez(tmp_path / "a.npz", **values)
    values["block3/conv2/kernel"] = values["block3/conv2/kernel"] + 1
    np.savez(tmp_path / "b.npz", **values)
    lines = str(tp.diff(tmp_path / "a.npz", tmp_path / "b.npz")).splitlines()
    assert lines[-2:] == [
        "block{1,2,4,5}/conv{1..3}/*  12 weights in 12 layers",
        "block3/conv{1,3}/*           2 weights in 2 layers",
    ]
    assert sum("block" in line for line in lines) == 3
    whole = str(tp.diff(tmp_path / "a.npz", tmp_path / "a.npz"))
    assert "block{1..5}/conv{1..3}/*  15 weights in 15 layers" in whole


def test_neighbours_of_many_series_are_one_line(tmp_path):
    values = {
        f"{name}/kernel": np.full(3, k, "float32")
        for k, name in enumerate(["stem", "neck", "fpn", "roi", "head", "aux", "box", "mask"])
    }
    np.savez(tmp_path / "a.npz", **values)
    values["roi/kernel"] = values["roi/kernel"] + 1
    np.savez(tmp_path / "b.npz", **values)
    lines = str(tp.diff(tmp_path / "a.npz", tmp_path / "b.npz")).splitlines()
    assert lines[-2:] == ["stem ... fpn   3 weights in 3 layers", "head ... mask  4 weights in 4 layers"]


def test_what_is_equal_between_what_changed_is_a_line_a_series(tmp_path):
    values = {f"b{i}/{n}": np.full(3, i, "float32") for i in range(9) for n in ("conv/k", "conv/b", "norm/g", "norm/b")}
    np.savez(tmp_path / "a.npz", **values)
    np.savez(tmp_path / "b.npz", **{n: v + (n.startswith("b") and "conv" in n) for n, v in values.items()})
    assert str(tp.diff(tmp_path / "a.npz", tmp_path / "b.npz")).endswith(
        "\nequal\nb{0..8}/norm/*  18 weights in 9 layers"
    )


def test_many_changed_weights_are_a_line_a_layer_with_all_their_numbers(tmp_path):
    random = np.random.default_rng(0)
    one = {f"layer{i}/{n}": random.normal(size=(4, 4)) for i in range(60) for n in ("kernel", "recurrent_kernel")}
    other = {name: value + random.normal(size=(4, 4)) for name, value in one.items()}
    np.savez(tmp_path / "a.npz", **one)
    np.savez(tmp_path / "b.npz", **other)
    found = tp.diff(tmp_path / "a.npz", tmp_path / "b.npz")
    lines = [line.split() for line in diff_text(found, 160).splitlines() if line.startswith("layer")]
    assert len(lines) == 40 < len([line for line in diff_text(found, 160, every=True).splitlines() if "layer" in line])
    name = lines[0][0].partition("/")[0]
    own, apart = (
        np.concatenate([v[f"{name}/{n}"].ravel() for n in ("kernel", "recurrent_kernel")])
        for v in (one, {k: other[k] - one[k] for k in one})
    )
    norm, relative = np.linalg.norm(apart), np.linalg.norm(apart) / np.linalg.norm(own)
    assert lines[0][:4] == [f"{name}/*", "all", f"{norm:.4g}", f"{relative:.2g}"]
    assert "... and 20 more layers that changed less" in diff_text(found)


@pytest.mark.parametrize("width", [80, 120, 200])
def test_the_text_keeps_to_the_width(tmp_path, width):
    one = {f"encoder/stage{i}/block/attention/query/kernel": np.full((3, 4, 5), i, "float32") for i in range(5)}
    other = {name: value + np.float32(1e-3) for name, value in one.items()} | {"x/y": np.zeros((2, 2))}
    np.savez(tmp_path / "a.npz", **one)
    np.savez(tmp_path / "b.npz", **other)
    text = diff_text(tp.diff(tmp_path / "a.npz", tmp_path / "b.npz"), width)
    lines = text.splitlines()
    assert max(len(line) for line in lines if not line.startswith(("A  ", "B  "))) <= width, text
    assert all(f"encoder/stage{i}/block/attention/query/kernel" in text for i in range(5))


def test_what_is_left_is_paired_in_the_order_of_the_file():
    layers = [f"layer{k}" for k in (7, 3, 9, 1, 8, 2, 6, 4, 5, 0)]
    here = [WeightSpec(f"{name}/cell/kernel", (2, 3), "float32") for name in layers]
    there = [WeightSpec(f"{name}/inner/kernel", (2, 3), "float32") for name in layers]
    assert [a.target.split("/")[0] for a in pair_rest(here, there, "source", ("", ""))] == layers
