"""``adapter_config.json`` beside the factors that peft saves: what they are multiplied by.

Names of the keys: ``src/peft/tuners/lora/config.py`` at https://github.com/huggingface/peft. `rank_pattern` is not
needed, for the factors' shapes tell the rank; a key of `alpha_pattern` is the end of a module's name here, and where it
is an expression no module's alpha is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from transferpipe.errors import TransferError
from transferpipe.files.json_text import read_mapping
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.network import Network, Node
from transferpipe.weights.spec import Catalog

FORMATS = ("safetensors", "torch")
# With the names of all modules of a large model some ten kilobytes.
_NAME, _MOST = "adapter_config.json", 1 << 20
_FACTOR = "/lora_"
_LITERAL = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")


def with_adapter_config(source: FileSource) -> FileSource:
    """Return `source` with what peft's configuration beside the file tells; as it is if there is none."""
    folder = source.path if source.path.is_dir() else source.path.parent
    if source.format not in FORMATS or source.catalog.network is not None or not (folder / _NAME).is_file():
        return source
    config = _read(folder / _NAME)
    nodes = tuple(_nodes(source.catalog, config)) if config else ()
    if not nodes:
        return source
    catalog = replace(source.catalog, network=Network(nodes, framework="torch"))
    return replace(source, catalog=catalog, details={**source.details, "configuration": _NAME})


def _read(path: Path) -> Mapping[str, Any] | None:
    """Return the configuration of LoRA's factors; None if the file is something else."""
    try:
        config = read_mapping(path, _MOST) if path.stat().st_size <= _MOST else {}
    except (TransferError, OSError):
        return None
    return config if config.get("peft_type") == "LORA" else None


def _nodes(catalog: Catalog, config: Mapping[str, Any]) -> Iterator[Node]:
    alpha, patterns = config.get("lora_alpha"), config.get("alpha_pattern") or {}
    shared = {
        "rank_stabilized": config.get("use_rslora") is True,
        "fan_in_fan_out": config.get("fan_in_fan_out") is True,
    }
    # peft matches the keys as regular expressions, which are not run here: they come from a file.
    is_plain = isinstance(patterns, Mapping) and all(_LITERAL.issuperset(key) for key in patterns)
    if type(alpha) not in (int, float) or not is_plain:
        return
    modules = dict.fromkeys(w.name[: w.name.index(_FACTOR)] for w in catalog if _FACTOR in w.name)
    for module in modules:
        dotted = module.replace("/", ".")
        own = next((v for k, v in patterns.items() if f".{dotted}".endswith(f".{k}")), alpha)
        if type(own) in (int, float):
            yield Node(module, "LoRA", {"alpha": own, **shared})
