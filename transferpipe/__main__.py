"""`python -m transferpipe`, and the console script `transferpipe`, which is the same."""

from __future__ import annotations

import sys
from pathlib import Path

from transferpipe.collector import collect_rarely, end_uncollected


def start() -> int:
    """Run the command line as a process of its own and return the exit status."""
    collect_rarely()
    from transferpipe.cli.output import Streams

    streams = Streams()  # before anything is opened, or printed
    from transferpipe.cli import main

    status = streams.finish(main())
    end_uncollected()
    return status


if __name__ == "__main__":
    # `python -m` puts the working directory first, where a file called numpy.py would stand in for NumPy; last, it is
    # still there for builders of the user's own. In a checkout of ours it is what all of this is imported from.
    if not sys.flags.safe_path and Path(sys.path[0]) != Path(__file__).parent.parent:
        sys.path.append(sys.path.pop(0))
    sys.exit(start())
