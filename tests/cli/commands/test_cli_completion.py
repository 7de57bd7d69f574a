"""Completion: what fits, asked for as the shells ask, and by the shells themselves where they are installed."""

import os
import shutil
import subprocess
import sys

import pytest

from transferpipe.cli import main
from transferpipe.cli.commands.shells import SCRIPTS
from transferpipe.cli.verbs import FLAGS, OF_EVERY_VERB, VERBS
from transferpipe.codes import WARNINGS
from transferpipe.recipe.keys import SECTIONS, find_keys
from transferpipe.weights.formats import FORMATS

RULE = SECTIONS["rule"]


@pytest.fixture
def answers(here, recipe, monkeypatch, capsys):
    """Return a function that completes a line and returns the words."""
    recipe("head: null\n", "mapping/bare")

    def ask(line, shell="bash"):
        monkeypatch.setenv("COMP_LINE", line)
        assert main(["-sc", f"query={shell}"]) == 0
        monkeypatch.delenv("COMP_LINE")
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out.splitlines()

    return ask


def test_at_the_beginning_verbs_and_keys(answers):
    found = answers("transferpipe ")
    assert set(VERBS) < set(found)
    assert {"recipe=", "mapping=", "score=", "sweep=", "unmatched=", "save.", "source.", "seed="} < set(found)
    assert not [word for word in found if word.startswith("hydra")]
    assert "run" not in answers("transferpipe plan ")


@pytest.mark.parametrize("verb", VERBS)
def test_the_flags_of_a_verb_and_no_others(answers, verb):
    assert set(answers(f"transferpipe {verb} --")) == {*VERBS[verb].flags, *OF_EVERY_VERB, "--help"}
    for flag in VERBS[verb].flags:
        if not FLAGS[flag].takes_value:
            assert flag not in answers(f"transferpipe {verb} {flag} --")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("recipe=ow", ["recipe=own"]),
        ("plan recipe=own mapping=", ["mapping=bare", "mapping=none"]),
        ("sweep recipe=own mapping=none,", ["mapping=none,bare", "mapping=none,none"]),
        ("plan recipe=own score=li", ["score=linear_probe"]),
        ("sweep sweep=", ["sweep=interpolate", "sweep=rethinking", "sweep=yosinski"]),
        (
            "plan recipe=own unmatched=",
            ["unmatched=error", "unmatched=keep", "unmatched=same_name", "unmatched=same_name_or_keep"],
        ),
        ("plan recipe=own strict=", ["strict=true", "strict=false"]),
        ("plan recipe=own freeze=t", ["freeze=transferred"]),
        ("plan recipe=own allow=[unused,square-k", ["allow=[unused,square-kernel"]),
        ("plan recipe=own mapping.head.", ["mapping.head.to=", "mapping.head.from="]),
        ("plan recipe=own +mapping.head.", [f"+mapping.head.{k}=" for k in RULE if k not in ("to", "from")]),
        ("plan recipe=own +mapping.head.pair=", ["+mapping.head.pair=name", "+mapping.head.pair=order"]),
        ("plan recipe=own ~mapping.he", ["~mapping.head."]),
        ("plan recipe=own ~mapping.head.t", ["~mapping.head.to"]),
        ("plan recipe=own +source.", [f"+source.{k}=" for k in SECTIONS["source"] if k not in ("path", "_target_")]),
        ("plan recipe=own +source.format=", [f"+source.format={name}" for name in FORMATS]),
        ("plan recipe=own source.path=wei", ["source.path=weights.safetensors"]),
        ("plan recipe=own source.path=rec", ["source.path=recipes/"]),
        ("plan recipe=own quantize=", ["quantize=int8", "quantize=int4", "quantize=float8"]),
        ("plan recipe=own seed=", ["seed=0"]),
        ("plan recipe=own hydra.run.", ["hydra.run.dir="]),
        ("run hydra/launcher=proc", ["hydra/launcher=processes"]),
        ("help warn", ["warnings"]),
        ("schema rec", ["recipe"]),
        ("completion ", ["bash", "zsh", "fish"]),
        ("completion bash ", []),
        ("plan --cfg ", ["job", "hydra", "all"]),
        ("verify out", []),
        ("recipe=nowhere mapping.", []),
    ],
)
def test_what_fits(answers, line, words):
    assert sorted(answers(f"transferpipe {line}")) == sorted(words)


def test_every_key_of_the_table_is_offered_where_it_can_be_set(answers):
    found = {*answers("transferpipe plan recipe=own "), *answers("transferpipe plan recipe=own +")}
    for key in SECTIONS["recipe"].values():
        if key.name != "defaults":
            assert {f"{key.name}=", f"{key.name}."} & found, key.name
    for section in ("save", "verify"):
        inside = answers(f"transferpipe plan recipe=own {section}.")
        assert set(inside) == {f"{section}.{name}=" for name in find_keys((section,))}


@pytest.mark.parametrize("key", [k for k in SECTIONS["recipe"].values() if k.words], ids=lambda key: key.name)
def test_every_word_of_the_table_is_offered(answers, key):
    assert {f"{key.name}={word}" for word in key.words} <= set(answers(f"transferpipe plan recipe=own {key.name}="))
    if key.name == "allow":
        assert len(answers("transferpipe plan recipe=own allow=")) == len(WARNINGS)


def test_fish_is_told_what_words_mean(answers):
    words = dict(line.partition("\t")[::2] for line in answers("transferpipe plan recipe=own ", "fish"))
    assert words["unmatched="] == SECTIONS["recipe"]["unmatched"].about
    assert dict(line.partition("\t")[::2] for line in answers("transferpipe pl", "fish")) == {
        "plan": VERBS["plan"].about
    }


@pytest.mark.follows("print_script: did you mean …?")
def test_a_script_for_another_shell_is_not_there(refuses, cli):
    answer = refuses(2, ("completion", "bsh"), "did you mean 'bash'")
    assert cli("completion", answer.err.split("'")[3]).out == SCRIPTS["bash"]
    refuses(2, ("completion", "powershell"), "there are bash, zsh, fish")
    refuses(2, ("completion",), "takes one of bash, zsh, fish, not 0")


# The shells themselves ------------------------------------------------------------------------------------------------

BASH = """
eval "$(transferpipe completion bash)"
COMP_LINE=$1 COMP_POINT=${#1} COMP_WORDBREAKS=$2
_transferpipe transferpipe
printf '%s|\\n' "${COMPREPLY[@]}"
"""
ZSH = """
compdef() { : }
eval "$(transferpipe completion zsh)"
compadd() { while [[ $1 != -- ]]; do shift; done; shift; print -rl -- "$@" }
words=(${(s: :)1}) CURRENT=$#words PREFIX=$words[-1]
_transferpipe
"""
FISH = """
transferpipe completion fish | source
complete -C $argv[1]
"""


@pytest.fixture
def shell(here, recipe, tmp_path_factory):
    """Return a function that runs a script of a shell in which `transferpipe` is ours."""
    recipe("head: null\n", "mapping/bare")
    recipe((here / "recipes" / "own.yaml").read_text(), "$(touch pwned)")
    folder = tmp_path_factory.mktemp("bin")
    program = folder / "transferpipe"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m transferpipe "$@"\n')
    program.chmod(0o755)

    def run(name, script, *arguments):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
        head = {
            "bash": ["--norc", "-c", script, "bash"],
            "zsh": ["-f", "-c", script, "zsh"],
            "fish": ["--no-config", "-c", script],
        }
        environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "COMP_LINE": "", "HOME": str(folder)}
        done = subprocess.run(
            [name, *head[name], *arguments], capture_output=True, text=True, env=environment, timeout=120
        )
        assert not (here / "pwned").exists()
        return done.stdout.splitlines()

    return run


@pytest.mark.parametrize(
    ("line", "breaks", "words"),
    [
        ("transferpipe inspe", " \t\n=:", ["inspect |"]),
        ("transferpipe plan recipe=own unma", " \t\n=:", ["unmatched=|"]),
        ("transferpipe plan recipe=ow", " \t\n=:", ["own |"]),
        ("transferpipe plan recipe=ow", " \t\n", ["recipe=own |"]),
        ("transferpipe plan recipe=own mapping.he", " \t\n=:", ["mapping.head.|"]),
        ("transferpipe plan recipe=", " \t\n=:", ["own |", "$(touch pwned) |", "digits |"]),
    ],
)
def test_bash(shell, line, breaks, words):
    found = shell("bash", BASH, line, breaks)
    assert set(words) <= set(found)
    assert len(words) > 1 or found == words


def test_zsh(shell):
    assert [w for w in shell("zsh", ZSH, "transferpipe plan recipe=ow") if w] == ["recipe=own"]
    found = shell("zsh", ZSH, "transferpipe plan recipe=own unmatched=")
    assert [word for word in found if word] == [f"unmatched={word}" for word in SECTIONS["recipe"]["unmatched"].words]


def test_fish(shell):
    words = dict(line.partition("\t")[::2] for line in shell("fish", FISH, "transferpipe plan recipe=own unm"))
    assert words == {"unmatched=": SECTIONS["recipe"]["unmatched"].about}
    assert "recipe=own" in shell("fish", FISH, "transferpipe plan recipe=ow")


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_asks_for_its_own_shell(name):
    assert f"-sc query={name}" in SCRIPTS[name]
