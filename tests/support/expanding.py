"""What a collapsed text stands for, read by rules of our own: those of a shell's braces, and ``\\1``."""

import re


def expand(text):
    """Return the names that `text` stands for, the last braces changing first."""
    found = []

    def go_on(done, rest, chosen):
        start = re.search(r"[{\\]", rest)
        if not start:
            found.append(done + rest)
            return
        done, rest = done + rest[: start.start()], rest[start.start() :]
        if rest[0] == "\\":
            go_on(done + chosen[int(rest[1]) - 1], rest[2:], chosen)
            return
        inner, rest = _braces(rest)
        for choice in _choices(inner):
            go_on(done + choice, rest, [*chosen, choice])

    go_on("", text, [])
    return found


def parts_of(text):
    """Return what stands between the commas that are outside of braces."""
    parts, depth = [""], 0
    for char in text:
        depth += (char == "{") - (char == "}")
        if char == "," and not depth:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts]


def _braces(text):
    depth = 0
    for place, char in enumerate(text):
        depth += (char == "{") - (char == "}")
        if not depth:
            return text[1:place], text[place + 1 :]
    raise AssertionError(f"braces are left open: {text}")


def _choices(inner):
    for part in parts_of(inner):
        ends = re.fullmatch(r"(\w+)\.\.(\w+)", part)
        if not ends:
            yield from expand(part)
        elif ends[1].isdigit():
            wide = len(ends[1]) if ends[1].startswith("0") else 0
            yield from (f"{n:0{wide}}" for n in range(int(ends[1]), int(ends[2]) + 1))
        else:
            yield from map(chr, range(ord(ends[1]), ord(ends[2]) + 1))


def pairs_of(row, layers, sources):
    """Return the pairs of target and source weights that a row of a plan's table stands for, the row's word alone taken.

    Args:
        row: the row, of weights that are assigned.
        layers: the own names of the weights of each of the target's layers, in their order.
        sources: the same of each source by its name; of the only one, by the empty text.
    """
    targets = _weights(row.target, layers)
    columns = [_origins(text, targets, sources) for text in row.origin.split(" + ")]
    flat = [name for layer in targets for name in layer]
    return list(zip(flat, *columns, strict=True))


def _origins(text, targets, sources):
    alias, colon, name = text.partition(":") if len(sources) > 1 else ("", "", text)
    before, same, without = name.strip().partition("=")
    if same:
        prefix = without.removeprefix(" without ")
        found = [[before + name.removeprefix(prefix) for name in layer] for layer in targets]
        assert all(name.startswith(prefix) for layer in targets for name in layer)
    else:
        found = _weights(name, sources[alias])
        found = found * len(targets) if len(found) == 1 else found
        found = [
            names * len(wanted) if len(names) == 1 else names for names, wanted in zip(found, targets, strict=True)
        ]
    return [f"{alias}{colon}{name}" for layer in found for name in layer]


def _weights(text, layers):
    """Return the names that `text` stands for, layer by layer."""
    if text.endswith("/**"):
        return [[f"{n}/{o}" for o in own] for n, own in layers.items() if f"{n}/".startswith(text[:-2])]
    depths = [text[: k + 1].count("{") - text[: k + 1].count("}") for k in range(len(text))]
    separator = "/" if "/" in text else "."
    places = [k for k, char in enumerate(text) if char == separator and not depths[k]]
    if not places:
        return [[name] for name in expand(text)]
    layer, own = text[: places[-1]], text[places[-1] + 1 :]
    return [[f"{n}{separator}{o}" for o in (layers[n] if own == "*" else expand(own))] for n in expand(layer)]
