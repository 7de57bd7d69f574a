"""The verb `init`: a recipe that plans and runs as it stands, and what is refused."""

import json
import re
import shlex
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import yaml
from command_line import tree, weights
from safetensors.numpy import load_file, save_file

from transferpipe import zoo
from transferpipe.show.schemas import read_schema


def init(cli, *words):
    """Return the recipe that is written, after a look at whether it is one."""
    answer = cli("init", *words, "--json")
    assert answer.status == 0, answer
    data = json.loads(answer.out)
    text = Path(data["path"]).read_text(encoding="utf-8")
    assert text.splitlines()[0].startswith(f"# {data['commands'][1]}  <- ")
    jsonschema.Draft7Validator(read_schema("recipe")).validate(yaml.safe_load(text))
    planned = cli(*shlex.split(data["commands"][0])[1:], "--json")
    assert planned.status == 0, planned
    assert json.loads(planned.out)["checksum"] == data["checksum"]
    return data, text


def run(cli, data, *more):
    answer = cli(*shlex.split(data["commands"][1])[1:], "hydra.run.dir=out", *more)
    assert answer.status == 0, answer
    return answer


def arrays(names, seed=0):
    random = np.random.default_rng(seed)
    return {name: random.normal(size=shape).astype("float32") for name, shape in names.items()}


def test_between_two_files(cli, here):
    names = {"first/kernel": (4, 3), "first/bias": (3,), "second/kernel": (3, 2), "second/bias": (2,)}
    source = arrays(names)
    save_file({f"old/{n}": v for n, v in source.items()}, here / "a.safetensors")
    save_file({f"new/{n}": np.zeros_like(v) for n, v in source.items()}, here / "b.safetensors")
    data, text = init(cli, "a.safetensors", "b.safetensors")
    assert data["path"] == "recipes/b.yaml"
    for line in ("# freeze: [transferred]", "# verify: {parity: {inputs: x.npz, expected: y.npz}}"):
        assert line in text
    run(cli, data)
    written = load_file(here / "out/model.safetensors")
    assert all(np.array_equal(written[f"new/{n}"], v) for n, v in source.items())


def test_a_file_and_a_builder_and_what_is_printed(cli, here):
    answer = cli("init", "weights.safetensors", "transferpipe.zoo.small_mlp()")
    assert answer.status == 0, answer
    commands = re.findall(r"transferpipe (.*recipe=small_mlp)", answer.out)
    assert [c.split()[0] for c in commands] == ["plan", "run"]
    for command in commands:
        assert cli(*shlex.split(command)).status == 0


def test_torch_names(cli, here):
    source = arrays({"net.hidden.weight": (6, 8), "net.hidden.bias": (6,), "fc.weight": (3, 6), "fc.bias": (3,)})
    save_file(source, here / "torch.safetensors")
    data, _ = init(cli, "torch.safetensors", "transferpipe.zoo.small_mlp()", "mine")
    run(cli, data, "save.path=model.npz")
    written = np.load(here / "out/model.npz")
    assert np.array_equal(written["hidden/kernel"], source["net.hidden.weight"].T)
    assert np.array_equal(written["classes/bias"], source["fc.bias"])


def test_what_is_undecided_is_decided_by_taking_a_comment_away(cli, here):
    save_file(arrays({f"{n}/kernel": (5, 5) for n in ("wolf", "bear")}), here / "a.safetensors")
    save_file(arrays({f"{n}/kernel": (5, 5) for n in ("iron", "gold")}, 1), here / "b.safetensors")
    data, text = init(cli, "a.safetensors", "b.safetensors", "mine")
    assert len(data["undecided"]) == 2
    assert "unmatched: keep" in text
    run(cli, data)
    lines = text.splitlines()
    for target, source in (("iron", "bear"), ("gold", "wolf")):
        (i,) = [i for i, line in enumerate(lines) if f"to: {target}" in line and f"from: {source}" in line]
        lines[i] = lines[i].replace("# ", "", 1)
    (here / data["path"]).write_text("\n".join(lines).replace("unmatched: keep", "unmatched: error"))
    assert cli("run", "recipe=mine", "hydra.run.dir=decided").status == 0
    ours, theirs = load_file(here / "decided/model.safetensors"), load_file(here / "a.safetensors")
    assert np.array_equal(ours["iron/kernel"], theirs["bear/kernel"])
    assert np.array_equal(ours["gold/kernel"], theirs["wolf/kernel"])


@pytest.mark.parametrize("target", ["whole.h5", "only.weights.h5", "whole.keras", "tensors.npz"])
def test_a_target_of_any_kind_is_saved_as_what_it_can_be(cli, here, target):
    model = zoo.small_mlp()
    if target.endswith(".npz"):
        np.savez(here / target, **{w.path: np.asarray(w.numpy()) for w in model.weights})
    else:
        (model.save_weights if "weights" in target else model.save)(here / target)
    data, _ = init(cli, "weights.safetensors", target, "mine")
    run(cli, data, "verify.reload=false")
    (saved,) = (here / "out").glob("model.*")
    assert cli("diff", "weights.safetensors", saved).status == 0


@pytest.mark.parametrize("name", ["${oc.env:HOME}", "a'b: #c", "no", "x{y}", "line\nend", "é*[0]", "- !!x"])
def test_hostile_names_stay_text(cli, here, name):
    source = arrays({f"{name}/kernel": (4, 3), "other/kernel": (3, 2)})
    save_file(source, here / "a.safetensors")
    save_file({n: np.zeros_like(v) for n, v in source.items()}, here / "b.safetensors")
    data, _ = init(cli, "a.safetensors", "b.safetensors")
    run(cli, data)
    written = load_file(here / "out/model.safetensors")
    assert all(np.array_equal(written[n], v) for n, v in source.items())


def test_a_path_with_an_interpolation_stays_a_path(cli, here):
    save_file(weights(), here / "${seed}: 'a'.safetensors")
    data, _ = init(cli, "${seed}: 'a'.safetensors", "transferpipe.zoo.small_mlp()")
    run(cli, data)


@pytest.mark.follows("_check_name: transferpipe init A B")
@pytest.mark.follows("_check_name: transferpipe init A B #2")
def test_nothing_is_overwritten_and_names_are_such(cli, refuses, here):
    words = ("init", "weights.safetensors", "transferpipe.zoo.small_mlp()")
    answer = refuses(2, (*words, "own"), "recipes/own.yaml exists, and nothing is overwritten")
    assert cli(*words, answer.err.split()[-1]).status == 0
    for name in ("../up", "null", "a b", "1"):
        answer = refuses(2, (*words, name), "cannot be used as a recipe's name")
    assert cli(*words, answer.err.split()[-1]).status == 0


@pytest.mark.follows("_split_hints: transferpipe … …")
@pytest.mark.follows("_split_hints: hints={TARGET: SOURCE}")
def test_what_it_takes(cli, refuses, here):
    words = ("init", "weights.safetensors", "transferpipe.zoo.small_mlp()")
    refuses(2, words[:2], "-> transferpipe init A B [NAME] [hints=X]")
    refuses(2, (*words, "hints=x"), "-> hints={TARGET: SOURCE}")
    assert cli(*words, "mine", "hints={hidden: null}").status == 0
    mapping = yaml.safe_load((here / "recipes/mine.yaml").read_text())["mapping"]
    assert {"to": "hidden", "from": None} in mapping.values()


def test_a_failure_leaves_nothing_behind(cli, refuses, here):
    refuses(4, ("init", "nowhere.npz", "transferpipe.zoo.small_mlp()", "x"), "nowhere.npz")
    (here / "recipes/own.yaml").unlink()
    (here / "recipes").rmdir()
    before = tree(here)
    assert cli("init", "weights.safetensors", "nowhere.keras").status != 0
    assert tree(here) == before
    assert cli("init", "weights.safetensors", "transferpipe.zoo.small_mlp()").status == 0
    assert (here / "recipes/small_mlp.yaml").is_file()
