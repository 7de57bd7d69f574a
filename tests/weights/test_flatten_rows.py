"""Which layers see a flattened map: found in the configurations of real models, built and saved, and in broken ones."""

import json
import warnings

import keras
import pytest
from keras import layers as kl

from transferpipe.models.target import FileTarget, ModelTarget
from transferpipe.weights.flatten_rows import rows_before
from transferpipe.weights.formats import open_source
from transferpipe.weights.keras.network import keras_network


def seen(model, tmp_path):
    """Return the maps by the names of the layers that have weights, the same from the model and from its file."""
    path = tmp_path / "m.keras"
    model.save(path)
    found = []
    for target in (ModelTarget(model, "m"), FileTarget(open_source(path))):
        catalog = target.structure.catalog
        weighted, rows = {w.layer for w in catalog}, rows_before(catalog.network)
        found.append({n: maps(row) for n, row in rows.items() if n in weighted and maps(row)})
    assert found[0] == found[1]
    return found[0]


def maps(row):
    """Return the sizes of the parts of a row that torch would have in another order; of one part, these alone."""
    sizes = [part.sizes for part in row.parts]
    if not any(part.is_map and not part.is_first for part in row.parts):
        return None
    return sizes[0] if len(sizes) == 1 else sizes


def functional(*layers, shape=(5, 4, 3)):
    x = inputs = keras.Input(shape)
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x)


def dense(name="d", units=2):
    return kl.Dense(units, name=name)


@pytest.mark.parametrize(
    "layers",
    [
        [],
        [kl.Dropout(0.5)],
        [kl.Activation("relu"), kl.LeakyReLU()],
        [kl.Reshape((60,)), kl.Flatten()],
    ],
    ids=["at once", "dropout", "activations", "reshape"],
)
@pytest.mark.parametrize("make", [functional, lambda *x: keras.Sequential([keras.Input((5, 4, 3)), *x])])
def test_a_dense_layer_sees_the_map_that_was_flattened(make, layers, tmp_path):
    assert seen(make(kl.Flatten(), *layers, dense()), tmp_path) == {"d": (5, 4, 3)}


def test_only_the_first_dense_layer_sees_it(tmp_path):
    assert seen(functional(kl.Flatten(), dense("a"), dense("b")), tmp_path) == {"a": (5, 4, 3)}


def test_normalizations_on_the_way_see_it_too(tmp_path):
    model = functional(kl.Flatten(), kl.BatchNormalization(name="bn"), kl.PReLU(name="p"), dense())
    assert seen(model, tmp_path) == dict.fromkeys(["bn", "p", "d"], (5, 4, 3))


def test_a_reshape_to_one_axis_flattens(tmp_path):
    assert seen(functional(kl.Reshape((-1,)), dense()), tmp_path) == {"d": (5, 4, 3)}


@pytest.mark.parametrize("rank", [1, 3])
def test_maps_of_other_ranks(rank, tmp_path):
    shape = (4,) * rank + (2,)
    assert seen(functional(kl.Flatten(), dense(), shape=shape), tmp_path) == {"d": shape}


@pytest.mark.parametrize(
    "layers",
    [
        [kl.GlobalAveragePooling2D()],
        [kl.GlobalAveragePooling2D(), kl.Flatten()],
        [kl.Conv2D(1, 1), kl.Flatten()],
        [kl.Conv2D(3, (5, 4)), kl.Flatten()],
        [kl.Permute((2, 1, 3)), kl.Flatten()],
        [kl.Permute((3, 1, 2)), kl.ReLU(), kl.Flatten()],
    ],
    ids=["pooled", "pooled to one place", "one channel", "one place", "permuted", "permuted before"],
)
def test_where_the_order_is_the_same_or_not_known(layers, tmp_path):
    assert "d" not in seen(functional(*layers, dense()), tmp_path)


def test_channels_first_maps_are_as_in_torch(tmp_path):
    layers = [kl.Permute((3, 1, 2)), kl.MaxPooling2D(2, data_format="channels_first"), kl.ReLU(), kl.Flatten()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert seen(functional(*layers, dense()), tmp_path) == {}


def test_a_flatten_that_puts_the_channels_last_itself(tmp_path):
    layers = [kl.Permute((3, 1, 2)), kl.Flatten(data_format="channels_first")]
    assert seen(functional(*layers, dense()), tmp_path) == {"d": (5, 4, 3)}


def test_nested_models(tmp_path):
    trunk = keras.Sequential([keras.Input((5, 4, 3)), kl.ReLU(), kl.Flatten()], name="trunk")
    head = functional(kl.Dropout(0.1), dense("d"), shape=(60,))
    assert seen(functional(trunk, head), tmp_path) == {f"{head.name}/d": (5, 4, 3)}


def test_rows_that_are_joined(tmp_path):
    inputs = keras.Input((5, 4, 3))
    joined = kl.Concatenate()([kl.Flatten()(inputs), kl.GlobalMaxPooling2D()(inputs)])
    assert seen(keras.Model(inputs, dense()(joined)), tmp_path) == {"d": [(5, 4, 3), (3,)]}


def test_rows_that_are_added(tmp_path):
    inputs = keras.Input((5, 4, 3))
    added = kl.Add()([kl.Flatten()(inputs), kl.Flatten()(kl.ReLU()(inputs))])
    assert seen(keras.Model(inputs, dense()(added)), tmp_path) == {"d": (5, 4, 3)}


def cut(data, path):
    """Return `data` with nothing in the place of what lies at `path`."""
    if not path:
        return None
    key, rest = path[0], path[1:]
    items = dict(enumerate(data)) if isinstance(data, list) else dict(data)
    items[key] = cut(items[key], rest)
    return list(items.values()) if isinstance(data, list) else items


def places(data, path=()):
    yield path
    for key, value in enumerate(data) if isinstance(data, list) else data.items() if isinstance(data, dict) else ():
        yield from places(value, (*path, key))


def test_damaged_configurations_tell_less_but_do_no_harm():
    model = functional(kl.Permute((2, 1, 3)), kl.Flatten(), keras.Sequential([dense()]), kl.Reshape((2,)))
    config = json.loads(model.to_json())
    for path in places(config):
        rows_before(keras_network(cut(config, path), {}))


def test_a_configuration_nested_without_end_stops():
    config = {"class_name": "Dense", "config": {"name": "d"}}
    for _ in range(5000):
        config = {"class_name": "Sequential", "config": {"layers": [config]}}
    assert rows_before(keras_network(config, {})) == {}
