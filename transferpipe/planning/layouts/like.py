"""A file that what is written is to be like: `save.like`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from transferpipe.errors import Problems, RecipeError
from transferpipe.planning.dtypes import kind_of
from transferpipe.planning.layouts.evidence import AxesEvidence, find_evidence
from transferpipe.planning.layouts.keys import find_key
from transferpipe.planning.model import Exported
from transferpipe.recipe.model import Renaming
from transferpipe.text.listing import listed
from transferpipe.weights.spec import IN_OUT, Catalog, WeightSpec

# Who sees three names of a kind knows which are meant.
_SOME = 3
LIKE = "save.like"


@dataclass(frozen=True)
class Reference:
    """A file of named tensors, and how the names of a layout become its own.

    Attributes:
        catalog: its tensors.
        renamings: those of `save.names`.
        separator: what joins the parts of its names.
        selected: the part of the file that was selected, as a checkpoint's `model/state_dict`: no name begins with it.
        tied: the names, as they stand in the file, of each tensor that it keeps under several.
    """

    catalog: Catalog
    renamings: Sequence[Renaming] = ()
    separator: str = "."
    selected: str = ""
    tied: tuple[tuple[str, ...], ...] = ()

    @cached_property
    def specs(self) -> Mapping[str, WeightSpec]:
        """Its tensors by their names as they stand in the file."""
        # `numpy.savez` calls the member of an array NAME.npy.
        above = f"{self.selected.replace('/', '.')}." if self.selected else ""
        return {spec.where.removesuffix(".npy").removeprefix(above): spec for spec in self.catalog}

    @cached_property
    def _evidence(self) -> Mapping[str, AxesEvidence]:
        return find_evidence(self.catalog)

    def find(self, name: str) -> WeightSpec | None:
        """Return what it has for the tensor that the layout calls `name`."""
        return self.specs.get(find_key(name, self.renamings, self.separator))

    def is_turned(self, name: str, own: tuple[int, ...], by_layout: tuple[int, ...]) -> bool:
        """Tell whether it keeps a matrix as Keras does, with the shape `own`, and not as the layout would.

        The bias beside a matrix tells it, also of square ones; where there is none, the shape does.
        """
        there = self.find(name)
        if there is None or len(own) != 2 or len(by_layout) != 2:
            return False
        found = self._evidence.get(there.name)
        if found is not None and found.axes is not None:
            return found.axes == IN_OUT
        return there.shape == own != by_layout


def fill(tensors: Sequence[Exported], reference: Reference) -> tuple[Exported, ...]:
    """Return the tensors in the order and with the dtypes of the reference.

    Raises:
        RecipeError: they do not fill it: names that one of them lacks, other shapes, other kinds of numbers.
    """
    problems = Problems()
    ours = {tensor.key: tensor for tensor in tensors}
    # One weight fills all names of one tensor; what goes by a name of its own may be meant for one of them, too.
    for names in reference.tied if ours.keys() <= reference.specs.keys() else ():
        filled = next((ours[key] for key in names if key in ours), None)
        ours |= {key: dataclasses.replace(filled, key=key) for key in names if filled and key not in ours}
    lacking = [key for key in reference.specs if key not in ours]
    foreign = [key for key in ours if key not in reference.specs]
    if lacking:
        what = f"nothing fills {len(lacking)} of the {len(reference.specs)} tensors of the reference"
        more = f"; it lacks {listed(foreign, _SOME)}, which would be written" if foreign else ""
        problems.add(
            LIKE, f"{what}: {listed(lacking, _SOME)}{more}", "pair their names with save.names" if foreign else ""
        )
    elif foreign:
        what = f"the reference lacks {len(foreign)} of the tensors that would be written: {listed(foreign, _SOME)}"
        problems.add(LIKE, what)
    for key, there in reference.specs.items():
        if key in ours and ours[key].shape != there.shape:
            what = f"{key} would have shape {ours[key].shape}; in the reference it has {there.shape}"
            problems.add(LIKE, what)
        elif key in ours and kind_of(ours[key].dtype) != kind_of(there.dtype):
            what = f"{key} is {there.dtype} in the reference and {ours[key].dtype} here, another kind of number"
            problems.add(LIKE, what)
    problems.raise_as(RecipeError)
    return tuple(dataclasses.replace(ours[key], dtype=there.dtype) for key, there in reference.specs.items())


def dtypes_of(tensors: Sequence[Exported]) -> dict[str, str]:
    """Return the dtype that each weight has in the tensors.

    Raises:
        RecipeError: one weight stands in tensors of several dtypes.
    """
    problems, found = Problems(), dict[str, str]()
    for tensor in tensors:
        for part in tensor.parts:
            if found.setdefault(part.weight, tensor.dtype) != tensor.dtype:
                what = f"{part.weight} is {found[part.weight]} and {tensor.dtype} in tensors of the reference"
                problems.add(LIKE, what)
    problems.raise_as(RecipeError)
    return found
