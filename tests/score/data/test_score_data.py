"""Data for scores: the digits, npz files, tf.data, and what is refused."""

import numpy as np
import pytest
import tensorflow as tf

from transferpipe.digits import load_digits
from transferpipe.errors import FileError, RecipeError
from transferpipe.score import digits_data, npz_data, tf_data, training_share
from transferpipe.score.checks import check_data
from transferpipe.score.data import tf_dataset
from transferpipe.score.data.splits import make_splits, split_off

X = np.arange(40, dtype=np.float32).reshape(20, 2)
Y = np.arange(20) % 4


def keys(images):
    """Every image as something that can stand in a set."""
    return {image.tobytes() for image in images}


def test_the_digits_are_split_without_overlap_and_the_test_is_the_fixed_one():
    data = digits_data([3, 8, 9], val_per_class=7)
    assert (data.classes, len(data.y_val)) == (3, 21)
    parts = [keys(x) for x in (data.x_train, data.x_val, data.x_test)]
    assert not parts[0] & parts[1]
    assert not (parts[0] | parts[1]) & parts[2]
    assert parts[0] | parts[1] == keys(load_digits([3, 8, 9])[0])
    images, classes = load_digits([3, 8, 9], split="test")
    assert (data.x_test == images).all()
    assert (data.y_test == classes).all()
    assert all((data.y_val == k).sum() == 7 for k in range(3))


def test_fewer_digits_to_learn_from_are_a_part_of_more_and_the_seed_decides_which():
    few, more = (digits_data([3, 8], train_per_class=n) for n in (5, 20))
    assert keys(few.x_train) < keys(more.x_train)
    assert (few.x_val == more.x_val).all()
    assert (digits_data([3, 8], train_per_class=5).x_train == few.x_train).all()
    assert keys(digits_data([3, 8], train_per_class=5, seed=1).x_train) != keys(few.x_train)
    assert not len(digits_data([3, 8], val_per_class=0).y_val)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"labels": [3, 3]}, "labels: "),
        ({"train_per_class": 0}, "digits_data.train_per_class: 0 is not a whole number of at least 1"),
        ({"val_per_class": True}, "digits_data.val_per_class: True"),
        ({"train_per_class": 500}, "520 images of each digit are needed for training and validation; there are 116"),
        ({"val_per_class": 119}, "120 images of each digit are needed for training and validation; there are 116"),
    ],
)
def test_digits_that_are_not_there(arguments, words):
    with pytest.raises(RecipeError, match=words):
        digits_data(**arguments)


def test_npz_with_x_and_y_is_split_by_class(tmp_path):
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    data = npz_data(str(tmp_path / "d.npz"), val_fraction=0.25, test_fraction=0.2)
    assert [np.bincount(part[1]).tolist() for part in (data.train, data.val, data.test)] == [[3] * 4, [1] * 4, [1] * 4]
    rows = [tuple(row) for x in (data.x_train, data.x_val, data.x_test) for row in x]
    assert sorted(rows) == sorted(map(tuple, X))
    again = npz_data(str(tmp_path / "d.npz"), val_fraction=0.25, test_fraction=0.2)
    assert (again.x_train == data.x_train).all()
    other = npz_data(str(tmp_path / "d.npz"), val_fraction=0.25, test_fraction=0.2, seed=1)
    assert keys(other.x_train) != keys(data.x_train)


def test_npz_with_its_own_parts_is_left_as_it_is(tmp_path):
    onehot = np.eye(4, dtype=np.float32)[Y]
    np.savez(tmp_path / "d.npz", x_train=X, y_train=onehot, x_val=X[:4], y_val=Y[:4], x_test=X[4:6], y_test=Y[4:6])
    data = npz_data(str(tmp_path / "d.npz"))
    assert (data.x_train == X).all()
    assert (data.y_train == Y).all()
    assert [len(data.y_val), len(data.y_test)] == [4, 2]


def test_npz_with_whole_numbers_and_a_column_of_labels(tmp_path):
    np.savez(tmp_path / "d.npz", x=X.astype(np.uint8), y=Y[:, None].astype(np.uint8))
    data = npz_data(str(tmp_path / "d.npz"), val_fraction=0, test_fraction=0)
    assert (data.x_train.dtype, data.y_train.dtype) == (np.float32, np.int64)
    assert (data.y_train == Y).all()
    assert not len(data.y_val) + len(data.y_test)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": X}, "holds a, but no x_train and no y_train"),
        ({"x": X}, "holds x, but no y"),
        ({"x_test": X, "y_test": Y}, "but no x_train"),
        ({"x": X, "y": Y[:5]}, "has 20 inputs and 5 labels"),
        ({"x": X, "y": Y / 2}, "its labels, float64 of shape .20,., are not class numbers"),
        ({"x": X, "y": Y - 1}, "are not class numbers"),
        ({"x": X, "y": Y + 10**18}, "are not class numbers"),
        ({"x": X, "y": np.where(Y == 2, 10**9, Y)}, "no example of class 2 of 1000000001"),
        ({"x": X, "y": Y + 1}, "no example of class 0 of 5"),
        ({"x": X, "y": np.where(Y == 2, 3, Y)}, "no example of class 2 of 4"),
        ({"x": X + np.nan, "y": Y}, "holds inputs that are not finite"),
        ({"x_train": X, "y_train": Y, "x_test": X[:, :1], "y_test": Y}, r"its inputs have the shape \(1,\)"),
    ],
)
def test_npz_files_that_hold_no_labelled_examples(tmp_path, arrays, words):
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(RecipeError, match=words):
        npz_data(str(tmp_path / "d.npz"))


def test_npz_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileError):
        npz_data(str(tmp_path / "missing.npz"))
    np.savez(tmp_path / "d.npz", x=np.array([{"code": 1}], dtype=object), y=np.array([0]))
    with pytest.raises(FileError, match="no arrays in it"):
        npz_data(str(tmp_path / "d.npz"))
    with pytest.raises(RecipeError, match=r"npz_data\.val_fraction: 1.5"):
        npz_data("d.npz", val_fraction=1.5)


def dataset(x, y, batch=None):
    made = tf.data.Dataset.from_tensor_slices((x, y))
    return made.batch(batch) if batch else made


@pytest.mark.parametrize("batch", [None, 3])
def test_tf_data_is_read_whole(batch):
    given = {"train": dataset(X, Y, batch), "test": dataset(X[:8], Y[:8], batch)}
    data = tf_data(given, batched=bool(batch), val_fraction=0)
    assert (data.x_train == X).all()
    assert (data.y_test == Y[:8]).all()
    assert not len(data.y_val)
    drawn = tf_data(given, batched=bool(batch), val_fraction=0.4)
    assert np.bincount(drawn.y_val).tolist() == [2] * 4
    assert keys(drawn.x_train) | keys(drawn.x_val) == keys(X)
    pair = tf_data((given["train"], given["test"]), batched=bool(batch), val_fraction=0)
    assert (pair.x_test == data.x_test).all()
    three = tf_data([given["train"], dataset(X[2:9], Y[2:9], batch), given["test"]], batched=bool(batch))
    assert (three.y_val == Y[2:9]).all()


def test_tf_data_without_a_test_part_has_one_drawn():
    data = tf_data({"train": dataset(X, Y, 4)}, test_fraction=0.4, val_fraction=0.5)
    assert [np.bincount(y).tolist() for y in (data.y_train, data.y_val, data.y_test)] == [[1] * 4, [2] * 4, [2] * 4]
    assert sorted(map(tuple, np.concatenate([data.x_train, data.x_val, data.x_test]))) == sorted(map(tuple, X))


def test_a_function_of_ones_own_may_give_pairs():
    """As keras.datasets gives them: the validation part is drawn, the test part is left alone."""
    two = check_data(((X, Y), (X[:4], Y[:4])), "train", "val", "test")
    assert (np.bincount(two.y_val).tolist(), len(two.y_test)) == ([1] * 4, 4)
    assert sorted(map(tuple, np.concatenate([two.x_train, two.x_val]))) == sorted(map(tuple, X))
    three = check_data([(X, Y), (X[:3], Y[:3]), (X[:4], Y[:4])], "train", "val", "test")
    assert [len(three.y_train), len(three.y_val), len(three.y_test)] == [20, 3, 4]
    named = check_data({"train": (X, Y), "test": (X[:4], Y[:4])}, "train", "test")
    assert (named.x_val == two.x_val).all()
    for wrong in ("data.npz", (X, Y), {"train": X}):
        with pytest.raises(RecipeError, match="not labelled data"):
            check_data(wrong, "train")


@pytest.mark.parametrize(
    ("datasets", "words"),
    [
        (dataset(X, Y), "not datasets for train, val and test"),
        ({"train": X}, "train: is a ndarray, not a tf.data.Dataset"),
        ({"train": dataset(X, Y, 4), "tset": 1}, "not datasets for train"),
        ({"train": dataset(X, Y, 4).repeat()}, "train: never ends"),
        ({"train": tf.data.Dataset.from_tensor_slices(X).batch(4)}, "its elements are not pairs"),
        ({"train": dataset(X, Y, 4).take(0)}, "train: is empty"),
    ],
)
def test_tf_data_that_does_not_do(datasets, words):
    with pytest.raises(RecipeError, match=words):
        tf_data(datasets)


@pytest.mark.follows("_read: take a part: take(...)")
def test_tf_data_that_is_too_large_is_not_read_to_its_end(monkeypatch):
    monkeypatch.setattr(tf_dataset, "_MOST_BYTES", 100)
    with pytest.raises(RecipeError, match=r"holds more than .* -> take a part: take\(...\)"):
        tf_data({"train": dataset(X, Y, 4)})
    monkeypatch.setattr(tf_dataset, "_MOST_BYTES", X.nbytes - 1)
    half = len(X) // 2 // 4
    parts = {name: dataset(X, Y, 4).take(half) for name in ("train", "val", "test")}
    assert np.array_equal(tf_data(parts).x_train, X[: half * 4])


def test_one_example_of_every_class_stays_to_learn_from():
    rest, taken = split_off((X[:5], np.array([0, 1, 1, 1, 1])), 0.99, 0)
    assert sorted(rest[1].tolist()) == [0, 1]
    assert taken[1].tolist() == [1, 1, 1]


def test_splits_tell_what_they_are():
    assert str(make_splits("mine", (X, Y), None, (X, Y))) == "mine: 4 classes, 20 train, 0 val, 20 test"


@pytest.mark.parametrize("share", [0.05, 0.3, 1])
def test_a_share_of_the_training_examples_has_every_class_and_is_part_of_a_larger_share(share):
    whole = digits_data([3, 8])
    part, more = training_share(whole, share, seed=4), training_share(whole, min(1, share * 2), seed=4)
    for label in (0, 1):
        assert (part.y_train == label).sum() == -(-(whole.y_train == label).sum() * round(share * 100) // 100)
    rows = {image.tobytes() for image in part.x_train}
    assert rows <= {image.tobytes() for image in more.x_train} <= {image.tobytes() for image in whole.x_train}
    assert part.x_val is whole.x_val and part.x_test is whole.x_test
    assert ("of the training examples" in str(part)) == (share < 1)


@pytest.mark.parametrize("share", [0, 1.5, True, "half"])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(RecipeError, match="is not a share above 0"):
        training_share(digits_data([3, 8]), share)


def test_half_is_a_share():
    assert len(training_share(digits_data([3, 8]), 0.5).y_train) < len(digits_data([3, 8]).y_train)
