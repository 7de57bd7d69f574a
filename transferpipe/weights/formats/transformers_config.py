"""``config.json`` beside the weights of a model of Hugging Face's transformers: what it says of the modules.

Names of the keys: ``configuration_*.py`` of each model at https://github.com/huggingface/transformers. They hold for
all modules of a kind, so the weights tell the kind: a normalization has one axis, an attention three projections.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from transferpipe.errors import TransferError
from transferpipe.files.json_text import read_mapping
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.network import FUSED_BY_HEAD, Network, Node
from transferpipe.weights.spec import Catalog

FORMATS = ("safetensors", "safetensors_index", "torch", "torch_index")
# Configurations have some kilobytes; with the labels of a large classifier some hundred.
_NAME, _MOST = "config.json", 1 << 20
_LAYER_NORM = ("layer_norm_eps", "layer_norm_epsilon", "layernorm_epsilon", "norm_epsilon", "norm_eps")
_RMS_NORM = ("rms_norm_eps",)
_BATCH_NORM = ("batch_norm_eps", "batch_norm_epsilon")
_HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads", "encoder_attention_heads")
_KEY_HEADS = ("num_key_value_heads",)
_TIED = "tie_word_embeddings"  # whether the table of tokens is also the head, which then need not be in the file
_ACTIVATION = ("hidden_act", "activation_function", "hidden_activation", "activation")
_INNER = (
    "intermediate/dense",
    "fc1",
    "lin1",
    "c_fc",
    "fc_in",
    "dense_h_to_4h",
    "gate_proj",
    "wi",
    "wi_0",
    "ffn",
    "intermediate_dense",
)
_QUERIES = ("q_proj", "query", "q_lin", "q")
_FUSED = ("c_attn", "qkv", "query_key_value")
# Models whose `c_attn` has the query, key and value of each head together, and not all queries first as GPT-2's.
_BY_HEAD = ("gpt_bigcode",)
# That of torch.nn.MultiheadAttention, which is a weight and no module, as in the first CLIP.
_IN_PROJ = "in_proj_weight"
_KEYS = ("k_proj", "key", "k_lin", "k")


def with_config(source: FileSource) -> FileSource:
    """Return `source` with what a configuration of transformers beside the file tells; as it is if there is none."""
    folder = source.path if source.path.is_dir() else source.path.parent
    if source.format not in FORMATS or source.catalog.network is not None or not (folder / _NAME).is_file():
        return source
    config = _read(folder / _NAME)
    if config is None:
        return source
    nodes = tuple(_nodes(source.catalog, config))
    catalog = replace(source.catalog, network=Network(nodes, framework="torch"))
    details = {**source.details, "configuration": ", ".join([_NAME, *_facts(config)])}
    return replace(source, catalog=catalog, details=details)


def _facts(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield what weights do not carry and a builder of the target needs, each as the file calls it."""
    for keys, kind in (
        (_LAYER_NORM, float),
        (_RMS_NORM, float),
        (_BATCH_NORM, float),
        (_HEADS, int),
        (_KEY_HEADS, int),
    ):
        yield from next(([f"{key}={config[key]}"] for key in keys if type(config.get(key)) is kind), [])
    if isinstance(config.get(_TIED), bool):
        yield f"{_TIED}={str(config[_TIED]).lower()}"


def _read(path: Path) -> Mapping[str, Any] | None:
    """Return a configuration of transformers; None if the file is something else."""
    try:
        config = read_mapping(path, _MOST) if path.stat().st_size <= _MOST else {}
    except (TransferError, OSError):
        return None
    if not isinstance(config.get("model_type"), str) or "class_name" in config:
        return None
    inner = config.get("text_config")  # of a model of text and images: two configurations, which may differ
    return None if isinstance(inner, Mapping) else config


def _nodes(catalog: Catalog, config: Mapping[str, Any]) -> Iterator[Node]:
    heads, activation = _find_setting(config, _HEADS, int), _find_setting(config, _ACTIVATION, str)
    for layer in catalog.layers:
        own = {w.own_name: w for w in (catalog[n] for n in catalog.layers[layer]) if w.layer == layer}
        weight = own.get("weight") or own.get("gamma")
        if weight is not None and len(weight.shape) == 1:
            yield from _norm(layer, own, config)
        elif heads and (_attends(catalog, layer) or _IN_PROJ in own):
            by_head = {FUSED_BY_HEAD: True} if config["model_type"] in _BY_HEAD else {}
            yield Node(layer, "MultiHeadAttention", {"num_heads": heads, **by_head})
        elif activation and weight is not None and any(f"/{layer}".endswith(f"/{name}") for name in _INNER):
            yield Node(layer, "Dense", {"activation": activation})


def _norm(layer: str, own: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[Node]:
    keys: tuple[str, ...]
    if "running_mean" in own:
        kind, keys = "BatchNormalization", _BATCH_NORM
    elif "bias" in own or "beta" in own:
        kind, keys = "LayerNormalization", _LAYER_NORM
    else:
        kind, keys = "RMSNormalization", _RMS_NORM
    epsilon = _find_setting(config, keys, float)
    if epsilon is not None:
        yield Node(layer, kind, {"epsilon": epsilon})


def _attends(catalog: Catalog, layer: str) -> bool:
    apart = _has(catalog, layer, _QUERIES) and _has(catalog, layer, _KEYS)
    return apart or _has(catalog, layer, _FUSED)


def _has(catalog: Catalog, layer: str, names: Iterable[str]) -> bool:
    return any(f"{layer}/{name}" in catalog.layers for name in names)


def _find_setting(config: Mapping[str, Any], keys: Iterable[str], kind: type) -> Any:
    """Return the first of the settings that is there and of the kind."""
    return next((config[key] for key in keys if type(config.get(key)) is kind), None)
