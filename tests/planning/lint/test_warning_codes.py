"""Every code of a warning stands in the one table, and every row of the table is used."""

import ast
import functools
from pathlib import Path

from syntax import PACKAGE, trees

from transferpipe.codes import WARNINGS

TABLE = PACKAGE / "codes.py"


def sources():
    return {path: tree for path, tree in trees().items() if path != TABLE}


def name_of(function):
    """Return the name under which a function is called: ``warn`` of ``pairing.warn``."""
    return getattr(function, "id", getattr(function, "attr", ""))


def takers():
    """Return the callables that take a code first: the warning itself, and functions with a parameter `code`."""
    found = {"PlanWarning"}
    for tree in sources().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                names = [a.arg for a in node.args.args if a.arg not in ("self", "cls")]
                found |= {node.name} if names[:1] == ["code"] else set()
    return found


@functools.cache
def written():
    """Return the place and the value of every code that is handed to one of them as a text."""
    return tuple(_find_written())


def _find_written():
    callables = takers()
    for path, tree in sources().items():
        constants = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call) and name_of(n.func) in callables):
            given = [*call.args[:1], *(k.value for k in call.keywords if k.arg == "code")]
            for node in (n for argument in given for n in ast.walk(argument)):
                value = constants.get(node.id) if isinstance(node, ast.Name) else getattr(node, "value", None)
                if isinstance(value, str) and value:  # records of earlier versions have no code
                    yield f"{path.relative_to(PACKAGE)}:{node.lineno}", value


def test_every_code_is_in_the_table():
    unknown = [f'{place}: "{code}"' for place, code in written() if code not in WARNINGS]
    assert not unknown, "add a row to WARNINGS in transferpipe/codes.py for " + ", ".join(unknown)


def test_every_row_is_used():
    texts = {n.value for tree in sources().values() for n in ast.walk(tree) if isinstance(n, ast.Constant)}
    unused = [code for code in WARNINGS if code not in texts]
    assert not unused, f"no warning has these codes; remove their rows from transferpipe/codes.py: {unused}"


def test_the_rows_stand_in_order_and_say_something():
    assert list(WARNINGS) == sorted(WARNINGS), "keep the rows of transferpipe/codes.py in alphabetical order"
    for code, kind in WARNINGS.items():
        assert code == code.lower().replace("_", "-").replace(" ", "-"), f"{code}: codes are kebab-case"
        assert all(len(text) > 10 and text == text.strip() for text in (kind.means, kind.fix)), code
        assert ": " in kind.example, f"{code}: the example is `where: text`"
        assert f"[{code}]" not in kind.example, f"{code}: the code is added to the example when it is shown"


def test_there_are_warnings_to_look_at():
    assert len(written()) > 20


def test_every_code_is_looked_for_in_a_test():
    missing = set(WARNINGS)
    for path in (p for p in Path(__file__).parents[2].rglob("test_*.py") if p != Path(__file__)):
        text = path.read_text(encoding="utf-8")
        if any(code in text for code in missing):  # to parse all files takes seconds
            missing -= set(_words_of_constants(ast.parse(text)))
    assert not missing, "let a test make each of these warnings appear"


def _words_of_constants(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from (word.strip("[]():,") for word in node.value.split())
