"""Output formats: one module each. A writer gets names and values, never a rule; `recipe/outputs.py` has the table."""

from __future__ import annotations

import importlib
from typing import Protocol

from transferpipe.errors import FileError, Problem, TransferError
from transferpipe.recipe.outputs import Output, output_of
from transferpipe.save.writers.content import Content

__all__ = ["Content", "Writer", "writer_for"]


class Writer(Protocol):
    """Writes the finished model into a file.

    It is used in this order:

    1. It is called with a descriptor of a new empty file, open for reading and writing, and the `Content`. It must
       leave the descriptor open, give the file its whole content, and must not care for the file's name: the file gets
       that once it was read again and every value compared.
    2. For each weight it asks `Content.segment` where the bytes lie in another file as they are, and copies them if
       they do; otherwise `Content.value` for the array, one at a time, which it may not keep or change.
       `transferpipe.save.writers.fill.fill` does both, through one small buffer.
    3. It should say with `Content.settled` up to where the file is written: it is flushed on the way.

    It must write the same bytes for the same content (no times, no random order); must refuse with a `FileError`, which
    names the weight and says what to do, what the format cannot hold (a dtype, a name); and must let every error of the
    content and of the operating system through, for the file is then removed and nothing else was touched.
    """

    def __call__(self, descriptor: int, content: Content, /) -> None:
        """Write `content` to the file behind `descriptor`."""


def writer_for(path: str) -> Writer:
    """Return the writer of an output that is streamed."""
    output = output_of(path)
    # A package gives the function itself, our own table a name: a writer is imported only when it is used.
    if callable(output.writer):
        return _guard_writer(output)
    module, _, name = output.writer.partition(":")
    writer: Writer = getattr(importlib.import_module(module), name)
    return writer


def _guard_writer(output: Output) -> Writer:
    """Return the writer of a package, whose failures are said of it."""
    write = output.writer
    assert callable(write)

    def write_outside(descriptor: int, content: Content) -> None:
        try:
            write(descriptor, content)
        except (TransferError, OSError):
            # What the content or the system refuses says itself what is wrong.
            raise
        except Exception as error:
            what = f"the writer of {output.suffix} files failed: {type(error).__name__}: {error}"
            raise FileError(Problem("save", what, "report it to the package that adds it")) from error

    return write_outside
