"""Plans of large networks fit a screen of 80 columns and 25 lines, and leave out nothing."""

import functools
import itertools

import keras
import pytest
from expanding import expand
from keras import layers as keras_layers

import transferpipe as tp
from transferpipe.planning.tables.plan_rows import plan_rows
from transferpipe.planning.tables.plan_table import plan_text


@functools.cache  # nothing here changes a model
def whole(name):
    return getattr(keras.applications, name)(weights=None, input_shape=(64, 64, 3), classes=10)


@functools.cache
def below_a_head(name):
    base = getattr(keras.applications, name)(weights=None, input_shape=(64, 64, 3), include_top=False)
    pooling = keras_layers.GlobalAveragePooling2D()
    return keras.Sequential([keras.Input((64, 64, 3)), base, pooling, keras_layers.Dense(3, name="head")])


@pytest.mark.parametrize("name", ["EfficientNetV2B0", "ResNet152"])
def test_a_large_network_fits_a_screen(name):
    model = whole(name)
    plan = tp.plan(source=model, target=model, unmatched="same_name")
    lines = plan_text(plan, width=80).splitlines()
    assert len(lines) < 25
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines) and "..." not in "".join(lines)
    # A Normalization that was given its statistics has a row, and no weights.
    targets = [row.target for row in plan_rows(plan) if row.weights]
    layers = [layer for target in targets for layer in expand(target.rpartition("/")[0])]
    assert sorted(layers) == sorted(layer.name for layer in model.layers if layer.weights)
    assert sum(row.weights for row in plan_rows(plan)) == len(model.weights)
    assert all(row.origin == "=" for row in plan_rows(plan))


HEAD = {"to": "predictions", "from": None}
TRUNK = {"to": "[^/]*(?:net|-b0|152)[^/]*/(.*)", "from": r"\1"}


@pytest.mark.parametrize("name", ["EfficientNetV2B0", "ResNet152"])
def test_a_large_network_fits_a_screen_with_another_head_nested_and_backwards(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source, target = whole(name), below_a_head(name)
    source.save("a.keras")
    target.save("b.keras")
    same = {"trunk": {"to": ".*", "except": "predictions"}, "head": HEAD}
    nested = {"trunk": TRUNK, "head": {"to": "head", "from": None}}
    plans = [
        tp.plan(source, source, mapping=same),
        tp.plan(source, target, mapping=nested),
        tp.plan({"path": "a.keras"}, {"path": "b.keras"}, mapping=nested, reverse=True),
    ]
    for plan, width in itertools.product(plans, (80, 120, 200)):
        text = plan_text(plan, width=width)
        assert len(text.splitlines()) < 25, text
        assert max(map(len, text.splitlines())) <= width


def test_a_model_inside_that_goes_as_a_whole_is_one_row():
    mapping = {"trunk": {"to": "resnet50/(.*)", "from": r"\1"}, "head": {"to": "head", "from": None}}
    target = below_a_head("ResNet50")
    plan = tp.plan(source=whole("ResNet50"), target=target, mapping=mapping)
    row, _ = plan_rows(plan)
    assert (row.target, row.origin) == ("resnet50/**", "= without resnet50/")
    assert row.weights == len(target.weights) - 2 and row.parameters == target.layers[0].count_params()
    # One layer that goes another way, and the model does not go as a whole.
    mapping["trunk"]["except"] = "resnet50/conv1_conv"
    plan = tp.plan(source=whole("ResNet50"), target=target, mapping=mapping, unmatched="keep")
    assert not [row.target for row in plan_rows(plan) if row.target.endswith("**")]
