"""What is still silent, and which right twins are still warned of, by the kind's name."""

SILENT: frozenset[str] = frozenset()
NOISY: frozenset[str] = frozenset()
