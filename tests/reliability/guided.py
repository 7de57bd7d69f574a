"""The structures of `structures`, chosen by what the readers do with them: atheris keeps a choice that reaches new code.

Only where atheris is installed, which no environment of ours asks for: ``pip install atheris``. Each reader runs in a
process of its own, since atheris ends the process when it is done.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

from .rows import Row

ROOT = Path(__file__).parents[2]
_OFTEN = 50  # cases between two writings of what was counted


def measure_guided(folder: Path, most: int, drawn: random.Random) -> Iterator[Row]:
    """Every reader of our own: `most` files of the right form, chosen by coverage."""
    if importlib.util.find_spec("atheris") is None:
        return
    from .structures import READERS

    for i, name in enumerate(READERS):
        row = Row(f"structure of {name}, guided by coverage", "read, or refused with an error of ours, in 10 s")
        place = folder / str(i)
        place.mkdir(parents=True)
        command = [sys.executable, "-m", __name__, name, str(most), str(drawn.randrange(1, 1 << 31)), str(place)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        counted = place / "counted.json"
        data = (
            json.loads(counted.read_text()) if counted.exists() else {"cases": 0, "bad": 0, "seen": {}, "examples": []}
        )
        row.cases, row.bad, row.examples = data["cases"], data["bad"], data["examples"]
        row.seen.update(data["seen"])
        if done.returncode or not row.cases:
            row.count("ended", [f"status {done.returncode}: {done.stderr[-300:]}"], name)
        yield row


class Chosen(random.Random):
    """Chooses by bytes: the same bytes, the same choices; after the last one always the first of what there is."""

    def __init__(self, data: bytes) -> None:
        super().__init__(0)
        self._data, self._at = data, 0

    def getrandbits(self, k: int) -> int:
        """Return the next bits."""
        size = (k + 7) // 8
        piece = self._data[self._at : self._at + size].ljust(size, b"\0")
        self._at += size
        return int.from_bytes(piece, "little") & ((1 << k) - 1)

    def random(self) -> float:
        """Return a number from 0 to 1 that two of the bytes say."""
        return self.getrandbits(16) / (1 << 16)


def main() -> None:
    """Look at as many files of one reader as the command line says, and leave what was counted in a folder."""
    import atheris

    name, most, number, place = sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    from one_of_each import FORMATS, read_all

    from .structures import READERS, end_hang, looked, write_changed

    signal.signal(signal.SIGALRM, end_hang)
    format, change = READERS[name]
    (place / "files").mkdir()
    path = FORMATS[format].write(place / "files")
    sound = {p: p.read_bytes() for p in (place / "files").rglob("*") if p.is_file()}
    row = Row(name, "")
    read_all(path)  # imports the reader
    for function in [thing for thing in gc.get_objects() if isinstance(thing, FunctionType)]:
        if str(function.__module__).startswith("transferpipe.weights"):
            atheris.instrument_func(function)

    def look(data: bytes) -> None:
        row.count(*looked(write_changed(path, sound, change, Chosen(data))), data.hex())
        if row.cases % _OFTEN == 0 or row.cases >= most:
            (place / "counted.json").write_text(json.dumps(row.as_data()))

    atheris.Setup(
        [
            sys.argv[0],
            f"-runs={most}",
            f"-seed={number}",
            "-max_len=512",
            "-len_control=0",
            "-timeout=0",
            "-rss_limit_mb=0",
        ],
        look,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
