"""Rows of other classes and tokens: what both have is copied, what is new is what its method says, by NumPy."""

import json

import numpy as np
import pytest
import yaml

from transferpipe.planning.transforms import NO_GOAL, Goal, TransformError, apply_chain, infer, parse_transform
from transferpipe.planning.transforms.resizing.vocabulary import split_token

follows = pytest.mark.follows
RANDOM = np.random.default_rng(2)
OLD, NEW = ["cat", "dog", "owl", "ant", "##s"], ["owl", "cats", "cat", "zzz", "ant", "catdog"]
ROWS = RANDOM.normal(size=(5, 3)).astype("float32")
KNOWN = {0: 2, 2: 0, 4: 3}  # of NEW, the places in OLD


@pytest.fixture
def files(tmp_path):
    """Return the paths of the two lists."""
    (tmp_path / "old.txt").write_text("\n".join(OLD))
    (tmp_path / "new.json").write_text(json.dumps(NEW))
    return {"from": str(tmp_path / "old.txt"), "to": str(tmp_path / "new.json")}


def take(name, arguments, array, goal=NO_GOAL):
    """Return what the transform called `name` makes of an array, having planned it."""
    step = parse_transform({name: arguments} if arguments is not None else name)
    shape, dtype = infer([step], [array.shape], [array.dtype.name], goal)
    found = apply_chain([step], [array], goal)
    assert (found.shape, found.dtype.name) == (shape, dtype)
    return found


def check(found, new, known=KNOWN):
    """Check the rows that both have, and return whether the others are `new`."""
    assert all(np.array_equal(found[at], ROWS[old]) for at, old in known.items())
    for at, row in new.items():
        np.testing.assert_allclose(found[at], row, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["class_names", "vocabulary"])
def test_what_both_lists_have_is_copied_and_the_rest_is_mean_or_zero(files, name):
    mean = ROWS.mean(0)
    check(take(name, files, ROWS), {1: mean, 3: mean, 5: mean})
    check(take(name, {**files, "new": "zero"}, ROWS), {1: 0, 3: 0, 5: 0})


def test_an_output_and_its_bias_follow_with_the_same_words(files):
    expected = take("vocabulary", files, ROWS)
    np.testing.assert_array_equal(take("vocabulary", files, ROWS.T.copy()), expected.T)
    np.testing.assert_array_equal(take("vocabulary", files, ROWS[:, 0].copy()), expected[:, 0])


def test_sub_tokens_are_the_mean_of_the_pieces(files):
    cat, dog, s = ROWS[0], ROWS[1], ROWS[4]
    check(
        take("vocabulary", {**files, "new": "sub_tokens"}, ROWS),
        {1: (cat + s) / 2, 3: ROWS.mean(0), 5: (cat + dog) / 2},
    )


def test_sub_tokens_need_no_token_that_both_lists_have(files, tmp_path):
    """Where all new ones are compounds; with nothing of the source in them, or by another way, nothing is known."""
    other = {**files, "to": str(tmp_path / "other.json"), "axis": 0}
    (tmp_path / "other.json").write_text(json.dumps(["dogcat", "owls", "zzz"]))
    cat, dog, owl, _, s = ROWS
    found = take("vocabulary", {**other, "new": "sub_tokens"}, ROWS)
    np.testing.assert_allclose(found, [(dog + cat) / 2, (owl + s) / 2, ROWS.mean(0)], rtol=1e-6)
    pinned = parse_transform({"vocabulary": {**other, "new": "sub_tokens"}}).pinned()
    assert pinned["vocabulary"]["common"] == 0
    assert np.array_equal(take("vocabulary", pinned["vocabulary"], ROWS), found)
    for new, tokens in (("mean", ["dogcat"]), ("sub_tokens", ["ZZZ", "Y"])):
        (tmp_path / "other.json").write_text(json.dumps(tokens))
        with pytest.raises(TransformError, match="have no name in common"):
            take("vocabulary", {**other, "new": new}, ROWS)


@pytest.mark.parametrize(
    ("token", "pieces"),
    [
        ("cats", ["cat", "##s"]),
        ("##cats", ["##cat", "##s"]),
        ("Ġcat", ["Ġ", "##cat"]),
        ("xcatx", ["##cat"]),
        ("cc", ["c", "c"]),
        ("xyz", []),
    ],
)
def test_pieces_are_the_longest_that_match_and_go_on_as_wordpiece_marks_them(token, pieces):
    known = ["c", "cat", "##cat", "##s", "Ġ"]
    found = split_token(token, {name: i for i, name in enumerate(known)}, 5)
    assert [known[i] for i in found] == pieces


def test_drawn_rows_have_the_statistics_of_the_source_and_the_seed_decides_them(files):
    rows = (RANDOM.normal(size=(400, 2)) * [2, 0.1] + [5, -1]).astype("float32")
    goal = Goal((4400, 2), "emb/embeddings", 3)
    found = take("classes", {"new": "draw", "axis": 0}, rows, goal)
    assert np.array_equal(found[:400], rows)
    np.testing.assert_allclose(found[400:].mean(0), rows.mean(0), atol=0.15)
    np.testing.assert_allclose(found[400:].std(0), rows.std(0), rtol=0.05)
    assert np.array_equal(found, take("classes", {"new": "draw", "axis": 0}, rows, goal))
    for other in (Goal(goal.shape, goal.name, 4), Goal(goal.shape, "another", 3)):
        assert not np.array_equal(found, take("classes", {"new": "draw", "axis": 0}, rows, other))


def test_classes_by_index_or_with_those_of_the_target():
    head = ROWS.T.copy()
    np.testing.assert_array_equal(take("classes", {"indices": [4, 0]}, head), head[:, [4, 0]])
    np.testing.assert_array_equal(take("classes", None, head, Goal((3, 2))), head[:, :2])
    np.testing.assert_allclose(
        take("classes", None, head, Goal((3, 7)))[:, 5:], np.repeat(head.mean(1, keepdims=True), 2, 1), rtol=1e-6
    )


def test_the_same_names_in_another_order_are_a_permutation(tmp_path):
    for name, names in (("a.txt", OLD), ("b.txt", OLD[::-1])):
        (tmp_path / name).write_text("\n".join(names))
    arguments = {"from": str(tmp_path / "a.txt"), "to": str(tmp_path / "b.txt")}
    there = take("class_names", arguments, ROWS)
    np.testing.assert_array_equal(there, ROWS[::-1])
    back = {"from": arguments["to"], "to": arguments["from"]}
    np.testing.assert_array_equal(take("class_names", back, there), ROWS)


def test_rows_before_and_behind_the_tokens(files):
    table = np.concatenate([[[9, 9, 9]], ROWS, [[7, 7, 7]]]).astype("float32")
    found = take("vocabulary", {**files, "reserved": 1, "new": "zero"}, table[:6])
    assert found.shape == (7, 3)
    assert np.array_equal(found[0], table[0])
    check(found[1:], {1: 0, 3: 0, 5: 0})
    padded = {**files, "reserved": 1, "padded": True, "axis": 0, "new": "zero"}
    found = take("vocabulary", padded, table, Goal((10, 3)))
    check(found[1:], {1: 0, 3: 0, 5: 0, 6: 0, 7: 0, 8: 0})


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_means_are_rounded_once(files, dtype):
    from transferpipe.weights.spec import numpy_dtype

    rows = ROWS.astype(numpy_dtype(dtype))
    mean = rows.astype("float64").mean(0).astype(rows.dtype)
    np.testing.assert_array_equal(take("class_names", files, rows)[1], mean)


def test_a_plan_holds_the_digests_and_what_is_in_common(files):
    import hashlib
    from pathlib import Path

    pinned = parse_transform({"vocabulary": {**files, "new": "sub_tokens", "reserved": 2}}).pinned()
    held = {
        k: {"path": files[k], "sha256": hashlib.sha256(Path(files[k]).read_bytes()).hexdigest()} for k in ("from", "to")
    }
    assert pinned == {"vocabulary": {**held, "new": "sub_tokens", "reserved": 2, "common": 3}}
    again = parse_transform(pinned)
    assert again.pinned() == pinned
    assert str(again) == "vocabulary(old.txt -> new.json: 3 in common, new=sub_tokens, reserved=2)"


def written(fix):
    return next(iter(yaml.safe_load(fix.removeprefix("write ")).values()))


SQUARE = RANDOM.normal(size=(5, 5)).astype("float32")
LONG = np.concatenate([ROWS[:1], ROWS])
# The key of the hint, the transform, what is wrong, the array, what is written as the hint says (with another array).
CASES = [
    ("VocabularyRows._wrong_size: give the list of", "vocabulary", {}, ROWS[:2],
     lambda fix: ({}, ROWS if "this very source" in fix else None), lambda found: found.shape == (6, 3)),
    ("NamedRows._find_axis: write axis: … for", "vocabulary", {}, SQUARE,
     lambda fix: ({"axis": int(fix.split()[2])}, SQUARE), lambda found: np.array_equal(found[0], SQUARE[2])),
    ("NamedRows._wrong_size: give the list of", "class_names", {}, LONG,
     lambda fix: ({}, ROWS if "this very source" in fix else None), lambda found: found.shape == (6, 3)),
    ("NamedRows._wrong_size: give the list of", "class_names", {"axis": 1}, ROWS,
     lambda fix: ({"axis": 0}, ROWS), lambda found: found.shape == (6, 3)),
    ("VocabularyRows._wrong_size: write reserved: …… if", "vocabulary", {}, LONG,
     lambda fix: ({"reserved": int(fix.split("reserved: ")[1].split()[0])}, LONG), lambda found: found.shape == (7, 3)),
    ("VocabularyRows._find_padded_axis: write axis: 0 for", "vocabulary", {"padded": True, "size": 6}, LONG,
     lambda fix: ({"padded": True, "size": 6, "axis": int(fix.split()[2])}, LONG), lambda found: found.shape == (6, 3)),
    ("VocabularyRows._find_padded_axis: give the list of", "vocabulary", {"padded": True, "size": 6, "axis": 0}, ROWS[:3],
     lambda fix: ({"padded": True, "size": 6, "axis": 0}, ROWS), lambda found: found.shape == (6, 3)),
    ("VocabularyRows.rows: give the list of", "vocabulary", {"padded": True, "size": 4, "axis": 0}, ROWS,
     lambda fix: ({"padded": True, "size": 6, "axis": 0}, ROWS), lambda found: found.shape == (6, 3)),
    ("parse_new: write one of …", "class_names", {"new": "average"}, ROWS,
     lambda fix: ({"new": fix.split()[3].rstrip(",")}, ROWS), lambda found: np.allclose(found[1], ROWS.mean(0))),
    ("VocabularyRows.parse: reserved is a count", "vocabulary", {"padded": "yes"}, ROWS,
     lambda fix: ({"reserved": 0, "padded": fix.split()[-1] == "true"}, ROWS), lambda found: found.shape == (6, 3)),
    ("Rows.dtype: put a cast before", "class_names", {}, ROWS.astype("int8"),
     lambda fix: (written("write {a: {" + fix.split("write ")[1] + "}}"), ROWS.astype("int8")), lambda found: found[1].any() == 0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "wrong", "array", "right", "holds"), [
    pytest.param(*case[1:], marks=follows(case[0]), id=case[0]) for case in CASES
])  # fmt: skip
def test_lists_that_do_not_belong_are_refused_with_what_to_write(files, name, wrong, array, right, holds):
    with pytest.raises(TransformError) as caught:
        take(name, {**files, **wrong}, array)
    more, other = right(caught.value.fix)
    assert holds(take(name, {**files, **more}, other))


@pytest.mark.parametrize(("key", "wrong", "right"), [
    ("Classes.rows: use the indices of", {"indices": [0, 9]}, lambda fix: {"indices": [0, None if "null for a new" in fix else 9]}),
    ("Classes.__post_init__: list every class of", {"indices": []}, lambda fix: yaml.safe_load(fix.split("out: ")[1])["classes"]),
    ("Classes.__post_init__: list every class of", {"size": 0}, lambda fix: yaml.safe_load(fix.split("out: ")[1])["classes"]),
])  # fmt: skip
def test_classes_that_are_none_are_refused_with_what_to_write(key, wrong, right):
    with pytest.raises(TransformError) as caught:
        take("classes", wrong, ROWS.T)
    found = take("classes", right(caught.value.fix), ROWS.T)
    assert np.array_equal(found[:, 0], ROWS[0])
    assert np.allclose(found[:, -1], ROWS.mean(0))


@follows("NamedRows._common: give two lists that")
def test_lists_without_a_name_in_common_are_refused(files, tmp_path):
    (tmp_path / "other.txt").write_text("Cat\nDog\n")
    with pytest.raises(
        TransformError, match=r"have no name in common; they begin with 'cat' and 'Cat' -> give two lists that spell"
    ):
        take("class_names", {**files, "to": str(tmp_path / "other.txt")}, ROWS)
    (tmp_path / "other.txt").write_text("cat\ndog\n")
    assert np.array_equal(take("class_names", {**files, "to": str(tmp_path / "other.txt")}, ROWS), ROWS[:2])


@follows("NamedRows.pinned: write common: …, or")
def test_a_count_in_common_that_differs_is_refused(files):
    with pytest.raises(TransformError) as caught:
        parse_transform({"class_names": {**files, "common": 2}}).pinned()
    right = yaml.safe_load("{" + caught.value.fix.removeprefix("write ").split(", or")[0] + "}")
    assert parse_transform({"class_names": {**files, **right}}).pinned()["class_names"]["common"] == 3


@follows("_parse_file: write …")
def test_files_are_paths_or_pinned_paths(files):
    with pytest.raises(TransformError) as caught:
        parse_transform({"vocabulary": {"from": 3, "to": "b.txt"}})
    assert set(written(caught.value.fix)) >= {"from", "to"}
    assert parse_transform({"vocabulary": {"from": {"path": files["from"], "sha256": None}, "to": files["to"]}})


@follows("Rows.shape: write new: zero")
def test_nothing_has_no_mean():
    empty = np.zeros((3, 0), "float32")
    with pytest.raises(TransformError, match="axis 1 of \\(3, 0\\) is empty -> write new: zero"):
        take("classes", None, empty, Goal((3, 2)))
    assert not take("classes", {"new": "zero"}, empty, Goal((3, 2))).any()
