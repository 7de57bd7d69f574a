"""What a user sees whose builder, source file, values or output cannot be used."""

import os
from pathlib import Path

import numpy as np
import pytest

OWN = ("run", "recipe=own")

BUILDERS = """
import sys
import keras
from keras import layers

number = 3


def good(units=6, dtype="float32"):
    hidden, classes = layers.Dense(units, name="hidden", dtype=dtype), layers.Dense(3, name="classes", dtype=dtype)
    return keras.Sequential([keras.Input((8,)), hidden, classes])


def raising():
    raise ValueError("no luck today")


def leaving():
    sys.exit(0)


class Leaving(layers.Dense):
    # Ends the process by one of the methods that Keras calls, with the status of success.

    def __init__(self, units, when="", **kwargs):
        super().__init__(units, **kwargs)
        self.when = when

    def save_own_variables(self, store):
        super().save_own_variables(store)
        if self.when == "saved":
            sys.exit(0)

    def get_config(self):
        if self.when == "configured":
            sys.exit(0)
        return {**super().get_config(), "when": self.when}


def left(when):
    keras.saving.get_custom_objects()["Leaving"] = Leaving
    return keras.Sequential([keras.Input((8,)), Leaving(6, when, name="hidden"), layers.Dense(3, name="classes")])


def nothing():
    return None


def unbuilt():
    return keras.Sequential([layers.Dense(3)])


def weightless():
    return keras.Sequential([keras.Input((8,)), layers.Flatten()])


def talking():
    print("built")
    return good()


class Unwritable(keras.Model):
    def __init__(self, secret):
        super().__init__()
        self.hidden, self.classes = layers.Dense(6, name="hidden"), layers.Dense(3, name="classes")
        self.secret = secret

    def build(self, shape):
        self.hidden.build(shape)
        self.classes.build((None, 6))

    def call(self, x):
        return self.classes(self.hidden(x))


def unwritable():
    model = Unwritable(object())
    model.build((None, 8))
    return model
"""


@pytest.fixture
def builders(here):
    (here / "my_models.py").write_text(BUILDERS)
    (here / "failing.py").write_text("import package_that_is_not_there\nf = None\n")
    (here / "broken.py").write_text("def f(:\n")


@pytest.mark.parametrize(
    "target, words",
    [
        ("my_models.raising", ["target: my_models.raising raised ValueError: no luck today", "fix the builder"]),
        ("my_models.leaving", ["target: my_models.leaving raised SystemExit: 0"]),
        ("my_models.nothing", ["my_models.nothing returned", "NoneType", "not a keras.Model", "return the model"]),
        ("my_models.unbuilt", ["my_models.unbuilt returned a model without weights", "model.build(input_shape)"]),
        ("my_models.weightless", ["my_models.weightless() holds no weights"]),
        ("my_models.goood", ["my_models has no 'goood'", "did you mean 'good'?"]),
        ("my_model.good", ["there is no module 'my_model'", "did you mean 'my_models'?"]),
        ("nowhere.good", ["there is no module 'nowhere'", "run in its folder, where nowhere.py lies"]),
        ("my_models.number", ["my_models.number", "cannot be called"]),
        ("my_models", ["target._target_: must be a dotted Python name", "not text 'my_models'"]),
        ("failing.f", ["importing failing failed: ModuleNotFoundError", "package_that_is_not_there"]),
        ("broken.f", ["importing broken failed: SyntaxError"]),
        ("transferpipe.zoo.small_mpl", ["transferpipe.zoo has no 'small_mpl'", "did you mean 'small_mlp'"]),
    ],
)
def test_builders(refuses, builders, target, words):
    refuses(2, [*OWN, f"target._target_={target}"], *words)


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ("saved", "layers/leaving: Leaving cannot save its weights: SystemExit: 0"),
        ("configured", "the recipe's Python code: ended the program by SystemExit: 0"),
    ],
)
def test_layers_that_end_the_process(refuses, builders, when, words):
    refuses(2, [*OWN, "target._target_=my_models.left", f"+target.when={when}"], words)


def test_an_argument_that_a_builder_does_not_take(refuses, builders):
    words = [*OWN, "target._target_=my_models.good", "+target.unis=3"]
    refuses(2, words, "command line: target.unis: my_models.good takes no argument 'unis'")


@pytest.mark.parametrize(
    ("target", "fix"),
    [
        ("my_models.keras.Sequential", "write a function that makes it in a module of your own"),
        ("my_models.sys.exit", "write a function that makes it in a module of your own"),
        ("os.getcwd", "write a function that makes it in a module of your own"),
        ("safetensors.x", "--trust safetensors"),
    ],
)
def test_builders_that_a_recipe_may_not_name(refuses, builders, target, fix):
    refuses(5, [*OWN, f"target._target_={target}"], "recipe may", fix)


def test_a_model_that_cannot_be_written_as_keras(refuses, builders):
    words = ("its configuration cannot be written", "give its classes a get_config", "save weights only")
    refuses(2, [*OWN, "target._target_=my_models.unwritable"], *words)


def test_what_a_builder_prints_does_not_spoil_json(cli, builders):
    answer = cli("plan", "recipe=own", "target._target_=my_models.talking", "--json")
    assert answer.out.startswith("{")
    assert "built" in answer.err


@pytest.mark.parametrize(
    "source, words",
    [
        ("wieghts.safetensors", ["wieghts.safetensors: there is no such file", "did you mean 'weights.safetensors'"]),
        ("nowhere/weights.h5", ["there is no such file", "there is no folder 'nowhere' either"]),
        ("empty.keras", ["empty.keras: is empty", "download or save it again"]),
        ("words.keras", ["words.keras: is of no known format", "formats that can be read: keras, ", "weights_h5"]),
        ("folder", ["folder: is an empty folder"]),
        ("cut.safetensors", ["cut.safetensors", "truncated"]),
        ("cut.keras", ["cut.keras"]),
        ("cut.weights.h5", ["cut.weights.h5"]),
        ("pkg://transferpipe/zoo/data/digits_0_5.keras", ["holds no 'zoo/data/digits_0_5.keras'", "digits_0_4.keras'"]),
    ],
)
def test_sources(refuses, here, source, words):
    zoo = Path(__file__).parents[2] / "transferpipe" / "zoo" / "data"
    whole = {"cut.safetensors": here / "weights.safetensors", "cut.keras": zoo / "digits_0_4.keras"}
    whole["cut.weights.h5"] = zoo / "digits_0_4.weights.h5"
    for name, path in whole.items():
        (here / name).write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    (here / "empty.keras").touch()
    (here / "words.keras").write_text("this is not a model\n" * 20)
    (here / "folder").mkdir()
    refuses(4, [*OWN, f"source.path='{source}'"], *words)


def test_a_source_in_a_package_that_is_missing(refuses):
    words = ("needs the package not_installed_here, which is not installed", "pip install not-installed-here")
    refuses(2, [*OWN, "source.path='pkg://not_installed_here/x.keras'"], *words)


def test_a_pickle_is_refused_as_unsafe(refuses, here):
    (here / "old.pt").write_bytes(b"\x80\x02cposix\nsystem\n(X\x04\0\0\0truetR.")
    refuses(5, [*OWN, "source.path=old.pt"], "old.pt: the pickle names 'posix.system'", "safetensors")


def test_a_shape_that_differs(refuses, store):
    store(hidden__kernel=np.ones((6, 8), "float32"))
    refuses(2, OWN, "hidden/kernel has shape (8, 6), hidden/kernel gives (6, 8)", "{transpose: [1, 0]}")


def test_a_weight_that_the_source_lacks(refuses, store):
    store(hidden__bias=None)
    refuses(2, OWN, "hidden takes hidden, which holds no 'bias'; it holds 'kernel'", "`except: 'hidden/bias'`")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(refuses, cli, store, bad):
    kernel = np.ones((8, 6), "float32")
    kernel[3, 2] = bad
    store(hidden__kernel=kernel)
    fix = "verify.nonfinite=allow"
    refuses(3, OWN, "hidden/kernel: holds 1 value that is NaN or infinite", str(bad), "at [3, 2]", fix)
    assert cli(*OWN, fix).status == 0


def test_values_far_into_a_large_weight_are_told_by_their_place(refuses, store, recipe):
    kernel = np.ones((800, 600), "float32")
    kernel[700, 500] = np.nan
    store(hidden__kernel=kernel, hidden__bias=np.ones(600, "float32"))
    refuses(3, [*OWN, "+target.inputs=800", "+target.hidden=600"], "nan, at [700, 500]")


def test_a_number_that_the_target_cannot_hold(refuses, cli, store, builders):
    store(hidden__kernel=np.full((8, 6), 1e5, "float32"))
    half = [*OWN, "target._target_=my_models.good", "+target.dtype=float16"]
    refuses(3, half, "hidden/kernel: 100000.0 cannot be held by float16 (the source is float32)", "such as float32")


def test_a_cast_between_kinds(refuses, store):
    store(hidden__kernel=np.ones((8, 6), "int8"))
    refuses(2, OWN, "hidden/kernel is float32, hidden/kernel gives int8", "{cast: float32}")


def test_an_output_that_exists(refuses, cli, here):
    first = cli(*OWN, "hydra.run.dir=run")
    assert first.status == 0
    refuses(4, [*OWN, "hydra.run.dir=run", "seed=5"], "run/model.keras: exists already", "save.overwrite=true")
    link = here / "link.keras"
    link.symlink_to("nothing")
    refuses(
        4, [*OWN, "hydra.run.dir=new", f"save.path={link}"], f"{link}: exists already", "choose another name, or allow"
    )
    before = (here / "run" / "model.keras").read_bytes()
    assert cli(*OWN, "hydra.run.dir=run", "seed=5", "save.overwrite=true").status == 0
    assert (here / "run" / "model.keras").read_bytes() != before
    assert sorted(p.name for p in (here / "run").iterdir()) == [
        ".hydra", "manifest.json", "model.keras", "plan.json", "report.html"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["hydra.run.dir=file"], ["file: cannot be written: it is a file, not a folder", "choose another folder"]),
        (["hydra.run.dir=file/inner"], ["file/inner: cannot be written: Not a directory"]),
        (["hydra.run.dir=/proc/run"], ["/proc/run: cannot be written"]),
        (["save.path=/proc/model.keras"], ["/proc: cannot be written", "save elsewhere"]),
        (["save.path=/dev/null/model.keras"], ["/dev/null: cannot be written: it is a file, not a folder"]),
        (["hydra.run.dir=run", "save.path=taken.keras"], ["run/taken.keras: is a folder", "choose another name"]),
        (["hydra.run.dir=run", "save.also=[taken.keras/x.npz,/proc/x.npz]"], ["/proc: cannot be written"]),
    ],
)
def test_outputs_that_cannot_be_written(refuses, here, overrides, words):
    (here / "file").touch()
    (here / "run" / "taken.keras").mkdir(parents=True)
    refuses(4, [*OWN, *overrides], *words)


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_folder_that_may_not_be_written(refuses, here):
    (here / "locked").mkdir(mode=0o500)
    refuses(4, [*OWN, "hydra.run.dir=locked"], "locked: cannot be written: no permission")


@pytest.mark.parametrize("also", ["[a.npz,b.safetensors,c.weights.h5]"])
def test_a_failure_in_the_last_of_several_files_leaves_none(refuses, here, also, monkeypatch):
    def fail(descriptor, content):
        os.write(descriptor, b"half a file")
        raise OSError(28, "No space left on device")

    import transferpipe.save.output

    original = transferpipe.save.output.writer_for
    monkeypatch.setattr(
        transferpipe.save.output, "writer_for", lambda name: fail if "c.weights" in name else original(name)
    )
    refuses(4, [*OWN, "hydra.run.dir=run", f"save.also={also}"], "run: cannot be written: No space left on device")
