"""A target that was built before is the one that its builder makes: in the plan, in every byte, and only if nothing changed."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from transferpipe.execute import open_recipe
from transferpipe.execute.prepare import prepare
from transferpipe.execute.run import execute
from transferpipe.models.building import kept, pure
from transferpipe.models.building.pure import is_pure, key_of
from transferpipe.models.building.records import from_plain, to_plain
from transferpipe.models.deferred.attempt import draw_pending
from transferpipe.planning.reading.read_recipe import read_recipe
from transferpipe.recipe.model import Build

MLP = {"_target_": "transferpipe.zoo.small_mlp", "inputs": 5, "classes": 3}
BACKBONE = {
    "_target_": "keras.applications.MobileNetV2",
    "weights": None,
    "include_top": False,
    "input_shape": [32, 32, 3],
    "alpha": 0.35,
}
NESTED = {"_target_": "transferpipe.zoo.nested_classifier", "backbone": BACKBONE, "classes": 3, "name": "n"}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with a cache of its own, as in a process that has not imported Keras."""
    pytest.importorskip("keras")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRANSFERPIPE_NO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    (tmp_path / "keras").mkdir()
    monkeypatch.setattr(pure, "_is_imported", lambda *_: False)
    return tmp_path


def recipe(target=MLP, **more):
    names = {"hidden/kernel": (5, 6), "hidden/bias": (6,)} if target is MLP else {"predictions/bias": (3,)}
    np.savez("source.npz", **{name.replace("/", "."): np.ones(shape, "f4") for name, shape in names.items()})
    rule = {"to": next(iter(names)).partition("/")[0] + ("" if target is MLP else "/bias")}
    data = {"source": {"path": "source.npz"}, "target": target, "mapping": {"a": rule}, "unmatched": "keep", "seed": 7}
    return read_recipe({**data, "save": {"path": "m.keras", "also": ["m.weights.h5", "m.npz"]}, **more})


def result(folder, **more):
    """Return all that a run tells, but for times, and the bytes of its files."""
    prepared = prepare(recipe(**more))
    report = execute(prepared, Path(folder))
    manifest = {key: value for key, value in report.manifest.items() if key not in ("seconds", "started", "seal")}
    shown = {key: manifest[key] for key in ("checksum", "verdict", "weights", "target", "versions", "warnings")}
    return prepared.plan.to_data(), json.dumps(shown), [path.read_bytes() for path in report.artifacts]


def no_building(monkeypatch):
    monkeypatch.setattr(open_recipe, "build_model", lambda *_, **__: pytest.fail("the model was built"))


@pytest.mark.parametrize("target", [MLP, NESTED], ids=["mlp", "nested"])
def test_plan_and_files_are_those_of_a_build(home, monkeypatch, target):
    freeze = ["hidden" if target is MLP else "mobilenetv2.*/block_1_.*"]
    with monkeypatch.context() as off:
        off.setenv("TRANSFERPIPE_NO_CACHE", "1")
        cold = result("cold", target=target, freeze=freeze)
        assert not (home / "cache").exists()
    assert result("first", target=target, freeze=freeze) == cold
    no_building(monkeypatch)
    assert result("second", target=target, freeze=freeze) == cold


def test_a_process_that_uses_it_imports_neither_keras_nor_its_backend(home):
    result("first")
    (home / "recipe.json").write_text(json.dumps({"target": MLP}))
    code = """
import sys
import warnings
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_kept_builders import recipe, prepare, execute
execute(prepare(recipe()), Path("second"))
print(*{"keras", "tensorflow", "jax", "torch"} & sys.modules.keys())
"""
    done = subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent)], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
    assert (home / "second" / "m.keras").read_bytes() == (home / "first" / "m.keras").read_bytes()


def test_what_was_not_asked_before_is_asked_of_the_model_and_kept(home, monkeypatch):
    prepare(recipe())
    built = []
    build = open_recipe.build_model
    monkeypatch.setattr(open_recipe, "build_model", lambda *a, **k: built.append(1) or build(*a, **k))
    result("values")
    assert len(built) == 1
    result("again")
    assert len(built) == 1
    other = result("other", freeze=["classes"])  # another configuration
    assert len(built) == 2
    monkeypatch.setenv("TRANSFERPIPE_NO_CACHE", "1")
    assert result("cold", freeze=["classes"]) == other


SWEPT = [
    {"seed": seed, "freeze": freeze, "target": target}
    for target, freezes in ((MLP, ([], ["hidden"])), (NESTED, ([], ["mobilenetv2.*/block_1_.*"])))
    for seed in (7, 8)
    for freeze in freezes
]


def swept(folder):
    """Return what each variant of a sweep comes to: all are planned before the first runs."""
    with open_recipe.builds_kept():
        for variant in SWEPT:
            prepare(recipe(**variant))
        return [result(f"{folder}{number}", **variant) for number, variant in enumerate(SWEPT)]


def test_a_sweep_takes_what_runs_and_sweeps_built_before_with_the_same_bytes(home, monkeypatch):
    with monkeypatch.context() as off:
        off.setenv("TRANSFERPIPE_NO_CACHE", "1")
        cold = [result(f"cold{number}", **variant) for number, variant in enumerate(SWEPT)]
    assert swept("first") == cold
    no_building(monkeypatch)
    assert swept("second") == cold
    assert [result(f"alone{number}", **variant) for number, variant in enumerate(SWEPT)] == cold


def test_in_a_sweep_keras_may_be_imported_meanwhile(home, monkeypatch):
    """What was not asked before is asked of a model that is built then, and what comes later is not built at all."""
    prepare(recipe())
    imported = []
    monkeypatch.setattr(pure, "_is_imported", lambda *_: bool(imported))
    build = open_recipe.build_model
    monkeypatch.setattr(open_recipe, "build_model", lambda *a, **k: imported.append(1) or build(*a, **k))
    with open_recipe.builds_kept():
        found = [result(f"{number}") for number in range(3)]
    assert len(imported) == 1
    assert result("later") == found[0] == found[1] == found[2]
    assert isinstance(prepare(recipe()).opened.target, open_recipe.ModelTarget)
    imported.clear()
    no_building(monkeypatch)
    assert result("other") == found[0]


def test_what_another_variant_drew_or_changed_is_built_anew(home):
    plain = result("plain")
    (home / "cache").rename(home / "before")
    with open_recipe.builds_kept():
        prepare(recipe())
        scored = open_recipe._build(recipe().target.build, 7, (), "")  # as where a model is needed
        draw_pending(scored.model)
        for variable in scored.model.variables:
            variable.assign(variable + 1)
        assert result("swept") == plain


def test_whoever_takes_the_model_gets_what_it_is_by_then(home):
    result("first")
    target = prepare(recipe()).opened.target
    assert isinstance(target, kept.KeptTarget)
    drawn = target.read("classes/kernel")
    draw_pending(target.model)
    np.testing.assert_array_equal(target.read("classes/kernel"), drawn)
    target.assign({"classes/kernel": drawn + 1})
    np.testing.assert_array_equal(target.read("classes/kernel"), drawn + 1)
    target.keep()
    np.testing.assert_array_equal(prepare(recipe()).opened.target.read("classes/kernel"), drawn)


@pytest.mark.parametrize(
    "target",
    [
        {"_target_": "my_models.build"},
        {"_target_": "keras.applications.VGG16"},
        {"_target_": "keras.applications.VGG16", "weights": "imagenet"},
        {"_target_": "keras.applications.VGG16", "weights": "w.h5"},
        {"_target_": "keras_hub.models.BertBackbone.from_preset", "preset": "x"},
        {"_target_": "keras_hub.models.TextClassifier", "backbone": "a_preset"},
        {**NESTED, "backbone": {"_target_": "my_models.build"}},
        {**MLP, "prefix": {"a": 1}},
    ],
)
def test_what_may_depend_on_more_is_never_kept(home, target):
    assert key_of(as_build(target), 0) is None
    assert not is_pure(as_build(target))


def as_build(data):
    arguments = {
        k: as_build(v) if isinstance(v, dict) and "_target_" in v else v for k, v in data.items() if k != "_target_"
    }
    return Build(data["_target_"], arguments, "target")


@pytest.mark.parametrize("name", ["keras", "keras_hub", "tensorflow"])
def test_where_keras_or_its_backend_is_imported_nothing_is_kept(home, monkeypatch, name):
    monkeypatch.undo()
    monkeypatch.setattr(pure, "are_caches_on", lambda: True)
    monkeypatch.setattr(pure, "backend_of_keras", lambda: "tensorflow")
    for module in ("keras", "keras_hub", "tensorflow"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    assert key_of(as_build(MLP), 0) is not None
    monkeypatch.setitem(sys.modules, name, sys)
    assert key_of(as_build(MLP), 0) is None


def test_the_variable_switches_it_off(home, monkeypatch):
    monkeypatch.setenv("TRANSFERPIPE_NO_CACHE", "1")
    assert key_of(as_build(MLP), 0) is None


@pytest.mark.parametrize(
    "more",
    [
        {"score": {"_target_": "my_scores.score"}}, {"quantize": "int8"}, {"verify": {"reload": True}}, {"optimizer": "transfer"},
        {"verify": {"parity": "source"}}, {"save": {"path": "folder"}}, {"save": {"path": "m.npz", "like": {"path": "source.npz"}}},
        {"source": {"_target_": "my_models.build"}},
    ],
    ids=str,
)  # fmt: skip
def test_where_a_model_is_needed_or_code_of_the_users_runs_nothing_is_kept(home, more):
    assert open_recipe._is_kept(recipe(), ())
    assert not open_recipe._is_kept(recipe(), ("mine",))
    assert not open_recipe._is_kept(recipe(**more), ())


def changed_seed(home, monkeypatch):
    return as_build(MLP), 1


def changed_argument(home, monkeypatch):
    return as_build({**MLP, "classes": 4}), 0


def changed_inner_argument(home, monkeypatch):
    return as_build({**MLP, "inputs": 5.0}), 0


def changed_backend(home, monkeypatch):
    monkeypatch.setattr(pure, "backend_of_keras", lambda: "numpy")


def changed_settings(home, monkeypatch):
    (home / "keras" / "keras.json").write_text(json.dumps({"image_data_format": "channels_first"}))


def changed_dtype(home, monkeypatch):
    (home / "keras" / "keras.json").write_text(json.dumps({"floatx": "float16"}))


def changed_variable(home, monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "another")


def changed_packages(home, monkeypatch):
    listed = pure.os.listdir
    monkeypatch.setattr(pure.os, "listdir", lambda path: [*listed(path), "keras-99.dist-info"])


def changed_package(home, monkeypatch):
    stamp = pure._stamp
    monkeypatch.setattr(
        pure, "_stamp", lambda path: (*stamp(path)[:2], 1) if path.parent.name == "keras" else stamp(path)
    )


def changed_code(home, monkeypatch):
    stamp = pure._stamp
    monkeypatch.setattr(
        pure, "_stamp", lambda path: (*stamp(path)[:2], 1) if path.name == "builders.py" else stamp(path)
    )


def changed_version(home, monkeypatch):
    monkeypatch.setattr(pure, "_version", lambda: "99")


def changed_processor(home, monkeypatch):
    monkeypatch.setattr(pure, "_processor", lambda: iter(["flags: none"]))


@pytest.mark.parametrize(
    "change",
    [
        changed_seed, changed_argument, changed_inner_argument, changed_backend, changed_settings, changed_dtype, changed_variable,
        changed_packages, changed_package, changed_code, changed_version, changed_processor,
    ],
)  # fmt: skip
def test_whatever_decides_a_model_is_in_its_key(home, monkeypatch, change):
    before = key_of(as_build(MLP), 0)
    assert before == key_of(as_build(dict(reversed(MLP.items()))), 0)
    asked = change(home, monkeypatch) or (as_build(MLP), 0)
    after = key_of(*asked)
    assert after is not None
    assert after != before


def test_a_package_that_somebody_works_on_is_not_vouched_for(home, monkeypatch):
    (home / "mine").mkdir()
    (home / "mine" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(home))
    with pytest.raises(LookupError):
        pure._package("mine")


def test_a_model_that_is_drawn_already_or_saves_files_is_not_kept(home):
    import keras

    from transferpipe.models.target import ModelTarget

    drawn = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    made = ModelTarget(drawn, "x")
    assert kept.kept("key", made, lambda: made) is made


def test_a_builder_that_warns_warns_again(home, monkeypatch):
    build = open_recipe.build_model

    def warn(*args, **keys):
        warnings.warn("old", UserWarning, stacklevel=1)
        return build(*args, **keys)

    monkeypatch.setattr(open_recipe, "build_model", warn)
    for _ in range(2):
        with pytest.warns(UserWarning, match="old"):
            assert not isinstance(prepare(recipe()).opened.target, kept.KeptTarget)


def test_what_is_kept_comes_back_as_it_was(home):
    for target in (MLP, NESTED):
        structure = prepare(recipe(target)).opened.target.structure
        found = from_plain(json.loads(json.dumps(to_plain(structure))))
        assert found == structure
        for name in ("network", "doubles", "file_names", "operands"):  # which no comparison looks at
            assert getattr(found.catalog, name) == getattr(structure.catalog, name), name


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'["tuple", 1]', b'["tuple", ["Other"], [], "3", {}]'])
def test_an_entry_of_another_kind_is_as_if_there_were_none(home, content):
    kept._CACHE.keep("key\nstructure", content)
    assert kept.read_kept("key", "label", lambda: pytest.fail("it was built")) is None
    kept._CACHE.keep("key\nvalues", content)
    assert kept._read_values("key") == {}


def test_an_object_is_not_kept():
    with pytest.raises(TypeError):
        to_plain({"a": object()})
    with pytest.raises(TypeError):
        to_plain({1: 2})
