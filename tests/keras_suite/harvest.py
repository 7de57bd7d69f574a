"""Collect what the tests of the installed Keras configure: layers handed to `run_layer_test`, and models that are saved.

Keras ships its tests (``keras/src/**/*_test.py``). They are run as they are, but for two things: `run_layer_test` only
notes what it was given, and a model that a test saves is handed to whoever collects. What the tests themselves find out
is of no interest here: a test that fails has shown its configurations before, or has none.
"""

import contextlib
import importlib
import inspect
import io
import re
import types
import unittest
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import keras
from keras.src import testing, tree

NOTES_LAYERS, NOTES_MODELS = frozenset({"run_layer_test"}), frozenset({"save", "save_weights", "save_model"})
_MODEL_MODULES = (
    "saving.",
    "legacy.saving.",
    "layers.core.",
    "layers.attention.",
    "quantizers.",
    "models.",
    "layers.convol",
)


@dataclass(frozen=True)
class Configuration:
    """One layer as a test of Keras configures it.

    Attributes:
        name: class and a digest of everything below, stable over runs.
        layer_class: the class.
        arguments: those of its constructor.
        shapes: of the inputs: a shape, or a list, tuple or dict of shapes.
        dtypes: of the inputs, in the same structure.
        call: other arguments of its call.
        custom: classes that loading it needs.
        text: what tables and messages call it.
    """

    name: str
    layer_class: type
    arguments: dict
    shapes: object
    dtypes: object
    call: dict = field(default_factory=dict)
    custom: dict = field(default_factory=dict)
    text: str = ""

    @property
    def kind(self):
        """What one of a kind stands for: the class and the quantisation."""
        mode = str(self.arguments.get("dtype") or "").partition("_from_")
        return self.layer_class.__name__, mode[0] if mode[1] else "", bool(self.arguments.get("lora_rank"))

    def make(self, name):
        """Return the layer anew under a name: objects among its arguments, such as cells, are those of the test."""
        with keras.saving.custom_object_scope(self.custom):
            config = self.layer_class(**self.arguments).get_config()
            return self.layer_class.from_config({**config, "name": name})


@dataclass
class Harvest:
    """What was collected.

    Attributes:
        layers: configurations by their names.
        without_inputs: texts of those whose inputs are not dense tensors, which no Functional model of ours can take.
    """

    layers: dict[str, Configuration] = field(default_factory=dict)
    without_inputs: list[str] = field(default_factory=list)


def harvest_layers(modules=None) -> Harvest:
    """Return every configuration that the tests of the modules (all by default) give to `run_layer_test`."""
    found = Harvest()

    def note(_test, layer_cls, init_kwargs, input_shape=None, input_dtype=None, input_data=None, **rest):
        shapes = input_shape
        if input_shape is None and input_data is not None:
            shapes = tree.map_structure(lambda x: tuple(x.shape), input_data)
            input_dtype = tree.map_structure(lambda x: keras.backend.standardize_dtype(x.dtype), input_data)
        arguments = dict(init_kwargs or {})
        given = ", ".join(f"{k}={v!r}" for k, v in arguments.items())
        text = re.sub(r" at 0x[0-9a-f]+", "", f"{layer_cls.__name__}({given}) on {shapes} {input_dtype or ''}".strip())
        text = re.sub(r"(name=\w*?)_\d+", r"\1", text)  # names of cells count up with whatever was made before
        if shapes is None or rest.get("input_sparse") or rest.get("input_ragged"):
            found.without_inputs.append(text)
            return
        if input_dtype is None:
            input_dtype = tree.map_shape_structure(lambda _: "float32", shapes)
        call = {k: v for k, v in (rest.get("call_kwargs") or {}).items() if k != "training"}
        name = f"{layer_cls.__name__}-{zlib.crc32(f'{text} {sorted(call)}'.encode()):08x}"
        custom = {layer_cls.__name__: layer_cls, **(rest.get("custom_objects") or {})}
        found.layers.setdefault(
            name, Configuration(name, layer_cls, arguments, shapes, input_dtype, call, custom, text)
        )

    with mock.patch.object(testing.TestCase, "run_layer_test", note):
        for test in tests_that_call(NOTES_LAYERS, modules or all_modules()):
            _run(test)
    return found


def harvest_models(use, modules=None) -> None:
    """Call ``use(model, name)`` for each model that a test saves, while the test still holds everything it needs.

    A test's own custom classes are in scope only then. `use` may save and load as it likes: that is not collected.
    """
    state = {"busy": False, "test": "", "count": 0}

    def wrapped(original):
        def save(model, *args, **kwargs):
            if not state["busy"] and isinstance(model, keras.Model) and model.built and model.weights:
                state["busy"] = True
                try:
                    use(model, f"{state['test']}#{state['count']}")
                finally:
                    state["busy"], state["count"] = False, state["count"] + 1
            return original(model, *args, **kwargs)

        return save

    from keras.src.saving import saving_api, saving_lib

    places = [
        (keras.Model, "save"),
        (keras.Model, "save_weights"),
        (saving_api, "save_model"),
        (saving_lib, "save_model"),
    ]
    with contextlib.ExitStack() as stack:
        for owner, name in places:
            stack.enter_context(mock.patch.object(owner, name, wrapped(getattr(owner, name))))
        chosen = modules or model_modules()
        for test in tests_that_call(NOTES_MODELS, chosen):
            state.update(test=".".join(test.id().split(".")[-2:]), count=0)
            _run(test)


def model_modules() -> list[str]:
    """Return the names of those modules whose tests save models."""
    return [m for m in all_modules() if m.removeprefix("keras.src.").startswith(_MODEL_MODULES)]


def all_modules() -> list[str]:
    """Return the names of the modules that hold Keras's tests."""
    root = Path(inspect.getfile(keras)).parent
    files = sorted(root.glob("src/**/*_test.py"))
    return ["keras." + ".".join(f.relative_to(root).with_suffix("").parts) for f in files]


def tests_that_call(names: frozenset[str], modules) -> Iterator[unittest.TestCase]:
    """Yield the tests of the modules whose code, or that of a method of their class that they use, names one of these."""
    for module in modules:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                loaded = importlib.import_module(module)
        except (ImportError, unittest.SkipTest):  # tests of other backends
            continue
        if names is NOTES_LAYERS and "run_layer_test" not in inspect.getsource(loaded):
            continue
        for suite in unittest.defaultTestLoader.loadTestsFromModule(loaded):
            for test in suite:
                method = getattr(test, test._testMethodName, None)
                if method is not None and _mentions(method, type(test), names, set()):
                    yield test


def _mentions(function, owner, names, seen) -> bool:
    """Tell whether the code of a function uses one of the names, itself or by way of its class's other methods."""
    used: set[str] = set()
    todo = [inspect.unwrap(function).__code__]
    while todo:
        code = todo.pop()
        used |= set(code.co_names)
        todo += [c for c in code.co_consts if isinstance(c, types.CodeType)]
    # `parameterized` keeps the test method in a closure.
    cells = [c.cell_contents for c in getattr(function, "__closure__", None) or () if _is_filled(c)]
    others = [getattr(owner, n) for n in used if inspect.isfunction(getattr(owner, n, None))]
    more = [f for f in (*cells, *others) if inspect.isfunction(f) and id(f) not in seen]
    seen |= {id(f) for f in more}
    return bool(used & names) or any(_mentions(f, owner, names, seen) for f in more)


def _is_filled(cell) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _run(test) -> None:
    """Run one test for what it shows; neither its result nor what it prints matters."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        try:
            test.run(unittest.TestResult())
        finally:
            keras.config.set_dtype_policy("float32")
