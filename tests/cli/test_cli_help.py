"""The verb `help`, offline, and its completion."""

import pytest

from transferpipe.cli import main
from transferpipe.show.help_pages import list_topics, read_topic


@pytest.mark.parametrize("topic", ["verdict", "warnings", "transforms"])
def test_a_topic_is_printed(cli, topic):
    answer = cli("help", topic)
    assert (answer.status, answer.out.rstrip(), answer.err) == (0, read_topic(topic), "")


def test_help_alone_lists_the_topics(cli):
    answer = cli("help")
    assert answer.status == 0
    for topic, about in list_topics().items():
        assert topic in answer.out and about in answer.out
    assert answer.out.startswith(cli("--help").out)
    assert max(map(len, answer.out.splitlines())) <= 100


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
