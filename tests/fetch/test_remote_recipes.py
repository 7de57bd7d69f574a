"""Recipes that name a file elsewhere, through the command line: planned, run, proved again, inspected."""

import json
import re
import socket
from pathlib import Path

import numpy as np
import pytest
from file_server import weights
from safetensors.numpy import save_file

from transferpipe.api import catalog
from transferpipe.cli.main import main as command_line

FILE = "/m/model.safetensors"


def main(words):
    """Run a command that may ask this machine, where it names a recipe."""
    return command_line([*words, "--trust", "localhost"] if "recipe=mine" in words else words)


@pytest.fixture
def here(server, tmp_path, monkeypatch):
    """A working directory with a target and a recipe; returns the function that writes the source's keys."""
    monkeypatch.chdir(tmp_path)
    server.files[FILE], _ = weights()
    target = {"out.kernel": np.zeros((3, 2), "float32"), "out.bias": np.ones(2, "float32")}
    save_file(target, tmp_path / "target.safetensors")
    (tmp_path / "recipes").mkdir()

    def recipe(**source):
        data = {
            "source": {"path": server.url(FILE), **source},
            "target": {"path": "target.safetensors"},
            "mapping": {"all": {"to": "out", "from": "dense"}},
            "save": {"path": "model.safetensors"},
        }
        (tmp_path / "recipes" / "mine.yaml").write_text(f"# @package _global_\n{json.dumps(data)}\n")

    recipe()
    return recipe


def test_a_plan_says_where_it_comes_from_and_how_to_pin_it(here, server, capsys):
    assert main(["plan", "recipe=mine"]) == 0
    out, err = capsys.readouterr()
    assert f"source  {server.url(FILE)}" in out
    assert f"warning  source.path [unpinned]: {server.url(FILE)} is not pinned: add sha256: {weights()[1]}" in out
    assert err == f"fetch model.safetensors: {len(weights()[0])} bytes\n"


@pytest.mark.follows("refuse_private: if you want that,")
def test_this_machine_is_not_asked_without_a_word(here, server, capsys):
    assert command_line(["plan", "recipe=mine"]) == 5
    err = capsys.readouterr().err
    assert "recipes/mine.yaml, line 2: source.path: localhost is this machine, or one of a private network" in err
    assert server.asked == []
    assert command_line(["plan", "recipe=mine", *err.partition("command line: ")[2].split()]) == 0
    assert command_line(["plan", "recipe=mine", f"source.path={server.url(FILE)}"]) == 0


def test_this_machine_is_not_asked_for_the_configuration_of_a_source_without_a_word(here, server, capsys):
    here()
    server.files["/m/config.json"] = b'{"hidden_size": 3}'
    recipe = Path("recipes/mine.yaml")
    recipe.write_text(
        recipe.read_text().replace('"mapping"', '"vars": {"size": "${source.config.hidden_size}"}, "mapping"')
    )
    assert command_line(["plan", "recipe=mine"]) == 5
    assert "recipes/mine.yaml, line 2: source.path: localhost is this machine" in capsys.readouterr().err
    assert server.asked == []
    assert main(["plan", "recipe=mine"]) == 0


def test_a_name_that_leads_to_this_machine_is_not_asked_without_a_word(here, server, capsys, monkeypatch):
    look_up = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *a, **k: look_up("localhost", *a, **k))
    recipe = Path("recipes/mine.yaml")
    for host in ("models.example.org", "MODELS.example.org", "mo%64els.example.org"):
        address = server.url(FILE).replace("http://localhost", f"https://{host}")
        here()
        recipe.write_text(recipe.read_text().replace(server.url(FILE), address))
        assert command_line(["plan", "recipe=mine"]) == 5
        said = capsys.readouterr().err
        assert re.search(r"source.path: mo\S+ has the address [\d.:]+: it is this machine, or one of a private", said)
        trusted = said.partition("command line: ")[2].split()
        assert command_line(["plan", "recipe=mine", *trusted]) == 4, "which has no TLS"
        assert "refused" not in capsys.readouterr().err
    assert server.asked == []


def test_a_pinned_plan_has_no_such_warning_and_the_same_checksum(here, capsys):
    assert main(["plan", "recipe=mine", "--json"]) == 0
    loose = json.loads(capsys.readouterr().out)
    here(sha256=weights()[1].upper())
    assert main(["plan", "recipe=mine", "--json"]) == 0
    pinned = json.loads(capsys.readouterr().out)
    assert "unpinned" in {w["code"] for w in loose["warnings"]}
    assert "unpinned" not in {w["code"] for w in pinned["warnings"]}
    assert loose["checksum"] == pinned["checksum"]


def test_a_run_records_the_address_and_the_digest_and_is_proved_again_from_the_cache(here, server, cache, capsys):
    assert main(["run", "recipe=mine", "hydra.run.dir=out"]) == 0
    source = json.loads(Path("out/manifest.json").read_text())["sources"]["source"]
    assert (source["url"], source["sha256"], source["label"]) == (server.url(FILE), weights()[1], server.url(FILE))
    server.files[FILE], _ = weights(2.0)
    cache()
    main(["inspect", server.url(FILE)])
    asked = len(server.asked)
    capsys.readouterr()
    assert main(["verify", "out"]) == 0
    assert "verdict  weights: pass, 2 weights computed again" in capsys.readouterr().out
    assert len(server.asked) == asked


def test_verifying_without_the_cached_copy_is_inconclusive(here, server, capsys):
    main(["run", "recipe=mine", "hydra.run.dir=out"])
    copy = Path(json.loads(Path("out/manifest.json").read_text())["sources"]["source"]["path"])
    data = copy.read_bytes()
    for change, said in (
        (lambda: copy.write_bytes(data + b"x"), "was changed"),
        (copy.unlink, "no longer in the cache"),
    ):
        change()
        capsys.readouterr()
        assert main(["verify", "out"]) == 3
        out = capsys.readouterr().out
        assert "verdict  weights: inconclusive" in out
        assert said in out


def test_verifying_finds_a_cache_that_has_moved(here, tmp_path, monkeypatch, capsys):
    main(["run", "recipe=mine", "hydra.run.dir=out"])
    (tmp_path / "cache").rename(tmp_path / "moved")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "moved"))
    assert main(["verify", "out"]) == 0


def test_a_wrong_digest_stops_everything(here, capsys):
    here(sha256="ab" * 32)
    assert main(["run", "recipe=mine", "hydra.run.dir=out"]) == 3
    err = capsys.readouterr().err
    assert weights()[1] in err
    assert "ab" * 32 in err
    assert not Path("out").exists()


def test_a_server_that_says_no_is_a_file_that_cannot_be_read(here, server, capsys):
    server.files.clear()
    assert main(["plan", "recipe=mine"]) == 4
    assert "the server answers 404" in capsys.readouterr().err


@pytest.mark.parametrize("digest", ["ab", "g" * 64, 12, "sha256:" + "a" * 57])
def test_a_digest_that_is_none(here, capsys, digest):
    here(sha256=digest)
    assert main(["plan", "recipe=mine"]) == 2
    assert "source.sha256: must be " in capsys.readouterr().err


def test_a_local_file_can_be_pinned_too(here, tmp_path, capsys):
    (tmp_path / "local.safetensors").write_bytes(weights()[0])
    here(path="local.safetensors", sha256=weights()[1])
    assert main(["plan", "recipe=mine"]) == 0
    assert "unpinned" not in capsys.readouterr().out
    (tmp_path / "local.safetensors").write_bytes(weights(2.0)[0])
    assert main(["plan", "recipe=mine"]) == 3
    assert f"local.safetensors has the SHA-256 {weights(2.0)[1]}" in capsys.readouterr().err
    here(path=".", sha256=weights()[1])
    assert main(["plan", "recipe=mine"]) == 2
    here(path="nowhere.h5", sha256=weights()[1])
    assert main(["plan", "recipe=mine"]) == 4


def test_a_pinned_index_says_that_it_is_not_all(here, tmp_path, capsys):
    (tmp_path / "a.safetensors").write_bytes(weights()[0])
    index = {"weight_map": {"dense.kernel": "a.safetensors", "dense.bias": "a.safetensors"}}
    (tmp_path / "a.safetensors.index.json").write_text(json.dumps(index))
    import hashlib

    here(path="a.safetensors.index.json", sha256=hashlib.sha256(json.dumps(index).encode()).hexdigest())
    assert main(["plan", "recipe=mine"]) == 2
    assert "sha256: pins one file" in capsys.readouterr().err


def test_a_target_elsewhere_is_pinned_and_recorded_as_well(here, server, capsys):
    words = [f"target.path={server.url(FILE)}", "source.path=target.safetensors", "mapping.all.to=dense"]
    assert main(["run", "recipe=mine", "hydra.run.dir=out", *words, "mapping.all.from=out"]) == 0
    assert "target.path [unpinned]: " in capsys.readouterr().out
    assert json.loads(Path("out/manifest.json").read_text())["target_file"]["sha256"] == weights()[1]


def test_inspecting(server, here, capsys):
    assert main(["inspect", server.url(FILE)]) == 0
    out, _ = capsys.readouterr()
    assert out.startswith(f"{server.url(FILE)} (safetensors")
    assert weights()[1] in out
    assert catalog(server.url(FILE)).label == server.url(FILE)


def test_a_page_in_place_of_a_file_is_named_by_its_address(server, here, capsys):
    server.files[FILE] = b"<!doctype html><title>Sign in</title>"
    assert main(["inspect", server.url(FILE)]) == 4
    err = capsys.readouterr().err
    assert f"{server.url(FILE)}: is a web page, not the file that it tells of" in err
