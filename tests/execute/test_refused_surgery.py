"""Surgery that cannot be: each is said with its place, and nothing is written."""

import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import transferpipe as tp
from transferpipe.errors import TransferError

TABLE = np.arange(12, dtype="float32").reshape(4, 3)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tensors = {"a/kernel": TABLE, "a/empty": np.zeros((0, 3), "float32"), "a/scalar": np.full((), 3, "float32")}
    save_file(tensors, "one.safetensors")
    save_file({**tensors, "a/kernel": TABLE + 1}, "two.safetensors")
    save_file({"a/kernel": np.zeros((4, 5), "float32"), "b/kernel": TABLE}, "wide.safetensors")
    save_file({"a/kernel": np.full((4, 3), np.nan, "float32")}, "nan.safetensors")
    save_file({"a/kernel": TABLE - 5}, "mixed.safetensors")
    save_file({"a/kernel": TABLE}, "target.safetensors")
    Path("twice.txt").write_text("cat\ndog\ncat\nfox\n")
    Path("names.txt").write_text("cat\ndog\nfox\nowl\n")
    Path("broken.json").write_text('{"cat": 0, "dog": "one"}')
    Path("bytes.txt").write_bytes(b"\xff\xfe\x00cat")
    Path("empty.txt").write_text("")


def rows(old, new="names.txt", kind="class_names"):
    return {"transform": [{kind: {"from": old, "to": new, "axis": 0}}]}


def merged(merge, *sources):
    return {"from": [rf"{name}:\0" for name in sources or ("one", "two")], "merge": merge}


CASES = {
    "an unknown token file": (rows("none.txt", kind="vocabulary"), r"none\.txt"),
    "a token file that is no list": (rows("broken.json", kind="vocabulary"), r"broken\.json"),
    "a token file that is no text": (rows("bytes.txt", kind="vocabulary"), r"bytes\.txt: is not UTF-8"),
    "an empty token file": (rows("empty.txt", kind="vocabulary"), r"empty\.txt"),
    "a label twice": (rows("twice.txt"), r"twice\.txt.*'cat'"),
    "a label twice among the new": (rows("names.txt", "twice.txt"), r"twice\.txt.*'cat'"),
    "more rows than labels": (rows("names.txt") | {"from": "one:a/empty"}, r"class_names.*\(0, 3\)"),
    "a density above 1": (merged({"ties": {"base": "one", "density": 1.5}}), "density.*1.5"),
    "a density below 0": (merged({"ties": {"base": "one", "density": -0.1}}), "density.*-0.1"),
    "a density that is not a number": (merged({"dare": {"base": "one", "density": float("nan")}}), "density"),
    "a density of none": (merged({"della": {"base": "one", "density": None}}), "density"),
    "models of other architectures": (merged("mean", "one", "wide"), r"one:a/kernel, wide:a/kernel.*\(4, 3\).*\(4, 5\)"),
    "a base that is not there": (merged({"ties": {"base": "base", "density": 1}}), "'base'"),
    "sizes that do not divide": ({"transform": [{"split": {"axis": 0, "parts": 3, "part": 0}}]}, r"split.*4"),
    "heads that do not divide": ({"transform": [{"unfuse_qkv": {"part": "q", "heads": 5}}]}, r"unfuse_qkv"),
    "an empty array where one is needed": ({"from": "one:a/empty", "transform": [{"max": {"axis": 0}}]}, r"max.*\(0, 3\)"),
    "a number where axes are needed": ({"from": "one:a/scalar", "transform": ["transpose", {"channels": "sum"}]}, r"channels"),
    "an axis that is not there": ({"transform": [{"flip": [5]}]}, r"flip.*5"),
    "a negative size": ({"transform": [{"reshape": [-3, 4]}]}, "reshape"),
    "a huge size": ({"transform": [{"pad": {"axis": 0, "before": 10**12}}]}, r"a/kernel|pad"),
    "a huge integer": ({"transform": [{"repeat": {"axis": 0, "times": 10**30}}]}, "repeat"),
    "NaN in a source": ({"from": r"nan:\0"}, r"nan\.safetensors: a/kernel: holds 12 values that are NaN"),
    "what becomes infinite between steps": ({"transform": [{"scale": 1e38}, {"scale": 1e38}, {"scale": 1e-38}]}, "scale"),
    "what becomes NaN between steps": ({"transform": [{"scale": 3e38}, {"normalize": {}}, {"scale": 1e-9}]}, "scale|normalize"),
}  # fmt: skip


@pytest.mark.parametrize(("rule", "said"), CASES.values(), ids=list(CASES))
def test_nothing_is_written(rule, said):
    sources = {name: {"path": f"{name}.safetensors", "layout": "keras"} for name in ("one", "two", "wide", "nan")}
    used = {name: sources[name] for name in sources if f"{name}:" in str(rule)} or {"one": sources["one"]}
    rule = {"to": "a/kernel", **({} if "from" in rule else {"from": rf"{next(iter(used))}:\0"}), **rule}
    there = {path.name for path in Path().iterdir()}
    with pytest.raises(TransferError) as caught:
        tp.transfer(used, "target.safetensors", mapping={"r": rule}, save="o.safetensors")
    text = " ".join(str(caught.value).split())
    assert re.search(said, text), text
    assert {path.name for path in Path().iterdir()} == there
