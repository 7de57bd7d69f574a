"""Reading a pickle as data: a machine for pickle's opcodes that has no way to import, call or change anything.

`torch.load` needs PyTorch, and its ``weights_only`` machine still imports and calls what its own list allows; here
nothing is there that could be called. The arguments of opcodes are read by `pickletools`, which executes nothing. What
a pickle names (``GLOBAL``) becomes what the caller's table has under that name, and is refused otherwise; what it calls
is one of the table's own functions.
Opcodes: https://docs.python.org/3/library/pickletools.html and the comments of CPython's ``Lib/pickletools.py``.
"""

from __future__ import annotations

import codecs
import pickletools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from transferpipe.weights.formats.torch.limited import Limited, PickleError

MOST_PICKLE = 1 << 26
"""Bytes of one pickle; the tensors' values lie outside of it."""
_MOST_TEXT = 200  # of an error that may quote what the file holds
_OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
# Opcodes of long strings of bytes, by the size of the length that follows; shorter ones are kept as they are.
_LONG, _NEAR = {"BINSTRING": 4, "BINBYTES": 4, "BINBYTES8": 8, "BYTEARRAY8": 8}, 256
# A pickle has fewer opcodes than bytes. What copies a value costs steps as well, so that the work stays bounded by the
# size of the file, and of a huge one by the first number.
_MOST_STEPS, _STEPS_OF_ANY = 4_000_000, 100_000
# An object that holds others takes the time of ten numbers and up to 350 bytes.
_STEPS_OF_AN_OBJECT = 10


class Entries:
    """A mapping as its pickle lists it: pairs, because hashing what a file gives can take for ever.

    Attributes:
        pairs: keys and values in file order, equal keys included.
    """

    __slots__ = ("pairs",)

    def __init__(self) -> None:
        self.pairs: list[tuple[Any, Any]] = []


@dataclass(frozen=True)
class Opaque:
    """Stands for an object that nothing is known of but the name of its class or maker."""

    name: str


@dataclass(frozen=True)
class Foreign(Opaque):
    """Stands for a class of somebody's, or a function that is only mentioned.

    What its name says is not believed, let alone imported; an object of the class is a `Thing`.
    """

    @property
    def is_class(self) -> bool:
        """Whether it is spelled as a class is, so that calling it makes an object, such as a member of an Enum."""
        return self.name.rpartition(".")[2].lstrip("_")[:1].isupper()


class Thing(Entries):
    """An object of a class of somebody's: what it holds as a mapping, and what its attributes are.

    Attributes:
        name: the name of its class.
        state: its attributes; None before they are set.
    """

    __slots__ = ("name", "state")

    def __init__(self, name: str, pairs: Iterable[tuple[Any, Any]] = ()) -> None:
        super().__init__()
        self.name, self.state = name, Entries()
        self.pairs.extend(pairs)


@dataclass(frozen=True)
class Function:
    """What a pickle may call: a function of the reader's own, under the name by which pickles know it."""

    name: str
    call: Callable[[tuple[Any, ...]], Any]


@dataclass(frozen=True)
class FarBytes:
    """Bytes that stay in the file: where they begin, and how many they are."""

    offset: int
    count: int


class Unfinished:
    """An object that is complete only once its state is set."""

    def finished(self, state: Any) -> Any:
        """Return what it is then, itself or another object in its place."""
        raise NotImplementedError


@dataclass
class Machine:
    """What one pickle is read with.

    Attributes:
        names: what the names mean that a pickle may use.
        persistent: returns what a persistent id stands for.
        leaves_bytes: whether long strings of bytes stay in the file, as `FarBytes`.
        refused: the names found that mean nothing here.
        steps: how many opcodes may still come.
    """

    names: Callable[[str], Any]
    persistent: Callable[[Any], Any]
    leaves_bytes: bool = False
    refused: dict[str, None] = field(default_factory=dict)
    steps: int = _STEPS_OF_ANY
    stack: list[Any] = field(default_factory=list, repr=False)
    marks: list[int] = field(default_factory=list, repr=False)
    memo: dict[int, Any] = field(default_factory=dict, repr=False)

    def pop(self) -> Any:
        """Take the top of the stack."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise PickleError("takes something from an empty stack")
        return self.stack.pop()

    def top(self) -> Any:
        """Return the top of the stack."""
        value = self.pop()
        self.stack.append(value)
        return value

    def above_mark(self) -> list[Any]:
        """Take everything above the last mark, and the mark."""
        if not self.marks:
            raise PickleError("looks for a mark that is not there")
        start = self.marks.pop()
        found = self.stack[start:]
        del self.stack[start:]
        return found

    def named(self, name: str) -> Any:
        """Return what `name` means; note it if it means nothing."""
        meaning = self.names(name)
        return self.refuse(name) if meaning is None else meaning

    def refuse(self, name: str) -> Opaque:
        """Note a name that no data needs, and return what stands for it until reading ends."""
        self.refused[name] = None
        return Opaque(name)


def steps_for(size: int) -> int:
    """Return how many opcodes the pickles in a file of `size` bytes may have.

    Even one that lies there packed has few opcodes a byte, unless it was made to take long.
    """
    return min(_MOST_STEPS, _STEPS_OF_ANY + 4 * size)


def read_pickle(file: Limited, machine: Machine) -> Any:
    """Return what the pickle at the file's position describes, and leave the file behind it.

    Raises:
        PickleError: it is damaged, takes too long, or uses opcodes that no data needs.
    """
    # Every pickle of a file has its own stack and memo; the steps are counted over all of them.
    machine.stack, machine.marks, machine.memo = [], [], {}
    try:
        for name, argument in _opcodes(file, machine.leaves_bytes):
            machine.steps -= _STEPS_OF_AN_OBJECT if name in _MAKES_AN_OBJECT else 1
            if machine.steps < 0:
                raise PickleError("has more steps than a file of this size needs")
            if name == "STOP":
                return machine.pop()
            step = _STEPS.get(name)
            if step is None:
                raise PickleError(f"uses the opcode {name}, which no data needs")
            step(machine, argument)
    except PickleError:
        raise
    except (ValueError, KeyError, IndexError, OverflowError) as error:
        raise PickleError(f"is damaged: {str(error)[:_MOST_TEXT]}") from error
    raise PickleError("does not end")


def _opcodes(file: Limited, leaves_bytes: bool) -> Iterator[tuple[str, Any]]:
    """Yield names and arguments of opcodes, as `pickletools.genops` does, but for bytes that stay in the file."""
    while True:
        code = file.read(1)
        opcode = _OPCODES.get(code.decode("latin-1"))
        if opcode is None:
            raise ValueError(f"byte {file.tell() - 1:,} is {code!r}, which is not an opcode")
        argument: Any = None
        if leaves_bytes and opcode.name in _LONG:
            count = int.from_bytes(file.read(_LONG[opcode.name]), "little")
            argument = file.read(count) if count < _NEAR else FarBytes(file.skip(count), count)
            if isinstance(argument, bytes) and opcode.name == "BINSTRING":
                argument = argument.decode("latin-1")
        elif opcode.name == "STRING":  # of Python 2, which has bytes in it where pickletools wants ASCII
            line = file.readline().strip()
            if len(line) < 2 or line[:1] not in b"'\"" or line[:1] != line[-1:]:
                raise PickleError(f"has a string without quotes before byte {file.tell():,}")
            argument = codecs.escape_decode(line[1:-1])[0].decode("latin-1")
        elif opcode.arg is not None:
            argument = opcode.arg.reader(file)  # type: ignore[arg-type]  # needs no more than it has
        yield opcode.name, argument


def _push(m: Machine, value: Any) -> None:
    m.stack.append(value)


def _pop(m: Machine, _: Any) -> None:
    # POP takes a mark away where that is on top (CPython's `load_pop`).
    if m.marks and m.marks[-1] == len(m.stack):
        m.marks.pop()
    else:
        m.pop()


def _tuple_of(count: int) -> Callable[[Machine, Any], None]:
    def step(m: Machine, _: Any) -> None:
        items = [m.pop() for _ in range(count)]
        m.stack.append(tuple(reversed(items)))

    return step


def _append(m: Machine, items: list[Any]) -> None:
    target = m.top()
    if isinstance(target, list):
        target.extend(items)
    elif not isinstance(target, Opaque | Thing):
        raise PickleError(f"appends to a {type(target).__name__}")


def _set(m: Machine, items: list[Any]) -> None:
    target = m.top()
    if len(items) % 2:
        raise PickleError("sets a key without a value")
    if isinstance(target, Entries):
        target.pairs.extend(zip(items[::2], items[1::2], strict=True))
    elif not isinstance(target, Opaque):
        raise PickleError(f"sets an item of a {type(target).__name__}")


def _dict(m: Machine, _: Any) -> None:
    items = m.above_mark()
    m.stack.append(Entries())
    _set(m, items)


def _put(m: Machine, index: int | None) -> None:
    m.memo[len(m.memo) if index is None else index] = m.top()


def _get(m: Machine, index: int) -> None:
    if index not in m.memo:
        raise PickleError(f"asks for entry {index} of its memo, which is not there")
    m.stack.append(m.memo[index])


def _global(m: Machine, name: str) -> None:
    m.stack.append(m.named(name.replace(" ", ".", 1)))


def _stack_global(m: Machine, _: Any) -> None:
    name, module = m.pop(), m.pop()
    if not (isinstance(name, str) and isinstance(module, str)):
        raise PickleError("names something by a value that is not text")
    m.stack.append(m.named(f"{module}.{name}"))


def _call(m: Machine, function: Any, arguments: Any, makes_object: bool = False) -> None:
    """Push what a call gives; only an object's own class is called where `makes_object`."""
    if isinstance(function, Foreign):
        known = makes_object or function.is_class
        m.stack.append(make_thing(function, arguments) if known else m.refuse(function.name))
        # Copying the pairs takes their number of steps, or a memo could double them again and again.
        m.steps -= len(m.stack[-1].pairs) if known else 0
    elif isinstance(function, Opaque):
        m.stack.append(function)
    elif isinstance(function, Function) and isinstance(arguments, tuple):
        made = function.call(arguments)
        m.steps -= len(made.pairs) if isinstance(made, Entries) else 0  # it may be a copy, which takes its time
        m.stack.append(made)
    else:
        raise PickleError(f"calls a {type(function).__name__}")


def make_thing(kind: Foreign, arguments: Any) -> Thing:
    """Return an object of a class; a mapping that is made of pairs or of another mapping has these."""
    first = arguments[0] if isinstance(arguments, tuple) and len(arguments) == 1 else None
    if isinstance(first, Entries):
        return Thing(kind.name, first.pairs)
    are_pairs = isinstance(first, list) and all(isinstance(v, list | tuple) and len(v) == 2 for v in first)
    return Thing(kind.name, [(v[0], v[1]) for v in first] if are_pairs else ())  # type: ignore[union-attr]


def _reduce(m: Machine, _: Any) -> None:
    arguments, function = m.pop(), m.pop()
    _call(m, function, arguments)


def _new(m: Machine, _: Any) -> None:
    arguments, function = m.pop(), m.pop()
    _call(m, function, arguments, makes_object=True)


def _new_with_names(m: Machine, _: Any) -> None:
    m.pop()
    _new(m, None)


def _instance(m: Machine, name: str) -> None:
    arguments = tuple(m.above_mark())
    _call(m, m.named(name.replace(" ", ".", 1)), arguments)


def _object(m: Machine, _: Any) -> None:
    function, *arguments = m.above_mark()
    _call(m, function, tuple(arguments))


def _build(m: Machine, _: Any) -> None:
    """Keep the attributes of an object; other state, such as the version notes of a state dict, is left aside."""
    state, target = m.pop(), m.top()
    if isinstance(target, Unfinished):
        m.stack[-1] = finished = target.finished(state)
        for key in reversed(m.memo):  # it was noted just before its state was told
            m.steps -= 1
            if m.memo[key] is target or m.steps < 0:
                m.memo[key] = finished
                break
    elif isinstance(target, Thing):  # with __slots__ they are two mappings
        parts = [part for part in (state if isinstance(state, tuple) else (state,)) if isinstance(part, Entries)]
        target.state.pairs.extend(pair for part in parts for pair in part.pairs)
        target.state.pairs.extend(enumerate(_unpack_quantized(target, state)))
        m.steps -= len(target.state.pairs)


def _unpack_quantized(target: Thing, state: Any) -> tuple[Any, ...]:
    """Return what the packed weights of a quantized layer hold: TorchScript's class of them, or a pickled object of it.

    The pickle of such an object tells the class behind the state.
    """
    if not isinstance(state, tuple) or not state:
        return ()
    inner, is_object = state[0], target.name == "torch.ScriptObject"
    name = str(state[-1]) if is_object else target.name
    held = inner if is_object else state
    return held if name.endswith("PackedParamsBase") and isinstance(held, tuple) else ()


_VALUES = """
    INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE
    SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
"""
_MAKES_AN_OBJECT = frozenset(
    ["TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "EMPTY_SET", "LIST", "FROZENSET", "EMPTY_DICT", "DICT"]
)
_STEPS: Mapping[str, Callable[[Machine, Any], None]] = {
    **dict.fromkeys(_VALUES.split(), _push),
    **dict.fromkeys(("PROTO", "FRAME"), lambda m, _: None),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _get),
    "NONE": lambda m, _: m.stack.append(None),
    "NEWTRUE": lambda m, _: m.stack.append(True),
    "NEWFALSE": lambda m, _: m.stack.append(False),
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "POP": _pop,
    "POP_MARK": lambda m, _: m.above_mark().clear(),
    "DUP": lambda m, _: m.stack.append(m.top()),
    "EMPTY_TUPLE": lambda m, _: m.stack.append(()),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.above_mark())),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    **dict.fromkeys(("EMPTY_LIST", "EMPTY_SET"), lambda m, _: m.stack.append([])),
    **dict.fromkeys(("LIST", "FROZENSET"), lambda m, _: m.stack.append(m.above_mark())),
    "APPEND": lambda m, _: _append(m, [m.pop()]),
    **dict.fromkeys(("APPENDS", "ADDITEMS"), lambda m, _: _append(m, m.above_mark())),
    "EMPTY_DICT": lambda m, _: m.stack.append(Entries()),
    "DICT": _dict,
    "SETITEM": lambda m, _: _set(m, [m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m, _: _set(m, m.above_mark()),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _new,
    "NEWOBJ_EX": _new_with_names,
    "INST": _instance,
    "OBJ": _object,
    "BUILD": _build,
    "BINPERSID": lambda m, _: m.stack.append(m.persistent(m.pop())),
    "PERSID": lambda m, name: m.stack.append(m.persistent(name)),
}
