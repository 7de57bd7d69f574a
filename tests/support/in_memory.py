"""Values of plans over arrays in memory."""

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import pytest
from compact import plan_of, structure

from transferpipe.errors import VerificationError
from transferpipe.recipe.model import Verify
from transferpipe.values.compute import Values
from transferpipe.weights.spec import WeightSpec, catalog_of

ALLOW = Verify(nonfinite="allow", negative_variance="allow")


@dataclass
class Arrays:
    """A source, and a target's own values, in memory."""

    arrays: dict
    label: str = "source.h5"
    segments: dict | None = None

    @property
    def catalog(self):
        return catalog_of(WeightSpec(n, a.shape, a.dtype.name) for n, a in self.arrays.items())

    def read(self, name):
        value = self.arrays[name].view()
        value.setflags(write=False)
        return value

    def locate(self, name):
        return (self.segments or {}).get(name)


def array(*numbers, dtype="float32"):
    """Return an array, also of the dtypes that NumPy does not know."""
    return np.array(numbers, dtype=getattr(ml_dtypes, dtype, dtype))


def values(target, source, mapping=None, verify=None, **keys):
    """Return the values of a plan from arrays by name to arrays by name."""
    source, kept = Arrays(source), Arrays(target)
    keys = {"unmatched": "keep", **keys}
    plan = plan_of(structure(kept.catalog), source.catalog, mapping, **keys)
    return Values(plan, {"source": source}, kept, verify or Verify())


def one(ours, theirs, *transforms, own="kernel", their_own=None, verify=None, **keys):
    """Return the values of a plan that gives one weight one other."""
    rule = {"to": f"a/{own}", "from": f"b/{their_own or own}", "transform": list(transforms), **keys}
    return values({f"a/{own}": ours}, {f"b/{their_own or own}": theirs}, {"r": rule}, verify)


def refused(found, name="a/kernel"):
    """Return why the value of `name` is refused."""
    with pytest.raises(VerificationError) as caught:
        found.value(name)
    (problem,) = caught.value.problems
    return str(problem)
