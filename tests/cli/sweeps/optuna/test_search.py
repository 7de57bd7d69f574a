"""Optuna's search with a storage: a study goes on, asks for nothing twice, and for what was cut off first."""

import types

import pytest

from transferpipe.cli.sweeps.expansion import Axes
from transferpipe.cli.sweeps.search import Outcome, search

AXES = Axes((), {"vars.b": ("1", "2")}, {"vars.x": "interval(0.0,1.0)"})
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture(params=["tpe", "random"])
def study(request, tmp_path):
    """Return a function that goes on with a study to so many trials, and returns what it asked for."""
    optuna = pytest.importorskip("optuna")
    storage = f"sqlite:///{tmp_path}/study.db"

    def go_on(trials, cut_off_at=None):
        asked = {}
        sweeper = types.SimpleNamespace(
            storage=storage, study_name=None, direction=None, sampler=request.param, pruner=None, n_trials=trials
        )
        config = types.SimpleNamespace(hydra=types.SimpleNamespace(sweeper=sweeper))

        def attempt(number, values, report):
            asked[number] = values
            if number == cut_off_at:
                raise KeyboardInterrupt
            return Outcome(float(values["vars.x"]))

        if cut_off_at is None:
            search(config, AXES, 0, tmp_path / "own", attempt)
        else:
            with pytest.raises(KeyboardInterrupt):
                search(config, AXES, 0, tmp_path / "own", attempt)
        return asked

    go_on.load = lambda: optuna.load_study(study_name="own", storage=storage)
    return go_on


def test_more_trials_are_others(study):
    first, more, last = study(3), study(3), study(7)
    assert (list(first), list(more), list(last)) == ([0, 1, 2], [], [3, 4, 5, 6])
    assert len({values["vars.x"] for values in (*first.values(), *last.values())}) == 7


def test_what_was_cut_off_is_tried_again(study):
    first = study(4, cut_off_at=2)
    last = study(4)
    assert list(last) == [2, 3]
    assert last[2] == first[2]
    assert len(study.load().get_trials(states=[study.load().trials[0].state])) == 4
    assert study(4) == {}


def test_a_trial_whose_process_was_killed_is_tried_again_but_no_trial_of_others(study, tmp_path):
    optuna = pytest.importorskip("optuna")
    study(2)
    x = {
        "vars.x": optuna.distributions.FloatDistribution(0, 1),
        "vars.b": optuna.distributions.CategoricalDistribution(["1", "2"]),
    }
    killed, theirs = (study.load().ask(x) for _ in range(2))
    killed.set_user_attr("transferpipe_folder", str((tmp_path / "own").resolve()))
    theirs.set_user_attr("transferpipe_folder", "/elsewhere/own")
    asked = study(5)
    assert asked[3] == {key: str(value) for key, value in killed.params.items()}
    assert list(asked) == [3, 4]
    assert study.load().trials[theirs.number].state == optuna.trial.TrialState.RUNNING
    assert study.load().trials[killed.number].state == optuna.trial.TrialState.FAIL


def test_a_trial_whose_process_was_killed_as_it_was_asked_for_is_tried_again(study, monkeypatch):
    optuna = pytest.importorskip("optuna")
    study(1)
    with monkeypatch.context() as patched:
        patched.setattr(optuna.trial.Trial, "set_user_attr", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            study(4)
    assert list(study(4)) == [1, 2, 3]
    assert not study.load().get_trials(states=[optuna.trial.TrialState.RUNNING])
