"""Doing what a message says: the printed hint is read, applied to the recipe, and nothing else is changed."""

import copy
import re

import yaml


def braces(text):
    """Return what stands in balanced braces in a text, outermost first, read as YAML."""
    found, depth, begin = [], 0, 0
    for i, letter in enumerate(text):
        if letter == "{":
            begin, depth = (i if depth == 0 else begin), depth + 1
        elif letter == "}" and depth:
            depth -= 1
            if depth == 0:
                found.append(yaml.safe_load(text[begin : i + 1]))
    return found


def offered(hint):
    """Return the words after "did you mean", the most likely first."""
    return re.findall(r"'([^']*)'", hint.partition("did you mean ")[2])


def written(hint):
    """Return the values that a hint tells to write: in braces, or as words behind "write" or "such as"."""
    if braces(hint):
        return braces(hint)
    words = re.split(r"write (?:one of |one such as )?|such as |there are |be one of ", hint, maxsplit=1)[-1]
    return [yaml.safe_load(w) for w in re.split(r", | or (?!\[)|, or ", words)]


def overrides(hint):
    """Return the pairs of a dotted key and a value that a hint gives as KEY=VALUE."""
    return [(k, yaml.safe_load(v)) for k, v in re.findall(r"([a-z_]\w*(?:\.\w+)*)=(\[[^\]]*\]|[^\s,;)]+)", hint)]


def put(recipe, where, value):
    """Return the recipe with `value` at the dotted key `where`; an item of a list goes by its number."""
    changed = copy.deepcopy(recipe)
    *parents, last = where.split(".")
    inner = changed
    for part in parents:
        if isinstance(inner, list):
            inner = inner[int(part)]
        else:
            if not isinstance(inner.get(part), dict | list):
                inner[part] = {"path": inner[part]} if isinstance(inner.get(part), str) else {}
            inner = inner[part]
    inner[int(last) if isinstance(inner, list) else last] = value
    return changed


def rename(node, old, new):
    """Return the recipe with the word `old` replaced by `new` wherever it stands: as a key, a text or a part of one."""
    if isinstance(node, dict):
        return {(new if k == old else k): rename(v, old, new) for k, v in node.items()}
    if isinstance(node, list):
        return [rename(v, old, new) for v in node]
    return node.replace(old, new) if isinstance(node, str) else node


def follow(recipe, problem):
    """Return the recipe as the hint of `problem` wants it; fails if the hint holds nothing that can be followed."""
    hint, where = problem.fix, problem.where
    if offered(hint):
        text = str(recipe)
        words = [*re.findall(r"'([^']*)'", problem.what), where, where.rpartition(".")[2]]
        wrong = next(w for w in words if f"'{w}'" in text or f"{w}'" in text)
        return rename(recipe, wrong, offered(hint)[0])
    if overrides(hint):
        key, value = overrides(hint)[0]
        if key == "from":  # short for the rule's own key
            key = f"{where}.from" if not where.endswith(".from") else where
        return put(recipe, key, value)
    return put(recipe, where, written(hint)[0])
