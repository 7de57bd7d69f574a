"""From a plan's entry to a value: what is computed, from where, and what is refused."""

import numpy as np
import pytest
from in_memory import ALLOW, array, one, refused, values

from transferpipe.errors import VerificationError
from transferpipe.files.segment import Segment
from transferpipe.recipe.model import Verify
from transferpipe.values.compare import same_bits

# Plain values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [array(1, -0.0, 3), array(), np.float32(2).reshape(()), array(1, dtype="bfloat16")])
def test_a_value_goes_over_bit_for_bit(value):
    found = one(np.zeros_like(value), value)
    assert same_bits(found.value("a/kernel"), value)
    assert found.casts == {}


def test_kept_weights_keep_their_values_whatever_they_are():
    found = values({"a/k": array(1, np.nan)}, {"b/k": array(2)})
    assert same_bits(found.value("a/k"), array(1, np.nan))


def test_merges_and_transforms():
    source = {"b/k": array([1, 2, 3]), "c/k": array([3, 4, 5])}
    rule = {"to": "a", "from": ["b", "c"], "merge": "mean", "transform": ["transpose", {"scale": 2}]}
    found = values({"a/k": np.zeros((3, 1), "float32")}, source, {"r": rule})
    assert same_bits(found.value("a/k"), array([4], [6], [8]))


# NaN, infinity, variances ---------------------------------------------------------------------------------------------


def test_nan_and_infinity_in_a_source():
    text = refused(one(array([0, 0]), array([1, np.nan])))
    assert text == (
        "source.h5: b/kernel: holds 1 value that is NaN or infinite, nan, at [0, 1]"
        " -> take another source; to copy it as it is: verify.nonfinite=allow"
    )
    text = refused(one(array(0, 0), array(-np.inf, np.inf)))
    assert "holds 2 values that are NaN or infinite, the first, -inf, at [0]" in text
    assert "nan, at []" in refused(one(np.float32(0).reshape(()), np.float32(np.nan).reshape(())))
    assert "nan" in refused(one(array(0, dtype="bfloat16"), array(np.nan, dtype="bfloat16")))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_nan_and_infinity_where_they_are_allowed(dtype):
    value = array(1, np.nan, np.inf, -np.inf, dtype=dtype)
    found = one(np.zeros(4, value.dtype), value, verify=Verify(nonfinite="allow"))
    assert same_bits(found.value("a/kernel"), value)
    found = one(np.zeros(4, "float16"), array(1, np.nan, np.inf, -np.inf), verify=Verify(nonfinite="allow"))
    assert found.value("a/kernel").tolist()[2:] == [np.inf, -np.inf]
    assert found.casts == {}


@pytest.mark.parametrize("own", ["moving_variance", "variance", "running_var"])
def test_a_negative_variance(own):
    text = refused(one(array(1, 1), array(1, -0.5), own=own), f"a/{own}")
    assert text == (
        f"source.h5: b/{own}: a variance is negative: -0.5"
        " -> take another source; to copy it as it is: verify.negative_variance=allow"
    )
    assert one(array(1), array(-0.5), own=own, verify=Verify(negative_variance="allow")).value(f"a/{own}") == -0.5
    assert one(array(1, 1), array(0, -0.0), own=own).value(f"a/{own}").tolist() == [0, 0]


def test_a_nan_does_not_hide_a_negative_variance():
    found = one(array(1, 1), array(np.nan, -1), own="moving_variance", verify=Verify(nonfinite="allow"))
    assert "a variance is negative: -1" in refused(found, "a/moving_variance")


def test_a_variance_is_known_by_the_target_too():
    found = one(array(1), array(-1), own="moving_variance", their_own="w")
    assert refused(found, "a/moving_variance").startswith("a/moving_variance: a variance is negative: -1")
    source = {"b/moving_variance": array(1), "c/moving_variance": array(3)}
    rule = {"to": "a", "from": ["b", "c"], "merge": {"linear": [1, -1]}}
    found = values({"a/moving_variance": array(1)}, source, {"r": rule})
    assert "a variance is negative: -2" in refused(found, "a/moving_variance")


def test_other_weights_may_be_negative():
    assert one(array(1), array(-1), own="moving_mean").value("a/moving_mean") == -1


# Arithmetic -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule", [{"transform": [{"scale": 1e10}]}, {"from": ["b", "b"], "merge": {"linear": [1e10, 1]}, "transform": []}]
)
def test_arithmetic_that_overflows(rule):
    rule = {"to": "a", "from": "b", **rule}
    found = values({"a/kernel": array(0, 0)}, {"b/kernel": array(1e30, 1)}, {"r": rule})
    what, fix = refused(found).split(" makes ")[1].split(" -> ")
    assert what == "1 finite value infinite or NaN: float32 cannot hold them"
    assert fix.startswith("use smaller factors" if "merge" in rule else "use a smaller number")
    found.verify = ALLOW
    assert found.value("a/kernel")[0] == np.inf


def test_rearranging_is_not_taken_for_arithmetic():
    found = one(array([0], [0]), array([1, 1e5]), {"cast": "float16"}, "transpose", {"cast": "float32"})
    found.verify = ALLOW
    assert found.value("a/kernel").tolist() == [[1], [np.inf]]


# Where values lie -----------------------------------------------------------------------------------------------------


def test_an_unchanged_value_is_taken_from_where_it_lies(tmp_path):
    there, here = Segment(tmp_path / "s", 8, 8, "float32"), Segment(tmp_path / "t", 0, 4, "float32")
    target = {"a/kernel": array(0, 0), "k": array(1), "e": array(1)}
    edit = {"x": {"at": "e", "index": [0], "set": 1}}
    for rule, expected in (
        ({}, there),
        ({"transform": [{"scale": 1}]}, None),
        ({"transform": [{"cast": "float32"}]}, None),
        ({"merge": "mean"}, None),
        ({"from": ["b", "b"], "merge": "mean"}, None),
    ):
        found = values(target, {"b/kernel": array(1, 2)}, {"r": {"to": "a", "from": "b", **rule}}, edit=edit)
        found.sources["source"].segments = {"b/kernel": there}
        found.kept.segments = {"k": here, "e": here, "a/kernel": here}
        assert (found.segment("a/kernel"), found.segment("k"), found.segment("e")) == (expected, here, None)
    found = values(
        {"a/kernel": array(0, 0, dtype="float16")}, {"b/kernel": array(1, 2)}, {"r": {"to": "a", "from": "b"}}
    )
    found.sources["source"].segments = {"b/kernel": there}
    assert found.segment("a/kernel") is None


def test_what_lies_there_is_checked_part_by_part():
    target = {"a/kernel": array(0), "a/moving_variance": array(0), "k": array(0)}
    source = {"b/kernel": array(0), "b/w": array(0)}
    mapping = {"r": {"to": "a/kernel", "from": "b/kernel"}, "v": {"to": "a/moving_variance", "from": "b/w"}}
    found = values(target, source, mapping)
    found.refusals("k").check(array(np.nan))
    found.refusals("a/kernel").check(array(-1))
    for name, part in (("a/kernel", array(np.nan)), ("a/moving_variance", array(-1))):
        with pytest.raises(VerificationError, match=r"source\.h5: b/"):
            found.refusals(name).check(part)
        values(target, source, mapping, ALLOW).refusals(name).check(part)


# Edits ----------------------------------------------------------------------------------------------------------------


def test_edits_come_last_and_change_a_copy():
    edits = {"e": {"at": "a/kernel", "index": [0], "add": 1}, "f": {"at": "a/kernel", "index": [1], "multiply": 3}}
    edits["g"] = {"at": "k", "index": ["1:"], "set": 9}
    target, source = {"a/kernel": array(0, 0), "k": array(1, 2, 3)}, {"b/kernel": array(1, 2)}
    found = values(target, source, {"r": {"to": "a", "from": "b", "transform": [{"scale": 10}]}}, edit=edits)
    assert found.value("a/kernel").tolist() == [11, 60]
    assert found.before_edits("a/kernel").tolist() == [10, 20]
    assert found.value("k").tolist() == [1, 9, 9]
    assert found.before_edits("k").tolist() == [1, 2, 3]
    assert source["b/kernel"].tolist() == [1, 2]
    assert target["k"].tolist() == [1, 2, 3]


# Bits -----------------------------------------------------------------------------------------------------------------


def test_same_bits():
    nan = np.array([np.nan], "float32")
    other_nan = (nan.view("uint32") + 1).view("float32")
    assert same_bits(nan, nan.copy())
    assert not same_bits(nan, other_nan)
    assert not same_bits(array(0.0), array(-0.0))
    assert not same_bits(array(1), array(1, dtype="int32"))
    assert not same_bits(array(1), array([1]))
    assert same_bits(array([1, 2], [3, 4]).T, array([1, 3], [2, 4]))
    assert same_bits(np.zeros((0, 3)), np.zeros((0, 3)))
    assert not same_bits(np.zeros((0, 3)), np.zeros((3, 0)))
    assert same_bits(np.zeros(()), np.zeros(()))
    assert same_bits(array(1, dtype="bfloat16"), array(1, dtype="bfloat16"))
