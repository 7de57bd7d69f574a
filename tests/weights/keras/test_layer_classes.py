"""What Keras calls layers and weights, known without Keras."""

import pytest

from transferpipe.weights.keras.layer_classes import (
    BUILT_IN,
    can_hold,
    class_label,
    counter,
    is_made_up,
    part_class,
    part_name,
    snake_case,
    stem,
    weight_names,
)

V = (8,)


@pytest.mark.parametrize(
    ("name", "snake"),
    [
        ("Conv2D", "conv2d"),
        ("Conv2DTranspose", "conv2d_transpose"),
        ("GRU", "gru"),
        ("SimpleRNN", "simple_rnn"),
        ("PReLU", "p_re_lu"),
        ("StackedRNNCells", "stacked_rnn_cells"),
        ("My_Block2X", "my__block2x"),
    ],
)
def test_snake_case_is_the_stem_of_made_up_names(name, snake):
    assert snake_case(name) == snake


@pytest.mark.parametrize(
    ("segment", "base", "count"), [("dense", "dense", 0), ("a_12", "a", 12), ("conv2d", "conv2d", 0)]
)
def test_stem_and_counter(segment, base, count):
    assert (stem(segment), counter(segment)) == (base, count)


def test_made_up_names_are_those_of_built_in_classes():
    assert all(is_made_up(name) for name in ("dense", "conv2d_7", "p_re_lu_1", "grouped_query_attention"))
    assert not any(is_made_up(name) for name in ("layer_1", "head", "dense_a", "conv2d_7x", "my_block_1"))
    assert BUILT_IN["lstm_cell"] == "LSTMCell"


@pytest.mark.parametrize(
    ("layer_class", "config", "count", "names"),
    [
        ("Dense", None, 1, "kernel"),
        ("LSTMCell", None, 3, "kernel recurrent_kernel bias"),
        ("SeparableConv2D", None, 2, "depthwise_kernel pointwise_kernel"),
        ("BatchNormalization", None, 4, "gamma beta moving_mean moving_variance"),
        ("BatchNormalization", None, 2, "moving_mean moving_variance"),
        ("BatchNormalization", {}, 2, "moving_mean moving_variance"),
        ("BatchNormalization", None, 5, "moving_mean moving_variance moving_stddev renorm_mean renorm_stddev"),
        ("BatchNormalization", {"scale": False}, 3, "beta moving_mean moving_variance"),
        ("BatchNormalization", {"center": False}, 3, "gamma moving_mean moving_variance"),
        (
            "BatchNormalization",
            {"scale": True, "center": True, "renorm": False},
            4,
            "gamma beta moving_mean moving_variance",
        ),
        ("LayerNormalization", None, 2, "gamma beta"),
        ("LayerNormalization", {"rms_scaling": True, "center": True, "scale": True}, 1, "gamma"),
        ("LayerNormalization", {"center": False}, 1, "gamma"),
        ("GroupNormalization", {"scale": False}, 1, "beta"),
        ("RMSNormalization", None, 1, "scale"),
        ("Normalization", None, 3, "mean variance count"),
    ],
)
def test_numbered_weights_get_their_names(layer_class, config, count, names):
    shapes = [(8, 8), V] if layer_class == "Dense" else [V] * count
    assert weight_names(layer_class, config, shapes[:count]) == tuple(names.split())


@pytest.mark.parametrize(
    ("layer_class", "config", "shapes"),
    [
        ("BatchNormalization", None, [V] * 3),
        ("BatchNormalization", {}, [V] * 3),
        ("BatchNormalization", {"scale": False}, [V] * 4),  # another class of that name
        ("BatchNormalization", None, [V] * 6),
        ("LayerNormalization", None, [V]),
        ("Attention", None, [()]),
        ("Attention", None, [(4, 3), (3,)]),
        ("Dense", None, [(4, 3), (3,), (3,)]),
        ("Dense", None, [V, V]),
        ("Dense", None, []),
        ("Dropout", None, [V]),
        ("MyLayer", None, [V]),
        (None, None, [V]),
    ],
)
def test_where_names_cannot_be_known_there_are_none(layer_class, config, shapes):
    assert weight_names(layer_class, config, shapes) is None


def test_the_weights_of_attention_depend_on_two_switches():
    on, off = {"use_scale": True, "score_mode": "dot"}, {"use_scale": False, "score_mode": "concat"}
    assert weight_names("Attention", on, [()]) == ("scale",)
    assert weight_names("Attention", off, [()]) == ("concat_score_weight",)
    assert weight_names("Attention", None, [(), ()]) == ("scale", "concat_score_weight")


def test_a_layer_without_weights_can_hold_none():
    assert can_hold("Dropout", [])
    assert not can_hold("Dropout", [()])
    assert can_hold("BatchNormalization", [V] * 7)
    assert not can_hold("BatchNormalization", [V] * 8)


def test_parts_of_composite_layers_whatever_the_version_calls_the_attribute():
    assert part_class("MultiHeadAttention", "query_dense") == part_class("GroupedQueryAttention", "_query_dense")
    assert part_class("LSTM", "cell") == "LSTMCell"
    assert part_class("RNN", "cell") is part_class("LSTM", "other") is part_class(None, "cell") is None
    assert part_name("MultiHeadAttention", "_output_dense") == "attention_output"
    assert part_name("LSTM", "cell") is part_name(None, "query_dense") is None


@pytest.mark.parametrize(
    "module", ["keras.layers", "keras.src.layers.core.dense", "keras_hub.src.layers", "tf_keras.layers"]
)
def test_a_class_of_keras_goes_by_its_name(module):
    assert class_label("Dense", module) == "Dense"


def test_a_users_class_that_hides_a_built_in_one_goes_by_its_module_too():
    assert class_label("Dense", "mine.nets") == "mine.nets.Dense"
    assert class_label("Block", "mine.nets") == "Block"
    assert class_label("GroupQueryAttention", "keras.layers") == "GroupedQueryAttention"


def test_a_table_of_four_bits_in_groups_is_not_taken_for_two_tables():
    """Its zero points are whole numbers, as the values of a second table would be."""
    shapes, dtypes = [(7, 2), (7, 2), (7, 2), (4,)], ["int8", "float32", "int8", "float32"]
    expected = ("embeddings", "embeddings_scale", "embeddings_zero", "g_idx")
    assert weight_names("ReversibleEmbedding", {}, shapes, dtypes) == expected
    shapes = [(7, 4), (7,), (4, 7), (7,)]
    assert weight_names("ReversibleEmbedding", {}, shapes, dtypes)[2:] == (
        "reverse_embeddings",
        "reverse_embeddings_scale",
    )
