"""A file whose classes are the user's own, copied without them: what Keras would have after loading it."""

import sys

import keras
import pytest

import transferpipe as tp

MODULE = """
import keras

class Base(keras.layers.Dense):
    HOOK

@keras.saving.register_keras_serializable("their")
class Own(Base):
    pass
"""
RECIPE = "source: {path: s.keras}\ntarget: {path: t.keras}\nunmatched: same_name\n"
HOOKS = {
    "raises": 'def load_own_variables(self, store):\n        raise ValueError("these words")',
    "loads something else": "def load_own_variables(self, store):\n        self.kernel.assign(2 * store['0'][()])",
    "loads right": "def load_own_variables(self, store):\n        super().load_own_variables(store)",
    "has none": "pass",
    "is given one": 'pass\n\ndef take(self, store):\n    raise ValueError("these words")\nBase.load_own_variables = take',
}
SAID = {"has none": "", "is given one": "their_layers.Own may have load hooks of its own, as their_layers sets such"}
RIGHT = ("loads right", "has none")


@pytest.fixture
def files(here, monkeypatch):
    """Return a function that saves two models of a class with this hook, or of this module, and forgets the class."""
    monkeypatch.syspath_prepend(here)

    def make(hook, module=MODULE):
        (here / "their_layers.py").write_text(module.replace("HOOK", HOOKS[hook]))
        (here / "recipes" / "files.yaml").write_text(RECIPE)
        import their_layers

        for name in "st":
            keras.Sequential([keras.Input((3,)), their_layers.Own(2, name="own")]).save(here / f"{name}.keras")
        forget()

    def forget():
        sys.modules.pop("their_layers", None)
        keras.saving.get_custom_objects().pop("their>Own", None)

    yield make
    forget()


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_is_said_of_a_class_that_only_its_text_shows(cli, files, hook):
    files(hook)
    answer = cli("run", "recipe=files")
    assert answer.status == 0
    said = SAID.get(hook, "their_layers.Own has load hooks of its own")
    assert said in " ".join(answer.out.split())
    assert ("not-loaded" in answer.out) == bool(said)
    assert "their_layers" not in sys.modules, "a file does not say what is imported"


@pytest.mark.parametrize("hook", ["raises", "is given one"])
def test_a_hook_that_raises_is_noticed_where_the_user_vouches_for_it(cli, files, hook):
    files(hook)
    answer = cli("run", "recipe=files", "--trust", "their_layers")
    assert answer.status == 3
    assert "these words" in answer.err


@pytest.mark.follows("_compare: let its load_own_variables take")
def test_what_keras_loads_is_compared_where_the_user_vouches_for_it(cli, files):
    files("loads something else")
    answer = cli("run", "recipe=files", "--trust", "their_layers")
    assert answer.status == 3
    assert "own/0: has a different value" in answer.err
    assert "-> let its load_own_variables take what its save_own_variables writes" in answer.err
    files("loads right")
    answer = cli("run", "recipe=files", "--trust", "their_layers")
    assert answer.status == 0
    assert "not-loaded" not in answer.out


@pytest.mark.follows("verify_reload: allow its module on")
def test_a_result_that_is_to_be_loaded_needs_its_classes(cli, files):
    files("has none")
    refused = cli("run", "recipe=files", "verify.reload=true")
    assert refused.status == 3
    assert "-> allow its module on the command line: --trust their_layers" in refused.err
    assert cli("run", "recipe=files", "verify.reload=true", "--trust", "their_layers").status == 0


WARNED = [pytest.mark.warns("loads-otherwise"), pytest.mark.follows("code: loads-otherwise")]


@pytest.mark.parametrize("hook", [pytest.param("loads something else", marks=WARNED), "loads right", "has none"])
def test_a_hook_of_a_source_is_said_where_another_class_takes_its_weights(cli, files, here, hook):
    files(hook)
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="own")]).save(here / "t.keras")
    planned = cli("plan", "recipe=files")
    strict = cli("run", "recipe=files", "strict=true", "allow=[not-loaded]", "hydra.run.dir=strict")
    assert strict.status == (2 if hook != "has none" else 0)
    assert ("loads-otherwise" in strict.err) == (not (here / "strict").exists()) == (hook != "has none")
    unsure, sure = (cli("run", "recipe=files", *word) for word in ((), ("--trust", "their_layers")))
    assert planned.status == unsure.status == sure.status == 0
    for out in (planned.out, unsure.out):
        assert " ".join(out.split()).count("Keras may load another value than s.keras holds") == (hook != "has none")
    said = "Keras loads another value than s.keras holds of own/0" in " ".join(sure.out.split())
    assert said == (hook == "loads something else")
    import their_layers

    loaded = keras.models.load_model(here / "s.keras", custom_objects={"Own": their_layers.Own})
    tp.transfer(loaded, here / "t.keras", unmatched="same_name", save={"path": "m.keras"}, folder=here / "followed")
    kernel = keras.models.load_model(here / "followed" / "m.keras").layers[0].kernel.numpy()
    assert (kernel == loaded.layers[0].kernel.numpy()).all()


BORROWING = """
import keras

@keras.saving.register_keras_serializable("their")
class Own(keras.layers.Layer):
    def __init__(self, units, **more):
        super().__init__(**more)
        self.layer = keras.layers.Dense(units, name="inner")

    def build(self, shape):
        self.layer.build(shape)
        self.kernel = self.layer.kernel

    def call(self, x):
        return self.layer(x)

    def get_config(self):
        return {**super().get_config(), "units": self.layer.units}
"""
NAMES = ["own/kernel", "own/0", "own/inner/kernel", "own/inner/0"]  # the model's and the file's, of both places


@pytest.mark.parametrize("at", NAMES)
def test_one_variable_of_a_class_that_the_user_vouches_for_is_one_weight_of_its_file(cli, files, here, at):
    files("has none", BORROWING)
    edit = f"+edit={{e:{{at:{at},index:[0,1],set:7}}}}"
    answer = cli("run", "recipe=files", edit, "save=m.keras", "--trust", "their_layers")
    assert answer.status == 0
    assert "not-loaded" not in answer.out
    (made,) = here.glob("outputs/files/*/m.keras")
    import their_layers

    kernel = keras.models.load_model(made, custom_objects={"Own": their_layers.Own}).layers[0].kernel.numpy()
    assert kernel[0, 1] == 7
    assert (kernel != 7).sum() == kernel.size - 1


def test_one_variable_of_a_class_that_is_not_at_hand_is_said_to_be_open(cli, files):
    files("has none", BORROWING)
    assert "not-loaded" not in cli("run", "recipe=files").out
    answer = cli("run", "recipe=files", "+edit={e:{at:own/0,index:[0,1],set:7}}")
    assert answer.status == 0
    assert "own/0 and own/inner/0 had the same values and differ now" in answer.out


@pytest.mark.parametrize(("one", "other"), [("own/0", "own/inner/0"), ("own/kernel", "own/inner/kernel")])
def test_rules_for_the_names_of_one_variable_are_named_together(refuses, files, one, other):
    files("has none", BORROWING)
    rules = f"+mapping={{one:{{to:{one},from:own/0}},other:{{to:{other},from:own/0,transform:[{{scale:2}}]}}}}"
    words = ["run", "recipe=files", rules, "--trust", "their_layers"]
    refuses(2, words, "mapping.one, mapping.other: ")


@pytest.fixture
def alone(files, here):
    """Return a function that makes `s.keras` and `t.weights.h5` of this module, and a recipe of the two."""

    def make(hook, module):
        files(hook, module)
        import their_layers

        model = keras.Sequential([keras.Input((3,)), their_layers.Own(2, name="own")])
        keras.Model.save_weights(model, here / "t.weights.h5")
        (here / "recipes" / "alone.yaml").write_text(
            "source: {path: t.weights.h5}\ntarget: {path: t.weights.h5}\n"
            "unmatched: same_name\nsave: {path: m.weights.h5}\n"
        )
        (here / "their_build.py").write_text(
            "import keras\nimport their_layers\n\ndef build():\n"
            "    return keras.Sequential([keras.Input((3,)), their_layers.Own(2, name='own')])\n"
        )
        sys.modules.pop("their_layers")
        keras.saving.get_custom_objects().pop("their>Own")

    yield make
    sys.modules.pop("their_build", None)


EDIT = "+edit={e:{at:own/0,index:[0,1],set:7}}"
SOURCES = [("+source._target_=their_build.build", "~source.path"), ("source.path=s.keras",)]


def test_what_a_file_of_weights_alone_shows_of_one_variable_is_said(cli, alone):
    alone("has none", BORROWING)
    open_part = "what Keras loads of own, own/inner"
    assert open_part in " ".join(cli("run", "recipe=alone").out.split())
    answer = cli("run", "recipe=alone", EDIT)
    assert "own/0 and own/inner/0 had the same values and differ now" in " ".join(answer.out.split())


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_of_the_same_places_tells_the_classes_of_a_file_of_weights_alone(cli, alone, here, source):
    alone("has none", BORROWING)
    answer = cli("run", "recipe=alone", EDIT, *source, "--trust", "their_layers")
    assert answer.status == 0
    assert "not-loaded" not in answer.out
    (made,) = here.glob("outputs/alone/*/m.weights.h5")
    import their_build

    model = their_build.build()
    model.load_weights(made)
    kernel = model.layers[0].kernel.numpy()
    assert kernel[0, 1] == 7
    assert (kernel != 7).sum() == kernel.size - 1


@pytest.mark.parametrize("source", SOURCES)
def test_a_load_hook_is_found_by_a_source_of_the_same_places(cli, alone, source):
    alone("loads something else", MODULE)
    answer = cli("run", "recipe=alone", *source, "--trust", "their_layers")
    assert answer.status == 3
    assert "own/0: has a different value in the model that Keras loads" in answer.err
