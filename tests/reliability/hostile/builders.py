"""Calls of builders that a recipe may name, with arguments that would fill the memory, or build for ever."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from .case import HERE, Pair, RecipeText, recipe_case

_APPLICATIONS = "keras.applications"
_HUB = "keras_hub.models"
_BERT = "vocabulary_size: 64, num_layers: 1, num_heads: 2, hidden_dim: 8, intermediate_dim: 16, max_sequence_length: 16"
# The builder, what it is given beside what is hostile, what is hostile, and what stands there in the twin.
_ARGUMENTS = (
    (f"{_APPLICATIONS}.MobileNetV2", "weights: null, classes: 2, input_shape: [32, 32, 3]", "alpha", 0.35, (1e6, 101, -1e9, 1e300)),
    (f"{_APPLICATIONS}.MobileNetV2", "weights: null, alpha: 0.35, input_shape: [32, 32, 3]", "classes", 2, (20_000_000, 10**9, 2**63, 10**40)),
    (f"{_APPLICATIONS}.MobileNet", "weights: null, alpha: 0.25, classes: 2, input_shape: [32, 32, 3]", "depth_multiplier", 1, (1_000, 10**6, "1.0e+12")),
    (f"{_APPLICATIONS}.MobileNetV2", "weights: null, alpha: 0.35, classes: 2", "input_shape", [32, 32, 3],
     ([40_000, 40_000, 3], [2**40, 1, 1], [1] * 2_500, [-(10**5), -(10**5), 3], [[10**5] * 3] * 800)),
    (f"{_APPLICATIONS}.MobileNetV2", "weights: null, alpha: 0.35, classes: 2, input_shape: [32, 32, 3]", "include_top", "true", (10**9, "1.0e+99")),
    (f"{_APPLICATIONS}.MobileNetV2", "weights: null, alpha: 0.35, classes: 2, input_shape: [32, 32, 3]", "input_tensor", "null", ([10**9], [[10**10]])),
    ("transferpipe.zoo.small_mlp", "inputs: 4, classes: 2", "hidden", 3, (10**7, 10**8, 10**9, ".inf", ".nan")),
    ("transferpipe.zoo.small_mlp", "hidden: 3, classes: 2", "inputs", 4, (10**9, 2**31, -(10**12))),
    ("transferpipe.zoo.small_cnn", "classes: 2", "filters", [2, 3], ([10**7, 2], [1] * 2_001, [2, 10**9], [2**31, 2**31], "[1.0e+9, 2]")),
    ("transferpipe.zoo.small_cnn", "classes: 2, filters: [2, 3]", "channels", 3, (10**7, 10**12)),
    ("transferpipe.zoo.small_vit", "classes: 2", "depth", 1, (2_001, 10**6, 10**9, -(10**6), "1.0e+7")),
    ("transferpipe.zoo.small_vit", "classes: 2, depth: 1", "image", 8, (10**9, 10**18)),
    ("transferpipe.zoo.digits_cnn", "", "classes", 3, (10**9, 10**15, "0x7fffffff")),
    ("transferpipe.zoo.token_model", "", "tokens", 8, (10**9, 10**11)),
    ("transferpipe.zoo.mini_xception", "", "input_shape", [64, 64, 1], ([40_000, 40_000, 1], [10**9, 2, 1], [64, 64, 10**9])),
)  # fmt: skip
# Of KerasHub, which need not be installed for them to be refused.
_OF_HUB = (
    (f"{_HUB}.BertBackbone", "num_layers", (2_001, 10**5, 10**9)),
    (f"{_HUB}.BertBackbone", "hidden_dim", (2 * 10**6, 10**9)),
    (f"{_HUB}.BertBackbone", "intermediate_dim", (2 * 10**6, 10**10)),
    (f"{_HUB}.BertBackbone", "vocabulary_size", (10**9,)),
    (f"{_HUB}.BertBackbone", "max_sequence_length", (10**9,)),
    (f"{_HUB}.BertBackbone", "num_heads", (10**7,)),
    (f"{_HUB}.BertBackbone", "dropout", (".inf", ".nan")),
    (f"{_HUB}.MixtralBackbone", "num_experts", (10**4, 10**9)),
    (f"{_HUB}.ResNetBackbone", "stackwise_num_blocks", ([1_000, 1_000, 1], [10**9], [1] * 2_500)),
    (f"{_HUB}.ResNetBackbone", "stackwise_num_filters", ([10**7], [64] * 2_500)),
    (f"{_HUB}.StableDiffusion3Backbone", "mmdit_num_layers", (10**4,)),
    (f"{_HUB}.StableDiffusion3Backbone", "mmdit_hidden_dim", (10**7,)),
    (f"{_HUB}.MiTBackbone", "layerwise_depths", ([2_001], [500] * 5)),
    (f"{_HUB}.DenseNetBackbone", "stackwise_num_repeats", ([10**6],)),
    (f"{_HUB}.WhisperBackbone", "num_layers", (10**8,)),
    (f"{_HUB}.Backbone.from_preset", "num_layers", (10**6,)),
)
# Two numbers, each of a possible size, that no matrix has.
_TOGETHER = (
    (f"{_HUB}.BertBackbone", "vocabulary_size: 90000000, hidden_dim: 900000, num_layers: 1"),
    (f"{_HUB}.GPT2Backbone", "max_sequence_length: 100000000, hidden_dim: 100000, num_layers: 1"),
    ("transferpipe.zoo.small_mlp", "inputs: 99999999, hidden: 999999"),
    (f"{_HUB}.LlamaBackbone", "intermediate_dim: 1000000, hidden_dim: 1000000, vocabulary_size: 90000000"),
)
_PRESETS = {
    "layers": {"num_layers": 10**6},
    "width": {"hidden_dim": 10**8},
    "words": {"vocabulary_size": 10**12},
    "a list": {"stackwise_num_blocks": [10**6]},
    "an infinite number": {"dropout": float("inf")},
    "a number deep inside": {"image_encoder": {"config": {"num_layers": 10**7}}},
}


def hostile_builders() -> Iterator[Pair]:
    """Yield all of them."""
    for target, others, key, good, values in _ARGUMENTS:
        yield from (_pair(target, others, f"{key}: {value}", f"{key}: {good}") for value in values)
    for target, key, values in _OF_HUB:
        yield from (_pair(target, "", f"{key}: {value}") for value in values)
    yield from (_pair(target, "", arguments) for target, arguments in _TOGETHER)
    yield from _nested()
    for kind, config in _PRESETS.items():
        hostile = _recipe(f"target: {{_target_: {_HUB}.Backbone.from_preset, preset: ./preset}}{HERE}")
        yield Pair(
            recipe_case(f"preset with an absurd size: {kind}", hostile, files=(_preset(config),)),
            recipe_case("twin", _TWIN, (0,), needs_keras=True),
        )
    source = f"source: {{_target_: transferpipe.zoo.small_mlp, hidden: 100000000}}{HERE}"
    yield Pair(
        recipe_case("a source that is built", RecipeText().with_lines(source)),
        recipe_case("twin", _recipe("source: {_target_: transferpipe.zoo.small_mlp}"), (0,), needs_keras=True),
    )


def _recipe(line: str) -> str:
    return RecipeText().with_lines(f"{line}\nmapping: {{none: null}}\nunmatched: keep\nallow: [unused]")


_TWIN = _recipe("target: {_target_: transferpipe.zoo.small_mlp, hidden: 3}")


def _pair(target: str, others: str, hostile: str, good: str | None = None) -> Pair:
    """Return a call with a hostile argument, and the same call with a harmless one; without one, a small network."""

    def of(argument: str, mark: str) -> str:
        arguments = ", ".join(filter(None, (f"_target_: {target}", others, argument)))
        return _recipe(f"target: {{{arguments}}}{mark}")

    twin = _TWIN if good is None else of(good, "")
    return Pair(
        recipe_case(f"{target}({hostile[:60]})", of(hostile, HERE)),
        recipe_case(f"twin of {target}({hostile[:60]})", twin, (0,), needs_keras=True),
    )


def _nested() -> Iterator[Pair]:
    """One call for the argument of another, very often; side by side, and one inside of the next."""
    call = "{_target_: transferpipe.zoo.small_mlp}"
    wide = f"target: {{_target_: transferpipe.zoo.nested_classifier, classes: 2, backbone: [{', '.join([call] * 150)}]}}{HERE}"
    deep = call
    for _ in range(110):
        deep = f"{{_target_: transferpipe.zoo.nested_classifier, classes: 2, backbone: {deep}}}"
    twin = f"target: {{_target_: transferpipe.zoo.nested_classifier, classes: 2, backbone: {call}}}"
    for kind, line in (("side by side", wide), ("in a mapping", wide.replace("[", "{a: [").replace("]", "]}"))):
        yield Pair(
            recipe_case(f"calls, {kind}", _recipe(line)), recipe_case("twin", _recipe(twin), (0,), needs_keras=True)
        )
    yield Pair(
        recipe_case("calls, one inside of the next", _recipe(f"target: {deep}{HERE}"), (5, 2), where="recipes/k.yaml"),
        recipe_case("twin", _recipe(twin), (0,), needs_keras=True),
    )


def _preset(config: dict[str, object]) -> Callable[[Path], None]:
    """Return what writes the folder of a preset whose model has these settings."""
    data = {"module": "keras_hub.src.models.bert.bert_backbone", "class_name": "BertBackbone", "config": config}

    def write(folder: Path) -> None:
        (folder / "preset").mkdir()
        (folder / "preset" / "config.json").write_text(json.dumps(data))

    return write


__all__ = ["hostile_builders"]
