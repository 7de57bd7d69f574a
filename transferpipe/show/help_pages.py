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
from typing import Any

import yaml

from transferpipe.codes import WARNINGS
from transferpipe.errors import Problem, RecipeError, did_you_mean
from transferpipe.planning.model import PlanWarning
from transferpipe.recipe.keys import ANY, RECIPE, SECTIONS, Key, Kind, walk_keys
from transferpipe.recipe.outputs import OUTPUTS, OUTSIDE

_FOLDER = Path(__file__).parent / "topics"
_WIDTH = 80
_ITEM = re.compile(r"(?:[*-]|\d+\.) ")
_CODE = " " * 4
_MOST_WORDS = 8  # as many as a reader takes in; of the codes of warnings there is a page of its own
_KINDS: Mapping[Kind, str] = {
    "text": "A text",
    "texts": "A list of texts, or one",
    "words": "A list of words",
    "integer": "An integer of at least 0",
    "number": "A number",
    "tolerance": "A number of at least 0",
    "flag": "True or false",
    "size": "A size",
    "index": "A list with an integer, a slice or a list of integers for each axis",
    "integers": "A list of integers, or one",
    "share": "An integer from 1 on, or a share between 0 and 1",
    "number or file": "A number, a list of numbers, or a file",
    "numbers": "A number, or a list of numbers",
    "transforms": "A list, or one for each weight's own name; see `transferpipe help transforms`",
    "entries": "A text, a mapping of the keys below, or a list of these",
    "merge": "A merge; see `transferpipe help transforms`",
    "builder": "`_target_` with the dotted name of a callable, and its arguments",
    "origin": "A path, or a mapping of the keys below",
    "file or section": "A path, or a mapping of the keys below",
    "parity": "`source`, a source's name, or a mapping of the keys below; see `transferpipe help parity`",
    "source": "True, a source's name, or `_target_` with the dotted name of a callable, and its arguments",
    "section": "A mapping of the keys below",
    "named": "A mapping of names to mappings of the keys below",
    "named origins": "A mapping of names to paths, or to mappings of the keys below",
    "mapping": "A mapping",
    "mappings": "A list of mappings",
    "defaults": "A list as Hydra has it",
}
_EXAMPLE = """\
    source: {path: encoder.keras}
    target: {_target_: my_models.classifier, units: 4}
    mapping:
      body: {to: 'enc/(.*)', from: '\\1'}
      head: {to: head, from: null}
    freeze: [enc]"""


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
            parts.append("\n".join(_wrap(block)))
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


def _wrap(block: list[str]) -> Iterator[str]:
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
        "A warning is about something that is allowed and probably not intended. Each has a code:",
        f"{_CODE}warning  mapping.fc [square-kernel]: fc/kernel [64, 64] is square: ...",
        "`strict: true` in a recipe, or --strict on the command line, makes warnings errors: those of a plan before "
        "anything is written (exit status 2), those of values before anything is published (3). `allow` lets kinds of "
        "them pass, which then stay warnings:",
        f"{_CODE}transferpipe run recipe=mine --strict 'allow=[unused,square-kernel]'",
    ]
    for code, kind in WARNINGS.items():
        where, _, text = kind.example.partition(": ")
        shown = str(PlanWarning(code, where, text))  # as a plan says it
        example = textwrap.wrap(shown, _WIDTH - len(_CODE), break_long_words=False, break_on_hyphens=False)
        parts += [f"## {code}", kind.means, "\n".join(_CODE + line for line in example), f"What to do: {kind.fix}"]
    return "\n\n".join(parts)


def _transforms_page() -> str:
    """Return the page of all transforms and merges, from their own docstrings."""
    from transferpipe.planning.transforms import MERGES, TRANSFORMS, Transform
    from transferpipe.planning.transforms import OUTSIDE as PACKAGES

    parts = [
        "A rule's `transform` is a list of steps that turn the source's value into the target's, in order; or a "
        "mapping of such lists by the weight's own name. Each is checked by shape before any value is read.",
        f"{_CODE}mapping:\n{_CODE}  fc: {{to: fc, from: classifier, transform: {{kernel: [transpose]}}}}",
    ]
    outside = {plugin.name: kind for plugin, kind in PACKAGES.each()}
    tables: tuple[tuple[str, Mapping[str, type[Transform]]], ...] = (
        ("", TRANSFORMS),
        ("merge: ", MERGES),
        ("", outside),
    )
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
    for output in (*OUTPUTS, *(found for _, found in OUTSIDE.each())):
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


def _recipe_page() -> str:
    """Return the page of all keys of a recipe, from their table."""
    parts = [
        "A recipe is a YAML file in ./recipes, or in conf/recipe. `transferpipe schema recipe` prints its JSON Schema, "
        "for editors that complete and check: put it into a file and begin the recipe with",
        f"{_CODE}# yaml-language-server: $schema=recipe.schema.json",
        f"A complete one (`transferpipe recipes` lists more):\n\n{_EXAMPLE}",
        "Of a key the line below says what may stand there, and what holds where it is left out. NAME stands for a "
        "name of your own.",
    ]
    titles = {section: title for title, section in _section_titles()}
    for section, title in titles.items():
        keys = SECTIONS[section].values()
        parts += [f"## {title}", "\n".join(f"* `{key.name}`: {key.about}. {_describe_value(key)}" for key in keys)]
    return "\n\n".join(parts)


def _section_titles() -> Iterator[tuple[str, str]]:
    """Yield where the keys of each section stand, and the section's name."""
    places: dict[str, list[str]] = {RECIPE: ["at the top"]}
    for path, key in walk_keys():
        if key.section:
            shown = ".".join(path).replace(ANY, "NAME")
            places.setdefault(key.section, []).append(f"{shown}.NAME" if key.is_named else shown)
    for section, found in places.items():
        yield f"Keys {found[0]}" if section == RECIPE else f"Keys of {', '.join(found)}", section


def _describe_value(key: Key) -> str:
    """Return what may stand behind a key, its default and an example."""
    words = ", ".join(key.words) if len(key.words) < _MOST_WORDS else ""
    what = f"One of {words}" if key.kind in ("choice", "layout") else _KINDS[key.kind]
    also = f" (or {words})" if words and key.kind not in ("choice", "layout") else ""
    default = "; required" if key.required else "" if key.default is None else f"; default {_as_yaml(key.default)}"
    example = "" if key.kind in ("choice", "layout", "flag") else f"; such as `{_as_yaml(key.example)}`"
    return f"{what}{also}{default}{example}"


def _as_yaml(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000)
    return text.removesuffix("\n...\n").strip()


def _as_items(doc: str) -> str:
    """Return a docstring with its attributes as the items of a list."""
    text, _, attributes = doc.replace("``", "`").partition("Attributes:\n")
    items = re.sub(r"^ {4}(?=\S)", "* ", attributes, flags=re.MULTILINE)
    return f"{text.strip()}\n\n{items.strip()}".strip()


_GENERATED: Mapping[str, tuple[str, Callable[[], str]]] = {
    "outputs": ("what can be saved, by suffix, and what each can hold", _outputs_page),
    "recipe": ("every key of a recipe, what may stand there, and its default", _recipe_page),
    "transforms": ("the steps that a rule may take from a source's value to the target's", _transforms_page),
    "warnings": ("every kind of warning, with an example and what to do", _warnings_page),
}
