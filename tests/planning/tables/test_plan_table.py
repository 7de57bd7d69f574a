"""A plan as text and as HTML: what goes where, to the last pair."""

import re
from dataclasses import replace

import pytest
from compact import plan_of, structure
from expanding import pairs_of
from hypothesis import given
from hypothesis import strategies as st

from transferpipe.planning.model import Assignment, SourceRef, SourceWeight
from transferpipe.planning.plan import Plan
from transferpipe.planning.reading.read_plan import plan_from_data
from transferpipe.planning.tables.plan_rows import plan_rows
from transferpipe.planning.tables.plan_table import plan_html, plan_text
from transferpipe.text.visible import visible
from transferpipe.weights.spec import WeightSpec, catalog_of


def shown(*args, **keys):
    return [(r.target, r.origin) for r in plan_rows(plan_of(*args, **keys))]


def series(name, numbers, own=("k",)):
    return "\n".join(f"{name.format(*n) if isinstance(n, tuple) else name.format(n)}/{o}" for n in numbers for o in own)


# Rows ---------------------------------------------------------------------------------------------------------------


def test_a_series_is_one_row():
    mapping = {"r": {"to": r"a(?P<i>\d)", "from": "b{i+3}"}}
    target, source = series("a{}", range(3), ("k", "b")), series("b{}", range(3, 6), ("k", "b"))
    assert shown(target, source, mapping) == [("a{0..2}/*", "b{3..5}/*")]
    (row,) = plan_rows(plan_of(target, source, mapping))
    assert (row.rule, row.weights, row.parameters, row.notes, row.kept) == ("r", 6, 36, "", False)


def test_numbers_with_gaps_that_count_up_together():
    mapping = {"r": {"to": "a.", "from": "b.", "pair": "order"}}
    assert shown(series("a{}", range(3)), series("b{}", (2, 5, 7)), mapping) == [("a{0..2}/k", "b{2,5,7}/k")]


def test_pairs_of_numbers_that_count_up_together():
    grid = [(i, j) for i in (1, 2) for j in (1, 2)]
    mapping = {"r": {"to": r"a(\d)_(\d)", "from": r"b\1/c\2"}}
    assert shown(series("a{}_{}", grid), series("b{}/c{}", grid), mapping) == [
        ("a{1..2}_{1..2}/k", "b{1..2}/c{1..2}/k")
    ]


def test_all_from_one():
    mapping = {"r": {"to": r"a\d", "from": "b1"}}
    assert shown(series("a{}", range(3)), "b1/k", mapping) == [("a{0..2}/k", "b1/k")]


def test_what_does_not_count_up_together_is_shown_one_by_one():
    mapping = {"r": {"to": r"a(?P<i>\d)", "from": "b{2-i}"}}
    assert shown(series("a{}", range(3)), series("b{}", range(3)), mapping) == [
        (f"a{i}/k", f"b{2 - i}/k") for i in range(3)
    ]


def test_several_that_take_one_each_are_shown_together():
    mapping = {"r": {"to": r"a(?P<i>\d)", "from": "b{i//2}"}}
    assert shown(series("a{}", range(4)), series("b{}", range(2)), mapping) == [
        ("a{0..1}/k", "b0/k"),
        ("a{2..3}/k", "b1/k"),
    ]


def test_swapped_numbers_are_not_shown_as_one_series():
    grid = [(i, j) for i in (1, 2) for j in (1, 2)]
    mapping = {"r": {"to": r"a(\d)_(\d)", "from": r"b\2_\1"}}
    assert shown(series("a{}_{}", grid), series("b{}_{}", grid), mapping) == [
        ("a1_{1..2}/k", "b{1..2}_1/k"),
        ("a2_{1..2}/k", "b{1..2}_2/k"),
    ]


def test_own_names_that_change_places_are_shown_one_by_one():
    mapping = {"r": {"to": "a./.", "from": "b./.", "pair": "order"}}
    target, source = "a1/k\n a1/l\n a2/k\n a2/l", "b1/x\n b1/y\n b2/y\n b2/x"
    assert shown(target, source, mapping) == [("a1/{k,l}", "b1/{x,y}"), ("a2/{k,l}", "b2/{y,x}")]
    mapping = {"r": {"to": r"a/(?P<i>\d)", "from": "b/{i//2}"}}
    assert shown("a/0\n a/1\n a/2", "b/0\n b/1", mapping) == [("a/0", "b/0"), ("a/1", "b/0"), ("a/2", "b/1")]


def test_several_sources_must_all_line_up():
    mapping = {"r": {"to": r"a(?P<i>\d)", "from": ["s:b{i}", "t:b{1-i}"], "merge": "mean"}}
    both = series("b{}", range(2))
    assert shown(series("a{}", range(2)), {"s": both, "t": both}, mapping) == [
        ("a0/k", "s:b0/k + t:b1/k"),
        ("a1/k", "s:b1/k + t:b0/k"),
    ]
    mapping["r"]["from"][1] = "t:b{i}"
    assert shown(series("a{}", range(2)), {"s": both, "t": both}, mapping) == [
        ("a{0..1}/k", "s:b{0..1}/k + t:b{0..1}/k")
    ]


def test_kept_weights_say_why():
    mapping = {"null": {"to": "a", "from": None}, "shape": {"to": "b", "on_mismatch": "keep"}}
    plan = plan_of("a/k\n b/k\n c1/k\n c2/k\n w", "b/k 9x9", mapping, unmatched="keep")
    assert [(r.rule, r.target, r.origin, r.kept) for r in plan_rows(plan)] == [
        ("null", "a/k", "kept (values of the file)", True),
        ("shape", "b/k", "kept: shape differs", True),
        ("unmatched", "c{1..2}/k", "kept: no rule", True),
        ("unmatched", "w", "kept: no rule", True),
    ]


def test_notes_tell_series_apart():
    target = structure("a1/k 2x3 float16\n a2/k 2x3 float16\n a3/k 2x3\n a4/k 3x2")
    mapping = {
        "r": {"to": "a[123]"},
        "t": {"to": "a4", "transform": ["transpose"]},
    }
    edits = {"e": {"at": "a2/k", "index": [0, 0], "set": 1}}
    plan = plan_of(target, series("a{}", range(1, 5)), mapping, edit=edits, freeze=["a4"])
    assert [(r.target, r.notes) for r in plan_rows(plan)] == [
        ("a1/k", "float32 -> float16"),
        ("a2/k", "float32 -> float16, edit e"),
        ("a3/k", ""),
        ("a4/k", "transpose, frozen"),
    ]


@pytest.mark.parametrize(
    ("built", "target", "words"),
    [((), None, "values of the file"), (("target",), None, "values of the model")],
)
def test_kept_weights_say_whose_values_they_have(built, target, words):
    plan = plan_of("a/k\n b/k", "b/k", {"r": {"to": "a", "from": None}}, built, unmatched="same_name")
    assert shown("a/k\n b/k", "b/k", {"r": {"to": "a", "from": None}}, built, unmatched="same_name")[1] == (
        "a/k",
        f"kept ({words})",
    )
    assert f"1 kept ({words})" in plan_text(plan, width=120)
    assert plan_from_data(plan.to_data()) == plan


def test_names_that_are_the_same_are_not_repeated():
    mapping = {"r": {"to": "(.*)", "from": r"\1"}}
    assert shown("a/x/k\n a/x/b", "a/x/k\n a/x/b", mapping) == [("a/x/*", "=")]
    both = {"t": "a/x/k\n a/x/b", "s": "other/k"}
    assert shown("a/x/k\n a/x/b", both, {"r": {"to": "a/x", "from": "t:a/x"}}) == [("a/x/*", "t: =")]


def test_names_that_begin_otherwise_are_not_repeated_where_they_are_long():
    layers = [f"encoder_layer_{i}/attention" for i in range(3)]
    target, source = ("\n".join(f"{before}{n}/k" for n in layers) for before in ("bert/", ""))
    mapping = {"r": {"to": "bert/(.*)", "from": r"\1"}}
    assert shown(target, source, mapping) == [("bert/encoder_layer_{0..2}/attention/k", "= without bert/")]
    mapping = {"r": {"to": "(.*)", "from": r"bert/\1"}}
    assert shown(source, target, mapping) == [("encoder_layer_{0..2}/attention/k", "bert/=")]
    assert shown("enc/a/k\n enc/a/b", "a/k\n a/b", {"r": {"to": "enc/(.*)", "from": r"\1"}}) == [("enc/a/*", "a/*")]


def test_a_star_stands_for_all_weights_of_a_layer_and_for_no_fewer():
    mapping = {"r": {"to": "a/(k|b)", "from": r"x/\1"}, "rest": {"to": "a/s", "from": None}}
    assert shown("a/k\n a/b\n a/s", "x/k\n x/b", mapping)[0] == ("a/{k,b}", "x/{k,b}")
    mapping = {"r": {"to": "a", "from": "x"}}
    assert shown("a/k\n a/b", "x/k\n x/b\n x/s", mapping) == [("a/{k,b}", "x/{k,b}")]
    assert shown("a/k\n a/b", "x/k\n x/b", mapping) == [("a/*", "x/*")]


WORDS = st.sampled_from(["conv", "bn", "se", "a", "b"])
LAYER = st.tuples(WORDS, st.integers(0, 3), st.sampled_from(["", "a", "b", "_1", "_2"])).map(
    lambda p: f"{p[0]}{p[1]}{p[2]}"
)
PATH = st.lists(LAYER, min_size=1, max_size=2).map("/".join)
OWN = st.lists(st.sampled_from("kbs"), min_size=1, max_size=3, unique=True)
MODEL = st.dictionaries(PATH, OWN, min_size=1, max_size=24)


@given(MODEL, st.data())
def test_the_rows_expanded_are_the_pairs(model, data):
    # A network, and a source whose names count otherwise, are nested otherwise, or have nothing to do with it.
    way = data.draw(st.sampled_from(["same", "nested", "inside", "counted", "mixed"]))
    names = [f"{layer}/{own}" for layer, owns in model.items() for own in owns]
    theirs = {
        "same": lambda n: n,
        "nested": lambda n: f"net/{n}",
        "inside": lambda n: f"core_{n}",
        "counted": lambda n: re.sub(r"\d", lambda m: str(int(m[0]) + 4), n),
    }.get(way)
    shuffled = data.draw(st.permutations(names))
    source = dict(zip(names, shuffled, strict=True)) if theirs is None else {n: theirs(n) for n in names}
    assignments = tuple(
        Assignment(n, "r", (SourceRef("source", s, (2,), "float32"),), (2,), "float32", "float32")
        for n, s in source.items()
    )
    extra = data.draw(st.lists(st.sampled_from(["net/conv0/z", "conv0/z"]), unique=True))
    known = tuple(SourceWeight("source", name, "used") for name in [*source.values(), *extra])
    plan = Plan("r", "t", {"source": "s"}, assignments, (), known)
    layers, origins = {}, {"": {}}
    for n in names:
        layers.setdefault(n.rpartition("/")[0], []).append(n.rpartition("/")[2])
    for weight in known:
        layer, _, own = weight.name.rpartition("/")
        origins[""].setdefault(layer, set()).add(own)
    ordered = {}  # of a star on both sides, the weights go together by their own names
    for layer, owns in origins[""].items():
        ordered[layer] = sorted(owns, key="kbsz".index)
    ours = {layer: sorted(owns, key="kbsz".index) for layer, owns in layers.items()}
    rows = plan_rows(plan)
    assert sorted(p for row in rows for p in pairs_of(row, ours, {"": ordered})) == sorted(source.items())
    assert sum(row.weights for row in rows) == len(names)
    for width in (60, 80, 120):
        lines = plan_text(plan, width=width).splitlines()
        assert max(map(len, lines)) <= width


def test_the_checksum_does_not_depend_on_whose_values_are_kept():
    plan = plan_of("a/k\n b/k", "b/k", {"r": {"to": "a", "from": None}}, unmatched="same_name")
    assert replace(plan, kept_values="initial").checksum == plan.checksum


# Text ---------------------------------------------------------------------------------------------------------------

MAPPING = {"[bold]r": {"to": "a"}}


def test_the_text_ends_with_the_checksum_and_has_no_spaces_at_line_ends():
    plan = plan_of("a/k", "a/k", MAPPING)
    text = plan_text(plan)
    assert text.splitlines()[-1] == f"plan {plan.checksum}"
    assert all(line == line.rstrip() for line in text.splitlines())
    assert "[bold]r" in text
    assert "\x1b" not in text


def test_colour_only_where_it_is_asked_for():
    plan = plan_of("a/k", "a/k", MAPPING)
    coloured = plan_text(plan, colour=True)
    assert "\x1b[1m" in coloured


def test_narrow_terminals_fold_names_and_cut_nothing():
    name = "/".join(["a_long_layer_name"] * 6)
    weight = f"{name}/k 1234x1000"
    text = plan_text(plan_of(weight, weight, unmatched="same_name"), width=60)
    assert max(map(len, text.splitlines())) <= 60
    assert "1,234,000" in text
    assert "…" not in text


def test_names_cannot_command_the_terminal():
    weights = catalog_of([WeightSpec("a\x1b]0;owned\x07/k\n", (1,), "float32")])
    plan = plan_of(structure(weights), None, unmatched="keep")
    for colour in (False, True):
        text = plan_text(plan, colour=colour)
        assert "\x1b]" not in text
        assert "\x07" not in text
        assert r"a\x1b]0;owned\x07/k\n" in text


@pytest.mark.parametrize(
    ("name", "expected"), [("слой/λ é", "слой/λ é"), ("a\tb\r", r"a\tb\r"), ("\u202e", r"\u202e"), ("a\\b", "a\\b")]
)
def test_what_is_visible(name, expected):
    assert visible(name) == expected


# HTML ---------------------------------------------------------------------------------------------------------------


def test_html_has_the_same_and_escapes_it():
    plan = plan_of("a/k\n b/<script>", "a/k\n more", MAPPING, unmatched="keep")
    page = plan_html(plan)
    assert "<td>b/&lt;script&gt;</td>" in page
    assert "<script>" not in page
    assert "<td>[bold]r</td><td>a/k</td><td>=</td><td>1</td><td>6</td><td></td>" in page
    assert f"<div>plan {plan.checksum}</div>" in page
    assert "<li>[unused] 1 source weight is not used: more</li>" in page
    assert "<div>2 target weights: 1 assigned, 1 kept (values of the file)</div>" in page


def test_rules_that_are_called_as_their_weights_fold_as_one():
    """So are those of a recipe that runs backwards, each of which writes one tensor."""
    names = [f"layer{k}.{own}" for k in range(4) for own in ("weight", "bias")]
    target = "\n".join(name.replace(".", "/") + " 4" for name in names)
    rules = {n.replace(".", "/"): {"to": n.replace(".", "/"), "from": f"net/{n.replace('.', '/')}"} for n in names}
    plan = plan_of(target, target.replace("layer", "net/layer"), rules)
    assert [(r.rule, r.target, r.origin) for r in plan_rows(plan)] == [
        ("layer{0..3}/*", "layer{0..3}/*", "net/layer{0..3}/*")
    ]
    for width in (80, 120, 200):
        lines = plan_text(plan, width=width).splitlines()
        assert sum("layer{" in line for line in lines) == 1
        assert not any(line.startswith("rule") for line in lines)
