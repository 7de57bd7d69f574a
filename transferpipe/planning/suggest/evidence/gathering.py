"""Gathering what speaks for pairs before any is decided; settings, and weights that only one side has."""

from __future__ import annotations

import numpy as np

from transferpipe.planning.suggest.assignment import Scores
from transferpipe.planning.suggest.evidence.model import Evidence, Flags
from transferpipe.planning.suggest.evidence.names import find_lawful, find_odd, find_same_names, find_words
from transferpipe.planning.suggest.evidence.standing import (
    compare_graphs,
    compare_surroundings,
    find_in_line,
    find_order,
    has_parallel,
)
from transferpipe.planning.suggest.graphs import Place
from transferpipe.planning.suggest.pieces import Fits
from transferpipe.weights.network import Network

# What an order tells of layers beside which others stand: the second is too little to decide anything alone.
_BESIDE, _BESIDE_UNKNOWN = 0.25, 0.1
_COMPARED = ("strides", "dilation_rate", "groups", "activation", "kernel_size", "data_format")


def gather(fits: Fits, places: tuple[Place, Place]) -> Evidence:
    """Return what speaks for the pairs that fit."""
    shape = (len(fits.targets), len(fits.sources))
    mask = np.zeros(shape, dtype=bool)
    for i, others in enumerate(fits.of):
        mask[i, others] = True
    kinds = _kinds(mask)
    words = find_words(fits, mask)
    found = Evidence(
        mask,
        kinds,
        same=find_same_names(fits, mask),
        words=words,
        law=find_lawful(fits, mask, words),
        graph=compare_graphs(places, kinds, mask),
        around=compare_surroundings(places, kinds, mask),
        order=np.zeros(shape),
        whole=_whole(fits, mask),
        settings=_settings(fits, places, mask),
        near=np.zeros(shape),
        values=np.zeros(shape),
        is_odd=find_odd(fits),
        in_line=(find_in_line(places[0]), find_in_line(places[1])),
    )
    # Branches of one kind side by side (query, key, value) stand in the order in which somebody wrote them: a quarter;
    # without a graph, in that of their numbers, which says next to nothing.
    beside = _BESIDE if places[1].is_connected else _BESIDE_UNKNOWN
    found.order = np.where(has_parallel(found), beside, 1.0) * find_order(fits, places, found)
    return found


def _kinds(mask: Flags) -> tuple[list[int], list[int]]:
    """Return the number of the connected part of the fits in which each piece stands; -1 where it fits nothing."""
    rows, columns = [-1] * mask.shape[0], [-1] * mask.shape[1]
    for start in range(mask.shape[0]):
        open_rows = [start] if rows[start] < 0 and mask[start].any() else []
        for row in open_rows:  # grows while it is read
            if rows[row] >= 0:
                continue
            rows[row] = start
            for column in np.flatnonzero(mask[row]):
                if columns[column] < 0:
                    columns[column] = start
                    open_rows += [int(r) for r in np.flatnonzero(mask[:, column]) if rows[r] < 0]
    return rows, columns


def _whole(fits: Fits, mask: Flags) -> Scores:
    """Find pairs of which neither side has weights that the other lacks."""
    ours = np.array([len(p.weights) for p in fits.targets])
    theirs = np.array([len(p.weights) for p in fits.sources])
    return np.where(mask & np.greater_equal.outer(ours, theirs), 1.0, 0.0)


def _settings(fits: Fits, places: tuple[Place, Place], mask: Flags) -> Scores:
    found = np.zeros(mask.shape)
    networks = [place.catalog.network for place in places]
    # Only Keras's own names and spellings of settings can be compared as text.
    if not all(n is not None and n.has_layers for n in networks):
        return found
    mine = [_settings_of(p.name, networks[0]) for p in fits.targets]
    other = [_settings_of(p.name, networks[1]) for p in fits.sources]
    for i, j in zip(*np.nonzero(mask), strict=True):
        shared = mine[i].keys() & other[j].keys()
        found[i, j] = min(1.0, sum(mine[i][k] != other[j][k] for k in shared) / 2)
    return found


def _settings_of(name: str, network: Network | None) -> dict[str, str]:
    node = network.by_name.get(name) if network else None
    return {k: str(node.settings[k]) for k in _COMPARED if k in node.settings} if node else {}
