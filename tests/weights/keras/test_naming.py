"""Readable names from the paths under which Keras saves layers. TensorFlow is not needed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transferpipe.errors import RecipeError
from transferpipe.weights.keras.layer_shapes import looks_built_in, looks_like_cell
from transferpipe.weights.keras.naming import SavedLayer, readable_names, refuse_namesakes

DENSE = ((4, 3), (3,))


def names(*layers):
    """Return the readable names of layers given as (path, name) or (path, name, shapes)."""
    return list(readable_names(SavedLayer(*layer) for layer in layers).values())


def test_a_layer_in_layers_goes_by_its_name_whether_made_up_or_given():
    assert names(("layers/dense_1", "head"), ("layers/dense", "dense_7")) == ["head", "dense_7"]


def test_the_root_has_no_name_and_gives_none():
    assert names(("", "model"), ("a", "dense", DENSE)) == ["", "a"]


def test_without_names_the_path_stands_but_for_layers():
    assert names(("layers/functional/layers/dense_1", None)) == ["functional/dense_1"]
    assert names(("_layer_checkpoint_dependencies/dense", None)) == ["dense"]


def test_a_layer_called_layers_keeps_its_name():
    assert names(("block", "block"), ("block/layers", "layers", DENSE)) == ["block", "block/layers"]
    inside = names(("block", "block"), ("block/layers", "dense"), ("block/layers/inner", "dense_1", DENSE))
    assert inside == ["block", "block/layers", "block/layers/inner"]


@pytest.mark.parametrize(
    ("name", "shapes", "readable"),
    [
        ("dense", DENSE, "stem"),
        ("dense_12", DENSE, "stem"),
        ("entry", DENSE, "entry"),
        ("fc_1", DENSE, "fc_1"),
        ("Entry", ((2,),), "Entry"),  # Keras makes no capitals up
        ("block-1", ((2,),), "block-1"),
        ("my_scale", ((2,),), "stem"),
        ("my_scale", (), "stem"),
        ("my_scale", ((), ()), "stem"),
        ("tight", ((3, 3, 8, 16), (16,)), "tight"),
        ("norm_in", ((8,),) * 4, "norm_in"),
        ("table", ((100, 8),), "table"),
    ],
)
def test_in_an_attribute_a_given_name_wins(name, shapes, readable):
    assert names(("stem", name, shapes)) == [readable]


def test_a_composite_of_keras_in_an_attribute_goes_by_the_name_it_was_given():
    inner = ("net/layers/dense", "dense", DENSE)
    assert names(("net", "sequential_3"), inner) == ["net", "net/dense"]
    assert names(("net", "encoder"), inner) == ["encoder", "encoder/dense"]
    assert names(("gru", "memory"), ("gru/cell", "gru_cell")) == ["memory", "memory/cell"]
    heads = [(f"att/_{part}_dense", part, DENSE) for part in ("query", "key", "value", "output")]
    assert names(("att", "cross"), *heads)[:2] == ["cross", "cross/query"]


def test_a_composite_of_the_users_own_goes_by_the_attribute():
    assert names(("net", "encoder"), ("net/first", "dense", DENSE)) == ["net", "net/first"]


def test_the_two_directions_of_bidirectional():
    def both(name):
        return names(
            ("bi", "bidirectional"),
            ("bi/forward_layer", f"forward_{name}"),
            ("bi/forward_layer/cell", "lstm_cell"),
            ("bi/backward_layer", f"backward_{name}"),
            ("bi/backward_layer/cell", "lstm_cell"),
        )[1::2]

    assert both("lstm_4") == ["bi/forward_layer", "bi/backward_layer"]
    assert both("enc") == ["bi/forward_enc", "bi/backward_enc"]


def test_in_a_list_the_segment_tells_whether_the_name_was_made_up():
    assert names(("blocks/dense_1", "dense_8", DENSE)) == ["blocks/dense_1"]
    assert names(("blocks/dense_1", "tail", DENSE)) == ["blocks/tail"]
    assert names(("blocks/linear", "linear_3", DENSE)) == ["blocks/linear"]
    assert names(("blocks/linear", "dense", DENSE)) == ["blocks/dense"]
    assert names(("blocks/my_scale", "given", ((2,),))) == ["blocks/given"]


def test_a_class_seen_in_a_list_or_twice_is_a_class():
    linear = ("a", "linear", DENSE)
    assert names(linear) == ["linear"]
    assert names(linear, ("b", "linear_1", DENSE)) == ["a", "b"]
    assert names(linear, ("blocks/linear", "mine", DENSE)) == ["a", "blocks/mine"]
    assert names(linear, ("layers/linear", "mine", DENSE)) == ["a", "mine"]


def test_a_cell_of_the_users_own_goes_by_cell():
    rnn = ("rnn", "rnn_4")
    assert names(rnn, ("rnn/cell", "user_cell", ((8, 3), (3,)))) == ["rnn", "rnn/cell"]
    assert names(rnn, ("rnn/cell", "given", ((8, 12), (3, 12), (12,)))) == ["rnn", "rnn/given"]


def test_namesakes_are_refused_with_both_places():
    layers = {"a": "x", "layers/dense": "x", "b": "y", "layers/dropout": "y", "": ""}
    with pytest.raises(RecipeError) as refusal:
        refuse_namesakes(layers, ["a", "layers/dense", "b", ""], "m.keras")
    [problem] = refusal.value.problems
    assert str(problem) == (
        "m.keras: x: two layers have this name, one at a and one at layers/dense -> give the layers different names"
    )
    refuse_namesakes(layers, ["a", "b"], "m.keras")


def test_namesakes_are_refused_also_if_only_what_they_hold_has_weights():
    with pytest.raises(RecipeError, match=r"^x: two layers"):
        refuse_namesakes({"a": "x", "b": "x"}, ["a/inner", "b/cell/inner"], "")


segments = st.sampled_from(["layers", "dense", "dense_1", "a", "b", "cell", "blocks", "my_block", "_private", "lstm"])
paths = st.lists(segments, min_size=1, max_size=4).map("/".join).filter(lambda p: not p.endswith("layers"))
own_names = st.sampled_from(["dense", "dense_1", "mine", "my_block", "my_block_1", "Other", "lstm_2", "a", "b"])
shapes = st.sampled_from([(), DENSE, ((2,),), ((3,), (3,)), ((), ())])


@given(st.dictionaries(paths, st.tuples(own_names, shapes), max_size=12))
def test_a_name_is_made_of_segments_and_names_along_the_path(layers):
    found = readable_names(SavedLayer(p, n, s) for p, (n, s) in layers.items())
    assert set(found) == set(layers)
    for path, name in found.items():
        parts = path.split("/")
        allowed = {
            *parts,
            *(layers[p][0] for p in ("/".join(parts[: i + 1]) for i in range(len(parts))) if p in layers),
        }
        assert set(name.split("/")) <= allowed
        assert name.count("/") <= path.count("/")
        assert name.rpartition("/")[2] in (parts[-1], layers[path][0])


@given(st.lists(st.tuples(own_names, shapes), max_size=8, unique_by=lambda layer: layer[0]))
def test_siblings_in_layers_with_distinct_names_stay_distinct(siblings):
    found = readable_names(SavedLayer(f"layers/thing_{k}", n, s) for k, (n, s) in enumerate(siblings))
    assert list(found.values()) == [name for name, _ in siblings]


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.tuples(st.integers(0, 9), shapes), max_size=8))
def test_siblings_in_attributes_with_made_up_names_go_by_the_attributes(siblings):
    found = readable_names(SavedLayer(attribute, f"dense_{k}", s) for attribute, (k, s) in siblings.items())
    assert list(found.values()) == list(siblings)


@given(st.dictionaries(paths, own_names, max_size=10), st.randoms())
def test_names_do_not_depend_on_the_order(layers, random):
    items = [SavedLayer(p, n, DENSE) for p, n in layers.items()]
    shuffled = items[:]
    random.shuffle(shuffled)
    assert readable_names(shuffled) == readable_names(items)


# Shapes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weights",
    [
        *(((4, 3),), ((4, 3), (3,)), ((1, 3),), ((100, 8),)),
        *(((3, 3, 8, 16), (16,)), ((3, 3, 8, 2), (16,)), ((3, 3, 16, 8), (16,)), ((5, 8, 16), (16,))),  # convolutions
        *(((8, 2, 4), (2, 4)), ((2, 4, 8), (8,))),  # of attention
        *(
            ((3, 3, 8, 2), (1, 1, 16, 4)),
            ((3, 3, 8, 2), (1, 1, 16, 4), (4,)),
            ((3, 8, 1), (1, 8, 4), (4,)),
        ),  # separable
        *(((8,), (8,)), ((8,),) * 4),  # norms
        *(((8, 12), (3, 12), (12,)), ((8, 9), (3, 9), (2, 9)), ((8, 3), (3, 3)), ((3, 3, 2, 8), (3, 3, 2, 8), (8,))),
    ],
)
def test_layers_of_keras_look_built_in(weights):
    assert looks_built_in(weights)


@pytest.mark.parametrize(
    "weights",
    [
        (),
        *(((),), ((), ()), ((8,),), ((8,), (7,)), ((8,),) * 5),
        *(((1, 4, 1), (2,)), ((1, 4), (1,)), ((4, 3), (4,)), ((4, 3), (3,), (3,)), ((1, 1, 4),)),
        *(
            ((3, 3, 8, 2), (1, 1, 15, 4)),
            ((3, 3, 8, 2), (2, 1, 16, 4)),
            ((3, 3, 8, 2), (1, 1, 16, 4), (5,)),
            ((8, 12), (4, 12, 1)),
        ),
    ],
)
def test_other_layers_do_not(weights):
    assert not looks_built_in(weights)


@pytest.mark.parametrize("units", [1, 3, 4])
@pytest.mark.parametrize("gates", [1, 2, 3, 4, 5])
def test_a_cell_has_one_three_or_four_gates(gates, units):
    weights = ((8, gates * units), (units, gates * units))
    assert looks_like_cell(weights) == (gates in (1, 3, 4))
    assert looks_like_cell((*weights, (gates * units,))) == (gates in (1, 3, 4))
    assert not looks_like_cell((*weights, (gates * units + 1,)))
    assert not looks_like_cell(weights[:1])
