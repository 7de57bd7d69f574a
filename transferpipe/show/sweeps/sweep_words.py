"""What is said of a sweep's rows, the same on a terminal and on the page: ranks, notes, estimates, sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from transferpipe.score.training.convergence import DOUBTS, cure_for
from transferpipe.show.sweeps.score_table import LARGE, number_text
from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.comparing.leaderboard import Leaderboard, Row
from transferpipe.sweep.comparing.statistics import Estimate
from transferpipe.sweep.running.rung import Rung
from transferpipe.sweep.variant import SEED
from transferpipe.text.collapse import counted
from transferpipe.text.listing import and_more, listed
from transferpipe.text.visible import visible

LIKE_THE_BEST = "tied with best"
RANKED_BY_TEST = "ranked by the test part that is reported"
CONSTANT = "identical for all seeds"
MOST_WHOLE = 20
"""So many variants or rows are always listed whole: with the words about them, they find room on a screen."""
# For one line of a summary: the page of a variant and its log have all of it.
_MOST_LABELS, _LONGEST = 3, 120


def some(labels: Sequence[str]) -> str:
    """Return the first labels, and of how many more variants it is true; a label of several stands there once.

    >>> some(["a", "b", "a", "c", "d", "d"])
    'a (2), b, c and 2 more'
    """
    counts = Counter(labels)
    first = [f"{label} ({n})" if n > 1 else label for label, n in [*counts.items()][:_MOST_LABELS]]
    return listed(first) + and_more(len(labels) - sum([*counts.values()][:_MOST_LABELS]))


def by_text(texts: Iterable[tuple[str, Sequence[str]]]) -> dict[str, list[str]]:
    """Return the labels of those that say it for every distinct text, of pairs of a label and its texts."""
    found: dict[str, list[str]] = {}
    for label, said_of_it in texts:
        for text in dict.fromkeys(said_of_it):
            found.setdefault(text, []).append(label)
    return found


def verdicts(entries: Iterable[Entry]) -> list[str]:
    """Return what the runs found of weights and function, with how many found it; nothing where none is done.

    A sentence such as ``weights: pass in 3 runs; function: not checked in 3 runs``.
    """
    found = [e.verdict for e in entries if e.verdict]
    parts = []
    for part in ("weights", "function"):
        counts = Counter(str(getattr(verdict, part)) for verdict in found)
        told = [f"{word} in {counted(n, 'run')}" for word, n in counts.items()]
        parts.append(f"{part}: {' and '.join(told)}")
    return ["; ".join(parts)] if found else []


def label_of(overrides: Mapping[str, str], control: str | None, keys: Sequence[str] | None = None) -> str:
    """Return a variant as a command line would write it, to be shown; with `keys`, only what stands under those."""
    chosen = {k: v for k, v in overrides.items() if keys is None or k in (*keys, SEED)}
    words = [f"control={control}"] if control else []
    return visible(" ".join([*words, *(f"{k}={v}" for k, v in chosen.items())])) or "(as it is)"


def estimate_text(found: Estimate, signed: bool = False) -> str:
    """Return mean and half the interval; only the number where all values are equal, which is not a measured spread."""
    sign = "+" if signed and found.mean >= 0 else ""
    if found.half_width is None or found.is_constant:
        return f"{sign}{number_text(found.mean)}"
    spread = number_text(found.half_width)
    # Beside an interval with four decimals, more of a mean would be noise.
    mean = number_text(found.mean) if "e" in spread or abs(found.mean) >= LARGE else f"{found.mean:.4f}"
    return f"{sign}{mean} ± {spread}"


def value_under(row: Row, key: str) -> str:
    """Return the value that sets a row apart under `key`, or what stands for it where its command named none."""
    return row.setting.get(key, "(any)" if row.control else "(recipe)")


def ranks(board: Leaderboard) -> list[str]:
    """Return the place of every row as text, equal means sharing one; rows that do not rank have none."""
    return [str(row.rank) if row.rank else "" for row in board.rows]


def notes_of(row: Row, board: Leaderboard) -> list[str]:
    """Return what is to be said of a row."""
    notes = [f"control: {row.control}"] if row.control else []
    notes += [f"of an earlier recipe ({', '.join(row.stale)} changed)"] if row.stale else []
    notes += [f"other seeds: {', '.join(row.values) or 'none'}"] if row.other_seeds else []
    if row.compared and row.score and row.compared.count != row.score.count:
        notes.append(f"ranked by {number_text(row.compared.mean)} over seeds {', '.join(board.seeds)}")
    if row.rung:
        notes.append(_say_what_stopped(row, row.rung))
    if row.same_as is not None:
        notes.append(f"the same plan as {label_of(row.same_as, None)}, counted once")
    notes += [LIKE_THE_BEST] if row.as_good else []
    notes += [RANKED_BY_TEST] if any(e.ranked_by_test for e in row.entries) else []
    notes += _find_unconverged(row)
    notes += [CONSTANT] if row.is_constant else []
    notes += [text for text in map(pruned_text, row.entries) if text]
    return notes + ([f"{row.failed} failed{_say_what_failed_count_as(row)}: {reason(row)}"] if row.failed else [])


def _say_what_stopped(row: Row, rung: Rung) -> str:
    where = f"rung {rung.number} of {rung.of}, {rung}"
    return f"stopped at {where}: {row.stop}" if row.stop else f"at {where}: not compared yet"


def _say_what_failed_count_as(row: Row) -> str:
    """Return what the failed seeds of a row that has others count as."""
    if not row.score or row.control or row.stale:
        return ""
    return f", counted as {number_text(next(iter(row.filled.values())))}" if row.filled else ", left out"


def _find_unconverged(row: Row) -> list[str]:
    """Return in how many seeds of a row the training had not come to its end, and why."""
    if not row.unconverged:
        return []
    doubts = _doubts(row.unconverged)
    why = f": {', '.join(name.replace('-', ' ') for name in doubts)}" if doubts else ""
    seeds = f" in {len(row.unconverged)} of {counted(len(row.entries), 'seed')}" if len(row.entries) > 1 else ""
    return [f"not converged{seeds}{why}"]


def _doubts(entries: Iterable[Entry]) -> Counter[str]:
    """Return what speaks against the convergence of these, with the number of variants of which it is true."""
    return Counter(name for e in entries for name in dict.fromkeys(n for t in e.trainings for n in t.get("doubts", ())))


def cautions(board: Leaderboard) -> list[str]:
    """Return what is to be known before the numbers are read: it stands above the table.

    Trainings that were cut off are compared by how quick they are, not by where they lead.
    """
    # What halving stopped was to be cut off, has no rank and says so itself.
    entries = [e for row in board.rows if not (row.stale or row.rung) for e in row.entries]
    open_ones = [e for e in entries if e.converged is False]
    lines = []
    if open_ones:
        scored = sum(e.value is not None for e in entries)
        counts = _doubts(open_ones)
        why = ", ".join(f"{DOUBTS.get(name, name)} ({count})" for name, count in counts.most_common())
        what = f"NOT CONVERGED: {len(open_ones)} of {counted(scored, 'variant')}"
        trainings = [(t.get("doubts", ()), t.get("ended", "limit")) for e in open_ones for t in e.trainings]
        cure = cure_for((doubts, ended) for doubts, ended in trainings if doubts)
        lines.append(f"{what}: {why}; {cure}" if why else what)
    return lines


def in_short(problems: Sequence[str]) -> str:
    r"""Return of what a variant failed in one short line; its log has all of it.

    >>> in_short(["score: odd\nin two lines", "seed: odd too"])
    'score: odd (and 1 more problem)'
    """
    first = next(iter(str(problems[0]).splitlines()), "") if problems else ""
    cut = first if len(first) <= _LONGEST else f"{first[: _LONGEST - 1]}…"
    return cut + (f" (and {counted(len(problems) - 1, 'more problem')})" if len(problems) > 1 else "")


def pruned_text(entry: Entry) -> str:
    """Return after which epoch a search ended its training; empty where it did not."""
    return f"pruned at epoch {entry.pruned.epoch} ({entry.pruned.value:.4g})" if entry.pruned else ""


def reason(row: Row) -> str:
    """Return the first problem of a row with the log in which it stands."""
    failed: list[Entry] = [e for e in row.entries if e.result and e.result.get("problems")]
    return f"{in_short((failed[0].result or {})['problems'])} ({failed[0].key}/run.log)" if failed else ""


def said(board: Leaderboard) -> list[str]:
    """Return what the numbers allow to be said of the rows."""
    missing, stale = _of_the_missing(board), sum(1 for row in board.rows if row.stale)
    earlier = [f"without a rank, being of an earlier recipe, score or input: {counted(stale, 'row')}"] if stale else []
    if not board.comparable:
        what = "these scores do not measure the same: their order means nothing; make a sweep of each"
        return [*missing, what, *earlier]
    return [
        *missing,
        *_of_parts(board),
        *_of_seeds(board),
        *_of_the_best(board),
        *_of_halving(board),
        *_of_silence(board),
        *earlier,
        *(_of_a_reference(board, n) for n in board.against),
    ]


def _of_the_missing(board: Leaderboard) -> list[str]:
    """Return how many variants failed or are to be run yet: of many rows, those without a number are not shown."""
    entries = [e for row in board.rows if not row.stale for e in row.entries]
    states = {"failed": sum(row.failed for row in board.rows if not row.stale)}
    states["pending"] = sum(e.result is None for e in entries)
    told = [f"{count:,} {state}" for state, count in states.items() if count]
    return [f"of {counted(len(entries), 'variant')}, {' and '.join(told)}"] if told else []


def _of_silence(board: Leaderboard) -> list[str]:
    """Return that trained scores do not say whether they converged; one of the user's own may not."""
    entries = [e for row in board.rows if not row.stale for e in row.entries if e.value is not None]
    trained = [e for e in entries if ((e.result or {}).get("score") or {}).get("kind") == "trained"]
    if not trained or any(e.converged is not None for e in trained):
        return []
    return ["the score does not say whether its trainings converged (`transferpipe help scores`)"]


def _of_parts(board: Leaderboard) -> list[str]:
    """Return which part of the data ranks and which is reported, and what both cannot tell."""
    shared = _of_test_parts([e for row in board.rows if not row.stale for e in row.entries])
    if board.has_test:
        of_test = f"test{' and differences from ' + listed(board.against) if board.against else ''}"
        return [f"ranked by the validation part; {of_test}: on the test part, which chose nothing; {shared}"]
    if any(e.ranked_by_test for row in board.rows for e in row.entries):
        why = "so the best of them is a little too good; give the data a validation part"
        return [f"ranking and reporting use the same test part, {why}; {shared}"]
    return []


def _of_test_parts(entries: Sequence[Entry]) -> str:
    """Return whether ± says anything about other test examples."""
    parts = {(e.seed, e.tested_on) for e in entries if e.value is not None}
    if 1 < len({seed for seed, _ in parts}) == len({part for _, part in parts}) == len(parts):
        return "every seed has a test part of its own, so ± allows for other test examples as far as these share none"
    return "all seeds share one test part, so ± says nothing about other test examples"


def _of_seeds(board: Leaderboard) -> list[str]:
    others = sum(1 for row in board.rows if row.other_seeds)
    if others:
        wanted = ", ".join(s or "the recipe's own" for s in board.seeds)
        return [f"without a rank, lacking some of the seeds {wanted}: {counted(others, 'setting')}"]
    if any(row.compared and row.score and row.compared.count != row.score.count for row in board.rows):
        return [f"ranked over the seeds that all settings have: {', '.join(board.seeds)}"]
    return []


def _of_the_best(board: Leaderboard) -> list[str]:
    ranked = [row for row in board.rows if row.rank and row.same_as is None]
    if ranked and len(board.seeds) < 2 and board.kind == "measured":  # other seeds would measure the same
        return ["measured once, nothing trained, so without an interval: close numbers may part on other examples"]
    if ranked and len(board.seeds) < 2:
        fix = "add seeds, such as seed=range(5), after a search by a sweep over its best values"
        return [f"one seed only: no interval, so the ranking may be noise: {fix}"]
    if len(ranked) < 2:
        return []
    lines = [
        f"{counted(board.settings, 'setting')} compared at once: the best was picked from them, which its ± allows for"
    ]
    others = [row for row in ranked if row.behind]
    alike, unknown = sum(1 for row in others if row.as_good), sum(1 for row in others if row.as_good is None)
    if alike:
        verb = "is" if alike == 1 else "are"
        lines.append(f"{alike} of {len(ranked) - 1} other settings {verb} statistically tied with the best")
    if unknown:
        lines.append("no verdict on differences: seeds did not change them, so that chance is unknown")
    if any(row.filled for row in ranked):
        lines.append(
            "no verdict on settings with a failed seed that counts as the worst; sweep.failed=drop leaves it out"
        )
    return lines


def _of_halving(board: Leaderboard) -> list[str]:
    """Return what a sweep that went on with the better settings cannot say of the others."""
    stops = [row.stop for row in board.rows if row.stop and not row.stale]
    if not stops:
        return []
    tied = sum(1 for stop in stops if stop.tied)
    chance = f"; {tied} of them {'was' if tied == 1 else 'were'} tied with the best when stopped" if tied else ""
    if all(stop.seeds < 2 for stop in stops):
        chance = "; one seed stopped them, which may be chance"
    whole = counted(board.settings + board.stopped, "setting")
    what = f"sweep.halving stopped {len(stops)} of {whole} before the last rung, on shorter trainings"
    return [f"{what}: they have no rank, and one that starts slowly is missed{chance}"]


def _of_a_reference(board: Leaderboard, name: str) -> str:
    """Return the row that differs most from what it is compared with, among those of which chance is known."""
    gaps = [(row, gap) for row in board.rows if (gap := row.against.get(name)) and not row.control]
    clear = [(row, gap) for row, gap in gaps if gap.half_width and not gap.low <= 0 <= gap.high]
    if not clear:
        why = "with these seeds" if any(gap.count > 1 for _, gap in gaps) else "with one seed"
        return f"no setting differs significantly from {name} {why}"
    row, gap = max(clear, key=lambda pair: abs(pair[1].mean))
    where = label_of(row.setting, row.control)
    return f"largest difference from {name}: {where}, {estimate_text(gap, signed=True)} ({counted(gap.count, 'seed')})"
