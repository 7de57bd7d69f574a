"""Drawn signals, and the network trained on them."""

import numpy as np
import pytest

from transferpipe.errors import RecipeError
from transferpipe.zoo import signals
from transferpipe.zoo.signals import signals_data, signals_net, trained_on_signals


def random_weights(seed):
    random = np.random.default_rng(seed)
    return [random.normal(size=w.shape).astype("f") for w in signals_net(signals.SOURCE_CLASSES).get_weights()]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(signals, "_train", random_weights)
    signals._train_weights.cache_clear()
    yield tmp_path / "transferpipe"
    signals._train_weights.cache_clear()


def test_the_other_parts_are_the_same_whatever_is_learnt_from():
    few, many = signals_data(3, 2), signals_data(3, 7)
    assert (few.x_train.shape, many.x_train.shape, few.x_test.shape) == ((10, 40, 1), (35, 40, 1), (1000, 40, 1))
    assert np.array_equal(few.x_val, many.x_val)
    assert np.array_equal(few.x_test, many.x_test)
    assert not np.isin(few.x_test[:, 0], few.x_val[:, 0]).any()


def test_seeds_share_nothing():
    one, other = signals_data(0, 20), signals_data(1, 20)
    assert not np.isin(one.x_test[:, 0], other.x_test[:, 0]).any()
    assert one.test_digest != other.test_digest
    assert one.test_digest == signals_data(0, 1).test_digest


def test_a_class_is_a_curve_of_its_own():
    """A nearest mean, which knows nothing of shifts, is better than chance; of noise alone it is not."""
    data = signals_data(0, 200)
    means = np.stack([data.x_train[data.y_train == k].mean(axis=0) for k in range(5)])
    nearest = ((data.x_test[:, None] - means) ** 2).sum(axis=(2, 3)).argmin(axis=1)
    assert (nearest == data.y_test).mean() > 0.3


@pytest.mark.follows("signals_data: choose 1 to …")
@pytest.mark.parametrize(("number", "chosen"), [(0, 1), (1001, 1000)])
def test_as_many_as_there_are(number, chosen):
    with pytest.raises(RecipeError, match="choose 1 to 1000"):
        signals_data(0, number)
    assert len(signals_data(0, chosen).x_train) == 5 * chosen


def test_trained_once_and_the_same_afterwards(cache, monkeypatch):
    first = trained_on_signals(1).get_weights()
    monkeypatch.setattr(signals, "_train", lambda *_: pytest.fail("trained again"))
    signals._train_weights.cache_clear()  # as in another process
    second = trained_on_signals(1).get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert len(list(cache.iterdir())) == 1
