"""Whatever the names and the rules: either a recipe is refused, or every weight has exactly one fate."""

from collections import Counter

from compact import catalog, plan_of, structure
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from transferpipe.errors import RecipeError
from transferpipe.recipe.patterns import Pattern

unhurried = settings(max_examples=2 * settings().max_examples, suppress_health_check=[HealthCheck.too_slow])

SEGMENTS = ["a", "b", "c1", "c2"]
OWN = ["kernel", "bias", "0", "1"]
# Mostly alike, so that plans come about; the rest is refused, or kept by on_mismatch.
SHAPES = ["2x2"] * 8 + ["2x3", "3"]
DTYPES = ["float32"] * 8 + ["float16", "int8"]
PATTERNS = ["{}", "{}/.*", "{}/(.)/.*", r"{}(/c(?P<i>\d))?", "({})/(kernel|bias)", "{}/.*/bias", "{}.*"]
ANYWHERE = [".*", ".*/c1", ".*/bias", "(a|b)/.*"]
TEMPLATES = [r"\0", r"\0", r"\0", "", "{}", "c1", r"b/\0"]

names = st.builds(
    lambda layers, own: "/".join([*layers, own]), st.lists(st.sampled_from(SEGMENTS), max_size=3), st.sampled_from(OWN)
)
weights = st.builds(" ".join, st.tuples(names, st.sampled_from(SHAPES), st.sampled_from(DTYPES)))
catalogs = st.lists(weights, min_size=4, max_size=10, unique_by=lambda w: w.split()[0]).map("\n".join)
anywhere = st.sampled_from(ANYWHERE)


@st.composite
def rules(draw, layer, aliases):
    """Draw a rule for what lies below `layer`, so that most rules are disjoint."""
    inside = st.sampled_from(PATTERNS).map(lambda p: p.replace("{}", layer))
    alias = f"{draw(st.sampled_from(aliases))}:"
    rule = {"to": draw(st.one_of(inside, inside, inside, anywhere)), "optional": draw(st.integers(0, 9)) > 0}
    if draw(st.integers(0, 3)) == 0:
        rule |= {"from": None}
    elif draw(st.integers(0, 3)) == 0:
        rule |= {"pair": "order", "from": alias + draw(st.one_of(st.just(rule["to"]), inside))}
    else:
        rule |= {"from": alias + draw(st.sampled_from(TEMPLATES)).replace("{}", layer)}
        rule |= {"on_mismatch": draw(st.sampled_from(["keep", "error"]))}
    if draw(st.integers(0, 4)) == 0 and rule["from"] is not None and "pair" not in rule:
        rule |= {"from": [rule["from"], rule["from"]], "merge": "mean"}
    if draw(st.booleans()):
        rule["except"] = draw(st.lists(st.one_of(anywhere, inside), min_size=1, max_size=2))
    return rule


@st.composite
def recipes(draw):
    """Draw a target, its sources and a mapping; most sources resemble the target."""
    target = draw(catalogs)
    alike = st.one_of(*[st.just(target)] * 4, catalogs)
    sources = {alias: draw(alike) for alias in draw(st.sampled_from([["s"], ["s", "t"]]))}
    layers = draw(st.lists(st.sampled_from(SEGMENTS), max_size=3, unique=True))
    keys = {
        "unmatched": draw(st.sampled_from(["keep", "keep", "same_name_or_keep", "same_name", "error"])),
        "ignore": draw(st.lists(anywhere, max_size=2)),
        "freeze": draw(st.lists(anywhere, max_size=1)) if draw(st.integers(0, 5)) == 0 else [],
    }
    return target, sources, {f"r_{layer}": draw(rules(layer, list(sources))) for layer in layers}, keys


def outcome(target, sources, mapping, keys):
    try:
        return plan_of(target, sources, mapping, **keys)
    except RecipeError as error:
        return Counter(error.problems)


@unhurried
@given(recipes())
def test_every_weight_has_exactly_one_fate(recipe):
    target, sources, mapping, _ = recipe
    plan = outcome(*recipe)
    if isinstance(plan, Counter):
        event("refused")
        assert plan
        return
    event("planned, something assigned" if plan.assignments else "planned, nothing assigned")
    ours = [w.name for w in catalog(target)]
    assigned, kept = [a.target for a in plan.assignments], [k.target for k in plan.kept]
    assert sorted(assigned + kept) == sorted(ours)
    assert assigned == [n for n in ours if n in set(assigned)]
    assert kept == [n for n in ours if n in set(kept)]
    theirs = {alias: [w.name for w in catalog(text)] for alias, text in sources.items()}
    assert [(w.source, w.name) for w in plan.source_weights] == [(a, n) for a in sorted(theirs) for n in theirs[a]]
    used = {(r.source, r.name) for a in plan.assignments for r in a.sources}
    assert used == {(w.source, w.name) for w in plan.source_weights if w.fate == "used"}
    for entry in (*plan.assignments, *plan.kept):
        assert entry.rule == "unmatched" or _claims(mapping[entry.rule], entry.target)
        assert (entry.rule == "unmatched") == (not any(_claims(rule, entry.target) for rule in mapping.values()))
    for a in plan.assignments:
        assert (a.shape, a.dtype) == (catalog(target)[a.target].shape, catalog(target)[a.target].dtype)
        for ref in a.sources:
            there = catalog(sources[ref.source])[ref.name]
            assert (ref.shape, ref.dtype) == (there.shape, there.dtype)


def _claims(rule, name):
    def matches(pattern):
        parts = name.split("/")
        return any(Pattern(pattern).match("/".join(parts[:i])) for i in range(1, len(parts) + 1))

    return matches(rule["to"]) and not any(matches(p) for p in rule.get("except", ()))


@unhurried
@given(recipes(), st.randoms(use_true_random=False))
def test_the_order_of_rules_sources_and_patterns_means_nothing(recipe, random):
    target, sources, mapping, keys = recipe

    def shuffled(items):
        items = list(items)
        random.shuffle(items)
        return items

    one = outcome(*recipe)
    keys = {**keys, "ignore": shuffled(keys["ignore"]), "freeze": shuffled(keys["freeze"])}
    other = outcome(target, dict(shuffled(sources.items())), dict(shuffled(mapping.items())), keys)
    assert type(one) is type(other)
    if not isinstance(one, Counter):
        assert one == other
        assert one.checksum == other.checksum


@unhurried
@given(catalogs, catalogs, st.sampled_from(["same_name", "same_name_or_keep"]))
def test_a_plan_without_rules_pairs_equal_names_only(target, source, unmatched):
    try:
        plan = plan_of(structure(target), source, unmatched=unmatched)
    except RecipeError:
        return
    for a in plan.assignments:
        (ref,) = a.sources
        assert ref.name == a.target or (ref.name.rpartition("/")[2].isdigit() and ref.shape == a.shape)
