"""The two tasks of the experiment of Yosinski et al., and the networks trained on them."""

import keras
import numpy as np
import pytest

from transferpipe.errors import RecipeError
from transferpipe.zoo import digit_halves
from transferpipe.zoo.digit_halves import digits_net, half, half_data, trained_on_half


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(digit_halves, "_EPOCHS", 1)
    digit_halves._train_weights.cache_clear()
    yield tmp_path / "transferpipe"
    digit_halves._train_weights.cache_clear()


@pytest.mark.parametrize("split", range(5))
def test_the_halves_share_no_digit(split):
    assert len(half("A", split)) == len(half("B", split)) == 5
    assert not set(half("A", split)) & set(half("B", split))


def test_splits_differ():
    assert len({tuple(half("A", split)) for split in range(10)}) > 5


def test_no_such_task():
    with pytest.raises(RecipeError, match="neither 'A' nor 'B'"):
        half("C", 0)


def test_the_data_is_that_of_the_half():
    data = half_data("B", 2, per_class=7)
    assert data.classes == 5
    assert len(data.y_train) == 35
    assert str(half("B", 2)[0]) in data.name


def test_layers_go_by_their_numbers():
    names = [layer.name for layer in digits_net().layers if layer.weights]
    assert names == ["layer1", "layer2", "layer3", "layer4", "layer5", "head"]


def test_trained_once_and_the_same_afterwards(cache, monkeypatch):
    first = trained_on_half("A", 1).get_weights()
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(digit_halves, "_train", lambda *_: pytest.fail("trained again"))
    digit_halves._train_weights.cache_clear()  # as in another process
    second = trained_on_half("A", 1).get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_damaged_cache_is_made_anew(cache):
    first = trained_on_half("A", 1).get_weights()
    next(cache.iterdir()).write_bytes(b"no archive")
    digit_halves._train_weights.cache_clear()
    second = trained_on_half("A", 1).get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_another_task_is_another_network():
    one, other = trained_on_half("A", 1).get_weights(), trained_on_half("B", 1).get_weights()
    assert not any(np.array_equal(a, b) for a, b in zip(one[::2], other[::2], strict=True))


@pytest.mark.parametrize("task", ["A", "B"])
def test_fresh_layers_do_not_begin_where_those_of_the_trained_network_began(task, monkeypatch):
    monkeypatch.setattr(digit_halves, "_EPOCHS", 0)
    begun = trained_on_half(task, 1).get_weights()
    for seed in (1, 1001):
        keras.utils.set_random_seed(seed)
        fresh = digits_net().get_weights()
        assert not any(np.array_equal(a, b) for a, b in zip(begun[::2], fresh[::2], strict=True))
