"""The embedded digits, as arrays."""

import subprocess
import sys

import numpy as np
import pytest

from transferpipe.digits import load_digits
from transferpipe.errors import RecipeError


def test_all_1797_images_are_there_with_every_pixel_between_paper_and_ink():
    parts = [load_digits(split=split) for split in ("train", "test")]
    images = np.concatenate([images for images, _ in parts])
    assert images.shape == (1797, 8, 8, 1)
    assert images.dtype == np.float32
    assert (images.min(), images.max()) == (0, 1)
    assert len(np.unique(images)) == 17
    # The counts scikit-learn's own description of the data gives.
    counts = np.bincount(np.concatenate([classes for _, classes in parts]))
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_the_first_image_is_the_well_known_zero():
    images, _ = load_digits([0])
    first_row = [0, 0, 5, 13, 9, 1, 0, 0]
    assert (images[0, 0, :, 0] * 16).tolist() == first_row


def test_the_split_is_stratified_and_shares_no_row():
    for digit in range(10):
        train, test = (load_digits([digit], split=split)[0] for split in ("train", "test"))
        assert len(train) / (len(train) + len(test)) == pytest.approx(2 / 3, abs=0.01)
    both = np.concatenate([load_digits(split=split)[0] for split in ("train", "test")])
    assert len(np.unique(both.reshape(len(both), -1), axis=0)) == 1797  # no image occurs twice


def test_classes_are_the_positions_of_the_labels():
    nines, _ = load_digits([9])
    images, classes = load_digits([9, 5])
    assert set(classes.tolist()) == {0, 1}
    assert np.array_equal(images[classes == 0], nines)


def test_a_draw_has_as_many_of_each_and_depends_on_the_seed_only():
    images, classes = load_digits([5, 6, 7], per_class=10, seed=1)
    assert np.bincount(classes).tolist() == [10, 10, 10]
    assert len(np.unique(load_digits([8], per_class=116)[0].reshape(116, -1), axis=0)) == 116  # each at most once
    assert np.array_equal(images, load_digits([5, 6, 7], per_class=10, seed=1)[0])
    assert not np.array_equal(images, load_digits([5, 6, 7], per_class=10, seed=2)[0])
    train = load_digits([5, 6, 7])[0].reshape(-1, 64).tolist()
    assert all(image in train for image in images.reshape(-1, 64).tolist())


def test_a_caller_cannot_change_what_the_next_one_gets():
    images, _ = load_digits([3])
    images[:] = 7
    assert load_digits([3])[0].max() == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": [5, 10]}, r"labels: \[5, 10\] is not a list of different digits"),
        ({"labels": [5, 5]}, "labels"),
        ({"labels": []}, "labels"),
        ({"labels": [], "per_class": 3}, "labels"),
        ({"labels": 5}, "labels: 5 is not"),
        ({"labels": ["5"]}, "labels"),
        ({"split": "valid"}, "split: 'valid' is neither 'train' nor 'test'"),
        ({"per_class": 0}, "per_class: 0 images"),
        (
            {"labels": [8], "per_class": 117},
            "117 images of each digit wanted, 116 are in the train part -> use a whole number from 1 to 116",
        ),
        ({"per_class": 2.5}, "per_class"),
    ],
)
def test_what_cannot_be_loaded_is_refused(arguments, message):
    with pytest.raises(RecipeError, match=message):
        load_digits(**arguments)


def test_two_mistakes_are_reported_at_once():
    with pytest.raises(RecipeError) as caught:
        load_digits([11], split="valid")
    assert [problem.where for problem in caught.value.problems] == ["labels", "split"]


def test_neither_the_data_nor_the_builders_import_tensorflow():
    code = (
        "import sys; from transferpipe.digits import load_digits; import transferpipe.score; load_digits([5]);"
        "print([m for m in ('tensorflow', 'keras') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
