"""`target.repeat` of KerasHub's classes, which count their layers, against classes that were given that number."""

import json
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

from transferpipe.cli import main
from transferpipe.models.repeated import repeat_layers
from transferpipe.recipe.model import RepeatedLayers
from transferpipe.recipe.patterns import Pattern
from transferpipe.weights.formats import open_source
from transferpipe.weights.keras.deeper.counted import Family, recount
from transferpipe.weights.keras.deeper.graph import RepeatError
from transferpipe.weights.keras.deeper.rows import Numbered, NumberedRow

pytest.importorskip("keras_hub")

from tests.kerashub_suite.checks import filled, outputs
from tests.kerashub_suite.configurations import build


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def made(kind, **more):
    keras.utils.clear_session()
    return filled(build(kind, **more), 1)


def row(beginning, kinds, order):
    """Return a row of layers, each with the weights of its kind, in an order."""
    weights = {n: [f"{beginning}{n}/{own}" for own in kind] for n, kind in enumerate(kinds)}
    return NumberedRow(Numbered(Pattern(rf"{beginning}(\d+)"), beginning, weights, tuple(order)))


def give(model, base, new, old):
    """Give a deeper model the values of the other, and its layer `new` those of `old`, wherever it lies."""
    for layer in model.layers:
        other = base.get_layer(old if layer.name == new else layer.name)
        if len(layer.weights) == len(other.weights):
            layer.set_weights(other.get_weights())
        else:  # the layers lie in this one
            values = {w.path.rpartition(f"{layer.name}/")[2]: w.numpy() for w in other.weights}
            for weight in layer.weights:
                path = weight.path.rpartition(f"{layer.name}/")[2]
                weight.assign(values["/".join(old if part == new else part for part in path.split("/"))])


TWO, FOUR = [("kernel",)] * 2, [("kernel",)] * 4
ENCODER_DECODER = {"encoder_num_layers": 2, "decoder_num_layers": 2, "encoder_layer_types": ["full", "sliding"],
                   "decoder_layer_types": ["full", "full"]}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "given", "rows", "others", "changed"),
    [
        ("Bert", {"num_layers": 2}, [row("layer_", TWO, [0, 1, 1])], [], {"num_layers": 3}),
        ("Vision", {"num_layers": 4, "mlp_blocks": 2}, [row("encoder/block_", FOUR, [0, 3])], [], {"num_layers": 2}),
        # Each of two rows has an argument of its own, and lists that follow its layers.
        ("T5Gemma", ENCODER_DECODER, [row("encoder_layer_", TWO, [1, 0, 1])], [Family("decoder_layer_0", 2)],
         {"encoder_num_layers": 3, "encoder_layer_types": ["sliding", "full", "sliding"]}),
        ("EdRec", {"num_layers_enc": 2, "num_layers_dec": 2}, [row("decoder_layer_", TWO, [0])],
         [Family("encoder_layer_0", 2)], {"num_layers_dec": 1}),
        ("SmolLM3", {"num_layers": 2, "rope_layer_enabled_list": [True, False], "image_shape": [9, 8]},
         [row("layer_", TWO, [0, 1, 1])], [], {"num_layers": 3, "rope_layer_enabled_list": [True, False, False]}),
        ("ViTDet", {"num_layers": 4, "global_attention_layer_indices": [1, 3]}, [row("layer_", FOUR, [0, 1, 2, 1, 3])],
         [], {"num_layers": 5, "global_attention_layer_indices": [1, 3, 4]}),
        ("GemmaBackbone", {"num_layers": 4, "use_sliding_window_attention": True},
         [row("decoder_block_", FOUR, [0, 1, 0, 1, 2, 3])], [], {"num_layers": 6}),
        ("GemmaBackbone", {"num_layers": 4, "use_sliding_window_attention": False},
         [row("decoder_block_", FOUR, [0, 1, 1])], [], {"num_layers": 3}),
    ],
)  # fmt: skip
def test_arguments_follow_the_layers(name, given, rows, others, changed):
    config = {"class_name": name, "config": given}
    assert recount(config, rows, others) == {"class_name": name, "config": given | changed}


@pytest.mark.parametrize(
    ("name", "given", "rows", "others", "why"),
    [
        ("Some", {"depths": [1, 2]}, [row("layer_", TWO, [0])], [], "says no number of layers, and none of them"),
        ("Some", {"a_layers": 2, "b_layers": 2}, [row("layer_", TWO, [0])], [], "a_layers, b_layers could each count"),
        ("Bart", {"num_layers": 2}, [row("encoder_", TWO, [0])], [Family("decoder_0", 2)], "decoder_0 and those behind"),
        ("Bart", {"num_layers": 2}, [row("encoder_", TWO, [0]), row("decoder_", TWO, [0, 1, 1])], [], "1, 3 are asked"),
        ("T5", {"num_layers": 2}, [row("layer_", [("kernel", "table"), ("kernel",)], [0, 0, 1])], [],
         "layer_0 would become layer_1, and T5 makes only one of the two with table"),
        ("GemmaBackbone", {"num_layers": 4, "use_sliding_window_attention": True},
         [row("layer_", FOUR, [0, 1, 1, 2])], [], "layer_1 would become layer_2: repeat whole groups of 2 layers"),
        ("Mixed", {"num_layers": 4, "decoder_sparse_step": 3}, [row("layer_", FOUR, [0, 2])], [], "groups of 3 layers"),
        ("Shared", {"num_layers": 4, "num_kv_shared_layers": 2}, [row("layer_", FOUR, [0, 1, 1, 2, 3])], [],
         "the last 2 layers of Shared use keys"),
    ],
)  # fmt: skip
def test_why_a_class_cannot_make_them(name, given, rows, others, why):
    with pytest.raises(RepeatError, match=why.replace("(", r"\(")):
        recount({"class_name": name, "config": given}, rows, others)


@pytest.mark.parametrize(
    ("kind", "pattern", "more"),
    [
        ("ViTBackbone", r"vit_encoder/encoder_layers/transformer_block_(\d+)", {"num_layers": 3}),
        ("DINOV2Backbone", r"encoder/layers_(\d+)", {"num_layers": 3}),
        ("T5GemmaBackbone", r"decoder_layer_(\d+)",
         {"decoder_num_layers": 3, "decoder_layer_types": ["full_attention"] * 3}),
        ("SmolLM3Backbone", r"transformer_layer_(\d+)",
         {"num_layers": 3, "rope_layer_enabled_list": [True, False, False], "layer_types": ["full_attention"] * 3}),
    ],
)  # fmt: skip
def test_the_deeper_model_computes_what_the_class_does(kind, pattern, more):
    base = made(kind)
    base.save("base.keras")
    first = 1 if kind == "ViTBackbone" else 0
    recipe = {
        "target": {"like": "base.keras", "repeat": {pattern: f"{first}-{first + 1}, {first + 1}"}},
        "unmatched": "keep",
        "save": {"path": "deep.keras"},
    }
    Path("deep.yaml").write_text(json.dumps(recipe))
    assert main(["run", "recipe=deep.yaml", "hydra.run.dir=out"]) == 0
    wanted = made(kind, **more)
    stem = pattern.rpartition("/")[2][:-5]
    give(wanted, base, f"{stem}{first + 2}", f"{stem}{first + 1}")
    model = keras.models.load_model("out/deep.keras")
    assert len(model.weights) == len(wanted.weights) > len(base.weights)
    for ours, theirs in zip(outputs(model), outputs(wanted), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("kind", "pattern", "order", "why"),
    [
        ("T5Backbone", r"transformer_(?:en|de)coder_layer_(\d+)", [0, 0, 1], "T5Backbone makes only one of the two"),
        ("DINOV2Backbone", r"encoder/layers_0/mlp/fc(\d+)", [1, 2, 2], "and counts none of them alone"),
    ],
)
def test_what_a_class_does_not_make(kind, pattern, order, why):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras's own, of how these classes are built
        made(kind).save("base.keras")
    ranges = tuple((k, k) for k in order)
    result = repeat_layers(open_source(Path("base.keras")), [RepeatedLayers(Pattern(pattern), ranges)], as_model=True)
    assert why in result.no_model
