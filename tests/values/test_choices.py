"""Edits by pattern, mask, magnitude, filter and file, and what they leave as it was; expected values are NumPy's."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import transferpipe as tp
from transferpipe.cli import main
from transferpipe.errors import TransferError

RANDOM = np.random.default_rng(11)
WEIGHTS = {
    "a/kernel": RANDOM.normal(size=(3, 3, 4, 6)).astype("float32"),
    "a/bias": RANDOM.normal(size=6).astype("float32"),
    "b/kernel": (5 * RANDOM.normal(size=(8, 5))).astype("float32"),
    "b/bias": RANDOM.normal(size=5).astype("float16"),
}
A, B = WEIGHTS["a/kernel"], WEIGHTS["b/kernel"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file(WEIGHTS, "w.safetensors")


def run(**edits):
    Path("o.safetensors").unlink(missing_ok=True)
    report = tp.transfer(None, "w.safetensors", unmatched="keep", edit=edits, save="o.safetensors")
    return load_file("o.safetensors"), report


def zeroed(value, mask):
    return np.where(mask, np.float32(0), value)


def smallest(sizes, number):
    mask = np.zeros(sizes.size, bool)
    mask[np.argsort(sizes.ravel(), kind="stable")[:number]] = True
    return mask.reshape(sizes.shape)


TOGETHER = smallest(np.concatenate([np.abs(A).ravel(), np.abs(B).ravel()]), round(0.5 * (A.size + B.size)))
NORMS = np.sqrt((A.astype("float64") ** 2).sum((0, 1, 2)))
CHANNELS = np.sqrt((A.astype("float64") ** 2).sum((0, 1, 3)))
BY_FILTER = np.stack([smallest(np.abs(column), 4) for column in B.T], 1)


@pytest.mark.parametrize(
    ("edit", "wanted"),
    [
        ({"at": "a/kernel", "smallest": 10, "set": 0}, {"a/kernel": zeroed(A, smallest(np.abs(A), 10))}),
        ({"at": "b/kernel", "largest": 0.25, "set": 0}, {"b/kernel": zeroed(B, smallest(-np.abs(B), 10))}),
        (
            {"at": ".*/kernel", "smallest": 0.5, "within": "all", "set": 0},
            {
                "a/kernel": zeroed(A, TOGETHER[: A.size].reshape(A.shape)),
                "b/kernel": zeroed(B, TOGETHER[A.size :].reshape(B.shape)),
            },
        ),
        ({"at": "b/kernel", "smallest": 0.5, "within": "filter", "set": 0}, {"b/kernel": zeroed(B, BY_FILTER)}),
        ({"at": "a/kernel", "smallest": 2, "of": "filters", "set": 0}, {"a/kernel": zeroed(A, smallest(NORMS, 2))}),
        (
            {"at": "a/kernel", "largest": 0.5, "of": "channels", "set": 0},
            {"a/kernel": zeroed(A, smallest(-CHANNELS, 2)[:, None])},
        ),
        ({"at": "b/kernel", "filters": [0, -1], "multiply": 2}, {"b/kernel": B * np.array([2, 1, 1, 1, 2], "float32")}),
        ({"at": "b/kernel", "channels": 3, "set": 0}, {"b/kernel": zeroed(B, (np.arange(8) == 3)[:, None])}),
        (
            {"at": "b/kernel", "index": [[0, 2, 5], [1, -1]], "set": 0},
            {"b/kernel": zeroed(B, np.isin(np.arange(8), [0, 2, 5])[:, None] & np.isin(np.arange(5), [1, 4]))},
        ),
        ({"at": ".*/bias", "index": [0], "set": 1}, {n: np.r_[np.ones(1, v.dtype), v[1:]] for n, v in WEIGHTS.items() if "bias" in n}),
        ({"at": "b/kernel", "index": [":", ":"], "set": 2.5}, {"b/kernel": np.full_like(B, 2.5)}),
    ],
)  # fmt: skip
def test_what_is_chosen_changes_and_nothing_else(here, edit, wanted):
    made, report = run(e=edit)
    for name, value in {**WEIGHTS, **wanted}.items():
        assert made[name].tobytes() == np.asarray(value, WEIGHTS[name].dtype).tobytes(), name
    assert report.verdict.weights == "pass"
    assert "unchanged" in str(report)


TORCH = RANDOM.normal(size=(5, 4, 3, 2)).astype("float32")


@pytest.mark.parametrize(
    ("edit", "mask"),
    [
        ({"filters": [3], "set": 0}, np.arange(5).reshape(5, 1, 1, 1) == 3),
        ({"channels": "1:3", "set": 0}, np.isin(np.arange(4), [1, 2]).reshape(1, 4, 1, 1)),
        ({"smallest": 2, "of": "filters", "set": 0}, smallest((TORCH**2).sum((1, 2, 3)), 2).reshape(5, 1, 1, 1)),
        ({"largest": 1, "of": "channels", "set": 0}, smallest(-(TORCH**2).sum((0, 2, 3)), 1).reshape(1, 4, 1, 1)),
        ({"smallest": 3, "within": "filter", "set": 0}, np.stack([smallest(np.abs(f), 3) for f in TORCH])),
    ],
)
def test_filters_of_torch_are_along_the_first_axis(here, edit, mask):
    save_file({"conv.weight": TORCH}, "w.safetensors")
    values, _ = run(e={"at": "conv/weight", **edit})
    assert np.array_equal(values["conv.weight"], zeroed(TORCH, mask))


@pytest.mark.follows("_check_choice: choose `channels`, or elements")
def test_filters_are_what_the_layer_gives_and_channels_what_it_takes():
    keras = pytest.importorskip("keras")
    images = RANDOM.normal(size=(2, 5, 5, 4)).astype("float32")
    for layer in (
        keras.layers.Conv2D(4, 3, name="a"),
        keras.layers.Conv2DTranspose(4, 3, name="a"),
        keras.layers.DepthwiseConv2D(3, name="a"),
        keras.layers.DepthwiseConv2D(3, depth_multiplier=2, name="a"),
    ):
        model = keras.Sequential([keras.Input((5, 5, 4)), layer])
        before, blind = layer(images), layer(images * np.array([1, 0, 1, 1], "float32"))
        if layer.kernel.shape[-1] == 2:
            with pytest.raises(TransferError, match=r"2 filters for each of its 4 channels -> choose `channels`, or"):
                tp.transfer(None, model, unmatched="keep", edit={"e": {"at": "a/kernel", "filters": [1], "set": 0}})
        else:
            was = layer.get_weights()
            tp.transfer(None, model, unmatched="keep", edit={"e": {"at": "a/kernel", "filters": [1], "set": 0}})
            np.testing.assert_array_equal(layer(images), before * np.array([1, 0, 1, 1]))
            layer.set_weights(was)
        tp.transfer(None, model, unmatched="keep", edit={"e": {"at": "a/kernel", "channels": [1], "set": 0}})
        np.testing.assert_allclose(layer(images), blind, atol=1e-6)


def test_masks_and_values_come_from_files(here):
    masks = {"a/kernel": RANDOM.integers(0, 2, A.shape), "b/kernel": RANDOM.integers(0, 2, B.shape)}
    values = RANDOM.normal(size=B.shape).astype("float32")
    np.savez("masks.npz", **masks)
    np.savez("values.npz", values)
    made, _ = run(mask={"at": "a/kernel", "mask": "masks.npz", "set": 0})
    assert made["a/kernel"].tobytes() == zeroed(A, masks["a/kernel"] != 0).tobytes()
    made, _ = run(values={"at": "b/kernel", "filters": [1, 2], "set": "values.npz"})
    assert np.array_equal(made["b/kernel"], np.where(np.isin(np.arange(5), [1, 2]), values, B))


def test_noise_comes_from_the_seed_and_the_weight(here):
    edit = {"at": ".*/kernel", "smallest": 1.0, "noise": 0.5}
    first, again = run(e=edit)[0], run(e=edit)[0]
    added = {name: first[name] - WEIGHTS[name] for name in ("a/kernel", "b/kernel")}
    assert all(first[name].tobytes() == again[name].tobytes() for name in WEIGHTS)
    assert all(0.3 < delta.std() < 0.7 and abs(delta.mean()) < 0.3 for delta in added.values())
    assert not np.allclose(added["a/kernel"].ravel()[:40], added["b/kernel"].ravel())
    other = tp.transfer(None, "w.safetensors", unmatched="keep", edit={"e": edit}, seed=1, save="p.safetensors")
    assert other.verdict.weights == "pass"
    assert load_file("p.safetensors")["a/kernel"].tobytes() != first["a/kernel"].tobytes()


def test_of_equal_magnitudes_the_first_are_chosen(here):
    save_file({"w": np.array([[1, -1], [1, -1]], "float32")}, "w.safetensors")
    assert run(e={"at": "w", "smallest": 3, "set": 0})[0]["w"].tolist() == [[0, 0], [0, -1]]


def test_the_plan_keeps_what_is_chosen(here):
    from transferpipe.planning.reading.read_plan import plan_from_data

    edits = {
        "e": {"at": ".*/kernel", "largest": 0.5, "of": "filters", "set": 0},
        "f": {"at": "b/bias", "index": [[0, 2]], "set": 1},
    }
    plan = tp.plan(None, "w.safetensors", unmatched="keep", edit=edits, save="o.safetensors")
    assert plan_from_data(json.loads(json.dumps(plan.to_data()))) == plan
    assert "edit e: set a/kernel[largest 0.5 filters] 0" in str(plan)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ({"at": "b/kernel", "smallest": 1.5, "set": 0}, "edit.e.smallest: must be a number of at least 1, or a share"),
        ({"at": "b/kernel", "largest": 0, "set": 0}, "edit.e.largest: must be a number of at least 1, or a share"),
        ({"at": "b/kernel", "smallest": True, "set": 0}, "edit.e.smallest: must be a number of at least 1"),
        ({"at": "b/kernel", "smallest": 41, "set": 0}, r"edit.e.smallest: b/kernel has 40 elements to choose from, not 41"),
        ({"at": ".*/bias", "channels": [0], "set": 0}, r"edit.e.at: a/bias has shape \(6,\) and no channels"),
        ({"at": "b/kernel", "filters": [5], "set": 0}, r"edit.e.filters: b/kernel has 5 filters, 5 is out of range"),
        ({"at": "b/kernel", "filters": "x", "set": 0}, "edit.e.filters: must be a list of integers"),
        ({"at": "b/kernel", "filters": [0], "index": [0, 0], "set": 0}, "chooses the elements, as `index` does"),
        ({"at": "b/kernel", "index": [0, 0], "of": "filters", "set": 0}, "edit.e.of: belongs to `smallest` or"),
        ({"at": "b/kernel", "smallest": 1, "of": "filters", "within": "filter", "set": 0}, "edit.e.within: filters are"),
        ({"at": "b/kernel", "smallest": 1, "noise": -1}, "edit.e.noise: must be above 0"),
        ({"at": "c/.*", "smallest": 1, "set": 0}, "edit.e.at: the target has no weight 'c/.*'"),
        ({"at": "b/kernel", "index": [[0, 9], 0], "set": 0}, "axis 0 has 8 elements, 9 is out of range or repeated"),
        ({"at": "b/kernel", "mask": "masks.npz", "set": 0}, r"edit.e.mask: m of masks.npz has shape \(2, 2\), b/kernel has"),
        ({"at": "b/kernel", "smallest": 1, "set": "two.npz"}, "two.npz holds 2 arrays, and none is called b/kernel"),
        ({"at": "b/kernel", "mask": "none.npz", "set": 0}, "none.npz"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_before_anything_is_written(here, tmp_path, edit, said):
    np.savez("masks.npz", m=np.ones((2, 2)))
    np.savez("two.npz", m=np.ones((2, 2)), n=np.ones(3))
    with pytest.raises(TransferError, match=said):
        run(e=edit)
    assert not (tmp_path / "o.safetensors").exists()


def test_two_edits_of_one_element_are_refused(here):
    with pytest.raises(TransferError, match="edit f changes an element of b/kernel that another edit changes"):
        run(e={"at": "b/kernel", "smallest": 0.5, "set": 0}, f={"at": "b/kernel", "filters": [0], "set": 1})


FOLLOWED = [
    ("_check_choice: narrow `at`, such as", {"at": "b/.*", "channels": 0, "set": 0}, lambda e, fix: {**e, "at": fix.split("'")[1]}),
    ("_check_choice: indices go from 0", {"at": "b/kernel", "filters": 9, "set": 0}, lambda e, fix: {**e, "filters": int(fix.split()[-1])}),
    ("_check_choice: …=… at most", {"at": "b/kernel", "smallest": 99, "set": 0},
     lambda e, fix: {**e, "smallest": int(fix.split("=")[1].split()[0])}),
    ("parse_edit: keep one of them", {"at": "b/kernel", "filters": 0, "index": [0, 0], "set": 0},
     lambda e, fix: {k: v for k, v in e.items() if k != "index"}),
    ("_check_counted: within=weight or within=all",
     {"at": "b/kernel", "smallest": 1, "of": "filters", "within": "filter", "set": 0},
     lambda e, fix: {**e, "within": fix.split("=")[1].split()[0]}),
    ("pin_files: give an array of", {"at": "b/kernel", "mask": "wrong.npz", "set": 0}, lambda e, fix: {**e, "mask": "right.npz"}),
    ("_find: give each array the", {"at": "b/kernel", "mask": "two.npz", "set": 0}, lambda e, fix: {**e, "mask": "named.npz"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "edit", "follow"),
    [pytest.param(*case, id=case[0], marks=pytest.mark.follows(case[0])) for case in FOLLOWED],
)
def test_what_is_advised_works(here, key, edit, follow):
    np.savez("wrong.npz", m=np.ones((2, 2)))
    np.savez("right.npz", m=np.ones(B.shape))
    np.savez("two.npz", m=np.ones(B.shape), n=np.ones(3))
    np.savez("named.npz", **{"b/kernel": np.ones(B.shape), "n": np.ones(3)})
    with pytest.raises(TransferError) as caught:
        run(e=edit)
    made, _ = run(e=follow(edit, caught.value.problems[0].fix))
    assert (made["b/kernel"] == 0).any()


@pytest.mark.follows("Values.value: merge the two edits")
def test_two_edits_merged_into_one_work(here):
    with pytest.raises(TransferError, match="merge the two edits"):
        run(e={"at": "b/kernel", "smallest": 0.5, "set": 0}, f={"at": "b/kernel", "smallest": 0.2, "set": 0})
    assert run(e={"at": "b/kernel", "smallest": 0.5, "set": 0})[1].verdict.weights == "pass"


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        ({"filters": [3, -1], "multiply": [0.5, 2]}, lambda a: a * np.array([1, 1, 1, 0.5, 1, 2], "float32")),
        ({"filters": ":", "add": [1, 2, 3, 4, 5, 6]}, lambda a: (a + np.arange(1.0, 7)).astype("float32")),
        ({"filters": ["0:2", 5], "set": [7, 8, 9]}, lambda a: np.where([1, 1, 0, 0, 0, 1], np.float32([7, 8, 0, 0, 0, 9]), a)),
        ({"channels": [2, 0], "multiply": [0, -1]}, lambda a: a * np.float32([-1, 1, 0, 1])[:, None]),
        ({"filters": "1:3", "multiply": 0}, lambda a: a * np.float32([1, 0, 0, 1, 1, 1])),
    ],
)  # fmt: skip
def test_each_filter_and_channel_has_a_number_of_its_own(here, edit, expected):
    made, report = run(e={"at": "a/kernel", **edit})
    np.testing.assert_array_equal(made["a/kernel"], expected(A))
    assert report.verdict.weights == "pass"
    assert all(np.array_equal(made[name], WEIGHTS[name]) for name in WEIGHTS if name != "a/kernel")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ({"filters": "6:", "set": 0}, "edit.e.filters: chooses none of the 6 filters of a/kernel"),
        ({"filters": [1, -5], "set": [1, 2]}, "edit.e.filters: names one twice"),
        ({"filters": "0:2:0", "set": 0}, "edit.e.filters: must be a list of integers"),
        ({"filters": [0], "multiply": ["x"]}, "edit.e.multiply: must be a list of numbers"),
        ({"filters": [0], "noise": [1]}, "edit.e.noise: must be a number"),
    ],
)
def test_numbers_of_their_own_that_cannot_be(here, edit, said):
    with pytest.raises(TransferError, match=said):
        run(e={"at": "a/kernel", **edit})


@pytest.mark.follows("_parse_operands: filters=':'", "_check_choice: give …")
def test_a_number_for_each_needs_as_many_as_there_are(here):
    edit = {"at": "a/kernel", "index": "...", "multiply": [0.5] * 5}
    with pytest.raises(TransferError, match="a number for each of") as caught:
        run(e=edit)
    key, value = caught.value.problems[0].fix.replace("'", "").split("=")
    edit = {**{k: v for k, v in edit.items() if k != "index"}, key: value}
    with pytest.raises(TransferError, match="has 5 numbers for 6 filters") as caught:
        run(e=edit)
    count = int(caught.value.problems[0].fix.split()[1])
    np.testing.assert_array_equal(run(e={**edit, "multiply": [0.5] * count})[0]["a/kernel"], A / 2)


@pytest.fixture
def masked(here):
    """Run an edit with a mask and with values of a file, and return the manifest."""
    np.savez("mask.npz", m=B > 0)
    np.savez("values.npz", m=2 * B)
    edit = {"at": "b/kernel", "mask": "mask.npz", "set": "values.npz"}
    recipe = {
        "target": {"path": "w.safetensors"},
        "unmatched": "keep",
        "edit": {"e": edit},
        "save": {"path": "o.safetensors"},
    }
    Path("edit.yaml").write_text(json.dumps(recipe))
    assert main(["run", "recipe=edit.yaml", "hydra.run.dir=out"]) == 0
    np.testing.assert_array_equal(load_file("out/o.safetensors")["b/kernel"], np.where(B > 0, 2 * B, B))
    return json.loads(Path("out/manifest.json").read_text())


def test_the_record_says_which_files_were_read(masked, tmp_path, monkeypatch):
    wanted = {
        name: {"path": str(tmp_path / name), "sha256": hashlib.sha256(Path(name).read_bytes()).hexdigest()}
        for name in ("mask.npz", "values.npz")
    }
    assert masked["edit_files"] == wanted
    plan = json.loads(Path("out/plan.json").read_text())
    assert [dict(e["files"]) for e in plan["edits"]] == [{name: entry["sha256"] for name, entry in wanted.items()}]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert main(["verify", "../out"]) == 0


def test_a_file_of_an_edit_that_changed_or_is_gone_is_found(masked, capsys):
    Path("mask.npz").unlink()
    assert main(["verify", "out"]) != 0
    assert "mask.npz cannot be read any more" in " ".join(capsys.readouterr().out.split())
    np.savez("mask.npz", m=B < 0)
    assert main(["verify", "out"]) != 0
    assert "mask.npz: its SHA-256 is" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("which", ["largest", "smallest"])
def test_as_many_are_chosen_where_numbers_are_missing(which, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file({"a": np.array([np.nan, 3, 1, np.nan, 2], "float32")}, "n.safetensors")
    report = {"edit": {"e": {"at": "a", which: 4, "set": 7}}, "verify": {"nonfinite": "allow"}}
    tp.transfer(None, "n.safetensors", unmatched="keep", save="o.safetensors", **report)
    # The numbers first, then of those that are none the first.
    np.testing.assert_array_equal(load_file("o.safetensors")["a"], np.array([7, 7, 7, np.nan, 7], "float32"))
