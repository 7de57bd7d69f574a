"""`dataclass`, made five times as fast as the library's for the frozen ones, of which a run imports two hundred.

The library compiles six methods for each class, which is a seventh of the processor time of a run of two small files
(until Python 3.13, which compiles them together). Here only `__init__` is compiled; the others are the same for all
classes and read the fields. What they do is what the library's do, and `dataclasses.fields`, `replace` and `asdict`
take such classes as their own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, FrozenInstanceError
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass  # to a type checker, they are one
else:

    def dataclass(cls: type[Any] | None = None, /, **options: bool) -> Any:
        """Make a class a dataclass, as `dataclasses.dataclass` does with the same options."""

        def made(cls: type[Any]) -> type[Any]:
            return _frozen(cls, **options) if _is_ours(cls, options) else dataclasses.dataclass(cls, **options)

        return made if cls is None else made(cls)


class _Made:
    """What stands for a default that is made anew for each object; shown as the library shows its own."""

    def __repr__(self) -> str:
        return "<factory>"


_MADE = _Made()
_OURS = {"frozen", "slots", "repr", "eq"}
_Method = Callable[..., Any]
_Values = Callable[[Any], tuple[Any, ...]]


def _is_ours(cls: type[Any], options: dict[str, bool]) -> bool:
    """Tell whether a class is made here: frozen, and without what few have."""
    alone = not any(dataclasses.is_dataclass(base) for base in cls.__mro__[1:])
    own = {"__setattr__", "__delattr__", "__hash__", "__getstate__", "__setstate__"} & vars(cls).keys()
    plain = not any("InitVar" in str(a) or "KW_ONLY" in str(a) for a in vars(cls).get("__annotations__", {}).values())
    return bool(options.get("frozen")) and options.keys() <= _OURS and alone and plain and not own


def _frozen(cls: type[Any], frozen: bool, slots: bool = False, repr: bool = True, eq: bool = True) -> type[Any]:
    if cls.__doc__ is None:
        cls.__doc__ = cls.__name__  # else the library looks up the signature, which takes as long as all of this
    # Fields, their defaults, slots, and what `match` goes by are the library's.
    made: type[Any] = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots)(cls)
    made.__dataclass_params__.frozen = True  # which those that inherit from it have to be
    fields = dataclasses.fields(made)
    names = tuple(f.name for f in fields)
    methods = {"__init__": _initializer(made, fields), **_guards(made, frozenset(names))}
    if repr:
        methods["__repr__"] = _representer([f.name for f in fields if f.repr])
    if eq:
        methods["__eq__"] = _comparer(_values_of([f.name for f in fields if f.compare]))
        methods["__hash__"] = _hasher(_values_of([f.name for f in fields if (f.compare if f.hash is None else f.hash)]))
    if slots:
        methods |= _state_methods(names)
    for name, method in methods.items():
        if name not in vars(made):  # what the class defines itself stays
            method.__name__, method.__qualname__ = name, f"{made.__qualname__}.{name}"
            method.__module__ = made.__module__
            setattr(made, name, method)
    return made


def _initializer(cls: type[Any], fields: Sequence[Field[Any]]) -> _Method:
    """Return `__init__`, the one method that differs with every class: Python binds arguments to names fastest."""
    known: dict[str, Any] = {"_set": object.__setattr__, "_MADE": _MADE}
    positional, named, body = list[str](), list[str](), list[str]()
    for field in fields:
        name, value = field.name, field.name
        if field.default_factory is not MISSING:
            known[f"_make_{name}"] = field.default_factory
            value = f"_make_{name}() if {name} is _MADE else {name}" if field.init else f"_make_{name}()"
        elif field.default is not MISSING:
            known[f"_default_{name}"] = field.default
            value = name if field.init else f"_default_{name}"
        if field.init:
            has_default = field.default is not MISSING or field.default_factory is not MISSING
            default = "_MADE" if field.default is MISSING else f"_default_{name}"
            (named if field.kw_only else positional).append(f"{name}={default}" if has_default else name)
        if field.init or value != name:
            body.append(f"_set(self, {name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    arguments = ", ".join(["self", *positional, *(["*", *named] if named else [])])
    exec(f"def __init__({arguments}):\n " + "\n ".join(body or ["pass"]), known)  # noqa: S102 - of names of fields
    method: _Method = known["__init__"]
    method.__annotations__ = {f.name: f.type for f in fields if f.init} | {"return": None}
    return method


def _guards(cls: type[Any], names: frozenset[str]) -> dict[str, _Method]:
    """Return what refuses to change a field; a class that inherits from this one may have attributes beside them."""

    def refuse_to_set(self: Any, name: str, value: Any) -> None:
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)

    def refuse_to_delete(self: Any, name: str) -> None:
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)

    return {"__setattr__": refuse_to_set, "__delattr__": refuse_to_delete}


def _representer(names: Sequence[str]) -> _Method:
    @recursive_repr()
    def shown(self: Any) -> str:
        return f"{type(self).__qualname__}({', '.join([f'{n}={getattr(self, n)!r}' for n in names])})"

    return shown


def _values_of(names: Sequence[str]) -> _Values:
    """Return what gives the values of some fields as a tuple."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda record: tuple([getattr(record, name) for name in names])


def _comparer(values: _Values) -> _Method:
    def equals(self: Any, other: object) -> bool:
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    return equals


def _hasher(values: _Values) -> _Method:
    def hashed(self: Any) -> int:
        return hash(values(self))

    return hashed


def _state_methods(names: Sequence[str]) -> dict[str, _Method]:
    """Return what copies and pickles an object with slots, which `__setattr__` would refuse."""

    def state_of(self: Any) -> list[Any]:
        return [getattr(self, name) for name in names]

    def set_state(self: Any, state: list[Any]) -> None:
        for name, value in zip(names, state, strict=True):
            object.__setattr__(self, name, value)

    return {"__getstate__": state_of, "__setstate__": set_state}
