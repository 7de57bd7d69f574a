"""What is tried of a layer whose output differs: each trial undoes its fault, as the original itself computes."""

import keras
import numpy as np
import pytest
from keras import layers
from twins import filled

import transferpipe as tp
from transferpipe.prove.parity.causes import cause
from transferpipe.prove.parity.causes.known_weights import describe_weights
from transferpipe.prove.parity.causes.trials import trials_of
from transferpipe.prove.parity.keras_trace import KerasRunner


def net(shape, *stack):
    return filled(keras.Sequential([keras.Input(shape), *stack]))


def attention(heads):
    entry = keras.Input((5, 8))
    return filled(keras.Model(entry, layers.MultiHeadAttention(heads, 8 // heads, name="l")(entry, entry)))


def moved(value, parts):
    """Return a weight whose blocks of gates are ordered otherwise."""
    blocks = np.split(value, len(parts), -1)
    return np.concatenate([blocks[i] for i in parts], -1)


FAULTS = {  # what builds the original, what builds the target, a change of each weight, the layer, the kind of trial
    "biases": (
        lambda: net((4, 3), layers.GRU(3, name="l")),
        None,
        lambda w: w[::-1] if len(w) == 2 else w,
        "l",
        "biases exchanged",
    ),
    "gates of maps": (
        lambda: net((3, 4, 4, 2), layers.ConvLSTM2D(2, 3, name="l")),
        None,
        lambda w: moved(w, (0, 1, 3, 2)),
        "l",
        "gates (0, 1, 3, 2)",
    ),
    "gates in a stack": (
        lambda: net((4, 3), layers.RNN([layers.LSTMCell(3), layers.LSTMCell(3)], name="l")),
        None,
        lambda w: moved(w, (0, 2, 1, 3)),
        "l",
        "gates (0, 2, 1, 3)",
    ),
    "heads": (lambda: attention(2), lambda: attention(4), lambda w: w, "l", "heads 2"),
}


@pytest.mark.parametrize(("build", "other", "fault", "layer", "kind"), FAULTS.values(), ids=FAULTS)
def test_a_trial_undoes_its_fault(build, other, fault, layer, kind):
    original, target = build(), (other or build)()
    values = zip(target.weights, original.get_weights(), strict=True)
    target.set_weights([fault(value.reshape(weight.shape)) for weight, value in values])
    x = np.random.default_rng(2).normal(size=(2, *original.input_shape[1:])).astype("float32")
    runner = KerasRunner(target, "target")
    trace = runner.run([x])
    undone = {
        call.name: trial.override for call in trace.calls for trial in trials_of(call, trace) if trial.kind == kind
    }
    assert any(name.split("/")[0] == layer for name in undone)
    expected = original(x).numpy()
    assert not np.allclose(next(iter(trace.outputs.values())), expected, atol=1e-3)
    np.testing.assert_allclose(next(iter(runner.run([x], undone).outputs.values())), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lambda w: w * 2, "kernel is the original's multiplied by 2"),
        (lambda w: w.T, "kernel is the original's transposed by [1, 0]"),
        (lambda w: w[[1, 0, 2]], "kernel is the original's with the 3 entries of axis 0 in another order"),
        (lambda w: w[:, [1, 0, 2]], "kernel is the original's with the 3 entries of axis 1 in another order"),
        (lambda w: np.sort(w), "kernel holds the original's values in another order"),
        (lambda w: w * 0, "kernel is all zero"),
        (lambda w: w.astype("float16"), "kernel is the original's, rounded as narrower floats are"),
        (lambda w: w + np.eye(3), "kernel differs from the original's in 3 of 9 elements"),
        (lambda w: w + 1, ""),
        ("b", "kernel is the original's b/kernel"),
    ],
)
def test_known_weights_are_described_by_the_original_s(fault, words):
    original, target = (net((3,), layers.Dense(3, name="a"), layers.Dense(3, name="b")) for _ in range(2))
    target.set_weights(original.get_weights())
    (kernel, _), (other, _) = (layer.weights for layer in target.layers)
    kernel.assign(other.numpy() if fault == "b" else fault(kernel.numpy()))
    held = {layer.name: layer for layer in original.layers}
    assert describe_weights(target.layers[0], original.layers[0], held) == words


class Masked(keras.Model):
    def __init__(self):
        super().__init__()
        self.table, self.l = layers.Embedding(9, 3, mask_zero=True, name="table"), layers.LSTM(3, name="l")

    def call(self, x):
        return self.l(self.table(x))


def test_gates_are_tried_with_the_mask_that_a_tensor_carries():
    original, target = Masked(), Masked()
    x = np.array([[1, 2, 0, 3, 0], [4, 5, 0, 0, 0]], "int32")
    for model in (original, target):
        model(x)
    filled(original)
    target.set_weights([moved(w, (0, 2, 1, 3)) if w.shape[-1] == 12 else w for w in original.get_weights()])
    trace = KerasRunner(target, "target").run([x])
    call = trace.by_label["l"]
    (trial,) = (t for t in trials_of(call, trace) if t.kind == "gates (0, 2, 1, 3)")
    np.testing.assert_allclose(trial.override(call.args, call.kwargs), original(x), atol=1e-5)


@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU])
def test_gates_are_tried_before_what_takes_a_graph_each(kind, monkeypatch):
    monkeypatch.setattr(cause, "_MOST_EXPERIMENTS", 25)
    original, target = (net((4, 3), layers.Dense(3, "tanh"), kind(3, name="l")) for _ in range(2))
    parts = (0, 2, 1, 3)[: 4 if kind is layers.LSTM else 3]
    target.set_weights([moved(w, parts) if w.shape[-1] > 3 else w for w in original.get_weights()])
    assert tp.parity(original, target).cause.startswith("gate order of l: ")


def test_what_is_known_to_be_alike_is_not_tried(monkeypatch):
    """Where weights of a layer are noise, no setting explains it, and those of both models are known to be equal."""
    runs = []
    monkeypatch.setattr(KerasRunner, "run", lambda *a, run=KerasRunner.run, **k: (runs.append(1), run(*a, **k))[1])
    original, target = (net((4, 3), layers.GRU(3, name="l"), layers.Dense(2, name="d")) for _ in range(2))
    target.set_weights(original.get_weights())
    first = target.layers[0]
    first.set_weights([np.sin(3 + 9 * np.arange(w.size)).reshape(w.shape) for w in first.get_weights()])
    found = tp.parity(original, target)
    assert found.cause.startswith("not found by experiment; ")
    assert "; tried, alone and together: " in found.cause
    assert "activation" not in found.cause
    # Two of the comparison; 5 orders of three gates, some twice: of the cell, and of the layer that holds it.
    assert len(runs) < 60


def test_a_search_of_recurrent_layers_is_ended_sooner(monkeypatch, tmp_path):
    """Each activation of a recurrent layer is a graph of its own; of noise, none is the cause."""
    monkeypatch.setattr(cause, "_MOST_RECURRENT", 12)
    runs = []
    monkeypatch.setattr(KerasRunner, "run", lambda *a, run=KerasRunner.run, **k: (runs.append(1), run(*a, **k))[1])
    target = net((4, 3), layers.LSTM(3, name="l"), layers.Dense(2))
    np.savez(tmp_path / "x.npz", np.random.default_rng(0).normal(size=(4, 4, 3)).astype("float32"))
    np.savez(tmp_path / "y.npz", np.random.default_rng(1).normal(size=(4, 2)).astype("float32"))
    check = {"inputs": str(tmp_path / "x.npz"), "expected": str(tmp_path / "y.npz")}
    with pytest.raises(tp.VerificationError, match=r"tried, .*gate order.* \(the search ended after 12 experiments\)"):
        tp.transfer(target, target, mapping={"all": {"to": ".*"}}, verify={"parity": check})
    assert len(runs) < 20


@pytest.mark.parametrize(
    ("one", "other", "cause"),
    [
        (
            layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 5.0, 6.0], name="l"),
            layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 1.0, 1.0], name="l"),
            "variance of l: [1.0, 1.0, 1.0], the original has [4.0, 5.0, 6.0]; with that the values agree",
        ),
        (
            layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 5.0, 6.0], name="l"),
            layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 5.0, 6.0], invert=True, name="l"),
            "invert of l: True, the original has False; with that the values agree",
        ),
        (
            layers.EinsumDense("ab,bc->ac", (3,), name="l"),
            layers.EinsumDense("ab,cb->ac", (3,), name="l"),
            "equation of l: ab,cb->ac, the original has ab,bc->ac; with that the values agree",
        ),
    ],
)
def test_any_setting_that_both_configurations_tell_may_be_the_cause(one, other, cause):
    original, target = (net((3,), layer, layers.Dense(2, name="d")) for layer in (one, other))
    target.set_weights(original.get_weights())
    assert tp.parity(original, target).cause.startswith(cause)
