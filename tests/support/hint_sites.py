"""Where the package gives advice: found in its syntax, and seen while a test runs.

A site is a place in the code that hands a hint to a `Problem` or a `TransformError`. Its key is the function and the first
words of the hint, so that moving a module changes nothing and changing what is advised asks for another look.
"""

import ast
import contextlib
import functools
import sys
from dataclasses import dataclass
from pathlib import Path

import transferpipe
from transferpipe.errors import Problem
from transferpipe.planning.model import PlanWarning
from transferpipe.planning.transforms.protocol import TransformError

PACKAGE = Path(transferpipe.__file__).parent
TESTS = Path(__file__).parents[1]
OPEN = "…"
"""Stands in a template for what is only known when the message is made."""
_PASSED_ON = {"Problems.add", "Fields.note", "_named", "_refuse_warnings"}
_WORDS = 4


@dataclass(frozen=True)
class Site:
    """One place that gives a hint.

    Attributes:
        key: the function and the first words of the hint.
        place: file and line, for messages of tests.
        lines: the first and the last line of the call.
        templates: the texts that the hint can be, `OPEN` where a value stands; empty where they cannot be seen.
    """

    key: str
    place: str
    path: str
    lines: tuple[int, int]
    templates: tuple[str, ...]


class _Module:
    """What is needed of one module to work out the texts of a hint."""

    def __init__(self, path, constants):
        self.path, self.tree = path, ast.parse(path.read_text(encoding="utf-8"))
        self.constants = constants

    def templates(self, node, function):
        """Return the texts that an expression can be."""
        if isinstance(node, ast.Constant):
            return [str(node.value)] if node.value else []
        if isinstance(node, ast.JoinedStr):
            return ["".join(self._part(v) for v in node.values)]
        if isinstance(node, ast.IfExp):
            return [*self.templates(node.body, function), *self.templates(node.orelse, function)]
        if isinstance(node, ast.BoolOp):
            return [t for v in node.values for t in self.templates(v, function)]
        if isinstance(node, ast.BinOp):
            return ["".join([*self.templates(node.left, function)[:1], *self.templates(node.right, function)[:1]])]
        if isinstance(node, ast.Name):
            assigned = [v for v in _assigned(function, node.id) if not isinstance(v, ast.Name)]
            if assigned:
                return list(dict.fromkeys(t for v in assigned for t in self.templates(v, function)))
            if node.id in self.constants:
                return [self.constants[node.id]]
        return [OPEN]

    def _part(self, node):
        if isinstance(node, ast.Constant):
            return str(node.value)
        inner = node.value
        return self.constants.get(inner.id, OPEN) if isinstance(inner, ast.Name) else OPEN


def _assigned(function, name):
    """Yield the values that a function binds to a name, alone or as the same item of a tuple."""
    for node in ast.walk(function) if function is not None else ():
        for target in node.targets if isinstance(node, ast.Assign) else ():
            if isinstance(target, ast.Name) and target.id == name:
                yield node.value
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                for one, value in zip(target.elts, node.value.elts, strict=True):
                    if isinstance(one, ast.Name) and one.id == name:
                        yield value


def _constants():
    """Return the texts that modules call by a name of capitals; those of equal names must agree to count."""
    found, unclear = {}, set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if (
                isinstance(node, ast.Assign)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                for target in node.targets:
                    name = getattr(target, "id", "")
                    unclear |= {name} if found.setdefault(name, node.value.value) != node.value.value else set()
    return {name: value for name, value in found.items() if name not in unclear}


def _hint_of(call):
    """Return the expression of the hint in a call that makes a message, or None."""
    name = ast.unparse(call.func)
    last = name.rpartition(".")[2]
    place = 1 if last == "TransformError" else 2
    if last in ("Problem", "TransformError", "note") or (last == "add" and "problems" in name):
        given = [k.value for k in call.keywords if k.arg == "fix"]
        return given[0] if given else call.args[place] if len(call.args) > place else None
    return None


def _own_constants(tree, constants):
    own = {
        t.id: n.value.value
        for n in tree.body
        if isinstance(n, ast.Assign) and isinstance(n.value, ast.Constant) and isinstance(n.value.value, str)
        for t in n.targets
        if isinstance(t, ast.Name)
    }
    return constants | own


@functools.cache
def find_sites():
    """Return every site of the package, in the order of files and lines."""
    sites, seen, constants = [], {}, _constants()
    for path in sorted(PACKAGE.rglob("*.py")):
        module = _Module(path, constants)
        module.constants = _own_constants(module.tree, constants)
        for function, owner, call in _calls(module.tree):
            hint = _hint_of(call)
            if hint is None or owner in _PASSED_ON or (isinstance(hint, ast.Attribute) and hint.attr == "fix"):
                continue
            templates = tuple(module.templates(hint, function))
            words = " ".join((templates[0] if templates else "").split()[:_WORDS])
            name = f"{owner}: {words}"
            seen[name] = seen.get(name, 0) + 1
            key = name if seen[name] == 1 else f"{name} #{seen[name]}"
            place = f"{path.relative_to(PACKAGE)}:{call.lineno}"
            sites.append(Site(key, place, str(path), (call.lineno, call.end_lineno), templates))
    return sites


def _calls(tree):
    """Yield every call with the function around it, and that one's name."""

    def visit(node, function, owner):
        for child in ast.iter_child_nodes(node):
            inner, name = function, owner
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                name = f"{owner}.{child.name}".strip(".")
                inner = child if isinstance(child, ast.FunctionDef) else function
            if isinstance(child, ast.Call):
                yield function, owner, child
            yield from visit(child, inner, name)

    yield from visit(tree, None, "")


def followed():
    """Return the keys of the sites that tests name in modules with the mark `follows`, which checks itself that it is true."""
    texts = set()
    for path in TESTS.rglob("test_*.py"):
        text = path.read_text(encoding="utf-8")
        if "mark.follows" in text:
            texts |= {
                n.value for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Constant) and isinstance(n.value, str)
            }
    return {s.key for s in find_sites()} & texts


class Seen:
    """What came up while a test ran."""

    def __init__(self):
        self.frames, self.codes = [], set()

    def keys(self):
        """Return the keys of the sites that gave a hint."""
        sites = find_sites()
        found = set()
        for frames in self.frames:
            for path, line in frames:
                here = [s for s in sites if s.path == path and s.lines[0] <= line <= s.lines[1]]
                if here:
                    found.add(here[-1].key)
                    break
        return found


@contextlib.contextmanager
def watch():
    """Note where hints and warnings are made."""
    seen, before = Seen(), {c: c.__init__ for c in (Problem, TransformError, PlanWarning)}

    def noting(kind):
        def init(self, *args, **keys):
            before[kind](self, *args, **keys)
            if kind is PlanWarning:
                seen.codes.add(self.code)
            elif self.fix:
                frames, frame = [], sys._getframe(1)
                while frame is not None and len(frames) < 6:
                    frames.append((frame.f_code.co_filename, frame.f_lineno))
                    frame = frame.f_back
                seen.frames.append(frames)

        return init

    for kind in before:
        kind.__init__ = noting(kind)
    try:
        yield seen
    finally:
        for kind, init in before.items():
            kind.__init__ = init
