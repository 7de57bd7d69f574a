"""Results of variants, read again from their folders."""

import json

import pytest

from transferpipe.sweep.running.job import DONE, RESULT, is_finished, read_result
from transferpipe.sweep.variant import FORMAT_VERSION


@pytest.mark.parametrize("artifacts", [["model.keras"], [{"sha256": "0"}], [{"path": 1}], [None], "model.keras"])
def test_a_result_whose_files_have_no_names_is_damaged(tmp_path, artifacts):
    result = {"format_version": FORMAT_VERSION, "status": DONE, "checksum": "p1", "artifacts": artifacts}
    (tmp_path / RESULT).write_text(json.dumps(result))
    assert read_result(tmp_path) is None
    assert not is_finished(tmp_path)


def test_a_result_with_names_is_read(tmp_path):
    result = {"format_version": FORMAT_VERSION, "status": DONE, "checksum": "p1", "artifacts": [{"path": "m.keras"}]}
    (tmp_path / RESULT).write_text(json.dumps(result))
    assert read_result(tmp_path)["artifacts"] == [{"path": "m.keras"}]
