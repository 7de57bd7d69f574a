"""What a recipe may name of Keras, of KerasHub and of transferpipe itself."""

import sys
import types

import pytest
from recipe_data import refused_name

from transferpipe.errors import RecipeError, UnsafeError
from transferpipe.recipe.trust import resolve


def define(monkeypatch, module, **members):
    """Make a module with members that say they were defined there; its parents too."""
    parent, _, name = module.rpartition(".")
    if parent and parent not in sys.modules:
        define(monkeypatch, parent)
    made = types.ModuleType(module)
    made.__path__ = []
    for key, member in members.items():
        if getattr(member, "__module__", None) == __name__:
            member.__module__ = module
        setattr(made, key, member)
    monkeypatch.setitem(sys.modules, module, made)
    if parent:
        monkeypatch.setattr(sys.modules[parent], name, made, raising=False)
    return made


def model(**_):
    """Stand for a library's builder."""


def other(**_):
    """Stand for a library's function that builds nothing."""


@pytest.fixture
def keras(monkeypatch):
    """Stand for Keras, whose import would take seconds."""
    for name in [n for n in sys.modules if n.partition(".")[0] == "keras"]:
        monkeypatch.delitem(sys.modules, name)
    vgg = define(monkeypatch, "keras.src.applications.vgg16", VGG16=model)
    file_utils = define(monkeypatch, "keras.src.utils.file_utils", get_file=other)
    return define(monkeypatch, "keras.applications", VGG16=vgg.VGG16, get_file=file_utils.get_file, sys=sys)


def test_keras_applications(folder, keras):
    assert resolve("keras.applications.VGG16", "target") is model
    for name in ("get_file", "sys.exit", "vgg16.os.system", "VGG16.vgg", "__spec__.loader", "VGG16.__globals__.get"):
        refused = refused_name(f"keras.applications.{name}")
        assert refused.startswith(f"keras.applications.{name} ")
        assert "--trust" not in refused
    keras.Moved = keras.get_file  # a class by its name, and something else behind it
    assert refused_name("keras.applications.Moved").startswith("keras.applications.Moved leads to keras.src.utils")
    assert "did you mean 'VGG16'" in refused_name("keras.applications.VGG15", error=RecipeError)


def test_a_library_name_does_not_put_the_working_directory_on_the_path(folder, keras):
    resolve("keras.applications.VGG16", "target")
    assert str(folder) not in sys.path


class Backbone:
    """Stand for a KerasHub model."""

    @classmethod
    def from_preset(cls, preset):
        """Build."""

    @classmethod
    def from_config(cls, config):
        """Build whatever the configuration says."""

    def save_to_preset(self, folder):
        """Write anywhere."""


def test_keras_hub_builds_models_and_does_nothing_else(folder, monkeypatch):
    for method in (Backbone.from_preset, Backbone.from_config):
        monkeypatch.setattr(method.__func__, "__module__", "keras_hub.src.models")
    monkeypatch.setattr(Backbone.save_to_preset, "__module__", "keras_hub.src.models")
    define(monkeypatch, "keras_hub", upload_preset=other)
    define(monkeypatch, "keras_hub.models", Backbone=Backbone)
    monkeypatch.setattr(other, "__module__", "keras_hub.src.utils")
    monkeypatch.setattr(Backbone, "__module__", "keras_hub.src.models")
    assert resolve("keras_hub.models.Backbone", "target") is Backbone
    assert resolve("keras_hub.models.Backbone.from_preset", "target") == Backbone.from_preset
    for name in ("upload_preset", "models.Backbone.from_config", "models.Backbone.save_to_preset"):
        assert refused_name(f"keras_hub.{name}").startswith(f"keras_hub.{name} is not something that")


@pytest.mark.parametrize("name", ["zoo.digits_cnn", "zoo.nested_classifier", "score.head_training"])
def test_our_own_builders_and_scores(folder, name):
    assert callable(resolve(f"transferpipe.{name}", "target"))


@pytest.mark.parametrize("name", ["zoo.builders.import_module", "digits.load_digits", "score.fit.np.load"])
def test_what_we_do_not_export(folder, name):
    with pytest.raises((UnsafeError, RecipeError)):
        resolve(f"transferpipe.{name}", "target")


def test_our_own_sources_in_the_working_directory_grant_nothing(monkeypatch):
    from pathlib import Path

    import transferpipe

    monkeypatch.chdir(Path(transferpipe.__file__).parents[1])
    for name in ("cli.main.main", "files.publishing.atomic.write_text", "recipe.trust.resolve", "digits.load_digits"):
        refused_name(f"transferpipe.{name}")
