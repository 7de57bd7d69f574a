"""Two small networks as texts of `compact`, the rules that bring the trunk of one into the other, and what becomes of it."""

SOURCE = """
    old/c1/kernel 3x3x1x4
    old/c1/bias 4
    old/c2/kernel 3x3x4x4
    old/c2/bias 4
    old/out/kernel 4x10
    old/out/bias 10
"""
TARGET = """
    enc/conv1/kernel 3x3x1x4
    enc/conv1/bias 4
    enc/conv2/kernel 3x3x4x4
    enc/conv2/bias 4
    head/kernel 4x2
    head/bias 2
"""
TRUNK = {"to": r"enc/conv(\d)", "from": r"old/c\1"}
HEAD = {"to": "head", "from": None}
PAIRS = {
    "enc/conv1/kernel": "old/c1/kernel",
    "enc/conv1/bias": "old/c1/bias",
    "enc/conv2/kernel": "old/c2/kernel",
    "enc/conv2/bias": "old/c2/bias",
}


def fates(plan):
    return {f"{w.source}:{w.name}" if len(plan.sources) > 1 else w.name: w.fate for w in plan.source_weights}
