"""Rows that llama.cpp's converter has put into another order: warned of, and put back as the warning's page says."""

import re

import keras
import numpy as np
import pytest
from other_files import gguf

import transferpipe as tp
from transferpipe.codes import WARNINGS

HEADS, ROWS, COLUMNS = 4, 6, 5
TRUE = np.random.default_rng(1).normal(size=(HEADS * ROWS, COLUMNS)).astype("float32")


def interleaved(rows):
    """Return the rows as `LlamaModel.permute` of llama.cpp's converter leaves them, written out with loops."""
    heads = [rows[k * ROWS : (k + 1) * ROWS] for k in range(HEADS)]
    return np.stack([head[half * ROWS // 2 + i] for head in heads for i in range(ROWS // 2) for half in (0, 1)])


@pytest.fixture
def source(tmp_path):
    def write(architecture="llama", **tensors):
        facts = [("general.architecture", architecture), (f"{architecture}.attention.head_count", HEADS)]
        tensors = tensors or {"attn_q": interleaved(TRUE), "attn_v": TRUE}
        named = {f"blk.0.{name}.weight": value for name, value in tensors.items()}
        (tmp_path / "m.gguf").write_bytes(gguf(named, facts))
        return tmp_path / "m.gguf"

    return write


def dense():
    return keras.Sequential([keras.Input((COLUMNS,)), keras.layers.Dense(HEADS * ROWS, use_bias=False, name="query")])


def taken(name="attn_q", **rule):
    return {"query": {"to": "query", "from": f"blk/0/{name}", **rule}}


def codes(plan):
    return [w.code for w in plan.warnings]


def test_a_rule_that_takes_them_as_they_are_is_warned_of(source):
    plan = tp.plan(source(), dense(), mapping=taken())
    (warning,) = [w for w in plan.warnings if w.code == "row-order"]
    assert warning.where == "mapping.query"
    assert (
        "blk/0/attn_q/weight are interleaved for the rotary embedding of llama, in each of the 4 heads" in warning.text
    )


@pytest.mark.parametrize(("architecture", "name"), [("qwen2", "attn_q"), ("llama", "attn_v")])
def test_what_lies_as_in_the_model_is_not(source, architecture, name):
    assert "row-order" not in codes(tp.plan(source(architecture), dense(), mapping=taken(name)))


def advised(which):
    """Return one of the lists of steps on the warning's page, filled in."""
    text = re.findall(r"\[\{reshape.*?\]\}\]", WARNINGS["row-order"].fix)[which]
    sizes = {"D/2": ROWS // 2, "H*D": HEADS * ROWS, "H": HEADS, "D": ROWS, "N": COLUMNS}
    for word, size in sizes.items():
        text = re.sub(rf"(?<![\w*/]){re.escape(word)}(?![\w*/])", str(size), text)
    return eval(text, {"reshape": "reshape", "transpose": "transpose"})


@pytest.mark.follows("code: row-order")
def test_the_steps_for_a_layout_that_turns_the_kernel_put_them_back(source):
    model = dense()
    assert "row-order" in codes(tp.plan(source(), model, mapping=taken()))
    mapping = taken(transform=advised(1))
    assert "row-order" not in codes(tp.plan(source(), model, mapping=mapping))
    tp.transfer(source(), model, mapping=mapping)
    assert np.array_equal(model.layers[0].kernel, TRUE.T)


@pytest.mark.follows("code: row-order")
def test_the_steps_for_rows_put_them_back(source, tmp_path):
    np.savez(tmp_path / "t.npz", **{"query/weight": np.zeros_like(TRUE)})
    assert "row-order" in codes(tp.plan(source(), tmp_path / "t.npz", mapping=taken(), save="o.npz"))
    mapping = taken(transform=advised(0))
    tp.transfer(source(), tmp_path / "t.npz", mapping=mapping, folder=tmp_path, save="o.npz")
    assert np.array_equal(np.load(tmp_path / "o.npz")["query/weight"], TRUE)
