"""Two sweeps without scores against each other."""

import json

from transferpipe.show.sweeps.two_unscored_table import two_unscored_text
from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.comparing.two_unscored import compare_unscored
from transferpipe.sweep.record import SweepRecord


def sweep(name, variants, **fixed):
    """Return a sweep of variants, each with its plan and the digest of what it saved; None has failed."""
    entries = []
    for (freeze, seed), (plan, digest) in variants.items():
        files = [{"path": "model.npz", "sha256": digest}]
        result = {"status": "done", "score": None, "artifacts": files} if digest else {"status": "failed"}
        overrides = {**fixed, "freeze": freeze, "seed": seed}
        entries.append(Entry(overrides, None, f"v{name}{freeze}{seed}", plan, result))
    return SweepRecord(name, tuple(entries))


A = {("none", "0"): ("p1", "aa"), ("none", "1"): ("p1", "ab"), ("all", "0"): ("p2", "ac"), ("first", "0"): ("p3", "ad")}


def test_variants_that_both_have_are_compared_by_plan_and_files():
    b = {
        ("none", "0"): ("p1", "aa"),
        ("none", "1"): ("p1", "xx"),
        ("all", "0"): ("p9", None),
        ("last", "0"): ("p", "y"),
    }
    found = compare_unscored(sweep("one", A, recipe="old"), sweep("two", b, recipe="new"))
    rows = {(s.setting["freeze"], s.setting["seed"]): (s.same_plan, s.same_files) for s in found.shared}
    assert rows == {("none", "0"): (True, True), ("none", "1"): (True, False), ("all", "0"): (False, None)}
    assert found.only == (({"freeze": "first", "seed": "0"},), ({"freeze": "last", "seed": "0"},))
    assert found.changed == {"recipe": ("old", "new")}
    text = two_unscored_text(found)
    assert "3 variants in both: 1 with another plan; files differ in 1 of 2 that both finished" in text
    assert "failed in b" in text and "neither has scores" in text and "recipe: old in a, new in b" in text
    assert text.splitlines()[3].startswith("freeze=none seed=0"), "what is equal comes last"
    assert json.loads(json.dumps(found.to_data()))["shared"][0]["a"] == "vonenone0"


def test_equal_sweeps_are_called_equal_and_the_one_with_scores_is_named():
    same = two_unscored_text(compare_unscored(sweep("one", A), sweep("two", A)))
    assert "4 variants in both: the same plans, and equal files" in same
    scored = SweepRecord("two", tuple(
        Entry(e.overrides, None, e.key, e.checksum, {**e.result, "score": {"value": 1.0}}) for e in sweep("two", A).entries
    ))  # fmt: skip
    assert "only two has scores" in two_unscored_text(compare_unscored(sweep("one", A), scored))


def test_many_variants_are_a_screenful():
    many = {("none", str(seed)): ("p", "aa") for seed in range(300)}
    found = compare_unscored(sweep("one", many), sweep("two", many))
    assert len(two_unscored_text(found, width=80, lines=24).splitlines()) <= 24
    assert len(two_unscored_text(found).splitlines()) > 300
