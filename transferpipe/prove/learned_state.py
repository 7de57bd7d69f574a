"""Proving with Keras that the lookup layers of a finished model have what they take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from transferpipe.errors import Problem, Problems, VerificationError
from transferpipe.files.publishing.atomic import final_name
from transferpipe.models.building.build import import_keras
from transferpipe.models.state.lookups import LearnedState
from transferpipe.models.target import Target
from transferpipe.models.walk import walk
from transferpipe.planning.model import PlanWarning
from transferpipe.prove.reload import last_reason, would_load
from transferpipe.save.learned_state import check_states


def verify_states(
    path: Path, target: Target, states: Mapping[str, LearnedState], own: Mapping[str, type]
) -> list[PlanWarning]:
    """Load the `.keras` file `path` and compare the state of its lookup layers with what they take.

    Args:
        path: the finished file.
        target: what it is made of.
        states: what its lookup layers take, by their names.
        own: the user's own classes, by the names that the configuration calls them.

    Returns:
        A warning where Keras cannot load the file without the user's own classes.

    Raises:
        VerificationError: it does not load, or a layer has something else.
    """
    if not states:
        return []
    name = final_name(path)
    try:
        model = import_keras().models.load_model(path, custom_objects=own, compile=False)
    except Exception as error:  # a user's own code may raise anything
        if not would_load(target, own):
            text = f"the state of {', '.join(states)} cannot be compared with what Keras loads"
            return [PlanWarning("not-loaded", name, f"{text}: {type(error).__name__}: {str(error).splitlines()[0]}")]
        what = f"keras.models.load_model refuses it with the state of {', '.join(states)}: {last_reason(error)}"
        raise VerificationError(Problem(name, what, "build the layers alike, or set state=keep")) from error
    problems = Problems()
    check_states(walk(model, name).layers, states, problems)
    problems.raise_as(VerificationError)
    return []
