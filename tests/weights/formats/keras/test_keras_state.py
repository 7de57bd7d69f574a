"""Telling optimizers and metrics from layers by what a file keeps of them."""

import pytest

from transferpipe.weights.formats.keras.state import KeptObject, training_state

KERNEL, SCALAR, VECTOR = (4, 3), (), (3,)


def kept(name, *shapes, first="float32"):
    return KeptObject(name, shapes, (first, *["float32"] * len(shapes))[: len(shapes)])


ADAM = (SCALAR, SCALAR, KERNEL, KERNEL)


def state(layers=(), **objects):
    return training_state({path.replace("__", "/"): k for path, k in objects.items()}, layers)


@pytest.mark.parametrize(
    ("path", "name", "shapes", "first"),
    [
        ("optimizer", "adam", ADAM, "int64"),
        ("optimizer", None, (), "int64"),
        ("layers__functional__optimizer", "adam", ADAM, "int64"),
        ("d_optimizer", "disc", (SCALAR, KERNEL), "int64"),  # with a schedule there is no rate
        ("gen", "adam_1", (SCALAR, KERNEL), "int32"),
        ("gen", "given", ADAM, "int64"),
        ("optimizers__sgd_1", None, (SCALAR, KERNEL), "int64"),
        ("policy", "loss_scale_optimizer", (SCALAR, SCALAR), "int32"),
    ],
)
def test_optimizers(path, name, shapes, first):
    assert state(**{path: kept(name, *shapes, first=first), "dense": kept("dense", KERNEL)}) == {
        path.replace("__", "/")
    }


def test_what_lies_inside_an_optimizer_is_of_it():
    inner = {
        "optimizer": kept("loss_scale_optimizer", SCALAR, first="int32"),
        "optimizer__inner_optimizer": kept("x", VECTOR),
    }
    assert state(**inner) == {"optimizer", "optimizer/inner_optimizer"}
    assert state(**inner, optimizers=kept("dense", KERNEL)) == {"optimizer", "optimizer/inner_optimizer"}


@pytest.mark.parametrize(
    ("path", "name", "shapes", "first"),
    [
        ("adam", "adam", (KERNEL, VECTOR), "float32"),
        ("my_optimizer", "x", (KERNEL,), "float32"),
        ("layers__counting", "counting", ADAM, "int64"),  # what stands in a model's layers is one
        ("vq", "ema", (SCALAR, KERNEL), "int64"),  # a counter and statistics, no rate
        ("norm", "normalization", (VECTOR, VECTOR, SCALAR), "float32"),
        ("", "model", ADAM, "int64"),
    ],
)
def test_layers_that_resemble_optimizers(path, name, shapes, first):
    assert state(**{path: kept(name, *shapes, first=first)}) == set()


def test_metrics_of_files_without_names():
    objects = {
        "loss_tracker": kept(None, SCALAR, SCALAR),
        "metrics__auc": kept(None, VECTOR, VECTOR, VECTOR, VECTOR),
        "layers__functional__metrics__mean": kept(None, SCALAR, SCALAR),
        "layers__scale_shift": kept(None, SCALAR, SCALAR),
        "norm": kept(None, VECTOR, VECTOR),
        "block": kept(None, SCALAR, SCALAR),
        "block__inner": kept(None, KERNEL),
    }
    assert state(**objects) == {"loss_tracker", "metrics/auc", "layers/functional/metrics/mean"}


def test_a_layer_that_the_configuration_knows_is_no_metric():
    assert state(layers=["scaling"], scaling=kept(None, SCALAR, SCALAR)) == set()


def test_a_named_layer_is_no_metric():
    """Keras 3 notes names since it has stopped saving metrics."""
    assert state(scaling=kept("star_relu", SCALAR, SCALAR)) == set()
