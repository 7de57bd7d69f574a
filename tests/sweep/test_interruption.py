"""A signal is remembered where what it raises is lost, and where it comes at a bad moment."""

import os
import signal

import pytest

from transferpipe.interruption import Terminated, held_back, interruption, interruptions, raise_if_interrupted


@pytest.fixture(autouse=True)
def listening():
    """Let Ctrl-C raise, as in a terminal, whatever runs these tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number, kind", [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_what_is_caught_is_raised_later(number, kind):
    with interruptions(signal.SIGINT, signal.SIGTERM):
        try:
            send(number)
        except BaseException as error:
            assert type(error) is kind
        assert interruption() is kind
        with pytest.raises(kind):
            raise_if_interrupted()
    with interruptions(signal.SIGINT):
        raise_if_interrupted()


def test_the_first_of_several_counts():
    with interruptions(signal.SIGINT, signal.SIGTERM):
        for number in (signal.SIGTERM, signal.SIGINT):
            with pytest.raises(KeyboardInterrupt):
                send(number)
        assert interruption() is Terminated


def test_a_few_lines_end_first():
    with interruptions(signal.SIGINT):
        with held_back():
            send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            raise_if_interrupted()


def test_a_handler_of_somebody_else_stays():
    found = []
    before = signal.signal(signal.SIGTERM, lambda *_: found.append(1))
    try:
        with interruptions(signal.SIGTERM):
            send(signal.SIGTERM)
        raise_if_interrupted()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert found == [1]
