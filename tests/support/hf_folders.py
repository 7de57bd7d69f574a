"""Folders as Hugging Face has them, tiny and with random values: config.json and model.safetensors, written by hand."""

import json
import struct

import numpy as np

D, LAYERS, WORDS, PLACES, INNER = 8, 2, 11, 6, 16


class _Tensors(dict):
    """Tensors by their keys, drawn one after the other."""

    def __init__(self):
        super().__init__()
        self._random = np.random.default_rng(0)

    def add(self, key, *shape):
        self[key] = np.abs(self._random.standard_normal(shape)).astype("float32")

    def linear(self, key, outputs, inputs, bias=True):
        self.add(f"{key}.weight", outputs, inputs)
        if bias:
            self.add(f"{key}.bias", outputs)

    def norm(self, key, size, names=("weight", "bias")):
        for name in names:
            self.add(f"{key}.{name}", size)


def write_safetensors(path, tensors, metadata=None):
    """Write the file as https://huggingface.co/docs/safetensors describes it."""
    header, at = {"__metadata__": metadata} if metadata else {}, 0
    for key, value in tensors.items():
        kind = {"float32": "F32", "int64": "I64"}[value.dtype.name]
        header[key] = {"dtype": kind, "shape": value.shape, "data_offsets": [at, at + value.nbytes]}
        at += value.nbytes
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(value.tobytes() for value in tensors.values()))


def _write(folder, config, tensors, metadata):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors", tensors, metadata)
    return folder


PT = {"format": "pt"}


def write_bert(folder, prefix="bert.", norm=("gamma", "beta"), metadata=PT):
    """Write a BERT; the first ones have the prefix and TensorFlow's names, later ones neither."""
    t = _Tensors()
    for name, size in (("word", WORDS), ("position", PLACES), ("token_type", 2)):
        t.add(f"{prefix}embeddings.{name}_embeddings.weight", size, D)
    t.norm(f"{prefix}embeddings.LayerNorm", D, norm)
    for i in range(LAYERS):
        layer = f"{prefix}encoder.layer.{i}"
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            t.linear(f"{layer}.attention.{name}", D, D)
        t.norm(f"{layer}.attention.output.LayerNorm", D, norm)
        t.linear(f"{layer}.intermediate.dense", INNER, D)
        t.linear(f"{layer}.output.dense", D, INNER)
        t.norm(f"{layer}.output.LayerNorm", D, norm)
    t.linear(f"{prefix}pooler.dense", D, D)
    config = {
        "model_type": "bert", "vocab_size": WORDS, "num_hidden_layers": LAYERS, "num_attention_heads": 2,
        "hidden_size": D, "intermediate_size": INNER, "max_position_embeddings": PLACES, "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
    }  # fmt: skip
    return _write(folder, config, t, metadata)


def write_gpt2(folder, prefix=""):
    """Write a GPT-2, whose matrices are (in, out)."""
    t = _Tensors()
    t.add(f"{prefix}wte.weight", WORDS, D)
    t.add(f"{prefix}wpe.weight", PLACES, D)
    for i in range(LAYERS):
        layer = f"{prefix}h.{i}"
        t.norm(f"{layer}.ln_1", D)
        t.norm(f"{layer}.ln_2", D)
        for name, inputs, outputs in (
            ("attn.c_attn", D, 3 * D),
            ("attn.c_proj", D, D),
            ("mlp.c_fc", D, 4 * D),
            ("mlp.c_proj", 4 * D, D),
        ):
            t.add(f"{layer}.{name}.weight", inputs, outputs)
            t.add(f"{layer}.{name}.bias", outputs)
        t.add(f"{layer}.attn.bias", 1, 1, PLACES, PLACES)  # the causal mask
    t.norm(f"{prefix}ln_f", D)
    config = {
        "model_type": "gpt2", "vocab_size": WORDS, "n_layer": LAYERS, "n_head": 2, "n_embd": D, "n_positions": PLACES,
        "resid_pdrop": 0.1, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new",
    }  # fmt: skip
    return _write(folder, config, t, PT)


def write_llama(folder, tied=False, prefix="model."):
    """Write a Llama 3 with four heads of queries, two of keys; as a LlamaModel it has no prefix, and no head."""
    t = _Tensors()
    t.add(f"{prefix}embed_tokens.weight", WORDS, D)
    for i in range(LAYERS):
        layer = f"{prefix}layers.{i}"
        for name, outputs in (("q", D), ("k", D // 2), ("v", D // 2), ("o", D)):
            t.linear(f"{layer}.self_attn.{name}_proj", outputs, D, bias=False)
        t.linear(f"{layer}.mlp.gate_proj", INNER, D, bias=False)
        t.linear(f"{layer}.mlp.up_proj", INNER, D, bias=False)
        t.linear(f"{layer}.mlp.down_proj", D, INNER, bias=False)
        t.add(f"{layer}.input_layernorm.weight", D)
        t.add(f"{layer}.post_attention_layernorm.weight", D)
    t.add(f"{prefix}norm.weight", D)
    if not tied:
        t.add("lm_head.weight", WORDS, D)
    config = {
        "model_type": "llama", "vocab_size": WORDS, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
        "num_key_value_heads": 2, "hidden_size": D, "intermediate_size": INNER, "tie_word_embeddings": tied,
        "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "hidden_act": "silu",
    }  # fmt: skip
    return _write(folder, config, t, PT)


def write_vit(folder):
    """Write a ViT for images of 8x8 in patches of 4x4."""
    t = _Tensors()
    t.add("vit.embeddings.cls_token", 1, 1, D)
    t.add("vit.embeddings.position_embeddings", 1, 5, D)
    t.add("vit.embeddings.patch_embeddings.projection.weight", D, 3, 4, 4)
    t.add("vit.embeddings.patch_embeddings.projection.bias", D)
    for i in range(LAYERS):
        layer = f"vit.encoder.layer.{i}"
        for name in ("attention.query", "attention.key", "attention.value", "output.dense"):
            t.linear(f"{layer}.attention.{name}", D, D)
        t.norm(f"{layer}.layernorm_before", D)
        t.norm(f"{layer}.layernorm_after", D)
        t.linear(f"{layer}.intermediate.dense", INNER, D)
        t.linear(f"{layer}.output.dense", D, INNER)
    t.norm("vit.layernorm", D)
    t.linear("classifier", 3, D)
    config = {
        "model_type": "vit", "image_size": 8, "patch_size": 4, "num_hidden_layers": LAYERS, "num_attention_heads": 2,
        "hidden_size": D, "intermediate_size": INNER, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        "qkv_bias": True, "layer_norm_eps": 1e-12, "hidden_act": "gelu",
    }  # fmt: skip
    return _write(folder, config, t, PT)


def write_resnet(folder):
    """Write a ResNet-18 as timm has it."""
    t = _Tensors()

    def norm(key, size):
        t.norm(key, size, ("weight", "bias", "running_mean", "running_var"))
        t[f"{key}.num_batches_tracked"] = np.array(7)

    t.add("conv1.weight", 64, 3, 7, 7)
    norm("bn1", 64)
    inputs = 64
    for stage, outputs in enumerate((64, 128, 256, 512), 1):
        for block in range(2):
            layer = f"layer{stage}.{block}"
            for n, size in ((1, inputs), (2, outputs)):
                t.add(f"{layer}.conv{n}.weight", outputs, size, 3, 3)
                norm(f"{layer}.bn{n}", outputs)
            if inputs != outputs:
                t.add(f"{layer}.downsample.0.weight", outputs, inputs, 1, 1)
                norm(f"{layer}.downsample.1", outputs)
            inputs = outputs
    t.linear("fc", 10, 512)
    return _write(folder, {"architecture": "resnet18", "num_classes": 10}, t, PT)
