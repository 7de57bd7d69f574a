"""Reading `verify`: how strict the proof is, and what the finished model's outputs are compared with."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from typing import Any

from transferpipe.errors import did_you_mean
from transferpipe.recipe.model import SINGLE, Build, ParityCheck, Verify
from transferpipe.recipe.parsing.fields import Fields, describe
from transferpipe.recipe.parsing.origins import is_build, parse_build

_LARGEST = sys.float_info.max  # whole numbers of YAML may lie beyond it
_FORMS = "write parity: source, or parity: {inputs: x.npz, expected: y.npz}; see `transferpipe help parity`"


def parse_verify(fields: Fields, aliases: tuple[str, ...]) -> Verify:
    """Return `verify:` of a recipe whose sources go by `aliases`; problems are noted."""
    inner = Fields(fields.mapping("verify"), "verify", fields.problems, "verify")
    verify = Verify(
        inner.flag("reload"),
        inner.choice("nonfinite"),
        inner.choice("negative_variance"),
        _parse_parity(inner, aliases),
    )
    inner.finish()
    return verify


def _parse_parity(outer: Fields, aliases: tuple[str, ...]) -> ParityCheck | None:
    value = outer.raw("parity")
    if value is None or value is False:
        return None
    if isinstance(value, str):
        value = {"source": True if value == SINGLE else value}
    if not isinstance(value, Mapping):
        outer.note("parity", f"must be `source` or a mapping, not {describe(value)}", _FORMS)
        return None
    inner = Fields(value, "verify.parity", outer.problems, "parity")
    inputs, expected = inner.text("inputs"), inner.text("expected")
    source, reference = _parse_source(inner, aliases)
    atol, rtol = _parse_tolerance(inner, "atol"), _parse_tolerance(inner, "rtol")
    if expected and (source or reference):
        inner.note("expected", "`expected` and `source` are both given", "keep one of them")
    elif not expected and not inner.has("source"):
        inner.note("expected", "nothing is given to compare with", _FORMS)
    elif expected and not inputs:
        inner.note("inputs", "`expected` needs the inputs that its values were computed from", "inputs: x.npz")
    for key, path in (("inputs", inputs), ("expected", expected)):
        if path is not None and not path.endswith(".npz"):
            inner.note(key, f"must be an .npz file, not {path!r}", "write it with numpy.savez")
    inner.finish()
    return ParityCheck(inputs, expected, source, reference, atol, rtol)


def _parse_source(inner: Fields, aliases: tuple[str, ...]) -> tuple[str | None, Build | None]:
    """Return the name of the source to run, or the callable to call in its place."""
    value: Any = inner.raw("source")
    if value is None or value is False:
        return None, None
    if is_build(value):
        return None, parse_build(value, inner.at("source"), inner.problems)
    if value is True or (value == SINGLE and SINGLE not in aliases):
        if len(aliases) == 1:
            return aliases[0], None
        what = f"the recipe has {len(aliases)} sources" if aliases else "the recipe has no source"
        fix = f"name the one to compare with: {', '.join(aliases)}" if aliases else "give inputs and expected"
        inner.note("source", what, fix)
    elif isinstance(value, str) and value in aliases:
        return value, None
    elif isinstance(value, str):
        known = f"the sources are {', '.join(aliases)}" if aliases else "the recipe has no source"
        inner.note("source", f"there is no source {value!r}", did_you_mean(value, aliases) or known)
    else:
        inner.note("source", f"must be true, a source's name or `_target_:` of a callable, not {describe(value)}")
    return None, None


def _parse_tolerance(inner: Fields, key: str) -> float | None:
    value = inner.raw(key)
    if value is None:
        return None
    if isinstance(value, str):  # YAML reads 1e-5 as a text
        with contextlib.suppress(ValueError):
            value = float(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= _LARGEST:  # compared, as a whole number beyond float64 converts to none
        inner.note(key, f"must be a number of at least 0, not {describe(value)}", "such as 1.0e-4")
        return None
    return float(value)
