"""Which part of a checkpoint holds the weights: found by its name, or selected; the rest is listed beside it."""

import numpy as np
import pytest
from torch_files import plain, write_zip

from transferpipe.errors import RecipeError
from transferpipe.weights.formats import open_source

ONE, TWO, THREE = (np.full(4, n, "float32") for n in (1, 2, 3))


@pytest.fixture
def save(tmp_path):
    """Return a function that writes nested dicts with arrays as leaves, and opens them."""

    def save(root, select=None):
        stored = {}
        path = write_zip(tmp_path / "x.pt", _tensors(root, stored), stored)
        return open_source(path, select=select)

    return save


def _tensors(root, stored):
    if isinstance(root, np.ndarray):
        made, values = plain({"w": root})
        key = str(len(stored))
        stored[key] = values["0"]
        where = made["w"].arguments[0]
        where.id = (*where.id[:2], key, *where.id[3:])
        return made["w"]
    if isinstance(root, dict):
        return {k: _tensors(v, stored) for k, v in root.items()}
    return [_tensors(v, stored) for v in root] if isinstance(root, list) else root


def names(weights):
    return [w.name for w in weights]


@pytest.mark.parametrize(
    "wrapper",
    ["state_dict", "model", "model_state_dict", "model_state", "module", "net", "network", "ema", "model_ema", "params",
     "params_ema", "weights", "net_state_dict", "state_dict_ema", "teacher_state_dict"],
)  # fmt: skip
def test_wrappers_are_found(save, wrapper):
    source = save({"epoch": 1, wrapper: {"a.b": ONE}, "optimizer": {"state": {0: {"exp_avg": TWO}}}, "best": THREE})
    assert (source.select, names(source.catalog)) == (wrapper, ["a/b"])
    assert names(source.others) == ["optimizer/state/0/exp_avg", "best"]
    assert source.details == {"selected": wrapper, "not tensors": "epoch"}
    assert source.read("a/b").tolist() == ONE.tolist()
    assert source.read_entry(source.others[0]).tolist() == TWO.tolist()
    assert source.catalog["a/b"].where == f"{wrapper}.a.b"


def test_a_plain_state_dict_has_no_wrapper(save):
    source = save({"model.0.weight": ONE, "net.bias": TWO})
    assert (source.select, names(source.catalog)) == (None, ["model/0/weight", "net/bias"])


def test_a_tensor_is_no_wrapper(save):
    assert names(save({"weights": ONE, "params": TWO}).catalog) == ["weights", "params"]


@pytest.mark.parametrize("select", [None, "state_dict"])
@pytest.mark.parametrize("wrapped", ["module.", "_orig_mod.", "module._orig_mod."])
def test_what_a_wrapper_puts_before_all_names_is_left_out(save, wrapped, select):
    source = save({"state_dict": {f"{wrapped}conv.weight": ONE, f"{wrapped}conv.bias": TWO}}, select)
    assert names(source.catalog) == ["conv/weight", "conv/bias"]
    assert source.catalog["conv/weight"].where == f"state_dict.{wrapped}conv.weight"
    assert source.read(f"{wrapped}conv.weight".replace(".", "/")).tolist() == ONE.tolist()  # recipes that say it go on


def test_a_module_of_that_name_beside_others_stays(save):
    assert names(save({"module.conv.weight": ONE, "head.weight": TWO}).catalog) == ["module/conv/weight", "head/weight"]


@pytest.mark.parametrize(
    ("root", "selected", "found"),
    [
        ({"model": {"state_dict": {"a.b": ONE}, "name": "x"}}, "model/state_dict", ["a/b"]),
        ({"state": {"model_state_dict": {"a": ONE}, "step": 1}, "epoch": 2}, "state/model_state_dict", ["a"]),
        ({"state": {"model": {"state_dict": {"a": ONE}}}}, "state/model/state_dict", ["a"]),
        ({"checkpoint": {"state_dict": {"a": ONE}}, "optimizer": {"x": TWO}}, "checkpoint/state_dict", ["a"]),
        ({"model": {"state_dict": {"a": ONE}, "b": TWO}}, "model", ["state_dict/a", "b"]),
        ({"model": {"encoder": {"a": ONE}}}, "model", ["encoder/a"]),
        (
            {"model": {"x_state_dict": {"a": ONE}, "y_state_dict": {"a": TWO}}},
            "model",
            ["x_state_dict/a", "y_state_dict/a"],
        ),
    ],
)
def test_selection_goes_down_to_the_state_dict(save, root, selected, found):
    source = save(root)
    assert (source.select, names(source.catalog)) == (selected, found)


def test_several_parts_without_a_known_name_are_all_taken(save):
    source = save({"generator": {"w": ONE}, "critic": {"w": TWO}, "optimizer_g": {}, "optimizers": [{"m": THREE}]})
    assert names(source.catalog) == ["generator/w", "critic/w"]
    assert names(source.others) == ["optimizers/0/m"]


@pytest.mark.parametrize(
    "key", ["optimizer", "optimizer_state_dict", "optimizer_states", "lr_scheduler", "grad_scaler", "rng_state", "opt"]
)
def test_the_state_of_training_is_beside_the_weights(save, key):
    source = save({"enc": {"w": ONE}, key: {"x": TWO}, "cuda_rng_state": THREE})
    assert (names(source.catalog), names(source.others)) == (["enc/w"], [f"{key}/x", "cuda_rng_state"])


def test_a_layer_may_be_called_like_an_optimizer(save):
    assert names(save({"opt": ONE, "scaler": TWO}).catalog) == ["opt", "scaler"]


def test_two_wrappers_ask_which(save):
    root = {"model": {"w": ONE}, "model_ema": {"w": TWO}}
    with pytest.raises(
        RecipeError,
        match=r"select: the checkpoint holds weights under 'model', 'model_ema' -> choose one: select: model under the source, or select=model",
    ):
        save(root)
    assert save(root, "model").read("w").tolist() == ONE.tolist()
    source = save(root, "model_ema")
    assert source.read("w").tolist() == TWO.tolist()
    assert (source.select, names(source.others)) == ("model_ema", ["model/w"])


@pytest.mark.parametrize(
    ("select", "selected", "found"),
    [
        ("a/b", "a/b", ["w", "c/w"]),
        ("a.b", "a/b", ["w", "c/w"]),
        ("a.b/c", "a/b/c", ["w"]),
        ("a", "a", ["b/w", "b/c/w", "d/0/w"]),
        ("a/d/0", "a/d/0", ["w"]),
        ("a.d", "a/d", ["0/w"]),
        ("x.y", "x.y", ["w"]),
        ("x/y", None, None),
        ("a/b/w", "a/b", ["w"]),
    ],
)
def test_select_is_a_path_of_keys(save, select, selected, found):
    root = {"a": {"b": {"w": ONE, "c": {"w": TWO}}, "d": [{"w": THREE}]}, "x.y": {"w": ONE}}
    if found is None:
        with pytest.raises(RecipeError, match=r"there is no 'x/y' at the top"):
            save(root, select)
    else:
        source = save(root, select)
        assert (source.select, names(source.catalog)) == (selected, found)
        assert names(save(root, source.select).catalog) == ([*found] if select != "a/b/w" else ["w", "c/w"])


@pytest.mark.parametrize(
    ("select", "words"),
    [
        ("modle", r"select: there is no 'modle' at the top of the checkpoint -> did you mean 'model'\? tensors are under 'model', 'ema'"),
        ("model/stat", r"select: there is no 'stat' under 'model' -> did you mean 'state'\? tensors are under 'state'"),
        ("model/state/w/x", r"select: there is no 'x' under 'model/state/w'"),
        ("epoch", r"select: there are no tensors under 'epoch' -> tensors are under 'model', 'ema'"),
        ("zzz", r"at the top of the checkpoint -> tensors are under 'model', 'ema'"),
    ],
)  # fmt: skip
def test_a_wrong_select_says_what_there_is(save, select, words):
    root = {"model": {"state": {"w": ONE}}, "ema": {"w": TWO}, "epoch": 3}
    with pytest.raises(RecipeError, match=words):
        save(root, select)


def test_what_is_selected_goes_on_down_to_its_state_dict(tmp_path):
    arrays = {"a": np.arange(3, dtype="float32"), "b": np.arange(3, 6, dtype="float32")}
    tensors, stored = plain(arrays)
    root = {"model": {"epoch": 1, "state_dict": {"w": tensors["a"]}}, "ema": {"state_dict": {"w": tensors["b"]}}}
    write_zip(tmp_path / "x", root, stored)
    for select, value in {"model": arrays["a"], "model/state_dict": arrays["a"], "ema": arrays["b"]}.items():
        source = open_source(tmp_path / "x", select=select)
        assert ([w.name for w in source.catalog], source.select) == (["w"], f"{select.partition('/')[0]}/state_dict")
        assert source.read("w").tobytes() == value.tobytes()
