"""`transferpipe.records`: what the library's `dataclass` makes of the same class is the measure of everything."""

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field
from functools import cached_property
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from transferpipe import records


def classes(dataclass: Callable[..., Any]) -> SimpleNamespace:
    """Return classes made by one of the two."""

    @dataclass(frozen=True)
    class Plain:
        """With all kinds of defaults."""

        a: int
        b: str = "b"
        c: list[int] = field(default_factory=list)
        d: dict[str, int] = field(default_factory=dict, repr=False, compare=False)
        kind: ClassVar[str] = "plain"

        @cached_property
        def twice(self) -> int:
            return 2 * self.a

    @dataclass(frozen=True, slots=True)
    class Slots:
        """With slots, and a second thought."""

        a: int
        known: object = field(default=None, compare=False, repr=False)
        own: int = field(default=3, init=False)

        def __post_init__(self) -> None:
            if self.a < 0:
                raise ValueError("below zero")

    @dataclass(frozen=True)
    class One:
        """One field: its value is no tuple."""

        a: float

    @dataclass(frozen=True)
    class Nothing:
        """No field."""

    @dataclass(frozen=True, repr=False)
    class Shown:
        """Shows itself."""

        a: int

        def __repr__(self) -> str:
            return f"<{self.a}>"

    @dataclass(frozen=True, eq=False)
    class Same:
        """Equal to itself alone."""

        a: int

    @dataclass(frozen=True)
    class Below(Plain):
        """Inherits fields."""

        e: int = 5

    @dataclass(frozen=True)
    class Named:
        """Takes a field by its name."""

        a: int
        b: int = field(kw_only=True)
        c: int = 7

    @dataclass
    class Open:
        """Can be changed."""

        a: int

    return SimpleNamespace(**{k: v for k, v in locals().items() if isinstance(v, type)})


OURS, THEIRS = classes(records.dataclass), classes(dataclasses.dataclass)
MADE = {
    "plain": lambda of: of.Plain(1),
    "all given": lambda of: of.Plain(1, "x", [1, 2], {"k": 1}),
    "slots": lambda of: of.Slots(1, known="k"),
    "one": lambda of: of.One(2.5),
    "nothing": lambda of: of.Nothing(),
    "shown": lambda of: of.Shown(4),
    "same": lambda of: of.Same(4),
    "below": lambda of: of.Below(1, e=6),
    "named": lambda of: of.Named(1, b=2),
    "open": lambda of: of.Open(1),
}


def raised(call: Callable[[], object]) -> tuple[type[BaseException], str] | None:
    """Return what a call raises."""
    try:
        call()
    except Exception as error:
        return type(error), str(error)
    return None


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_an_object_is_what_the_library_makes_of_it(make: Callable[[Any], Any]) -> None:
    ours, theirs = make(OURS), make(THEIRS)
    assert dataclasses.is_dataclass(ours)
    if type(ours).__repr__ is not object.__repr__:
        assert repr(ours) == repr(theirs)
    assert dataclasses.asdict(ours) == dataclasses.asdict(theirs)
    assert [f.name for f in dataclasses.fields(ours)] == [f.name for f in dataclasses.fields(theirs)]
    assert type(ours).__match_args__ == type(theirs).__match_args__
    assert str(inspect.signature(type(ours))) == str(inspect.signature(type(theirs)))
    assert hasattr(ours, "__dict__") == hasattr(theirs, "__dict__")
    assert (ours == make(OURS), ours == theirs) == (theirs == make(THEIRS), False)
    assert raised(lambda: hash(ours)) == raised(lambda: hash(theirs))


@pytest.mark.parametrize("make", [MADE[k] for k in MADE if k not in ("nothing", "open")])
def test_it_cannot_be_changed_but_copied(make: Callable[[Any], Any]) -> None:
    ours, theirs = make(OURS), make(THEIRS)
    for change in (lambda it: setattr(it, "a", 9), lambda it: delattr(it, "a")):
        assert raised(lambda: change(ours)) == raised(lambda: change(theirs))  # noqa: B023 - called at once
        assert raised(lambda: change(ours))[0] is FrozenInstanceError  # noqa: B023
    assert raised(lambda: setattr(ours, "new", 9))[0] is FrozenInstanceError
    other = dataclasses.replace(ours, a=9)
    assert (other.a, ours.a) == (dataclasses.replace(theirs, a=9).a, make(THEIRS).a)
    for twin in (copy.copy(ours), copy.deepcopy(ours)):
        assert dataclasses.asdict(twin) == dataclasses.asdict(ours)


def test_equal_objects_are_one_in_a_set_and_fields_that_do_not_count_do_not() -> None:
    for of in (OURS, THEIRS):
        assert len({of.Slots(1, "x"), of.Slots(1, "y"), of.Slots(2)}) == 2
        assert len({of.One(1.0), of.One(1), of.Nothing(), of.Nothing()}) == 2
        assert of.Plain(1, d={"x": 1}) == of.Plain(1)
        assert of.Plain(1) != of.Below(1)
        nan = float("nan")
        assert of.One(nan) == of.One(nan)  # one object: as tuples compare


def test_defaults_are_not_shared_and_the_second_thought_is_asked() -> None:
    first, second = OURS.Plain(1), OURS.Plain(1)
    first.c.append(3)
    assert second.c == []
    assert first.twice == 2
    assert OURS.Slots(1).own == 3
    assert raised(lambda: OURS.Slots(-1)) == (ValueError, "below zero")
    for call in (lambda of: of.Plain(), lambda of: of.Plain(1, 2, 3, 4, 5), lambda of: of.Named(1, 2)):
        assert raised(lambda: call(OURS))[0] is raised(lambda: call(THEIRS))[0] is TypeError  # noqa: B023


def test_what_holds_itself_is_shown_once() -> None:
    ours, theirs = OURS.Plain(1), THEIRS.Plain(1)
    ours.c.append(ours)
    theirs.c.append(theirs)
    assert repr(ours) == repr(theirs)


@records.dataclass(frozen=True, slots=True)
class Sent:
    """Found by its name."""

    a: int
    b: tuple[int, ...] = ()


def test_it_is_pickled() -> None:
    assert pickle.loads(pickle.dumps(Sent(1, (2,)))) == Sent(1, (2,))


def test_classes_of_a_user_may_inherit_from_it_and_have_attributes() -> None:
    @dataclasses.dataclass(frozen=True)
    class Mine(OURS.One):  # type: ignore[misc, name-defined]
        """A field more."""

        b: int = 2

    class Other(OURS.One):  # type: ignore[misc, name-defined]
        """No dataclass."""

    assert dataclasses.asdict(Mine(1.0)) == {"a": 1.0, "b": 2}
    assert raised(lambda: setattr(Mine(1.0), "b", 3))[0] is FrozenInstanceError
    other = Other(1.0)
    other.note = "x"
    assert other.note == "x"
    assert raised(lambda: setattr(other, "a", 3))[0] is FrozenInstanceError


def test_the_classes_of_a_plan_are_made_here() -> None:
    from transferpipe.planning.model import Assignment

    assert Assignment.__eq__.__module__ == "transferpipe.planning.model"
    assert "<string>" not in Assignment.__eq__.__code__.co_filename
