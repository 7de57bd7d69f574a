"""What is still silent, and which right twins are still warned of, by the kind's name."""

SILENT: frozenset[str] = frozenset()
NOISY = frozenset(
    {
        "subclassed model",  # numbered-weights: the file does not tell the classes of a subclassed model's layers
        "keras.applications.InceptionV3, itself (plan)",  # made-up-names: its builder names no layer
        "keras.applications.InceptionV3, nested (plan)",
        "keras.applications.Xception, itself (plan)",
        "keras.applications.Xception, nested (plan)",
    }
)
