"""A launcher of Hydra that is set to what it cannot do: mended as it is printed, the sweep runs."""

import re

import pytest


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
