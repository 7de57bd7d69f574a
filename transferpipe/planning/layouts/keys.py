"""What a file of named tensors calls each: the layout's name, renamed by `save.names`, joined by its separator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from transferpipe.errors import Problems
from transferpipe.recipe.model import Renaming
from transferpipe.text.listing import listed
from transferpipe.weights.name import ancestors

# Who sees three names of a kind knows which are meant.
_SOME = 3
NAMES = "save.names"


def keys_of(names: Iterable[str], renamings: Sequence[Renaming], separator: str, problems: Problems) -> dict[str, str]:
    """Return what each of the tensors `names`, written with slashes, is called in the file.

    A pattern means a tensor, or everything that lies in what it names; of what it matches on the way to one tensor, the
    whole name counts first, then the innermost layer. As in a mapping, no tensor may belong to two patterns, no pattern
    may match nothing, and no two tensors may get one name.
    """
    names = list(names)
    found: dict[str, str] = {}
    used: set[str] = set()
    twice: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        renamed = {r.pattern.text: new for r in renamings if (new := _rename(name, r, problems)) is not None}
        used |= renamed.keys()
        if len(renamed) > 1:
            twice.setdefault(tuple(renamed), []).append(name)
        found[name] = next(iter(renamed.values()), name).replace("/", separator)
    for patterns, both in twice.items():
        what = (
            f"{listed(both, _SOME)} {'are' if len(both) > 1 else 'is'} renamed by {' and '.join(map(repr, patterns))}"
        )
        problems.add(NAMES, what, "let one pattern match each")
    for renaming in renamings:
        if renaming.pattern.text not in used:
            what = f"{renaming.pattern.text!r} matches none of the names, such as {listed(names, _SOME)}"
            problems.add(NAMES, what, "correct the pattern, or take the line out")
    _check_one_to_one(found, bool(renamings), problems)
    return found


def find_key(name: str, renamings: Sequence[Renaming], separator: str) -> str:
    """Return what the tensor `name` would be called; what is wrong with the patterns, `keys_of` notes."""
    renamed = (_rename(name, renaming, Problems()) for renaming in renamings)
    return next((new for new in renamed if new is not None), name).replace("/", separator)


def _rename(name: str, renaming: Renaming, problems: Problems) -> str | None:
    for part in (name, *ancestors(name)):
        match = renaming.pattern.match(part) if part else None
        if match is None:
            continue
        try:
            new = renaming.template.fill(match) + name[len(part) :]
        except ValueError as error:
            problems.add(f"{NAMES}.{renaming.pattern.text}", f"{name}: {error}", "capture digits alone, as (?P<i>\\d+)")
            return name
        if "" in new.split("/"):
            what = f"{name} would be called {new!r}, which has an empty part"
            problems.add(f"{NAMES}.{renaming.pattern.text}", what, "write a template that always gives a name")
        return new
    return None


def _check_one_to_one(keys: dict[str, str], is_renamed: bool, problems: Problems) -> None:
    by_key: dict[str, list[str]] = {}
    for name, key in keys.items():
        by_key.setdefault(key, []).append(name)
    for key, names in by_key.items():
        if len(names) > 1:
            fix = (
                "write templates that keep them apart" if is_renamed else "rename one of the layers, or use save.names"
            )
            problems.add(
                NAMES if is_renamed else "save.layout", f"{' and '.join(names)} would all be called {key}", fix
            )
