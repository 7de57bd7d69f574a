"""Optuna's search with a storage: a study goes on, asks for nothing twice, and for what was cut off first."""

import types

import pytest

from transferpipe.cli.sweeps.expansion import Axes
from transferpipe.cli.sweeps.search import Outcome, Search, search
from transferpipe.cli.sweeps.space import Space
from transferpipe.errors import RecipeError

AXES = Axes((), {"vars.b": ("1", "2")}, {"vars.x": "interval(0.0,1.0)"})
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture(params=["tpe", "random"])
def study(request, tmp_path):
    """Return a function that goes on with a study to so many trials, and returns what it asked for."""
    optuna = pytest.importorskip("optuna")
    (tmp_path / "own" / "v1").mkdir(parents=True)
    (tmp_path / "own" / "v1" / "result.json").touch()
    kept = {None: f"sqlite:///{tmp_path}/study.db", "memory": optuna.storages.InMemoryStorage()}

    def go_on(trials, cut_off_at=None, over_at=None, axes=AXES, when=None, storage=None, **settings):
        asked = {}
        given = {
            "storage": kept.get(storage, storage),
            "study_name": None,
            "direction": None,
            "pruner": None,
            **settings,
        }
        sweeper = types.SimpleNamespace(sampler=request.param, n_trials=trials, **given)
        wanted = Search(sweeper, Space(axes, {"vars.c": "3"}, when or {}), 0, tmp_path / "own")

        def attempt(number, values, report):
            asked[number] = values
            if number == cut_off_at:
                raise KeyboardInterrupt
            return Outcome(float(values.get("vars.x", 0)))

        if cut_off_at is None:
            go_on.left = search(wanted, attempt, lambda: len(asked) == over_at)
        else:
            with pytest.raises(KeyboardInterrupt):
                search(wanted, attempt, lambda: False)
        return asked

    go_on.load = lambda storage=None: optuna.load_study(study_name="own", storage=kept[storage])
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


def test_what_is_over_goes_on_with_the_next_command(study):
    first = study(5, over_at=2, storage="memory")
    assert (list(first), study.left) == ([0, 1], 3)
    assert list(study(5, storage="memory")) == [2, 3, 4]
    assert study.left == 0


def test_a_key_is_chosen_only_where_its_condition_is_met(study):
    # In an order in which conditions come before what they name, and with one on what is fixed.
    when = {"vars.x": {"vars.d": [7, 8]}, "vars.b": {"vars.x": 0.5}, "vars.d": {"vars.c": 3}}
    axes = Axes((), {"vars.b": ("1", "2"), "vars.d": ("7", "8", "9")}, {"vars.x": "interval(0.0,1.0)"})
    asked = study(12, axes=axes, when=when, storage="memory")
    assert {"vars.x" in values for values in asked.values()} == {True, False}
    assert all(("vars.x" in values) == (values["vars.d"] != "9") for values in asked.values())
    assert not any("vars.b" in values for values in asked.values())
    assert all(set(trial.params) <= {"vars.x", "vars.d"} for trial in study.load("memory").trials)


def test_keys_that_wait_for_each_other(study):
    when = {"vars.b": {"vars.d": 7}, "vars.d": {"vars.b": 1}}
    asked = study(12, axes=Axes((), {"vars.b": ("1", "2"), "vars.d": ("7", "8")}), when=when, storage="memory")
    assert {tuple(values.items()) for values in asked.values()} == {(), (("vars.b", "1"), ("vars.d", "7"))}


@pytest.mark.parametrize(
    "settings, said",
    [
        pytest.param(
            {"axes": Axes((), {"vars.b": ("1", "3")})},
            "vars.b: the study 'own' .* from 1, 2, .* now it is 1, 3 -> begin another study",
            marks=pytest.mark.follows("check_same_space: begin another study beside"),
        ),
        ({"axes": Axes((), {"vars.x": ("1", "3")})}, r"vars.x: .* from interval\(0.0,1.0\), .* now it is 1, 3"),
        pytest.param(
            {"direction": "minimize"},
            "hydra.sweeper.direction: the study 'own' .* goes by maximize, not minimize",
            marks=pytest.mark.follows("_check_direction: begin another study beside"),
        ),
    ],
)
def test_a_kept_study_keeps_to_what_it_began_with(study, settings, said):
    study(2, storage="memory")
    with pytest.raises(RecipeError, match=said):
        study(3, storage="memory", **settings)
    assert list(study(3, study_name="another", storage="memory", **settings)) == [0, 1, 2]
    assert list(study(3, storage="memory")) == [2]


@pytest.mark.follows("_open_study: write the address of")
@pytest.mark.parametrize("storage", ["study.db", "sqlite:////no/such/folder/study.db"])
def test_a_storage_that_cannot_be_opened(study, storage):
    with pytest.raises(RecipeError, match=r"hydra.sweeper.storage: the study cannot be opened: .* sqlite:///study.db"):
        study(2, storage=storage)


@pytest.mark.follows("_check_left: go on with it")
def test_a_study_that_has_had_all_its_trials_in_a_folder_that_is_gone(study, tmp_path):
    study(2, storage="memory")
    (tmp_path / "own" / "v1" / "result.json").unlink()
    with pytest.raises(RecipeError, match=r"'own' .* has had 2 trials, none of them in .*own -> .*n_trials=4, or"):
        study(2, storage="memory")
    assert list(study(4, storage="memory")) == [2, 3]
    assert list(study(2, storage="memory", study_name="another")) == [0, 1]
