"""Messages are plain English, in the field's words: no text of the package falls back into the private dialect."""

import ast
import functools
import re

import pytest
from syntax import PACKAGE, trees

# What was said once, and what is said now.
DIALECT = {
    r"\bmend(s|ed|ing)?\b": "fix, correct",
    r"\btold\b": "known, stored, distinguished",
    r"\bproved?\b": "verify, verified",
    r"\bmade[ -]up\b": "auto-generated (names), random (inputs)",
    r"\b(does|do) not fit\b": "invalid; cannot be held by; has shape (a, b), not (c, d)",
    r"\bis no key\b": "unknown key",
    r"\bis there already\b": "already set, exists already",
    r"\bnot written in this recipe\b": "not set in this recipe",
    r"\bstands for several values\b": "is a sweep",
    r"\bwants? quotes\b": "quote strings that contain special characters",
    r"\bnames the run folder\b": "cannot be used as a run name",
    r"\b(?<!was )(?<!is )as (freshly )?built\b": "kept (initial values), still have their initial values",
    r"\bon stored statistics\b": "frozen (using moving averages)",
    r"\btaken in order\b": "matched by position",
    r"\bleft open\b": "not checked",
    r"\bis another\b": "differs",
    r"\bwhat it must be\b": "differs from what was planned",
    r"\bcannot be told\b": "statistically tied; cannot be distinguished",
    r"\bis furthest\b|\bfurthest is\b": "largest difference",
    r"\bMade with\b": "Environment",
    r"\bWhat it allows\b": "How to read this",
    r"\bWarnings from the values\b": "Warnings about values",
    r"(?<!there )\bis no (?!longer\b|such\b|failure\b|proof\b)[a-z]": "is not a",
    r"\bsay it on\b|-> say\b|^say |\b[Ss]ay `": "set, choose, allow",
    r"\btells (no|none)\b|\bcannot tell\b|\bto tell .* apart\b": "stores none, does not show, distinguish",
    r"\bown tools? says?\b": "with its own tool",
    r"\bsends on to\b": "redirects to",
    r"\b[Ll]ook whether\b|\bno accident\b": "check that; if it happens again",
    r"\b(nobody|anybody|somebody) (writes|reads|knows)\b": "the passive, or who it is",
    r"\bwhat is no\b|\bwhich is no (?!longer)[a-z]": "what is not a",
    r"\ball 1\b": "the only",
    r"\bis not what belongs there\b": "has the wrong type",
    r"\bfresh values?\b": "initial value",
    r"\bfrom \S+ up\b": "of at least",
    r"\b(is|are) not one of the things\b": "is not something that",
    r"\bkeeps? to itself\b": "private",
    r"\bmade the \w+ up\b": "generated the name",
    r"\bthe tabulator\b": "Tab",
    r"\bSomebody [a-z]+s\b": "the passive, or you",
    r"\bwhich are not there\b|\bneither is there\b": "and neither is given",
    r"^(check|fix|delete|remove|rename) it(, or \w+ it \w+)?$": "what is to be done, so that it can be done",
    r"^(give a folder|look at it.*|fix the \w+ or the \w+)$": "what is to be done, so that it can be done",
    r"\bnot the freezing\b": "not which layers are frozen",
    r"\bis another with it\b|\bwould be another\b": "would change",
    r"\bbytes came\b": "bytes arrived",
}


def docstrings(tree):
    """Return the texts that document code, which no user is shown as a message."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            found |= {id(s.value) for s in node.body if isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant)}
    return found


def texts():
    """Yield the place and the text of everything that the package may print."""
    for path, tree in trees().items():
        left_out = docstrings(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in left_out:
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", node.value
    # README.md in the package is for those who change the code, in whose language a room is called `prove`.
    pages = [p for p in PACKAGE.rglob("*.md") if p.name != "README.md"]
    for path in sorted((*pages, *PACKAGE.rglob("*.yaml"), *PACKAGE.rglob("*.html"))):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            yield f"{path.relative_to(PACKAGE)}:{number}", line


WRITTEN = functools.cache(lambda: list(texts()))


@pytest.mark.parametrize("pattern", DIALECT)
def test_no_text_is_written_in_the_old_dialect(pattern):
    found = [f"{place}: {text[:120]!r}" for place, text in WRITTEN() if re.search(pattern, text)]
    assert not found, f"say instead: {DIALECT[pattern]}"


def test_no_docstring_is_written_in_it_either():
    """Of the words alone that mean something else in English; names of attributes (`told`) are code."""
    pattern = re.compile(
        r"(?<![`.\w])(told\b(?![`:])|mend(s|ed|ing)?\b|made[ -]up\b|what it must be\b|proved\b(?!`))|\bas built\b"
        r"|(?<!there )\b(is|are) no (?!(longer|such|failure|proof|matter|reason|more|less|larger|smaller|better|worse)\b)[a-z]"
    )
    found = []
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
                found += [f"{path}: {text[max(0, m.start() - 40) : m.end() + 40]!r}" for m in pattern.finditer(text)]
    assert not found


@pytest.mark.parametrize("pattern", DIALECT)
def test_every_pattern_can_be_found(pattern):
    """A pattern that is written wrongly would find nothing for ever."""
    examples = (
        "mend it, told, proved, made up, does not fit, is no key, is there already, not written in this recipe, as built,"
        " stands for several values, wants quotes, names the run folder, on stored statistics, taken in order, left open,"
        " is another, what it must be, cannot be told, is furthest, Made with, What it allows, Warnings from the values,"
        " is no list, say it on the, tells none, as its own tools say, sends on to, Look whether, nobody writes, all 1 biases,"
        " which is no text, is not what belongs there, fresh values, from 1 up, is not one of the things, keeps to itself,"
        " made the name up, the tabulator, Somebody loads, which are not there, not the freezing, would be another,"
        " bytes came"
    )
    assert any(re.search(pattern, text) for text in (examples, "fix it, or leave it out", "give a folder"))


def test_the_words_are_looked_for_where_messages_are():
    whole = "\n".join(text for _, text in WRITTEN())
    for words in ("unknown key", "statistically tied with the best", "matched by position", "initial values"):
        assert words in whole
