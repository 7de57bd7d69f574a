"""Propose mappings for all pairs and count what is right: `python -m tests.suggest_suite.run [WORD...] [--write-table]`.

Words choose the cases whose names hold one of them; ``--show`` prints what is proposed; ``--write-table`` writes TABLE.md
beside this file.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import keras

import transferpipe as tp
from tests.suggest_suite.cases import CASES, Case
from tests.suggest_suite.score import Score, score

TABLE = Path(__file__).parent / "TABLE.md"
_HEAD = ("pair", "weights", "right", "wrong", "open", "rules", "expert", "name", "shape", "order", "seconds")


def percent(part: int, whole: int) -> str:
    """Return a share, rounded down so that 100 % means all."""
    return f"{100 * part // whole} %" if whole else "-"


def row(case: Case, found: Score) -> str:
    """Return one line of the table."""
    wrong = f"{len(found.wrong)}" + (f" ({found.flagged} flagged)" if found.wrong else "")
    simple = [percent(n, found.weights) for n in (found.by_name, found.by_shape, found.by_order)]
    cells = [case.name, found.weights, percent(found.right, found.weights), wrong, found.open, found.rules, case.expert]
    return f"| {' | '.join(str(c) for c in (*cells, *simple, f'{found.seconds:.1f}'))} |"


def written(scores: dict[str, list[tuple[Case, Score]]], left_out: list[str]) -> str:
    """Return the table as Markdown."""
    every = [(c, s) for group in scores.values() for c, s in group]
    weights, right = sum(s.weights for _, s in every), sum(s.right for _, s in every)
    wrong, flagged = sum(len(s.wrong) for _, s in every), sum(s.flagged for _, s in every)
    rules, expert = sum(s.rules for _, s in every), sum(c.expert for c, _ in every)
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("keras", "tensorflow"))
    simple = [percent(sum(getattr(s, k) for _, s in every), weights) for k in ("by_name", "by_shape", "by_order")]
    lines = [
        "# What `suggest` proposes",
        "",
        f"{len(every)} pairs, {weights:,} target weights: {percent(right, weights)} right, {wrong} wrong ({wrong - flagged} of them not flagged),",
        f"{weights - right - wrong} left open; {rules} rules, an expert's {expert}; by names alone {simple[0]}, by shapes {simple[1]}, by order {simple[2]} right.",
        f"Made by `python -m tests.suggest_suite.run --write-table` with {versions}; `cases.py` has the truth.",
        "",
        "Right: the weight takes what it should, or rightly keeps what it has. Open: left to the user, or kept though there is something for it.",
        "Rules are counted with those that keep weights. Seconds are the processor's for `tp.suggest`, opening both sides included.",
        *([f"Left out, because their package is not installed: {', '.join(left_out)}."] if left_out else []),
    ]
    for group, entries in scores.items():
        lines += ["", f"## {group}", "", f"| {' | '.join(_HEAD)} |", f"|---|{'---:|' * (len(_HEAD) - 1)}"]
        lines += [row(case, found) for case, found in entries]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the cases and print, or write, the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--write-table", action="store_true")
    parser.add_argument("--show", action="store_true")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    scores: dict[str, list[tuple[Case, Score]]] = {}
    bad = 0
    cases = [c for c in CASES if not chosen.words or any(w.lower() in c.name.lower() for w in chosen.words)]
    for case in cases:
        if not case.is_there:
            continue
        keras.utils.clear_session()
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            if chosen.show:
                source, target, _ = case.make(Path(folder))
                print(tp.suggest(source, target))
            try:
                found = score(case, Path(folder))
            except Exception:
                traceback.print_exc()
                print("FAILED", case.name)
                bad += 1
                continue
        scores.setdefault(case.group, []).append((case, found))
        bad += len(found.wrong) - found.flagged
        print(row(case, found), f"{time.perf_counter() - start:.0f} s in all", *found.wrong[:4], flush=True)
    if chosen.write_table:
        TABLE.write_text(written(scores, [c.name for c in CASES if not c.is_there]), encoding="utf-8")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
