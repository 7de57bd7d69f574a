"""Giving each target weight its fate, with shapes and dtypes checked through merges and transforms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from transferpipe.errors import Problems
from transferpipe.planning.chain import chain_of
from transferpipe.planning.model import UNMATCHED_RULE, Assignment, Kept, SourceRef
from transferpipe.planning.pairing import Taken
from transferpipe.planning.structure import TargetStructure
from transferpipe.planning.transforms import TransformError, infer
from transferpipe.recipe.model import Rule
from transferpipe.weights.spec import Catalog, WeightSpec, numpy_dtype

_WITHOUT_LAYOUT = "give the sources `layout: keras` and write all transforms, or use one source a rule"
Reason = Literal["from: null", "no rule", "shape differs"]


@dataclass
class Fates:
    """What has been settled so far.

    Attributes:
        target: the target's structure.
        sources: the sources' catalogs by their names.
        problems: what is wrong.
        assignments: weights that get a value, by name.
        kept: weights that keep theirs, by name.
        adapted: weights whose source's layout is known, by name, and with how many of the transforms it is adapted.
    """

    target: TargetStructure
    sources: Mapping[str, Catalog]
    problems: Problems
    assignments: dict[str, Assignment] = field(default_factory=dict)
    kept: dict[str, Kept] = field(default_factory=dict)
    adapted: dict[str, int] = field(default_factory=dict)

    def keep(self, names: Iterable[str], rule: str, reason: Reason) -> None:
        """Keep the weights called `names` as they are."""
        for name in names:
            spec = self.target.catalog[name]
            self.kept[name] = Kept(name, rule, reason, spec.shape, spec.dtype)


def assign(fates: Fates, rule: Rule | None, name: str, found: Sequence[Taken]) -> None:
    """Assign the source weights `found` to the target weight `name`, or note why that cannot be.

    Args:
        fates: takes the assignment, or the problem.
        rule: the rule behind it; None under ``unmatched: same_name``.
        name: the target weight.
        found: what it takes of each source, in the order of the rule's `from`.
    """
    spec = fates.target.catalog[name]
    where = rule.where if rule else UNMATCHED_RULE
    refs = tuple(_ref(fates.sources[t.source][n], t.source) for t in found for n in t.names)
    merge = rule.merge if rule else None
    own = rule.transforms_of(spec.own_name) if rule else ()
    if clash := _clash(found, merge):
        fates.problems.add(where, f"{name} from {_named(refs)}: {clash}", _WITHOUT_LAYOUT)
        return
    transforms = (*found[0].steps, *own)
    if name in fates.target.closed:
        fates.problems.add(
            where, f"{name} is saved by its layer in a way of its own and cannot be assigned", "keep it: from=null"
        )
        return
    try:
        shape, dtype = infer(chain_of(merge, transforms), [r.shape for r in refs], [r.dtype for r in refs])
    except TransformError as error:
        fates.problems.add(where, f"{name} from {_named(refs)}: {error.what}", error.mend)
        return
    if shape != spec.shape:
        if rule and rule.on_mismatch == "keep" and rule.pair == "name":
            fates.keep([name], rule.name, "shape differs")
        else:
            what = f"{name} has shape {list(spec.shape)}, {_named(refs)} gives {list(shape)}"
            what += " after the transforms" * bool(transforms)
            fates.problems.add(where, what, _mend_shape(rule, spec.shape, shape))
        return
    if kind_of(dtype) != kind_of(spec.dtype):
        what = f"{name} is {spec.dtype}, {_named(refs)} gives {dtype}: a cast between kinds changes what a number means"
        fates.problems.add(where, what, f"if it is meant, add the transform {{cast: {spec.dtype}}}")
        return
    rule_name = rule.name if rule else UNMATCHED_RULE
    if found[0].adapted:
        fates.adapted[name] = len(found[0].steps)
    fates.assignments[name] = Assignment(name, rule_name, refs, spec.shape, spec.dtype, dtype, merge, transforms)


def _ref(weight: WeightSpec, source: str) -> SourceRef:
    return SourceRef(source, weight.name, weight.shape, weight.dtype)


def _clash(found: Sequence[Taken], merge: Any) -> str:
    """Say why several sources cannot be merged, or joined by a transform, in the layout that they have; else empty."""
    if len(found) < 2 or not any(t.steps or len(t.names) > 1 for t in found):
        return ""
    if any(t.steps != found[0].steps for t in found):
        return "the sources arrange it differently"
    if any(len(t.names) > 1 for t in found):
        return "each source keeps it in parts"
    return "" if merge is not None else "torch's layout would be adapted only after they are joined"


def _named(refs: Sequence[SourceRef]) -> str:
    return ", ".join(r.name for r in refs)


def _mend_shape(rule: Rule | None, wanted: tuple[int, ...], shape: tuple[int, ...]) -> str:
    give = "" if rule else "give it a rule: "
    if shape == wanted[::-1] and len(shape) > 1:
        return f"{give}the axes are reversed: add the transform {{transpose: {list(range(len(shape)))[::-1]}}}"
    keep = ", or set on_mismatch: keep" if not rule or rule.pair == "name" else ""
    return f"{give}mend the mapping, add a transform{keep}"


def kind_of(dtype: str) -> str:
    """Return what a number of this dtype is: a float, an integer, a truth value or something else."""
    kind = numpy_dtype(dtype)
    if kind.kind in "iu" or kind.name.startswith(("int", "uint")):
        return "integer"
    if kind.kind == "f" or np.issubdtype(kind, np.floating) or kind.name.startswith(("bfloat", "float")):
        return "float"
    return kind.kind
