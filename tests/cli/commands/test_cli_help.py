"""The verb `help`, offline, and its completion."""

import importlib
import shlex

import pytest

from transferpipe.cli import main
from transferpipe.cli.arguments import parse_arguments
from transferpipe.cli.verbs import FLAGS, VERBS, Arguments, Verb
from transferpipe.show.help_pages import list_topics, read_topic


@pytest.mark.parametrize("topic", ["verdict", "warnings", "transforms"])
def test_a_topic_is_printed(cli, topic):
    answer = cli("help", topic)
    assert (answer.status, answer.out.rstrip(), answer.err) == (0, read_topic(topic), "")


def test_help_alone_lists_the_topics(cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    answer = cli("help")
    assert answer.status == 0
    for topic, about in list_topics().items():
        assert f"{topic} {about}" in " ".join(answer.out.split())
    assert answer.out.startswith(cli("--help").out)


def test_an_unknown_topic_is_refused(refuses):
    refuses(2, ["help", "warnigs"], "unknown topic 'warnigs'", "did you mean 'warnings'?")
    refuses(2, ["help", "verdict", "warnings"], "takes one topic, not 2")


@pytest.mark.parametrize(
    ("line", "words"), [("transferpipe help w", ["warnings"]), ("transferpipe run --str", ["--strict"])]
)
def test_completion(monkeypatch, capsys, line, words):
    monkeypatch.setenv("COMP_LINE", line)
    assert main(["-sc", "query=bash"]) == 0
    assert capsys.readouterr().out.split() == words


def test_every_verb_has_a_row_a_line_of_help_and_a_function_of_its_own(cli):
    help_text, functions = " ".join(cli("--help").out.split()), set()
    for name, verb in VERBS.items():
        assert f"{name} {verb.about}" in help_text
        module, _, function = verb.function.partition(":")
        functions.add(getattr(importlib.import_module(f"transferpipe.cli.{module}"), function))
    assert all(map(callable, functions)) and len(functions) == len(VERBS)
    assert set(FLAGS) == {"--traceback"}.union(*(verb.flags for verb in VERBS.values()))


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_every_verb_has_help_of_its_own(cli, verb, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    answer = cli(verb.name, "--help")
    assert (answer.status, answer.err) == (0, "")
    assert max(map(len, answer.out.splitlines())) <= 80
    for flag in (*verb.flags, "--traceback"):
        assert FLAGS[flag].spelling in answer.out
    assert cli("--help", verb.name).out == answer.out
    if verb.name not in list_topics():
        assert cli("help", verb.name).out == answer.out
    program, *words = shlex.split(answer.out.rpartition("example\n")[2])
    assert (program, parse_arguments(words).verb) == ("transferpipe", verb.name)


@pytest.mark.parametrize("function", ["", "recipes", "recipes:", ":recipes"])
def test_a_row_without_a_function_cannot_start(function):
    with pytest.raises(ValueError, match="the verb 'new' names no function"):
        Verb("new", "does something", "", (), function, "transferpipe new")


@pytest.mark.parametrize(
    ("function", "error"), [("commands.recipes:nothing", LookupError), ("nothing:recipes", ImportError)]
)
def test_a_row_whose_function_is_missing_is_an_error_and_never_another_verb(function, error):
    with pytest.raises(error, match="nothing"):
        Verb("new", "does something", "", (), function, "transferpipe new").run(Arguments("new"))
