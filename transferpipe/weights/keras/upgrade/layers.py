"""One layer of an older Keras, as Keras 3 writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from transferpipe.errors import Problem, Problems, RecipeError
from transferpipe.text.listing import quoted
from transferpipe.weights.keras.setting_values import version_of
from transferpipe.weights.keras.upgrade.classes import (
    ARGUMENTS,
    CLASSES,
    FOR_TRAINING,
    FOR_TRAINING_ALONE,
    GONE,
    LEFT_OUT,
    MERGES,
    MODULES,
    OLDER_NAMES,
    ONLY_IF,
)
from transferpipe.weights.keras.upgrade.values import (
    Config,
    plain_number,
    serialised,
    upgrade_activation,
    upgrade_dtype,
    upgrade_object,
)

BUILDER = (
    "write the model as a Python function with a layer of your own in its place, and give that as the target: "
    "target: {_target_: my_module.build}; the weights of this file are paired by name as before"
)
_DATA_FORMATS: dict[str, str | None] = {"th": "channels_first", "tf": "channels_last", "default": None}
_MODES = {"binary": "multi_hot", "tf-idf": "tf_idf"}
# Layers whose dtype is that of words and numbers that they look up, and not of what they compute.
_LOOKUPS = ("StringLookup", "TextVectorization", "Hashing", "HashedCrossing", "Discretization")


@dataclass
class Findings:
    """What is found on the way through one configuration.

    Attributes:
        label: the file.
        version: the version of Keras that wrote it, as far as it says.
        problems: what is wrong with the whole.
        refused: the names of layers that cannot be built, by the reason and the fix.
        notes: what is taken over otherwise than it stands there, by what is said of it: the names of the layers.
        doubts: the same of what may compute something else.
        renamed: layers whose names Keras 3 does not allow, by their old names.
        data_format: the one order of axes that layers say, which those of Keras 1 have that say none.
        masked: whether any layer masks what is padding.
    """

    label: str
    version: tuple[int, ...] | None
    problems: Problems = field(default_factory=Problems)
    refused: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    doubts: dict[str, list[str]] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    data_format: str | None = None
    masked: bool = False

    @property
    def is_old(self) -> bool:
        """Whether Keras 1 or 2 wrote it; what does not say is older than the versions that do."""
        return self.version is None or self.version < (3,)

    def note(self, text: str, layer: str) -> None:
        """Say what a layer has otherwise and computes as before."""
        self.notes.setdefault(text, []).append(layer)

    def doubt(self, text: str, layer: str) -> None:
        """Say what may make a layer compute something else."""
        self.doubts.setdefault(text, []).append(layer)

    def refuse(self, layer: str, what: str, fix: str = BUILDER) -> None:
        """Say that a layer cannot be built."""
        self.refused.setdefault((what, fix), []).append(layer)

    def raise_refused(self) -> None:
        """Say all that cannot be built, each kind once: a network has a class in dozens of its blocks.

        Raises:
            RecipeError: there is something.
        """
        for (what, fix), layers in self.refused.items():
            many, each = ("s", "each ") if len(layers) > 1 else ("", "")
            self.problems.add(f"{self.label}: layer{many} {quoted(layers)}", f"{each}{what}", fix)
        self.problems.raise_as(RecipeError)


def class_of(layer: Mapping[str, Any]) -> str:
    """Return the class of a serialised layer in its name of today."""
    name = str(layer.get("class_name")).rpartition(">")[2]
    return CLASSES.get(name, name)


def name_of(layer: Mapping[str, Any], found: Findings) -> str:
    """Return the name that a layer has in Keras 3, which allows no slash in it."""
    config = layer.get("config")
    name = layer.get("name") or (config.get("name") if isinstance(config, Mapping) else None)
    old = name if isinstance(name, str) else ""
    new = old.replace("/", "_")
    if new != old:
        found.renamed[old] = new
        text = "the slashes in layers' names are underscores now: Keras 3 allows none"
        if old not in found.notes.get(text, ()):
            found.note(text, old)
    return new


def upgrade_layer(layer: Mapping[str, Any], found: Findings, upgrade_inner: Callable[..., Config]) -> Config:
    """Return a layer that is not a model.

    Args:
        layer: the serialised layer.
        found: where is noted what cannot be built, and what changes.
        upgrade_inner: upgrades what a wrapper holds, a layer or a model.
    """
    name, kind, old_class = name_of(layer, found), class_of(layer), str(layer.get("class_name")).rpartition(">")[2]
    config = layer.get("config")
    if kind not in ARGUMENTS and kind != "Merge":
        known = GONE.get(kind)
        what = f"is a {kind}" + (f": {known}" if known else ", which is not a class of Keras that can be built here")
        found.refuse(name, what)
        # Something stands in its place, so that all that cannot be built is found in one go.
        return serialised(kind, {"name": name})
    given = dict(config) if isinstance(config, Mapping) else {}
    if old_class in FOR_TRAINING_ALONE:
        found.note(f"{old_class} is left out: it matters only for training", name)
        given = {}
    if kind == "Merge":
        kind, given = _upgrade_merge(name, given, found)
    if old_class == "RandomCrop" and found.is_old:  # in Keras 3 it leaves images as they are outside of training
        found.note("RandomCrop is a Resizing, which it was outside of training: it crops no more at random", name)
        kind, given = "Resizing", given | {"crop_to_aspect_ratio": True}
    if old_class == "Deconvolution2D" and _is_own_size(given, found.data_format):
        given = {key: value for key, value in given.items() if key != "output_shape"}
    given = _fill_in(kind, old_class, given, found)
    _check_counts(name, given, found)
    taken: Config = {"name": name}
    for old_key, value in given.items():
        key = _argument(old_key, kind)
        if key not in ARGUMENTS[kind]:
            _leave_out(name, key, value, found)
        # Of an argument that stands there under an old and a new name, the first counts.
        elif key not in taken:
            taken |= _upgrade_argument((name, kind), key, value, found, upgrade_inner)
    return serialised(kind, taken, MODULES.get(kind, "keras.layers"))


def _check_counts(name: str, config: Config, found: Findings) -> None:
    """Refuse a layer that weighs terms by how often they came, where its configuration does not say that."""
    if config.get("output_mode") == "tf_idf" and not config.get("idf_weights"):
        what = "counts by tf_idf and was adapted: its configuration lacks the weights of its terms (idf_weights)"
        found.refuse(name, what)


def _argument(key: str, kind: str) -> str:
    """Return what an argument is called today; the key itself where the class does not take it under any name."""
    takes = ARGUMENTS[kind]
    return key if key in takes else next((new for new in OLDER_NAMES.get(key, ()) if new in takes), key)


def _leave_out(name: str, key: str, value: Any, found: Findings) -> None:
    # What computes otherwise is refused; what only trains otherwise is noted; what nobody knows is a doubt.
    if key in ONLY_IF:
        if value not in ONLY_IF[key]:
            found.refuse(name, f"has {key}={value!r}, which Keras 3 cannot compute")
    elif key in FOR_TRAINING and value:
        found.note(f"{key} is left out: it matters only for training", name)
    elif key not in LEFT_OUT and key.rpartition("_")[2] not in _ENDINGS and value not in (None, False, [], {}, ""):
        found.doubt(f"{key}={value!r} is left out: it is not a known argument of this class", name)


def _upgrade_argument(
    layer: tuple[str, str], key: str, value: Any, found: Findings, upgrade_inner: Callable[..., Config]
) -> Config:
    name, kind = layer
    ending = key.rpartition("_")[2]
    if key in ("layer", "backward_layer", "cell", "cells", "layers"):
        held = value if key in ("cells", "layers") or isinstance(value, list) else [value] if value else []
        inner = [upgrade_inner(item, found) for item in held]
        if key == "cell" and isinstance(value, list):  # several cells, as RNN took them at first
            return {"cell": serialised("StackedRNNCells", {"cells": inner, "name": f"{name}_cells"})}
        return {key: inner if key in ("cells", "layers") else inner[0]} if inner else {}
    if key in ("activation", "recurrent_activation"):
        return {key: _activation(name, value, found, upgrade_inner)}
    if ending in _ENDINGS:
        new = upgrade_object(ending, value) if value is not None else None
        if value is not None and new is None:
            found.note(f"{key} is left out: Keras 3 has none like it, and it matters only for training", name)
        return {key: new} if new is not None else {}
    if key == "dtype":
        dtype = upgrade_dtype(value)
        # Keras 1 and 2 noted an Embedding's input as its dtype; taken for that of its numbers, it would round them.
        is_whole = kind == "Embedding" and dtype is not None and "float" not in dtype  # that of its input
        return {} if dtype is None or kind in _LOOKUPS or is_whole else {key: dtype}
    if key == "padding" and kind in _SIDES:
        return {key: _pads(value, _SIDES[kind])}
    if key == "data_format":
        return {key: _DATA_FORMATS.get(value, value)} if isinstance(value, str) else {}
    if key == "output_mode":
        return {key: _MODES.get(value, value) if isinstance(value, str) else value}
    return {key: plain_number(value)}


_SIDES = {
    "ZeroPadding1D": ("left_pad", "right_pad"),
    "ZeroPadding2D": ("top_pad", "bottom_pad", "left_pad", "right_pad"),
}
"""How Keras 1.2 called the sides that it padded (keras/layers/convolutional.py), in the order of its numbers."""


def _pads(value: Any, sides: tuple[str, ...]) -> Any:
    """Return how much is padded on each side as Keras 3 takes it, from what Keras 1.2 took beside that."""
    if isinstance(value, Mapping) and value.keys() <= set(sides):
        value = [value.get(side, 0) for side in sides]
    is_flat = isinstance(value, list) and len(value) == len(_SIDES["ZeroPadding2D"])
    return [value[:2], value[2:]] if is_flat else value


_ENDINGS = ("initializer", "regularizer", "constraint")


def _activation(name: str, value: Any, found: Findings, upgrade_inner: Callable[..., Config]) -> Any:
    is_layer = isinstance(value, Mapping) and isinstance(value.get("config"), Mapping)
    if is_layer and value.get("class_name") not in ("function", None):
        return upgrade_inner(value, found)  # a layer, such as LeakyReLU(0.1)
    new = upgrade_activation(value, found.is_old)
    if new is None:
        what = f"computes with {_show(value)}, which is not an activation of Keras"
        found.refuse(name, what)
        return "linear"
    if isinstance(new, dict):
        text = "hard_sigmoid keeps the slope of 0.2 that it had: Keras 3's is 1/6, so Rescaling and ReLU stand for it"
        found.note(text, name)
    return new


def _show(value: Any) -> str:
    if isinstance(value, Mapping):
        value = value.get("config", value)
    return f"the function {value}" if isinstance(value, str) else "a function of its own"


def _upgrade_merge(name: str, config: Config, found: Findings) -> tuple[str, Config]:
    mode = config.get("mode", "sum")
    if not isinstance(mode, str) or mode not in MERGES or config.get("mode_type", "raw") != "raw":
        found.refuse(name, "is a Merge with a function of its own, which is Python code and not run from a file")
        mode = "sum"
    kind = MERGES[mode]
    new: Config = {"name": name, "trainable": config.get("trainable", True)}
    if kind == "Concatenate":
        new["axis"] = config.get("concat_axis", -1)
    if kind == "Dot":
        axes = config.get("dot_axes", -1)
        new["axes"] = [a[0] if isinstance(a, list) and a else a for a in axes] if isinstance(axes, list) else axes
        new["normalize"] = mode == "cos"
    return kind, new


def _fill_in(kind: str, old_class: str, config: Config, found: Findings) -> Config:
    """Return the arguments with what a class of old left unsaid, or said in parts."""
    # A copy: the configuration of the file stays as it is for other readers.
    config = dict(config)
    if "nb_row" in config and "nb_col" in config:
        config["kernel_size"] = [config.pop("nb_row"), config.pop("nb_col")]
    if "kernel_dim1" in config:
        config["kernel_size"] = [config.pop(f"kernel_dim{i}", 1) for i in (1, 2, 3)]
    if found.is_old and kind.endswith(("2D", "3D")) and not {"data_format", "dim_ordering"} & config.keys():
        config["data_format"] = found.data_format
    if kind == "InputLayer":
        config["dtype"] = upgrade_dtype(config.pop("input_dtype", None) or config.get("dtype")) or "float32"
    if old_class.startswith("CuDNN"):  # cuDNN has no others
        config |= {"activation": "tanh", "recurrent_activation": "sigmoid"}
    if kind in ("GRU", "GRUCell") and found.is_old:
        # Files of tf.keras always say it; those of Keras itself, which may not, are of a GRU that had False.
        config["reset_after"] = True if old_class == "CuDNNGRU" else config.get("reset_after", False)
    if kind == "BatchNormalization":
        _one_axis(config, found)
        if old_class == "SyncBatchNormalization":
            config["synchronized"] = True
    is_bilinear = kind == "UpSampling2D" and config.get("interpolation") == "bilinear"
    if is_bilinear and found.version and found.version < (2, 3):
        # K.resize_images of Keras 2.2.4 called tf.image.resize_bilinear, which placed pixels by their corners.
        found.doubt("bilinear UpSampling2D places pixels half a pixel otherwise than it did", str(config.get("name")))
    return config


def _is_own_size(config: Config, data_format: str | None) -> bool:
    """Tell whether a Deconvolution2D was built for the size that a Conv2DTranspose gives by itself.

    Keras 1 took any that a convolution makes its input of; Keras 3 the smallest for ``valid``, and at least the
    stride, and the largest for ``same`` (``compute_conv_transpose_output_shape`` of keras/src/backend/common).
    """
    shape, strides = config.get("output_shape"), config.get("subsample") or [1, 1]
    kernel = config.get("kernel_size") or [config.get("nb_row"), config.get("nb_col")]
    first = config.get("dim_ordering", data_format) in ("th", "channels_first")
    sizes = shape[2:4] if first and isinstance(shape, list) else shape[1:3] if isinstance(shape, list) else []
    numbers = [*sizes, *strides, *kernel]
    if len(numbers) != 6 or not all(type(n) is int and n > 0 for n in numbers):
        return False
    is_same = config.get("border_mode", "valid") == "same"
    return all(
        n % s == 0 if is_same else n >= k and (n - k) % s == max(s - k, 0)
        for n, s, k in zip(sizes, strides, kernel, strict=True)
    )


def _one_axis(config: Config, found: Findings) -> None:
    axis = config.get("axis", -1)
    if not isinstance(axis, list):
        return
    if len(axis) != 1:
        found.refuse(str(config.get("name")), f"normalizes over the axes {axis}; Keras 3 takes one")
    config["axis"] = axis[0] if len(axis) == 1 else -1


def versioned(label: str, text: str | None) -> Findings:
    """Return empty findings for a file that says it is of this version."""
    return Findings(label, version_of(text))


def problem_of_model(label: str, what: str) -> Problem:
    """Return the problem of a configuration that is not one of layers."""
    fix = "give the Python function that builds the model as the target: target: {_target_: my_module.build}"
    return Problem(label, what, fix)
