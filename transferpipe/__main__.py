"""`python -m transferpipe` is the same as `transferpipe`."""

import sys

from transferpipe.cli import main

if __name__ == "__main__":
    sys.exit(main())
