"""Sizes as people write them: ``2GB``, ``500 MB``, ``1.5GiB``."""

from __future__ import annotations

import re
from typing import Any

SIZE = r"(\d+(?:\.\d+)?)\s*([KMGTkmgt][iI]?)?[Bb]?"
_MOST = 2**63 - 1  # the largest file that file systems have names for
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_size(value: Any) -> int | None:
    """Return a number of bytes, at least 1; None for what no file can have. ``KB`` is 1000 bytes, ``KiB`` 1024.

    >>> parse_size("2GB"), parse_size("1.5 KiB"), parse_size(300), parse_size("many"), parse_size(0)
    (2000000000, 1536, 300, None, None)
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value if 0 < value <= _MOST else None
    match = re.fullmatch(SIZE, value.strip()) if isinstance(value, str) and len(value) < 30 else None
    if match is None:
        return None
    unit = (match[2] or "").lower()
    base = 1024 if unit.endswith("i") else 1000
    size = int(float(match[1]) * base ** _POWERS[unit.removesuffix("i")])
    return size if 0 < size <= _MOST else None
