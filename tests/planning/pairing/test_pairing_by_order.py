"""``pair: order``: the k-th match of the target takes the k-th match of the source."""

from compact import pairs, plan_of, problems_of

TARGET = "first/kernel 2x3\n first/bias 3\n second/kernel 3x4\n second/bias 4"
SOURCE = "dense_7/kernel 2x3\n dense_7/bias 3\n dense_9/kernel 3x4\n dense_9/bias 4"


def order(to, pattern=None, **keys):
    return {"r": {"to": to, "pair": "order", **({"from": pattern} if pattern else {}), **keys}}


def disagreements(plan):
    return [w.text for w in plan.warnings if w.code == "names-disagree"]


def test_the_kth_takes_the_kth():
    plan = plan_of(TARGET, SOURCE, order("first|second", "dense_.*"))
    assert list(pairs(plan).values()) == ["dense_7/kernel", "dense_7/bias", "dense_9/kernel", "dense_9/bias"]
    assert disagreements(plan) == []


def test_the_order_is_that_of_the_catalogs_not_of_the_names():
    source = "dense_9/kernel 2x3\n dense_9/bias 3\n dense_7/kernel 3x4\n dense_7/bias 4"
    assert pairs(plan_of(TARGET, source, order("first|second", "dense_.*")))["first/kernel"] == "dense_9/kernel"


def test_inside_a_pair_names_count_before_order():
    plan = plan_of("a/kernel 2x2\n a/bias 2", "b/bias 2\n b/kernel 2x2", order("a", "b"))
    assert pairs(plan) == {"a/kernel": "b/kernel", "a/bias": "b/bias"}


def test_single_weights():
    plan = plan_of(TARGET, SOURCE, order(".*/kernel", "dense.*/kernel"), unmatched="keep")
    assert pairs(plan) == {"first/kernel": "dense_7/kernel", "second/kernel": "dense_9/kernel"}


def test_from_left_out_is_the_same_pattern():
    assert len(pairs(plan_of(TARGET, TARGET, order("first|second")))) == 4


def test_a_layer_with_a_weight():
    plan = plan_of("a/kernel", "k", order("a", "k"))
    assert pairs(plan) == {"a/kernel": "k"}
    assert disagreements(plan) == ["by order, a/kernel takes k: the names disagree"]


def test_several_sources():
    plan = plan_of(TARGET, {"s": SOURCE, "t": "x"}, order("first|second", "s:dense_.*"))
    assert pairs(plan)["second/bias"] == "s:dense_9/bias"


def test_transforms_apply():
    plan = plan_of("a/kernel 3x2", "b/kernel 2x3", order("a", "b", transform=["transpose"]))
    assert plan.assignments[0].transforms == ("transpose",)


def test_counts_must_agree():
    (text,) = problems_of(TARGET, SOURCE, order("first", "dense_.*"), unmatched="keep")
    assert text == (
        "mapping.r: `pair: order` needs equally many on both sides: `to` matches 1 ('first'), `from` matches 2"
        " ('dense_7', 'dense_9') -> let `from` match fewer"
    )
    (text,) = problems_of(TARGET, SOURCE, order("first|second", "conv.*"))
    assert "`to` matches 2 ('first', 'second'), `from` matches 0 (nothing)" in text
    (text,) = problems_of("\n".join(f"l{i}/k" for i in range(9)), SOURCE, order("l.", "dense_.*"))
    assert "`to` matches 9 ('l0', 'l1', 'l2' and 6 more)" in text


def test_counts_within_a_pair_must_agree():
    (text,) = problems_of("a/kernel\n a/bias 3", "b/kernel", order("a", "b"))
    assert text == (
        "mapping.r: a holds 2 weights ('kernel', 'bias'), its partner b holds 1 ('kernel') -> pair them by name"
    )


def test_shapes_must_agree():
    (text,) = problems_of("a/kernel 2x3", "b/kernel 2x4", order("a", "b"))
    assert (
        text == "mapping.r: a/kernel has shape (2, 3), b/kernel gives (2, 4) -> correct the mapping, or add a transform"
    )


def test_own_names_that_disagree_are_a_warning():
    plan = plan_of("n/gamma 4\n n/beta 4", "m/scale 4\n m/offset 4", order("n", "m"))
    assert pairs(plan) == {"n/gamma": "m/scale", "n/beta": "m/offset"}
    assert disagreements(plan) == [
        "by order, n/gamma takes m/scale; n/beta takes m/offset: the names disagree",
    ]
    assert [w.where for w in plan.warnings if w.code == "names-disagree"] == ["mapping.r"]


def test_layers_that_both_sides_know_crossed_are_a_warning():
    plan = plan_of("a/kernel\n b/kernel", "b/kernel\n a/kernel", order("a|b", "a|b"))
    assert pairs(plan) == {"a/kernel": "b/kernel", "b/kernel": "a/kernel"}
    assert disagreements(plan) == [
        "by order, a takes b, b takes a: their names pair them the other way round, and the shapes agree. If this is"
        " not intended, pair these layers by name: a from a, b from b"
    ]
