"""Dotted names that lead to code which no recipe may run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from .case import COMMAND, HERE, INVALID, UNSAFE, Pair, RecipeText, recipe_case

# The name, and whether it is refused as what it is (status 5) or because there is nothing of that name.
NAMES = (
    *("os.system", "posix.system", "subprocess.Popen", "subprocess.run", "builtins.eval", "builtins.exec", "builtins.open",
      "builtins.__import__", "importlib.import_module", "runpy.run_path", "pickle.loads", "marshal.loads", "shutil.rmtree",
      "pathlib.Path.unlink", "ctypes.CDLL", "pty.spawn", "code.interact", "types.FunctionType", "functools.partial",
      "operator.methodcaller", "webbrowser.open", "urllib.request.urlopen", "socket.create_connection", "timeit.timeit",
      "logging.config.dictConfig", "threading.Thread", "multiprocessing.Process", "asyncio.run", "platform.popen"),
    *("hydra.utils.call", "hydra.utils.instantiate", "hydra.utils.get_method", "hydra.utils.get_object", "hydra.main",
      "omegaconf.OmegaConf.load", "yaml.unsafe_load", "numpy.load", "h5py.File", "torch.load", "pip.main", "pytest.main",
      "setuptools.setup", "jax.numpy.load"),
    *("keras.utils.get_file", "keras.models.load_model", "keras.saving.load_model", "keras.saving.deserialize_keras_object",
      "keras.config.enable_unsafe_deserialization", "keras.layers.Lambda", "keras.layers.TFSMLayer", "keras.Model.from_config",
      "keras.export.ExportArchive", "keras.src.utils.file_utils.os.system", "keras.src.saving.saving_lib.zipfile.ZipFile",
      "keras.src.applications.vgg16.os.system", "tensorflow.io.write_file", "tensorflow.py_function",
      "tensorflow.saved_model.load", "tensorflow.raw_ops.WriteFile", "tensorflow.load_library", "tf_keras.layers.Lambda"),
    *("keras.applications.os.system", "keras.applications.vgg16.os.system", "keras.applications.vgg16.file_utils.get_file",
      "keras.applications.vgg16.backend.os.system", "keras.applications.imagenet_utils.json.load",
      "keras.applications.__builtins__.eval", "keras.applications.__loader__.load_module", "keras.applications.__init__.__globals__",
      "keras.applications.VGG16.__globals__.get", "keras.applications.VGG16.__code__", "keras.applications.VGG16.__class__",
      "keras.applications.VGG16.__subclasses__", "keras.applications.vgg16.decode_predictions",
      "keras.applications.vgg16.preprocess_input", "keras.applications..VGG16"),
    *("keras_hub.src.utils.preset_utils.os.system", "keras_hub.upload_preset", "keras_hub.src.utils.preset_utils.get_file",
      "keras_hub.models.Backbone.save_to_preset", "keras_hub.models.Backbone.__init__.__globals__.get",
      "keras_hub.utils.os.system", "keras_hub.models.__builtins__.exec", "keras_hub.models.Backbone.from_config"),
    *("transferpipe.cli.main.main", "transferpipe.files.publishing.atomic.remove", "transferpipe.recipe.trust.vouches_for",
      "transferpipe.recipe.trust.importlib.import_module", "transferpipe.zoo.os.system", "transferpipe.zoo.digits.os",
      "transferpipe.score.os.system", "transferpipe.score.training.fit.Path", "transferpipe.execute.run.execute", "transferpipe.run",
      "transferpipe.testing.formats.Path", "transferpipe.plugins.importlib.import_module", "transferpipe.zoo.__builtins__.eval",
      "transferpipe.score.__loader__.get_data"),
    *("", ".", "..", ".os.system", "os..system", "os.system.", " os.system", "os.system ", "os:system", "os/system", "../os.system",
      "os.system()", "__import__('os').system", "os.ſystem", "ｏs.system", "оs.system", "os\\u002esystem", "lambda x: x",
      "eval", "system", "__main__.main", "__builtins__.eval", "file:///etc/passwd", "os.system; x", "a.b\\0c", "a" * 3000,
      ".".join(["a"] * 2000), "my-models.build", "my_models", "recipes.k", "recipes.k.build", "1.2"),
    *("my_models.nothing", "my_models.Build", "my_models.nothing.build"),
)  # fmt: skip
# What leads through a module of the user's, which has to be imported before anybody can see that.
THROUGH = ("my_models.os.system", "my_models.subprocess.run", "my_models.system", "my_models.Path.unlink", "my_models.os.path.os.popen",
           "my_models.__builtins__.get", "my_models.build.__globals__.get", "my_models.build.__class__", "my_models.__loader__.get_data",
           "my_models.subprocess.os.system", "my_models.build.__code__.replace")  # fmt: skip
GOOD = "my_models.build"
# Where a name can stand.
PLACES = {
    "target": ("target: {_target_: %s}", GOOD),
    "source": ("source: {_target_: %s}", GOOD),
    "sources": ("sources: {t: {_target_: %s}}\nsource: null", GOOD),
    "score": ("score: {_target_: %s}", "my_models.score"),
    "parity": ("verify: {parity: {inputs: like.npz, source: {_target_: %s}}}", "my_models.part"),
    "argument": ("target: {_target_: my_models.build, note: {_target_: %s}}", "my_models.part"),
    "argument in a list": ("target: {_target_: my_models.build, note: [1, {_target_: %s}]}", "my_models.part"),
    "argument of an argument": ("target: {_target_: my_models.build, note: {_target_: my_models.part, a: {_target_: %s}}}", "my_models.part"),
    "argument of a score": ("score: {_target_: my_models.score, note: {_target_: %s}}", "my_models.part"),
    "with positions": ("target: {_target_: my_models.build, note: {_target_: %s, _args_: ['" + COMMAND + "']}}", None),
    "partial": ("target: {_target_: my_models.build, note: {_target_: %s, _partial_: true}}", None),
    "with a method of converting": ("target: {_target_: my_models.build, note: {_target_: %s, _convert_: all}}", None),
}  # fmt: skip
_BASE = RecipeText()
_MORE = ("os.system", "subprocess.run", "builtins.eval", "hydra.utils.call", "keras.applications.vgg16.os.system",
         "my_models.os.system", "importlib.import_module", "keras.layers.Lambda")  # fmt: skip


def hostile_names() -> Iterator[Pair]:
    """Yield every name in one place, and some of them in all."""
    places = itertools.cycle(("target", "source", "argument", "score", "argument in a list"))
    for name, place in [*zip((*NAMES, *THROUGH), places, strict=False), *itertools.product(_MORE, PLACES)]:
        line, good = PLACES[place]
        twin = line % good if good else PLACES["argument"][0] % "my_models.part"
        text = line % f'"{name}"'
        lines = text.split("\n")
        text = "\n".join([lines[0] + HERE, *lines[1:]])
        yield Pair(
            recipe_case(f"{name[:60]!r} as {place}", _BASE.with_lines(text), (UNSAFE, INVALID) if good is None or _may_be_nothing(name) else (UNSAFE,),
                        words=("plan", "recipe=k")),
            recipe_case(f"twin as {place}", _BASE.with_lines(twin), (0,), words=("plan", "recipe=k"), needs_keras=True),
        )  # fmt: skip


def _may_be_nothing(name: str) -> bool:
    """Tell whether a name may be refused because nothing is called so, before anybody asks what it would be."""
    parts = name.split(".")
    return name.startswith(("transferpipe.zoo.", "transferpipe.score.", "__builtins__", "my_models.nothing", "my_models.Build")) or not all(part.isidentifier() and part.isascii() for part in parts) or len(parts) < 2 or len(name) > 300 or (
        parts[0] in ("recipes", "torch", "jax", "tf_keras", "keras_hub", "a", "pytest", "pip", "setuptools", "platform")
    )  # fmt: skip
