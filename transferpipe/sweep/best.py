"""The best variant of a sweep by name: its model, its recipe as a file that runs, and the command that runs it."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path

import yaml

from transferpipe.files.publishing.atomic import write_text
from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.comparing.leaderboard import Leaderboard, Row
from transferpipe.sweep.running.job import is_finished
from transferpipe.sweep.variant import SEED, read_variant

BEST = "best"
_RECIPE = f"{BEST}.yaml"
_HEAD = """\
# The best setting of this sweep, written anew with every result. Paths are relative to this file's folder. `run`
# repeats the transfer, from the folder in which the sweep was run. The model is that of the seed with the best score,
# which was chosen for that: what the setting can do is said by the mean over seeds.
"""


def write_best(folder: Path, board: Leaderboard) -> None:
    """Write what names the best variant into the folder of a sweep; remove what names one that is no longer the best.

    Raises:
        FileError: it cannot be written, or the folder of the variant is damaged.
    """
    # Of scores that measure different things, none is the best.
    row = next((row for row in board.rows if row.ranks), None) if board.comparable else None
    entry = _best_seed(row, board.higher_is_better) if row else None
    # What named the best of an earlier state would be a wrong answer now.
    if row is None or entry is None or not is_finished(folder / entry.key):
        for path in (folder / BEST, folder / _RECIPE):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        return
    # Keys that say nothing are left out: this file is for people to read.
    recipe = {k: v for k, v in read_variant(folder / entry.key)[0].recipe.items() if v is not None}
    write_text(folder / _RECIPE, yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))
    write_text(folder / BEST, _HEAD + yaml.safe_dump(_describe(folder, row, entry, board), sort_keys=False, width=1000))


def _best_seed(row: Row, higher_is_better: bool) -> Entry | None:
    scored = [(entry, entry.value) for entry in row.entries if entry.value is not None]
    if not scored:
        return None
    # The seed's model is what lies in a folder; its score is not that of the setting, which the head of the file says.
    choose = max if higher_is_better else min
    return choose(scored, key=lambda pair: pair[1])[0]


def _describe(folder: Path, row: Row, entry: Entry, board: Leaderboard) -> dict[str, object]:
    artifacts = [str(a["path"]) for a in (entry.result or {}).get("artifacts", ())]
    paths = [f"{entry.key}/{path}" for path in artifacts]
    command = ["transferpipe", "run", str(folder / _RECIPE)]
    return {
        "setting": {key: str(row.setting[key]) for key in row.setting},
        **({SEED: entry.seed} if entry.seed else {}),
        "score": {"name": board.name, "of_this_seed": entry.value, "mean": row.score.mean, "seeds": row.score.count}
        if row.score
        else {},
        "folder": entry.key,
        "model": paths[0] if paths else None,
        **({"also": paths[1:]} if paths[1:] else {}),
        "recipe": _RECIPE,
        "plan": entry.checksum,
        "run": shlex.join(command),
    }
