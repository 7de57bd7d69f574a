"""A launcher of Hydra that is set to what it cannot do: mended as it is printed, the sweep runs."""

import re

import pytest

from transferpipe.cli.sweeps import engines
from transferpipe.cli.sweeps.workers import run_steered


@pytest.mark.follows("_launch: correct the launcher's settings:")
def test_a_launcher_with_a_setting_that_it_refuses(cli, here):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    sweep = ("sweep", "recipe=own", "seed=0,1", "hydra/launcher=joblib")
    refused = cli(*sweep, "hydra.launcher.n_jobs=0")
    assert (refused.status, [*here.glob("outputs/sweeps/own/*/manifest.json")]) == (2, [])
    assert "n_jobs == 0" in refused.err
    (key,) = re.findall(r"correct the launcher's settings: (\S+)\.KEY=", refused.err)
    assert cli(*sweep, f"{key}.n_jobs=1").status == 0
    assert len([*here.glob("outputs/sweeps/own/*/manifest.json")]) == 2


@pytest.mark.parametrize("deaths, status", [(1, 0), (2, 2)])
def test_workers_that_die_before_they_come_to_a_variant_are_launched_once_more(cli, here, monkeypatch, deaths, status):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    launches = []

    def launch(composed, folders, terms):
        launches.append(len(folders))
        if len(launches) <= deaths:
            raise RuntimeError("a worker died")
        for folder in folders:
            run_steered(folder, terms)

    monkeypatch.setattr(engines, "_launch_once", launch)
    answer = cli("sweep", "recipe=own", "seed=0,1", "hydra/launcher=joblib")
    assert (answer.status, launches) == (status, [2, 2]), answer.err
    assert ("RuntimeError: a worker died" in answer.err) == bool(status)
