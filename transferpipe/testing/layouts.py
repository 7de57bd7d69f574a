"""The laws of a layout: what is written in it is found again and is the same, and it claims nothing of another's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from transferpipe.errors import RecipeError
from transferpipe.planning.layouts import find_layout, layout_called
from transferpipe.planning.layouts.adapter import NoCounterpartError
from transferpipe.planning.layouts.export import plan_export, plan_import
from transferpipe.planning.layouts.layout import Layout
from transferpipe.planning.reading.read_recipe import chain_of
from transferpipe.planning.structure import LayerState, TargetStructure
from transferpipe.planning.transforms import TransformError, apply_chain, infer
from transferpipe.recipe.layouts import LAYOUTS
from transferpipe.weights.spec import Catalog, WeightSpec, catalog_of

Shape = tuple[int, ...]
_HEADS = {
    **{f"{part}/kernel": (12, 3, 4) for part in ("query", "key", "value")},
    **{f"{part}/bias": (3, 4) for part in ("query", "key", "value")},
    "attention_output/kernel": (3, 4, 12),
    "attention_output/bias": (12,),
}
_NORM = {"gamma": (5,), "beta": (5,)}
EXAMPLES: Mapping[str, Mapping[str, Shape]] = {
    "Dense": {"kernel": (3, 5), "bias": (5,)},
    "Conv1D": {"kernel": (2, 3, 5), "bias": (5,)},
    "Conv2D": {"kernel": (2, 4, 3, 5), "bias": (5,)},
    "Conv3D": {"kernel": (2, 4, 1, 3, 5), "bias": (5,)},
    "Conv1DTranspose": {"kernel": (2, 5, 3), "bias": (5,)},
    "Conv2DTranspose": {"kernel": (2, 4, 5, 3), "bias": (5,)},
    "Conv3DTranspose": {"kernel": (2, 4, 1, 5, 3), "bias": (5,)},
    "DepthwiseConv1D": {"kernel": (2, 3, 5), "bias": (15,)},
    "DepthwiseConv2D": {"kernel": (2, 4, 3, 5), "bias": (15,)},
    "SeparableConv1D": {"depthwise_kernel": (2, 3, 5), "pointwise_kernel": (1, 15, 4), "bias": (4,)},
    "SeparableConv2D": {"depthwise_kernel": (2, 4, 3, 5), "pointwise_kernel": (1, 1, 15, 4), "bias": (4,)},
    "BatchNormalization": {**_NORM, "moving_mean": (5,), "moving_variance": (5,)},
    "LayerNormalization": _NORM,
    "GroupNormalization": _NORM,
    "RMSNormalization": {"scale": (5,)},
    "PReLU": {"alpha": (1, 1, 5)},
    "Embedding": {"embeddings": (7, 3)},
    "ReversibleEmbedding": {"embeddings": (7, 3), "reverse_embeddings": (3, 7)},
    "LSTMCell": {"kernel": (3, 8), "recurrent_kernel": (2, 8), "bias": (8,)},
    "SimpleRNNCell": {"kernel": (3, 2), "recurrent_kernel": (2, 2), "bias": (2,)},
    "GRUCell": {"kernel": (3, 6), "recurrent_kernel": (2, 6), "bias": (2, 6)},
    "MultiHeadAttention": _HEADS,
    "GroupedQueryAttention": _HEADS,
}
"""A layer of each of Keras's classes: the shapes of its weights by their names inside of it."""
_ODD: tuple[Shape, ...] = ((), (1,), (4,), (6,), (2, 3), (6, 6), (2, 3, 4), (0, 3), (1, 1, 2, 3), (2, 1, 2, 1, 2))


class LayoutLaws:
    """Laws of a layout.

    To use: give `layout`, and `examples` for classes of layers that are not among `EXAMPLES`.

    Attributes:
        layout: the class.
        examples: by class of layer, the shapes of its weights in Keras by their names inside the layer.
        exact: whether what is written in it and read again has the same bits; otherwise it is nearly the same.
    """

    layout: ClassVar[type[Layout]]
    examples: ClassVar[Mapping[str, Mapping[str, Shape]]] = {}
    exact: ClassVar[bool] = True

    def targets(self) -> Iterator[tuple[str, TargetStructure]]:
        """Yield a target of one layer for each class in the layout's table."""
        known = {**EXAMPLES, **self.examples}
        for kind in self.layout.adapters:
            assert kind in known, f"add the shapes of a {kind} to `examples`"
            yield kind, target_of(kind, known[kind])

    def values(self, target: TargetStructure) -> dict[str, NDArray[Any]]:
        """Return numbers for the weights of a target, all different."""
        found, start = {}, 1
        for weight in target.catalog:
            size = math.prod(weight.shape)
            found[weight.name] = np.arange(start, start + size, dtype=weight.dtype).reshape(weight.shape)
            start += size
        return found

    def test_it_says_who_it_is(self) -> None:
        """Its facts are there, and no other layout's."""
        layout = self.layout()
        assert layout.name and layout.framework and isinstance(layout.separator, str)
        others = [layout_called(name) for name in LAYOUTS if name != layout.name]
        assert not any(set(other.formats) & set(layout.formats) for other in others)
        assert layout.tag is None or layout.tag not in {other.tag for other in others}
        if layout.name in LAYOUTS:
            assert LAYOUTS[layout.name].is_written == (layout.tag is not None)

    def test_it_has_a_counterpart_for_every_weight_that_it_knows(self) -> None:
        """Found by the class of the layer, and each under a name of its own."""
        layout = self.layout()
        for kind, target in self.targets():
            for weight in target.catalog:
                found = layout.find_counterpart(weight.name, target)
                if weight.name[len("layer/") :] in _own_names(layout, kind):
                    assert found is not None, (kind, weight.name)
                    assert found.choices and all(choice.names for choice in found.choices)
                    assert any(names for choice in found.choices for names in layout.names_in("layer", choice))

    def test_what_is_written_in_it_is_found_again_and_is_the_same(self) -> None:
        """From Keras's weights to the layout's and back, whatever the layer."""
        layout, tried = self.layout(), 0
        for kind, target in self.targets():
            try:
                there, catalog = self.exported(target)
            except NoCounterpartError:
                continue
            except RecipeError as error:
                if layout.tag is not None and not all("cannot be written" in p.what for p in error.problems):
                    raise
                continue  # files in it are only read, or it says why this layer has no place in one
            held = plan_import(layout.name, target, catalog)
            assert set(held) == set(target.catalog.by_name), kind
            for name, value in self.values(target).items():
                back = apply_chain(chain_of(None, held[name].steps), [there[n] for n in held[name].names])
                assert (back.shape, back.dtype) == (value.shape, value.dtype), (kind, name)
                same = np.array_equal(back, value) if self.exact else np.allclose(back, value)
                assert same, (kind, name)
                tried += 1
        # Else the law would hold of a layout that exports nothing; one that is only read may.
        assert tried or not layout.adapters or layout.tag is None

    def exported(self, target: TargetStructure) -> tuple[dict[str, NDArray[Any]], Catalog]:
        """Return what a file in the layout holds of the target, and its catalog."""
        values, found = self.values(target), {}
        for tensor in plan_export(self.layout.name, target):
            parts = [apply_chain(chain_of(None, part.steps), [values[part.weight]]) for part in tensor.parts]
            found[tensor.name] = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=0)
            assert found[tensor.name].shape == tensor.shape, tensor.name
            assert self.layout.separator == "/" or "." not in tensor.name
        specs = [WeightSpec(name, array.shape, array.dtype.name) for name, array in found.items()]
        return found, catalog_of(specs)

    def test_sources_of_other_shapes_are_refused_by_an_error_of_ours(self) -> None:
        """Somebody pairs the wrong weights some day: whatever their shapes, it gives transforms, or refuses."""
        layout = self.layout()
        for kind, target in self.targets():
            for weight in target.catalog:
                found = layout.find_counterpart(weight.name, target)
                for choice in found.choices if found else ():
                    for shape in _ODD:
                        shapes = [shape] * len(choice.names)
                        try:
                            infer(
                                chain_of(None, choice.steps_for(shapes, weight.shape)),
                                shapes,
                                ["float32"] * len(shapes),
                            )
                        except TransformError as error:
                            assert error.fix, (kind, weight.name, shape)

    def test_it_claims_nothing_that_it_does_not_know(self) -> None:
        """A layer of a class of the user's own is taken as Keras has it, and Keras's names are not the layout's."""
        layout = self.layout()
        target = target_of("NoClassOfAnybody", {"own_kernel": (2, 3), "own_bias": (3,)})
        assert [layout.find_counterpart(w.name, target) for w in target.catalog] == [None, None]
        keys = ["dense/kernel", "dense/bias", "norm/gamma", "norm/beta", "norm/moving_mean", "norm/moving_variance"]
        assert not layout.owns(keys)
        assert not layout.owns([key.replace("/", ".") for key in keys])

    def test_files_that_mean_it_are_taken_in_it(self) -> None:
        """By their format, and by the tag that files in it have."""
        layout = self.layout()
        keys = [key.replace("/", ".") for key in ("a/weight", "a/bias")]
        for format in layout.formats:
            assert find_layout(format, None, keys, is_named=False) == layout.name
        if layout.tag is not None:
            assert find_layout("safetensors", layout.tag, keys, is_named=True) == layout.name

    def test_it_reads_only_what_is_written_down(self) -> None:
        """Asked twice, it says the same; it has no state."""
        for _, target in self.targets():
            for weight in target.catalog:
                one, two = (self.layout().find_counterpart(weight.name, target) for _ in range(2))
                assert (one is None) == (two is None)
                if one and two:
                    assert [c.names for c in one.choices] == [c.names for c in two.choices]


def target_of(kind: str, shapes: Mapping[str, Shape]) -> TargetStructure:
    """Return the target of one layer of a class, called ``layer``; a cell is the one of a recurrent layer."""
    layer = "layer/cell" if kind.endswith("Cell") else "layer"
    attention = kind.endswith("Attention")
    specs = [
        WeightSpec(f"{layer}/{own}", shape, "float32", "EinsumDense" if attention else kind)
        for own, shape in shapes.items()
    ]
    layers = [LayerState("", None, trainable=True, recorded=True)]
    names = dict.fromkeys(part for s in specs for part in _above(s.name))
    layers += [LayerState(n, kind if n == layer else None, trainable=True, recorded=True) for n in names]
    return TargetStructure("the target", catalog_of(specs), tuple(layers), frozenset(s.name for s in specs))


def _above(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]


def _own_names(layout: Layout, kind: str) -> set[str]:
    own = set(layout.adapters[kind])
    return own | {f"cell/{name}" for name in own}
