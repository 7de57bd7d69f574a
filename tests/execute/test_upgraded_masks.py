"""Masks of padding in files of Keras 2 as targets, by the laws of Keras 2 written out in NumPy."""

import keras
import numpy as np
import pytest
from old_files import old_graph, old_layer, write_old_file

import transferpipe as tp

RNG = np.random.default_rng(8)


def rand(*shape):
    return RNG.normal(size=shape).astype("float32") * 0.7


IDS = np.array([[3, 1, 2, 0, 0], [4, 2, 0, 0, 0]])
VALUES = rand(2, 5, 2)
VALUES[:, 1] = 0.5  # what the Masking below takes for padding
WORDS, PLAIN, BIAS, KERNEL, RECURRENT = rand(5, 3), rand(2, 3), rand(3), rand(6, 2), rand(2, 2)
PARTS = ("query", "key", "value", "attention_output")
ATTENTIONS = {name: (rand(3, 2, 4), rand(3, 2, 4), rand(3, 2, 4), rand(2, 4, 3)) for name in ("first", "second")}
STORED = {
    "words": {"words/embeddings:0": WORDS},
    "dense": {"dense/kernel:0": PLAIN, "dense/bias:0": BIAS},
    "rnn": {"rnn/recurrent_kernel:0": RECURRENT},
    **{
        name: {f"{name}/{part}/kernel:0": w for part, w in zip(PARTS, parts, strict=True)}
        for name, parts in ATTENTIONS.items()
    },
}
INPUTS = (
    (old_layer("InputLayer", "ids", batch_input_shape=[None, 5], dtype="int32", sparse=False), []),
    (old_layer("InputLayer", "values", batch_input_shape=[None, 5, 2], dtype="float32", sparse=False), []),
    (old_layer("Embedding", "words", input_dim=5, output_dim=3, mask_zero=True), ["ids"]),
)
RNN = old_layer("SimpleRNN", "rnn", units=2, activation="tanh", use_bias=False)


def upgrade(folder, *layers, kernel=KERNEL[:3], version="2.2.4"):
    """Upgrade a graph of these layers, the last of which is its output; return what it computes, and the warnings."""
    names = [layer["config"]["name"] for layer, _ in (*INPUTS, *layers)]
    stored = {name: STORED[name] for name in names if name in STORED}
    if "rnn" in stored:
        stored["rnn"] = {"rnn/kernel:0": kernel, **stored["rnn"]}
    graph = old_graph([*INPUTS, *layers], ["ids", "values"], names[-1:])
    path = write_old_file(folder / "old.h5", graph, stored, version)
    result = tp.transfer({"path": path}, {"path": path}, unmatched="same_name", folder=folder / "made")
    model = keras.models.load_model(folder / "made" / "model.keras")
    return model([IDS, VALUES]), [w.text for w in result.plan.warnings if w.code == "upgraded"]


def run_masked(x, kernel, kept):
    """SimpleRNN's last output, which a place that is not kept leaves as it is."""
    h = np.zeros((len(x), 2))
    for t in range(x.shape[1]):
        h = np.where(kept[:, t : t + 1], np.tanh(x[:, t] @ kernel + h @ RECURRENT), h)
    return h


MERGES = {"Concatenate": lambda a, b: np.concatenate([a, b], -1), "Add": np.add}


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("both", [False, True], ids=["one input masked", "both"])
def test_a_recurrent_layer_behind_a_merge_leaves_out_what_any_input_masks(merge, both, tmp_path):
    dense = old_layer("Dense", "dense", units=3)
    masking = [(old_layer("Masking", "masked", mask_value=0.5), ["values"])] if both else []
    found, doubts = upgrade(
        tmp_path,
        *masking,
        (dense, ["masked" if both else "values"]),
        (old_layer(merge, "joined", **({"axis": -1} if merge == "Concatenate" else {})), ["words", "dense"]),
        (old_layer("Dropout", "dropped", rate=0.5), ["joined"]),
        (RNN, ["dropped"]),
        kernel=KERNEL if merge == "Concatenate" else KERNEL[:3],
    )
    seen = (VALUES != 0.5).any(-1)
    values = VALUES * seen[..., None] if both else VALUES  # Masking gives 0 where it masks
    joined = MERGES[merge](WORDS[IDS], values @ PLAIN + BIAS)
    expected = run_masked(joined, KERNEL[: joined.shape[-1]], (IDS != 0) & (seen | (not both)))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert doubts == []


def attend(x, query, key, value, out, allowed):
    """MultiHeadAttention of a tensor to itself, without biases; `allowed` has a row for each query."""
    q, k, v = (np.einsum("btc,chd->bthd", x, w) for w in (query, key, value))
    scores = np.where(allowed[:, None], np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(q.shape[-1]), -1e9)
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bhqk,bkhd,hdc->bqc", e / e.sum(-1, keepdims=True), v, out)


def test_two_attentions_to_one_tensor_both_leave_its_padding_out(tmp_path):
    call = [("words", {"value": ["words", 0, 0]})]
    found, doubts = upgrade(
        tmp_path,
        *((old_layer("MultiHeadAttention", n, num_heads=2, key_dim=4, use_bias=False), call) for n in ATTENTIONS),
        (old_layer("Average", "mean"), ["first", "second"]),
        version="2.9.0",
    )
    kept = IDS != 0
    allowed = kept[:, :, None] & kept[:, None]
    np.testing.assert_allclose(
        found, sum(attend(WORDS[IDS], *parts, allowed) for parts in ATTENTIONS.values()) / 2, atol=1e-5
    )
    assert doubts == []


def test_of_a_mask_that_is_lost_for_another_layer_it_is_said(tmp_path):
    layers = [
        (old_layer("Dense", "dense", units=3), ["values"]),
        (old_layer("Add", "sum"), ["words", "dense"]),
        (old_layer("Attention", "read"), ["sum", "sum"]),
    ]
    _, doubts = upgrade(tmp_path, *layers, version="2.9.0")
    assert [text.partition(":")[0] for text in doubts] == ["sum"] and "not masked alike" in doubts[0]


def test_of_a_merge_that_leaves_masked_values_out_it_is_said(tmp_path):
    layers = [(old_layer("Activation", "gate", activation="sigmoid"), ["words"])]
    _, doubts = upgrade(tmp_path, *layers, (old_layer("Multiply", "gated"), ["words", "gate"]))
    assert [text.partition(":")[0] for text in doubts] == ["gated"] and "leaves values out" in doubts[0]
