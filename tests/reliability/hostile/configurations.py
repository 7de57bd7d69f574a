"""Configurations of targets that name code, another's classes, or sizes that nothing has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from configured_files import CODE, DENSE, WRITERS, Data, function, layer, write_keras

from .case import UNREADABLE, UNSAFE, Case, Pair

# What is hostile, by what it is: a layer without weights that stands behind the harmless one.
KINDS: dict[str, Data] = {
    "Lambda": layer("Lambda", function=CODE),
    "Lambda of Keras 2": layer("Lambda", None, function=["4wEAAAA=", None, None], function_type="lambda"),
    "Lambda under another name": layer("Dropout", registered="keras>Lambda"),
    "Dropout registered by others": layer("Dropout", registered="evil>Dropout"),
    "Dropout registered under another name": layer("Dropout", registered="EvilLayer"),
    "Lambda of a package": layer("Custom>Lambda", None),
    "foreign class": layer("Popen", "subprocess"),
    "foreign function": layer("Activation", activation=function("system", "os")),
    "builtin": layer("Activation", activation=function("eval", "builtins")),
    "get_file": layer("Activation", activation=function("get_file", "keras.utils")),
    "load_model": layer("load_model", "keras.models"),
    "TFSMLayer": layer("TFSMLayer", filepath="../outside"),
    "TorchModuleWrapper": layer("TorchModuleWrapper", module={"class_name": "__bytes__", "config": ""}),
    "initializer of others": layer("Dropout", noise={"class_name": "Evil", "module": "evil.inits", "config": {}}),
    "nearly Keras": layer("Dropout", "keras_evil.layers"),
    "file of words": layer("StringLookup", vocabulary="/etc/passwd"),
    "operation that writes": layer("TFOpLambda", None, function="io.write_file"),
    "operation of Python": layer("TFOpLambda", None, function="numpy_function"),
    "type of others": {"class_name": "__typespec__", "spec_name": "Popen", "module": "subprocess", "config": []},
    "no class": {"module": "os", "config": {}},
    "ours": layer("remove", "transferpipe.files.publishing.atomic"),
    "huge units": layer("Dense", units=10**9),
    "huge shape": layer("InputLayer", batch_shape=[None, 10**6, 10**6]),
    "huge padding": layer("ZeroPadding1D", padding=[10**12, 0]),
    "infinite size": layer("UpSampling1D", size=1e400),
    "huge vocabulary": layer("Embedding", input_dim=10**11, output_dim=8),
}
EMPTY: dict[str, Data] = {
    "layer without weights": layer("Dense", units=1000),
    "table without weights": layer("Embedding", input_dim=1000, output_dim=1000),
    "wide layer without weights": layer("Dense", units=50),
    "cell without weights": layer("LSTM", units=1000),
    "model without weights": {"class_name": "Sequential", "module": "keras", "registered_name": None,
                              "config": {"name": "x", "layers": [layer(name=f"x{i}", units=1000) for i in range(50)]}},
    "values that no machine holds": {"class_name": "Sequential", "module": "keras", "registered_name": None,
                                     "config": {"name": "x", "layers": [layer("RepeatVector", name="r", n=1),
                                                *(layer("UpSampling1D", name=f"u{i}", size=10**6) for i in range(3))]}},
}  # fmt: skip
TWIN = layer("Dropout", rate=0.5, registered="Dropout")
_GOOD: dict[str, Data] = {"an argument": function("relu", "keras.activations")}


def _in_layers(bad: Data) -> Data:
    return {"class_name": "Sequential", "module": "keras", "registered_name": None,
            "config": {"name": "m", "layers": [layer("InputLayer", batch_shape=[None, 4], name="i"), DENSE, bad]}}  # fmt: skip


def _in_model(bad: Data) -> Data:
    return _in_layers({**_in_layers(bad), "config": {"name": "inner", "layers": [bad]}})


def _in_wrapper(bad: Data) -> Data:
    return _in_layers(layer("TimeDistributed", layer=bad))


def _compiled(bad: Data) -> Data:
    return {**_in_layers(TWIN), "compile_config": {"loss": bad, "optimizer": "sgd"}}


WAYS: dict[str, Callable[[Data], Data]] = {
    "layer": _in_layers,
    "layer of a model inside": _in_model,
    "layer in a wrapper": _in_wrapper,
    "loss": _compiled,
}


def hostile_configurations() -> Iterator[Pair]:
    """Yield every kind as a layer of both formats, and in the other places in turn."""
    for number, (kind, bad) in enumerate(KINDS.items()):
        others = list(WAYS)[1:]
        for suffix, way in ((".keras", "layer"), (".h5", "layer"), (".keras", others[number % len(others)])):
            if way == "loss" and kind.startswith("huge"):
                way = "layer of a model inside"
            yield Pair(_case(f"{kind} as a {way} of {suffix}", suffix, WAYS[way](bad), (UNSAFE,)),
                       _case(f"twin as a {way} of {suffix}", suffix, WAYS[way](_twin(way)), (0,)))  # fmt: skip

    # What no file holds weights of, or others; Keras would be the first to know how large it is.
    for kind, bad in EMPTY.items():
        for suffix in (".keras", ".h5"):
            yield Pair(_case(f"{kind} in {suffix}", suffix, _in_layers(bad), (UNSAFE, UNREADABLE)),
                       _case(f"twin in {suffix}", suffix, _in_layers(TWIN), (0,)))  # fmt: skip


def _twin(way: str) -> Data:
    return function("mean_squared_error", "keras.losses") if way == "loss" else TWIN


def _case(name: str, suffix: str, config: Data, statuses: tuple[int, ...]) -> Case:
    def write(folder: Path) -> None:
        WRITERS[suffix](config, folder / f"x{suffix}")
        write_keras(_in_layers(TWIN), folder / "good.keras")
        (folder / "recipes").mkdir()
        (folder / "recipes" / "k.yaml").write_text(
            f"source: {{path: good.keras}}\ntarget: {{path: x{suffix}}}\n"
            'mapping: {all: {to: ".*"}}\nunmatched: keep\nunused: report\nsave: {path: model.keras}\n'
        )

    where = f"x{suffix}" if statuses != (0,) else ""
    return Case(name, write, ("run", "recipe=k"), statuses, where, needs_keras=suffix == ".h5")
