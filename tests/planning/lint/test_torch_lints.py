"""What torch's layout cannot settle by itself, and the plan warns of."""

import keras
import numpy as np
import pytest
import yaml
from keras import layers as kl
from safetensors.numpy import save_file

import transferpipe as tp


def save(tmp_path, tensors, metadata="pt"):
    save_file({k: np.zeros(s, "float32") for k, s in tensors.items()}, tmp_path / "m.safetensors", {"format": metadata})
    return str(tmp_path / "m.safetensors")


def warnings(plan):
    return {w.code: w.text for w in plan.warnings if w.code in ("flatten-order", "epsilon", "reset-after")}


def flat(*between, shape=(7, 6, 5), nested=False):
    layers = [kl.Flatten(name="flat"), *between, kl.Dense(3, name="fc")]
    if nested:
        return keras.Sequential([keras.Input(shape), keras.Sequential(layers, name="head")])
    x = start = keras.Input(shape)
    for layer in layers:
        x = layer(x)
    return keras.Model(start, x)


def plan_flat(tmp_path, model, **rule):
    size = int(np.prod(model.input_shape[1:]))
    source = save(tmp_path, {"fc.weight": (3, size), "fc.bias": (3,)})
    return tp.plan(source, model, mapping={"r": {"to": "(?:.*/)?fc", "from": "fc", **rule}})


@pytest.mark.parametrize("as_file", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_a_dense_behind_a_flatten(nested, as_file, tmp_path):
    model = flat(kl.Dropout(0.1), nested=nested)
    if as_file:
        model.save(tmp_path / "t.keras")
        found = tp.plan(
            save(tmp_path, {"fc.weight": (3, 210), "fc.bias": (3,)}),
            str(tmp_path / "t.keras"),
            mapping={"r": {"to": "(?:.*/)?fc", "from": "fc"}},
        )
    else:
        found = plan_flat(tmp_path, model)
    assert warnings(found) == {
        "flatten-order": (
            f"{'head/' * nested}fc follows a Flatten of a map [7, 6, 5], which torch flattens in another order: "
            "give its rule the transform {kernel: [{flatten_order: [5, 7, 6]}]}"
        )
    }


def test_the_transform_of_the_warning_settles_it(tmp_path):
    rule = {"transform": {"kernel": [{"flatten_order": [5, 7, 6]}]}}
    assert warnings(plan_flat(tmp_path, flat(), **rule)) == {}


@pytest.mark.parametrize("shape", [(1, 1, 5), (7, 6, 1), (8,)])
def test_maps_whose_order_does_not_matter(shape, tmp_path):
    assert warnings(plan_flat(tmp_path, flat(shape=shape))) == {}


def test_a_map_that_was_permuted_on_purpose(tmp_path):
    x = start = keras.Input((7, 6, 5))
    x = kl.Dense(3, name="fc")(kl.Flatten()(kl.Permute((3, 1, 2))(x)))
    assert warnings(plan_flat(tmp_path, keras.Model(start, x))) == {}


def test_another_layer_between(tmp_path):
    model = flat(kl.Dense(210, name="between"))
    rules = {"r": {"to": "fc"}}
    source = save(tmp_path, {"fc.weight": (3, 210), "fc.bias": (3,)})
    assert warnings(tp.plan(source, model, mapping=rules, unmatched="keep")) == {}


def norms(**keys):
    return keras.Sequential([keras.Input((4,)), *(kl.BatchNormalization(name=f"bn{i}", **keys) for i in range(5))])


NORMS = {f"bn{i}.{n}": (4,) for i in range(5) for n in ("weight", "bias", "running_mean", "running_var")}


def test_one_warning_of_epsilon(tmp_path):
    assert warnings(tp.plan(save(tmp_path, NORMS), norms(), unmatched="same_name")) == {
        "epsilon": (
            "bn0, bn1, bn2 and 2 more: epsilon is 0.001, Keras's default, and torch's default is 1e-05; weights do not "
            "carry it: check the original's configuration (eps), and build the target with its value"
        )
    }


@pytest.mark.parametrize("epsilon", [1e-5, 1e-12, 1e-6])
def test_no_warning_where_it_is_torchs_or_was_chosen(epsilon, tmp_path):
    assert warnings(tp.plan(save(tmp_path, NORMS), norms(epsilon=epsilon), unmatched="same_name")) == {}


def test_no_warnings_of_keras_weights(tmp_path):
    norms().save_weights(tmp_path / "a.weights.h5")
    assert warnings(tp.plan(str(tmp_path / "a.weights.h5"), norms(), unmatched="same_name")) == {}


def test_a_gru_that_resets_before(tmp_path):
    model = keras.Sequential([keras.Input((3, 4)), kl.GRU(2, reset_after=False, use_bias=False, name="g")])
    source = save(tmp_path, {"g.weight_ih_l0": (6, 4), "g.weight_hh_l0": (6, 2)})
    assert list(warnings(tp.plan(source, model, unmatched="same_name"))) == ["reset-after"]


def test_a_model_before_the_head(tmp_path):
    trunk = keras.Sequential([keras.Input((7, 6, 5)), kl.ReLU(), kl.Flatten()], name="trunk")
    model = keras.Sequential([keras.Input((7, 6, 5)), trunk, kl.Dropout(0.1), kl.Dense(3, name="fc")])
    assert list(warnings(plan_flat(tmp_path, model))) == ["flatten-order"]


def test_an_order_of_other_sizes_does_not_settle_it(tmp_path):
    rule = {"transform": {"kernel": [{"flatten_order": [7, 6, 5]}]}}
    (text,) = warnings(plan_flat(tmp_path, flat(), **rule)).values()
    assert (
        "in another order, and not in that of flatten_order(7, 6, 5): give its rule the transform {kernel: [{" in text
    )


@pytest.mark.parametrize("step", [{"reshape": [210, 3]}, {"take": {"axis": 0, "indices": list(range(210))}}])
def test_whoever_arranges_the_rows_by_hand_is_believed(step, tmp_path):
    assert warnings(plan_flat(tmp_path, flat(), transform={"kernel": [step]})) == {}


def test_other_transforms_do_not_settle_it(tmp_path):
    assert list(warnings(plan_flat(tmp_path, flat(), transform={"kernel": [{"scale": 2}]}))) == ["flatten-order"]


def test_without_a_rule(tmp_path):
    source = save(tmp_path, {"fc.weight": (3, 210), "fc.bias": (3,)})
    (warning,) = tp.plan(source, flat(), unmatched="same_name").warnings
    assert (warning.code, warning.where) == ("flatten-order", "unmatched")


def test_a_normalization_of_the_row(tmp_path):
    model = keras.Sequential([keras.Input((3, 2, 4)), kl.Flatten(), kl.BatchNormalization(name="bn", epsilon=1e-5)])
    names = ("weight", "bias", "running_mean", "running_var")
    source = save(tmp_path, {f"bn.{n}": (24,) for n in names})
    rule = {"r": {"to": "bn"}}
    assert list(warnings(tp.plan(source, model, mapping=rule))) == ["flatten-order"]
    rule["r"]["transform"] = [{"flatten_order": [4, 3, 2]}]
    assert warnings(tp.plan(source, model, mapping=rule)) == {}


def test_all_weights_of_a_layer_in_one_line(tmp_path):
    model = keras.Sequential([keras.Input((3, 2, 4)), kl.Flatten(), kl.LayerNormalization(name="ln", epsilon=1e-5)])
    source = save(tmp_path, {"ln.weight": (24,), "ln.bias": (24,)})
    text = warnings(tp.plan(source, model, mapping={"r": {"to": "ln"}}))["flatten-order"]
    assert text.endswith("the transform {gamma: [{flatten_order: [4, 3, 2]}], beta: [{flatten_order: [4, 3, 2]}]}")


def decoder(*between):
    """Return a model whose Dense gives what becomes a map, as those of autoencoders do."""
    parts = [kl.Dense(24, name="fc"), *between, kl.Reshape((3, 2, 4), name="map"), kl.Conv2D(2, 1, name="c")]
    return keras.Sequential([keras.Input((5,)), *parts])


def decode_as_torch(tensors, x):
    """Compute what torch does with ``conv(fc(x).view(-1, 4, 3, 2))``, with the channels last."""
    row = x @ tensors["fc.weight"].T + tensors["fc.bias"]
    maps = row.reshape(-1, 4, 3, 2)
    return np.einsum("nchw,oc->nhwo", maps, tensors["c.weight"][:, :, 0, 0]) + tensors["c.bias"]


def test_a_row_that_becomes_a_map(tmp_path):
    rng = np.random.default_rng(0)
    shapes = {"fc.weight": (24, 5), "fc.bias": (24,), "c.weight": (2, 4, 1, 1), "c.bias": (2,)}
    tensors = {k: rng.normal(size=s).astype("float32") for k, s in shapes.items()}
    save_file(tensors, tmp_path / "d.safetensors", {"format": "pt"})
    model, x = decoder(), rng.normal(size=(3, 5)).astype("float32")
    plain = {"fc": {"to": "fc"}, "c": {"to": "c"}}
    with pytest.warns(tp.TransferWarning, match="fc gives the row that map makes a map"):
        report = tp.transfer(str(tmp_path / "d.safetensors"), model, mapping=plain)
    (text,) = [w.text for w in report.warnings]
    assert not np.allclose(model(x), decode_as_torch(tensors, x), atol=1e-4)
    steps = yaml.safe_load(text.partition("the transform ")[2])
    tp.transfer(str(tmp_path / "d.safetensors"), model, mapping={**plain, "fc": {"to": "fc", "transform": steps}})
    np.testing.assert_allclose(model(x), decode_as_torch(tensors, x), atol=1e-5)


def test_a_normalization_between_a_dense_and_its_map(tmp_path):
    names = ("weight", "bias", "running_mean", "running_var")
    shapes = {"fc.weight": (24, 5), "fc.bias": (24,), "c.weight": (2, 4, 1, 1), "c.bias": (2,)}
    source = save(tmp_path, {**shapes, **{f"bn.{n}": (24,) for n in names}})
    model = decoder(kl.BatchNormalization(name="bn", epsilon=1e-5), kl.ReLU())
    found = tp.plan(source, model, mapping={"all": {"to": ".*"}}).warnings
    assert [w.code for w in found] == ["flatten-order"]
    assert "bn gives the row" in found[0].text
    assert "fc gives the row" in found[0].text


def test_a_row_that_no_convolution_sees(tmp_path):
    source = save(tmp_path, {"fc.weight": (24, 5), "fc.bias": (24,)})
    model = keras.Sequential([keras.Input((5,)), kl.Dense(24, name="fc"), kl.Reshape((6, 4))])
    assert warnings(tp.plan(source, model, mapping={"r": {"to": "fc"}})) == {}


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (kl.LSTM(2, name="r"), ""),
        (kl.LSTM(2, activation="relu", name="r"), "activation is relu, and torch's has tanh"),
        (kl.LSTM(2, recurrent_activation="hard_sigmoid", name="r"), "and torch's has sigmoid"),
        (kl.GRU(2, activation="elu", name="r"), "activation is elu"),
        (kl.SimpleRNN(2, activation="relu", name="r"), ""),
        (kl.SimpleRNN(2, activation="gelu", name="r"), "torch's has tanh or relu"),
    ],
)
def test_activations_that_torchs_recurrent_layers_do_not_have(layer, says, tmp_path):
    gates = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}[type(layer).__name__] * 2
    shapes = {"weight_ih_l0": (gates, 4), "weight_hh_l0": (gates, 2), "bias_ih_l0": (gates,), "bias_hh_l0": (gates,)}
    source = save(tmp_path, {f"r.{n}": s for n, s in shapes.items()})
    plan = tp.plan(source, keras.Sequential([keras.Input((3, 4)), layer]), mapping={"r": {"to": "r"}})
    assert [w.code for w in plan.warnings] == ["settings-differ"] * bool(says)
    assert all(says in w.text for w in plan.warnings)


@pytest.mark.parametrize(("name", "found"), [("w", ["square-kernel"]), ("w.weight", []), ("to_out.weight", [])])
def test_a_square_parameter_of_no_module(name, found, tmp_path):
    rng = np.random.default_rng(0)
    tensors = {"a.weight": rng.normal(size=(4, 4)).astype("float32"), name: rng.normal(size=(4, 4)).astype("float32")}
    save_file(tensors, tmp_path / "m.safetensors", {"format": "pt"})
    layers = [kl.Dense(4, use_bias=False, name=n) for n in ("a", "w")]
    model = keras.Sequential([keras.Input((4,)), *layers])
    mapping = {"a": {"to": "a"}, "w": {"to": "w/kernel", "from": name.replace(".", "/")}}
    plan = tp.plan(str(tmp_path / "m.safetensors"), model, mapping=mapping)
    assert [w.code for w in plan.warnings] == found
    if found:  # what the warning says leads to `x @ w`
        assert plan.warnings[0].text.endswith("set `layout: keras` for its rule")
        mapping["w"]["layout"] = "keras"
        report = tp.transfer(str(tmp_path / "m.safetensors"), model, mapping=mapping)
        np.testing.assert_array_equal(layers[1].kernel, tensors["w"])
        assert report.warnings == ()


def written(*layers, shape=(3, 2, 4)):
    model = keras.Sequential([keras.Input(shape), *layers])
    plan = tp.plan(None, model, unmatched="keep", save={"path": "m.npz", "layout": "torch"})
    return {w.code: w.text for w in plan.warnings if w.where == "save.layout"}


@pytest.mark.filterwarnings("ignore::transferpipe.TransferWarning")
@pytest.mark.parametrize("steps", [[], [{"transpose": [1, 2, 0]}]])
def test_a_normalization_of_maps_with_axes_of_one_length(steps, tmp_path):
    torch = pytest.importorskip("torch")
    norm = torch.nn.LayerNorm([4, 4, 4])
    rng = np.random.default_rng(0)
    norm.load_state_dict({n: torch.from_numpy(rng.normal(size=(4, 4, 4)).astype("f4")) for n in ("weight", "bias")})
    torch.save({f"n.{name}": value for name, value in norm.state_dict().items()}, tmp_path / "m.pt")
    model = keras.Sequential([keras.Input((4, 4, 4)), kl.LayerNormalization([1, 2, 3], epsilon=1e-5, name="n")])
    mapping = {"n": {"to": "n", "transform": {"gamma": steps, "beta": steps}}}
    report = tp.transfer({"path": str(tmp_path / "m.pt"), "layout": "torch"}, model, mapping=mapping)
    x = rng.normal(size=(2, 4, 4, 4)).astype("f4")
    expected = np.moveaxis(norm(torch.from_numpy(x)).detach().numpy(), 1, -1)
    assert np.allclose(model(np.moveaxis(x, 1, -1)), expected, atol=1e-4) == bool(steps)
    assert [w.code for w in report.plan.warnings] == ([] if steps else ["square-kernel"])


def test_rows_that_are_written_in_the_order_of_keras():
    assert written(kl.Flatten(), kl.Dense(2, name="fc")) == {
        "flatten-order": (
            "fc/kernel is written with its rows in the order in which Keras flattens a map [3, 2, 4]: "
            "torch's Flatten has the channels first"
        )
    }


def test_an_epsilon_that_is_not_written():
    found = written(kl.BatchNormalization(name="bn"))
    assert list(found) == ["epsilon"]
    assert found["epsilon"].endswith("weights do not carry it: build the modules with the target's")


@pytest.mark.parametrize("lacks", ["scale", "center"])
def test_a_normalization_that_torch_has_only_whole(lacks):
    found = written(kl.BatchNormalization(name="bn", epsilon=1e-5, **{lacks: False}))
    assert found == {
        "half-affine": (
            "bn: torch's has weight and bias, or neither; what lacks is not written, so load it with strict=False"
        )
    }


def test_what_torch_has_just_so():
    layers = kl.BatchNormalization(scale=False, center=False, epsilon=1e-5), kl.LayerNormalization(epsilon=1e-5)
    assert written(*layers, kl.GlobalAveragePooling2D(), kl.Dense(2)) == {}
