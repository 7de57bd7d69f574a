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

from syntax import PACKAGE, trees

from transferpipe.errors import Problem
from transferpipe.planning.model import PlanWarning
from transferpipe.planning.transforms.protocol import TransformError

TESTS = Path(__file__).parents[1]
OPEN = "…"
"""Stands in a template for what is only known when the message is made."""
_WORDS = 4
_DEPTH = 4  # how many functions deep the text of a hint is looked for
_MOST_MEANINGS = 4
DID_YOU_MEAN = "did you mean …?"


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

    def __init__(self, path, tree):
        self.path, self.tree = path, tree
        self.name = ".".join([PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")
        self.values, self.imported, self.functions = {}, {}, {}
        # Every call with the function around it, that one's name, and what is called: before its last dot and after it.
        self.calls = [(*found, *ast.unparse(found[2].func).rpartition(".")[::2]) for found in _calls(self.tree)]
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef):
                self.functions.setdefault(node.name, []).append(node)
            if isinstance(node, ast.ImportFrom) and node.module:
                self.imported |= {a.asname or a.name: (node.module, a.name) for a in node.names}
        for node in self.tree.body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                self.values |= {t.id: node.value for t in targets if isinstance(t, ast.Name)}


@functools.cache
def _modules():
    modules = [_Module(path, tree) for path, tree in trees().items()]
    return {module.name: module for module in modules}


@functools.cache
def _functions():
    """Return the functions of the package by name, with their modules."""
    found = {}
    for module in _modules().values():
        for name, nodes in module.functions.items():
            found.setdefault(name, []).extend((module, node) for node in nodes)
    return found


def _templates(node, function, module, depth=_DEPTH):
    """Return the texts that an expression can be."""
    if isinstance(node, ast.Constant):
        return [str(node.value)] if node.value else []
    if isinstance(node, ast.JoinedStr):
        return ["".join(_part(v, function, module, depth) for v in node.values)]
    if isinstance(node, ast.IfExp):
        return [*_templates(node.body, function, module, depth), *_templates(node.orelse, function, module, depth)]
    if isinstance(node, ast.BoolOp):
        return [t for v in node.values for t in _templates(v, function, module, depth)]
    if isinstance(node, ast.BinOp):
        return ["".join(t for n in (node.left, node.right) for t in _templates(n, function, module, depth)[:1])]
    if isinstance(node, ast.Name):
        return _named(node.id, function, module, depth)
    if isinstance(node, ast.Call) and depth:
        return _called(node, module, depth)
    return [OPEN]


def _part(node, function, module, depth):
    if isinstance(node, ast.Constant):
        return str(node.value)
    found = _named(node.value.id, function, module, depth) if isinstance(node.value, ast.Name) else [OPEN]
    return found[0] if len(found) == 1 else OPEN


def _named(name, function, module, depth):
    """Return the texts that a name stands for: in the function, in the module, or where it is imported from."""
    assigned = [v for v in _assigned(function, name) if not isinstance(v, ast.Name)]
    if assigned and depth:
        return list(dict.fromkeys(t for v in assigned for t in _templates(v, function, module, depth - 1)))
    if name in module.values and depth:
        return _templates(module.values[name], None, module, depth - 1)
    where, original = module.imported.get(name, ("", ""))
    return _named(original, None, _modules()[where], depth) if where in _modules() else [OPEN]


def _called(node, module, depth):
    """Return the texts that a call can return, if few functions of the package can be meant."""
    name = ast.unparse(node.func).rpartition(".")[2]
    if name == "did_you_mean":
        return [DID_YOU_MEAN]
    known = _functions().get(name, [])
    here = [(m, f) for m, f in known if m is module] or known
    if not here or len(here) > _MOST_MEANINGS:
        return [OPEN]
    texts = [
        text
        for where, function in here
        for n in ast.walk(function)
        if isinstance(n, ast.Return) and n.value is not None
        for text in _templates(n.value, function, where, depth - 1)
    ]
    return list(dict.fromkeys(texts)) or [OPEN]


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


def _parameters(function):
    names = [a.arg for a in (*function.args.posonlyargs, *function.args.args)] if function is not None else []
    return [n for n in names if n not in ("self", "cls")]


@functools.cache
def _passing_on():
    """Return the places of the hint in the functions that hand on one of their arguments as the hint, by their modules."""
    found = {"Problem": {"": (2, "fix")}, "TransformError": {"": (1, "fix")}}
    while True:
        before = sum(map(len, found.values()))
        for module in _modules().values():
            for function, owner, call, holder, last in module.calls:
                hint = _hint_of(call, (holder, last), found[last], module) if last in found else None
                if _is_handed_on(hint, function):
                    where = module.name if function.name.startswith("_") else owner.rpartition(".")[0]
                    place = (_parameters(function).index(hint.id), hint.id)
                    found.setdefault(function.name, {}).setdefault(where, place)
        if sum(map(len, found.values())) == before:
            return found


def _is_handed_on(hint, function):
    return isinstance(hint, ast.Name) and hint.id in _parameters(function) and not list(_assigned(function, hint.id))


def _hint_of(call, name, known, module):
    """Return the expression of the hint in a call of one of the functions that are `known` by its name, or None."""
    holder, last = name
    if last == "add" and "problems" not in holder and (holder, module.name) != ("self", Problem.__module__):
        return None
    if last == "note" and not {"fields", "inner", "outer", "self"} & {holder.rpartition(".")[2]}:
        return None
    # Functions of a module are called in it, methods by what holds them.
    others = [v for k, v in known.items() if not k or (holder and not k.startswith(PACKAGE.name))]
    place, key = known.get(module.name) or (others[0] if others else (0, ""))
    if not key or any(isinstance(a, ast.Starred) for a in call.args):
        return None
    given = [k.value for k in call.keywords if k.arg == key]
    return given[0] if given else call.args[place] if len(call.args) > place else None


@functools.cache
def find_sites():
    """Return every site of the package, in the order of files and lines."""
    sites, seen = [], {}
    for module in _modules().values():
        for function, owner, call, holder, last in module.calls:
            known = _passing_on().get(last)
            hint = _hint_of(call, (holder, last), known, module) if known else None
            if hint is None or _is_handed_on(hint, function):  # its callers are the sites
                continue
            if isinstance(hint, ast.Attribute) and hint.attr == "fix":
                continue
            templates = tuple(dict.fromkeys(_templates(hint, function, module)))
            words = " ".join((templates[0] if templates else "").split()[:_WORDS])
            name = f"{owner}: {words}"
            seen[name] = seen.get(name, 0) + 1
            key = name if seen[name] == 1 else f"{name} #{seen[name]}"
            place = f"{module.path.relative_to(PACKAGE)}:{call.lineno}"
            sites.append(Site(key, place, str(module.path), (call.lineno, call.end_lineno), templates))
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


@functools.cache
def texts_of_marks():
    """Return the texts in the modules with the mark `follows`, which checks itself that it is true."""
    texts = set()
    for path in TESTS.rglob("test_*.py"):
        text = path.read_text(encoding="utf-8")
        if "mark.follows" in text:
            texts |= {
                n.value for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Constant) and isinstance(n.value, str)
            }
    return frozenset(texts)


@functools.cache
def followed():
    """Return the keys of the sites that tests with the mark `follows` name."""
    return {s.key for s in find_sites()} & texts_of_marks()


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
                while frame is not None and len(frames) < 8:
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
