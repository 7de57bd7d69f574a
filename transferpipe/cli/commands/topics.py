"""The verb `help`: the reference pages, offline."""

from __future__ import annotations

from transferpipe.cli.arguments import help_text, verb_help
from transferpipe.cli.terminal import width
from transferpipe.cli.verbs import VERBS, Arguments
from transferpipe.errors import Problem, RecipeError
from transferpipe.show.help_pages import list_topics, read_topic
from transferpipe.text.fold import hang


def show_help(arguments: Arguments) -> int:
    """Print one reference page, or the help where none is named."""
    if len(arguments.positional) > 1:
        what = f"takes one topic, not {len(arguments.positional)}"
        raise RecipeError(Problem("help", what, "transferpipe help TOPIC"))
    topic = next(iter(arguments.positional), None)
    if topic is None:
        print(help_text(width()))
        print("topics (transferpipe help TOPIC)")
        for name, about in list_topics().items():
            print("\n".join(hang(f"  {name}", about, width(), 14)))
    elif topic in VERBS and topic not in list_topics():
        print(verb_help(VERBS[topic], width()), end="")
    else:
        print(read_topic(topic))
    return 0
