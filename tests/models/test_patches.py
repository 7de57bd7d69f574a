"""Methods that are replaced for one block of one thread: nested, overlapping, interrupted, and beside other people's."""

import threading

import keras
import numpy as np
import pytest

from transferpipe.models.building.baked import calls_noted
from transferpipe.models.deferred.refusals import refusals_noted
from transferpipe.models.patches import patched


class Base:
    def hello(self, name="you", *, proceed=1, **more):
        return f"hello {name}"

    @property
    def size(self):
        return 3


class Derived(Base):
    pass


ORIGINAL = {name: vars(Base)[name] for name in ("hello", "size")}


@pytest.fixture(autouse=True)
def _restored():
    yield
    assert {name: vars(Base)[name] for name in ORIGINAL} == ORIGINAL
    assert "hello" not in vars(Derived)


def around(mark):
    return lambda proceed, /, *args, **kwargs: f"{mark}({proceed(*args, **kwargs)})"


def in_thread(function):
    """Return what the function gives in a thread of its own."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def test_an_inherited_method_is_replaced_where_it_is_defined():
    with patched(Derived, "hello", around("a")):
        assert (Derived().hello(), Base().hello("me", proceed=2, name2=3)) == ("a(hello you)", "a(hello me)")
    assert Derived().hello() == "hello you"


def test_blocks_nest():
    with patched(Base, "hello", around("a")):
        with patched(Base, "hello", around("b")), patched(Base, "size", lambda proceed, this: proceed(this) + 1):
            assert (Base().hello(), Base().size) == ("b(a(hello you))", 4)
        assert (Base().hello(), Base().size) == ("a(hello you)", 3)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_whatever_ends_the_block(error):
    with pytest.raises(error), patched(Base, "hello", around("a")), patched(Base, "hello", around("b")):
        raise error
    assert Base().hello() == "hello you"


def test_what_is_called_instead_may_raise():
    def refuse(proceed, this, **_):
        raise ValueError("no")

    with patched(Base, "hello", refuse):
        with pytest.raises(ValueError, match="no"):
            Base().hello()
        assert in_thread(Base().hello) == "hello you"
    assert Base().hello() == "hello you"


def test_other_threads_never_notice():
    with patched(Base, "hello", around("a")):
        assert in_thread(Base().hello) == "hello you"

        def inner():
            with patched(Base, "hello", around("b")):
                return Base().hello()

        assert in_thread(inner) == "b(hello you)"
        assert Base().hello() == "a(hello you)"


@pytest.mark.parametrize("first", [0, 1])
def test_threads_that_end_in_any_order_leave_nothing(first):
    """Two methods, entered by two threads in opposite orders, so that one ends while the other is still inside."""
    inside, leave, found = threading.Barrier(3), [threading.Event(), threading.Event()], {}

    def block(number):
        with patched(Base, "hello", around(f"a{number}")), patched(Base, "hello", around(f"b{number}")):
            inside.wait(10)
            leave[number].wait(10)
            found[number] = Base().hello()

    threads = [threading.Thread(target=block, args=(n,)) for n in (0, 1)]
    for thread in threads:
        thread.start()
    inside.wait(10)
    for number in (first, 1 - first):
        assert Base().hello() == "hello you"
        leave[number].set()
        threads[number].join()
    assert found == {n: f"b{n}(a{n}(hello you))" for n in (0, 1)}


def test_many_threads_at_once():
    wrong = []

    def block(number):
        for _ in range(200):
            with patched(Base, "hello", around(number)):
                if Base().hello() != f"{number}(hello you)":
                    wrong.append(number)
            if Base().hello() != "hello you":
                wrong.append(number)

    threads = [threading.Thread(target=block, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_others_put_there_meanwhile_stays():
    def theirs(self):
        return "theirs"

    with patched(Base, "hello", around("a")):
        Base.hello = theirs
    try:
        assert Base().hello() == "theirs"
        with patched(Base, "hello", around("b")):
            assert Base().hello() == "b(theirs)"
        assert Base.hello is theirs
    finally:
        Base.hello = ORIGINAL["hello"]


def test_a_block_of_others_that_ends_later_keeps_ours_without_effect():
    """Somebody wraps the method while it is replaced, and goes on calling what stood there."""
    with patched(Base, "hello", around("a")):
        ours = Base.hello
        Base.hello = lambda self: f"theirs({ours(self)})"
    try:
        assert Base().hello() == "theirs(hello you)"
        with patched(Base, "hello", around("b")):
            assert Base().hello() == "b(theirs(hello you))"
    finally:
        Base.hello = ORIGINAL["hello"]


@pytest.mark.parametrize("first", [0, 1])
def test_both_watches_of_keras_in_two_threads_leave_keras_as_it_was(first):
    before = keras.layers.Layer.__call__
    inside, leave, found = threading.Barrier(3), [threading.Event(), threading.Event()], {}

    def block(number, outer, inner):
        with outer() as one, inner() as other:
            inside.wait(30)
            leave[number].wait(30)
            keras.layers.Dense(2)(np.ones((1, 2), "float32"))
            try:
                keras.Sequential([keras.layers.Dense(1)])(object())
            except Exception:
                found[number] = len(one), len(other)

    threads = [
        threading.Thread(target=block, args=(0, calls_noted, refusals_noted)),
        threading.Thread(target=block, args=(1, refusals_noted, calls_noted)),
    ]
    for thread in threads:
        thread.start()
    inside.wait(30)
    assert keras.layers.Layer.__call__ is not before
    with pytest.raises(ValueError):
        keras.layers.Dense(2)(None)
    for number in (first, 1 - first):
        leave[number].set()
        threads[number].join()
    assert keras.layers.Layer.__call__ is before
    assert found[0][0] == found[1][1] == 2  # kernel and bias, each thread's own
    assert min(found[0][1], found[1][0]) > 0
