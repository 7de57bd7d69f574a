"""Arrays that an original wrote elsewhere: by name and order, of layers, and everything that can be wrong with them."""

import io
import zipfile

import keras
import numpy as np
import pytest
from twins import filled

import transferpipe as tp
from transferpipe.prove.parity import arrays

ALL = {"all": {"to": ".*"}}


@pytest.fixture
def models(tmp_path, monkeypatch):
    """Return a source with two inputs and two outputs, a fresh copy, and what goes in and out, in the folder here."""
    monkeypatch.chdir(tmp_path)

    def build():
        words = keras.Input((5,), dtype="int32", name="words")
        image = keras.Input((4, 6, 3), name="image")
        inner = keras.Sequential([keras.Input((4, 6, 3)), keras.layers.Conv2D(2, 3, name="conv")], name="body")
        left = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(9, 4, name="embed")(words))
        both = keras.layers.Concatenate()([left, keras.layers.Flatten()(inner(image))])
        outputs = [keras.layers.Dense(3, name="one")(both), keras.layers.Dense(2, name="two")(both)]
        return keras.Model([words, image], outputs)

    source, random = filled(build()), np.random.default_rng(3)
    inputs = {"words": random.integers(0, 9, (3, 5)), "image": random.normal(size=(3, 4, 6, 3))}
    one, two = (v.numpy() for v in source([inputs["words"], inputs["image"].astype("float32")]))
    conv = source.get_layer("body")(inputs["image"].astype("float32")).numpy()
    return source, build(), inputs, {"one": one, "two": two, "body/conv": conv}


def check(models, inputs=None, expected=None, **more):
    source, target, x, y = models
    np.savez("x.npz", **(x if inputs is None else inputs))
    np.savez("y.npz", **(y if expected is None else expected))
    parity = {"inputs": "x.npz", "expected": "y.npz", **more}
    return tp.transfer(source, target, mapping=ALL, verify={"parity": parity}).parity


def test_by_name_with_a_layer_of_a_nest(models):
    found = check(models)  # int64 and float64 go into int32 and float32
    assert (found.verdict, [e.name for e in found.entries]) == ("pass", ["body/conv", "one", "two"])


def test_by_order(models):
    _, _, x, y = models
    inputs, expected = {f"arr_{i}": v for i, v in enumerate(x.values())}, {"a": y["one"], "b": y["two"]}
    assert check(models, inputs, expected).verdict == "pass"


def test_channels_first_output_is_compared_in_its_own_order(models):
    _, _, _, y = models
    assert check(models, expected=y | {"body/conv": np.moveaxis(y["body/conv"], -1, 1)}).verdict == "pass"


def test_own_tolerances_decide(models):
    _, _, _, y = models
    off = y | {"one": y["one"] + 0.01}
    assert check(models, expected=off, atol=0.02).verdict == "pass"
    with pytest.raises(tp.VerificationError, match=r"one is the first that differs, by 0\.01"):
        check(models, expected=off)
    with pytest.raises(tp.VerificationError):
        check(models, expected=off, atol=0.001, rtol=0)


WRONG = {
    "missing input": ({"words": 0}, {}, "no array for the model's input 'image'"),
    "too many": ({"words": 0, "image": 0, "imag": 0}, {}, "did you mean 'image'"),
    "count": ({"a": "words"}, {}, "holds 1 array \\(a\\), but the model has 2 inputs"),
    "channels first": ({"words": 0, "image": lambda v: np.moveaxis(v, -1, 1)}, {}, r"write x.transpose\(0, 2, 3, 1\)"),
    "shape": ({"words": lambda v: v[:, :4], "image": 0}, {}, r"has shape \(3, 4\); the model takes \(None, 5\)"),
    "dtype": ({"words": lambda v: v + 0.5, "image": 0}, {}, "has dtype float64; the model takes int32"),
    "text": ({"words": 0, "image": lambda v: v.astype("U3")}, {}, "has dtype <U3"),
    "range": ({"words": lambda v: v + 2**40, "image": 0}, {}, "has values that int32 cannot hold"),
    "NaN in": ({"words": 0, "image": lambda v: v * np.nan}, {}, "image: holds NaN or infinity"),
    "empty": ({"words": lambda v: v[:0], "image": lambda v: v[:0]}, {}, "has no elements"),
    "NaN out": ({}, {"one": lambda v: v * np.nan}, "one: holds NaN or infinity, which equals nothing"),
    "unknown": ({}, {"one": 0, "body/conf": "body/conv"}, "did you mean 'body/conv'"),
    "other shape": ({}, {"one": lambda v: v[:, :2]}, r"has shape \(3, 2\); the model's is \(3, 3\)"),
    "text out": ({}, {"one": lambda v: v.astype("U9")}, "outputs are numbers"),
    "samples": ({}, {"one": lambda v: v[:2]}, r"has shape \(2, 3\)"),
}


@pytest.mark.parametrize(("x", "y", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_the_arrays_is_said(models, x, y, words):
    def changed(change, values):
        found = {}
        for name, how in change.items():
            old = values[how if isinstance(how, str) else name if name in values else "image"]
            found[name] = how(old) if callable(how) else old
        return found or None

    _source, target, inputs, expected = models
    before = target.get_weights()
    with pytest.raises(tp.RecipeError, match=words):
        check(models, changed(x, inputs), changed(y, expected))
    assert all(np.array_equal(a, b) for a, b in zip(before, target.get_weights(), strict=True))


def test_following_the_advice_on_channels_is_right(models):
    _, _, x, _ = models
    first = np.moveaxis(x["image"], -1, 1)
    assert check(models, x | {"image": first.transpose(0, 2, 3, 1)}).verdict == "pass"


def test_pickles_are_refused(models):
    with pytest.raises(tp.UnsafeError, match="pickle"):
        check(models, {"words": np.array([{}], dtype=object)})


def test_declared_sizes_are_checked(models):
    check(models)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)})
    with zipfile.ZipFile("x.npz", "w") as archive:
        archive.writestr("words.npy", header.getvalue() + b"1234")
    source, target, _, _ = models
    parity = {"inputs": "x.npz", "expected": "y.npz"}
    with pytest.raises(tp.FileError, match="needs 4,398,046,511,104"):
        tp.transfer(source, target, mapping=ALL, verify={"parity": parity})


def test_sizes_beyond_memory_are_refused(models, monkeypatch):
    monkeypatch.setattr(arrays, "free_memory", lambda: 100)
    with pytest.raises(tp.FileError, match="100 bytes of memory are free"):
        check(models)


@pytest.mark.parametrize("content", [None, b"", b"PK\3\4 no", b"nothing"])
def test_unreadable_files_are_refused(models, tmp_path, content):
    check(models)
    (tmp_path / "y.npz").unlink()
    if content is not None:
        (tmp_path / "y.npz").write_bytes(content)
    source, target, _, _ = models
    with pytest.raises(tp.FileError, match=r"y\.npz"):
        tp.transfer(source, target, mapping=ALL, verify={"parity": {"inputs": "x.npz", "expected": "y.npz"}})
