"""What Keras loads of a file whose classes are the user's own and not at hand, and where that may be something else."""

from __future__ import annotations

from collections.abc import Collection

from transferpipe.models.file_classes import classes_of, find_hooked
from transferpipe.models.target import FileTarget
from transferpipe.values.compare import digest, same_bits
from transferpipe.values.compute import Values


def find_doubt(target: FileTarget, values: Values, trusted: Collection[str]) -> str:
    """Return why Keras need not have what a file holds, where no class tells; empty where nothing speaks for it.

    Args:
        target: the file.
        values: what the result holds.
        trusted: packages that the command line vouched for.
    """
    unknown = classes_of(target, trusted).unknown
    if not unknown:
        return ""
    hooked, own = find_hooked(unknown), unknown[0]
    if hooked:
        own = hooked[0]
        what = f"{own.module}.{own.name} has load hooks of its own"
    elif pair := _find_parted(target, values):
        what = f"{' and '.join(pair)} had the same values and differ now, and may be one variable of {own.name}"
    else:
        return ""
    return f"{what}; its module is not imported without --trust {own.package} (in Python, import it first)"


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
