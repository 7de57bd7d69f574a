"""The shipped recipes that change channels, image sizes and dimensions, their claims checked by passes of Keras."""

import json
import re

import keras
import numpy as np
import pytest
import yaml

from transferpipe import zoo
from transferpipe.cli import main
from transferpipe.cli.compose.folders import conf_folder
from transferpipe.digits import DATA, load_digits
from transferpipe.planning.transforms import Goal, apply_chain, parse_transform, parse_transforms
from transferpipe.show.help_pages import read_topic
from transferpipe.zoo.train_vision import colour_digits

PRESERVING = ["rgb_to_grey", "more_bands", "bigger_patch", "inflate_3d"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return a function that runs a shipped recipe once, and returns the model with the folder."""
    base, done = tmp_path_factory.mktemp("recipes"), {}

    def finish(name):
        if name not in done:
            assert main(["run", f"recipe={name}", f"hydra.run.dir={base / name}"]) == 0
            done[name] = keras.models.load_model(base / name / "model.keras", compile=False), base / name
        return done[name]

    return finish


@pytest.fixture(scope="module")
def coloured():
    return keras.models.load_model(DATA / "colour_digits.keras", compile=False)


@pytest.fixture(scope="module")
def transformer():
    return keras.models.load_model(DATA / "vit_digits.keras", compile=False)


def accuracy(model, images, classes):
    return float(np.mean(np.argmax(model.predict(images, verbose=0), 1) == classes))


def enlarge(images, size):
    """Return square images resized bilinearly."""
    return np.asarray(keras.ops.image.resize(images, (size, size)))


def test_what_they_start_from_tells_digits_apart(coloured, transformer):
    images, classes = load_digits(split="test")
    assert accuracy(coloured, colour_digits(images, seed=1), classes) > 0.88
    assert accuracy(transformer, images, classes) > 0.88


@pytest.mark.parametrize("name", PRESERVING)
def test_the_run_proves_what_is_preserved_and_warns_of_nothing(name, finished):
    _, folder = finished(name)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["parity"]["verdict"] == "pass"
    assert manifest["warnings"] == []


@pytest.mark.parametrize(
    ("name", "layer", "step"),
    [
        ("rgb_to_grey", "conv1", {"channels": {"how": "repeat", "rescale": False}}),
        ("more_bands", "conv1", {"channels": "repeat"}),
        ("bigger_patch", "patches", {"resize_patches": {"pseudoinverse": False}}),
        ("inflate_3d", "conv2", [{"inflate": "mean"}, {"scale": 1.1}]),
    ],
)
def test_what_it_is_compared_with_tells_other_steps_apart(name, layer, step, finished, request):
    model, _ = finished(name)
    recipe = yaml.safe_load((conf_folder() / "recipe" / f"{name}.yaml").read_text())["verify"]["parity"]
    reference = getattr(zoo, recipe["source"]["_target_"].rpartition(".")[2])
    inputs = np.random.default_rng(1).normal(size=(3, *model.input_shape[1:])).astype("float32")
    inputs = np.repeat(inputs[:, :1], 5, 1) if name == "inflate_3d" else inputs
    assert np.allclose(model(inputs), reference(inputs), atol=1e-5)
    old = np.asarray(
        request.getfixturevalue("transformer" if layer == "patches" else "coloured").get_layer(layer).kernel
    )
    kernel = model.get_layer(layer).kernel
    right, goal = np.asarray(kernel), Goal(tuple(kernel.shape))
    kernel.assign(apply_chain(parse_transforms(step), [old], goal))
    assert not np.allclose(model(inputs), reference(inputs), atol=1e-3)
    kernel.assign(right)


def test_rgb_to_grey(finished, coloured):
    model, _ = finished("rgb_to_grey")
    images, _ = load_digits(split="test", per_class=5)
    assert np.allclose(model(images), coloured(np.repeat(images, 3, -1)), atol=1e-6)
    kernel = np.asarray(coloured.get_layer("conv1").kernel)
    assert np.allclose(model.get_layer("conv1").kernel, kernel.sum(2, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("bands", [4, 5])
def test_more_bands(bands, finished, coloured, tmp_path):
    if bands == 5:
        model, _ = finished("more_bands")
    else:  # the recipe has no size in it but the target's
        assert main(["run", "recipe=more_bands", f"target.channels={bands}", f"hydra.run.dir={tmp_path / 'out'}"]) == 0
        model = keras.models.load_model(tmp_path / "out" / "model.keras", compile=False)
    images = np.random.default_rng(0).normal(size=(4, 8, 8, bands)).astype("float32")
    assert np.allclose(model(images), coloured(images[..., :3]), atol=1e-6)


def test_bigger_image(finished, transformer):
    model, folder = finished("bigger_image")
    assert json.loads((folder / "manifest.json").read_text())["warnings"] == []
    new, old = (np.asarray(m.get_layer("positions").embeddings) for m in (model, transformer))
    assert (old.shape, new.shape) == ((17, 24), (37, 24))
    assert np.array_equal(new[0], old[0])
    for row, column in ((0, 0), (2, 3), (5, 1)):
        assert np.allclose(new[1 + 6 * row + column], bicubic(old[1:].reshape(4, 4, 24), row, column, 6), atol=1e-5)
    rest = [n for n in (w.path for w in model.weights) if not n.startswith("positions")]
    theirs, ours = ({w.path: np.asarray(w) for w in m.weights} for m in (transformer, model))
    assert all(np.array_equal(theirs[n], ours[n]) for n in rest)


def bicubic(grid, row, column, size):
    """Return one place of a grid resized to `size`, sample by sample."""

    def taps(i):
        place = (i + 0.5) * len(grid) / size - 0.5
        for j in range(int(np.floor(place)) - 1, int(np.floor(place)) + 3):
            x = abs(place - j)
            near, far = 1.25 * x**3 - 2.25 * x**2 + 1, -0.75 * (x**3 - 5 * x**2 + 8 * x - 4)
            yield min(max(j, 0), len(grid) - 1), near if x < 1 else far if x < 2 else 0.0

    return sum(a * b * grid[i, j] for i, a in taps(row) for j, b in taps(column))


def test_positions_that_were_interpolated_are_better_than_others(finished):
    """On larger images, without any training, what is interpolated beats the same table in another order."""
    model, _ = finished("bigger_image")
    images, classes = load_digits(split="test", per_class=20)
    images = enlarge(images, 12)
    kept = accuracy(model, images, classes)
    table = model.get_layer("positions").embeddings
    before = np.asarray(table)
    table.assign(np.concatenate([before[:1], np.random.default_rng(0).permutation(before[1:])]))
    shuffled = accuracy(model, images, classes)
    table.assign(before)
    assert kept > shuffled + 0.1


def test_bigger_patch(finished, transformer):
    model, _ = finished("bigger_patch")
    images, _ = load_digits(split="test", per_class=5)
    enlarged = images.repeat(2, 1).repeat(2, 2)
    assert np.allclose(model(enlarged), transformer(images), atol=1e-5)


def test_inflate_3d(finished, coloured):
    model, _ = finished("inflate_3d")
    images = colour_digits(load_digits(split="test", per_class=5)[0], seed=4)
    assert np.allclose(model(np.stack([images] * 5, 1)), coloured(images), atol=1e-5)


def test_the_videos_that_come_along_are_still():
    videos = np.load(DATA / "still_digits.npz")["videos"]
    assert videos.shape == (10, 5, 8, 8, 3)
    assert np.array_equal(videos, videos[:, :1].repeat(5, 1))


def test_the_topic_names_them_and_its_steps_can_be_parsed():
    page = read_topic("surgery").partition("\nSingle elements")[0]  # behind which edits stand
    steps = [
        yaml.safe_load(step)
        for step in re.findall(r": `([^`]+)`", page)
        if not step.startswith(("mapping", "merge", "target"))
    ]
    rules = [
        s for s in steps if isinstance(s, dict) and s.keys() & {"source", "to", "from", "units", "transform", "at"}
    ]
    steps = [s for s in steps if s not in rules]
    assert len(steps) > 15
    for step in steps:
        parse_transform(step)
