"""What we write is what Keras itself would have written, for models of every kind, from builders and from files.

The reference is made by Keras alone: the same builder, the same seed, the same values assigned, `model.save`.
"""

import io
import json
import re
import zipfile
from pathlib import Path

import h5py
import keras
import ml_dtypes
import numpy as np
import pytest
import written_zoo

import transferpipe as tp
from transferpipe.models.walk import walk

SEED, OTHER_SEED = 3, 7
LOADABLE = [
    "dense_net", "unnamed", "nested_twice", "shared", "branches", "recurrent", "attention", "wrappers", "norms",
    "normalization", "preprocessing", "customs", "recorded", "extended", "with_metrics", "partly_frozen", "bfloat16",
    "mixed_float16", "mixed_bfloat16", "int8", "int4", "float8", "quantized_embedding", "lora", "odd", "keyed",
    "halved", "kinds", "compiled", "vectorized", "looked_up", "unicode_names",
]  # fmt: skip
# Subclassed models that are not registered, or that say that their parts are not recorded, have no `.keras`.
WEIGHTS_ONLY = [
    "tracked", "moody", "diamond", "bare", "nested_lists", "dicts", "custom_attributes", "layers_in_layers",
    "held_composites", "recurrent", "lora", "odd",
]  # fmt: skip
BY_KERAS = {"lora": "head/kernel|words/embeddings", "odd": "odd/version|odd/table|odd/squares", "halved": "halved/half"}
# On loading a compiled model that was never trained; and what a Keras layer says of its own arguments.
ignored = pytest.mark.filterwarnings(
    "ignore:Skipping variable loading for optimizer:UserWarning", "ignore:You passed `rms_scaling=True`:UserWarning"
)


@pytest.fixture(autouse=True)
def _in_tests(monkeypatch):
    """Recipes may name modules below the working directory."""
    monkeypatch.chdir(Path(__file__).parents[2])


def ordinary(name, seed):
    """Build a model as Keras does."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(seed)
    return written_zoo.build(name)


def builder(name):
    return {"_target_": "written_zoo.build", "name": name}


def stored(path):
    """Return every group and dataset of the weights in a file, without the state of optimizers."""
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            path = io.BytesIO(archive.read("model.weights.h5"))
    found = {}

    def note(name, item):
        if re.search("optimizer", name):
            return
        attributes = sorted((k, str(v)) for k, v in item.attrs.items())
        if isinstance(item, h5py.Dataset):
            kind = item.id.get_type().get_class()
            found[name] = (item.shape, item.dtype, kind, np.asarray(item[()]).tobytes(), attributes)
        else:
            found[name] = attributes

    with h5py.File(path, "r") as h5:
        h5.visititems(note)
    return found


def value_at(path, where):
    """Return one value of a file, by h5py alone."""
    with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as member, h5py.File(member, "r") as h5:
        dataset = h5[where]
        value = np.asarray(dataset[()])
        return value.view(ml_dtypes.bfloat16) if dataset.attrs.get("dtype") == "bfloat16" else value


def config(path):
    """Return config.json with shared objects numbered by appearance; Keras marks them with addresses."""
    with zipfile.ZipFile(path) as archive:
        data = json.loads(archive.read("config.json"))
    numbers = {}

    def number(item):
        if isinstance(item, dict) and "shared_object_id" in item:
            item["shared_object_id"] = numbers.setdefault(item["shared_object_id"], len(numbers))
        for value in item.values() if isinstance(item, dict) else item if isinstance(item, list) else ():
            number(value)

    number(data)
    return data


def assets(path):
    with zipfile.ZipFile(path) as archive:
        return {n: archive.read(n) for n in archive.namelist() if n.startswith("assets/")}


def half_of(model):
    """Return the name and place of every second weight that can be assigned.

    Places, not names, tell what belongs together: a file does not always know the names that a model knows.
    """
    walked = walk(model, "")
    return [(w.name, w.where) for w in walked.catalog if w.name not in walked.fixed][::2]


def let_keras_write(name, pairs, source, path):
    """Let Keras write the model that has the source's values at the places in `pairs`."""
    model = ordinary(name, SEED)
    walked = walk(model, "")
    for weight, where in pairs:
        walked.values[weight].assign(value_at(source, where))
    model.save(path)
    return path


@ignored
@pytest.mark.parametrize("name", LOADABLE)
def test_from_a_builder_and_from_a_file(name, tmp_path):
    source, target = tmp_path / "source.keras", tmp_path / "target.keras"
    ordinary(name, OTHER_SEED).save(source)
    model = ordinary(name, SEED)
    model.save(target)
    pairs = half_of(model)
    recipe = {"unmatched": "keep", "seed": SEED, "folder": tmp_path}
    there, names = ({w.where: w.name for w in tp.catalog(c)} for c in (source, target))

    of_builder = {f"r{i}": {"to": re.escape(name), "from": there[p]} for i, (name, p) in enumerate(pairs)}
    built = tp.transfer(source, builder(name), mapping=of_builder, save={"path": "built.keras"}, **recipe)
    of_file = {f"r{i}": {"to": re.escape(names[p]), "from": there[p]} for i, (_, p) in enumerate(pairs)}
    copied = tp.transfer(source, target, mapping=of_file, save={"path": "copied.keras"}, **recipe)

    reference = let_keras_write(name, pairs, source, tmp_path / "reference.keras")
    check_written(tmp_path / "built.keras", reference)
    if name == "halved":  # the copy was given a part of what is computed from what the others were given
        assert stored(tmp_path / "copied.keras").keys() == stored(reference).keys()
    else:
        check_same_content(tmp_path / "copied.keras", reference)
    how = [r.manifest["artifacts"][0]["writer"] for r in (built, copied)]
    assert re.fullmatch(f"keras: ({BY_KERAS[name]}) is not a variable but .*" if name in BY_KERAS else "direct", how[0])
    assert how[1] == "direct"


def check_same_content(path, reference):
    """Compare the content of a file with the one that Keras wrote."""
    assert stored(path) == stored(reference)
    assert config(path) == config(reference)
    assert assets(path) == assets(reference)


def check_written(path, reference):
    """Compare a file with the one that Keras wrote, as files and as the models that Keras loads from them."""
    check_same_content(path, reference)
    found, wanted = (keras.models.load_model(p) for p in (path, reference))
    assert found.get_config() == wanted.get_config()
    assert [w.trainable for w in found.weights] == [w.trainable for w in wanted.weights]
    assert [layer.trainable for layer in found._flatten_layers()] == [x.trainable for x in wanted._flatten_layers()]
    for one, other in zip(found.weights, wanted.weights, strict=True):
        assert one.dtype == other.dtype
        assert to_bytes(one) == to_bytes(other), one.path
    assert found.compiled == wanted.compiled
    if found.compiled:
        assert found.get_compile_config() == wanted.get_compile_config()
    data = inputs_of(found)
    if data is not None:
        for one, other in zip(*(keras.tree.flatten(m(data, training=False)) for m in (found, wanted)), strict=True):
            assert to_bytes(one) == to_bytes(other)


def to_bytes(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor)).tobytes()


def inputs_of(model):
    """Return random inputs, in the structure that the model takes."""
    if not getattr(model, "inputs", None):
        return np.random.default_rng(0).random((2, 4)).astype("float32")
    random = np.random.default_rng(0)

    def draw(tensor):
        shape = (2, *(n or 3 for n in tensor.shape[1:]))
        if tensor.dtype == "string":
            return np.asarray(random.choice(["a", "the cat", "y", "größe"], shape), object)
        whole = keras.backend.is_int_dtype(tensor.dtype)
        return random.integers(0, 5, shape).astype(tensor.dtype) if whole else random.random(shape).astype("float32")

    structure = getattr(model, "_inputs_struct", model.inputs[0])
    return keras.tree.map_structure(lambda t: keras.ops.convert_to_tensor(draw(t)), structure)


@ignored
@pytest.mark.parametrize("name", WEIGHTS_ONLY)
def test_weights_only(name, tmp_path):
    """`.weights.h5`: the file is that of `save_weights`, for models that Keras cannot save as a whole too."""
    report = tp.transfer(
        None, builder(name), folder=tmp_path, unmatched="keep", seed=SEED, save={"path": "out.weights.h5"}
    )
    model = ordinary(name, SEED)
    model.save_weights(tmp_path / "reference.weights.h5")
    assert stored(tmp_path / "out.weights.h5") == stored(tmp_path / "reference.weights.h5")
    assert report.manifest["artifacts"][0]["writer"].startswith("keras" if name in BY_KERAS else "direct")


@pytest.mark.parametrize("name", ["nested_twice", "lora", "odd", "vectorized"])
def test_frozen_layers(name, tmp_path):
    """Frozen as if somebody had set the flag and saved: in the configuration, on nothing else."""
    model = ordinary(name, SEED)
    layer = next(la for la in model.layers if la.weights)
    tp.transfer(None, builder(name), folder=tmp_path, unmatched="keep", freeze=[layer.name], seed=SEED)
    layer.trainable = False
    model.save(tmp_path / "reference.keras")
    check_written(tmp_path / "model.keras", tmp_path / "reference.keras")


@pytest.mark.parametrize("name", ["dense_net", "lora", "odd", "vectorized", "looked_up", "shared"])
def test_the_same_run_gives_the_same_bytes(name, tmp_path):
    """Also where Keras had to save first: its own files bear the time and addresses in memory."""
    found = []
    for run in ("one", "two"):
        report = tp.transfer(None, builder(name), folder=tmp_path / run, unmatched="keep", seed=SEED)
        found.append(((tmp_path / run / "model.keras").read_bytes(), report.manifest["artifacts"][0]["sha256"]))
        ordinary("many", 1)  # moves addresses, names and seeds
    assert found[0] == found[1]


def test_a_trained_target_leaves_its_optimizer_behind_where_the_recipe_says_so(tmp_path):
    ordinary("fitted", SEED).save(tmp_path / "target.keras")
    tp.transfer(None, tmp_path / "target.keras", folder=tmp_path, unmatched="keep", optimizer="drop")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive, archive.open("model.weights.h5") as member:
        assert sorted(h5py.File(member, "r")) == ["layers", "vars"]
    assert stored(tmp_path / "model.keras") == stored(tmp_path / "target.keras")
    assert config(tmp_path / "model.keras") == config(tmp_path / "target.keras")
    with pytest.warns(UserWarning, match="Skipping variable loading for optimizer"):
        found = keras.models.load_model(tmp_path / "model.keras")
    assert found.optimizer.iterations == 0
    assert found.get_compile_config() == keras.models.load_model(tmp_path / "target.keras").get_compile_config()


def test_a_computed_value_is_given_as_its_layer_loads_it(tmp_path):
    """Keras saves `half` of what is assigned to nobody, and loads it: so do we, and what is proved is what it saves."""
    source, model = ordinary("halved", OTHER_SEED), ordinary("halved", SEED)
    source.get_layer("halved").gain.assign([3.0] * source.get_layer("halved").gain.shape[0])
    source.save(tmp_path / "source.keras")
    tp.transfer(
        tmp_path / "source.keras", model, mapping={"h": {"to": "halved/half"}}, unmatched="keep",
        save="model.keras", folder=tmp_path,
    )  # fmt: skip
    again = keras.models.load_model(tmp_path / "model.keras")
    for found in (model, again):
        assert np.all(np.asarray(found.get_layer("halved").gain) == 3)


@pytest.mark.follows("_save: save as .safetensors or")
def test_keras_refuses_to_save(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise ValueError("not today")

    monkeypatch.setattr(keras.Model, "save", refuse)
    with pytest.raises(tp.RecipeError, match="Keras cannot save it: ValueError: not today"):
        tp.transfer(None, builder("odd"), folder=tmp_path, unmatched="keep", seed=SEED)
    assert list(tmp_path.iterdir()) == []
    tp.transfer(None, builder("odd"), folder=tmp_path, unmatched="keep", seed=SEED, save="m.npz")  # as it advises
    written = walk(ordinary("odd", SEED), "")
    with np.load(tmp_path / "m.npz") as found:
        assert {*found} == {*written.catalog.by_name}
        assert all(np.array_equal(value, written.read(name)) for name, value in found.items())


def test_no_room_for_what_keras_saves(tmp_path, monkeypatch):
    def full(model, path, **_):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keras.Model, "save", full)
    with pytest.raises(tp.FileError, match="cannot be written: No space left on device"):
        tp.transfer(None, builder("odd"), folder=tmp_path, unmatched="keep", seed=SEED)
    assert list(tmp_path.iterdir()) == []
    tp.transfer(None, builder("odd"), folder=tmp_path, unmatched="keep", seed=SEED, save="m.npz")  # as it advises
    written = walk(ordinary("odd", SEED), "")
    with np.load(tmp_path / "m.npz") as found:
        assert {*found} == {*written.catalog.by_name}
        assert all(np.array_equal(value, written.read(name)) for name, value in found.items())
