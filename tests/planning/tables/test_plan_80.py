"""Plans of large networks fit a screen of 80 columns and 25 lines, and leave out nothing."""

import keras
import pytest
from expanding import expand

import transferpipe as tp
from transferpipe.planning.tables.plan_rows import plan_rows
from transferpipe.planning.tables.plan_table import plan_text


@pytest.mark.parametrize("name", ["EfficientNetV2B0", "ResNet152"])
def test_a_large_network_fits_a_screen(name):
    model = getattr(keras.applications, name)(weights=None, input_shape=(64, 64, 3), classes=10)
    plan = tp.plan(source=model, target=model, unmatched="same_name")
    lines = plan_text(plan, width=80).splitlines()
    assert len(lines) < 25
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines) and "..." not in "".join(lines)
    layers = [layer for row in plan_rows(plan) for layer in expand(row.target.rpartition("/")[0])]
    assert sorted(layers) == sorted(layer.name for layer in model.layers if layer.weights)
    assert sum(row.weights for row in plan_rows(plan)) == len(model.weights)
    assert all(row.origin == "=" for row in plan_rows(plan))
