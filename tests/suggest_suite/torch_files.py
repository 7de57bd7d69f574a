"""State dictionaries as the networks of torchvision, timm and transformers have them: names and shapes, without torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Shapes = dict[str, tuple[int, ...]]


class State:
    """Collects names and shapes in the order of definition, as `state_dict()` would list them."""

    def __init__(self) -> None:
        self.shapes: Shapes = {}

    def conv(self, name: str, outputs: int, inputs: int, size: int, bias: bool = False) -> None:
        """Add a convolution; of depthwise ones `inputs` is 1."""
        self.shapes[f"{name}.weight"] = (outputs, inputs, size, size)
        if bias:
            self.shapes[f"{name}.bias"] = (outputs,)

    def linear(self, name: str, outputs: int, inputs: int, bias: bool = True) -> None:
        self.shapes[f"{name}.weight"] = (outputs, inputs)
        if bias:
            self.shapes[f"{name}.bias"] = (outputs,)

    def norm(self, name: str, channels: int) -> None:
        """Add a batch normalization."""
        for own in ("weight", "bias", "running_mean", "running_var"):
            self.shapes[f"{name}.{own}"] = (channels,)

    def layer_norm(self, name: str, channels: int) -> None:
        self.shapes |= {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}

    def recurrent(self, name: str, sizes: tuple[int, int, int], both: bool = False, layers: int = 1) -> None:
        """Add stacked recurrent layers; `sizes` are gates, units, inputs."""
        gates, units, inputs = sizes
        for k in range(layers):
            before = inputs if k == 0 else units * (1 + both)
            for end in ("", "_reverse") if both else ("",):
                self.shapes[f"{name}.weight_ih_l{k}{end}"] = (gates * units, before)
                self.shapes[f"{name}.weight_hh_l{k}{end}"] = (gates * units, units)
                self.shapes[f"{name}.bias_ih_l{k}{end}"] = (gates * units,)
                self.shapes[f"{name}.bias_hh_l{k}{end}"] = (gates * units,)


def resnet(depths: Sequence[int], bottleneck: bool, classes: int = 1000, width: int = 64) -> Shapes:
    """torchvision.models.resnet."""
    s = State()
    s.conv("conv1", width, 3, 7)
    s.norm("bn1", width)
    before = width
    for stage, count in enumerate(depths):
        inner = width << stage
        outer = inner * 4 if bottleneck else inner
        for block in range(count):
            name = f"layer{stage + 1}.{block}"
            sizes = [(inner, before, 1), (inner, inner, 3), (outer, inner, 1)]
            if not bottleneck:
                sizes = [(inner, before, 3), (inner, inner, 3)]
            for k, size in enumerate(sizes, 1):
                s.conv(f"{name}.conv{k}", *size)
                s.norm(f"{name}.bn{k}", size[0])
            if before != outer:
                s.conv(f"{name}.downsample.0", outer, before, 1)
                s.norm(f"{name}.downsample.1", outer)
            before = outer
    s.linear("fc", classes, before)
    return s.shapes


def vgg(plan: Iterable[int | str], norm: bool, dense: tuple[int, int, int]) -> Shapes:
    """torchvision.models.vgg: modules numbered through, activations and poolings among them."""
    s, at, before = State(), 0, 3
    for step in plan:
        if step == "M":
            at += 1
            continue
        s.conv(f"features.{at}", int(step), before, 3, bias=True)
        if norm:
            s.norm(f"features.{at + 1}", int(step))
        at, before = at + 2 + norm, int(step)
    places, hidden, classes = dense
    s.linear("classifier.0", hidden, before * places)
    s.linear("classifier.3", hidden, hidden)
    s.linear("classifier.6", classes, hidden)
    return s.shapes


def mobilenet_v2(classes: int = 1000) -> Shapes:
    """torchvision.models.mobilenet_v2."""
    s = State()

    def block(name: str, outputs: int, inputs: int, size: int) -> None:
        s.conv(f"{name}.0", outputs, inputs, size)
        s.norm(f"{name}.1", outputs)

    block("features.0", 32, 3, 3)
    before, at = 32, 1
    for expand, channels, count in (
        (1, 16, 1),
        (6, 24, 2),
        (6, 32, 3),
        (6, 64, 4),
        (6, 96, 3),
        (6, 160, 3),
        (6, 320, 1),
    ):
        for _ in range(count):
            name, hidden = f"features.{at}.conv", before * expand
            k = 0
            if expand != 1:
                block(f"{name}.{k}", hidden, before, 1)
                k += 1
            block(f"{name}.{k}", hidden, 1, 3)
            s.conv(f"{name}.{k + 1}", channels, hidden, 1)
            s.norm(f"{name}.{k + 2}", channels)
            before, at = channels, at + 1
    block("features.18", 1280, before, 1)
    s.linear("classifier.1", classes, 1280)
    return s.shapes


def densenet(depths: Sequence[int], growth: int = 32, classes: int = 1000) -> Shapes:
    """torchvision.models.densenet."""
    s, channels = State(), 64
    s.conv("features.conv0", channels, 3, 7)
    s.norm("features.norm0", channels)
    for b, count in enumerate(depths, 1):
        for k in range(1, count + 1):
            name = f"features.denseblock{b}.denselayer{k}"
            s.norm(f"{name}.norm1", channels)
            s.conv(f"{name}.conv1", 4 * growth, channels, 1)
            s.norm(f"{name}.norm2", 4 * growth)
            s.conv(f"{name}.conv2", growth, 4 * growth, 3)
            channels += growth
        if b < len(depths):
            s.norm(f"features.transition{b}.norm", channels)
            s.conv(f"features.transition{b}.conv", channels // 2, channels, 1)
            channels //= 2
    s.norm("features.norm5", channels)
    s.linear("classifier", classes, channels)
    return s.shapes


def timm_vit(width: int, depth: int, patches: int, patch: int, classes: int) -> Shapes:
    """timm.models.vision_transformer: query, key and value in one projection."""
    s = State()
    s.shapes |= {"cls_token": (1, 1, width), "pos_embed": (1, patches + 1, width)}
    s.conv("patch_embed.proj", width, 3, patch, bias=True)
    for k in range(depth):
        s.layer_norm(f"blocks.{k}.norm1", width)
        s.linear(f"blocks.{k}.attn.qkv", 3 * width, width)
        s.linear(f"blocks.{k}.attn.proj", width, width)
        s.layer_norm(f"blocks.{k}.norm2", width)
        s.linear(f"blocks.{k}.mlp.fc1", 4 * width, width)
        s.linear(f"blocks.{k}.mlp.fc2", width, 4 * width)
    s.layer_norm("norm", width)
    s.linear("head", classes, width)
    return s.shapes


def torchvision_vit(width: int, depth: int, patches: int, patch: int, classes: int) -> Shapes:
    """torchvision.models.vision_transformer: torch.nn.MultiheadAttention."""
    s = State()
    s.shapes["class_token"] = (1, 1, width)
    s.conv("conv_proj", width, 3, patch, bias=True)
    s.shapes["encoder.pos_embedding"] = (1, patches + 1, width)
    for k in range(depth):
        name = f"encoder.layers.encoder_layer_{k}"
        s.layer_norm(f"{name}.ln_1", width)
        s.shapes |= {f"{name}.self_attention.in_proj_weight": (3 * width, width)}
        s.shapes |= {f"{name}.self_attention.in_proj_bias": (3 * width,)}
        s.linear(f"{name}.self_attention.out_proj", width, width)
        s.layer_norm(f"{name}.ln_2", width)
        s.linear(f"{name}.mlp.0", 4 * width, width)
        s.linear(f"{name}.mlp.3", width, 4 * width)
    s.layer_norm("encoder.ln", width)
    s.linear("heads.head", classes, width)
    return s.shapes


def bert(width: int, depth: int, words: int, places: int, hidden: int, pooler: bool = True) -> Shapes:
    """transformers.BertForMaskedLM, with the pooler of BertModel."""
    s = State()
    base = "bert.embeddings"
    for name, count in (("word", words), ("position", places), ("token_type", 2)):
        s.shapes[f"{base}.{name}_embeddings.weight"] = (count, width)
    s.layer_norm(f"{base}.LayerNorm", width)
    for k in range(depth):
        name = f"bert.encoder.layer.{k}"
        for part in ("query", "key", "value"):
            s.linear(f"{name}.attention.self.{part}", width, width)
        s.linear(f"{name}.attention.output.dense", width, width)
        s.layer_norm(f"{name}.attention.output.LayerNorm", width)
        s.linear(f"{name}.intermediate.dense", hidden, width)
        s.linear(f"{name}.output.dense", width, hidden)
        s.layer_norm(f"{name}.output.LayerNorm", width)
    if pooler:
        s.linear("bert.pooler.dense", width, width)
    s.linear("cls.predictions.transform.dense", width, width)
    s.layer_norm("cls.predictions.transform.LayerNorm", width)
    s.shapes["cls.predictions.bias"] = (words,)
    return s.shapes


def gpt2(width: int, depth: int, words: int, places: int) -> Shapes:
    """transformers.GPT2Model with projections that are kept apart, as in OPT and others."""
    s = State()
    s.shapes |= {"wte.weight": (words, width), "wpe.weight": (places, width)}
    for k in range(depth):
        name = f"h.{k}"
        s.layer_norm(f"{name}.ln_1", width)
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            s.linear(f"{name}.attn.{part}", width, width)
        s.layer_norm(f"{name}.ln_2", width)
        s.linear(f"{name}.mlp.c_fc", 4 * width, width)
        s.linear(f"{name}.mlp.c_proj", width, 4 * width)
    s.layer_norm("ln_f", width)
    return s.shapes


def tagger(words: int, width: int, units: int, tags: int) -> Shapes:
    """An embedding, two bidirectional LSTM layers, a projection: the BiLSTM of sequence taggers."""
    s = State()
    s.shapes["embedding.weight"] = (words, width)
    s.recurrent("lstm", (4, units, width), both=True, layers=2)
    s.linear("hidden2tag", tags, 2 * units)
    return s.shapes


def mixed_rnn() -> Shapes:
    """Two bidirectional LSTM layers, two GRU layers, a head."""
    s = State()
    s.recurrent("lstm", (4, 16, 12), both=True, layers=2)
    s.recurrent("gru", (3, 20, 32), layers=2)
    s.linear("head", 3, 20)
    return s.shapes


def unet(width: int = 8, classes: int = 2) -> Shapes:
    """The U-Net of many repositories: inc, down1.., up1.., each a double convolution."""
    s = State()

    def double(name: str, outputs: int, inputs: int) -> None:
        for k, before in ((0, inputs), (3, outputs)):
            s.conv(f"{name}.double_conv.{k}", outputs, before, 3)
            s.norm(f"{name}.double_conv.{k + 1}", outputs)

    double("inc", width, 3)
    for k in range(1, 4):
        double(f"down{k}.maxpool_conv.1", width << k, width << (k - 1))
    for k in range(1, 4):
        outputs = width << (3 - k)
        s.shapes[f"up{k}.up.weight"] = (2 * outputs, outputs, 2, 2)
        s.shapes[f"up{k}.up.bias"] = (outputs,)
        double(f"up{k}.conv", outputs, 2 * outputs)
    s.conv("outc.conv", classes, width, 1, bias=True)
    return s.shapes


def alexnet(classes: int = 10) -> Shapes:
    """torchvision.models.alexnet for maps of 2 by 2."""
    s = State()
    for at, (outputs, inputs, size) in {
        0: (16, 3, 5),
        3: (24, 16, 3),
        6: (32, 24, 3),
        8: (32, 32, 3),
        10: (32, 32, 3),
    }.items():
        s.conv(f"features.{at}", outputs, inputs, size, bias=True)
    for at, (outputs, inputs) in {1: (48, 128), 4: (48, 48), 6: (classes, 48)}.items():
        s.linear(f"classifier.{at}", outputs, inputs)
    return s.shapes


def perceptron(sizes: Sequence[int]) -> Shapes:
    """A torch.nn.Sequential of Linear and ReLU."""
    s = State()
    for k, (inputs, outputs) in enumerate(zip(sizes, sizes[1:], strict=False)):
        s.linear(f"{2 * k}", outputs, inputs)
    return s.shapes
