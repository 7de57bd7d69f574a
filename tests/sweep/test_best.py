"""The best variant by name."""

import hashlib
import json

import yaml

from transferpipe.sweep.best import write_best
from transferpipe.sweep.comparing.entry import Entry
from transferpipe.sweep.comparing.leaderboard import leaderboard
from transferpipe.sweep.variant import Planned, Variant, write_variant


def sweep(folder, scores, better=True):
    entries = []
    for (freeze, seed), value in scores.items():
        score = {"value": value, "name": "accuracy", "higher_is_better": better}
        files = [{"path": name, "sha256": hashlib.sha256(b"").hexdigest()} for name in ("model.keras", "also.npz")]
        result = {"status": "done", "checksum": "p1", "artifacts": files, "score": score, "seconds": 1.0}
        overrides = {"freeze": freeze, "seed": seed}
        entry = Entry(overrides, None, f"v{freeze}{seed}", "p1", result)
        recipe = {"freeze": [freeze], "seed": int(seed), "expect": None}
        write_variant(folder / entry.key, Planned(Variant(recipe, overrides), "p1", entry.key, (1, 0)))
        (folder / entry.key / "result.json").write_text(json.dumps(result))
        for name in ("model.keras", "also.npz"):
            (folder / entry.key / name).touch()
        for name in ("manifest.json", "plan.json"):
            (folder / entry.key / name).write_text("{}")
        (folder / entry.key / "score.json").write_text(json.dumps(score))
        entries.append(entry)
    return entries


SCORES = {("a", "0"): 0.5, ("a", "1"): 0.9, ("b", "0"): 0.8, ("b", "1"): 0.7}


def test_it_is_the_first_rank_and_of_its_seeds_the_best(tmp_path):
    entries = sweep(tmp_path, SCORES)
    write_best(tmp_path, leaderboard(entries))
    best = yaml.safe_load((tmp_path / "best").read_text())
    assert best["setting"] == {"freeze": "b"} and best["seed"] == "0"
    assert best["model"] == "vb0/model.keras" and best["also"] == ["vb0/also.npz"]
    assert best["score"]["of_this_seed"] == 0.8 and abs(best["score"]["mean"] - 0.75) < 1e-12
    assert yaml.safe_load((tmp_path / best["recipe"]).read_text()) == {"freeze": ["b"], "seed": 0}
    write_best(tmp_path, leaderboard(sweep(tmp_path, SCORES, better=False)))
    assert yaml.safe_load((tmp_path / "best").read_text())["model"] == "va0/model.keras"


def test_nothing_is_named_where_nothing_is_ranked(tmp_path):
    entries = sweep(tmp_path, SCORES)
    write_best(tmp_path, leaderboard(entries))
    (tmp_path / "vb0" / "model.keras").unlink()  # a model that is gone is not named either
    write_best(tmp_path, leaderboard(entries))
    assert not (tmp_path / "best").exists() and not (tmp_path / "best.yaml").exists()
    write_best(tmp_path, leaderboard([]))
    assert not (tmp_path / "best").exists()
