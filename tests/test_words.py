"""The words of the code: one name for one thing, and none that says nothing."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator

import pytest
from syntax import PACKAGE, trees

# A name made of one of these says that something is done, and not what.
EMPTY_WORDS = {"manager", "handler", "helper", "helpers", "util", "utils", "misc", "common"}
# What is called while something goes on, by its type.
CALLBACKS = {"Progress": "on_progress", "OnResult": "on_result"}


def classes() -> Iterator[tuple[str, str]]:
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                yield node.name, f"{path.relative_to(PACKAGE)}:{node.lineno}"


def parameters() -> Iterator[tuple[ast.arg, str]]:
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                arguments = node.args
                for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
                    yield argument, f"{path.relative_to(PACKAGE)}:{argument.lineno}"


def words_of(name: str) -> set[str]:
    """Return the words of a name in any spelling.

    >>> sorted(words_of("_FileHelper")), sorted(words_of("json_utils"))
    (['file', 'helper'], ['json', 'utils'])
    """
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def test_no_two_classes_have_one_name() -> None:
    places = defaultdict(list)
    for name, place in classes():
        places[name].append(place)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_a_class_is_found_whether_it_is_private_or_inside_another() -> None:
    found = {node.name for node in ast.walk(ast.parse("class A:\n    class _B: ...")) if isinstance(node, ast.ClassDef)}
    assert found == {"A", "_B"}
    assert len(dict(classes())) > 300


@pytest.mark.parametrize("kind", ["module", "class"])
def test_no_name_says_only_that_something_is_done(kind: str) -> None:
    if kind == "module":
        names = [part for path in trees() for part in path.relative_to(PACKAGE).with_suffix("").parts]
    else:
        names = [name for name, _ in classes()]
    assert [name for name in names if words_of(name) & EMPTY_WORDS] == []


def test_what_is_called_while_something_goes_on_has_one_name() -> None:
    found = 0
    for argument, place in parameters():
        types = words_in(argument.annotation)
        for kind, name in CALLBACKS.items():
            if kind in types:
                found += 1
                assert argument.arg == name, f"{place}: {argument.arg} takes {kind}: call it {name}"
    assert found >= 15


def test_no_parameter_is_called_by_what_is_done_with_it() -> None:
    wrong = [f"{place}: {a.arg}" for a, place in parameters() if a.arg in ("told", "tell", "callback", "cb", "hook")]
    assert wrong == []


def words_in(annotation: ast.expr | None) -> set[str]:
    """Return the names in an annotation that stand for themselves, not for what a function returns."""
    if annotation is None:
        return set()
    parts = {annotation} if not isinstance(annotation, ast.BinOp) else {annotation.left, annotation.right}
    return {part.id for part in parts if isinstance(part, ast.Name)}


# How numbers are named that somebody chose.
CHOSEN = re.compile(
    r"_?(MOST|DEEPEST|LARGEST|LONGEST|SMALL|LARGE|FEW|MANY|SOME|ENOUGH|EPSILONS?|RELATIVE|FLOOR|MARGIN)\b"
)


def chosen_numbers() -> Iterator[tuple[str, bool]]:
    """Yield where a module chooses a bound or a tolerance, and whether it says why there or at the lines before."""
    for path, tree in trees().items():
        lines = path.read_text(encoding="utf-8").split("\n")
        docs = {node.lineno - 1 for node in tree.body if isinstance(node, ast.Expr)}
        for node in tree.body:
            targets = node.targets if isinstance(node, ast.Assign) else []
            names = [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
            numbers = isinstance(node, ast.Assign) and any(
                isinstance(n, ast.Constant) and type(n.value) in (int, float) for n in ast.walk(node.value)
            )
            if not numbers or not any(CHOSEN.match(name.replace("_", " _").strip(" _")) for name in names):
                continue
            first = node.lineno - 1
            while re.match(r"_?[A-Z]", lines[first - 1]) and "#" not in lines[first]:
                first -= 1  # the numbers of one block share their reason
            said = any("#" in line for line in lines[max(first - 1, 0) : node.end_lineno])
            yield f"{path.relative_to(PACKAGE)}:{node.lineno}", said or node.end_lineno in docs


def test_every_chosen_number_says_why_it_is_that() -> None:
    found = dict(chosen_numbers())
    assert len(found) > 80
    assert [place for place, said in found.items() if not said] == []
