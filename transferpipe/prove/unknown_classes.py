"""What Keras loads of a file whose classes are the user's own and not at hand, and where that may be something else."""

from __future__ import annotations

import itertools
from collections.abc import Collection

from transferpipe.models.file_classes import classes_of, find_hooked
from transferpipe.models.target import FileTarget
from transferpipe.values.compare import same_bits
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
    alike: dict[tuple[object, ...], list[str]] = {}
    for weight in catalog:
        alike.setdefault((weight.shape, weight.dtype), []).append(weight.name)
    for one, other in (pair for names in alike.values() for pair in itertools.combinations(names, 2)):
        if not (catalog[one].own_name.isdigit() or catalog[other].own_name.isdigit()):
            continue
        value = target.read(one)
        if value.size < 2 or (value == value.flat[0]).all() or not same_bits(value, target.read(other)):
            continue
        if not same_bits(values.value(one), values.value(other)):
            return one, other
    return None
