"""A sweep as a DataFrame."""

import json
import sys

import pytest

import transferpipe as tp
from transferpipe.errors import MissingPackageError
from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.record import LeftOutVariant, SweepRecord, write_record


@pytest.fixture
def folder(tmp_path):
    entries = []
    for cut, seed, value in (("1", "0", 0.5), ("1", "1", 0.75), ("2", "0", None)):
        score = {"value": value, "name": "accuracy", "higher_is_better": True, "spread": 0.1, "notes": ["=told"]}
        done = {"status": "done", "checksum": "p1", "artifacts": [], "seconds": 1.0, "trainable_parameters": 12}
        result = {**done, "score": score} if value else {"status": "failed", "problems": ["odd"], "exit": 1}
        entry = Entry({"vars.cut": cut, "rate": f"1e-{cut}", "seed": seed}, None, f"v{cut}{seed}", "p1", result)
        (tmp_path / entry.key).mkdir()
        (tmp_path / entry.key / "result.json").write_text(json.dumps(result))
        entries.append(entry)
    write_record(tmp_path, SweepRecord("s", tuple(entries), {}, (LeftOutVariant({"vars.cut": "9"}, None, ("no",)),)))
    return tmp_path


def test_a_row_a_variant_with_numbers_where_there_are_numbers(folder):
    pd = pytest.importorskip("pandas")
    frame = tp.read_sweep(folder)
    assert isinstance(frame, pd.DataFrame)
    assert list(frame["vars.cut"]) == [1, 1, 2, 9]
    assert frame["rate"].dropna().tolist() == [0.1, 0.1, 0.01]
    assert frame.groupby("vars.cut")["score"].mean()[1] == 0.625
    assert frame["status"].tolist() == ["done", "done", "failed", "left out"]
    assert frame["trainable_parameters"].dropna().tolist() == [12, 12] and frame["notes"][0] == "=told"


def test_without_pandas_it_says_what_installs_it_and_what_needs_none(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingPackageError) as raised:
        tp.read_sweep(folder)
    (problem,) = raised.value.problems
    assert "needs the package pandas" in problem.what
    assert "pip install 'transferpipe[pandas]'" in problem.fix and "tp.rank_sweep" in problem.fix
    assert tp.rank_sweep(folder).best.setting["vars.cut"] == "1"
