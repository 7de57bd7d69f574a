"""What a notebook shows: text where `str` is asked for, tables, one line otherwise, and errors without our frames."""

import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import transferpipe as tp
from transferpipe.prove.parity.result import Compared, Parity

CELLS = {
    "plan": "p = tp.plan('s.npz', 't.npz', mapping=RULES, save='o.npz'); p",
    "text": "text = str(p); print(repr(text[:6]), text.count('\\n') > 5, repr(p))",
    "report": "tp.transfer('s.npz', 't.npz', mapping=RULES, save='o.npz', folder='run')",
    "catalog": "tp.catalog('s.npz')",
    "diff": "tp.diff('s.npz', 't.npz')",
    "inspect": "tp.inspect('s.npz', stats=True)",
    "suggest": "tp.suggest('s.npz', 't.npz')",
    "sum": "print(tp.suggest('s.npz', 't.npz')); print(tp.catalog('s.npz')); print(tp.inspect('s.npz').tree())",
    "wrong": "def call():\n    return tp.plan('s.npz', 't.npz', mapping={'a': {'to': 'encc', 'from': 1}}, unmatched='kep')\n\ncall()",
    "all": "import sys, traceback; traceback.print_exception(sys.last_value)",
    "warning": "import warnings; warnings.simplefilter('error', tp.TransferWarning); tp.plan('s.npz', 't.npz', mapping=RULES, save='o.npz')",
}
FIRST = "import transferpipe as tp\nRULES = {'<b>all</b>': {'to': 'enc'}}"
EXECUTE = """
import nbformat, nbclient, sys
book = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(book, timeout=120, allow_errors=True, kernel_name="python3").execute()
nbformat.write(book, sys.argv[1])
"""
WEIGHTS = {"enc/kernel": np.arange(8, dtype="float32").reshape(4, 2), "<i>x</i>/bias": np.ones(2, "float32")}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """The outputs of each cell, by name, as a kernel gave them."""
    for module in ("nbclient", "nbformat", "ipykernel"):
        pytest.importorskip(module)
    folder = tmp_path_factory.mktemp("notebook")
    np.savez(folder / "s.npz", **WEIGHTS)
    np.savez(folder / "t.npz", **{"enc/kernel": np.ones((4, 2), "float32")})
    cells = [
        {"cell_type": "code", "id": f"c{i}", "metadata": {}, "source": text, "outputs": [], "execution_count": None}
        for i, text in enumerate([FIRST, *CELLS.values()])
    ]
    book = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "book.ipynb").write_text(json.dumps(book))
    command = [sys.executable, "-c", EXECUTE, "book.ipynb"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    first, *rest = json.loads((folder / "book.ipynb").read_text())["cells"]
    assert first["outputs"] == []
    return {name: cell["outputs"] for name, cell in zip(CELLS, rest, strict=True)}


def shown(outputs, name):
    """Return what the last output of a cell is: its text, and its HTML."""
    data = outputs[name][-1]["data"]
    return "".join(data["text/plain"]), "".join(data.get("text/html", ""))


def printed(outputs, name):
    return "".join("".join(o["text"]) for o in outputs[name] if o["output_type"] == "stream")


class Balanced(HTMLParser):
    """Fails where tags are not closed in the order in which they were opened."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.texts = [], set(), []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.seen.add(tag)
        assert not [name for name, value in attrs if name.startswith("on") or "//" in (value or "")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def check_html(text):
    """Check that it is a small piece by itself: closed, no script, no address, no colour; return what it says."""
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    assert not parser.seen & {"script", "link", "img", "b", "i", "html"}
    assert "overflow-x:auto" in text
    assert not re.search(r"(?<![\w-])color:|background|#[0-9a-f]{3}|https?:", text)
    return " ".join(parser.texts)


def test_str_is_the_text_and_repr_a_line(outputs):
    assert printed(outputs, "text").startswith("'recipe' True <Plan p")
    assert [o["output_type"] for o in outputs["text"]] == ["stream"]
    assert len(printed(outputs, "sum").splitlines()) > 10
    assert all(o["output_type"] == "stream" for o in outputs["sum"])


@pytest.mark.parametrize("name", ["plan", "report", "catalog", "diff", "inspect"])
def test_results_are_tables_of_their_own(outputs, name):
    text, page = shown(outputs, name)
    assert "\n" not in text
    assert text.lower().startswith(f"<{name}")
    said = check_html(page)
    assert "enc/kernel" in said or "enc/*" in said
    assert "<i>x</i>" in said  # a name from the file, shown as it is


def test_a_suggestion_is_a_line_and_its_text(outputs):
    text, page = shown(outputs, "suggest")
    assert text == "<Suggestion: 1 rule for 1 weight, 0 undecided>"
    assert page.startswith("<pre>")
    assert "enc: {to: enc}" in page
    assert "<i>" not in page


def test_a_warning_stands_below_the_cell_and_names_its_line(outputs):
    (given,) = [o for o in outputs["plan"] if o["output_type"] == "stream"]
    assert given["name"] == "stderr"
    assert "TransferWarning: [unused] " in "".join(given["text"])
    assert "p = tp.plan(" in "".join(given["text"])


def test_an_error_shows_its_problems_and_our_callers_alone(outputs):
    (error,) = outputs["wrong"]
    lines = error["traceback"]
    assert error["ename"] == "RecipeError"
    assert lines[0] == "RecipeError: invalid recipe or command line (2 problems)"
    assert any("unmatched: must be one of" in line for line in lines)
    assert "      -> did you mean 'keep'?" in lines
    frames = [line for line in lines if ", line " in line]
    assert [line.split(": ", 1)[1] for line in frames] == ["call()", CELLS["wrong"].splitlines()[1].strip()]
    assert all(re.match(r"Cell In\s?\[\d+\], line \d", line) for line in frames)
    assert len(lines) < 12


def test_all_frames_are_where_it_says(outputs):
    last = outputs["wrong"][0]["traceback"][-1]
    assert last == f"all frames: {CELLS['all']}"
    assert "transferpipe/api.py" in printed(outputs, "all").replace("\\", "/")


def test_a_warning_that_is_an_error_is_as_short(outputs):
    (error,) = outputs["warning"]
    assert error["ename"] == "TransferWarning"
    assert error["traceback"][0].startswith("TransferWarning: [unused] ")
    assert len(error["traceback"]) < 6


def test_a_builder_that_raises_is_named_with_its_line(tmp_path, monkeypatch):
    pytest.importorskip("keras")
    (tmp_path / "troubled_here.py").write_text("def build():\n    return 1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(tp.RecipeError) as caught:
        tp.plan(None, {"_target_": "troubled_here.build"}, unmatched="keep")
    lines = caught.value._render_traceback_()
    (cause,) = [line for line in lines if line.startswith("caused by")]
    assert cause.startswith("caused by ZeroDivisionError, at ")
    assert cause.endswith("troubled_here.py, line 2: return 1 / 0")


def test_python_itself_shows_the_usual_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "import transferpipe as tp; tp.catalog('nowhere.npz')"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert "Traceback (most recent call last)" in done.stderr
    assert "transferpipe.errors.FileError: nowhere.npz" in done.stderr


def test_html_of_very_many_weights_stays_small(tmp_path):
    np.savez(tmp_path / "many.npz", **{f"layer_{i}/kernel": np.zeros((1,), "float32") for i in range(1200)})
    catalog = tp.catalog(tmp_path / "many.npz")
    page = catalog._repr_html_()
    assert len(page) < 40_000
    assert "and 1,000 more; print it to see all" in check_html(page)
    assert str(catalog).count("\n") > 1200
    same = tp.diff(tmp_path / "many.npz", tmp_path / "many.npz")
    assert len(same._repr_html_()) < 40_000


def test_html_of_a_diff_has_what_the_text_has(tmp_path):
    a = {f"l{i}/kernel": np.full((3, 2), i, "float32") for i in range(4)}
    b = {**a, "l0/kernel": np.ones((3, 2), "float32"), "l1/kernel": np.ones((2, 2), "float32"), "new/<b>": np.ones(1)}
    del b["l3/kernel"]
    np.savez(tmp_path / "a.npz", **a)
    np.savez(tmp_path / "b.npz", **b)
    found = tp.diff(tmp_path / "a.npz", tmp_path / "b.npz")
    said = " ".join(check_html(found._repr_html_()).split())
    for words in (
        "changed",
        "l0/kernel",
        "0 -> 1",
        "another shape (A -> B)",
        "(3, 2) -> (2, 2)",
        "only in A",
        "l3/kernel",
        "only in B",
        "new/<b>",
        "equal",
    ):
        assert words in said
        assert words in " ".join(str(found).split())
    assert repr(found).startswith(f"<Diff {Path(tmp_path / 'a.npz')}, ")


def test_html_of_a_parity_check_has_what_the_text_has():
    rows = (
        Compared("d", "<b>", 1e-7, 1e-5, 2.0, "equal"),
        Compared("e", "e", 0.25, 1e-5, 2.0, "differs"),
        Compared("f", "f", math.inf, 1e-5, 2.0, "differs", "shape (2, 3) is not (2, 4)"),
        Compared("g", "g", 0.0, 0.0, 0.0, "not compared", "depends on weights that were kept"),
    )
    found = Parity("fail", "a.keras", "random inputs (seed 0)", rows, "e", "activation of e: relu", "e is the first")
    said = " ".join(check_html(found._repr_html_()).split())
    for words in ("a.keras", "d <- <b>", "0.25", "FIRST", "shapes differ", "not compared", "activation of e: relu"):
        assert words in said
        assert words in str(found)


def test_html_of_a_verified_run_has_what_the_text_has(tmp_path):
    np.savez(tmp_path / "a.npz", **WEIGHTS)
    given = {"unmatched": "same_name", "folder": tmp_path / "run"}
    tp.transfer(tmp_path / "a.npz", tmp_path / "a.npz", save="b.npz", **given)
    proof = tp.verify(tmp_path / "run")
    said = check_html(proof._repr_html_())
    assert " ".join(str(proof).split()) in " ".join(said.split())


def test_the_page_of_help_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("keras")
    import warnings

    page = (Path(tp.__file__).parent / "show" / "topics" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) > 4
    monkeypatch.chdir(tmp_path)
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error", tp.TransferWarning)
        for block in blocks:
            exec(compile(block, "help python", "exec"), names)
    out = capsys.readouterr().out
    assert "weights: pass" in out
    assert "did you mean" in out
