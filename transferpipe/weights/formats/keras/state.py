"""Telling in a Keras weights file what is state of training: optimizers and metrics, kept beside the layers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from transferpipe.weights.keras.layer_classes import Shape, snake_case, stem
from transferpipe.weights.keras.naming import MODEL_LAYERS

OPTIMIZERS = """
    Adadelta Adafactor Adagrad Adam AdamW Adamax Ftrl Lamb Lion LossScaleOptimizer MultiOptimizer Muon Nadam Optimizer
    RMSprop SGD ScheduleFreeAdamW
""".split()  # noqa: SIM905 -- easier to compare with Keras's own list

_OPTIMIZERS = frozenset(snake_case(name) for name in OPTIMIZERS)


@dataclass(frozen=True)
class KeptObject:
    """What a file keeps of one object: its name where it is noted, and of its values the shapes and dtypes."""

    name: str | None
    shapes: tuple[Shape, ...]
    dtypes: tuple[str, ...]


def training_state(kept: Mapping[str, KeptObject], layers: Collection[str]) -> set[str]:
    """Return the paths of those objects that are optimizers or metrics.

    Args:
        kept: what the file keeps, by path.
        layers: the paths of objects that are layers for certain.
    """
    parents = {p.rpartition("/")[0] for p in kept}
    found: set[str] = set()
    # Holders first: whatever an optimizer holds is its state too.
    for path in sorted(kept, key=lambda p: p.count("/")):
        parent = path.rpartition("/")[0]
        # What a model lists is a layer, whatever it is called.
        if path in layers or not path or parent.rpartition("/")[2] in MODEL_LAYERS:
            continue
        inside = any(path.startswith(f"{p}/") for p in found)
        if inside or _is_optimizer(path, kept[path]) or (path not in parents and _is_metric(path, kept)):
            found.add(path)
    return found


def _is_optimizer(path: str, kept: KeptObject) -> bool:
    """Tell whether these are the values of an optimizer: the first counts its steps."""
    if path == "optimizer":
        return True
    # A step counter is a whole number without axes.
    if not kept.shapes or kept.shapes[0] or not kept.dtypes[0].startswith(("int", "uint")):
        return False
    segment = path.rpartition("/")[2]
    called = {segment, stem(segment), kept.name, stem(kept.name or "")}
    with_rate = kept.shapes[1:2] == ((),) and kept.dtypes[1].startswith(("float", "bfloat"))
    # A whole number in front may be a counter of a layer's own; behind that of an optimizer stands its rate.
    return bool(called & _OPTIMIZERS) or segment.endswith("optimizer") or with_rate


def _is_metric(path: str, kept: Mapping[str, KeptObject]) -> bool:
    """Tell whether this is the state of a metric.

    Keras 3 does not save any. Keras 2.12 to 2.15 did, and noted no names: there all that `metrics` lists is, and so is
    what an attribute holds if it keeps two scalars, a total and a count.
    """
    parent = path.rpartition("/")[0]
    listed = parent.rpartition("/")[2] == "metrics" and parent not in kept
    # Keras's `Mean`, which a model keeps for its loss, holds a total and a count.
    return kept[path].name is None and (listed or kept[path].shapes == ((), ()))
