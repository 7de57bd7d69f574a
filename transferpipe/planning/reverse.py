"""The rules that lead back: from the finished weights of a recipe to the tensors that it takes them from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from transferpipe.errors import Problems, RecipeError
from transferpipe.planning.model import UNMATCHED_RULE, Assignment, place_of_rule
from transferpipe.planning.plan import Plan
from transferpipe.planning.reading.read_recipe import chain_of
from transferpipe.planning.transforms import Goal, Transform, fit_chain
from transferpipe.planning.transforms.arranging.arrange import InterleaveParts, Split
from transferpipe.planning.transforms.arranging.attention import UnfuseQkv
from transferpipe.planning.transforms.arranging.axes import Reshape, Transpose
from transferpipe.planning.transforms.arranging.flatten import FlattenOrder
from transferpipe.planning.transforms.arranging.legacy import Flip
from transferpipe.planning.transforms.arranging.select import Slice, Take
from transferpipe.planning.transforms.computing.reduce import Sum
from transferpipe.planning.transforms.computing.values import Fill
from transferpipe.planning.transforms.protocol import NOTHING
from transferpipe.planning.transforms.resizing.dimensions import Deflate
from transferpipe.recipe.model import SINGLE, From, Rule
from transferpipe.recipe.patterns import Pattern
from transferpipe.recipe.templates import Template

Shape = tuple[int, ...]


class _NoReverseError(ValueError):
    """A step has no reverse; the message names it."""


def reverse_rules(plan: Plan) -> tuple[Rule, ...]:
    """Return one rule for each tensor that `plan` takes, which gives it the value of the weight that took it.

    Raises:
        RecipeError: a step has no reverse, or several weights take one tensor and are not its parts.
    """
    problems = Problems()
    taken: dict[str, list[_Way]] = {}
    for a in plan.assignments:
        try:
            for way in _ways_back(a):
                taken.setdefault(way.name, []).append(way)
        except _NoReverseError as error:
            _refuse(a.rule, a.target, str(error), problems)
    for name, found in taken.items():
        if _are_tied(found):
            continue
        if any(way.cut is None for way in found) and len(found) > 1:
            targets = " and ".join(way.target for way in found)
            problems.add("reverse", f"{name} is taken by {targets}, so that it has no one value to get back")
        elif any(way.cut for way in found) and not _are_whole([way.cut for way in found if way.cut]):
            for way in found:
                _refuse(way.rule, way.target, f"{way.cut} has no reverse", problems)
    problems.raise_as(RecipeError)
    return tuple(_rule(name, found) for name, found in taken.items())


def _refuse(rule: str, target: str, why: str, problems: Problems) -> None:
    """Note that a weight has no way back, and how to go back without its rule."""
    fix = f"leave its rule out: mapping.{rule}=null, with unmatched=keep" if rule != UNMATCHED_RULE else ""
    problems.add(place_of_rule(rule), f"{target} cannot be turned back: {why}", fix)


def _are_tied(ways: Sequence[_Way]) -> bool:
    """Tell whether several weights take the whole of one tensor, such as a table of tokens and the head tied to it."""
    return len(ways) > 1 and all(way.cut is None for way in ways) and len({way.target for way in ways}) == len(ways)


@dataclass(frozen=True)
class _Cut:
    """The step that cuts a part out of a tensor, of which others take the rest.

    Attributes:
        step: the step.
        axis: the axis along which it cuts.
        begin: where the part begins.
        end: where it ends.
        is_index: whether the part has no such axis any more.
        size: how long the axis is.
        before: the steps, as written, from what is cut back to the tensor.
        join: the step, as written, that joins the parts; None where they lie one behind the other.
    """

    step: Transform
    axis: int
    begin: int
    end: int
    is_index: bool
    size: int
    before: tuple[Any, ...] = ()
    join: Any = None

    def __str__(self) -> str:
        return str(self.step)


@dataclass(frozen=True)
class _Way:
    """The way from a weight back to a tensor, or to the part of it that the weight took.

    Attributes:
        name: the tensor.
        target: the weight.
        rule: the rule that paired them.
        steps: the steps back, as written.
        cut: what cut the part out; None where it is the whole.
    """

    name: str
    target: str
    rule: str
    steps: tuple[Any, ...]
    cut: _Cut | None = None


def _are_whole(cuts: Sequence[_Cut]) -> bool:
    """Tell whether parts, one behind the other, are a whole tensor."""
    if len({(c.axis, c.is_index, c.size, repr((c.before, c.join))) for c in cuts}) > 1:
        return False
    ordered = sorted(cuts, key=lambda c: c.begin)
    ends = [0, *(c.end for c in ordered)]
    return [c.begin for c in ordered] == ends[:-1] and ends[-1] == cuts[0].size


def _rule(name: str, ways: Sequence[_Way]) -> Rule:
    """Return the rule that gives a tensor the value of one weight, of several that are the same, or joins these."""
    ordered = sorted(ways, key=lambda way: way.cut.begin if way.cut else 0)
    cut = ordered[0].cut
    froms = []
    for way in ordered:
        text = way.target.replace("\\", "\\\\").replace("{", "{{").replace("}", "}}")
        froms.append(From(SINGLE, text, Template(text), transform=way.steps if len(ways) > 1 else ()))
    join = cut and (cut.join or {"stack" if cut.is_index else "concat": {"axis": cut.axis}})
    steps = (join, *cut.before) if cut else ({"same": None},) if len(ways) > 1 else ordered[0].steps
    return Rule(name, Pattern(re.escape(name)), tuple(froms), transform=steps)


def _ways_back(a: Assignment) -> list[_Way]:
    """Return the way back to each tensor that an assignment takes."""
    entries = a.entries
    if a.merge is None and len(entries) == 1 and len(a.sources) == 1:
        chain = chain_of(None, (*entries[0].steps, *a.transforms))
        fitted = fit_chain(chain, [a.sources[0].shape], Goal(a.shape))
        at, cut = _find_cut(fitted, a.sources[0].shape)
        if cut is not None:
            (steps,) = _reverse(
                fitted[at + 1 :], [fitted[at].shape([_shapes(fitted[:at], [a.sources[0].shape])[-1][0]])]
            )
            (before,) = _reverse(fitted[:at], [a.sources[0].shape])
            cut = replace(cut, before=tuple(map(_write_step, before)))
            return [_Way(a.sources[0].name, a.target, a.rule, tuple(map(_write_step, steps)), cut)]
    return [_Way(name, a.target, a.rule, steps) for name, steps in _steps_back(a)]


def _find_cut(chain: Sequence[Transform], shape: Shape) -> tuple[int, _Cut | None]:
    """Return which step of a fitted chain cuts a part out of what it takes, and how; None if none does, or two do."""
    found = []
    for at, (step, inputs) in enumerate(zip(chain, _shapes(chain, [shape]), strict=False)):
        cut = _read_cut(step, inputs[0]) if step.reverse_each(inputs) is None else None
        if cut is not None:
            found.append((at, cut))
    # A part of a part leaves open which others would make the tensor whole again.
    return found[0] if len(found) == 1 else (0, None)


def _read_cut(step: Transform, shape: Shape) -> _Cut | None:
    """Return how a step cuts a stretch out of one axis; None if it does something else."""
    if isinstance(step, Split):
        axis, begin, end = step.bounds(shape)
        return _Cut(step, axis, begin, end, False, shape[axis])
    if isinstance(step, Take):
        axis, begin = step.axis % len(shape), step.indices[0]
        is_stretch = begin >= 0 and step.indices == tuple(range(begin, begin + len(step.indices)))
        return _Cut(step, axis, begin, begin + len(step.indices), False, shape[axis]) if is_stretch else None
    if isinstance(step, UnfuseQkv):  # of which query, key and value are asked for one by one, in this order
        axis, unit = step.axis % len(shape), shape[step.axis] // step.heads.units
        sizes = {part: len(step.heads.places(part)) * unit for part in "qkv"}
        begin = {"q": 0, "k": sizes["q"], "v": sizes["q"] + sizes["k"]}[step.part]
        join = {"fuse_qkv": {"axis": axis, **_write_heads(step)}}
        return _Cut(step, axis, begin, begin + sizes[step.part], False, shape[axis], join=join)
    if not isinstance(step, Slice):
        return None
    first = (step.axis or 0) % len(shape)
    cuts = []
    for axis, part in enumerate(step.parts, first):
        size = shape[axis]
        if isinstance(part, int):
            cuts.append(_Cut(step, axis, part % size, part % size + 1, True, size))
        else:
            begin, end, stride = part.as_slice().indices(size)
            if stride != 1:
                return None
            if (begin, end) != (0, size):
                cuts.append(_Cut(step, axis, begin, end, False, size))
    return cuts[0] if len(cuts) == 1 else None


def _steps_back(a: Assignment) -> list[tuple[str, tuple[Any, ...]]]:
    """Return, for each tensor that an assignment takes, the steps as written that lead back to it."""
    if a.merge is not None:
        raise _NoReverseError(f"merge {a.merge} has no reverse")
    entries = a.entries
    if len(entries) == 1:
        steps = (*entries[0].steps, *a.transforms)
        back = _reverse(chain_of(None, steps), [ref.shape for ref in a.sources], Goal(a.shape))
        return [(ref.name, tuple(map(_write_step, chain))) for ref, chain in zip(a.sources, back, strict=True)]
    chains = [chain_of(None, entry.steps) for entry in entries]
    inside = [_shapes(c, [r.shape for r in e.sources])[-1] for c, e in zip(chains, entries, strict=True)]
    outer = _reverse(chain_of(None, a.transforms), [shapes[0] for shapes in inside], Goal(a.shape))
    found = []
    for chain, entry, after in zip(chains, entries, outer, strict=True):
        for ref, inner in zip(entry.sources, _reverse(chain, [r.shape for r in entry.sources]), strict=True):
            found.append((ref.name, tuple(map(_write_step, (*after, *inner)))))
    return found


def _shapes(chain: Sequence[Transform], shapes: list[Shape]) -> list[list[Shape]]:
    """Return the shapes of what each step of a fitted chain takes, and of its result at last."""
    found = [shapes]
    for step in chain:
        found.append([step.shape(found[-1])])
    return found


def _reverse(chain: Sequence[Transform], shapes: list[Shape], goal: Goal | None = None) -> list[tuple[Transform, ...]]:
    """Return, for each input of a chain, what leads back to it from the result."""
    fitted = fit_chain(chain, shapes, goal) if goal else fit_chain(chain, shapes)
    before = _shapes(fitted, shapes)
    back: tuple[Transform, ...] = ()
    for step, inputs in list(zip(fitted, before, strict=False))[::-1]:
        each = _summands(step, inputs) or step.reverse_each(inputs)
        if each is None:
            raise _NoReverseError(f"{step} has no reverse")
        if len(each) > 1:  # only the first step of a chain takes several
            return [(*back, *steps) for steps in each]
        back = (*back, *each[0])
    return [back]


def _summands(step: Transform, inputs: Sequence[Shape]) -> tuple[tuple[Transform, ...], ...]:
    """Return the parts that a sum is given back in: all of it, and nothing; `()` where `step` adds nothing up."""
    if not isinstance(step, Sum) or len(inputs) == 1:
        return ()
    return ((), *((Fill(NOTHING),) for _ in inputs[1:]))


def _write_heads(step: UnfuseQkv) -> dict[str, Any]:
    """Return how heads lie in a fused weight, as a recipe has it."""
    return {"order": step.heads.order, "heads": step.heads.queries, "kv_heads": step.heads.keys}


_FORMS: Mapping[type[Transform], Callable[[Any], Any]] = {
    Transpose: lambda step: "transpose" if step.axes is None else {"transpose": list(step.axes)},
    Reshape: lambda step: step.sizes and {"reshape": list(step.sizes)},
    Slice: lambda step: (step.axis or 0) >= 0 and {"slice": [":"] * (step.axis or 0) + [*map(_write_part, step.parts)]},
    FlattenOrder: lambda step: {"flatten_order": [p if isinstance(p, int) else list(p) for p in step.parts]},
    Flip: lambda step: {"flip": list(step.axes)},
    Take: lambda step: {"take": {"axis": step.axis, "indices": list(step.indices)}},
    InterleaveParts: lambda step: {"interleave": {"axis": step.axis, "parts": step.parts, "groups": step.groups}},
    UnfuseQkv: lambda step: {"unfuse_qkv": {"part": step.part, "axis": step.axis, **_write_heads(step)}},
    Deflate: lambda step: {"deflate": {"how": step.how, "axis": step.axis}},
    Fill: lambda step: {"fill": step.value},
}
"""How a recipe has each step that leads back; nothing where it has no form for these arguments."""


def _write_part(part: Any) -> Any:
    return part if isinstance(part, int) else str(part)


def _write_step(step: Transform) -> Any:
    """Return a step as a recipe has it."""
    form = _FORMS[type(step)](step) if type(step) in _FORMS else None
    if not form:
        raise _NoReverseError(f"{step}, which leads back, has no form in a recipe")
    return form
