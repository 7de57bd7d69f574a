"""The reference pages behind `transferpipe help TOPIC`: plain text, offline, at most 80 columns but for code.

To add one: put a Markdown file into ``topics``, its first line ``# name: what it is about``. A page that is made of a
table in the code is a row in `_GENERATED` instead.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from transferpipe.codes import WARNINGS
from transferpipe.errors import Problem, RecipeError, did_you_mean
from transferpipe.recipe.outputs import OUTPUTS

_FOLDER = Path(__file__).parent / "topics"
_WIDTH = 80
_ITEM = re.compile(r"(?:[*-]|\d+\.) ")
_CODE = " " * 4


def list_topics() -> dict[str, str]:
    """Return what each page is about by its name."""
    written = {path.stem: path.read_text(encoding="utf-8").partition("\n")[0] for path in _FOLDER.glob("*.md")}
    about = {name: line.partition(": ")[2] for name, line in written.items()}
    return dict(sorted({**about, **{name: what for name, (what, _) in _GENERATED.items()}}.items()))


def read_topic(name: str) -> str:
    """Return the page called `name` as plain text.

    Raises:
        RecipeError: there is none.
    """
    topics = list_topics()
    if name not in topics:
        hint = did_you_mean(name, topics) or f"the topics are {', '.join(topics)}"
        raise RecipeError(Problem("help", f"unknown topic {name!r}", hint))
    if name in _GENERATED:
        return render_markdown(f"# {name}: {topics[name]}\n\n{_GENERATED[name][1]()}")
    return render_markdown((_FOLDER / f"{name}.md").read_text(encoding="utf-8"))


def render_markdown(text: str) -> str:
    r"""Return Markdown as plain text: paragraphs and items wrapped, headings underlined, code as it is, indented.

    >>> print(render_markdown("# A\n\nOne\ntwo.\n\n```sh\nrun\n```\n"))
    A
    =
    <BLANKLINE>
    One two.
    <BLANKLINE>
        run
    """
    parts: list[str] = []
    for block in _blocks(text.splitlines()):
        first = block[0]
        if first.startswith("#"):
            title = first.lstrip("# ")
            parts.append(f"{title}\n{('-' if first.startswith('##') else '=') * min(len(title), _WIDTH)}")
        elif first.startswith(_CODE):
            parts.append("\n".join(block))
        else:
            parts.append("\n".join(_wrapped(block)))
    return "\n\n".join(parts)


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    """Yield the headings, paragraphs, lists and code of a page; code in fences is indented, as the other is."""
    block: list[str] = []
    fenced = False
    for line in [*lines, ""]:
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.strip():
            block.append(_CODE + line if fenced else line)
            if fenced or not line.startswith("#"):
                continue
        if block and not fenced:
            yield block
            block = []


def _wrapped(block: list[str]) -> Iterator[str]:
    """Yield the lines of a paragraph, or of the items of a list, filled up."""
    items: list[str] = []
    for line in block:
        if not items or _ITEM.match(line):
            items.append(line)
        else:
            items[-1] += f" {line.strip()}"
    for item in items:
        mark = _ITEM.match(item)
        indent = " " * len(mark[0]) if mark else ""
        yield from textwrap.wrap(item, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _warnings_page() -> str:
    """Return the page of all warnings, from the table of their codes."""
    parts = [
        "A warning tells of something legal that is probably not meant. Each has a code:",
        f"{_CODE}warning  mapping.fc [square-kernel]: fc/kernel [64, 64] is square: ...",
        "`strict: true` in a recipe, or --strict on the command line, makes warnings errors: those of a plan before "
        "anything is written (exit status 2), those of values before anything is published (3). `allow` lets kinds of "
        "them pass, which then stay warnings:",
        f"{_CODE}transferpipe run recipe=mine --strict 'allow=[unused,square-kernel]'",
    ]
    for code, kind in WARNINGS.items():
        where, _, text = kind.example.partition(": ")
        example = textwrap.wrap(
            f"{where} [{code}]: {text}", _WIDTH - len(_CODE), break_long_words=False, break_on_hyphens=False
        )
        parts += [f"## {code}", kind.means, "\n".join(_CODE + line for line in example), f"What to do: {kind.fix}"]
    return "\n\n".join(parts)


def _transforms_page() -> str:
    """Return the page of all transforms and merges, from their own docstrings."""
    from transferpipe.planning.transforms import MERGES, TRANSFORMS, Transform

    parts = [
        "A rule's `transform` is a list of steps that turn the source's value into the target's, in order; or a "
        "mapping of such lists by the weight's own name. Each is checked by shape before any value is read.",
        f"{_CODE}mapping:\n{_CODE}  fc: {{to: fc, from: classifier, transform: {{kernel: [transpose]}}}}",
    ]
    tables: tuple[tuple[str, Mapping[str, type[Transform]]], ...] = (("", TRANSFORMS), ("merge: ", MERGES))
    for prefix, table in tables:
        for name, kind in table.items():
            forms = re.findall(r"``(.+?)``", kind.parse.__doc__ or "")
            doc = inspect.cleandoc(kind.__doc__ or "")
            parts += [f"## {prefix}{name}", "\n".join(f"{_CODE}{prefix}{form}" for form in forms), _as_items(doc)]
    return "\n\n".join(parts)


def _outputs_page() -> str:
    """Return the page of all outputs, from their table."""
    parts = [
        "The suffix of `save.path`, and of every path in `save.also`, chooses what is written. Every output is read "
        "again and compared with the plan before it gets its name.",
        f"{_CODE}save: {{path: model.keras, also: [model.safetensors]}}",
    ]
    for output in OUTPUTS:
        facts = (
            ("loads as a model", output.holds_architecture),
            ("loads with `load_weights`, and has room for the state of an optimizer", output.has_groups),
            ("takes `save.layout`", output.names_tensors),
            ("takes `save.shard`", output.splits),
            ("needs the model in memory, and Keras on TensorFlow", not output.streams),
        )
        items = "\n".join(f"* {what}" for what, is_true in facts if is_true)
        parts += [f"## {output.suffix or 'no suffix'}: {output.label}", f"{output.help}.", items]
    return "\n\n".join(parts)


def _as_items(doc: str) -> str:
    """Return a docstring with its attributes as the items of a list."""
    text, _, attributes = doc.replace("``", "`").partition("Attributes:\n")
    items = re.sub(r"^ {4}(?=\S)", "* ", attributes, flags=re.MULTILINE)
    return f"{text.strip()}\n\n{items.strip()}".strip()


_GENERATED: Mapping[str, tuple[str, Callable[[], str]]] = {
    "outputs": ("what can be saved, by suffix, and what each can hold", _outputs_page),
    "transforms": ("the steps that a rule may take from a source's value to the target's", _transforms_page),
    "warnings": ("every kind of warning, with an example and what to do", _warnings_page),
}
