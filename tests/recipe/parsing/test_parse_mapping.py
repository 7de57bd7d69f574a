"""Sources and mapping rules, as written and as read."""

import pytest
from recipe_data import SMALL, TWO, one_problem, parse, with_rule

from transferpipe.errors import Problems
from transferpipe.recipe.model import From, Ignore
from transferpipe.recipe.parsing.recipe import parse_recipe
from transferpipe.recipe.patterns import Pattern
from transferpipe.recipe.templates import Template

# Sources and targets --------------------------------------------------------------------------------------------------


def test_a_target_is_required():
    expected = "target: a target is required -> give `_target_:` of a builder, or `path:` of a saved model"
    assert one_problem({"source": "a.h5"}) == one_problem({"source": "a.h5", "target": None}) == expected


def test_source_and_sources():
    assert one_problem({**SMALL, "sources": {"a": "x"}}) == (
        "sources: `source` and `sources` are both given -> keep one of them"
    )
    assert list(parse(TWO).sources) == ["teacher", "student"]


def test_path_and_builder():
    data = {**SMALL, "target": {"path": "a.keras", "_target_": "my.build"}}
    assert one_problem(data) == "target: `path` and `_target_` are both given -> keep one of them"


@pytest.mark.parametrize("origin", [{}, {"path": None}, {"path": ""}, {"format": "npz"}])
def test_neither_path_nor_builder(origin):
    expected = "target.path: neither `path:` nor `_target_:` is given -> name a file or a builder"
    assert one_problem({**SMALL, "target": origin}) == expected


@pytest.mark.parametrize("alias", ["target", "a:b", "", "a b", "-x"])
def test_what_cannot_name_a_source(alias):
    text = one_problem({"sources": {alias: "x.h5"}, "target": "b.keras"})
    assert text == f"sources.{alias}: {alias!r} cannot be a source's name -> use letters, digits and _ - ."


def test_a_source_is_needed_only_by_what_takes_from_one():
    expected = "takes weights from one -> give `path:` or `_target_:`"
    data = {"target": "b.keras", "mapping": {"k": {"to": "b", "from": None}, "r": {"to": "a"}}}
    assert one_problem(data) == f"source: a source is required: mapping.r {expected}"
    for unmatched in ("same_name", "same_name_or_keep"):
        text = one_problem({"target": "b.keras", "unmatched": unmatched})
        assert text == f"source: a source is required: unmatched {expected}"
    assert parse({"target": "b.keras", "unmatched": "keep", "mapping": {"r": {"to": "a", "from": None}}}).sources == {}


def test_several_sources_need_a_prefix():
    missing = "mapping.r.from: 'a' does not say which source -> write one of teacher:..., student:..."
    assert one_problem(with_rule({"to": "a", "from": "a"}, TWO)) == missing
    text = one_problem(with_rule({"to": "a"}, TWO))
    assert text.startswith("mapping.r.from: '\\\\0' does not say which source")
    text = one_problem(with_rule({"to": "a", "pair": "order"}, TWO))
    assert text.startswith("mapping.r.from: 'a' does not say which source")
    (rule,) = parse(with_rule({"to": "(a)", "from": [r"teacher:\1", "student:x:y"]}, TWO)).rules
    assert [(f.source, f.text) for f in rule.froms] == [("teacher", r"\1"), ("student", "x:y")]


def test_one_source_needs_none():
    for data, alias in ((SMALL, "source"), ({"sources": {"only": "a.h5"}, "target": "b.keras"}, "only")):
        rules = {"plain": {"to": "a", "from": "x"}, "prefixed": {"to": "b", "from": f"{alias}:x"}}
        rules["other"] = {"to": "c", "from": "elsewhere:x"}
        found = [r.froms[0] for r in parse({**data, "mapping": rules}).rules]
        assert [(f.source, f.text) for f in found] == [(alias, "x"), (alias, "x"), (alias, "elsewhere:x")]


def test_a_source_that_is_wrong_still_counts_for_prefixes():
    data = with_rule({"to": "a", "from": "teacher:a"}, {**TWO, "sources": {**TWO["sources"], "teacher": 3}})
    assert one_problem(data) == "sources.teacher: must be a path or a mapping, not integer 3"


def test_ignore_of_one_source_or_of_all():
    recipe = parse({**TWO, "ignore": ["teacher:a", "b"]})
    assert recipe.ignore == (Ignore("teacher", Pattern("a")), Ignore(None, Pattern("b")))


# Rules ----------------------------------------------------------------------------------------------------------------


def test_from_left_out_is_the_same_name():
    by_name, by_order = parse({**SMALL, "mapping": {"a": {"to": "x.*"}, "b": {"to": "y.*", "pair": "order"}}}).rules
    assert by_name.froms == (From("source", r"\0", template=Template(r"\0")),)
    assert by_order.froms == (From("source", "y.*", pattern=Pattern("y.*")),)
    assert not by_name.keep


def test_a_rule_set_to_null_is_switched_off():
    assert [r.name for r in parse({**SMALL, "mapping": {"a": None, "b": {"to": "x"}}}).rules] == ["b"]


def test_a_rule_without_to():
    assert one_problem(with_rule({"from": "a"})) == "mapping.r.to: a pattern over target names is required"


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"to": "("}, "mapping.r.to: '(' is not a regular expression: missing )"),
        ({"to": "a(?!b)"}, "mapping.r.to: 'a(?!b)' uses lookaround, which RE2 does not have; take names out with"),
        ({"to": "a", "except": ["b", "(?<=c)"]}, "mapping.r.except: '(?<=c)' uses lookaround"),
        ({"to": "a", "from": "(", "pair": "order"}, "mapping.r.from: '(' is not a regular expression"),
        ({"to": "a", "from": "{i"}, "mapping.r.from: '{i' has an unpaired brace"),
        ({"to": "a", "from": "{i/1}"}, "mapping.r.from: {i/1} may use only named groups, integers and + - * // %"),
        (
            {"to": r"(?P<i>\d)(a)", "from": r"\3\g<j>{k+1}"},
            r"mapping.r.from: '\\3\\g<j>{k+1}' uses \3, \g<j>, {k}, but `to: (?P<i>\d)(a)` has 2 group(s) and the names"
            " i -> add the group to `to`",
        ),
        ({"to": "a", "from": r"\1"}, r"mapping.r.from: '\\1' uses \1, but `to: a` has 0 group(s) -> add the group"),
        ({"to": "a", "from": ["a", "b"], "pair": "order"}, "mapping.r.from: takes one pattern with `pair: order`, not"),
        ({"to": "a", "pair": "order", "on_mismatch": "keep"}, "mapping.r.on_mismatch: cannot be keep with `pair:"),
        ({"to": "a", "from": None, "merge": "mean"}, "mapping.r.merge: has nothing to work on: `from` is null"),
        ({"to": "a", "from": None, "transform": ["transpose"]}, "mapping.r.transform: has nothing to work on: `from`"),
    ],
)
def test_what_is_wrong_with_a_rule(rule, text):
    assert one_problem(with_rule(rule)).startswith(text)


def test_names_of_rules():
    assert one_problem({**SMALL, "mapping": {"unmatched": {"to": "a"}}}) == (
        "mapping.unmatched: is reserved for the weights without a rule -> choose another name"
    )
    text = one_problem({**SMALL, "mapping": {1: {"to": "a"}, "1": {"to": "b"}}})
    assert text == "mapping.1: names two rules -> choose another name"
    assert parse({**SMALL, "mapping": {1: {"to": "a"}}}).rules[0].name == "1"


def test_every_rule_that_could_be_read_is_checked():
    seen = []
    data = {**SMALL, "mapping": {"a": {"to": "x"}, "off": None, "b": {"to": "y"}}}
    parse_recipe(data, lambda rule, found: seen.append((rule.name, isinstance(found, Problems))))
    assert seen == [("a", True), ("b", True)]
