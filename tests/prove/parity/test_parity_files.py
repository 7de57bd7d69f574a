"""Arrays that an original wrote elsewhere: by name and order, of layers, and everything that can be wrong with them."""

import contextlib
import io
import zipfile

import keras
import numpy as np
import pytest
from twins import filled

import transferpipe as tp
from transferpipe.prove.parity import arrays

ALL = {"all": {"to": ".*"}}
follows = pytest.mark.follows


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


@pytest.mark.parametrize("whole", [True, False])
def test_what_is_given_under_the_name_of_a_layer_must_agree(models, whole):
    _, _, _, y = models
    wrong = (y if whole else {}) | {"body/conv": y["body/conv"] + 0.1, "body": y["body/conv"]}
    with pytest.raises(tp.VerificationError, match=r"body/conv is the first that differs, by 0\.1"):
        check(models, expected=wrong)


@pytest.mark.parametrize(
    ("off", "words"),
    [
        ({}, ""),
        ({"body/conv": 0.1}, "body/conv is the first that differs"),
        ({"two": 0.1}, "two is the first that differs"),
        ({"body/conf": 0}, "body/conf: the model has no output and no layer of this name"),
    ],
)
def test_a_callable_may_give_layers_by_name(models, tmp_path, off, words):
    source, target, x, y = models
    np.savez("x.npz", **x)
    np.savez("y.npz", **y | {name: y.get(name, np.zeros(3)) + by for name, by in off.items()})
    name = f"by_name_{len(words)}"  # a module is imported once
    (tmp_path / f"{name}.py").write_text("import numpy\n\ndef give(*_):\n    return dict(numpy.load('y.npz'))\n")
    parity = {"source": {"_target_": f"{name}.give"}, "inputs": "x.npz"}
    with pytest.raises((tp.VerificationError, tp.RecipeError), match=words) if words else contextlib.nullcontext():
        assert tp.transfer(source, target, mapping=ALL, verify={"parity": parity}).parity.compared == 3


def test_further_calls_of_a_layer_are_given_by_their_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def build():
        inputs, dense = keras.Input((4,), name="in"), keras.layers.Dense(4, name="dense")
        return keras.Model(inputs, keras.layers.Dense(2, name="head")(dense(dense(inputs))))

    source, target = filled(build()), build()
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("f4")
    dense = source.get_layer("dense")
    right = {"head": source(x).numpy(), "dense (call 2)": dense(dense(x)).numpy()}
    assert check((source, target, {"x": x}, right)).compared == 2
    with pytest.raises(tp.VerificationError, match=r"dense \(call 2\) is the first that differs"):
        check((source, target, {"x": x}, right), expected=right | {"dense (call 2)": right["dense (call 2)"] + 0.1})


def test_by_order(models):
    _, _, x, y = models
    inputs, expected = {f"arr_{i}": v for i, v in enumerate(x.values())}, {"a": y["one"], "b": y["two"]}
    assert check(models, inputs, expected).verdict == "pass"


def test_channels_first_output_is_compared_in_its_own_order(models):
    _, _, _, y = models
    assert check(models, expected=y | {"body/conv": np.moveaxis(y["body/conv"], -1, 1)}).verdict == "pass"


def test_values_that_were_written_in_float16_are_met_within_their_rounding(models):
    _, _, _, y = models
    rounded = {n: v.astype("float16") for n, v in y.items()}
    assert check(models, expected=rounded).verdict == "pass"
    with pytest.raises(tp.VerificationError, match="one is the first that differs"):
        check(models, expected=rounded | {"one": rounded["one"] * np.float16(1.1)})


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
    "samples in": (
        {"words": lambda v: v[:2], "image": 0},
        {},
        "different numbers of samples: words 2, image 3",
    ),
    "range": ({"words": lambda v: v + 2**40, "image": 0}, {}, "has values that int32 cannot hold"),
    "overflow": ({"words": 0, "image": lambda v: v * 1e60}, {}, "has values that float32 cannot hold"),
    "NaN in": ({"words": 0, "image": lambda v: v * np.nan}, {}, "image: holds NaN or infinity"),
    "empty": ({"words": lambda v: v[:0], "image": lambda v: v[:0]}, {}, "has no elements"),
    "NaN out": ({}, {"one": lambda v: v * np.nan}, "one: holds NaN or infinity, which equals nothing"),
    "unknown": ({}, {"one": 0, "body/conf": "body/conv"}, "did you mean 'body/conv'"),
    "other shape": ({}, {"one": lambda v: v[:, :2]}, r"has shape \(3, 2\); the model's is \(3, 3\)"),
    "text out": ({}, {"one": lambda v: v.astype("U9")}, "outputs are numbers"),
    "samples": ({}, {"one": lambda v: v[:2]}, r"has shape \(2, 3\)"),
}


FOLLOWED = {
    "samples in": "_check_samples: write as many of",
    "samples": "_check_shapes: compute it from the",
    "other shape": "_check_shapes: compute it from the",
}


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        pytest.param(*case, id=name, marks=[pytest.mark.follows(FOLLOWED[name])] if name in FOLLOWED else [])
        for name, case in WRONG.items()
    ],
)
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
    assert check(models).verdict == "pass"  # with the model's own inputs, and what it computed from them


@pytest.mark.parametrize("kept", [("one", "body/conv"), ("body/conv", "body")])
def test_outputs_of_which_nothing_is_said_leave_it_open(models, kept):
    """What is compared equals, and says nothing of an output with weights of its own."""
    y = {"body": models[3]["body/conv"], **models[3]}
    found = check(models, expected={name: y[name] for name in kept})
    assert (found.verdict, found.first) == ("inconclusive", None)
    rest = "two is" if "one" in kept else "one, two are"
    assert f"{rest} not compared with anything (y.npz has no such output)" in found.reason
    assert check(models).verdict == "pass"  # with the expected values that it asks for


@pytest.mark.parametrize("calls", [1, 2])
def test_an_output_that_is_computed_of_compared_ones_needs_no_values(calls, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def build():
        entry, dense = keras.Input((4,)), keras.layers.Dense(4, name="logits")
        logits = dense(entry) if calls == 1 else dense(dense(entry))
        return keras.Model(entry, {"logits": logits, "scores": keras.layers.Softmax(name="scores")(logits)})

    source, x = filled(build()), np.random.default_rng(3).normal(size=(3, 4)).astype("float32")
    assert check((source, build(), {"x": x}, {"logits": source(x)["logits"].numpy()})).verdict == "pass"


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


def advised(*args, **keys):
    with pytest.raises(tp.TransferError) as caught:
        check(*args, **keys)
    return caught.value.problems[0].fix


@follows("difference: likely cause: …")
def test_a_difference_without_a_cause_is_looked_for_layer_by_layer(models):
    y = models[3]
    wrong = y | {"one": y["one"] + np.linspace(0, 1, 3, dtype="f4")}
    del wrong["body/conv"]
    fix = advised(models, expected=wrong)
    assert fix.startswith("compare layer by layer: give expected outputs of layers")
    wrong["body/conv"] = y["body/conv"] + 1
    with pytest.raises(tp.VerificationError, match="body/conv is the first that differs"):
        check(models, expected=wrong)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda p: p.write_bytes(p.read_bytes()[:-30]), marks=follows("read_arrays: write the file again")),
        pytest.param(lambda p: np.savez(p), marks=follows("read_arrays: write the file again #2")),
        pytest.param(
            lambda p: rewrite(p, lambda data: data[:-4]), marks=follows("_check_declared: write the file again")
        ),
    ],
)  # fmt: skip
def test_a_file_of_arrays_that_is_damaged(models, damage, tmp_path):
    source, target, x, y = models
    np.savez("x.npz", **x)
    np.savez("y.npz", **y)
    damage(tmp_path / "x.npz")
    parity = {"parity": {"inputs": "x.npz", "expected": "y.npz"}}
    with pytest.raises(tp.TransferError) as caught:
        tp.transfer(source, target, mapping=ALL, verify=parity)
    assert caught.value.problems[0].fix == "write the file again with numpy.savez"
    np.savez("x.npz", **x)
    assert tp.transfer(source, target, mapping=ALL, verify=parity).parity.verdict == "pass"


def rewrite(path, change):
    """Write the members of an archive again, one of them changed."""
    with zipfile.ZipFile(path) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for number, (name, data) in enumerate(held.items()):
            archive.writestr(name, change(data) if not number else data)


@follows("read_arrays: write fewer samples into")
def test_more_samples_than_memory(models, monkeypatch):
    _, _, x, y = models
    with monkeypatch.context() as patch:
        patch.setattr(arrays, "free_memory", lambda: sum(v[:1].nbytes for v in x.values()) + 99)
        assert advised(models) == "write fewer samples into it"
        few = {name: value[:1] for name, value in y.items()}
        patch.setattr(arrays, "free_memory", lambda: 10**6)
        assert check(models, {name: value[:1] for name, value in x.items()}, few).verdict == "pass"


@follows("note_unclear_layers: name another layer")
def test_a_layer_of_several_outputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def build():
        inputs = keras.Input((5, 4))
        sequence = keras.layers.LSTM(3, return_sequences=True, return_state=True, name="lstm")(inputs)[0]
        return keras.Model(inputs, keras.layers.Dense(2, name="head")(sequence))

    source, target = filled(build()), build()
    x = np.random.default_rng(0).normal(size=(2, 5, 4)).astype("f4")
    given = source, target, {"x": x}, {"output": source(x).numpy()}
    outputs = source.layers[1](x)[0].numpy()
    assert advised(given, expected={"head": given[3]["output"], "lstm": outputs}) == "name another layer"
    assert check(given, expected={"head": given[3]["output"]}).verdict == "pass"
