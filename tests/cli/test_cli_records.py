"""What runs and sweeps leave: as the JSON Schemas say, of every kind, and readable whatever version wrote it."""

import json
import shlex

import pytest
import yaml
from records import FILES, check_records, faults, validator
from sweeps import SCORE, SCORED

from transferpipe.cli import main
from transferpipe.prove.manifest import json_lines, seal
from transferpipe.show.schemas import SCHEMAS

RUN = ("run", "recipe=own", "hydra.run.dir=out")
OWN = ("sweep", "recipe=own")
EVERY = {
    "edits": ["+edit.probe={at: classes/bias, index: [0], set: 2.5}"],
    "torch": ["save.path=m.safetensors", "save.layout=torch", "save.also=[m.npz]"],
    "shards": ["save.path=m.safetensors", "save.shard=60"],
    "transforms": ["+mapping.body.transform={kernel: [{scale: 2.0}], bias: [{fill: 1}]}"],
    "merge": ["mapping.body.from=[hidden, hidden]", "+mapping.body.merge={linear: [0.3, 0.7]}"],
    "freezing": ["freeze=[hidden]", "verify.reload=true"],
    "strict": ["allow=[unused]", "seed=7"],
}


@pytest.mark.parametrize("words", EVERY.values(), ids=EVERY)
def test_what_a_run_leaves(cli, here, words):
    answer = cli(*RUN, *words)
    assert answer.status == 0, answer.err
    assert check_records(here) == {"plan", "manifest"}


def test_what_a_manifest_says_of_the_command_runs_again(cli, here):
    cli("plan", "recipe=own")
    assert cli(*RUN, "seed=3", "--strict", "allow=[unused]").status == 0
    first = json.loads((here / "out" / "manifest.json").read_text())
    assert first["command"] == ["transferpipe", *RUN, "seed=3", "--strict", "allow=[unused]"]
    again = [word.replace("=out", "=again") for word in first["command"][1:]]
    assert cli(*again).status == 0
    assert json.loads((here / "again" / "manifest.json").read_text())["checksum"] == first["checksum"]
    text = yaml.safe_load(first["recipe_text"])
    assert (text["name"], text["seed"], text["mapping"]["head"]) == ("own", 3, {"to": "classes", "from": None})
    (here / "recipes" / "copied.yaml").write_text(first["recipe_text"])
    assert json.loads(cli("plan", "recipe=copied", "--json").out)["checksum"] == first["checksum"]


def test_what_a_sweep_leaves(cli, here):
    (here / "my_scores.py").write_text(SCORE)
    answer = cli(*OWN, SCORED, "seed=0,1", "sweep.controls=[random]", "freeze=[],[nowhere]", "--skip-broken")
    assert answer.status == 0, answer.err
    assert check_records(here) == {"plan", "manifest", "score", "sweep", "variant", "result"}
    manifests = [json.loads(p.read_text()) for p in here.glob("outputs/sweeps/*/*/manifest.json")]
    variants = [json.loads(p.read_text()) for p in here.glob("outputs/sweeps/*/*/variant.json")]
    assert len(manifests) == 4
    assert [m["command"] is None for m in manifests].count(True) == sum(bool(v["control"]) for v in variants) == 2
    command = next(m["command"] for m in manifests if m["command"])
    assert command[:2] == ["transferpipe", "run"] and "freeze=[]" in command
    assert cli(*command[1:], "--cfg", "job").status == 0


def test_a_variant_that_fails_leaves_a_result_as_the_schema_says(cli, here):
    (here / "my_scores.py").write_text(SCORE)
    assert cli(*OWN, SCORED.replace("fine", "raise"), "seed=0").status == 3
    assert "result" in check_records(here)


def test_plan_json_and_errors(cli, here):
    assert faults("plan", json.loads(cli("plan", "recipe=own", "--json").out)) == []
    answer = cli("plan", "recipe=own", "+mapping.body.form=x", "sead=1", "--json")
    data = json.loads(answer.out)
    assert (data["status"], data["error"]) == (2, "invalid recipe or command line")
    answer = cli("plan", "recipe=own", "+mapping.body.form=x", "+sead=1", "--json")
    data = json.loads(answer.out)
    assert [(p["where"], p["what"], p["place"]) for p in data["problems"]] == [
        ("mapping.body.form", "unknown key", "command line"),
        ("sead", "unknown key", "command line"),
    ]
    assert data["problems"][0]["fix"] in answer.err
    for words in (("inspect", "nowhere.npz"), ("verify", "nowhere"), ("plan", "--nothing")):
        answer = cli(*words, "--json")
        assert json.loads(answer.out)["status"] == answer.status > 0
        assert answer.err


def test_a_bug_of_ours_is_an_error_too(cli, monkeypatch):
    monkeypatch.setattr("transferpipe.cli.commands.inspect.open_path", lambda *_: 1 / 0)
    data = json.loads(cli("inspect", "weights.safetensors", "--json").out)
    assert (data["error"], data["status"]) == ("internal error", 1)
    assert "ZeroDivisionError" in data["problems"][0]["what"]


# Earlier and later versions -------------------------------------------------------------------------------------------


def as_of_version_1(folder):
    """Make a run's manifest what it was before records had a version."""
    data = json.loads((folder / "manifest.json").read_text())
    for key in ("format_version", "time", "command", "recipe_text", "git", "seal", "plan_sha256"):
        del data[key]
    sealed = seal(data, (folder / "plan.json").read_text())
    (folder / "manifest.json").write_text(json_lines(sealed))


def test_records_without_a_version_are_read(cli, here, recipe):
    assert cli(*RUN).status == 0
    as_of_version_1(here / "out")
    assert cli("verify", "out").status == 0
    assert cli(*OWN, "seed=0,1").status == 0
    folder = here / "outputs" / "sweeps" / "own"
    for path in [folder / "sweep.json", *folder.glob("*/variant.json"), *folder.glob("*/result.json")]:
        data = json.loads(path.read_text())
        assert data.pop("format_version") == 2
        data.pop("seal", None)
        path.write_text(json.dumps(data))
    for path in folder.glob("*/manifest.json"):
        as_of_version_1(path.parent)
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/model.keras")}
    assert main(["report", str(folder)]) == 0
    assert main([*OWN, "seed=0,1"]) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*/model.keras")} == before
    assert len(before) == 2


@pytest.mark.follows("read_json: pip install --upgrade transferpipe")
def test_records_of_a_later_version_are_refused(cli, here):
    assert cli(*RUN).status == 0
    path = here / "out" / "manifest.json"
    data = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("seal", "plan_sha256")}
    path.write_text(json_lines(seal({**data, "format_version": 3}, (here / "out" / "plan.json").read_text())))
    answer = cli("verify", "out")
    assert answer.status == 4
    assert "manifest.json: has format_version 3; this version of transferpipe reads 1 to 2" in answer.err
    assert shlex.split(answer.err.split("-> ")[1])[:2] == ["pip", "install"]


# The schemas themselves refuse ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plan", "manifest"])
def test_what_is_missing_or_too_much_is_refused(cli, here, kind):
    assert cli(*RUN, "freeze=[hidden]").status == 0
    data = json.loads((here / "out" / f"{kind}.json").read_text())
    assert faults(kind, data) == []
    for key in validator(kind).schema["required"]:
        assert faults(kind, {k: v for k, v in data.items() if k != key}) != [], key
    assert faults(kind, {**data, "colour": "red"}) != []
    for key in data:
        assert faults(kind, {**data, key: object}) != [], key
    for part in ("weights",) if kind == "manifest" else ("assignments", "kept", "source_weights"):
        assert faults(kind, {**data, part: [{**data[part][0], "colour": "red"}]}) != []


def test_every_kind_has_a_file_or_is_printed():
    assert set(SCHEMAS) == {*FILES.values(), "recipe", "errors"}
