"""One status has one meaning: a file that is missing or damaged ends with 4, whatever was to be done with it."""

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from command_line import weights
from safetensors.numpy import save_file

onnx = pytest.importorskip("onnx")
from onnx_models import write_onnx  # noqa: E402 -- which needs it

FILES = ("m.keras", "m.h5", "m.weights.h5", "m.safetensors", "m.npz", "m.onnx")
PARTS = ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001")
OTHER = "weights.safetensors"
COMMANDS = {
    "inspect": lambda bad: ("inspect", bad),
    "diff A": lambda bad: ("diff", bad, OTHER),
    "diff B": lambda bad: ("diff", OTHER, bad),
    "parity A": lambda bad: ("parity", bad, "m.keras"),
    "parity B": lambda bad: ("parity", "m.keras", bad),
    "init": lambda bad: ("init", bad, OTHER),
    "suggest": lambda bad: ("suggest", f"source={bad}", f"target={OTHER}"),
    "plan": lambda bad: ("plan", "recipe=own", f"source.path={bad}"),
    "run": lambda bad: ("run", "recipe=own", f"source.path={bad}"),
    "run, target": lambda bad: ("run", "recipe=own", "~target", f"+target.path={bad}"),
    "verify": lambda bad: ("verify", f"{bad}-run"),
    "report": lambda bad: ("report", f"{bad}-run"),
}


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """Return a folder with whole files, and the names of those in it that are cut, emptied, zeroed or not there."""
    folder = tmp_path_factory.mktemp("files")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="d")])
    model.save(folder / "m.keras")
    model.save(folder / "m.h5")
    model.save_weights(folder / "m.weights.h5")
    save_file(weights(), folder / "m.safetensors")
    np.savez(folder / "m.npz", **weights())
    nodes = [onnx.helper.make_node("MatMul", ["x", "k"], ["y"])]
    write_onnx(folder, nodes, {"k": np.ones((4, 3), "float32")}, [4], 2)
    fused = onnx.load(folder / "m.onnx")
    fused.graph.node[0].op_type, fused.graph.node[0].domain = "FusedMatMul", "com.microsoft"
    fused.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    onnx.save(fused, folder / "fused.onnx")
    module = tf.Module()
    module.kernel = tf.Variable(tf.ones((4, 3)))
    module.call = tf.function(lambda x: x @ module.kernel, [tf.TensorSpec((None, 4), name="x")])
    tf.saved_model.save(module, str(folder / "m"), signatures={"serving_default": module.call})
    names = ["nowhere.keras", "nowhere.onnx", "nowhere"]
    for number, change in enumerate((lambda b: b[: len(b) // 2], lambda _: b"", lambda b: bytes(len(b)))):
        for name in FILES:
            names.append(f"{number}-{name}")
            (folder / names[-1]).write_bytes(change((folder / name).read_bytes()))
        for place, part in enumerate(PARTS):
            names.append(f"{number}-{place}")
            shutil.copytree(folder / "m", folder / names[-1])
            (folder / names[-1] / part).write_bytes(change((folder / "m" / part).read_bytes()))
    return folder, names


@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_or_damaged_file_is_status_4(cli, here, damaged, command):
    folder, names = damaged
    shutil.copy(folder / "m.keras", here)
    # All open a file by one function. Those that read a recipe take ten times as long: a part of the files for each.
    part = {"plan": slice(0, None, 6), "run": slice(1, None, 6), "run, target": slice(2, None, 6)}
    names, found = names[part.get(command, slice(None))], {}
    for name in names:
        answer = cli(*COMMANDS[command](str(folder / name)))
        found[name] = answer.status if answer.err.startswith("error: a file could not") else answer.err
    assert found == dict.fromkeys(names, 4)


@pytest.mark.parametrize(
    ("file", "old", "new", "count", "status"),
    [
        # What our reader does not look at: a text, a name that leads nowhere, an operator. What the file itself notes of
        # its operations, or of their domain, may be of another release or of the user's own.
        pytest.param(
            *("m/saved_model.pb", b"MatMul", b"Ma\xffMul", 1, 4),
            marks=pytest.mark.follows("check_operations: the model is damaged"),
        ),
        pytest.param(
            *("m/saved_model.pb", b"matmul/ReadVariableOp:", b"matmul/ReadVariableOq:", 1, 4),
            marks=pytest.mark.follows("SignatureRunner.__init__: the model is damaged"),
        ),
        ("m/saved_model.pb", b"MatMul", b"MatMal", -1, 3),
        ("m/saved_model.pb", b"\x12\x06MatMul", b"\x12\x06MatMal", -1, 4),  # of nodes, not of the list beside them
        pytest.param(  # a node's input comes before the graph's
            *("m.onnx", b"\x0a\x01x", b"\x0a\x01z", 1, 4),
            marks=pytest.mark.follows("OnnxRunner.__init__: the model is damaged"),
        ),
        ("m.onnx", b"MatMul", b"MatMal", 1, 4),
        ("m.onnx", b"\x12\x01y", b"\x12\x01x", 1, 4),  # a node that takes what it gives
        ("fused.onnx", b"FusedMatMul", b"FusedMatMal", 1, 3),
    ],
)
def test_a_graph_that_nothing_can_run_is_told_from_a_damaged_file(cli, here, damaged, file, old, new, count, status):
    name = file.partition("/")[0]
    (shutil.copytree if name == "m" else shutil.copy)(damaged[0] / name, here / name)
    data = (here / file).read_bytes()
    assert old in data
    (here / file).write_bytes(data.replace(old, new, count))
    answers = [cli("parity", *words) for words in ((name, damaged[0] / name), (damaged[0] / name, name))]
    assert [a.status for a in answers] == [status, status]
    if status == 4:
        assert "copy or save it again" in answers[0].err
        shutil.copy(damaged[0] / file, here / file)
        assert cli("parity", name, damaged[0] / name).status == 0
