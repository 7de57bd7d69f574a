"""Python's garbage collector while a plan is made: off, and afterwards as it was."""

import contextlib
import gc

import pytest

from transferpipe.collector import collector_paused, collector_resting


@pytest.fixture(autouse=True)
def as_it_was():
    was = gc.isenabled()
    yield
    (gc.enable if was else gc.disable)()


@pytest.mark.parametrize("last", [False, True])
def test_it_rests_in_the_body_and_in_bodies_inside(last):
    gc.enable()
    with collector_resting(last=last):
        assert not gc.isenabled()
        with collector_resting():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_works_again_after_an_error():
    gc.enable()
    with pytest.raises(ValueError, match="mine"), collector_resting():
        raise ValueError("mine")
    assert gc.isenabled()


def test_who_switched_it_off_keeps_it_off():
    gc.disable()
    with collector_resting(last=True):
        pass
    assert not gc.isenabled()


@pytest.mark.parametrize("rests", [False, True])
def test_what_is_imported_is_never_looked_at_again(rests):
    """Also by an import while a plan is made."""
    gc.enable()
    imported = [[] for _ in range(10)]
    with collector_resting() if rests else contextlib.nullcontext(), collector_paused():
        imported += [[] for _ in range(10)]
    try:
        looked_at = set(map(id, gc.get_objects()))
        assert looked_at.isdisjoint(map(id, imported))
        assert gc.isenabled()
    finally:
        gc.unfreeze()


def test_nothing_is_frozen_where_somebody_else_switched_it_off():
    gc.disable()
    with collector_paused():
        mine = [[]]
    assert id(mine) in set(map(id, gc.get_objects()))


def test_many_bodies_leave_no_garbage():
    """What each leaves is found as soon as the collector looks at what is new."""

    class Cycle:
        pass

    gc.enable()
    gc.collect()
    before = sum(type(one) is Cycle for one in gc.get_objects())
    for _ in range(5):
        with collector_resting():
            one = Cycle()
            one.itself = one
            del one
    gc.collect(0)
    assert sum(type(one) is Cycle for one in gc.get_objects()) == before
