"""Taking names, axes and dtypes of what is written from a reference file: `save.like`."""

from __future__ import annotations

from collections.abc import Hashable, Set
from dataclasses import dataclass, replace

from transferpipe.errors import Problem, RecipeError
from transferpipe.execute.open_recipe import layout_of, open_file
from transferpipe.models.opened import Opened
from transferpipe.models.target import FileTarget, ModelTarget, Target
from transferpipe.planning.layouts import layout_called
from transferpipe.planning.layouts.export import plan_export
from transferpipe.planning.layouts.like import LIKE, Reference, dtypes_of, fill
from transferpipe.planning.model import Exported
from transferpipe.planning.plan import Plan
from transferpipe.recipe.layouts import KERAS
from transferpipe.recipe.model import Recipe
from transferpipe.recipe.outputs import output_of
from transferpipe.text.listing import listed
from transferpipe.values.compare import digest
from transferpipe.values.layout import NAMED, has_dots
from transferpipe.weights.file_source import FileSource
from transferpipe.weights.spec import WeightSpec

# Who sees three names of a kind knows which are meant.
_SOME = 3


@dataclass(frozen=True)
class Written:
    """What files of named tensors hold.

    Attributes:
        tensors: the tensors; none where the layout alone tells.
        tied: the names of each that the reference keeps under several.
    """

    tensors: tuple[Exported, ...] = ()
    tied: tuple[tuple[str, ...], ...] = ()


def take_after(recipe: Recipe, opened: Opened) -> tuple[Recipe, Opened, Written]:
    """Return the recipe with the layout of the reference, the target with its dtypes, and the tensors to write.

    Raises:
        RecipeError: what would be written does not fill the reference.
        FileError: it cannot be opened.
    """
    origin, target = recipe.save.like, opened.target
    assert origin is not None
    file = open_file(origin, f"{LIKE}.path")
    layout = recipe.save.layout if recipe.save.layout != KERAS else layout_of(origin, file)
    if file.format not in NAMED or layout_called(layout).tag is None:
        what = f"{origin.path} is not a file of named tensors that could be written alike (format {file.format})"
        raise RecipeError(Problem(LIKE, what, "give a .safetensors, .npz or PyTorch file"))
    separator = "." if has_dots(file) else "/"
    selected = str(file.details.get("selected", ""))
    reference = Reference(file.catalog, recipe.save.names, separator, selected)
    found = plan_export(layout, target.structure, recipe.save.names, separator, reference)
    reference = replace(reference, tied=_find_tied(file, reference, {tensor.key for tensor in found}))
    tensors = fill(found, reference)
    catalog = target.structure.catalog
    dtypes = {name: dtype for name, dtype in dtypes_of(tensors).items() if dtype != catalog[name].dtype}
    if dtypes and not all(output_of(p).names_tensors for p in (recipe.save.path, *recipe.save.also)):
        what = f"the reference has another dtype for {listed(list(dtypes), _SOME)}, which a Keras model keeps"
        raise RecipeError(Problem(LIKE, what, "save files of named tensors alone in this run"))
    written = Written(tensors, reference.tied)
    assert isinstance(target, FileTarget | ModelTarget)
    recast = replace(target, dtypes=dtypes) if dtypes else target
    return replace(recipe, save=replace(recipe.save, layout=layout)), replace(opened, target=recast), written


def _find_tied(file: FileSource, reference: Reference, filled: Set[str]) -> tuple[tuple[str, ...], ...]:
    """Return the names of each tensor that the file keeps under several, as torch does with tied ones."""
    by_place: dict[Hashable, list[str]] = {}
    for key, spec in reference.specs.items():
        by_place.setdefault(file.place_of(spec.name) or key, []).append(key)
    open_names = [keys for keys in by_place.values() if filled.isdisjoint(keys) and filled <= reference.specs.keys()]
    # A file that keeps the values of every name apart, as safetensors does, shows by them what is tied.
    shapes = {reference.specs[keys[0]].shape for keys in open_names}
    candidates = [k for k in by_place.values() if k not in open_names and reference.specs[k[0]].shape in shapes]
    by_value = {_digest_varied(file, reference.specs[keys[0]]): keys for keys in candidates}
    for keys in open_names if candidates else ():
        value = _digest_varied(file, reference.specs[keys[0]])
        if value is not None and value in by_value:
            by_value[value] += keys
    return tuple(tuple(keys) for keys in by_place.values() if len(keys) > 1)


def _digest_varied(file: FileSource, spec: WeightSpec) -> str | None:
    """Return the digest of a tensor; None of one whose numbers are all the same, as those of many biases are."""
    value = file.read(spec.name)
    numbers = value.reshape(-1)
    return f"{spec.dtype} {spec.shape} {digest(value)}" if (numbers[1:] != numbers[:-1]).any() else None


def check_kept(plan: Plan, target: Target) -> None:
    """Refuse kept weights that would need another dtype: only what is taken from a source is cast."""
    dtypes = target.dtypes if isinstance(target, FileTarget | ModelTarget) else {}
    kept = [k.target for k in plan.kept if k.target in dtypes]
    if kept:
        what = f"{listed(kept, _SOME)} would keep its values and get another dtype"
        raise RecipeError(
            Problem(LIKE, what, "let a rule take it: make the file that is the target the source as well")
        )
