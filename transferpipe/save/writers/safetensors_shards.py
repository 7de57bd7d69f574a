"""Writes safetensors files of a limited size, and the index that says which of them holds which tensor.

Layout, as the tools of the Hugging Face Hub write and read it:
https://huggingface.co/docs/huggingface_hub/package_reference/serialization
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from transferpipe.files.publishing.atomic import write_text
from transferpipe.files.runs import in_runs
from transferpipe.recipe.outputs import output_of
from transferpipe.save.writers.content import Content
from transferpipe.save.writers.safetensors import write_safetensors
from transferpipe.weights.spec import Catalog

INDEX = ".index.json"
Create = Callable[[Path], AbstractContextManager[int]]


def split_catalog(catalog: Catalog, limit: int) -> list[Catalog]:
    """Cut a catalog, in its order, into parts whose values take at most `limit` bytes; a larger value has its own.

    >>> from transferpipe.weights.spec import WeightSpec
    >>> names = {w: WeightSpec(w, (size,), "uint8") for w, size in (("a", 3), ("b", 4), ("c", 9), ("d", 1))}
    >>> [[w.name for w in part] for part in split_catalog(Catalog(tuple(names.values())), 7)]
    [['a', 'b'], ['c'], ['d']]
    """
    return [Catalog(tuple(part), catalog.label) for part in in_runs(catalog, lambda weight: weight.nbytes, limit)]


def write_shards(folder: Path, name: str, content: Content, limit: int, create: Create) -> None:
    """Write the shards of the output `name` and their index into the new `folder`.

    Args:
        folder: where to; it is made.
        name: what the output would be called as one file: ``model.safetensors``.
        content: the weights.
        limit: how many bytes of values a shard may hold.
        create: opens a new file to write.

    Raises:
        FileError: the format knows no such dtype, or a file cannot be written.
    """
    folder.mkdir()
    parts = split_catalog(content.catalog, limit)
    suffix = output_of(name).suffix
    stem = name.removesuffix(suffix)
    places: dict[str, str] = {}
    for number, part in enumerate(parts, 1):
        # The names that transformers and huggingface_hub give shards, counted from one.
        shard = f"{stem}-{number:05}-of-{len(parts):05}{suffix}"
        with create(folder / shard) as descriptor:
            write_safetensors(descriptor, replace(content, catalog=part))
        places |= dict.fromkeys((w.name for w in part), shard)
    metadata = {"total_size": content.catalog.nbytes, "format": content.format}
    # Sorted, as huggingface_hub's own tools write it, and last: an index without its shards would be worse than none.
    index = {"metadata": metadata, "weight_map": dict(sorted(places.items()))}
    write_text(folder / f"{name}{INDEX}", json.dumps(index, indent=2) + "\n")
