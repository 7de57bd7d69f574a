"""``save.like``: names, order, axes and dtypes of a reference file, which must be filled."""

import json
import re

import numpy as np
import pytest
import yaml
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import transferpipe as tp
from transferpipe.cli import main
from transferpipe.errors import RecipeError, VerificationError
from transferpipe.prove.run_folder import verify_run

RANDOM = np.random.default_rng(0)
SHAPES = {"enc/kernel": (3, 4), "enc/bias": (4,), "sq/kernel": (4, 4), "sq/bias": (4,), "norm/gamma": (4,)}
SMALL = {name: RANDOM.normal(size=shape).astype("float32") for name, shape in SHAPES.items()}


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory):
    import keras
    from keras import layers as kl

    inputs = keras.Input((3,))
    x = kl.Dense(4, name="sq")(kl.Dense(4, name="enc")(inputs))
    model = keras.Model(inputs, kl.LayerNormalization(center=False, name="norm")(x))
    for weight in model.weights:
        weight.assign(SMALL[weight.path])
    path = tmp_path_factory.mktemp("model") / "a.keras"
    model.save(path)
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def torch_tensors(dtype="float32", turned=()):
    """Return what a torch file of the model holds; the kernels of `turned` layers stay (in, out)."""
    found = {}
    for name, value in SMALL.items():
        layer, own = name.split("/")
        value = value if own != "kernel" or layer in turned else value.T
        found[f"model.{layer}.{'bias' if own == 'bias' else 'weight'}"] = np.ascontiguousarray(value.astype(dtype))
    return found


def write_reference(tensors, path="ref.safetensors"):
    blank = {name: np.zeros_like(value) for name, value in tensors.items()}
    save_file(dict(reversed(blank.items())), path, metadata={"format": "pt"})
    return path


NAMES = {"enc|sq|norm": r"model/\g<0>"}


def run(source, names=NAMES, like="ref.safetensors", **save):
    recipe = {"source": str(source), "target": str(source), "mapping": {"all": {"to": ".*"}}}
    recipe["save"] = {"path": "m.safetensors", "like": like, "names": names, **save}
    return tp.transfer(**recipe, folder="out")


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype, name
        assert found[name].tobytes() == value.tobytes(), name


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_names_and_dtypes_are_those_of_the_reference(dtype, keras_file, here):
    write_reference(wanted := torch_tensors(dtype))
    run(keras_file)
    same(load_file("out/m.safetensors"), wanted)
    with safe_open("out/m.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}


def test_matrices_stay_as_the_reference_has_them(keras_file, here):
    write_reference(wanted := torch_tensors(turned=("enc", "sq")))
    run(keras_file)
    same(load_file("out/m.safetensors"), wanted)


@pytest.mark.parametrize("is_checkpoint", [False, True])
def test_it_takes_after_a_file_of_torch_itself(is_checkpoint, keras_file, here):
    """The names of a checkpoint are those of the state dict in it."""
    torch = pytest.importorskip("torch")
    wanted = torch_tensors("float16")
    state = {name: torch.zeros(value.shape, dtype=torch.float16) for name, value in wanted.items()}
    torch.save({"epoch": 3, "net": {"state_dict": state}} if is_checkpoint else state, "ref.pt")
    run(keras_file, like={"path": "ref.pt"})
    same(load_file("out/m.safetensors"), wanted)


def test_a_run_is_proved_again_without_the_reference(keras_file, here):
    write_reference(torch_tensors("float16"))
    (here / "recipes").mkdir()
    recipe = {"source": str(keras_file), "target": str(keras_file), "mapping": {"all": {"to": ".*"}}}
    recipe["save"] = {"path": "m.safetensors", "like": "ref.safetensors", "names": NAMES, "shard": 40}
    (here / "recipes/out.yaml").write_text("# @package _global_\n" + json.dumps(recipe))
    assert main(["run", "recipe=out", "hydra.run.dir=out"]) == 0
    (here / "ref.safetensors").unlink()
    again = verify_run(here / "out")
    assert (again.verdict.weights, again.notes) == ("pass", ())
    index = json.loads((here / "out/m.safetensors.index.json").read_text())
    assert index["metadata"]["format"] == "pt"
    files = {name: load_file(here / "out" / file) for name, file in index["weight_map"].items()}
    same({name: tensors[name] for name, tensors in files.items()}, torch_tensors("float16"))


def refused(*args, **keys):
    with pytest.raises(RecipeError) as caught:
        run(*args, **keys)
    (problem,) = caught.value.problems
    return str(problem), problem.fix


@pytest.mark.follows("fill: pair their names with")
def test_names_that_differ_are_named(keras_file, here):
    write_reference(torch_tensors())
    text, fix = refused(keras_file, names={})
    assert "nothing fills 5 of the 5 tensors of the reference" in text
    assert "it lacks enc.weight, enc.bias" in text
    assert fix == "pair their names with save.names"
    run(keras_file)


def test_what_does_not_fill_it_is_refused(keras_file, here):
    tensors = torch_tensors()
    write_reference({**tensors, "more.weight": np.zeros(2, "float32")})
    assert "nothing fills 1 of the 6 tensors of the reference: more.weight" in refused(keras_file)[0]
    write_reference({name: value for name, value in tensors.items() if name != "model.norm.weight"})
    assert "the reference lacks 1 of the tensors that would be written: model.norm.weight" in refused(keras_file)[0]
    write_reference({**tensors, "model.enc.bias": np.zeros(5, "float32")})
    assert "model.enc.bias would have shape (4,); in the reference it has (5,)" in refused(keras_file)[0]
    write_reference({**tensors, "model.enc.bias": np.zeros(4, "int32")})
    assert "another kind of number" in refused(keras_file)[0]


@pytest.mark.follows("take_after: save files of named")
def test_a_keras_model_keeps_its_dtypes(keras_file, here):
    write_reference(torch_tensors("float16"))
    text, fix = refused(keras_file, also=["m.keras"])
    assert "the reference has another dtype for enc/bias, enc/kernel, norm/gamma and 2 more" in text
    assert fix == "save files of named tensors alone in this run"
    run(keras_file)


@pytest.mark.follows("take_after: give a .safetensors, .npz")
def test_the_reference_must_be_named_tensors(keras_file, here):
    text, fix = refused(keras_file, like=str(keras_file))
    assert "is not a file of named tensors" in text
    assert fix == "give a .safetensors, .npz or PyTorch file"
    run(keras_file, like=write_reference(torch_tensors()))


@pytest.mark.follows("check_kept: let a rule take")
def test_kept_weights_are_not_cast(keras_file, here):
    write_reference(torch_tensors("float16"))
    keys = {"target": str(keras_file), "save": {"path": "m.npz", "like": "ref.safetensors", "names": NAMES}}
    with pytest.raises(RecipeError, match="would keep its values and get another dtype") as caught:
        tp.plan(str(keras_file), unmatched="keep", mapping={"enc": {"to": "enc"}}, **keys)
    assert caught.value.problems[0].fix.startswith("let a rule take it")
    tp.plan(str(keras_file), mapping={"enc": {"to": ".*"}}, **keys)


@pytest.mark.follows("_parse_like: write {path: FILE}")
def test_the_reference_is_a_file(keras_file, here):
    write_reference(torch_tensors())
    text, fix = refused(keras_file, like={"_target_": "a.b"})
    assert "must be a file, not a builder" in text
    assert fix == "write {path: FILE}"
    run(keras_file, like={"path": "ref.safetensors"})


@pytest.mark.follows("_note_unnamed: save one of … #2")
def test_a_reference_is_for_files_of_named_tensors(keras_file, here):
    write_reference(torch_tensors())
    text, fix = refused(keras_file, names={}, path="m.keras")
    assert "applies only to files of named tensors" in text
    run(keras_file, path=f"m{fix.removeprefix('save one of ').split(', ')[0]}")


@pytest.fixture(scope="module")
def tied_models(tmp_path_factory):
    """A model of a table of tokens alone, and two of a table and a head: with its values, and with others."""
    import keras
    from keras import layers as kl

    folder, table = tmp_path_factory.mktemp("tied"), RANDOM.normal(size=(5, 3)).astype("float32")
    for name, head in (("table", None), ("same", table.T), ("other", -table.T)):
        x = kl.Embedding(5, 3, name="embed")(inputs := keras.Input((2,)))
        model = keras.Model(inputs, x if head is None else kl.Dense(5, use_bias=False, name="head")(x))
        for weight, value in zip(model.weights, [table, head], strict=False):
            weight.assign(value)
        model.save(folder / f"{name}.keras")
    return folder, table


@pytest.mark.parametrize("kept", ["once", "apart"])
@pytest.mark.parametrize("model", ["table", "same"])
def test_a_tied_tensor_is_written_under_both_names(kept, model, tied_models, here):
    torch = pytest.importorskip("torch")
    folder, table = tied_models
    one = torch.arange(15.0).reshape(5, 3)
    torch.save({"embed.weight": one, "head.weight": one if kept == "once" else one.clone()}, "ref.pt")
    run(folder / f"{model}.keras", names={}, like="ref.pt")
    same(load_file("out/m.safetensors"), {"embed.weight": table, "head.weight": table})
    assert verify_run(here / "out").verdict.weights == "pass"


def test_both_names_of_a_tied_tensor_are_read_back(tied_models, here):
    torch = pytest.importorskip("torch")
    one = torch.arange(15.0).reshape(5, 3)
    torch.save({"embed.weight": one, "head.weight": one}, "ref.pt")
    run(tied_models[0] / "table.keras", names={}, like="ref.pt")
    found = load_file("out/m.safetensors")
    save_file({**found, "head.weight": found["head.weight"] + 1}, "out/m.safetensors", metadata={"format": "pt"})
    with pytest.raises(VerificationError, match="head/weight is not in the file with the value of embed/weight"):
        verify_run(here / "out")


@pytest.mark.follows("check_tied: give a reference in")
def test_two_values_for_one_tensor_are_refused(tied_models, here):
    torch = pytest.importorskip("torch")
    folder, table = tied_models
    one = torch.arange(15.0).reshape(5, 3)
    torch.save({"embed.weight": one, "head.weight": one}, "ref.pt")
    with pytest.raises(VerificationError) as caught:
        run(folder / "other.keras", names={}, like="ref.pt")
    (problem,) = caught.value.problems
    assert "one tensor for embed.weight and head.weight" in str(problem)
    assert problem.fix == "give a reference in which they are not tied, or tie the weights"
    assert not (here / "out").exists()
    torch.save({"embed.weight": one, "head.weight": -one}, "ref.pt")
    run(folder / "other.keras", names={}, like="ref.pt")
    same(load_file("out/m.safetensors"), {"embed.weight": table, "head.weight": -table})


@pytest.mark.follows("_report_missing: …")
def test_a_target_of_torch_s_names_is_answered_with_it(keras_file, here):
    write_reference(wanted := torch_tensors())
    rule = {"to": "model/(enc|sq)", "from": r"\1"}
    with pytest.raises(RecipeError, match=r"ref\.safetensors has torch's names, and the source Keras's") as caught:
        tp.transfer(str(keras_file), "ref.safetensors", mapping={"all": rule}, unmatched="keep", folder="no")
    advised = yaml.safe_load(re.search(r"set save: (\{.*?\}\})", str(caught.value))[1])
    both = {"source": str(keras_file), "target": str(keras_file), "mapping": {"all": {"to": ".*"}}}
    tp.transfer(**both, save={**advised, "names": NAMES}, folder="out")
    same(load_file("out/model.safetensors"), wanted)
