"""HTML pages from the templates beside this file, where what a recipe or a file says is text and nothing else."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Iterable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from transferpipe.text.visible import visible

_MARKUP = re.compile("[&<>'\"]")


def render(template: str, **values: Any) -> str:
    """Return the page that a template of `show/templates` makes of `values`."""
    return _environment().get_template(template).render(values)


def table_rows(rows: Iterable[Iterable[str]]) -> Markup:
    """Return rows of texts as those of a table: of thousands, which a template takes five times as long to fill in."""
    cell = functools.cache(lambda text: f"<td>{escaped(text)}</td>")
    return Markup("\n".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows))  # noqa: S704 - escaped


def escaped(text: str) -> str:
    """Return what a page shows of a text, as markup in a plain string: most texts have nothing to escape."""
    shown = visible(text)
    return str(escape(shown)) if _MARKUP.search(shown) else shown


def coded(text: str) -> Markup:
    """Return a text of ours as markup: what stands between backticks is code.

    >>> str(coded("set `a: <b>`, or leave it"))
    'set <code>a: &lt;b&gt;</code>, or leave it'
    """
    parts = [escaped(part) for part in text.split("`")]
    marked = (f"<code>{part}</code>" if k % 2 else part for k, part in enumerate(parts))
    return Markup("".join(marked))  # noqa: S704 - escaped


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("transferpipe.show"),
        autoescape=True,
        finalize=_show_value,
        # A misspelled name in a template is an error, not an empty place on the page.
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["sha256"] = _digest
    environment.filters["coded"] = coded
    return environment


def _digest(text: str) -> str:
    """Return the digest of a script as a Content-Security-Policy names it."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _show_value(value: Any) -> Any:
    """Return what a template shows of a value: markup as it is, of anything else a text that a terminal shows too."""
    return value if hasattr(value, "__html__") else visible(str(value))
