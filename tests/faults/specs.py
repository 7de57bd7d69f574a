"""Models as plain data, so that two of them may differ in exactly one setting, layer or connection."""

from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np


@dataclass(frozen=True)
class Part:
    """One layer: its class, its name, its settings, and the parts that it takes (the one before it if empty)."""

    layer: str
    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spec:
    """A functional model with one input, called ``in``, and one output."""

    shape: tuple[int | None, ...]
    parts: tuple[Part, ...]
    dtype: str = "float32"

    def change(self, name, layer=None, inputs=None, **settings):
        """Return the model with other settings, class or inputs of one part."""
        old = self[name]
        new = replace(
            old,
            layer=layer or old.layer,
            inputs=old.inputs if inputs is None else inputs,
            settings={**old.settings, **settings},
        )
        return replace(self, parts=tuple(new if p.name == name else p for p in self.parts))

    def without(self, name):
        """Return the model without one part; what took it takes its first input."""
        parts, gone = [], self[name]
        before = gone.inputs[0] if gone.inputs else None
        for i, part in enumerate(self.parts):
            if part.name == name:
                before = before or (self.parts[i - 1].name if i else "in")
                continue
            inputs = tuple(before if x == name else x for x in part.inputs)
            if not part.inputs and i and self.parts[i - 1].name == name:
                inputs = (before,)
            parts.append(replace(part, inputs=inputs))
        return replace(self, parts=tuple(parts))

    def insert(self, after, part):
        """Return the model with `part` behind the part called `after`; all that took that one take the new one."""
        parts = [] if after != "in" else [part]
        for p in self.parts:
            parts.append(replace(p, inputs=tuple(part.name if x == after else x for x in p.inputs)))
            if p.name == after:
                parts.append(part)
        return replace(self, parts=tuple(parts))

    def rename(self, names):
        """Return the model with other names of its parts."""
        get = names if callable(names) else lambda n: names.get(n, n)
        return replace(
            self,
            parts=tuple(
                replace(p, name=get(p.name), inputs=tuple(x if x == "in" else get(x) for x in p.inputs))
                for p in self.parts
            ),
        )

    def __getitem__(self, name):
        return next(p for p in self.parts if p.name == name)

    def of(self, *layers):
        """Return the names of all parts of these classes."""
        return [p.name for p in self.parts if p.layer in layers]


def build(spec, name=None, dtype=None):
    """Return the Keras model of a spec."""
    taken = {"in": keras.Input(spec.shape, dtype=dtype or spec.dtype, name="in")}
    last, start = taken["in"], taken["in"]
    for part in spec.parts:
        inputs = [taken[n] for n in part.inputs] or [last]
        layer = make_layer(part)
        if part.layer == "MultiHeadAttention" and len(inputs) == 1:
            last = layer(inputs[0], inputs[0])
        elif part.layer == "MultiHeadAttention":
            last = layer(*inputs)
        elif len(inputs) > 1:
            last = layer(inputs)
        else:
            last = layer(inputs[0])
        taken[part.name] = last
    return keras.Model(start, last, name=name)


def make_layer(part):
    """Return the Keras layer of a part; settings that are parts or specs become layers and models."""
    if part.layer == "Nested":
        return build(part.settings["spec"], name=part.name)
    settings = {k: make_layer(v) if isinstance(v, Part) else v for k, v in part.settings.items()}
    inner = settings.pop("inner", None)
    made = getattr(keras.layers, part.layer)
    return made(inner, name=part.name, **settings) if inner is not None else made(name=part.name, **settings)


def fill(model, rng):
    """Give every weight values as training leaves them: scaled kernels, statistics that are not (0, 1)."""
    for weight in model.weights:
        shape, own = tuple(weight.shape), weight.path.rsplit("/", 1)[-1]
        if not str(weight.dtype).startswith(("float", "bfloat")):
            continue
        if "variance" in own:
            value = 0.3 + rng.random(shape)
        elif own in {"gamma", "scale"}:
            value = 1 + 0.3 * rng.normal(size=shape)
        elif len(shape) < 2:
            value = 0.3 * rng.normal(size=shape)
        else:
            value = rng.normal(size=shape) * 1.2 / np.sqrt(max(1, np.prod(shape[:-1])))
        weight.assign(value.astype("float32"))
    return model


def arrays_of(model):
    """Return the weights of a flat model by ``layer/weight``."""
    found = {}
    for layer in model.layers:
        for weight in layer.weights:
            own = weight.path.rsplit("/", 1)[-1]
            found[f"{layer.name}/{own}"] = np.copy(keras.ops.convert_to_numpy(weight))
    return found


def run(model, inputs):
    """Return what a model computes, as arrays."""
    out = model(inputs, training=False)
    return [np.asarray(x) for x in keras.tree.flatten(out)]
