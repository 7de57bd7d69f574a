"""Finding saved layers in a model's configuration, by names or, in older files, by class and place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transferpipe.weights.keras.config import child_layers, is_layer_config, layer_class, layer_configs, layer_name


def layer(class_name, name=None, module="keras.layers", **config):
    return {"module": module, "class_name": class_name, "config": {**({"name": name} if name else {}), **config}}


def model(*layers, name="model"):
    return layer("Functional", name, layers=list(layers))


def found(root, names):
    """Return the names of the layers that are found for saved paths, given with the names noted in the file."""
    return {path: layer_name(config) for path, config in layer_configs(root, {"": None, **names}).items() if path}


def by_place(root, *paths):
    return found(root, dict.fromkeys(paths))


@pytest.mark.parametrize("data", [None, [], "Dense", {}, {"class_name": "Dense"}, {"class_name": "Dense", "config": 3}])
def test_what_is_no_layer(data):
    assert not is_layer_config(data)


def test_operations_are_no_layers():
    add = layer("Add", "add", module="keras.src.ops.numpy")
    assert [layer_name(c) for c in child_layers(model(layer("Add", "add_1"), add, "junk", None))] == ["add_1"]
    assert child_layers(layer("Dense")) == child_layers({"class_name": "X", "config": {"layers": "no list"}}) == []


def test_names_are_text_or_nothing():
    assert layer_name({"class_name": "X", "name": "outside", "config": {}}) == "outside"
    assert layer_name(layer("X", "inside")) == "inside"
    assert layer_name({"class_name": "X", "config": {"name": 3}}) is None


def test_classes():
    assert layer_class(layer("Dense")) == "Dense"
    assert layer_class({**layer("Dense", module=None), "registered_name": "mine>Dense"}) == "mine.Dense"
    assert layer_class({**layer("Block", module=None), "registered_name": "mine>Block"}) == "Block"
    assert layer_class(layer("Dense", module="nets")) == "nets.Dense"


def test_no_configuration_tells_nothing():
    assert layer_configs(None, {"": "model", "layers/dense": "dense"}) == {}


def test_layers_of_models_are_found_by_name():
    root = model(layer("Dense", "a"), model(layer("Dense", "a"), layer("Dense", "b"), name="inner"))
    names = {"layers/dense": "a", "layers/functional": "inner", "layers/functional/layers/dense": "b", "layers/x": "c"}
    assert found(root, names) == {p: n for p, n in names.items() if n != "c"}


def test_a_layer_in_an_unknown_one_is_not_found_even_if_the_name_occurs():
    assert found(model(layer("Dense", "a")), {"layers/x": "c", "layers/x/layers/dense": "a"}) == {}


def test_wrapped_layers():
    lstm, gru = layer("LSTM", "enc"), layer("GRU", "back")
    root = model(
        layer("TimeDistributed", "td", layer=layer("Dense", "inside")),
        layer("Bidirectional", "one", layer=lstm),
        layer("Bidirectional", "two", layer=lstm, backward_layer=gru),
        layer("RNN", "rnn", cell=layer("GRUCell", "given")),
    )
    names = {
        "layers/time_distributed": "td", "layers/time_distributed/layer": "inside",
        "layers/bidirectional": "one",
        "layers/bidirectional/forward_layer": "forward_enc", "layers/bidirectional/backward_layer": "backward_enc",
        "layers/bidirectional_1": "two", "layers/bidirectional_1/backward_layer": "backward_back",
        "layers/bidirectional_1/backward_layer/cell": "gru_cell",
        "layers/rnn": "rnn", "layers/rnn/cell": "given",
    }  # fmt: skip
    classes = {path: c["class_name"] for path, c in layer_configs(root, {"": None, **names}).items()}
    assert [classes[p] for p in names if p.endswith("layer")] == ["Dense", "LSTM", "LSTM", "GRU"]
    assert (classes["layers/bidirectional_1/backward_layer/cell"], classes["layers/rnn/cell"]) == ("GRUCell", "GRUCell")


def test_parts_that_have_no_configuration_have_a_class():
    root = model(layer("MultiHeadAttention", "att"), layer("LSTM", "lstm"))
    configs = layer_configs(
        root,
        {"": None, "layers/lstm": "lstm", "layers/lstm/cell": "lstm_cell", "layers/multi_head_attention": "att"}
        | {"layers/multi_head_attention/_output_dense": None},
    )
    assert configs["layers/lstm/cell"] == {"class_name": "LSTMCell", "name": None, "config": {}}
    assert layer_name(configs["layers/multi_head_attention/_output_dense"]) == "attention_output"


def test_what_a_users_layer_records_of_its_parts_is_found_by_name():
    root = model(layer("Block", "block", module="nets", parts={"first": [layer("Dense", "deep")]}))
    assert found(root, {"layers/block": "block", "layers/block/anything": "deep"})["layers/block/anything"] == "deep"


# Files that note no names ---------------------------------------------------------------------------------------------


def test_without_names_the_kth_of_a_class_is_the_kth_in_the_configuration():
    root = model(layer("Dense", "a"), layer("Conv2D", "c"), layer("Dense", "b"), layer("Block", "own", module="nets"))
    paths = {"layers/dense_1": "b", "layers/conv2d": "c", "layers/dense": "a", "layers/block": "own"}
    assert by_place(root, *paths) == paths


def test_more_than_ten_of_a_class_are_counted_not_sorted_by_letters():
    root = model(*(layer("Dense", f"n{k}") for k in range(12)))
    assert (
        by_place(root, *(f"layers/dense_{k}" if k else "layers/dense" for k in range(12)))["layers/dense_10"] == "n10"
    )


def test_a_layer_saved_elsewhere_leaves_a_gap():
    root = model(layer("Dense", "a"), layer("Dense", "b"), layer("Dense", "c"))
    assert by_place(root, "layers/dense_2", "layers/dense") == {"layers/dense": "a", "layers/dense_2": "c"}


def test_gaps_in_the_numbers_alone_do_not_matter():
    """Keras 2.13 counted layers with weights twice."""
    root = model(layer("Dense", "a"), layer("Dense", "b"))
    inner = "_layer_checkpoint_dependencies"
    assert by_place(root, f"{inner}/dense", f"{inner}/dense_2") == {f"{inner}/dense": "a", f"{inner}/dense_2": "b"}


def test_a_number_beyond_the_configuration_is_not_found():
    root = model(layer("Dense", "a"))
    assert by_place(root, "layers/dense_4", "layers/dense") == {"layers/dense": "a"}


def test_a_class_whose_name_ends_with_a_number():
    root = model(layer("Block_2", "x", module="nets"), layer("Block_2", "y", module="nets"))
    paths = {"layers/block_2": "x", "layers/block_2_1": "y"}
    assert by_place(root, *paths) == paths


def test_nested_models_and_lists_of_cells():
    cells = layer("StackedRNNCells", "pile", cells=[layer("LSTMCell", "lstm_cell"), layer("LSTMCell", "mine")])
    root = model(model(layer("Dense", "deep"), name="inner"), layer("RNN", "rnn", cell=cells))
    paths = {
        "layers/functional": "inner",
        "layers/functional/layers/dense": "deep",
        "layers/rnn": "rnn",
        "layers/rnn/cell": "pile",
        "layers/rnn/cell/cells/lstm_cell": "lstm_cell",
        "layers/rnn/cell/cells/lstm_cell_1": "mine",
    }
    assert by_place(root, *paths) == paths


@given(st.lists(st.sampled_from(["Dense", "Conv2D", "LSTM", "Block"]), max_size=25), st.randoms())
def test_places_are_counted_as_keras_counts_them(classes, random):
    layers = [layer(c, f"layer_{k}") for k, c in enumerate(classes)]
    snakes = {"Dense": "dense", "Conv2D": "conv2d", "LSTM": "lstm", "Block": "block"}
    paths, counts = {}, {}
    for c, config in zip(classes, layers, strict=True):
        k = counts[c] = counts.get(c, -1) + 1
        paths[f"layers/{snakes[c]}_{k}" if k else f"layers/{snakes[c]}"] = layer_name(config)
    shuffled = list(paths)
    random.shuffle(shuffled)
    assert by_place(model(*layers), *shuffled) == paths


def test_a_configuration_nested_very_deeply_is_searched_without_recursion():
    deep = {"class_name": "X", "config": {"name": "bottom"}}
    for _ in range(5000):
        deep = {"more": [deep]}
    assert found(layer("Block", "root", module="nets", **deep), {"a": "bottom"}) == {"a": "bottom"}
