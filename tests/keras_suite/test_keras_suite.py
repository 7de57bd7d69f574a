"""One configuration of each kind of layer from some of Keras's own tests; the whole is `python -m tests.keras_suite.run`."""

import pytest

from .forms import FORMS
from .harvest import harvest_layers
from .run import BAD, UnsuitableError, check_layer, one_of_each_kind

_MODULES = (
    *("attention.multi_head_attention", "convolutional.conv", "core.dense", "core.embedding", "core.einsum_dense"),
    *("normalization.batch_normalization", "normalization.layer_normalization", "preprocessing.normalization"),
    *("normalization.spectral_normalization", "rnn.lstm", "rnn.bidirectional", "rnn.conv_lstm1d"),
)


@pytest.fixture(scope="module")
def configurations():
    found = harvest_layers([f"keras.src.layers.{name}_test" for name in _MODULES]).layers
    return sorted(one_of_each_kind(found).values(), key=lambda c: c.name)


def test_enough_is_harvested(configurations):
    assert len({c.layer_class for c in configurations}) >= len(_MODULES)


@pytest.mark.parametrize("number", range(len(FORMS)), ids=FORMS)
def test_what_keras_configures_is_transferred(configurations, number, tmp_path):
    done = 0
    for place, configuration in enumerate(configurations):
        if place % len(FORMS) != number:  # each form with a third of the kinds
            continue
        try:
            rows = check_layer(configuration, FORMS[number], tmp_path)
        except UnsuitableError:
            continue
        assert not [vars(r) for r in rows if r.status in BAD]
        done += len(rows)
    assert done > 20


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_each_kind(form, tmp_path):
    for configuration in one_of_each_kind(harvest_layers().layers).values():
        try:
            rows = check_layer(configuration, form, tmp_path)
        except UnsuitableError:
            continue
        assert not [vars(r) for r in rows if r.status in BAD]
