"""What Keras loads of a file whose classes are the user's own and not at hand, and where that may be something else."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from transferpipe.models.file_classes import OwnClass, classes_of, doubt_classes
from transferpipe.models.source import ModelSource
from transferpipe.models.target import FileTarget, Target
from transferpipe.prove.outcome import Line
from transferpipe.text.listing import listed
from transferpipe.values.compare import digest, same_bits
from transferpipe.values.compute import Values
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.spec import Source


def find_doubt(target: FileTarget, values: Values, trusted: Collection[str], like: Source | None = None) -> str:
    """Return why Keras need not have what a file holds, where no class tells; empty where nothing speaks for it.

    Args:
        target: the file.
        values: what the result holds.
        trusted: packages that the command line vouched for.
        like: a source with the classes of a file of weights alone.
    """
    if isinstance(like, ModelSource):
        return ""
    holder = like if isinstance(like, FileSource) else target.source
    if holder.config is None:
        pair = _find_parted(target, values)
        fix = "name a function that builds the model as the target, or give both one value"
        return f"{_describe_parted(pair)}, which a file of weights alone does not tell: {fix}" if pair else ""
    unknown = classes_of(FileTarget(holder), trusted).unknown
    if not unknown:
        return ""
    own, what = next(doubt_classes(unknown), (unknown[0], ""))
    if not what:
        pair = _find_parted(target, values)
        if pair is None:
            return ""
        return f"{_describe_parted(pair)} of {own.name}; {_advise_trust(own)}"
    return f"{'.'.join(filter(None, (own.module, own.name)))} {what}; {_advise_trust(own)}"


def open_lines(target: Target, like: Source | None) -> Iterator[Line]:
    """Yield of which layers of a file of weights alone nobody can tell whether Keras has what it holds."""
    if like is None and isinstance(target, FileTarget) and target.groups and target.source.config is None:
        names = {w.layer for w in target.source.catalog if w.layer_class is None and w.own_name.isdigit()}
        if names:
            which = listed([name or "the model itself" for name in sorted(names)])
            yield "open", f"what Keras loads of {which}: the file does not tell of what class it is"


def _describe_parted(pair: tuple[str, str]) -> str:
    return f"{' and '.join(pair)} had the same values and differ now, and may be one variable"


def _advise_trust(own: OwnClass) -> str:
    if not own.module:
        return "transfer in Python, inside of keras.saving.custom_object_scope with it"
    return f"its module is not imported without --trust {own.package} (in Python, import it first)"


def _find_parted(target: FileTarget, values: Values) -> tuple[str, str] | None:
    """Return two weights, one of which the file only numbers, that were equal and are no longer; None without such.

    A variable that two layers hold is saved in both places, and Keras loads the later one.
    """
    catalog = target.source.catalog
    numbered = {weight.name for weight in catalog if weight.own_name.isdigit()}
    kinds = {(catalog[name].shape, catalog[name].dtype) for name in numbered}
    # Each is read once, however many a file has of one shape.
    alike: dict[tuple[object, ...], list[str]] = {}
    for weight in catalog:
        if (kind := (weight.shape, weight.dtype)) not in kinds:
            continue
        value = target.read(weight.name)
        if value.size > 1 and not (value == value.flat[0]).all():
            alike.setdefault((*kind, digest(value)), []).append(weight.name)
    for names in alike.values():
        one = next((name for name in names if name in numbered), "")
        for other in names if one else ():
            if other != one and not same_bits(values.value(one), values.value(other)):
                first, second = sorted((one, other), key=names.index)
                return first, second
    return None
