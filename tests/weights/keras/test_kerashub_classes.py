"""Names of the numbered weights in files of KerasHub's models, from the places of the layers alone."""

import h5py
import keras
import numpy as np
import pytest

from transferpipe.weights.formats import open_source

ENCODER = {
    "layers/transformer_encoder/_self_attention_layer/_query_dense": [(4, 2, 2), (2, 2)],
    "layers/transformer_encoder/_self_attention_layer/_output_dense": [(2, 2, 4), (4,)],
    "layers/transformer_encoder/_self_attention_layer_norm": [(4,), (4,)],
    "layers/transformer_encoder/_feedforward_intermediate_dense": [(4, 6), (6,)],
}
OWN_NAMES = {"_query_dense": "query", "_output_dense": "attention_output"}


def written(path, groups, dtypes=None):
    """Write the groups as Keras does, holders first, each with the name that KerasHub gives the layer."""
    holders = {"/".join(p.split("/")[:n]) for p in groups for n in range(2, p.count("/") + 1)}
    with h5py.File(path, "w") as file:
        file.create_group("vars")
        for layer in sorted(holders | groups.keys()):
            segment = layer.rpartition("/")[2]
            held = file.create_group(f"{layer}/vars")
            held.attrs["name"] = OWN_NAMES.get(segment, segment.lstrip("_"))
            for i, shape in enumerate(groups.get(layer, ())):
                held[str(i)] = np.zeros(shape, (dtypes or {}).get((layer, i), "float32"))
    return open_source(path).catalog


def own_names(catalog):
    """Return the own names of the weights by the last segment of the place of their layer."""
    names = {}
    for spec in catalog:
        names.setdefault(spec.where.partition("/vars")[0].rpartition("/")[2], []).append(spec.own_name)
    return names


def test_parts_of_kerashub_layers_have_the_names_of_their_classes(tmp_path):
    names = own_names(written(tmp_path / "m.weights.h5", {**ENCODER, "layers/position_embedding": [(9, 4)]}))
    assert names["_query_dense"] == names["_output_dense"] == ["kernel", "bias"]
    assert names["_feedforward_intermediate_dense"] == ["kernel", "bias"]
    assert names["_self_attention_layer_norm"] == ["gamma", "beta"]
    assert names["position_embedding"] == ["embeddings"]


def test_layers_that_are_quantised_have_the_names_that_keras_gives_them(tmp_path):
    path = "layers/transformer_encoder/_feedforward_intermediate_dense"
    groups = {**ENCODER, path: [(4, 6), (6,), (6,)]}
    names = own_names(written(tmp_path / "m.weights.h5", groups, {(path, 0): "int8"}))
    assert names["_feedforward_intermediate_dense"] == ["kernel", "bias", "kernel_scale"]


@pytest.mark.parametrize(
    "groups",
    [
        {"layers/position_embedding": [(9, 4)]},
        {"layers/transformer_encoder/mixer": [(4, 4)], "layers/position_embedding": [(9, 4)]},
        {"layers/position_embedding": [(9, 4)], "layers/transformer_encoder": [(3,)]},
    ],
)
def test_classes_of_ones_own_with_such_names_keep_their_numbers(tmp_path, groups):
    assert own_names(written(tmp_path / "m.weights.h5", groups))["position_embedding"] == ["0"]


def test_what_does_not_look_like_the_class_keeps_its_numbers_in_a_file_of_kerashub(tmp_path):
    names = own_names(written(tmp_path / "m.weights.h5", {**ENCODER, "layers/position_embedding": [(9, 4), (4,)]}))
    assert names["position_embedding"] == ["0", "1"]


@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have a `quantize`")
@pytest.mark.parametrize("use_bias", [True, False])
def test_a_quantised_layer_has_the_names_of_its_variables_in_every_keras_file(tmp_path, use_bias):
    keras.utils.clear_session()
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, use_bias=use_bias, name="fc")])
    model.quantize("int8")
    for name in ("m.keras", "m.weights.h5"):
        (model.save if name == "m.keras" else model.save_weights)(tmp_path / name)
        names = [w.name for w in open_source(tmp_path / name).catalog]
        assert names == [f"fc/{n}" for n in (["kernel", "bias"] if use_bias else ["kernel"]) + ["kernel_scale"]]
