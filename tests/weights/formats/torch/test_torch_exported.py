"""Archives of `torch.export`, by hand and by torch."""

import io

import numpy as np
import pytest
from torch_files import exported_of, exported_tensor, write_exported

from transferpipe.errors import FileError, RecipeError, UnsafeError
from transferpipe.weights.formats import open_source

A, B = np.arange(6, dtype="float32").reshape(2, 3), np.arange(3, dtype="float64")


def payload(path_name, dtype, shape, strides=None, offset=0, **more):
    return {
        "path_name": path_name,
        "use_pickle": False,
        "tensor_meta": exported_tensor(dtype, shape, strides, offset),
    } | more


def test_views_of_one_storage(tmp_path):
    weights = {
        "tied": payload("weight_0", "float32", (2, 3)),
        "turned": payload("weight_0", "float32", (3, 2), (1, 3)),
        "row": payload("weight_0", "float32", (3,), (1,), 3),
    }
    source = open_source(write_exported(tmp_path / "x", weights, {"weights/weight_0": A.tobytes()}))
    assert np.array_equal(source.read("tied"), A)
    assert np.array_equal(source.read("turned"), A.T)
    assert np.array_equal(source.read("row"), A[1])
    assert (source.locate("tied") is None, source.locate("turned") is None) == (False, True)


def test_constants_lie_beside_the_weights(tmp_path):
    weights, stored = exported_of({"a.w": A})
    constants = {"c": payload("tensor_0", "float64", (3,))}
    path = write_exported(tmp_path / "x", weights, {**stored, "constants/tensor_0": B.tobytes()}, constants)
    source = open_source(path)
    assert ([w.name for w in source.catalog], [w.name for w in source.others]) == (["a/w"], ["constants/c"])
    assert np.array_equal(open_source(path, select="constants").read("c"), B)


def test_what_is_no_plain_tensor_is_listed(tmp_path):
    weights, stored = exported_of({"a": A, "own": A, "sparse": A})
    weights["own"] |= {"use_pickle": True, "tensor_meta": None}
    weights["sparse"]["tensor_meta"]["layout"] = 1
    source = open_source(write_exported(tmp_path / "x", weights, stored))
    assert [w.name for w in source.catalog] == ["a"]
    assert {u.name: u.reason for u in source.catalog.unreadable} == {
        "own": "is of a class of its own",
        "sparse": "is sparse",
    }


def damaged(**changes):
    weights, stored = exported_of({"a": A})
    weights["a"]["tensor_meta"] |= changes.pop("meta", {})
    weights["a"] |= changes
    return weights, stored


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (damaged(path_name="weight_9"), "lies in 'x/data/weights/weight_9', which is missing"),
        (damaged(path_name="../../models/model.json"), "which is missing"),
        (damaged(path_name=3), "has no place in the archive"),
        (damaged(meta={"sizes": [{"as_int": 1 << 40}, {"as_int": 3}]}), "a: reaches element"),
        (damaged(meta={"sizes": [{"as_int": -1}, {"as_int": 3}]}), "has something where a size belongs"),
        (damaged(meta={"sizes": [{"as_expr": "s0"}, {"as_int": 3}]}), "has something where a size belongs"),
        (damaged(meta={"sizes": [{"as_int": 1}] * 65}), "more than 64 axes"),
        (damaged(meta={"strides": []}), "not a stride for each axis"),
        (damaged(meta={"dtype": 99}), "has no dtype that PyTorch knows"),
        (damaged(meta={"dtype": True}), "has no dtype that PyTorch knows"),
        (damaged(meta={"storage_offset": {"as_int": 4}}), "a: reaches element"),
    ],
)
def test_what_makes_no_sense(tmp_path, made, message):
    with pytest.raises(FileError, match=message):
        open_source(write_exported(tmp_path / "x", *made))


def test_a_key_that_stands_twice(tmp_path):
    weights, stored = exported_of({"a": A})
    path = write_exported(tmp_path / "x", weights, stored)
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"is_param": true, "use_pickle"', b'"is_param": true, "is_param":X '))
    with pytest.raises((FileError, UnsafeError)):
        open_source(path)


pytestmark = pytest.mark.filterwarnings("ignore:No complete tensor found:UserWarning")  # of views: they are right


# By torch -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def program():
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)
            self.fc, self.narrow = torch.nn.Linear(4, 4), torch.nn.Linear(4, 2, dtype=torch.bfloat16)
            self.tied = torch.nn.Linear(4, 4)
            self.tied.weight = self.fc.weight
            self.register_buffer("scale", torch.arange(8.0).reshape(4, 2).T)

        def forward(self, x):
            x = self.tied(self.fc(self.norm(self.conv(x)).mean((2, 3))))
            return self.narrow(x.bfloat16()) * self.scale[:, 0]

    torch.manual_seed(0)
    return torch.export.export(Net().eval(), (torch.zeros(2, 3, 8, 8),))


def check(path, state_dict):
    source = open_source(path)
    held = {s.name: source.read_entry(s) for s in (*source.catalog, *source.others)}
    for name, value in state_dict.items():
        read = held[name.replace(".", "/")]
        assert read.shape == tuple(value.shape), name
        assert np.array_equal(read.astype("float64"), value.detach().double().numpy()), name
    return source


def test_what_torch_writes(program, tmp_path):
    import torch

    torch.export.save(program, tmp_path / "m.pt2")
    source = check(tmp_path / "m.pt2", program.state_dict)
    assert (source.format, len(source.catalog)) == ("exported", len(program.state_dict) - 1)


@pytest.mark.follows("_read: choose one: select: …")
def test_several_programs_are_chosen_from(program, tmp_path):
    from torch.export.pt2_archive._package import package_pt2

    package_pt2(str(tmp_path / "m.pt2"), exported_programs={"one": program, "two": program})
    with pytest.raises(FileError, match="holds the programs 'one', 'two' -> choose one: select: one") as error:
        open_source(tmp_path / "m.pt2")
    chosen = error.value.problems[0].fix.rpartition(" ")[2]
    assert np.array_equal(
        open_source(tmp_path / "m.pt2", select=chosen).read("fc/bias"), program.state_dict["fc.bias"].detach()
    )


@pytest.mark.follows("_read: save its weights: torch.save(torch.export.load(path).state_dict,")
def test_archives_of_older_versions_are_refused_with_a_way_out(program, tmp_path, monkeypatch):
    import zipfile

    import torch

    monkeypatch.chdir(tmp_path)
    torch.export.save(program, tmp_path / "new.pt2")
    with zipfile.ZipFile("new.pt2") as new, zipfile.ZipFile("old.pt2", "w") as old:
        for member in new.namelist():
            if "/data/weights/" not in member and "/data/constants/" not in member:
                old.writestr(member.replace("new/", "old/"), new.read(member))
        for part, held in {"weights": program.state_dict, "constants": program.constants}.items():
            content = io.BytesIO()
            torch.save(held, content)
            old.writestr(f"old/data/{part}/model.pt", content.getvalue())
    with pytest.raises(FileError, match=r"exported program of PyTorch before 2.10 -> save its weights: ") as error:
        open_source(tmp_path / "old.pt2")
    exec(error.value.problems[0].fix.partition(": ")[2], {"torch": torch, "path": "old.pt2"})
    check(tmp_path / "weights.pt", program.state_dict)


@pytest.mark.follows("open_exported: export the model that")
def test_a_program_without_weights(tmp_path):
    with pytest.raises(FileError, match="is an exported program without weights"):
        open_source(write_exported(tmp_path / "x", {}, {}))
    assert len(open_source(write_exported(tmp_path / "x", *exported_of({"a": A}))).catalog) == 1


def test_select_what_is_not_there(tmp_path):
    with pytest.raises(RecipeError, match="there is no 'x'"):
        open_source(write_exported(tmp_path / "x", *exported_of({"a": A})), select="x")
