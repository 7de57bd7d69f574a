"""What a sweep with successive halving prints on its way: what it will cost, its rungs, and what each decided."""

from __future__ import annotations

from transferpipe.sweep.plan import SweepPlan
from transferpipe.sweep.running.halving import Decision, Halving, number_kept, settings_in
from transferpipe.sweep.running.rung import Rung
from transferpipe.text.collapse import counted


def halving_text(halving: Halving, plan: SweepPlan) -> str:
    """Return how many settings come to each rung if no two tie at its edge, and what that costs; each trains anew."""
    counts = [settings_in(plan)]
    while len(counts) < len(halving.rungs):
        counts.append(number_kept(counts[-1], halving.keep))
    steps = ", ".join(f"{count} to {at:g}" for count, at in zip(counts, halving.rungs, strict=True))
    cost = sum(count * at for count, at in zip(counts, halving.rungs, strict=True))
    whole = counts[0] * halving.rungs[-1]
    # Early stopping makes it less, and of settings that tie none is left behind.
    what = {"epochs": "epochs a seed", "data": "passes over all examples an epoch and seed"}[halving.over]
    return f"halving  over {halving.over}: settings {steps}; about {cost:g} {what}, {whole:g} without halving"


def rung_text(rung: Rung, plan: SweepPlan) -> str:
    """Return the line before a rung is run."""
    last = ", the last" if rung.is_last else ""
    return f"rung     {rung.number} of {rung.of}{last}: {counted(settings_in(plan), 'setting')}, {rung}"


def decision_text(decision: Decision) -> str:
    """Return the line after a rung was run."""
    stopped = decision.ended
    tied = f", {decision.tied} of them tied with the best there" if decision.tied else ""
    on = f"{decision.went_on} of {counted(decision.compared + decision.failed, 'setting')}"
    return f"halved   {on} {'goes' if decision.went_on == 1 else 'go'} on; {stopped} stopped{tied}"
